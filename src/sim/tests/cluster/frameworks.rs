//! Frameworks by script: they launch, kill, reconcile, reserve, make volumes, suppress, revive and fail over.

use std::collections::{BTreeMap, BTreeSet};

use mesos::v1::framework_info::capability::Type as Capability;
use mesos::v1::offer::{Operation, operation};
use mesos::v1::scheduler::{Call, Event, call, event};
use mesos::v1::{self, OperationState, TaskState};
use sim::Random;
use sim::network::Place;
use uuid::Uuid;

use super::{Wire, World};

/// A framework hears something at least so often, or its stream is dead.
const SILENCE: u64 = 40_000;
const RECONCILES: u64 = 10_000;

/// What a framework knows of a task of its own.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    pub(super) agent: String,
    pub(super) state: Option<TaskState>,
    /// Whether the master only said that the agent has no such task, when it was asked.
    is_missing: bool,
    /// Whether it may run all the same, without a checkpoint, on an agent that was cut off when the master was asked.
    may_return: bool,
    /// Which updates came; those that the master made have no name.
    heard: BTreeSet<Vec<u8>>,
}

impl View {
    /// What is lost may come back: an agent that was cut off, and runs it without a checkpoint, may run it yet.
    pub(super) fn is_over(&self) -> bool {
        !self.may_return
            && self.state.is_some_and(|state| {
                agent::core::is_terminal(state) && state != TaskState::TaskLost
            })
    }

    /// Whether it ended, and not well.
    pub(super) fn has_failed(&self) -> bool {
        self.is_over() && self.state != Some(TaskState::TaskFinished)
    }

    /// Whether nobody knows of it any more.
    pub(super) fn is_forgotten(&self) -> bool {
        self.may_return
            || matches!(self.state, Some(TaskState::TaskUnknown | TaskState::TaskUnreachable))
    }
}

/// What a framework waits for.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    kind: operation::Type,
    agent: String,
    /// The volume that it is about.
    volume: Option<String>,
}

/// A framework's scheduler.
pub(super) struct Scheduler {
    pub(super) is_up: bool,
    pub(super) id: Option<String>,
    name: String,
    roles: Vec<String>,
    checkpoints: bool,
    stream: Option<(Uuid, Place)>,
    pub(super) is_subscribed: bool,
    leader: Option<Place>,
    heard: u64,
    retry: u64,
    reconciles: u64,
    pub(super) tasks: BTreeMap<String, View>,
    pub(super) operations: BTreeMap<String, Pending>,
    /// Volumes that must be there.
    pub(super) volumes: BTreeMap<String, String>,
    named: u64,
    /// How often it began anew.
    torn_down: u64,
    /// It wants nothing more, and its tasks ended.
    pub(super) is_leaving: bool,
}

impl Scheduler {
    pub(super) fn new(index: usize, random: &mut Random) -> Self {
        let roles = match index {
            0 => vec!["a"],
            1 => vec!["a/x", "b"],
            _ if random.chance(500) => vec!["a", "b"],
            _ => vec!["b"],
        };
        Self {
            is_up: false,
            id: None,
            name: format!("f{index}"),
            checkpoints: index == 0 || random.chance(600),
            roles: roles.into_iter().map(str::to_owned).collect(),
            stream: None,
            is_subscribed: false,
            leader: None,
            heard: 0,
            retry: 0,
            reconciles: 0,
            tasks: BTreeMap::new(),
            operations: BTreeMap::new(),
            volumes: BTreeMap::new(),
            named: 0,
            torn_down: 0,
            is_leaving: false,
        }
    }

    fn info(&self) -> v1::FrameworkInfo {
        let capabilities =
            [Capability::MultiRole, Capability::ReservationRefinement, Capability::PartitionAware];
        v1::FrameworkInfo {
            id: self.id.clone().map(|value| v1::FrameworkId { value }),
            user: "nobody".to_owned(),
            name: self.name.clone(),
            checkpoint: Some(self.checkpoints),
            failover_timeout: Some(3600.0),
            roles: self.roles.clone(),
            capabilities: capabilities
                .into_iter()
                .map(|kind| v1::framework_info::Capability { r#type: Some(kind as i32) })
                .collect(),
            ..Default::default()
        }
    }

    /// It is removed, and what it had; it begins anew, by the same name.
    fn begin_anew(&mut self) {
        self.id = None;
        self.torn_down += 1;
        self.tasks.clear();
        self.operations.clear();
    }

    /// An executor of its own.
    fn own(&self, executor: v1::ExecutorInfo) -> v1::ExecutorInfo {
        let framework_id = self.id.clone().map(|value| v1::FrameworkId { value });
        v1::ExecutorInfo { framework_id, ..executor }
    }

    fn new_name(&mut self, what: &str) -> String {
        self.named += 1;
        format!("{what}-{}-{}", self.name, self.named)
    }
}

fn amount(resource: &v1::Resource) -> f64 {
    resource.scalar.map_or(0.0, |scalar| scalar.value)
}

fn of(resource: &v1::Resource, value: f64) -> v1::Resource {
    v1::Resource { scalar: Some(v1::value::Scalar { value }), ..resource.clone() }
}

fn is_unreserved(resource: &v1::Resource) -> bool {
    resource.reservations.is_empty()
}

impl World {
    pub(super) fn start_scheduler(&mut self, index: usize) {
        let now = self.now();
        let scheduler = &mut self.schedulers[index];
        scheduler.is_up = true;
        scheduler.retry = now;
        let place = self.scheduler_place(index);
        self.agenda.after(1, super::Happening::Looks(place));
    }

    pub(super) fn crash_scheduler(&mut self, index: usize) {
        self.tell(|| format!("framework {index} ends"));
        self.checks.count("frameworks crashed");
        let place = self.scheduler_place(index);
        self.lose_stream(index);
        self.schedulers[index].is_up = false;
        self.process_ended(place);
        let back = self.random.between(1, 15_000);
        self.agenda.after(back, super::Happening::Starts(place));
    }

    pub(super) fn scheduler_sees(&mut self, index: usize, leader: Option<Place>) {
        if self.schedulers[index].leader != leader {
            self.lose_stream(index);
            self.schedulers[index].leader = leader;
        }
    }

    pub(super) fn scheduler_exited(&mut self, index: usize, peer: Place) {
        if self.schedulers[index].stream.is_some_and(|(_, leader)| leader == peer) {
            self.lose_stream(index);
        }
    }

    /// The stream is of no use any more; the master may hear of it.
    pub(super) fn lose_stream(&mut self, index: usize) {
        let place = self.scheduler_place(index);
        let pause = self.random.between(1, 2000);
        let retry = self.now() + pause;
        let scheduler = &mut self.schedulers[index];
        scheduler.is_subscribed = false;
        scheduler.retry = retry;
        if let Some((stream, leader)) = scheduler.stream.take() {
            self.send(place, leader, Wire::Closed(stream));
        }
    }

    fn subscribe(&mut self, index: usize) {
        let (place, now, stream) = (self.scheduler_place(index), self.now(), self.uuid());
        let pause = self.random.between(500, 4000);
        let scheduler = &mut self.schedulers[index];
        let Some(leader) = scheduler.leader else { return };
        scheduler.stream = Some((stream, leader));
        scheduler.heard = now;
        scheduler.retry = now + pause;
        let subscribe =
            call::Subscribe { framework_info: scheduler.info(), ..call::Subscribe::default() };
        self.network.dial_anew(place, leader);
        self.send(place, leader, Wire::Subscribe(stream, Box::new(subscribe)));
    }

    fn call(&mut self, index: usize, kind: call::Type, call: Call) {
        let place = self.scheduler_place(index);
        let scheduler = &self.schedulers[index];
        let (Some((stream, leader)), Some(id)) = (scheduler.stream, scheduler.id.clone()) else {
            return;
        };
        let framework_id = Some(v1::FrameworkId { value: id });
        let call = Call { r#type: Some(kind as i32), framework_id, ..call };
        self.tell(|| format!("framework {index} calls {}", kind.as_str_name()));
        self.send(place, leader, Wire::Call(stream, Box::new(call)));
    }

    pub(super) fn scheduler_hears(&mut self, index: usize, from: Place, wire: Wire) {
        let now = self.now();
        let scheduler = &mut self.schedulers[index];
        let is_own = |stream: Uuid| scheduler.stream == Some((stream, from));
        match wire {
            Wire::Closed(stream) if is_own(stream) => {
                // There is nobody to be told.
                scheduler.stream = None;
                self.lose_stream(index);
            }
            Wire::Event(stream, event) if is_own(stream) => {
                scheduler.heard = now;
                self.scheduler_event(index, *event);
            }
            _ => {}
        }
    }

    fn scheduler_event(&mut self, index: usize, event: Event) {
        match event.r#type() {
            event::Type::Subscribed => {
                let id = event.subscribed.unwrap().framework_id.value;
                self.tell(|| format!("framework {index} is subscribed as {id}"));
                let scheduler = &mut self.schedulers[index];
                assert!(scheduler.id.as_ref().is_none_or(|own| *own == id), "another id");
                scheduler.id = Some(id);
                scheduler.is_subscribed = true;
                self.reconcile(index);
            }
            event::Type::Offers => {
                for offer in event.offers.unwrap().offers {
                    self.offered(index, offer);
                }
            }
            event::Type::Update => self.updated(index, event.update.unwrap().status),
            event::Type::UpdateOperationStatus => {
                self.operation_updated(index, event.update_operation_status.unwrap().status);
            }
            event::Type::Error => {
                let message = event.error.unwrap().message;
                self.schedulers[index].stream = None;
                self.lose_stream(index);
                match message.as_str() {
                    "Framework failed over" => {}
                    "Framework has been removed" => self.schedulers[index].begin_anew(),
                    other => panic!("framework {index} hears: {other}"),
                }
            }
            _ => {}
        }
    }

    pub(super) fn tick_scheduler(&mut self, index: usize) {
        let now = self.now();
        let scheduler = &self.schedulers[index];
        if !scheduler.is_up {
            return;
        }
        if scheduler.stream.is_some() && now > scheduler.heard + SILENCE {
            return self.lose_stream(index);
        }
        if !scheduler.is_subscribed {
            if now >= scheduler.retry {
                self.subscribe(index);
            }
            return;
        }
        if now >= scheduler.reconciles {
            self.reconcile(index);
        }
        if scheduler_wants(&mut self.random, self.is_calm, 20) {
            self.kill_one(index);
        }
        if scheduler_wants(&mut self.random, self.is_calm, 2) {
            return self.tear_down(index);
        }
        if scheduler_wants(&mut self.random, self.is_calm, 5) {
            let (kind, call) = if self.random.chance(300) {
                let suppress = Some(call::Suppress::default());
                (call::Type::Suppress, Call { suppress, ..Call::default() })
            } else {
                let revive = Some(call::Revive::default());
                (call::Type::Revive, Call { revive, ..Call::default() })
            };
            self.call(index, kind, call);
        }
    }

    /// It ends for good; whether the master hears of that or not, it is never heard of again by this id.
    fn tear_down(&mut self, index: usize) {
        self.checks.count("torn down");
        if let Some(id) = self.schedulers[index].id.clone() {
            self.checks.framework_ends(id);
        }
        self.call(index, call::Type::Teardown, Call::default());
        self.lose_stream(index);
        self.schedulers[index].begin_anew();
    }

    fn reconcile(&mut self, index: usize) {
        let now = self.now();
        let scheduler = &mut self.schedulers[index];
        scheduler.reconciles = now + RECONCILES;
        let open = scheduler.tasks.iter().filter(|(_, view)| !view.is_over());
        let tasks: Vec<call::reconcile::Task> = open
            .map(|(id, view)| call::reconcile::Task {
                task_id: v1::TaskId { value: id.clone() },
                agent_id: Some(v1::AgentId { value: view.agent.clone() }),
            })
            .collect();
        let pending = scheduler.operations.iter();
        let operations: Vec<call::reconcile_operations::Operation> = pending
            .map(|(id, pending)| call::reconcile_operations::Operation {
                operation_id: v1::OperationId { value: id.clone() },
                agent_id: Some(v1::AgentId { value: pending.agent.clone() }),
                ..Default::default()
            })
            .collect();
        if !tasks.is_empty() {
            let reconcile = Some(call::Reconcile { tasks });
            self.call(index, call::Type::Reconcile, Call { reconcile, ..Call::default() });
        }
        if !operations.is_empty() {
            let reconcile_operations = Some(call::ReconcileOperations { operations });
            let call = Call { reconcile_operations, ..Call::default() };
            self.call(index, call::Type::ReconcileOperations, call);
        }
        if self.schedulers[index].is_leaving {
            let open: Vec<String> = self.schedulers[index]
                .tasks
                .iter()
                .filter(|(_, view)| !view.is_over())
                .map(|(id, _)| id.clone())
                .collect();
            for task in open {
                self.kill(index, task);
            }
        }
    }

    fn kill_one(&mut self, index: usize) {
        let running: Vec<String> = self.schedulers[index]
            .tasks
            .iter()
            .filter(|(_, view)| !view.is_over())
            .map(|(id, _)| id.clone())
            .collect();
        if let Some(task) = self.random.pick(&running).cloned() {
            self.checks.count("tasks to be killed");
            self.kill(index, task);
        }
    }

    fn kill(&mut self, index: usize, task: String) {
        let agent = self.schedulers[index].tasks[&task].agent.clone();
        let kill = call::Kill {
            task_id: v1::TaskId { value: task },
            agent_id: Some(v1::AgentId { value: agent }),
            kill_policy: None,
        };
        self.call(index, call::Type::Kill, Call { kill: Some(kill), ..Call::default() });
    }

    fn updated(&mut self, index: usize, status: v1::TaskStatus) {
        let (id, state) = (status.task_id.value.clone(), status.state());
        self.tell(|| {
            format!("framework {index} hears {id} {} {:?}", state.as_str_name(), status.message)
        });
        let scheduler = &mut self.schedulers[index];
        let checkpoints = scheduler.checkpoints;
        let known = scheduler.tasks.get_mut(&id);
        let known = known.unwrap_or_else(|| panic!("an update of {id}, never launched"));
        let is_answer = status.reason() == v1::task_status::Reason::Reconciliation
            && status.uuid.is_none()
            && status.reason.is_some();
        let is_denial = status.reason() == v1::task_status::Reason::Reconciliation
            && status.source() == v1::task_status::Source::Agent
            && matches!(state, TaskState::TaskDropped | TaskState::TaskLost);
        let is_return = status.reason() == v1::task_status::Reason::AgentReregistered
            && status.source() == v1::task_status::Source::Master;
        let is_repeated = status.uuid.clone().is_some_and(|uuid| !known.heard.insert(uuid));
        if known.is_over() && is_repeated {
            // Sent once more before it was acknowledged, by an agent that has ended since, and under way for long. Its
            // master tells of it again, as the original (`Master::statusUpdate`); frameworks know its name.
        } else if is_return && (known.is_over() || agent::core::is_terminal(state)) {
            // What an agent reported when it came back: of states that it had told of before, or tells of in turn yet.
        } else if known.is_over() && is_answer {
            // It asked before it heard of the end, and the master had forgotten the task by then.
        } else if known.is_over() && is_denial {
            // What the agent told before the end was under way for long and came to a master that has led only since;
            // of what the agent told next the task was missing, so the master asked. Neither keeps in mind what ended
            // and was acknowledged, nor do the originals (`Master::__reregisterSlave`, `Slave::reregistered`).
        } else if known.is_missing && !known.may_return && state == TaskState::TaskDropped {
            // The agent had dropped it, which a new master hears last: agents don't report what they never took.
            (known.state, known.is_missing) = (Some(state), false);
        } else if let Some(end) = known.state.filter(|_| known.is_over()) {
            assert_eq!(
                state,
                end,
                "{id} was {} and is {} now: {status:?}",
                end.as_str_name(),
                state.as_str_name()
            );
        } else {
            known.state = Some(state);
            known.is_missing = is_answer && state == TaskState::TaskGone;
            known.may_return = known.is_missing && !checkpoints;
            if known.is_over() {
                self.checks.count("tasks over");
            }
        }
        // It may die before it can acknowledge.
        let (Some(uuid), Some(agent_id)) = (status.uuid, status.agent_id) else { return };
        if self.is_calm || !self.random.chance(30) {
            let acknowledge = Some(call::Acknowledge { agent_id, task_id: status.task_id, uuid });
            self.call(index, call::Type::Acknowledge, Call { acknowledge, ..Call::default() });
        }
    }

    fn operation_updated(&mut self, index: usize, status: v1::OperationStatus) {
        let Some(id) = status.operation_id.clone() else { return };
        let state = status.state();
        self.tell(|| format!("framework {index} hears {} {}", id.value, state.as_str_name()));
        if let (Some(uuid), Some(agent_id)) = (&status.uuid, &status.agent_id)
            && (self.is_calm || !self.random.chance(30))
        {
            let acknowledge = call::AcknowledgeOperationStatus {
                agent_id: Some(agent_id.clone()),
                uuid: uuid.value.clone(),
                operation_id: id.clone(),
                ..Default::default()
            };
            let call = Call { acknowledge_operation_status: Some(acknowledge), ..Call::default() };
            self.call(index, call::Type::AcknowledgeOperationStatus, call);
        }
        use OperationState as S;
        if matches!(state, S::OperationPending | S::OperationRecovering | S::OperationUnsupported) {
            return;
        }
        let scheduler = &mut self.schedulers[index];
        let Some(pending) = scheduler.operations.remove(&id.value) else { return };
        if let (S::OperationFinished, Some(volume)) = (state, pending.volume) {
            self.checks.count("volumes made or destroyed");
            if pending.kind == operation::Type::Create {
                scheduler.volumes.insert(volume, pending.agent);
            }
        }
    }

    fn offered(&mut self, index: usize, offer: v1::Offer) {
        self.checks.count("offers");
        let is_leaving = self.schedulers[index].is_leaving;
        let choice = if is_leaving { 0 } else { self.random.below(100) };
        let operations = match choice {
            0..25 => Vec::new(),
            25..75 => self.launch_on(index, &offer),
            _ => self.operate_on(index, &offer),
        };
        let seconds = if is_leaving { 3600 } else { self.random.below(6) };
        let filters = Some(v1::Filters { refuse_seconds: Some(seconds as f64) });
        if operations.is_empty() {
            let decline = Some(call::Decline { offer_ids: vec![offer.id], filters });
            return self.call(index, call::Type::Decline, Call { decline, ..Call::default() });
        }
        let accept = Some(call::Accept { offer_ids: vec![offer.id], operations, filters });
        self.call(index, call::Type::Accept, Call { accept, ..Call::default() });
    }

    fn launch_on(&mut self, index: usize, offer: &v1::Offer) -> Vec<Operation> {
        let find =
            |name: &str| offer.resources.iter().find(|own| own.name == name && is_unreserved(own));
        let (Some(cpus), Some(mem)) = (find("cpus"), find("mem")) else { return Vec::new() };
        let agent = offer.agent_id.value.clone();
        let pick = self.random.below(10);
        let how = match (pick, find("disk")) {
            (0..3, _) => How::Custom(executor(index, &agent, cpus, mem)),
            (3..5, Some(disk)) => How::Group(default_executor(index, &agent, [cpus, mem, disk])),
            _ => How::Command,
        };
        let most = (amount(cpus) - 0.5).min((amount(mem) - 32.0) / 128.0).max(0.0) as u64;
        let count = self.random.between(1, 4).min(most);
        let scheduler = &mut self.schedulers[index];
        let mut tasks = Vec::new();
        for _ in 0..count {
            let name = scheduler.new_name("task");
            let (executor, command) = match &how {
                How::Custom(executor) => (Some(executor.clone()), None),
                How::Command | How::Group(_) => (None, Some(command())),
            };
            tasks.push(v1::TaskInfo {
                name: name.clone(),
                task_id: v1::TaskId { value: name.clone() },
                agent_id: offer.agent_id.clone(),
                resources: vec![of(cpus, 1.0), of(mem, 128.0)],
                executor,
                command,
                ..Default::default()
            });
            scheduler.tasks.insert(name, View { agent: agent.clone(), ..View::default() });
        }
        if tasks.is_empty() {
            return Vec::new();
        }
        self.checks.count_of("tasks", tasks.len() as u64);
        let operation = match how {
            How::Group(executor) => {
                self.checks.group_wanted(&tasks);
                Operation {
                    r#type: Some(operation::Type::LaunchGroup as i32),
                    launch_group: Some(operation::LaunchGroup {
                        executor: self.schedulers[index].own(executor),
                        task_group: v1::TaskGroupInfo { tasks },
                    }),
                    ..Default::default()
                }
            }
            How::Command | How::Custom(_) => Operation {
                r#type: Some(operation::Type::Launch as i32),
                launch: Some(operation::Launch { task_infos: tasks }),
                ..Default::default()
            },
        };
        vec![operation]
    }

    fn operate_on(&mut self, index: usize, offer: &v1::Offer) -> Vec<Operation> {
        let disks: Vec<&v1::Resource> =
            offer.resources.iter().filter(|own| own.name == "disk").collect();
        let Some(disk) = self.random.pick(&disks).copied().cloned() else { return Vec::new() };
        let role = offer.allocation_info.as_ref().map_or("*", |info| info.role()).to_owned();
        let scheduler = &mut self.schedulers[index];
        let id = scheduler.new_name("operation");
        let mut operation =
            Operation { id: Some(v1::OperationId { value: id.clone() }), ..Default::default() };
        let volume = disk.disk.as_ref().and_then(|disk| disk.persistence.as_ref());
        let mut about = volume.map(|persistence| persistence.id.clone());
        let kind = if let Some(volume) = &about {
            if !scheduler.volumes.contains_key(volume) {
                return Vec::new(); // Of another framework with this role.
            }
            scheduler.volumes.remove(volume);
            operation.destroy = Some(operation::Destroy { volumes: vec![disk] });
            operation::Type::Destroy
        } else if is_unreserved(&disk) {
            let reservation = v1::resource::ReservationInfo {
                r#type: Some(v1::resource::reservation_info::Type::Dynamic as i32),
                role: Some(role),
                ..Default::default()
            };
            let reserved = v1::Resource {
                reservations: vec![reservation],
                ..of(&disk, amount(&disk).min(100.0))
            };
            operation.reserve =
                Some(operation::Reserve { resources: vec![reserved], ..Default::default() });
            operation::Type::Reserve
        } else if self.random.chance(300) {
            operation.unreserve = Some(operation::Unreserve { resources: vec![disk] });
            operation::Type::Unreserve
        } else {
            let name = scheduler.new_name("volume");
            about = Some(name.clone());
            let made = v1::Resource {
                disk: Some(Box::new(v1::resource::DiskInfo {
                    persistence: Some(v1::resource::disk_info::Persistence {
                        id: name,
                        principal: None,
                    }),
                    volume: Some(v1::Volume {
                        container_path: "data".to_owned(),
                        mode: v1::volume::Mode::Rw as i32,
                        ..Default::default()
                    }),
                    ..Default::default()
                })),
                ..of(&disk, amount(&disk).min(64.0))
            };
            operation.create = Some(operation::Create { volumes: vec![made] });
            operation::Type::Create
        };
        operation.set_type(kind);
        let pending = Pending { kind, agent: offer.agent_id.value.clone(), volume: about };
        self.schedulers[index].operations.insert(id, pending);
        self.checks.count("operations");
        vec![operation]
    }
}

/// What runs tasks.
enum How {
    Command,
    Custom(v1::ExecutorInfo),
    Group(v1::ExecutorInfo),
}

fn command() -> v1::CommandInfo {
    v1::CommandInfo { value: Some("x".into()), ..Default::default() }
}

fn scheduler_wants(random: &mut Random, is_calm: bool, in_thousand: u64) -> bool {
    !is_calm && random.chance(in_thousand)
}

fn executor(
    index: usize,
    agent: &str,
    cpus: &v1::Resource,
    mem: &v1::Resource,
) -> v1::ExecutorInfo {
    v1::ExecutorInfo {
        executor_id: v1::ExecutorId { value: format!("executor-{index}-{agent}") },
        command: Some(command()),
        resources: vec![of(cpus, 0.1), of(mem, 32.0)],
        ..Default::default()
    }
}

fn default_executor(
    index: usize,
    agent: &str,
    [cpus, mem, disk]: [&v1::Resource; 3],
) -> v1::ExecutorInfo {
    v1::ExecutorInfo {
        executor_id: v1::ExecutorId { value: format!("group-{index}-{agent}") },
        r#type: Some(v1::executor_info::Type::Default as i32),
        resources: vec![of(cpus, 0.1), of(mem, 32.0), of(disk, 1.0)],
        ..Default::default()
    }
}
