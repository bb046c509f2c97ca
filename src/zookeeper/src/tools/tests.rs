//! The tools on files that the server's own writers made.

use std::fs;
use std::path::Path;

use clap::Parser as _;
use jute::txn::{Entry, Txn};
use tempfile::TempDir;

use super::*;
use crate::core::State;
use crate::disk::log::{Log, Options};
use crate::disk::replay::replay;
use crate::disk::snapshot::{Trailer, save};

fn entry(zxid: i64, txn: Txn) -> Entry {
    Entry { session: 7, cxid: 1, zxid, time: 0, txn, digest: None }
}

fn create(zxid: i64, path: &str, data: &str) -> Entry {
    let txn = Txn::Create {
        opcode: 1,
        path: path.to_owned(),
        data: Some(data.into()),
        acl: crate::tree::open_acl(),
        ephemeral: false,
        parent_cversion: -1,
        ttl: 0,
    };
    entry(zxid, txn)
}

/// A data directory with a snapshot of transaction 3, and logs of 1 to 6.
fn data() -> TempDir {
    let directory = TempDir::new().unwrap();
    let mut log = Log::new(directory.path().to_owned(), Options::default());
    let mut state = State::default();
    let entries = [
        entry(1, Txn::CreateSession { timeout: 4000 }),
        create(2, "/a", "12345"),
        create(3, "/a/b", "x"),
        create(4, "/a/c", "yz"),
        entry(5, Txn::SetData { path: "/a".to_owned(), data: Some(b"1".to_vec()), version: 1 }),
        entry(6, Txn::Delete { path: "/a/b".to_owned() }),
    ];
    for entry in entries {
        if entry.zxid == 4 {
            let trailer = Trailer { digest: Some((3, state.tree.digest())), last_zxid: None };
            save(directory.path(), &state, Compression::None, trailer).unwrap();
            log.roll();
        }
        log.append(&[&entry]).unwrap();
        replay(&mut state, entry);
    }
    directory
}

fn run(arguments: &[&str]) -> Result<String, String> {
    let words = std::iter::once("zookeeper-server").chain(arguments.iter().copied());
    let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    let done = cli.run(&mut out).map_err(|error| error.to_string());
    let text = String::from_utf8(out).unwrap();
    done.map(|()| text.clone()).map_err(|error| format!("{text}{error}"))
}

fn at(directory: &TempDir, name: &str) -> String {
    directory.path().join(name).display().to_string()
}

#[test]
fn logs_are_printed_and_verified() {
    let data = data();
    let text = run(&["log", "print", &at(&data, "log.4")]).unwrap();
    assert!(
        text.starts_with("ZooKeeper Transactional Log File with dbid 0 txnlog format version 2\n")
    );
    assert!(text.contains(" session 0x7 cxid 0x1 zxid 0x5 setData /a,1,1\n"), "{text}");
    assert!(text.ends_with("zxid 0x6 delete '/a/b\nEOF reached after 3 txns.\n"), "{text}");
    let json = run(&["log", "print", "--json", &at(&data, "log.4")]).unwrap();
    let line: serde_json::Value = serde_json::from_str(json.lines().nth(1).unwrap()).unwrap();
    assert_eq!(
        (&line["zxid"], &line["type"], &line["data"]),
        (&"0x5".into(), &"setData".into(), &"MQ==".into())
    );

    let text = run(&["log", "verify", &at(&data, "log.1"), &at(&data, "")]).unwrap();
    assert!(text.contains("log.1: 3 transactions, 0x1 to 0x3\n"), "{text}");
    assert!(
        text.contains("a server would go on from transaction 0x6 with 6 znodes and 1 sessions"),
        "{text}"
    );
    let path = at(&data, "log.1");
    let mut bytes = fs::read(&path).unwrap();
    // In the time of the first entry.
    bytes[49] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = run(&["log", "verify", "--json", &path]).unwrap_err();
    assert!(
        error.contains("\"is_valid\":false") && error.contains("corrupt at byte 16"),
        "{error}"
    );
    let text = run(&["log", "print", &path]).unwrap();
    assert_eq!(text.matches("CRC ERROR - ").count(), 1, "{text}");
}

#[test]
fn logs_are_cut_and_recovered() {
    let data = data();
    let (from, to) = (at(&data, "log.1"), at(&data, "made"));
    let text = run(&["log", "convert", &from, &to, "--until", "0x2"]).unwrap();
    assert!(text.contains("made: 2 transactions, 0 with a new checksum"), "{text}");
    assert!(run(&["log", "print", &to]).unwrap().contains("EOF reached after 2 txns."));
    assert!(run(&["log", "convert", &from, &to]).unwrap_err().contains("is there already"));
    let mut bytes = fs::read(&from).unwrap();
    bytes[16] ^= 1;
    bytes[16 + 7] ^= 1;
    fs::write(&from, bytes).unwrap();
    let anew = at(&data, "anew");
    assert!(run(&["log", "convert", &from, &anew]).unwrap_err().contains("corrupt at byte 16"));
    let text = run(&["log", "convert", "--recover", &from, &anew]).unwrap();
    assert!(text.contains("3 transactions, 1 with a new checksum"), "{text}");
    assert!(run(&["log", "verify", &anew]).unwrap().contains("3 transactions"));
    let none = at(&data, "none");
    assert!(run(&["log", "convert", &at(&data, "log.4"), &none, "--until", "1"]).is_err());
    assert!(!Path::new(&none).exists() && fs::read_dir(data.path()).unwrap().count() == 5);
}

#[test]
fn snapshots_are_printed_summed_and_compared() {
    let data = data();
    let file = at(&data, "snapshot.3");
    let text = run(&["snapshot", "print", &file]).unwrap();
    assert!(text.starts_with("ZNode Details (count=7):\n----\n/\n  cZxid = 0x00000000000000\n  ctime = Thu Jan 01 00:00:00 "), "{text}");
    assert!(text.contains("----\n/a/b\n  cZxid = 0x00000000000003\n"), "{text}");
    assert!(text.ends_with("  dataLength = 1\n----\nSession Details (sid, timeout, ephemeralCount):\n0x00000000000007, 4000, 0\n----\nLast zxid: 0x3\n"), "{text}");
    assert!(run(&["snapshot", "print", "-d", &file]).unwrap().contains("  data = MTIzNDU=\n"));
    let json = run(&["snapshot", "print", "--json", &file]).unwrap();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value[3][0]["name"], "/");
    assert_eq!((&value[3][2][0]["name"], &value[3][2][1]["asize"]), (&"a".into(), &1.into()));
    let text = run(&["snapshot", "summary", &file, "/", "1"]).unwrap();
    assert!(
        text.starts_with(" /\n   children: 5\n   data: 6\n-- /a\n--   children: 1\n--   data: 6\n"),
        "{text}"
    );
    assert!(run(&["snapshot", "summary", &file, "/none"]).is_err());

    let restored = at(&data, "restored");
    run(&["log", "restore", &at(&data, ""), &restored, "--until", "6"]).unwrap();
    let other = format!("{restored}/version-2/snapshot.6");
    let text = run(&["snapshot", "compare", &file, &other, "--bytes", "1"]).unwrap();
    assert!(
        text.contains("Node /a found in both trees. Delta: -3 bytes, 0 descendants\n"),
        "{text}"
    );
    assert!(
        text.contains(
            "Node /a/c found only in right tree. Descendant size: 2. Descendant count: 0\n"
        ),
        "{text}"
    );
    assert!(!text.contains("Node /a/b") && text.ends_with("All layers compared.\n"), "{text}");
    let json = run(&["snapshot", "compare", "--json", &file, &other]).unwrap();
    assert!(
        json.contains(r#"{"path":"/a/b","left":{"bytes":1,"descendants":0},"right":null}"#),
        "{json}"
    );
}

#[test]
fn snapshots_are_packed_verified_and_restored() {
    let data = data();
    let file = at(&data, "snapshot.3");
    let place = at(&data, "");
    for (packing, name) in [("gz", "snapshot.3.gz"), ("snappy", "snapshot.3.snappy")] {
        run(&["snapshot", "convert", &file, &place, "--packing", packing]).unwrap();
        let packed = at(&data, name);
        let verified = run(&["snapshot", "verify", &packed]).unwrap();
        assert!(verified.ends_with(": 6 znodes, 1 sessions\n"), "{verified}");
        let back = TempDir::new().unwrap();
        run(&["snapshot", "convert", &packed, &at(&back, "")]).unwrap();
        assert_eq!(fs::read(back.path().join("snapshot.3")).unwrap(), fs::read(&file).unwrap());
    }
    assert!(run(&["snapshot", "convert", &file, &place]).unwrap_err().contains("is there already"));
    for (until, znodes, name) in
        [("3", 6, "snapshot.3"), ("0x4", 7, "snapshot.4"), ("6", 6, "snapshot.6")]
    {
        let to = TempDir::new().unwrap();
        let arguments =
            ["snapshot", "restore", &file, &at(&to, "d"), "--logs", &place, "--until", until];
        let text = run(&arguments).unwrap();
        assert!(text.contains(name) && text.contains(&format!("{znodes} znodes")), "{text}");
        assert!(run(&arguments).unwrap_err().contains("is not empty"));
    }
    let to = TempDir::new().unwrap();
    let error =
        run(&["snapshot", "restore", &file, &at(&to, "d"), "--logs", &place, "--until", "9"])
            .unwrap_err();
    assert!(error.contains("the last transaction is 0x6, before 0x9"), "{error}");
    fs::write(&file, "no snapshot at all").unwrap();
    let error = run(&["snapshot", "verify", &file]).unwrap_err();
    assert!(error.contains("is no whole snapshot: this is no snapshot"), "{error}");
    let renamed = at(&data, "copy");
    fs::rename(&file, &renamed).unwrap();
    assert!(
        run(&["snapshot", "restore", &renamed, &at(&to, "e")])
            .unwrap_err()
            .contains("is not named as a snapshot")
    );
}

#[test]
fn what_is_not_needed_is_removed_and_told() {
    let directory = TempDir::new().unwrap();
    let files = directory.path().join("version-2");
    fs::create_dir(&files).unwrap();
    for zxid in 1..=5 {
        let state = State { zxid, ..State::default() };
        save(&files, &state, Compression::None, Trailer { digest: None, last_zxid: None }).unwrap();
        fs::write(files.join(format!("log.{zxid}")), "").unwrap();
    }
    let data = directory.path().to_str().unwrap();
    assert!(run(&["purge", data, "-n", "2"]).unwrap_err().contains("at least 3 are kept"));
    let printed = run(&["purge", data, "-n", "4"]).unwrap();
    assert_eq!(
        printed,
        format!(
            "Removing file: {0}/snapshot.1\nRemoving file: {0}/log.1\nRemoving file: {0}/log.2\n",
            files.display()
        )
    );
    let printed = run(&["purge", files.to_str().unwrap(), data, "--json"]).unwrap();
    let lines: Vec<serde_json::Value> =
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["removed"], files.join("snapshot.2").to_str().unwrap());
    assert_eq!(lines.len(), 2);
    assert_eq!(fs::read_dir(&files).unwrap().count(), 5);
}
