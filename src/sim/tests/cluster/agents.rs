//! Hosts of agents: the core, its files, and what the shell does for them. Writes of a batch may be cut by a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use agent::checkpoint::{self, Batch, found};
use agent::core::{Agent, Effect, Now, Settings, StreamId};
use mesos::internal as m;
use mesos::libprocess::Upid;
use mesos::libprocess::inbound::Header;
use mesos::resources::Resources;
use mesos::v1;
use prost::{Message as _, Name as _};
use sim::network::Place;

use super::executors::{Doing, Executor};
use super::{Happening, Wire, World, address, place_of};

/// What each agent has.
pub(super) const RESOURCES: &str = "cpus:8;mem:4096;disk:1000";

/// A host of an agent.
pub(super) struct AgentHost {
    pub(super) life: u64,
    started: u64,
    pub(super) disk: tempfile::TempDir,
    pub(super) agent: Option<Agent>,
    pub(super) paused_until: u64,
    /// Containers that were started and have not ended, by id.
    pub(super) executors: BTreeMap<String, Executor>,
    /// Containers that were destroyed before they began.
    pub(super) cancelled: BTreeSet<String>,
    /// Which container's executor has which stream.
    pub(super) streams: BTreeMap<StreamId, String>,
}

impl AgentHost {
    pub(super) fn new() -> Self {
        // In memory where that can be had: much is written.
        let memory = Path::new("/dev/shm");
        let disk = tempfile::TempDir::new_in(memory).or_else(|_| tempfile::TempDir::new());
        Self {
            life: 0,
            started: 0,
            disk: disk.expect("a directory for an agent's files"),
            agent: None,
            paused_until: 0,
            executors: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            streams: BTreeMap::new(),
        }
    }
}

/// What a batch of decisions wants on disk, in order.
#[derive(Default)]
struct Writes {
    replaced: Vec<(std::path::PathBuf, Vec<u8>)>,
    appended: Vec<(std::path::PathBuf, Vec<u8>)>,
    linked: Vec<(std::path::PathBuf, std::path::PathBuf)>,
}

impl Writes {
    fn is_empty(&self) -> bool {
        self.replaced.is_empty() && self.appended.is_empty() && self.linked.is_empty()
    }

    fn batch(self) -> Batch {
        let mut batch = Batch::default();
        for (path, content) in self.replaced {
            batch.replace(path, content);
        }
        for (path, content) in self.appended {
            batch.append(path, &content);
        }
        for (target, path) in self.linked {
            batch.link(target, path);
        }
        batch
    }

    /// What a crash leaves of it: some of the appends, the last of them torn, then some files renamed, then some links.
    fn torn(mut self, random: &mut sim::Random) -> Self {
        let appends = random.below(self.appended.len() as u64 + 1) as usize;
        let are_all_there = appends == self.appended.len();
        self.appended.truncate(appends);
        if let Some((_, content)) = self.appended.last_mut().filter(|_| !are_all_there) {
            let length = random.below(content.len() as u64) as usize;
            content.truncate(length);
        }
        let files = if are_all_there { random.below(self.replaced.len() as u64 + 1) } else { 0 };
        let links = files as usize == self.replaced.len() && are_all_there;
        self.replaced.truncate(files as usize);
        let links = if links { random.below(self.linked.len() as u64 + 1) } else { 0 };
        self.linked.truncate(links as usize);
        self
    }
}

fn settings(place: Place, directory: &Path, seed: [u8; 32]) -> Settings {
    Settings {
        work_dir: directory.to_owned(),
        runtime_dir: directory.join("runtime"),
        launcher_dir: "/usr/libexec/mesos".into(),
        executor_registration_timeout: Duration::from_secs(20),
        executor_reregistration_timeout: Duration::from_secs(2),
        executor_shutdown_grace_period: Duration::from_secs(5),
        recovery_timeout: Duration::from_secs(900),
        registration_backoff_factor: Duration::from_secs(1),
        completed_executors_max: 150,
        executor_environment: None,
        tls_environment: Vec::new(),
        default_container: None,
        executor_key: None,
        oversubscribed: Vec::new(),
        has_cpu_quota: false,
        switch_user: false,
        check_user: |_| Ok(()),
        gc_delay: Duration::from_secs(604_800),
        gc_disk_headroom: 0.1,
        cleans_up: false,
        ip: None,
        ip6: None,
        endpoint: address(place),
        credential: None,
        authentication_timeout: (Duration::from_secs(5), Duration::from_secs(60)),
        seed,
    }
}

/// The update that the leading master's acknowledgement is for, if it is the one that waits: an agent must take that.
/// Looked at before it does, or one that doesn't would be thought to have refused it.
fn acknowledged(agent: &Agent, header: &Header, body: &[u8]) -> Option<Vec<u8>> {
    let is_from_leader =
        agent.master.as_ref().is_some_and(|master| master.address == header.from.address);
    if header.name != m::StatusUpdateAcknowledgementMessage::full_name() || !is_from_leader {
        return None;
    }
    let message = m::StatusUpdateAcknowledgementMessage::decode(body).unwrap();
    let key = (message.framework_id.value, message.task_id.value);
    let (_, head) = agent.updates.head(&key)?;
    (head == message.uuid).then_some(message.uuid)
}

impl World {
    pub(super) fn agent_now(&self, index: usize) -> Now {
        let started = self.agents[index].started;
        Now { wall: self.wall(Self::agent_place(index)), mono: self.mono(started) }
    }

    pub(super) fn start_agent(&mut self, index: usize) {
        let place = Self::agent_place(index);
        let seed = self.random.seed();
        let time = self.now();
        let host = &mut self.agents[index];
        host.life += 1;
        host.started = time;
        let work_dir = host.disk.path().to_owned();
        let info = v1::AgentInfo {
            hostname: format!("agent-{index}"),
            port: Some(i32::from(address(place).port())),
            resources: Resources::parse(RESOURCES, "*").unwrap().to_protos(),
            checkpoint: Some(true),
            ..Default::default()
        };
        let mut agent = Agent::new(settings(place, &work_dir, seed), info);
        let recovered = found::Reader { work_dir: &work_dir, is_strict: true }
            .read(false)
            .expect("a crash leaves a checkpoint that can be read");
        let (reserved, operations) = checkpoint::resources::recover(&work_dir)
            .expect("a crash leaves resources that can be read");
        agent.recover_resources(&reserved, operations).expect("what this agent had");
        self.checks.agent_recovered(index, &reserved);
        let now = self.agent_now(index);
        let watched = recovered.map(|recovered| agent.recover(now, recovered)).unwrap_or_default();
        self.tell(|| format!("agent {index} starts as {:?}", agent.id()));
        self.agents[index].agent = Some(agent);
        for (run, _) in watched {
            if !self.agents[index].executors.contains_key(&run.container) {
                let delay = self.random.between(1, 1500);
                let life = self.agents[index].life;
                let doing = Doing::EndIsSeen(life, None);
                self.agenda.after(delay, Happening::Container(place, run.container, doing));
            }
        }
        self.agenda.after(1, Happening::Looks(place));
        self.agent_effects(index);
    }

    pub(super) fn crash_agent(&mut self, index: usize) {
        let place = Self::agent_place(index);
        self.tell(|| format!("agent {index} ends"));
        self.checks.count("agents crashed");
        let host = &mut self.agents[index];
        host.agent = None;
        host.streams.clear();
        host.paused_until = 0;
        self.process_ended(place);
        let back = self.random.between(1, 12_000);
        self.agenda.after(back, Happening::Starts(place));
        for container in self.agents[index].executors.keys().cloned().collect::<Vec<_>>() {
            self.executor_disconnected(index, &container);
        }
    }

    pub(super) fn agent_sees(&mut self, index: usize, leader: Option<Place>) {
        let now = self.agent_now(index);
        let Some(agent) = &mut self.agents[index].agent else { return };
        let master = leader.map(|leader| Upid::new("master", address(leader)));
        if agent.master != master {
            agent.master_changed(now, master.map(|master| (master, "master".to_owned())));
            self.agent_effects(index);
        }
    }

    pub(super) fn agent_exited(&mut self, index: usize, peer: Place) {
        let now = self.agent_now(index);
        let Some(agent) = &mut self.agents[index].agent else { return };
        agent.peer_exited(now, address(peer));
        self.agent_effects(index);
    }

    pub(super) fn agent_hears(&mut self, index: usize, header: Header, body: &[u8]) {
        let now = self.agent_now(index);
        self.tell(|| format!("agent {index} hears {}", header.name));
        let Some(agent) = &mut self.agents[index].agent else { return };
        let acknowledged = acknowledged(agent, &header, body);
        agent.message(now, &header, body).expect("a message of our own");
        if header.name == m::StatusUpdateAcknowledgementMessage::full_name() {
            let life = self.agents[index].life;
            self.agent_effects(index);
            let is_on_disk = self.agents[index].agent.is_some() && self.agents[index].life == life;
            if let Some(uuid) = acknowledged.filter(|_| is_on_disk) {
                self.checks.acknowledged(uuid);
            }
            return;
        }
        let may_change =
            [m::ApplyOperationMessage::full_name(), m::CheckpointResourcesMessage::full_name()];
        self.checks.agent_may_change_resources(index, may_change.contains(&header.name));
        self.agent_effects(index);
    }

    pub(super) fn tick_agent(&mut self, index: usize) {
        if self.agents[index].agent.is_some() {
            self.agent_effects(index);
        }
    }

    /// Carries out what an agent wants: first all that is to be on disk, then the rest in order.
    pub(super) fn agent_effects(&mut self, index: usize) {
        let (place, now) = (Self::agent_place(index), self.agent_now(index));
        let Some(agent) = &mut self.agents[index].agent else { return };
        agent.tick(now);
        let effects = agent.take_effects();
        self.check_agent(index);
        let (mut writes, mut others) = (Writes::default(), Vec::new());
        for effect in effects {
            match effect {
                Effect::Write(path, content) => writes.replaced.push((path, content)),
                Effect::Append(path, content) => writes.appended.push((path, content)),
                Effect::Symlink(target, path) => writes.linked.push((target, path)),
                other => others.push(other),
            }
        }
        if !writes.is_empty() {
            if !self.is_calm && self.random.chance(3) {
                let torn = writes.torn(&mut self.random);
                torn.batch().commit().expect("room for files");
                self.checks.count("writes torn");
                return self.crash_agent(index);
            }
            writes.batch().commit().expect("room for files");
            if !self.is_calm && self.random.chance(3) {
                return self.crash_agent(index);
            }
        }
        for effect in others {
            match effect {
                Effect::Write(..) | Effect::Append(..) | Effect::Symlink(..) => {}
                Effect::Send(to, name, body) => self.agent_sends(index, to, name, body),
                Effect::SendAs(..) => {}
                Effect::Link(to) => self.network.dial_anew(place, place_of(to.address)),
                Effect::Unlink(path) => drop(std::fs::remove_file(path)),
                Effect::RemoveDirectory(path) | Effect::Remove(path) => {
                    drop(std::fs::remove_dir_all(path));
                }
                Effect::Reserve(change) => {
                    self.checks.agent_reserves(index, &change.resources);
                    if !self.is_calm && self.random.chance(10) {
                        return self.crash_agent(index);
                    }
                    let work_dir = self.agents[index].disk.path().to_owned();
                    checkpoint::resources::commit(&work_dir, &change).expect("room for files");
                    self.checks.agent_reserved(index, change.resources);
                }
                Effect::Launch(launch) => self.launch(index, *launch),
                Effect::Destroy(container) => {
                    let delay = self.random.between(1, 1000);
                    let doing = Doing::Destroy;
                    self.agenda.after(delay, Happening::Container(place, container, doing));
                }
                Effect::Event(stream, event) => self.executor_gets(index, stream, event),
                Effect::Close(stream) => {
                    if let Some(container) = self.agents[index].streams.remove(&stream) {
                        self.executor_disconnected(index, &container);
                    }
                }
                Effect::Resize { .. }
                | Effect::Signal(..)
                | Effect::Launched(..)
                | Effect::Ended(..)
                | Effect::Collect(_) => {}
                Effect::Abort(ending) => {
                    self.tell(|| format!("agent {index} aborts: {ending:?}"));
                    self.checks.count("agents told to leave");
                    return self.crash_agent(index);
                }
            }
        }
    }

    fn agent_sends(&mut self, index: usize, to: Upid, name: String, body: Vec<u8>) {
        self.tell(|| format!("agent {index} sends {name} to {to}"));
        if name == m::StatusUpdateMessage::full_name() {
            let message = m::StatusUpdateMessage::decode(&body[..]).unwrap();
            self.checks.update_sent(&message.update);
        }
        let place = Self::agent_place(index);
        let header =
            Header { from: Upid::new("slave(1)", address(place)), to: to.id.clone(), name };
        self.send(place, place_of(to.address), Wire::Message(header, body));
    }

    pub(super) fn new_stream(&mut self) -> StreamId {
        StreamId(self.uuid())
    }
}
