use std::time::Duration;

use super::super::{FlagError, Kind, Table, Values, flag, flag_or};

fn table() -> Table {
    Table::new(
        "mesos-test",
        "MESOS_",
        &[&[
            flag("port", Kind::Port, Some("5050"), "Port to listen on."),
            flag("quiet", Kind::Boolean, Some("false"), "Disable logging to stderr."),
            flag("hostname_lookup", Kind::Boolean, Some("true"), "Whether to look it up."),
            flag_or(
                "agent_ping_timeout",
                "slave_ping_timeout",
                Kind::Duration,
                Some("15secs"),
                "How long an agent may take to answer a ping. It is asked again a number of times.",
            ),
            flag("work_dir", Kind::Path, None, "Where to keep data."),
            flag("cluster", Kind::Text, None, "Name of the cluster."),
            flag("zk", Kind::Secret, None, "ZooKeeper's URL."),
            flag("acls", Kind::Json, None, "Who may do what."),
            flag("max_completed_frameworks", Kind::Number, Some("50"), "How many to keep."),
            flag("factor", Kind::Decimal, Some("0.8"), "A share."),
            flag("max_mem", Kind::Bytes, Some("4096B"), "A size."),
        ]],
    )
}

fn load(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Values, FlagError> {
    table().load(
        arguments.iter().map(|text| (*text).to_owned()),
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    )
}

fn error(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    load(arguments, environment).unwrap_err().to_string()
}

#[test]
fn arguments_win_over_the_environment_and_both_over_defaults() {
    let values = load(
        &["--port=1", "--quiet", "--no-hostname_lookup"],
        &[("MESOS_PORT", "2"), ("MESOS_WORK_DIR", "/w"), ("MESOS_NATIVE_X", "y"), ("PORT", "x")],
    )
    .unwrap();
    assert_eq!((values.port("port"), values.text("work_dir")), (Some(1), Some("/w")));
    assert_eq!((values.boolean("quiet"), values.boolean("hostname_lookup")), (true, false));
    assert_eq!(values.duration("agent_ping_timeout"), Some(Duration::from_secs(15)));
    assert!(values.is_given("port") && !values.is_given("agent_ping_timeout"));
}

/// Each asked of the original.
#[test]
fn errors_are_worded_as_the_originals() {
    for (arguments, text) in [
        (&["--nope=1"][..], "Failed to load unknown flag 'nope'"),
        (&["--no-nope"], "Failed to load unknown flag 'no-nope'"),
        (&["--port=1", "--port=2"], "Flag 'port' is already loaded via name 'port'"),
        (&["--port"], "Failed to load non-boolean flag 'port': Missing value"),
        (&["--no-port"], "Failed to load non-boolean flag 'port' via 'no-port'"),
        (
            &["--no-quiet=true"],
            "Failed to load boolean flag 'quiet' via 'no-quiet' with value 'true'",
        ),
        (
            &["--port=99999999"],
            "Failed to load flag 'port': Failed to load value '99999999': Failed to convert into required type",
        ),
        (
            &["--max_completed_frameworks=1.5"],
            "Failed to load flag 'max_completed_frameworks': Failed to load value '1.5': Failed to convert into required type",
        ),
        (
            &["--quiet=maybe"],
            "Failed to load flag 'quiet': Failed to load value 'maybe': Expecting a boolean (e.g., true or false)",
        ),
        (
            &["--agent_ping_timeout=5"],
            "Failed to load flag 'agent_ping_timeout': Failed to load value '5': Invalid duration '5'",
        ),
        (
            &["--agent_ping_timeout=1secs", "--slave_ping_timeout=2secs"],
            "Flag 'slave_ping_timeout' is already loaded via name 'agent_ping_timeout'",
        ),
        (
            &["--max_mem=5x"],
            "Failed to load flag 'max_mem': Failed to load value '5x': Unknown bytes unit 'X'",
        ),
        (
            &["--acls={x"],
            "Failed to load flag 'acls': Failed to load value '{x': syntax error at line 1 near: x",
        ),
        (
            &["--cluster=file:///nope"],
            "Failed to load flag 'cluster': Failed to load value 'file:///nope': Error reading file '/nope': No such file or directory",
        ),
    ] {
        assert_eq!(error(arguments, &[]), text);
    }
    assert_eq!(
        error(&["--agent_ping_timeout=3secs"], &[("MESOS_SLAVE_PING_TIMEOUT", "2secs")]),
        "Flag 'slave_ping_timeout' is already loaded via name 'agent_ping_timeout'"
    );
    assert!(error(&[], &[("MESOS_PORT", "x")]).starts_with("Failed to load flag 'port'"));
    let missing = load(&[], &[]).unwrap().required("work_dir").unwrap_err();
    assert_eq!(missing.to_string(), "Flag 'work_dir' is required, but it was not provided");
    assert_eq!(
        table().refusal(&FlagError::Unknown("x".into())),
        "Failed to load unknown flag 'x'\n\nSee `mesos-test --help` for a list of supported flags."
    );
}

#[test]
fn what_the_wrapper_makes_of_files_is_taken() {
    let values = load(&["--quiet=", "--cluster=", "--QUIET"], &[]);
    assert_eq!(
        values.unwrap_err().to_string(),
        "Flag 'quiet' is already loaded via name 'quiet'",
        "names have no case"
    );
    let values = load(&["--quiet=", "--cluster=", "--no-hostname_lookup="], &[]).unwrap();
    assert!(values.boolean("quiet") && !values.boolean("hostname_lookup"));
    assert_eq!(values.text("cluster"), Some(""));
}

#[test]
fn arguments_that_are_no_flags_are_passed_over() {
    let values = load(&["stray", "-x", " --port=7 ", "--", "--nope"], &[]).unwrap();
    assert_eq!((values.port("port"), values.warnings().len()), (Some(7), 2));
}

#[test]
fn flags_are_shown_in_normal_form_by_the_name_they_were_given_by() {
    let values = load(
        &["--slave_ping_timeout=60secs", "--max_completed_frameworks=007", "--factor=.5"],
        &[("MESOS_MAX_MEM", "5000kb"), ("MESOS_NO_HOSTNAME_LOOKUP", "")],
    )
    .unwrap();
    let shown = values.as_strings();
    assert_eq!(shown["slave_ping_timeout"], "1mins");
    assert!(!shown.contains_key("agent_ping_timeout"));
    assert_eq!(values.text("agent_ping_timeout"), Some("1mins"));
    assert_eq!((&*shown["max_completed_frameworks"], &*shown["factor"]), ("7", "0.5"));
    assert_eq!((&*shown["max_mem"], &*shown["hostname_lookup"]), ("5000KB", "true"));
    assert_eq!(load(&[], &[]).unwrap().as_strings()["max_mem"], "4KB");
    assert_eq!(values.warnings().len(), 1);
}

#[test]
fn files_stand_for_values_and_passwords_are_not_shown() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (zk, acls) = (file("zk", "zk://u:pw@h:1/m\n"), file("acls", "{\"permissive\": true}\n"));
    let values = load(
        &[
            &format!("--zk=file://{zk}"),
            &format!("--acls={acls}"),
            &format!("--work_dir=file://{zk}"),
        ],
        &[],
    )
    .unwrap();
    assert_eq!(values.text("zk"), Some("zk://u:pw@h:1/m"));
    assert_eq!(values.as_strings()["zk"], zk);
    assert_eq!(values.json("acls"), Some(serde_json::json!({"permissive": true})));
    assert_eq!(values.text("work_dir"), Some(&*zk));
    let values = load(&["--zk=zk://u:pw@h:1/m"], &[]).unwrap();
    assert_eq!(values.as_strings()["zk"], "zk://u:***@h:1/m");
    let values = load(&["--cluster=zk://u:pw@h:1/m"], &[]).unwrap();
    assert!(!format!("{values:?}").contains("pw"));
    assert!(!values.clone().with("zk", "zk://a:b@c").as_strings()["zk"].contains('b'));
}

#[test]
fn help_and_man_page_name_every_flag() {
    let (help, page) = (table().help(), table().man_page("tests flags"));
    for flag in table().flags() {
        assert!(help.contains(flag.name) && page.contains(flag.help.split(' ').next().unwrap()));
    }
    assert!(help.contains("  --agent_ping_timeout=VALUE, --slave_ping_timeout=VALUE\n"));
    assert!(help.contains(
        "  --[no-]quiet                               Disable logging to stderr. (default: false)\n"
    ));
    assert!(help.lines().all(|line| line.len() <= 120), "{help}");
    assert!(page.contains(".B \\-\\-[no\\-]quiet\n"));
}
