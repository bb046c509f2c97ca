//! The allocator by examples, and against properties and a brute force.

mod reference;

use super::*;
use mesos::v1::agent_info::capability::Type as AgentCapability;
use mesos::v1::framework_info::capability::Type as Capability;
use proptest::prelude::*;

fn resources(text: &str) -> Resources {
    Resources::parse(text, "*").unwrap()
}

fn roles(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn framework_info(names: &[&str]) -> v1::FrameworkInfo {
    let capability =
        |kind: Capability| v1::framework_info::Capability { r#type: Some(kind as i32) };
    v1::FrameworkInfo {
        roles: names.iter().map(|name| (*name).to_owned()).collect(),
        capabilities: vec![
            capability(Capability::MultiRole),
            capability(Capability::ReservationRefinement),
        ],
        ..Default::default()
    }
}

fn quota(guarantees: &str, limits: &str) -> Quota {
    let map = |text: &str| -> BTreeMap<String, v1::value::Scalar> {
        let scalars = resources(text).scalars();
        let scalar = |value: mesos::resources::Milli| v1::value::Scalar { value: value.to_f64() };
        scalars.into_iter().map(|(name, value)| (name, scalar(value))).collect()
    };
    Quota {
        guarantees: Quantities::from_map(&map(guarantees)),
        limits: Limits::from_map(&map(limits)),
    }
}

impl Allocator {
    fn agent(&mut self, id: &str, total: &str, used: &[(String, String, Resources)]) {
        let info =
            v1::AgentInfo { id: Some(v1::AgentId { value: id.to_owned() }), ..Default::default() };
        let capabilities = [AgentCapability::MultiRole, AgentCapability::HierarchicalRole]
            .map(|kind| v1::agent_info::Capability { r#type: Some(kind as i32) });
        self.add_agent(&info, &capabilities, resources(total), used);
    }

    fn subscribe(&mut self, id: &str, names: &[&str]) {
        self.set_framework(id, &framework_info(names), BTreeSet::new(), None).unwrap();
    }

    fn at(&mut self, seconds: u64) -> Vec<Allocation> {
        self.allocate(Duration::from_secs(seconds), None)
    }
}

fn count(given: &[Allocation], is: impl Fn(&Allocation) -> bool) -> usize {
    given.iter().filter(|allocation| is(allocation)).count()
}

#[test]
fn agents_go_to_the_framework_with_the_smaller_share() {
    let mut allocator = Allocator::default();
    for agent in ["a1", "a2", "a3", "a4"] {
        allocator.agent(agent, "cpus:4;mem:1024", &[]);
    }
    allocator.subscribe("f1", &["r"]);
    allocator.subscribe("f2", &["r"]);
    let given = allocator.at(0);
    let of = |framework: &str| count(&given, |allocation| allocation.framework == framework);
    assert_eq!((of("f1"), of("f2")), (2, 2));
    assert!(allocator.at(0).is_empty());
}

#[test]
fn what_was_refused_comes_back_after_its_time_or_when_it_grew() {
    let mut allocator = Allocator::default();
    allocator.agent("a", "cpus:4;mem:1024", &[]);
    allocator.subscribe("f", &["r"]);
    let all = allocator.at(0).remove(0).resources;
    let part = resources("cpus:2;mem:512");
    let mut rest = all.clone();
    rest.subtract(&part);
    allocator.recover("f", "r", "a", &rest, Some(Duration::from_secs(5)));
    assert!(allocator.at(1).is_empty(), "refused");
    assert!(allocator.at(2).is_empty(), "still");
    assert_eq!(allocator.at(5).len(), 1, "the filter ended");
    allocator.recover("f", "r", "a", &rest, Some(Duration::from_secs(50)));
    allocator.recover("f", "r", "a", &part, None);
    assert_eq!(allocator.at(6).len(), 1, "more than was refused");
    allocator.recover("f", "r", "a", &all, Some(Duration::from_secs(500)));
    assert!(allocator.at(7).is_empty());
    allocator.revive("f", &[]);
    assert_eq!(allocator.at(7).len(), 1, "revived");
}

#[test]
fn suppressed_and_inactive_frameworks_get_nothing() {
    let mut allocator = Allocator::default();
    allocator.agent("a", "cpus:4;mem:1024", &[]);
    allocator.set_framework("f", &framework_info(&["r", "s"]), roles(&["r", "s"]), None).unwrap();
    assert!(allocator.at(0).is_empty());
    allocator.revive("f", &["s".to_owned()]);
    let given = allocator.at(0).remove(0);
    assert_eq!(given.role, "s", "revived by role");
    allocator.recover("f", "s", "a", &given.resources, None);
    allocator.deactivate_framework("f");
    assert!(allocator.at(0).is_empty());
}

#[test]
fn an_agent_that_comes_back_is_not_counted_twice() {
    let mut allocator = Allocator::default();
    let used = [("f1".to_owned(), "r".to_owned(), resources("cpus:1;mem:256"))];
    for _ in 0..3 {
        allocator.agent("a1", "cpus:4;mem:1024", &used);
    }
    assert_eq!(allocator.given_unreserved("r").get("cpus"), 1000);
    assert_eq!(allocator.tree.total().get("cpus"), 4000);
    assert_eq!(allocator.free("a1").to_string(), "cpus:3; mem:768");
    allocator.remove_agent("a1");
    assert!(allocator.given_unreserved("r").is_empty());
    assert_eq!(allocator.tree.total().get("cpus"), 0);
}

#[test]
fn a_role_with_more_weight_gets_more() {
    let mut allocator = Allocator::default();
    for agent in 0..9 {
        allocator.agent(&format!("a{agent}"), "cpus:1;mem:128", &[]);
    }
    allocator.subscribe("f1", &["light"]);
    allocator.subscribe("f2", &["heavy"]);
    allocator.set_weight("heavy", 2.0);
    let given = allocator.at(0);
    let of = |role: &str| count(&given, |allocation| allocation.role == role);
    assert_eq!((of("light"), of("heavy")), (3, 6));
}

#[test]
fn roles_below_a_role_share_its_part() {
    let mut allocator = Allocator::default();
    for agent in 0..12 {
        allocator.agent(&format!("a{agent}"), "cpus:1;mem:128", &[]);
    }
    for (framework, role) in [("f1", "a"), ("f2", "a/b"), ("f3", "a/c"), ("f4", "d")] {
        allocator.subscribe(framework, &[role]);
    }
    let given = allocator.at(0);
    let of = |role: &str| count(&given, |allocation| allocation.role == role);
    assert_eq!([of("a"), of("a/b"), of("a/c"), of("d")], [2, 2, 2, 6]);
}

#[test]
fn excluded_resources_do_not_count_for_fairness() {
    let options = Options { excluded: roles(&["gpus"]), filter_gpus: false, ..Options::default() };
    let mut allocator = Allocator::new(options, [1; 32]);
    let used = [("f1".to_owned(), "r".to_owned(), resources("gpus:8"))];
    allocator.agent("a0", "cpus:1;mem:128;gpus:8", &used);
    for agent in 1..4 {
        allocator.agent(&format!("a{agent}"), "cpus:1;mem:128", &[]);
    }
    allocator.subscribe("f1", &["r"]);
    allocator.subscribe("f2", &["r"]);
    let given = allocator.at(0);
    assert_eq!(count(&given, |allocation| allocation.framework == "f1"), 2);
}

#[test]
fn limits_are_kept_and_guarantees_are_held_back() {
    let mut allocator = Allocator::default();
    allocator.set_quota("bounded", quota("", "cpus:3"));
    allocator.set_quota("absent", quota("cpus:4", ""));
    for agent in 0..10 {
        allocator.agent(&format!("a{agent}"), "cpus:1;mem:128", &[]);
    }
    allocator.subscribe("f1", &["bounded"]);
    let given = allocator.at(0);
    let cpus: f64 = given.iter().map(|allocation| allocation.resources.cpus()).sum();
    assert_eq!(cpus, 3.0);
    allocator.subscribe("f2", &["greedy"]);
    let more: f64 = allocator.at(0).iter().map(|allocation| allocation.resources.cpus()).sum();
    assert_eq!(more, 3.0, "four are kept for the role without frameworks");
    allocator.subscribe("f3", &["absent"]);
    let given = allocator.at(0);
    let cpus: f64 = given.iter().map(|allocation| allocation.resources.cpus()).sum();
    assert_eq!(cpus, 4.0);
    assert!(given.iter().all(|allocation| allocation.role == "absent"));
}

#[test]
fn reservations_count_as_consumed() {
    let mut allocator = Allocator::default();
    allocator.set_quota("r", quota("", "cpus:3"));
    allocator.agent("a", "cpus(r):2;mem(r):64;cpus:6;mem:512", &[]);
    allocator.subscribe("f", &["r"]);
    let given = allocator.at(0).remove(0).resources;
    assert_eq!(given.cpus(), 3.0, "two that are reserved and one more");
}

#[test]
fn after_a_failover_offers_wait_for_agents_only_if_there_are_quotas() {
    let mut allocator = Allocator::default();
    allocator.wait_for_agents(Duration::ZERO, 10);
    allocator.agent("a", "cpus:1;mem:128", &[]);
    allocator.subscribe("f", &["r"]);
    assert_eq!(allocator.at(0).len(), 1);
    let mut allocator = Allocator::default();
    allocator.set_quota("q", quota("cpus:1", ""));
    allocator.wait_for_agents(Duration::ZERO, 3);
    allocator.subscribe("f", &["q"]);
    allocator.agent("a", "cpus:1;mem:128", &[]);
    assert!(allocator.at(1).is_empty());
    assert_eq!(allocator.at(600).len(), 1, "not for ever");
    allocator.wait_for_agents(Duration::ZERO, 3);
    allocator.agent("b", "cpus:1;mem:128", &[]);
    assert_eq!(allocator.at(1).len(), 1, "two of three are enough");
}

#[test]
fn only_who_can_use_it_is_offered_what_is_special() {
    let options = Options { region: Some("here".to_owned()), ..Options::default() };
    let mut allocator = Allocator::new(options, [1; 32]);
    allocator.agent("gpu", "cpus:1;mem:128;gpus:1", &[]);
    allocator.subscribe("f", &["r"]);
    assert!(allocator.at(0).is_empty(), "GPUs");
    allocator.remove_agent("gpu");
    let domain: v1::DomainInfo = mesos::json::from_slice(
        br#"{"fault_domain":{"region":{"name":"there"},"zone":{"name":"z"}}}"#,
        mesos::json::Dialect::V1,
    )
    .unwrap();
    let info = v1::AgentInfo {
        id: Some(v1::AgentId { value: "far".to_owned() }),
        domain: Some(domain),
        ..Default::default()
    };
    let multi_role = v1::agent_info::Capability { r#type: Some(AgentCapability::MultiRole as i32) };
    allocator.add_agent(&info, &[multi_role], resources("cpus:1;mem:128"), &[]);
    assert!(allocator.at(0).is_empty(), "another region");
    let mut aware = framework_info(&["r"]);
    aware
        .capabilities
        .push(v1::framework_info::Capability { r#type: Some(Capability::RegionAware as i32) });
    allocator.set_framework("f", &aware, BTreeSet::new(), None).unwrap();
    assert_eq!(allocator.at(0).len(), 1);
    allocator.agent("old", "cpus:1;mem:128", &[]);
    allocator.subscribe("g", &["x/y"]);
    allocator.suppress("f", &[]);
    assert_eq!(allocator.at(0).len(), 1, "an agent that knows roles below others");
}

#[test]
fn a_random_sorter_gives_everybody_something() {
    let options = Options {
        role_sorter: Sorter::Random,
        framework_sorter: Sorter::Random,
        ..Options::default()
    };
    let mut allocator = Allocator::new(options, [3; 32]);
    for agent in 0..300 {
        allocator.agent(&format!("a{agent}"), "cpus:1;mem:128", &[]);
    }
    allocator.subscribe("f1", &["light"]);
    allocator.subscribe("f2", &["heavy"]);
    allocator.set_weight("heavy", 3.0);
    let given = allocator.at(0);
    let heavy = count(&given, |allocation| allocation.role == "heavy");
    assert!((180..270).contains(&heavy), "{heavy} of 300 with three quarters of the weight");
}

/// What dominant resource fairness over equal frameworks of one role gives, dealt agent by agent in any order.
fn brute_force(agents: &[(i64, i64)], frameworks: usize) -> f64 {
    let total = agents.iter().fold((0, 0), |sum, own| (sum.0 + own.0, sum.1 + own.1));
    let largest = agents
        .iter()
        .map(|own| (own.0 as f64 / total.0 as f64).max(own.1 as f64 / total.1 as f64))
        .fold(0.0, f64::max);
    if frameworks < 2 { 1.0 } else { largest }
}

#[derive(Debug, Clone)]
enum Step {
    Round,
    Recover(usize, bool),
    AddAgent(u8, bool),
    RemoveAgent(u8),
    Suppress(u8),
    Revive(u8),
    RemoveFramework(u8),
    Subscribe(u8),
    Quota(u8, u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Round),
        6 => (any::<usize>(), any::<bool>()).prop_map(|(at, refuse)| Step::Recover(at, refuse)),
        4 => (0u8..6, any::<bool>()).prop_map(|(agent, reserved)| Step::AddAgent(agent, reserved)),
        1 => (0u8..6).prop_map(Step::RemoveAgent),
        1 => (0u8..4).prop_map(Step::Suppress),
        1 => (0u8..4).prop_map(Step::Revive),
        1 => (0u8..4).prop_map(Step::RemoveFramework),
        3 => (0u8..4).prop_map(Step::Subscribe),
        1 => (0u8..3, 0u8..8).prop_map(|(role, cpus)| Step::Quota(role, cpus)),
    ];
    proptest::collection::vec(step, 1..60)
}

const ROLES: [&str; 3] = ["a", "a/b", "c"];

proptest! {
    #[test]
    fn shares_differ_by_one_agent_at_most(sizes in proptest::collection::vec((1i64..5, 1i64..5), 1..12), frameworks in 1usize..5) {
        let mut allocator = Allocator::default();
        for (at, (cpus, mem)) in sizes.iter().enumerate() {
            allocator.agent(&format!("a{at}"), &format!("cpus:{cpus};mem:{}", mem * 128), &[]);
        }
        for framework in 0..frameworks {
            allocator.subscribe(&format!("f{framework}"), &["r"]);
        }
        let given = allocator.at(0);
        prop_assert_eq!(given.len(), sizes.len());
        let total: Resources = given.iter().map(|allocation| &allocation.resources).sum();
        let share = |framework: usize| {
            let name = format!("f{framework}");
            let own: Resources = given.iter().filter(|allocation| allocation.framework == name).map(|allocation| &allocation.resources).sum();
            (own.cpus() / total.cpus()).max(own.mem() / total.mem())
        };
        let shares: Vec<f64> = (0..frameworks).map(share).collect();
        let (least, most) = shares.iter().fold((f64::MAX, 0.0f64), |(least, most), share| (least.min(*share), most.max(*share)));
        // Whoever has more than another by more than one agent would not have got its last.
        prop_assert!(most - least <= brute_force(&sizes, frameworks) + 1e-9, "{shares:?}");
    }

    #[test]
    fn nothing_is_given_twice_nor_beyond_limits_whatever_happens(steps in steps()) {
        let mut allocator = Allocator::default();
        let mut given: Vec<Allocation> = Vec::new();
        let mut totals: BTreeMap<String, Resources> = BTreeMap::new();
        let mut limits: BTreeMap<&str, f64> = BTreeMap::new();
        for (now, step) in steps.into_iter().enumerate() {
            match step {
                Step::Round => {
                    let new = allocator.at(now as u64);
                    for allocation in &new {
                        prop_assert!(!allocation.resources.is_empty());
                        for (reserved, _) in allocation.resources.reservations() {
                            let role = &allocation.role;
                            prop_assert!(reserved == *role || mesos::roles::is_below(role, &reserved));
                        }
                        let top = allocation.role.split('/').next().unwrap_or_default();
                        if let Some(limit) = limits.get(top) {
                            let unreserved = allocator.given_unreserved(top).get("cpus") as f64 / 1000.0;
                            prop_assert!(unreserved <= limit.max(unreserved - allocation.resources.unreserved().cpus()) + 1e-9);
                        }
                    }
                    given.extend(new);
                }
                Step::Recover(at, refuse) if !given.is_empty() => {
                    let own = given.swap_remove(at % given.len());
                    let until = refuse.then(|| Duration::from_secs(now as u64 + 3));
                    allocator.recover(&own.framework, &own.role, &own.agent, &own.resources, until);
                }
                Step::AddAgent(agent, reserved) => {
                    let id = format!("a{agent}");
                    if let std::collections::btree_map::Entry::Vacant(new) = totals.entry(id.clone()) {
                        let text = if reserved {
                            "cpus:4;mem:512;cpus(a):1;mem(c):64"
                        } else {
                            "cpus:4;mem:512"
                        };
                        allocator.agent(&id, text, &[]);
                        new.insert(resources(text));
                    }
                }
                Step::RemoveAgent(agent) => {
                    let id = format!("a{agent}");
                    allocator.remove_agent(&id);
                    totals.remove(&id);
                    given.retain(|own| own.agent != id);
                }
                Step::Suppress(framework) => allocator.suppress(&format!("f{framework}"), &[]),
                Step::Revive(framework) => allocator.revive(&format!("f{framework}"), &[]),
                Step::RemoveFramework(framework) => {
                    let id = format!("f{framework}");
                    allocator.remove_framework(&id);
                    given.retain(|own| own.framework != id);
                }
                Step::Subscribe(framework) => {
                    let own = [ROLES[framework as usize % 3], ROLES[(framework as usize + 1) % 3]];
                    allocator.subscribe(&format!("f{framework}"), &own);
                }
                Step::Quota(role, cpus) => {
                    let role = ["a", "c", "c"][role as usize];
                    let limit = f64::from(cpus);
                    if cpus == 0 {
                        allocator.set_quota(role, Quota::default());
                        limits.remove(role);
                    } else {
                        allocator.set_quota(role, quota(&format!("cpus:{}", limit / 2.0), &format!("cpus:{limit}")));
                        limits.insert(role, limit);
                    }
                }
                Step::Recover(..) => {}
            }
            for (agent, total) in &totals {
                let held: Resources = given.iter().filter(|own| own.agent == *agent).map(|own| &own.resources).sum();
                prop_assert!(total.contains(&held), "{agent}: {held} of {total}");
                let mut whole = held;
                whole.add(&allocator.free(agent));
                prop_assert!(whole.contains(total) && total.contains(&whole), "{agent}: {whole} of {total}");
            }
        }
    }
}
