//! Records in a file: framing and what a damaged end means.

/// What a file begins with.
pub(crate) const MAGIC: &[u8; 8] = b"MESOLOG1";
/// Length and checksum before each payload.
pub(crate) const HEADER: usize = 8;
/// Longest payload: a registry of 50,000 agents is far below.
pub(crate) const PAYLOAD_MAX: usize = 256 << 20;

/// One record as bytes.
pub(crate) fn encode(payload: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEADER + payload.len());
    record.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    record.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    record.extend_from_slice(payload);
    record
}

/// What lies at an offset.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// A whole record; its payload and where the next begins.
    Record(&'a [u8], usize),
    /// The end of the file.
    End,
    /// A record that was being written when the writer died.
    Torn,
    /// A damaged record with something behind it.
    Corrupt,
}

/// Looks at `offset`, which is at or after the magic.
pub(crate) fn look(file: &[u8], offset: usize) -> Found<'_> {
    let rest = &file[offset..];
    if rest.is_empty() {
        return Found::End;
    }
    let Some((header, body)) = rest.split_at_checked(HEADER) else { return Found::Torn };
    let (length, checksum) = header.split_at(4);
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
    let length = number(length) as usize;
    if length > PAYLOAD_MAX {
        // A torn write may leave zeros, never a length this large in front of further records.
        return Found::Corrupt;
    }
    let Some(payload) = body.get(..length) else { return Found::Torn };
    if length > 0 && crc32fast::hash(payload) == number(checksum) {
        return Found::Record(payload, offset + HEADER + length);
    }
    // Blocks that reached the disk out of order leave zeros or a bad checksum at the very end only.
    let behind = &body[length..];
    if behind.iter().all(|byte| *byte == 0) { Found::Torn } else { Found::Corrupt }
}
