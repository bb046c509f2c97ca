//! Conversations of the core with a master and executors, and what is on disk meanwhile.

mod containers;
mod drain;
mod garbage;
mod groups;
mod operations;
mod recovery;
mod seen;
mod v0;
mod wire;

use std::time::Duration;

use mesos::internal as m;
use mesos::libprocess::Upid;
use mesos::libprocess::inbound::Header;
use mesos::resources::Resources;
use mesos::v1::executor::{Call, Event, call, event};
use mesos::v1::task_status::{Reason, Source};
use mesos::v1::{self, TaskState};
use prost::{Message, Name};
use uuid::Uuid;

use super::reconfiguration::{Reconfiguration, incompatibility};
use super::{Agent, CallError, Effect, Ending, Now, Registration, Settings, StreamId};
use crate::checkpoint::{self, Batch, found};
use crate::containerizer::Problem;

const MASTER: &str = "127.0.0.1:5050";
const AGENT_ID: &str = "m-S0";
const FRAMEWORK_ID: &str = "m-0000";

struct Conversation {
    agent: Agent,
    /// What it says of itself before it has an id.
    info: v1::AgentInfo,
    now: Now,
    disk: tempfile::TempDir,
    seen: Vec<Effect>,
}

fn settings(work_dir: &std::path::Path) -> Settings {
    Settings {
        work_dir: work_dir.to_owned(),
        runtime_dir: work_dir.join("runtime"),
        launcher_dir: "/usr/libexec/mesos".into(),
        executor_registration_timeout: Duration::from_secs(60),
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
        endpoint: "127.0.0.1:5051".parse().unwrap(),
        credential: None,
        authentication_timeout: (Duration::from_secs(5), Duration::from_secs(60)),
        seed: [7; 32],
    }
}

fn info() -> v1::AgentInfo {
    v1::AgentInfo {
        hostname: "h".into(),
        port: Some(5051),
        resources: mesos::resources::Resources::parse("cpus:4;mem:1024", "*").unwrap().to_protos(),
        ..Default::default()
    }
}

fn task(id: &str) -> v1::TaskInfo {
    v1::TaskInfo {
        name: id.into(),
        task_id: v1::TaskId { value: id.into() },
        agent_id: v1::AgentId { value: AGENT_ID.into() },
        command: Some(v1::CommandInfo {
            value: Some("sleep 600".into()),
            shell: Some(true),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn framework() -> v1::FrameworkInfo {
    v1::FrameworkInfo {
        id: Some(v1::FrameworkId { value: FRAMEWORK_ID.into() }),
        user: "nobody".into(),
        name: "f".into(),
        checkpoint: Some(true),
        ..Default::default()
    }
}

fn run(task: v1::TaskInfo) -> m::RunTaskMessage {
    m::RunTaskMessage { framework: framework(), task, ..Default::default() }
}

fn call(task: &str, kind: call::Type) -> Call {
    Call {
        framework_id: v1::FrameworkId { value: FRAMEWORK_ID.into() },
        executor_id: v1::ExecutorId { value: task.into() },
        r#type: Some(kind as i32),
        ..Default::default()
    }
}

fn status(task: &str, state: TaskState, uuid: u8) -> v1::TaskStatus {
    v1::TaskStatus {
        task_id: v1::TaskId { value: task.into() },
        state: state as i32,
        source: Some(Source::Executor as i32),
        uuid: Some(vec![uuid; 16]),
        ..Default::default()
    }
}

impl Conversation {
    fn new() -> Self {
        Self::with(info(), |_| ())
    }

    fn with(info: v1::AgentInfo, change: impl FnOnce(&mut Settings)) -> Self {
        let disk = tempfile::TempDir::new().unwrap();
        let mut settings = settings(disk.path());
        change(&mut settings);
        let agent = Agent::new(settings, info.clone());
        let now = Now { wall: 1e9, mono: Duration::from_secs(1) };
        Self { agent, info, now, disk, seen: Vec::new() }
    }

    /// With an id from the master.
    fn registered() -> Self {
        let mut own = Self::new();
        own.leader();
        own.hear(&m::SlaveRegisteredMessage {
            slave_id: v1::AgentId { value: AGENT_ID.into() },
            connection: None,
        });
        own.seen.clear();
        own
    }

    fn leader(&mut self) {
        let pid = Upid::new("master", MASTER.parse().unwrap());
        self.agent.master_changed(self.now, Some((pid, "m".into())));
        self.settle();
    }

    /// Ticks and carries out what is for the disk.
    fn settle(&mut self) {
        self.agent.tick(self.now);
        let (mut batch, mut unlinked, mut changes) = (Batch::default(), Vec::new(), Vec::new());
        for effect in self.agent.take_effects() {
            match effect {
                Effect::Write(path, content) => batch.replace(path, content),
                Effect::Append(path, content) => batch.append(path, &content),
                Effect::Symlink(target, path) => batch.link(target, path),
                Effect::Unlink(path) => unlinked.push(path),
                Effect::Reserve(change) => changes.push(change),
                Effect::RemoveDirectory(path) => drop(std::fs::remove_dir_all(path)),
                other => self.seen.push(other),
            }
        }
        batch.commit().unwrap();
        for change in changes {
            checkpoint::resources::commit(self.disk.path(), &change).unwrap();
        }
        for path in unlinked {
            let _ = std::fs::remove_file(path);
        }
    }

    fn hear_from<M: Message + Name>(&mut self, address: &str, message: &M) {
        let header = Header {
            from: Upid::new("master", address.parse().unwrap()),
            to: "slave(1)".into(),
            name: M::full_name(),
        };
        self.agent.message(self.now, &header, &message.encode_to_vec()).unwrap();
        self.settle();
    }

    fn hear<M: Message + Name>(&mut self, message: &M) {
        self.hear_from(MASTER, message);
    }

    fn later(&mut self, seconds: f64) {
        self.now.mono += Duration::from_secs_f64(seconds);
        self.now.wall += seconds;
        self.settle();
    }

    /// Messages of a type that were sent since the last look.
    fn sent<M: Message + Name + Default>(&mut self) -> Vec<M> {
        let mut found = Vec::new();
        self.seen.retain(|effect| match effect {
            Effect::Send(_, name, body) if *name == M::full_name() => {
                found.push(M::decode(&body[..]).unwrap());
                false
            }
            _ => true,
        });
        found
    }

    fn states(&mut self) -> Vec<(TaskState, Option<Reason>)> {
        let sent = self.sent::<m::StatusUpdateMessage>();
        let statuses = sent.into_iter().map(|message| message.update.status);
        statuses.map(|status| (status.state(), status.reason.map(|_| status.reason()))).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        let mut found = Vec::new();
        self.seen.retain(|effect| match effect {
            Effect::Event(_, event) => {
                found.push((**event).clone());
                false
            }
            _ => true,
        });
        found
    }

    fn event_types(&mut self) -> Vec<event::Type> {
        self.events().iter().map(Event::r#type).collect()
    }

    fn launched(&mut self) -> Option<String> {
        let at = self.seen.iter().position(|effect| matches!(effect, Effect::Launch(_)))?;
        match self.seen.remove(at) {
            Effect::Launch(launch) => Some(launch.run.container),
            _ => None,
        }
    }

    fn destroyed(&self, container: &str) -> bool {
        self.seen.iter().any(|effect| matches!(effect, Effect::Destroy(id) if id == container))
    }

    fn subscribe(&mut self, task: &str, with: call::Subscribe) {
        let mut call = call(task, call::Type::Subscribe);
        call.subscribe = Some(with);
        self.agent.check_subscribe(&call).unwrap();
        self.agent.subscribe(self.now, StreamId(Uuid::from_u128(1)), call);
        self.settle();
    }

    fn update(&mut self, task: &str, state: TaskState, uuid: u8) -> Result<(), CallError> {
        let mut call = call(task, call::Type::Update);
        call.update = Some(call::Update { status: status(task, state, uuid) });
        let result = self.agent.call(self.now, call);
        self.settle();
        result
    }

    fn acknowledge(&mut self, task: &str, uuid: &[u8]) {
        self.hear(&m::StatusUpdateAcknowledgementMessage {
            slave_id: v1::AgentId { value: AGENT_ID.into() },
            framework_id: v1::FrameworkId { value: FRAMEWORK_ID.into() },
            task_id: v1::TaskId { value: task.into() },
            uuid: uuid.to_vec(),
        });
    }

    /// A task that its executor has and that runs.
    fn running(task_id: &str) -> (Self, String) {
        let mut own = Self::registered();
        own.hear(&run(task(task_id)));
        let container = own.launched().unwrap();
        own.subscribe(task_id, call::Subscribe::default());
        own.update(task_id, TaskState::TaskRunning, 1).unwrap();
        own.seen.clear();
        (own, container)
    }

    /// The agent dies and another starts on the same disk; returned are the containers that it watches.
    fn restarted(self, change: impl FnOnce(&mut Settings)) -> (Self, Vec<String>) {
        let mut settings = settings(self.disk.path());
        change(&mut settings);
        let reader = found::Reader { work_dir: self.disk.path(), is_strict: true };
        let recovered = reader.read(false).unwrap().unwrap();
        assert_eq!(incompatibility(Reconfiguration::Equal, &recovered.info, &self.info), None);
        let mut agent = Agent::new(settings, self.info.clone());
        let (reserved, operations) = checkpoint::resources::recover(self.disk.path()).unwrap();
        agent.recover_resources(&reserved, operations).unwrap();
        let watched = agent.recover(self.now, recovered);
        let mut own =
            Self { agent, info: self.info, now: self.now, disk: self.disk, seen: Vec::new() };
        own.settle();
        (own, watched.into_iter().map(|(run, _)| run.container).collect())
    }

    fn reregistered(&mut self) {
        self.leader();
        self.hear(&m::SlaveReregisteredMessage {
            slave_id: v1::AgentId { value: AGENT_ID.into() },
            ..Default::default()
        });
    }
}

#[test]
fn it_registers_until_answered_and_keeps_its_id() {
    let mut own = Conversation::new();
    own.leader();
    assert_eq!(own.sent::<m::RegisterSlaveMessage>().len(), 1);
    own.later(61.0);
    assert_eq!(own.sent::<m::RegisterSlaveMessage>().len(), 1, "again, unanswered");
    own.hear(&m::SlaveRegisteredMessage {
        slave_id: v1::AgentId { value: AGENT_ID.into() },
        connection: None,
    });
    assert_eq!(own.agent.registration, Registration::Running);
    own.later(60.0);
    assert!(own.sent::<m::RegisterSlaveMessage>().is_empty());
    let reader = found::Reader { work_dir: own.disk.path(), is_strict: true };
    assert_eq!(reader.read(false).unwrap().unwrap().info.id.unwrap().value, AGENT_ID);
}

#[test]
fn an_agent_that_hears_no_pings_registers_again() {
    let mut own = Conversation::registered();
    own.later(76.0);
    assert_eq!(own.sent::<m::ReregisterSlaveMessage>().len(), 1);
}

#[test]
fn only_the_leading_master_gives_orders() {
    let mut own = Conversation::registered();
    own.hear_from("127.0.0.1:6666", &run(task("t")));
    own.hear_from("127.0.0.1:6666", &m::ShutdownMessage { message: Some("x".into()) });
    assert!(own.seen.is_empty(), "{:?}", own.seen);
    own.hear_from("127.0.0.1:6666", &m::PingSlaveMessage { connected: true });
    assert_eq!(own.sent::<m::PongSlaveMessage>().len(), 1, "who asks is told");
}

#[test]
fn another_id_than_its_own_ends_it() {
    let mut own = Conversation::registered();
    own.hear(&m::SlaveRegisteredMessage {
        slave_id: v1::AgentId { value: "m-S9".into() },
        connection: None,
    });
    let ending = own.seen.iter().find_map(|effect| match effect {
        Effect::Abort(Ending::Failure(reason)) => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(ending.as_deref(), Some("registered, but got the wrong id: m-S9 (expected m-S0)"));
}

#[test]
fn a_task_runs_and_its_updates_are_on_disk_before_they_are_sent_and_repeated() {
    let mut own = Conversation::registered();
    own.hear(&run(task("t")));
    assert!(own.launched().is_some());
    own.subscribe("t", call::Subscribe::default());
    assert_eq!(own.event_types(), [event::Type::Subscribed, event::Type::Launch]);
    own.update("t", TaskState::TaskRunning, 1).unwrap();
    assert_eq!(own.event_types(), [event::Type::Acknowledged]);
    assert_eq!(own.states(), [(TaskState::TaskRunning, None)]);
    own.update("t", TaskState::TaskRunning, 1).unwrap();
    assert_eq!(own.event_types(), [event::Type::Acknowledged], "a repetition is answered");
    own.later(9.0);
    assert!(own.states().is_empty(), "and not passed on");
    own.later(1.5);
    assert_eq!(own.states().len(), 1, "unacknowledged: again after 10 s");
    own.later(19.0);
    assert!(own.states().is_empty());
    own.later(1.5);
    assert_eq!(own.states().len(), 1, "then after 20 s");
    own.acknowledge("t", &[1; 16]);
    own.later(70.0);
    assert!(own.states().is_empty());
}

#[test]
fn an_executor_that_never_subscribes_is_destroyed_and_its_task_failed() {
    let mut own = Conversation::registered();
    own.hear(&run(task("t")));
    let container = own.launched().unwrap();
    own.later(59.0);
    assert!(!own.destroyed(&container));
    own.later(2.0);
    assert!(own.destroyed(&container));
    own.agent.container_ended(own.now, &container, Some(9), None);
    own.settle();
    let sent = own.sent::<m::StatusUpdateMessage>();
    let status = &sent[0].update.status;
    assert_eq!(status.state(), TaskState::TaskFailed);
    assert_eq!(status.reason(), Reason::ExecutorRegistrationTimeout);
    assert_eq!(status.message(), "Executor did not register within 1mins");
}

#[test]
fn of_a_container_is_told_only_while_it_is_there() {
    let mut own = Conversation::registered();
    own.hear(&run(task("queued")));
    own.hear(&m::KillTaskMessage {
        framework_id: v1::FrameworkId { value: FRAMEWORK_ID.into() },
        task_id: v1::TaskId { value: "queued".into() },
        kill_policy: None,
    });
    let killed = own.sent::<m::StatusUpdateMessage>().remove(0).update.status;
    assert_eq!((killed.state(), killed.container_status), (TaskState::TaskKilled, None));

    let mut own = Conversation::registered();
    own.hear(&run(task("t")));
    let container = own.launched().unwrap();
    own.agent.container_started(&container, 7);
    own.subscribe("t", call::Subscribe::default());
    own.update("t", TaskState::TaskRunning, 1).unwrap();
    let running = own.sent::<m::StatusUpdateMessage>().remove(0).update.status;
    assert_eq!(running.container_status.and_then(|own| own.executor_pid), Some(7));
    own.acknowledge("t", &[1; 16]);
    own.agent.container_ended(own.now, &container, Some(9), None);
    own.settle();
    let failed = own.sent::<m::StatusUpdateMessage>().remove(0).update.status;
    assert_eq!((failed.state(), failed.container_status), (TaskState::TaskFailed, None));
    assert_eq!(failed.executor_id.map(|own| own.value).as_deref(), Some("t"));
}

#[test]
fn executors_that_ask_for_no_container_get_the_default_one() {
    let mut own = Conversation::registered();
    let named =
        |name: &str| v1::ContainerInfo { hostname: Some(name.into()), ..Default::default() };
    own.agent.settings.default_container = Some(named("default"));
    own.hear(&run(task("t")));
    own.hear(&run(v1::TaskInfo { container: Some(named("own")), ..task("u") }));
    let containers: Vec<_> = own
        .seen
        .iter()
        .filter_map(|effect| match effect {
            Effect::Launch(launch) => launch.container.as_ref()?.hostname.clone(),
            _ => None,
        })
        .collect();
    assert_eq!(containers, ["default", "own"]);
}

#[test]
fn a_container_that_ends_by_itself_fails_its_task_with_the_launchers_reason() {
    let (mut own, container) = Conversation::running("t");
    let reason = Reason::ContainerLimitationMemory;
    let used = Resources::parse("mem:64", "*").unwrap();
    let problem = Problem::limitation(reason, "Memory limit exceeded", used.clone());
    own.agent.container_ended(own.now, &container, Some(9), Some(problem));
    own.acknowledge("t", &[1; 16]);
    let sent = own.sent::<m::StatusUpdateMessage>();
    let status = &sent[0].update.status;
    let limitation = status.limitation.as_ref();
    assert_eq!(limitation.map(|own| &own.resources), Some(&used.to_protos()));
    assert_eq!((status.state(), status.reason()), (TaskState::TaskFailed, reason));
    assert!(own.sent::<m::ExitedExecutorMessage>().is_empty(), "a command executor's is no news");
}

#[test]
fn a_task_is_killed_before_and_after_its_executor_is_there() {
    let mut own = Conversation::registered();
    let kill = |task: &str| m::KillTaskMessage {
        framework_id: v1::FrameworkId { value: FRAMEWORK_ID.into() },
        task_id: v1::TaskId { value: task.into() },
        kill_policy: None,
    };
    own.hear(&run(task("early")));
    let container = own.launched().unwrap();
    own.hear(&kill("early"));
    assert_eq!(own.states(), [(TaskState::TaskKilled, Some(Reason::TaskKilledDuringLaunch))]);
    assert!(own.destroyed(&container));

    own.hear(&run(task("late")));
    own.subscribe("late", call::Subscribe::default());
    own.events();
    own.hear(&kill("late"));
    assert_eq!(own.event_types(), [event::Type::Kill]);
    own.update("late", TaskState::TaskKilled, 2).unwrap();
    assert_eq!(own.states(), [(TaskState::TaskKilled, None)]);

    own.hear(&kill("never"));
    assert_eq!(
        own.states(),
        [(TaskState::TaskLost, Some(Reason::ExecutorTerminated))],
        "the framework is not partition aware"
    );
}

#[test]
fn a_task_that_comes_after_the_master_asked_of_it_counts_as_dropped() {
    let mut own = Conversation::registered();
    own.leader();
    let statuses =
        vec![v1::TaskStatus { task_id: v1::TaskId { value: "t".into() }, ..Default::default() }];
    let aware = v1::framework_info::capability::Type::PartitionAware as i32;
    let capabilities = vec![v1::framework_info::Capability { r#type: Some(aware) }];
    own.hear(&m::SlaveReregisteredMessage {
        slave_id: v1::AgentId { value: AGENT_ID.into() },
        reconciliations: vec![m::ReconcileTasksMessage {
            framework_id: v1::FrameworkId { value: FRAMEWORK_ID.into() },
            statuses,
            framework: Some(v1::FrameworkInfo { capabilities, ..framework() }),
        }],
        connection: None,
    });
    assert_eq!(own.states(), [(TaskState::TaskDropped, Some(Reason::Reconciliation))]);
    own.hear(&run(task("t")));
    assert!(own.launched().is_none(), "it came on an older connection");
}

#[test]
fn a_task_that_a_master_sent_before_it_heard_from_its_agent_again_is_dropped() {
    let mut own = Conversation::registered();
    let version = |own: &Conversation| m::ResourceVersionUuid {
        uuid: v1::Uuid { value: own.agent.resource_version.as_bytes().to_vec() },
        resource_provider_id: None,
    };
    let late = m::RunTaskMessage { resource_version_uuids: vec![version(&own)], ..run(task("t")) };
    own.later(76.0);
    assert_eq!(own.sent::<m::ReregisterSlaveMessage>().len(), 1);
    own.hear(&late);
    assert!(own.launched().is_none());
    own.reregistered();
    assert_eq!(own.states(), [(TaskState::TaskLost, Some(Reason::InvalidOffers))]);
    let news = m::RunTaskMessage { resource_version_uuids: vec![version(&own)], ..run(task("u")) };
    own.hear(&news);
    assert!(own.launched().is_some());
}

#[test]
fn a_kill_that_comes_after_the_end_was_acknowledged_says_nothing_new() {
    let (mut own, _) = Conversation::running("t");
    own.acknowledge("t", &[1; 16]);
    own.update("t", TaskState::TaskFinished, 2).unwrap();
    own.acknowledge("t", &[2; 16]);
    own.seen.clear();
    let kill = |task: &str| m::KillTaskMessage {
        framework_id: v1::FrameworkId { value: FRAMEWORK_ID.into() },
        task_id: v1::TaskId { value: task.into() },
        kill_policy: None,
    };
    own.hear(&kill("t"));
    assert_eq!(own.states(), []);
    own.hear(&kill("u"));
    assert_eq!(own.states(), [(TaskState::TaskLost, Some(Reason::ExecutorTerminated))]);
}

#[test]
fn a_task_with_a_volume_that_is_not_there_is_dropped() {
    let mut own = Conversation::registered();
    let mut resource = v1::Resource {
        reservations: vec![v1::resource::ReservationInfo {
            r#type: Some(v1::resource::reservation_info::Type::Dynamic as i32),
            role: Some("r".into()),
            ..Default::default()
        }],
        ..mesos::resources::Resources::parse("mem:64", "*").unwrap().to_protos().remove(0)
    };
    resource.allocation_info = Some(v1::resource::AllocationInfo { role: Some("r".into()) });
    own.hear(&run(v1::TaskInfo { resources: vec![resource], ..task("t") }));
    assert!(own.launched().is_none());
    assert_eq!(own.states(), [(TaskState::TaskLost, Some(Reason::ResourcesUnknown))]);
}

#[test]
fn a_commands_own_executor_is_not_reported() {
    let (mut own, _) = Conversation::running("t");
    own.later(76.0);
    let told = own.sent::<m::ReregisterSlaveMessage>().remove(0);
    assert_eq!((told.tasks.len(), told.executor_infos.len()), (1, 0));
}

#[test]
fn a_task_that_was_lost_with_its_executors_stream_is_dropped() {
    let mut own = Conversation::registered();
    own.hear(&run(task("t")));
    own.subscribe("t", call::Subscribe::default());
    own.agent.stream_closed(StreamId(Uuid::from_u128(1)));
    let known = call::Subscribe { unacknowledged_tasks: vec![task("t")], ..Default::default() };
    own.subscribe("t", known);
    assert!(own.states().is_empty(), "the executor has it");
    own.agent.stream_closed(StreamId(Uuid::from_u128(1)));
    own.subscribe("t", call::Subscribe::default());
    assert_eq!(own.states(), [(TaskState::TaskLost, Some(Reason::AgentRestarted))]);
}

#[test]
fn calls_that_make_no_sense_are_refused_in_the_originals_words() {
    let (mut own, _) = Conversation::running("t");
    let refusal = |own: &mut Conversation, call: Call| match own.agent.call(own.now, call) {
        Err(CallError::BadRequest(text) | CallError::Forbidden(text)) => text,
        Ok(()) => panic!("taken"),
    };
    let mut stranger = call("x", call::Type::Update);
    stranger.update = Some(call::Update { status: status("x", TaskState::TaskRunning, 3) });
    assert_eq!(refusal(&mut own, stranger), "Executor cannot be found");
    assert_eq!(
        refusal(&mut own, call("t", call::Type::Update)),
        "Failed to validate Executor::Call: Expecting 'update' to be present"
    );
    let mut without = call("t", call::Type::Update);
    let mut anonymous = status("t", TaskState::TaskRunning, 3);
    anonymous.uuid = None;
    without.update = Some(call::Update { status: anonymous });
    assert_eq!(
        refusal(&mut own, without),
        "Failed to validate Executor::Call: Expecting 'uuid' to be present"
    );
    own.agent.stream_closed(StreamId(Uuid::from_u128(1)));
    let refused = own.update("t", TaskState::TaskFinished, 4);
    assert_eq!(refused, Err(CallError::Forbidden("Executor is not subscribed".into())));
}

#[test]
fn ids_that_would_leave_the_work_dir_start_nothing() {
    let mut own = Conversation::registered();
    own.hear(&run(task("../../etc")));
    assert!(own.launched().is_none());
}
