//! The planner, by tables, snapshots, and the property that a plan carried out leaves nothing to plan.

use std::fmt::Write as _;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::facts::{FileFact, Listener, PackageFact, UnitFact};

fn host(name: &str, master: bool, agent: bool) -> Host {
    Host {
        name: name.into(),
        user: "root".into(),
        port: 22,
        address: None,
        roles: Roles { master, agent },
    }
}

/// A host that never saw us.
fn fresh(last: u8) -> Facts {
    let tools = ["systemd", "systemd-stdio-bridge", "rpm", "sha256sum", "base64", "ss", "docker"];
    Facts {
        os: "CentOS Linux 7 (Core)".into(),
        machine: "x86_64".into(),
        address: Some(Ipv4Addr::new(10, 0, 0, last)),
        tools: tools.iter().map(|tool| (*tool).to_owned()).collect(),
        free_kb: [("/var/lib".to_owned(), 1_000_000)].into(),
        ..Facts::default()
    }
}

fn brought() -> BTreeMap<String, Package> {
    packages::MASTER
        .iter()
        .map(|name| {
            let package = Package {
                name: (*name).into(),
                version: "1-100".into(),
                path: PathBuf::from(format!("{name}-1-100.x86_64.rpm")),
            };
            ((*name).to_owned(), package)
        })
        .collect()
}

fn three() -> Vec<(Host, Facts)> {
    vec![
        (host("h2", false, true), fresh(2)),
        (host("h1", true, false), fresh(1)),
        (host("h3", false, true), fresh(3)),
    ]
}

/// What the facts are after a host's first `steps` steps, were they done by packages and systemd as they should. Each step
/// takes a moment; `now` is the time.
fn carry_out(plan: &HostPlan, facts: &mut Facts, mut steps: usize, now: &mut u64) {
    let mut go = |is_needed: bool| {
        let goes = is_needed && steps > 0;
        steps -= usize::from(goes);
        *now += u64::from(goes);
        goes.then_some(*now)
    };
    if let Some(now) = go(!plan.packages.is_empty()) {
        for install in &plan.packages {
            let version = install.package.version.clone();
            let fact = PackageFact { version, installed_us: now };
            let before = facts.packages.insert(install.package.name.clone(), fact);
            for (unit, package, _) in UNITS {
                if package == install.package.name && before.is_none() {
                    let unit = facts.units.entry(unit.to_owned()).or_default();
                    if !unit.exists {
                        let active = "inactive".into();
                        *unit =
                            UnitFact { exists: true, enabled: true, active, ..UnitFact::default() };
                    }
                }
            }
        }
    }
    if let Some(now) = go(!plan.files.is_empty()) {
        for Write { file, .. } in &plan.files {
            let fact = FileFact {
                mode: file.mode,
                owner: file.owner.into(),
                sha256: sha256(file.content.as_bytes()),
                written_us: now,
            };
            facts.files.insert(file.path.into(), fact);
        }
    }
    for step in &plan.units {
        // Cut short before its package came: its unit isn't there.
        let Some(now) = go(true) else { return };
        let unit = facts.units.get_mut(step.unit).expect("steps are for units that are there");
        match step.action {
            Action::Enable => unit.enabled = true,
            Action::Disable => unit.enabled = false,
            Action::Start | Action::Restart => {
                unit.active = "active".into();
                unit.sub = "running".into();
                unit.started_us = now;
            }
            Action::Stop => {
                unit.active = "inactive".into();
                unit.sub = "dead".into();
            }
        }
    }
}

/// `host: package… file… action:unit…`, one line a host.
fn show(plan: &Plan) -> String {
    let mut text = String::new();
    for host in &plan.hosts {
        let steps = host
            .packages
            .iter()
            .map(|install| format!("+{}", install.package.name))
            .chain(host.files.iter().map(|write| format!("{} ({:?})", write.file.path, write.why)))
            .chain(
                host.units
                    .iter()
                    .map(|step| format!("{} {}: {}", step.action.word(), step.unit, step.why)),
            )
            .chain(host.notes.iter().map(|note| format!("note: {note}")));
        writeln!(text, "{} {}", host.host, host.address).unwrap();
        for step in steps {
            writeln!(text, "  {step}").unwrap();
        }
    }
    text
}

fn problems(hosts: &[(Host, Facts)]) -> String {
    plan(hosts, &brought()).expect_err("problems").to_string()
}

#[test]
fn fresh_hosts_get_everything_masters_first() {
    insta::assert_snapshot!(show(&plan(&three(), &brought()).unwrap()));
}

#[test]
fn a_plan_reads_the_same_for_people_and_programs() {
    let mut hosts = three();
    assert!(hosts[0].1.tools.remove("docker"));
    let older = PackageFact { version: "0-9".into(), installed_us: 1 };
    hosts[1].1.packages.insert("mesos".into(), older);
    let plan = plan(&hosts, &brought()).unwrap();
    insta::assert_snapshot!(crate::show::plan(&plan, crate::show::Style::plain()));
    insta::assert_json_snapshot!(plan.hosts[1]);
}

#[test]
fn one_host_is_everything() {
    insta::assert_snapshot!(show(
        &plan(&[(host("h1", true, true), fresh(1))], &brought()).unwrap()
    ));
}

#[test]
fn what_changed_is_restarted_and_nothing_else() {
    let mut hosts = vec![(host("h1", true, true), fresh(1))];
    carry_out(&plan(&hosts, &brought()).unwrap().hosts[0], &mut hosts[0].1, usize::MAX, &mut 100);
    let steps = |change: &dyn Fn(&mut Facts)| {
        let mut changed = hosts.clone();
        change(&mut changed[0].1);
        let plan = plan(&changed, &brought()).unwrap();
        plan.hosts[0]
            .units
            .iter()
            .map(|step| format!("{} {}", step.action.word(), step.unit))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let restart_all_but_zookeeper =
        "restart mesos-master.service, restart marathon.service, restart mesos-slave.service";
    type Change = Box<dyn Fn(&mut Facts)>;
    let edited = |path: &'static str| -> Change {
        Box::new(move |facts| facts.files.get_mut(path).unwrap().sha256 = "other".into())
    };
    let cases: Vec<(Change, &str)> = vec![
        (Box::new(|_| {}), ""),
        (edited("/etc/mesos-master/quorum"), "restart mesos-master.service"),
        (edited("/etc/mesos/zk"), restart_all_but_zookeeper),
        (edited("/etc/zookeeper/conf/zoo.cfg"), "restart zookeeper.service"),
        (
            Box::new(|facts| {
                facts.files.get_mut("/etc/marathon/conf/hostname").unwrap().mode = 0o600
            }),
            "restart marathon.service",
        ),
        (
            Box::new(|facts| facts.packages.get_mut("marathon").unwrap().version = "0-1".into()),
            "restart marathon.service",
        ),
        (
            Box::new(|facts| {
                facts.units.get_mut("marathon.service").unwrap().active = "failed".into()
            }),
            "start marathon.service",
        ),
        (
            Box::new(|facts| facts.units.get_mut("marathon.service").unwrap().enabled = false),
            "enable marathon.service",
        ),
        (Box::new(|facts| assert!(facts.tools.remove("docker"))), "restart mesos-slave.service"),
    ];
    for (index, (change, expected)) in cases.iter().enumerate() {
        assert_eq!(steps(change.as_ref()), *expected, "case {index}");
    }
}

#[test]
fn all_that_keeps_hosts_from_it_is_told_at_once() {
    let mut hosts = three();
    let facts = &mut hosts[1].1;
    let web = Listener {
        process: Some("python3".into()),
        pid: Some(77),
        unit: Some("web.service".into()),
    };
    facts.ports.insert(8080, web);
    facts.ports.insert(2181, Listener { process: Some("nc".into()), pid: Some(78), unit: None });
    // An agent's port is free to use on a master.
    facts.ports.insert(5051, Listener { process: None, pid: None, unit: None });
    facts.odd.insert("/etc/mesos/zk".into());
    hosts[0].1.free_kb.insert("/usr".into(), 10);
    hosts[0].1.machine = "aarch64".into();
    hosts[2].1.tools.remove("systemd");
    hosts[2].1.units.insert(
        "mesos-slave.service".into(),
        UnitFact { exists: true, masked: true, ..UnitFact::default() },
    );
    insta::assert_snapshot!(problems(&hosts));
}

#[test]
fn our_own_daemons_may_hold_their_ports() {
    let mut hosts = three();
    hosts[1].1.ports.insert(
        2181,
        Listener { process: None, pid: None, unit: Some("zookeeper.service".into()) },
    );
    assert!(plan(&hosts, &brought()).is_ok());
    // ... but not each other's.
    hosts[1].1.ports.insert(
        5050,
        Listener { process: None, pid: None, unit: Some("zookeeper.service".into()) },
    );
    assert!(problems(&hosts).contains("port 5050 is in use"));
}

#[test]
fn the_operator_is_told_of_a_firewall() {
    let mut hosts = three();
    let running = UnitFact { exists: true, active: "active".into(), ..UnitFact::default() };
    for (_, facts) in &mut hosts {
        facts.units.insert(FIREWALL.into(), running.clone());
    }
    let plan = plan(&hosts, &brought()).unwrap();
    assert!(
        plan.hosts[0].notes[0]
            .contains("--add-service=meso-zookeeper --add-service=meso-mesos-master")
    );
    assert!(plan.hosts[1].notes[0].contains("--permanent --add-service=meso-mesos-agent;"));
}

#[test]
fn addresses_must_tell_hosts_apart() {
    let mut hosts = three();
    hosts[0].1.address = Some(Ipv4Addr::new(10, 0, 0, 1));
    assert!(problems(&hosts).contains("h2 and h1 are both reached at 10.0.0.1"));
    hosts[0].0.address = Some(Ipv4Addr::new(10, 0, 0, 9));
    assert!(plan(&hosts, &brought()).is_ok());
    hosts[0].0.address = Some(Ipv4Addr::LOCALHOST);
    assert!(problems(&hosts).contains("127.0.0.1"));
    hosts[0].0.address = None;
    hosts[0].1.address = None;
    assert!(problems(&hosts).contains("address is not known"));
}

fn any_unit() -> impl Strategy<Value = UnitFact> {
    let state = proptest::sample::select(vec![
        ("active", "running"),
        ("inactive", "dead"),
        ("failed", "failed"),
        ("activating", "auto-restart"),
        ("activating", "start"),
    ]);
    (any::<bool>(), state, 0..9_u64).prop_map(|(enabled, (active, sub), started_us)| UnitFact {
        exists: true,
        enabled,
        masked: false,
        active: active.into(),
        sub: sub.into(),
        started_us,
    })
}

/// Hosts in any state between never seen and set up.
fn any_facts(last: u8) -> impl Strategy<Value = Facts> {
    let version = prop_oneof![Just("1-100"), Just("0-9")];
    let package = (version, 0..9_u64)
        .prop_map(|(version, installed_us)| PackageFact { version: version.into(), installed_us });
    let packages = proptest::collection::btree_map(
        proptest::sample::select(packages::MASTER).prop_map(str::to_owned),
        package,
        0..=3,
    );
    let access =
        (prop_oneof![Just(0o644), Just(0o600)], prop_oneof![Just("root"), Just("zookeeper")]);
    let files = proptest::collection::btree_map(
        proptest::sample::select(templates::paths()).prop_map(str::to_owned),
        (access, 0..9_u64).prop_map(|((mode, owner), written_us)| FileFact {
            mode,
            owner: owner.into(),
            sha256: "other".into(),
            written_us,
        }),
        0..8,
    );
    (packages, files, proptest::collection::vec(any_unit(), 4), any::<bool>()).prop_map(
        move |(packages, files, units, docker)| {
            let mut facts = fresh(last);
            for ((unit, package, _), fact) in UNITS.iter().zip(units) {
                if packages.contains_key(*package) {
                    facts.units.insert((*unit).to_owned(), fact);
                }
            }
            if !docker {
                assert!(facts.tools.remove("docker"));
            }
            Facts { packages, files, ..facts }
        },
    )
}

/// That a host's daemons run what is installed and have read what is written.
fn is_up_to_date(host: &Host, facts: &Facts) -> Result<(), TestCaseError> {
    for (unit, package, _) in UNITS {
        if !is_wanted(unit, host.roles) {
            continue;
        }
        let state = &facts.units[unit];
        let runs = matches!(state.sub.as_str(), "running" | "start");
        prop_assert!(state.enabled && runs, "{unit}: {state:?}");
        let is_old = facts.packages[package].installed_us > state.started_us;
        prop_assert!(!is_old, "{unit} is of an older {package}");
        for (path, file) in &facts.files {
            let is_unread = templates::is_read_by(path, unit) && file.written_us > state.started_us;
            prop_assert!(!is_unread, "{unit} has not read {path}");
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_plan_carried_out_leaves_nothing_to_plan(
        first in any_facts(1),
        second in any_facts(2),
        both in any::<bool>(),
        cut in 0..12_usize,
    ) {
        let mut hosts = vec![(host("h1", true, both), first), (host("h2", false, true), second)];
        let mut now = 10;
        // The first run is cut short anywhere, the second is not.
        for steps in [cut, usize::MAX] {
            for (plan, (_, facts)) in plan(&hosts, &brought()).unwrap().hosts.iter().zip(&mut hosts) {
                carry_out(plan, facts, steps, &mut now);
            }
        }
        let again = plan(&hosts, &brought()).unwrap();
        prop_assert!(again.is_empty(), "{}", show(&again));
        for (host, facts) in &hosts {
            is_up_to_date(host, facts)?;
        }
    }
}
