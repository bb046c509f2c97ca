//! Values as the original's tools write them.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use jute::records::Acl;
use jute::request::opcode;
use jute::txn::{Entry, Txn};

/// A time as Java's `Date` writes it.
pub(super) fn date(ms: i64) -> String {
    formatted(ms, "%a %b %d %H:%M:%S %Z %Y")
}

/// A time as Java's short date and long time.
pub(super) fn short_date(ms: i64) -> String {
    formatted(ms, "%-m/%-d/%y, %-I:%M:%S %p %Z")
}

fn formatted(ms: i64, format: &str) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(time) => time.to_zoned_datetime(TimeZone::system()).strftime(format).to_string(),
        Err(_) => format!("{ms} ms"),
    }
}

/// The name of a transaction's type (`TraceFormatter.op2String`).
pub(super) fn operation(kind: i32) -> String {
    let name = match kind {
        opcode::CREATE => "create",
        opcode::CREATE2 => "create2",
        opcode::CREATE_TTL => "createTTL",
        opcode::CREATE_CONTAINER => "createContainer",
        opcode::DELETE => "delete",
        20 => "deleteContainer",
        opcode::SET_DATA => "setData",
        opcode::SET_ACL => "setACL",
        opcode::CHECK => "check",
        opcode::MULTI => "multi",
        opcode::RECONFIG => "reconfig",
        opcode::CREATE_SESSION => "createSession",
        opcode::CLOSE_SESSION => "closeSession",
        opcode::ERROR => "error",
        other => return format!("unknown {other}"),
    };
    name.to_owned()
}

/// Jute's text of a string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("'");
    for char in text.chars() {
        match char {
            '\0' | '\n' | '\r' | ',' | '}' | '%' => {
                let _ = write!(quoted, "%{:02X}", char as u32);
            }
            other => quoted.push(other),
        }
    }
    quoted
}

fn acl(acl: &Acl) -> String {
    format!("{},s{{{},{}}}", acl.perms, quoted(&acl.id.scheme), quoted(&acl.id.id))
}

/// Java's list of jute's records, each with a line's end.
fn acls(entries: &[Acl]) -> String {
    let entries: Vec<String> = entries.iter().map(|entry| acl(entry) + "\n").collect();
    format!("[{}]", entries.join(", "))
}

fn data(data: Option<&[u8]>) -> String {
    String::from_utf8_lossy(data.unwrap_or_default()).into_owned()
}

fn transaction(txn: &Txn) -> String {
    match txn {
        Txn::Create { opcode: kind, path, data: bytes, acl, ephemeral, parent_cversion, ttl } => {
            let (bytes, acl) = (data(bytes.as_deref()), acls(acl));
            match *kind {
                opcode::CREATE_TTL => format!("{path},{bytes},{acl},{parent_cversion},{ttl}"),
                opcode::CREATE_CONTAINER => format!("{path},{bytes},{acl},{parent_cversion}"),
                _ => format!("{path},{bytes},{acl},{ephemeral},{parent_cversion}"),
            }
        }
        Txn::SetData { path, data: bytes, version } => {
            format!("{path},{},{version}", data(bytes.as_deref()))
        }
        Txn::Reconfig { data: bytes } => {
            format!("{},{},-1", jute::txn::CONFIG_NODE, data(bytes.as_deref()))
        }
        Txn::Delete { path } => quoted(path) + "\n",
        Txn::SetAcl { path, acl: entries, version } => {
            let entries: Vec<String> =
                entries.iter().map(|entry| format!("s{{{}}}", acl(entry))).collect();
            format!("{},v{{{}}},{version}\n", quoted(path), entries.join(","))
        }
        Txn::Check { path, version } => format!("{},{version}\n", quoted(path)),
        Txn::CreateSession { timeout } => format!("{timeout}\n"),
        Txn::CloseSession { paths } => {
            let paths: Vec<String> = paths.iter().map(|path| quoted(path)).collect();
            format!("v{{{}}}\n", paths.join(","))
        }
        Txn::Error { code } => format!("{code}\n"),
        Txn::Multi(txns) => {
            let parts = txns.iter().map(|txn| {
                let bytes = txn.encode();
                format!("{}:{}", operation(txn.kind()), String::from_utf8_lossy(&bytes))
            });
            parts.collect::<Vec<_>>().join(";")
        }
    }
}

/// An entry as `TxnLogToolkit` prints it, with the line's end.
pub(super) fn entry(entry: &Entry) -> String {
    let mut text = format!(
        "{} session 0x{:x} cxid 0x{:x} zxid 0x{:x} {} {}",
        short_date(entry.time),
        entry.session,
        entry.cxid,
        entry.zxid,
        operation(entry.txn.kind()),
        transaction(&entry.txn)
    );
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(txn: Txn) -> String {
        let entry = Entry { session: 0x1a, cxid: -1, zxid: 0x2b, time: 0, txn, digest: None };
        let text = super::entry(&entry);
        text.split_once(" zxid 0x2b ").unwrap().1.to_owned()
    }

    #[test]
    fn transactions_have_the_originals_form() {
        let acl = || vec![Acl::anyone(31), Acl::anyone(1)];
        let create = |opcode, ttl| Txn::Create {
            opcode,
            path: "/a".to_owned(),
            data: Some(b"x,y".to_vec()),
            acl: acl(),
            ephemeral: true,
            parent_cversion: 3,
            ttl,
        };
        let list = "[31,s{'world,'anyone}\n, 1,s{'world,'anyone}\n]";
        for (txn, expected) in [
            (create(opcode::CREATE, 0), format!("create /a,x,y,{list},true,3\n")),
            (create(opcode::CREATE_TTL, 9), format!("createTTL /a,x,y,{list},3,9\n")),
            (create(opcode::CREATE_CONTAINER, 0), format!("createContainer /a,x,y,{list},3\n")),
            (Txn::Delete { path: "/a,b".to_owned() }, "delete '/a%2Cb\n".to_owned()),
            (
                Txn::SetData { path: "/a".to_owned(), data: None, version: 2 },
                "setData /a,,2\n".to_owned(),
            ),
            (
                Txn::SetAcl { path: "/a".to_owned(), acl: acl(), version: 2 },
                "setACL '/a,v{s{31,s{'world,'anyone}},s{1,s{'world,'anyone}}},2\n".to_owned(),
            ),
            (
                Txn::CloseSession { paths: vec!["/a".into(), "/b".into()] },
                "closeSession v{'/a,'/b}\n".to_owned(),
            ),
            (Txn::Error { code: -101 }, "error -101\n".to_owned()),
            (Txn::Multi(vec![]), "multi \n".to_owned()),
        ] {
            assert_eq!(line(txn), expected);
        }
    }
}
