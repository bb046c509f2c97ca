//! The few frames that the load needs, as clients write them.

use jute::Writer;
use jute::records::Acl;
use jute::request::opcode;

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// `getData` of a znode that is there.
    Get,
    /// `setData` of a znode that is there, whatever its version.
    Set,
    /// `create` of a znode that is not there.
    Create,
    /// `delete`, whatever the version.
    Delete,
}

/// Bytes of data in each znode.
pub(crate) const DATA: [u8; 100] = [b'x'; 100];

/// Begins a frame; its length is filled in by [`end`].
fn begin(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[0; 4]);
    out.len()
}

fn end(out: &mut [u8], start: usize) {
    let length = (out.len() - start) as u32;
    out[start - 4..start].copy_from_slice(&length.to_be_bytes());
}

/// The first frame of a connection: a new session with this timeout in ms.
pub(crate) fn connect(timeout_ms: i32) -> Vec<u8> {
    let mut out = Vec::new();
    let start = begin(&mut out);
    let mut body = Writer::new();
    body.int(0).long(0).int(timeout_ms).long(0).buffer(Some(&[0; 16])).boolean(false);
    out.extend_from_slice(body.as_bytes());
    end(&mut out, start);
    out
}

fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as u32).to_be_bytes());
    out.extend_from_slice(text);
}

/// Appends a request.
pub(crate) fn request(out: &mut Vec<u8>, xid: i32, operation: Operation, path: &str) {
    let start = begin(out);
    let kind = match operation {
        Operation::Get => opcode::GET_DATA,
        Operation::Set => opcode::SET_DATA,
        Operation::Create => opcode::CREATE,
        Operation::Delete => opcode::DELETE,
    };
    out.extend_from_slice(&xid.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    string(out, path.as_bytes());
    match operation {
        Operation::Get => out.push(0),
        Operation::Set => {
            string(out, &DATA);
            out.extend_from_slice(&(-1_i32).to_be_bytes());
        }
        Operation::Create => {
            string(out, &DATA);
            let mut acl = Writer::new();
            acl.vector(&[Acl::anyone(31)], |writer, acl| acl.write(writer)).int(0);
            out.extend_from_slice(acl.as_bytes());
        }
        Operation::Delete => out.extend_from_slice(&(-1_i32).to_be_bytes()),
    }
    end(out, start);
}

/// The length of the frame that begins `bytes`, its header included, if it is whole.
pub(crate) fn whole(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_be_bytes(*bytes.first_chunk::<4>()?) as usize + 4;
    (bytes.len() >= length).then_some(length)
}

/// Number and error of a reply.
pub(crate) fn reply(frame: &[u8]) -> Option<(i32, i32)> {
    let xid = frame.get(4..8)?.try_into().map(i32::from_be_bytes).ok()?;
    let code = frame.get(16..20)?.try_into().map(i32::from_be_bytes).ok()?;
    Some((xid, code))
}
