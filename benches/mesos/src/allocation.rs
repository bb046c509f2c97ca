//! One round of the allocator over many agents and frameworks, without sockets.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use mesos::resources::Resources;
use mesos::v1;

use crate::report::{Report, Target};
use master::core::allocator::{Allocation, Allocator, Options};

const FRAMEWORKS: usize = 200;
const ROLES: usize = 20;

/// Measures 10,000 agents and, for the growth, 50,000.
pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    let mut whole = Vec::new();
    for agents in [10_000, 50_000] {
        let times = rounds(agents)?;
        let title =
            |what: &str| format!("round over {agents} agents, {FRAMEWORKS} frameworks: {what}");
        let target = if agents == 10_000 { Target::AtMost(50.0) } else { Target::None };
        report.add(title("all is free"), "ms", times.free, None, target)?;
        report.add(title("nothing is free"), "ms", times.full, None, target)?;
        report.add(title("a tenth came back"), "ms", times.tenth, None, target)?;
        let refused = "all was refused by all";
        report.add(title(refused), "ms", times.refused, None, target)?;
        report.add("… the first such round", "ms", times.first, None, Target::None)?;
        whole.push(times.free.max(times.refused));
    }
    report.add("growth from 10,000 to 50,000 agents", "×", whole[1] / whole[0], None, Target::None)
}

struct Times {
    free: f64,
    full: f64,
    tenth: f64,
    first: f64,
    refused: f64,
}

fn rounds(agents: usize) -> anyhow::Result<Times> {
    use v1::agent_info::{Capability, capability::Type as OfAgent};
    use v1::framework_info::capability::Type;
    // Frameworks of several roles are offered only agents that know them.
    let capabilities = [Capability { r#type: Some(OfAgent::MultiRole as i32) }];
    let mut allocator = Allocator::new(Options::default(), [1; 32]);
    let total = Resources::parse("cpus:16;mem:65536;disk:100000;ports:[31000-32000]", "*")?;
    for agent in 0..agents {
        let info = v1::AgentInfo {
            hostname: format!("agent{agent}.example"),
            id: Some(v1::AgentId { value: format!("0b0e-S{agent}") }),
            resources: total.to_protos(),
            ..Default::default()
        };
        allocator.add_agent(&info, &capabilities, total.clone(), &[]);
    }
    for framework in 0..FRAMEWORKS {
        let info = v1::FrameworkInfo {
            user: "root".to_owned(),
            name: format!("framework{framework}"),
            roles: vec![format!("role{}", framework % ROLES)],
            capabilities: vec![v1::framework_info::Capability {
                r#type: Some(Type::MultiRole as i32),
            }],
            ..Default::default()
        };
        allocator
            .set_framework(&format!("0b0e-{framework:04}"), &info, BTreeSet::new(), None)
            .map_err(anyhow::Error::msg)?;
    }
    let mut now = Duration::from_secs(1);
    let mut round = |allocator: &mut Allocator| {
        now += Duration::from_secs(1);
        let began = Instant::now();
        let given = allocator.allocate(now, None);
        (began.elapsed().as_secs_f64() * 1e3, given, now)
    };
    // Others use the machine, too: the quickest of a few rounds is what it takes.
    let (mut free, mut given) = (f64::MAX, Vec::new());
    for _ in 0..5 {
        for one in &given {
            let one: &Allocation = one;
            allocator.recover(&one.framework, &one.role, &one.agent, &one.resources, None);
        }
        let (took, all, _) = round(&mut allocator);
        (free, given) = (free.min(took), all);
        anyhow::ensure!(given.len() == agents, "{} of {agents} agents were given out", given.len());
    }
    let (full, ..) = round(&mut allocator);
    for one in given.iter().step_by(10) {
        allocator.recover(&one.framework, &one.role, &one.agent, &one.resources, None);
    }
    let (tenth, again, _) = round(&mut allocator);
    // Everybody refuses everything, for long.
    let later = Some(Duration::from_secs(100_000));
    let returned = given.iter().enumerate().filter(|(at, _)| at % 10 != 0).map(|(_, one)| one);
    for one in returned.chain(&again) {
        allocator.recover(&one.framework, &one.role, &one.agent, &one.resources, None);
    }
    for agent in 0..agents {
        let agent = format!("0b0e-S{agent}");
        for framework in 0..FRAMEWORKS {
            let role = format!("role{}", framework % ROLES);
            allocator.recover(&format!("0b0e-{framework:04}"), &role, &agent, &total, later);
        }
    }
    let (first, given, _) = round(&mut allocator);
    anyhow::ensure!(given.is_empty(), "{} agents were given out again", given.len());
    let refused = (0..5).map(|_| round(&mut allocator).0).fold(f64::MAX, f64::min);
    Ok(Times { free, full, tenth, first, refused })
}
