//! Dominant resource fairness as its definition says, by brute force: every share anew, from nothing but a list of who
//! holds what. The allocator must make the same choice each time.

use super::*;

/// Thousandths of CPUs and of MB.
type Amount = [i64; 2];

const ROLES: [&str; 5] = ["a", "a/b", "a/b/c", "a/d", "e"];

#[derive(Debug, Clone)]
struct Held {
    framework: String,
    role: String,
    agent: String,
    amount: Amount,
}

#[derive(Debug, Default)]
struct Reference {
    agents: BTreeMap<String, Amount>,
    subscribed: BTreeSet<(String, String)>,
    weights: BTreeMap<String, f64>,
    held: Vec<Held>,
    /// Each time that something was given, to whom in which role.
    given: Vec<(String, String)>,
    /// What was refused, and until when.
    refused: Vec<(Held, u64)>,
}

fn amount(resources: &Resources) -> Amount {
    let quantities = Quantities::of(resources);
    [quantities.get("cpus"), quantities.get("mem")]
}

fn is_within(role: &str, above: &str) -> bool {
    role == above || mesos::roles::is_below(role, above)
}

impl Reference {
    fn share(&self, is_own: impl Fn(&Held) -> bool) -> f64 {
        let of = |kind: usize| {
            let total: i64 = self.agents.values().map(|own| own[kind]).sum();
            let held: i64 =
                self.held.iter().filter(|held| is_own(held)).map(|held| held.amount[kind]).sum();
            if total > 0 { held as f64 / total as f64 } else { 0.0 }
        };
        of(0).max(of(1))
    }

    fn times(&self, is_own: impl Fn(&str, &str) -> bool) -> usize {
        self.given.iter().filter(|(framework, role)| is_own(framework, role)).count()
    }

    /// Roles from one on in the order of their turns: its own frameworks count as one more role below it.
    fn turns(&self, role: &str, into: &mut Vec<String>) {
        let mut below: Vec<(f64, usize, String)> = ROLES
            .iter()
            .filter(|own| match own.rsplit_once('/') {
                Some((parent, _)) => parent == role,
                None => role.is_empty(),
            })
            .map(|own| {
                let weight = self.weights.get(*own).copied().unwrap_or(1.0);
                let share = self.share(|held| is_within(&held.role, own)) / weight;
                (share, self.times(|_, role| is_within(role, own)), (*own).to_owned())
            })
            .collect();
        if !role.is_empty() {
            let own = self.share(|held| held.role == role);
            below.push((own, self.times(|_, given| given == role), format!("{role}/.")));
        }
        below.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| (a.1, &a.2).cmp(&(b.1, &b.2))));
        for (_, _, name) in below {
            match name.strip_suffix("/.") {
                Some(own) => into.push(own.to_owned()),
                None => self.turns(&name, into),
            }
        }
    }

    fn free(&self, agent: &str) -> Amount {
        self.held
            .iter()
            .filter(|held| held.agent == agent)
            .fold(self.agents[agent], |free, held| {
                [free[0] - held.amount[0], free[1] - held.amount[1]]
            })
    }

    /// Who gets what is free on an agent.
    fn choice(&self, now: u64, agent: &str) -> Option<(String, String)> {
        let free = self.free(agent);
        if free[0] < 10 && free[1] < 32_000 {
            return None; // `--min_allocatable_resources`
        }
        let mut roles = Vec::new();
        self.turns("", &mut roles);
        roles.into_iter().find_map(|role| {
            let all = self.subscribed.iter().filter(|(_, own)| *own == role);
            let is_refused = |framework: &String| {
                self.refused.iter().any(|(refused, until)| {
                    (&refused.framework, &refused.role) == (framework, &role)
                        && refused.agent == agent
                        && now < *until
                        && free[0] <= refused.amount[0]
                        && free[1] <= refused.amount[1]
                })
            };
            let (framework, _) = all
                .filter(|(framework, _)| !is_refused(framework))
                .map(|(framework, _)| {
                    let share =
                        self.share(|held| (&held.framework, &held.role) == (framework, &role));
                    let times = self.times(|own, given| own == framework && given == role);
                    (framework, (share, times))
                })
                .min_by(|(a, own), (b, other)| {
                    own.0.total_cmp(&other.0).then_with(|| (own.1, a).cmp(&(other.1, b)))
                })?;
            Some((framework.clone(), role))
        })
    }
}

#[derive(Debug, Clone)]
enum Step {
    Agent(i64, i64),
    Subscribe(u8, usize),
    Weight(usize, u8),
    Round,
    /// Gives back what was given, or half of it, and refuses it for some time or not.
    Recover(usize, bool, Option<u64>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1i64..6, 1i64..6).prop_map(|(cpus, mem)| Step::Agent(cpus, mem)),
        2 => (0u8..4, 0..ROLES.len()).prop_map(|(framework, role)| Step::Subscribe(framework, role)),
        1 => (0..ROLES.len(), 1u8..9).prop_map(|(role, weight)| Step::Weight(role, weight)),
        4 => Just(Step::Round),
        6 => (any::<usize>(), any::<bool>(), proptest::option::of(1u64..8))
            .prop_map(|(at, half, refused)| Step::Recover(at, half, refused)),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    #[test]
    fn the_allocator_chooses_as_dominant_resource_fairness_is_defined(steps in steps()) {
        let mut allocator = Allocator::default();
        let mut reference = Reference::default();
        for (now, step) in steps.into_iter().enumerate() {
            let now = now as u64;
            match step {
                Step::Agent(cpus, mem) => {
                    let id = format!("a{}", reference.agents.len());
                    let text = format!("cpus:{cpus};mem:{}", mem * 256);
                    allocator.agent(&id, &text, &[]);
                    reference.agents.insert(id, amount(&resources(&text)));
                }
                Step::Subscribe(framework, role) => {
                    let name = format!("f{framework}");
                    reference.subscribed.insert((name.clone(), ROLES[role].to_owned()));
                    let own = reference.subscribed.iter().filter(|(own, _)| *own == name);
                    allocator.subscribe(&name, &own.map(|(_, role)| role.as_str()).collect::<Vec<_>>());
                }
                Step::Weight(role, weight) => {
                    let weight = f64::from(weight) / 2.0;
                    allocator.set_weight(ROLES[role], weight);
                    reference.weights.insert(ROLES[role].to_owned(), weight);
                }
                Step::Round => {
                    // In the order in which agents were dealt, which is drawn.
                    for allocation in allocator.at(now) {
                        let own = (allocation.framework.clone(), allocation.role.clone());
                        prop_assert_eq!(reference.choice(now, &allocation.agent), Some(own.clone()));
                        prop_assert_eq!(amount(&allocation.resources), reference.free(&allocation.agent));
                        reference.given.push(own);
                        reference.held.push(Held {
                            framework: allocation.framework,
                            role: allocation.role,
                            agent: allocation.agent,
                            amount: amount(&allocation.resources),
                        });
                    }
                    for agent in reference.agents.keys() {
                        prop_assert_eq!(reference.choice(now, agent), None, "nothing on {}", agent);
                    }
                }
                Step::Recover(at, half, refused) if !reference.held.is_empty() => {
                    let at = at % reference.held.len();
                    let back = reference.held[at].clone();
                    let part = if half { back.amount.map(|own| own / 2) } else { back.amount };
                    let back = Held { amount: part, ..back };
                    let [cpus, mem] = part.map(|own| own as f64 / 1000.0);
                    let text = format!("cpus:{cpus};mem:{mem}");
                    let until = refused.map(|seconds| now + seconds);
                    allocator.recover(&back.framework, &back.role, &back.agent, &resources(&text), until.map(Duration::from_secs));
                    let own = &mut reference.held[at];
                    own.amount = [own.amount[0] - part[0], own.amount[1] - part[1]];
                    if own.amount == [0, 0] {
                        reference.held.remove(at);
                    }
                    if let Some(until) = until.filter(|_| part != [0, 0]) {
                        reference.refused.push((back, until));
                    }
                }
                Step::Recover(..) => {}
            }
        }
    }
}
