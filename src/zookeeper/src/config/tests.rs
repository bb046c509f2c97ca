//! What is read, what is refused and with which words, and what is told of keys without effect.

use std::fs;
use std::path::Path;

use super::*;

const BASE: &str = "dataDir=/d\nclientPort=2181\n";

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("zoo.cfg"), text).map_err(|error| error.to_string())
}

fn with_flags(text: &str, flags: &str) -> Result<Config, String> {
    let environment = Environment::of([("SERVER_JVMFLAGS".to_owned(), flags.to_owned())]);
    Config::parse_in(Path::new("zoo.cfg"), text, &environment).map_err(|error| error.to_string())
}

#[test]
fn the_guides_configuration_is_read() {
    let directory = tempfile::TempDir::new().unwrap();
    fs::write(directory.path().join("myid"), "1\n").unwrap();
    let config = parse(&format!("# comment\ntickTime=2000\ndataDir={}\nclientPort=2181\ninitLimit 5\nserver.1=10.0.0.1:2888:3888\n", directory.path().display())).unwrap();
    assert_eq!(
        (
            config.client_address.unwrap().port(),
            config.session_timeout_min_ms,
            config.session_timeout_max_ms
        ),
        (2181, 4000, 40000)
    );
    assert_eq!(config.notices, Vec::<String>::new());
}

#[test]
fn defaults_are_the_originals() {
    let Config { limits, log, admin, metrics, listen_backlog, first_frame, .. } =
        parse(BASE).unwrap();
    insta::assert_debug_snapshot!((limits, log, admin, metrics, listen_backlog, first_frame));
}

#[test]
fn what_is_wrong_is_named_by_file_line_and_key() {
    let mut said = String::new();
    for (base, lines) in [
        ("", "clientPort=1"),
        ("", "dataDir=/d"),
        ("", "dataDir=/d\nclientPortAddress=127.0.0.1"),
        (BASE, "tickTime=0"),
        (BASE, "tickTime=x"),
        (BASE, "clientPort=99999"),
        (BASE, "clientPortAddress=no such host"),
        (BASE, "minSessionTimeout=9\nmaxSessionTimeout=8"),
        (BASE, "maxClientCnxns=many"),
        (BASE, "reconfigEnabled=yes"),
        (BASE, "enforce.auth.enabled=yes"),
        (BASE, "admin.forceHttps=yes"),
        (BASE, "admin.serverPort=-1"),
        (BASE, "admin.commandURL=commands"),
        (BASE, "metricsProvider.className=org.example.Provider"),
        (BASE, "datadir.autocreate=false"),
        (BASE, "server.0=h:1:2"),
        (BASE, "server.256=h:1:2"),
        (BASE, "server.x=h:1:2"),
        (BASE, "server.1=h:1"),
        (BASE, "server.1=h:1:2\nserver.2=i:1:2"),
        (BASE, "server.1=h:1:2\nserver.2=h:1:2\nserver.1=i:1:2"),
    ] {
        let error = parse(&format!("{base}{lines}")).unwrap_err();
        writeln!(said, "{}\n    {error}", lines.replace('\n', " | ")).unwrap();
    }
    insta::assert_snapshot!(said);
}

#[test]
fn keys_without_effect_are_told_of_and_do_no_harm() {
    let text = format!(
        "{BASE}snapcount=5\nfoo=bar\nmaxResponseCacheSize=0\njvm.pause.monitor=true\nrequestThrottleLimit=3\ntickTime=1\ntickTime=2000\nserverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\nlocalSessionsEnabled=true\ndataLogDir=logs\n"
    );
    let config = parse(&text).unwrap();
    assert_eq!((config.tick_ms, config.limits.requests_max), (2000, 0));
    insta::assert_snapshot!(config.notices.join("\n"));
}

#[test]
fn flags_of_the_environment_say_what_zoo_cfg_leaves_open() {
    let config = with_flags(
        &format!("{BASE}snapCount=7"),
        "-Xmx1g -Dzookeeper.snapCount=9 -Dzookeeper.maxCnxns=0x10 -Dzookeeper.tickTime=5 -Djute.maxbuffer=100 -Dother=1 -Dzookeeper.client.secure=true",
    )
    .unwrap();
    assert_eq!(
        (config.snap_count, config.connections_max, config.tick_ms, config.frame_max),
        (7, 16, 3000, 100)
    );
    assert_eq!(config.notices, Vec::<String>::new());
    assert_eq!(
        with_flags(BASE, "-Dzookeeper.maxCnxns=x").unwrap().notices,
        [
            "SERVER_JVMFLAGS: -Dzookeeper.maxCnxns: 'x' is not a number that fits: taken as not given"
        ]
    );
}

/// What the original reads as a system property starts it whatever it says; so it does here, and is told.
#[test]
fn slips_in_system_properties_are_told_and_do_no_harm() {
    let lines = [
        "jute.maxbuffer=-1",
        "snapCount=many",
        "skipACL=true",
        "forceSync=",
        "extendedTypesEnabled=yes",
        "digest.enabled=on",
        "maxCnxns=99999999999999999999",
        "globalOutstandingLimit=-5",
        "largeRequestThreshold=0",
        "largeRequestMaxBytes=0",
        "connection_throttle_drop_increase=2",
        "connection_throttle_fill_time=0",
        "admin.serverPort=http",
    ];
    let config = parse(&format!("{BASE}{}\n", lines.join("\n"))).unwrap();
    let standard = parse(BASE).unwrap();
    assert_eq!(
        (config.frame_max, config.snap_count, config.skip_acl, config.log.sync),
        (standard.frame_max, standard.snap_count, false, true)
    );
    assert_eq!(config.limits, standard.limits);
    assert_eq!((config.extended_types, config.storage.digests), (false, false));
    insta::assert_snapshot!(config.notices.join("\n"));
    // Nothing is asked of those that are not there.
    let off = "admin.enableServer=false\nadmin.serverAddress=no such host\nmetricsProvider.httpHost=no such host";
    assert!(parse(&format!("{BASE}{off}")).is_ok());
}

#[test]
fn secrets_are_not_shown() {
    let text = format!(
        "{BASE}DigestAuthenticationProvider.superDigest=super:hash\nssl.keyStore.password = geheim\nssl.keyStore.passwordPath=/p\n"
    );
    let config = parse(&text).unwrap();
    let shown = format!("{}\n{:?}", config.initial, config.given);
    assert!(!shown.contains("hash") && !shown.contains("geheim"), "{shown}");
    assert!(shown.contains("passwordPath=/p") && shown.contains("dataDir=/d"), "{shown}");
    assert_eq!(config.security.auth.super_digest.as_deref(), Some("super:hash"));
}

#[test]
fn words_are_whitelisted_as_in_the_original() {
    let words = |text: &str| parse(&format!("{BASE}{text}")).unwrap().words;
    assert_eq!(words(""), ["srvr"]);
    assert_eq!(words("4lw.commands.whitelist= ruok, mntr ,"), ["ruok", "mntr", "srvr"]);
    assert_eq!(words("readonlymode.enabled=true"), ["srvr", "isro"]);
}

/// A key that is said to act is read somewhere, and one that is said not to is read nowhere: the table can't be wrong.
#[test]
fn the_table_says_of_each_key_what_is_so() {
    fn read(directory: &Path, into: &mut String) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                read(&path, into);
            } else if !["keys.rs", "tests.rs"].contains(&name.as_str()) {
                into.push_str(&fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut sources = String::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut sources);
    let mut wrong = Vec::new();
    for key in keys::KEYS {
        let is_read = match key.name.strip_suffix('*') {
            Some(start) => sources.contains(&format!("\"{start}")),
            None => sources.contains(&format!("\"{}\"", key.name)),
        };
        let acts = matches!(key.effect, keys::Effect::Acts(_));
        // Of some families without effect one member has one.
        if is_read != acts && !(is_read && key.name.ends_with('*')) {
            wrong.push(format!("{}: read: {is_read}, table: {:?}", key.name, key.effect));
        }
    }
    assert!(wrong.is_empty(), "config/keys.rs is wrong about these keys:\n{}", wrong.join("\n"));
}
