//! Masters with their replicated log, agents with their checkpoints, executors and frameworks: the real cores of all
//! that is ours, on a network that loses, delays and reorders between connections, on hosts that crash, pause and whose
//! clocks jump, under a ZooKeeper that elects another master.
//!
//! What holds all along is in [`checks`]; what must come to be once faults have ended is in [`ending`]. Executors,
//! frameworks and operators follow scripts that the seed writes. `SEED=n` runs one history alone, `SEEDS=n` so many.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a history that is run alone is told")]

mod agents;
mod checks;
mod ending;
mod executors;
mod faults;
mod frameworks;
mod masters;
mod operator;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use mesos::libprocess::inbound::Header;
use mesos::v1::scheduler::{Call, Event, call};
use replicated_log::message::Envelope;
use sim::network::{Arrival, Pace, Place};
use sim::{Agenda, Network, Random, histories};
use uuid::Uuid;

use agents::AgentHost;
use checks::Checks;
use executors::Doing;
use frameworks::Scheduler;
use masters::MasterHost;

const MASTERS: usize = 3;
/// Histories in a run of all tests.
const HISTORIES: u64 = 240;
/// How often everybody looks at the time, in milliseconds.
const TICK: u64 = 200;
/// When faults end.
const TROUBLE: u64 = 90_000;
const CALM: Pace = Pace { usual: 5, rare: 20, rarely: 50 };
const ROUGH: Pace = Pace { usual: 30, rare: 1500, rarely: 40 };

/// What goes over the network.
enum Wire {
    Message(Header, Vec<u8>),
    Log(Box<Envelope>),
    Subscribe(Uuid, Box<call::Subscribe>),
    Call(Uuid, Box<Call>),
    Event(Uuid, Box<Event>),
    Closed(Uuid),
}

/// What happens.
enum Happening {
    Tick,
    Arrives(Arrival),
    /// A process hears that its connection to another broke: which one, in which of its lives, to where.
    Exited(Place, u64, Place),
    /// A process looks who leads.
    Looks(Place),
    /// A master's ZooKeeper session is over, for ZooKeeper or for itself.
    Expires(Place, u64),
    Loses(Place, u64),
    Starts(Place),
    /// Something of a container or its executor, on an agent's host.
    Container(Place, String, Doing),
}

/// The ZooKeeper that elects masters.
#[derive(Default)]
struct ZooKeeper {
    /// Contenders with their lives, the leader first.
    queue: Vec<(Place, u64)>,
    /// Who can't reach it.
    away: Vec<Place>,
}

struct World {
    random: Random,
    agenda: Agenda<Happening>,
    network: Network<Wire>,
    zookeeper: ZooKeeper,
    masters: Vec<MasterHost>,
    agents: Vec<AgentHost>,
    schedulers: Vec<Scheduler>,
    checks: Checks,
    is_calm: bool,
    /// What each host's wall clock is off, in seconds.
    skew: BTreeMap<Place, f64>,
    told: bool,
}

fn address(place: Place) -> SocketAddr {
    ([10, 0, 0, place as u8 + 1], 5050).into()
}

fn place_of(address: SocketAddr) -> Place {
    match address.ip() {
        std::net::IpAddr::V4(ip) => ip.octets()[3] as usize - 1,
        std::net::IpAddr::V6(_) => unreachable!("no such address is given out"),
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let agents = random.between(1, 4) as usize;
        let frameworks = random.between(1, 4) as usize;
        let mut world = Self {
            agenda: Agenda::default(),
            network: Network::new(CALM),
            zookeeper: ZooKeeper::default(),
            masters: (0..MASTERS).map(|_| MasterHost::default()).collect(),
            agents: (0..agents).map(|_| AgentHost::new()).collect(),
            schedulers: (0..frameworks).map(|index| Scheduler::new(index, &mut random)).collect(),
            checks: Checks::default(),
            is_calm: false,
            skew: BTreeMap::new(),
            told: std::env::var("SEED").is_ok(),
            random,
        };
        for place in 0..MASTERS + agents + frameworks {
            let delay = world.random.below(2000);
            world.agenda.after(delay, Happening::Starts(place));
        }
        world.agenda.after(TICK, Happening::Tick);
        world
    }

    fn now(&self) -> u64 {
        self.agenda.now()
    }

    fn wall(&self, place: Place) -> f64 {
        1e9 + self.now() as f64 / 1000.0 + self.skew.get(&place).copied().unwrap_or_default()
    }

    fn mono(&self, started: u64) -> Duration {
        Duration::from_millis(self.now() - started)
    }

    fn uuid(&mut self) -> Uuid {
        let (high, low) = (self.random.number(), self.random.number());
        uuid::Builder::from_random_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
            .into_uuid()
    }

    /// Tells what happens, when one history is run alone.
    fn tell(&self, text: impl FnOnce() -> String) {
        if self.told {
            println!("{:>7} {}", self.now(), text());
        }
    }

    fn send(&mut self, from: Place, to: Place, wire: Wire) {
        let now = self.now();
        let (at, arrival) = self.network.send(&mut self.random, now, from, to, wire);
        self.agenda.at(at, Happening::Arrives(arrival));
    }

    /// A connection breaks; what is under way on it is lost, and its sender hears of it.
    fn breaks(&mut self, from: Place, to: Place) {
        if self.network.break_off(from, to) {
            let delay = self.random.between(1, 300);
            let life = self.life(from);
            self.agenda.after(delay, Happening::Exited(from, life, to));
        }
    }

    fn agent_place(index: usize) -> Place {
        MASTERS + index
    }

    fn scheduler_place(&self, index: usize) -> Place {
        MASTERS + self.agents.len() + index
    }

    fn life(&self, place: Place) -> u64 {
        if place < MASTERS {
            self.masters[place].life
        } else {
            self.agents.get(place - MASTERS).map_or(0, |agent| agent.life)
        }
    }

    fn is_up(&self, place: Place) -> bool {
        if place < MASTERS {
            self.masters[place].is_up()
        } else if let Some(agent) = self.agents.get(place - MASTERS) {
            agent.agent.is_some()
        } else {
            self.schedulers[place - MASTERS - self.agents.len()].is_up
        }
    }

    fn paused_until(&self, place: Place) -> u64 {
        if place < MASTERS {
            self.masters[place].paused_until
        } else {
            self.agents.get(place - MASTERS).map_or(0, |agent| agent.paused_until)
        }
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Tick => self.tick(),
            Happening::Arrives(arrival) => self.arrives(arrival),
            Happening::Exited(place, life, peer) => {
                if self.life(place) != life || !self.is_up(place) {
                    return;
                }
                if self.paused_until(place) > self.now() {
                    self.agenda.at(self.paused_until(place), Happening::Exited(place, life, peer));
                } else if place < MASTERS {
                    self.master_exited(place, peer);
                } else if place - MASTERS < self.agents.len() {
                    self.agent_exited(place - MASTERS, peer);
                } else {
                    self.scheduler_exited(place - MASTERS - self.agents.len(), peer);
                }
            }
            Happening::Looks(place) => self.looks(place),
            Happening::Expires(place, life) => self.expires(place, life),
            Happening::Loses(place, life) => {
                if self.life(place) == life && self.masters[place].is_up() {
                    self.tell(|| format!("master {place} hears that it lost its leadership"));
                    self.crash_master(place);
                }
            }
            Happening::Starts(place) if self.is_up(place) => {}
            Happening::Starts(place) => {
                if place < MASTERS {
                    self.start_master(place);
                } else if place - MASTERS < self.agents.len() {
                    self.start_agent(place - MASTERS);
                } else {
                    self.start_scheduler(place - MASTERS - self.agents.len());
                }
            }
            Happening::Container(place, container, doing) => {
                self.container(place - MASTERS, container, doing);
            }
        }
    }

    fn arrives(&mut self, arrival: Arrival) {
        let Some((from, to)) = self.network.ends(arrival) else { return };
        let until = self.paused_until(to);
        if until > self.now() {
            self.agenda.at(until, Happening::Arrives(arrival));
            return;
        }
        let Some((from, to, wire)) = self.network.arrive(arrival).filter(|_| from != to) else {
            return;
        };
        if !self.is_up(to) {
            // Nobody listens there.
            self.breaks(from, to);
            return;
        }
        if to < MASTERS {
            self.master_hears(to, from, wire);
        } else if to - MASTERS < self.agents.len() {
            if let Wire::Message(header, body) = wire {
                self.agent_hears(to - MASTERS, header, &body);
            }
        } else {
            self.scheduler_hears(to - MASTERS - self.agents.len(), from, wire);
        }
    }

    fn tick(&mut self) {
        self.agenda.after(TICK, Happening::Tick);
        for index in 0..MASTERS {
            if self.masters[index].paused_until <= self.now() {
                self.tick_master(index);
            }
        }
        for index in 0..self.agents.len() {
            if self.agents[index].paused_until <= self.now() {
                self.tick_agent(index);
            }
        }
        for index in 0..self.schedulers.len() {
            self.tick_scheduler(index);
        }
        if self.is_calm {
            return;
        }
        self.trouble();
        self.operate();
    }

    fn run_until(&mut self, time: u64) {
        while self.now() < time {
            let happening = self.agenda.take().expect("time goes on");
            self.happens(happening);
        }
    }

    fn run(&mut self) {
        self.network.pace = ROUGH;
        self.run_until(TROUBLE);
        self.end_trouble();
        self.settle();
    }
}

#[test]
fn nothing_is_lost_or_given_twice_and_all_settles_once_faults_end() {
    let wanted = histories::wanted(HISTORIES);
    let seen = histories::run(wanted.clone(), |seed| {
        let mut world = World::new(seed);
        world.run();
        world.checks.seen
    });
    let mut sum: BTreeMap<&str, u64> = BTreeMap::new();
    for (what, count) in seen.iter().flatten() {
        *sum.entry(what).or_default() += count;
    }
    println!("{} histories: {sum:?}", seen.len());
    // A simulation in which nothing happens would prove nothing.
    let count = wanted.end - wanted.start;
    if count >= 100 {
        for what in checks::EXPECTED {
            let often = sum.get(what).copied().unwrap_or_default();
            assert!(often > count / 10, "too tame: {what} {often} times: {sum:?}");
        }
    }
}
