//! What is read, and good input for each.

use std::fs;
use std::path::Path;

use jute::Writer;
use jute::records::{ConnectRequest, Id};
use jute::request::{Request, opcode};
use jute::txn::{Entry, Txn};

use super::run;
use crate::Config;
use crate::core::{ConnectionId, Core, Settings, State, password};
use crate::disk::compression::Compression;
use crate::disk::load;
use crate::disk::log::{Log, Options};
use crate::disk::replay::replay;
use crate::disk::scan::{Next, Scan};
use crate::disk::snapshot::{Trailer, decode, encode_stream, save};
use crate::quorum::configuration::Endpoint;
use crate::quorum::packet::{self, Notification, Packet, State as MemberState, Vote, kind};
use crate::tree::open_acl;

fn create(kind: i32, path: &str, ephemeral: bool) -> Txn {
    Txn::Create {
        opcode: kind,
        path: path.to_owned(),
        data: Some(b"some data".to_vec()),
        acl: open_acl(),
        ephemeral,
        parent_cversion: 1,
        ttl: 5,
    }
}

/// One of every kind.
fn entries() -> Vec<Entry> {
    let acl = vec![jute::records::Acl::anyone(1)];
    let txns = [
        Txn::CreateSession { timeout: 4000 },
        create(opcode::CREATE, "/a", false),
        create(opcode::CREATE2, "/a/e", true),
        create(opcode::CREATE_CONTAINER, "/c", false),
        create(opcode::CREATE_TTL, "/t", false),
        create(opcode::CREATE, "/zookeeper/quota/a", false),
        create(opcode::CREATE, "/zookeeper/quota/a/zookeeper_limits", false),
        create(opcode::CREATE, "/zookeeper/quota/a/zookeeper_stats", false),
        Txn::SetData { path: "/a".to_owned(), data: None, version: 1 },
        Txn::SetAcl { path: "/a".to_owned(), acl, version: 1 },
        Txn::Check { path: "/a".to_owned(), version: 1 },
        Txn::Multi(vec![create(1, "/m", false), Txn::Delete { path: "/m".to_owned() }]),
        Txn::Multi(vec![Txn::Error { code: 0 }, Txn::Error { code: -101 }]),
        Txn::Reconfig { data: Some(b"server.1=h:1:2:participant\nversion=0".to_vec()) },
        Txn::Delete { path: "/t".to_owned() },
        Txn::Error { code: -110 },
        Txn::CloseSession { paths: vec!["/a/e".to_owned()] },
    ];
    let numbered = (1..).zip(txns);
    let entry = |(zxid, txn)| Entry { session: 7, cxid: 1, zxid, time: 9, txn, digest: Some(zxid) };
    numbered.map(entry).collect()
}

fn request(xid: i32, kind: i32, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::new();
    out.int(xid).int(kind);
    body(&mut out);
    out.into_bytes()
}

fn write_create(out: &mut Writer, path: &str, flags: i32) {
    out.string(path).buffer(Some(b"data")).int(1).int(31).string("world").string("anyone");
    out.int(flags);
}

/// Requests of every opcode.
fn requests() -> Vec<Vec<u8>> {
    use opcode as o;
    let path = |out: &mut Writer| {
        out.string("/a");
    };
    let watched = |out: &mut Writer| {
        out.string("/a").boolean(true);
    };
    let versioned = |out: &mut Writer| {
        out.string("/a").int(-1);
    };
    let paths = |out: &mut Writer| {
        out.int(2).string("/a").string("/zookeeper");
    };
    let end = |out: &mut Writer| {
        out.int(-1).boolean(true).int(-1);
    };
    vec![
        request(1, o::CREATE, |out| write_create(out, "/a", 0)),
        request(2, o::CREATE2, |out| write_create(out, "/a/s", 3)),
        request(3, o::CREATE_CONTAINER, |out| write_create(out, "/c", 4)),
        request(4, o::CREATE_TTL, |out| {
            write_create(out, "/t", 5);
            out.long(100);
        }),
        request(5, o::EXISTS, watched),
        request(6, o::GET_DATA, watched),
        request(7, o::GET_CHILDREN2, watched),
        request(8, o::GET_ACL, path),
        request(9, o::SET_DATA, |out| {
            out.string("/a").buffer(None).int(-1);
        }),
        request(10, o::SET_ACL, |out| {
            out.string("/a").int(1).int(31).string("auth").string("").int(-1);
        }),
        request(11, o::CHECK, versioned),
        request(12, o::MULTI, |out| {
            out.int(o::CREATE).boolean(false).int(-1);
            write_create(out, "/m", 0);
            out.int(o::DELETE).boolean(false).int(-1).string("/m").int(-1);
            end(out);
        }),
        request(13, o::MULTI_READ, |out| {
            out.int(o::GET_DATA).boolean(false).int(-1).string("/a").boolean(false);
            end(out);
        }),
        request(-8, o::SET_WATCHES2, |out| {
            out.long(0);
            (0..5).for_each(|_| paths(out));
        }),
        request(14, o::ADD_WATCH, |out| {
            out.string("/a").int(1);
        }),
        request(15, o::REMOVE_WATCHES, |out| {
            out.string("/a").int(3);
        }),
        request(16, o::GET_EPHEMERALS, path),
        request(17, o::GET_ALL_CHILDREN_NUMBER, path),
        request(18, o::WHO_AM_I, |_| ()),
        request(19, o::SYNC, path),
        request(20, o::RECONFIG, |out| {
            out.string("server.2=h:1:2;3").string("1").buffer(None).long(-1);
        }),
        request(-4, o::AUTH, |out| {
            out.int(0).string("digest").buffer(Some(b"user:password"));
        }),
        request(21, o::SASL, |out| {
            out.buffer(Some(b""));
        }),
        request(-2, o::PING, |_| ()),
        request(22, o::DELETE, versioned),
        request(23, o::CLOSE_SESSION, |_| ()),
    ]
}

fn connect(session: i64) -> Vec<u8> {
    let mut out = Writer::new();
    out.int(0).long(0).int(100).long(session).buffer(Some(&password(session))).boolean(false);
    out.into_bytes()
}

#[test]
fn records() {
    let mut corpus = requests();
    corpus.push(connect(0));
    corpus.extend(entries().iter().map(Entry::encode));
    run("records", &corpus, 100, |input| {
        let _ = Request::decode(input);
        let _ = ConnectRequest::decode(input);
        if let Ok(entry) = Entry::decode(input) {
            let again = Entry::decode(&entry.encode()).map(|entry| entry.encode());
            assert_eq!(again, Ok(entry.encode()), "what was read is written as it was read");
        }
    });
}

/// Frames of a client, with their lengths, into a server.
#[test]
fn frames() {
    const HERE: ConnectionId = ConnectionId(1);
    let frame = |bytes: &Vec<u8>| [&(bytes.len() as u16).to_be_bytes(), bytes.as_slice()].concat();
    let every: Vec<u8> = requests().iter().flat_map(frame).collect();
    let few = |skip: usize| requests().iter().skip(skip).step_by(5).flat_map(frame).collect();
    let mut corpus: Vec<Vec<u8>> = (0..5).map(few).collect();
    corpus.push(every);
    corpus.push(frame(&connect(0)));
    for is_follower in [false, true] {
        run("frames", &corpus, 400, |input| {
            let mut core = Core::new(Settings::for_tests(), State::default(), 0);
            core.opened(0, HERE, "1.2.3.4:5", Vec::new());
            core.frame(0, 0, HERE, &connect(0));
            if is_follower {
                core.follow(core.zxid(), false);
            }
            let mut rest = input;
            while let Some((head, after)) = rest.split_first_chunk::<2>() {
                let length = usize::from(u16::from_be_bytes(*head)).min(after.len());
                let (frame, next) = after.split_at(length);
                if is_follower {
                    core.follower_frame(0, HERE, frame);
                } else {
                    core.frame(1, 1, HERE, frame);
                }
                rest = next;
            }
            core.tick(500, 500);
            core.closed(HERE);
            core.tick(10_000, 10_000);
        });
    }
}

#[test]
fn packets() {
    let ids = vec![Id { scheme: "ip".to_owned(), id: "1.2.3.4".to_owned() }];
    let entry = entries()[1].encode();
    let vote = Vote { leader: 3, zxid: 0x1_0000_0002, epoch: 1 };
    let notification = Notification { state: MemberState::Following, vote, round: 7 };
    let mut corpus: Vec<Vec<u8>> = (1..=19).map(|kind| Packet::bare(kind, 5).encode()).collect();
    corpus.push(Packet::with(kind::PROPOSAL, 5, entry.clone()).encode());
    corpus
        .push(Packet { kind: kind::REQUEST, zxid: -1, data: Some(entry), ids: Some(ids) }.encode());
    corpus.push(notification.encode("server.1=h:1:2:participant\nversion=0")[4..].to_vec());
    let address = Endpoint { host: "127.0.0.1".to_owned(), port: 3888 };
    corpus.push(packet::hello(2, &[address]));
    run("packets", &corpus, 100, |input| {
        let mut rest = input;
        while let Ok(Some((packet, length))) = Packet::decode(rest) {
            assert_eq!(
                Packet::decode(&packet.encode()).map(|read| read.map(|read| read.0)),
                Ok(Some(packet))
            );
            rest = &rest[length..];
        }
        let _ = Notification::decode(input);
        if let Some(head) = input.first_chunk() {
            let _ = packet::decode_hello(head);
        }
    });
}

fn written_log() -> Vec<u8> {
    let directory = tempfile::TempDir::new().unwrap();
    let options = Options { growth: 0, ..Options::default() };
    let mut log = Log::new(directory.path().to_owned(), options);
    for entry in entries() {
        log.append(&[&entry]).unwrap();
    }
    fs::read(directory.path().join("log.1")).unwrap()
}

#[test]
fn logs() {
    let whole = written_log();
    let mut padded = whole.clone();
    padded.resize(padded.len() + 3000, 0);
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("log.1");
    run("logs", &[whole, padded], 200, |input| {
        fs::write(&path, input).unwrap();
        if let Ok(mut scan) = Scan::open(&path) {
            while let Ok(Some(_)) = scan.frame() {}
        }
        let mut read = 0;
        if let Ok(mut scan) = Scan::open(&path) {
            while let Ok(Next::Entry(_)) = scan.advance() {
                read += 1;
            }
        }
        let before = fs::metadata(&path).unwrap().len();
        match load::load(directory.path(), directory.path(), true) {
            // Loading cuts what is torn, and then there is nothing more to cut.
            Ok(state) => {
                let again = load::load(directory.path(), directory.path(), true).unwrap();
                assert_eq!((again.zxid, again.tree.digest()), (state.zxid, state.tree.digest()));
                assert!(read > 0 || state.zxid == 0);
            }
            Err(_) => {
                assert_eq!(fs::metadata(&path).unwrap().len(), before, "refused is untouched")
            }
        }
    });
}

#[test]
fn snapshots() {
    let mut state = State::default();
    for entry in entries().into_iter().take(14) {
        replay(&mut state, entry);
    }
    let trailer = Trailer { digest: Some((14, state.tree.digest())), last_zxid: Some(14) };
    let directory = tempfile::TempDir::new().unwrap();
    for compression in Compression::ALL {
        let path = save(directory.path(), &state, compression, trailer).unwrap();
        let corpus = [fs::read(path).unwrap()];
        // Packed bytes stand for many.
        let factor = if compression == Compression::None { 200 } else { 100_000 };
        run("snapshots", &corpus, factor, |input| {
            if let Ok(read) = decode::read(compression.reader(input), 14) {
                assert!(read.state.tree.get("/").is_some());
            }
        });
    }
    let stream = encode_stream(&state.tree, &[(7, 4000)]);
    run("trees on the wire", &[stream], 200, |input| {
        if let Ok((state, rest)) = crate::disk::snapshot::decode_stream(input, 1) {
            assert!(rest.len() <= input.len() && state.tree.get("/").is_some());
        }
    });
}

#[test]
fn configurations() {
    let text = |text: &str| text.as_bytes().to_vec();
    let corpus = [
        text("tickTime=2000\ndataDir=/nonexistent\nclientPort=2181\ninitLimit=5\nsyncLimit=2\n"),
        text(
            "dataDir = /nonexistent\nclientPort : 2181\n# comment\n! another\n4lw.commands.whitelist=*, \\\n  srvr\nsnapCount=0x10\n",
        ),
        text(
            "dataDir=/nonexistent\nclientPort=2181\nserver.1=127.0.0.1:2888:3888:participant;2181\nserver.2=[::1]:2888:3888|127.0.0.2:1:2:observer\ngroup.1=1:2\nweight.1=3\n",
        ),
        text(
            "dataDir=/nonexistent\nclientPort=2181\nautopurge.purgeInterval=24\nsnapshot.compression.method=gz\nssl.clientAuth=want\nauthProvider.1=x\nadmin.serverPort=0\n",
        ),
    ];
    run("configurations", &corpus, 2000, |input| {
        let text = String::from_utf8_lossy(input);
        // Names would be resolved.
        if !text.contains("clientPortAddress") {
            let _ = Config::parse(Path::new("/nonexistent/zoo.cfg"), &text);
        }
    });
}
