//! What may be launched: each refusal in the original's words.

use super::*;
use v1::agent_info::capability::Type as Capability;

type Change<T> = fn(&mut T);
type Group = (v1::ExecutorInfo, Vec<v1::TaskInfo>);

/// A test with an agent that has all that is asked for here.
fn ready(capabilities: &[Capability]) -> (Test, StreamId) {
    let mut test = Test::new();
    let all = "cpus:4;mem:1024;disk:100;ports:[31000-31099]";
    let slave = v1::AgentInfo { resources: resources(all), ..agent_info() };
    let agent_capabilities = capabilities
        .iter()
        .map(|kind| v1::agent_info::Capability { r#type: Some(*kind as i32) })
        .collect();
    let message =
        internal::RegisterSlaveMessage { slave, agent_capabilities, ..Default::default() };
    test.message(&agent_pid(), &message);
    let stream = test.subscribe(framework_info());
    (test, stream)
}

fn refusal(test: &Test, name: &str) -> String {
    let event = test.events(event::Type::Update).into_iter().next();
    let status = event.unwrap_or_else(|| panic!("{name} runs")).update.unwrap().status;
    assert_eq!(status.state(), TaskState::TaskError, "{name}");
    status.message().to_owned()
}

fn limits(pairs: &[(&str, f64)]) -> std::collections::BTreeMap<String, v1::value::Scalar> {
    let pair =
        |(name, value): &(&str, f64)| ((*name).to_owned(), v1::value::Scalar { value: *value });
    pairs.iter().map(pair).collect()
}

fn in_mesos(linux: v1::LinuxInfo) -> v1::ContainerInfo {
    v1::ContainerInfo {
        r#type: v1::container_info::Type::Mesos as i32,
        linux_info: Some(linux),
        ..Default::default()
    }
}

fn sharing(share_cgroups: bool) -> Option<v1::ContainerInfo> {
    let share_cgroups = Some(share_cgroups);
    Some(in_mesos(v1::LinuxInfo { share_cgroups, ..Default::default() }))
}

fn volume(source: v1::volume::Source) -> Option<v1::ContainerInfo> {
    let volume = v1::Volume {
        mode: v1::volume::Mode::Rw as i32,
        container_path: "data".to_owned(),
        source: Some(source),
        ..Default::default()
    };
    Some(v1::ContainerInfo { volumes: vec![volume], ..in_mesos(v1::LinuxInfo::default()) })
}

fn variable(variable: v1::environment::Variable) -> Option<v1::CommandInfo> {
    let named = v1::environment::Variable { name: "A".to_owned(), ..variable };
    Some(v1::CommandInfo {
        environment: Some(v1::Environment { variables: vec![named] }),
        ..Default::default()
    })
}

fn executor() -> v1::ExecutorInfo {
    v1::ExecutorInfo {
        executor_id: v1::ExecutorId { value: "e".to_owned() },
        command: Some(v1::CommandInfo { value: Some("x".to_owned()), ..Default::default() }),
        resources: resources("cpus:0.1;mem:32;disk:1"),
        ..Default::default()
    }
}

fn pod() -> v1::ExecutorInfo {
    v1::ExecutorInfo {
        r#type: Some(v1::executor_info::Type::Default as i32),
        framework_id: Some(v1::FrameworkId { value: "M-0000".to_owned() }),
        command: None,
        ..executor()
    }
}

fn with_executor(task: &mut v1::TaskInfo, change: impl FnOnce(&mut v1::ExecutorInfo)) {
    let mut own = executor();
    change(&mut own);
    (task.command, task.executor) = (None, Some(own));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn a_task_is_refused_in_the_words_of_the_original() {
    use v1::environment::variable::Type as Variable;
    let cases: &[(&str, Change<v1::TaskInfo>)] = &[
        ("Task uses invalid check: CheckInfo must specify 'type'", |task| {
            task.check = Some(v1::CheckInfo::default());
        }),
        ("Task uses invalid check: Expecting 'tcp' to be set for TCP check", |task| {
            task.check = Some(v1::CheckInfo { r#type: Some(3), ..Default::default() });
        }),
        ("Task uses invalid check: Command check must contain 'shell command'", |task| {
            let command = Some(v1::check_info::Command::default());
            task.check = Some(v1::CheckInfo { r#type: Some(1), command, ..Default::default() });
        }),
        ("Task uses invalid check: The path 'x' of HTTP check must start with '/'", |task| {
            let http = Some(v1::check_info::Http { port: 80, path: Some("x".to_owned()) });
            task.check = Some(v1::CheckInfo { r#type: Some(2), http, ..Default::default() });
        }),
        ("Task uses invalid check: Expecting 'timeout_seconds' to be non-negative", |task| {
            task.check = Some(v1::CheckInfo {
                r#type: Some(3),
                tcp: Some(v1::check_info::Tcp { port: 80 }),
                timeout_seconds: Some(-1.0),
                ..Default::default()
            });
        }),
        ("Task uses invalid health check: Unsupported HTTP health check scheme: 'ftp'", |task| {
            let scheme = Some("ftp".to_owned());
            let http = v1::health_check::HttpCheckInfo { scheme, ..Default::default() };
            task.health_check =
                Some(v1::HealthCheck { r#type: Some(2), http: Some(http), ..Default::default() });
        }),
        ("Resource 'cpus:-1' is invalid: Invalid scalar resource: value <= 0", |task| {
            task.resources = resources("cpus:1");
            task.resources[0].scalar = Some(v1::value::Scalar { value: -1.0 });
        }),
        (
            "Invalid task resources: The resources have multiple allocation roles ('b' and 'a') but only one allocation role is allowed",
            |task| {
                let names = ["a", "b"];
                for (resource, role) in task.resources.iter_mut().zip(names) {
                    let role = Some(role.to_owned());
                    resource.allocation_info = Some(v1::resource::AllocationInfo { role });
                }
            },
        ),
        (
            "Task mixes revocable and non-revocable resources: Cannot use both revocable and non-revocable 'cpus' at the same time",
            |task| {
                let mut revocable = task.resources[0].clone();
                revocable.revocable = Some(v1::resource::RevocableInfo::default());
                task.resources.push(revocable);
            },
        ),
        ("Task uses duplicate persistence ID: Persistence ID 'v' is not unique", |task| {
            for agent_path in ["a", "b"] {
                task.resources.push(persistent(agent_path));
            }
        }),
        (
            "Task's `CommandInfo` is invalid: Environment variable 'A' of type 'VALUE' must have a value set",
            |task| {
                task.command = variable(v1::environment::Variable::default());
            },
        ),
        (
            "Task's `CommandInfo` is invalid: Environment variable 'A' of type 'SECRET' must have a secret set",
            |task| {
                let r#type = Some(Variable::Secret as i32);
                task.command = variable(v1::environment::Variable { r#type, ..Default::default() });
            },
        ),
        (
            "Task's `CommandInfo` is invalid: Environment variable 'A' specifies an invalid secret: Secret of type VALUE must have the 'value' field set",
            |task| {
                let secret = v1::Secret { r#type: Some(2), ..Default::default() };
                let r#type = Some(Variable::Secret as i32);
                let secret = Some(secret);
                task.command =
                    variable(v1::environment::Variable { r#type, secret, ..Default::default() });
            },
        ),
        (
            "Task's `ContainerInfo` is invalid: DockerInfo 'docker' is not set for DOCKER typed ContainerInfo",
            |task| {
                task.container = Some(v1::ContainerInfo { r#type: 1, ..Default::default() });
            },
        ),
        (
            "Task's `ContainerInfo` is invalid: Invalid volume: 'source.sandbox_path' is not set for SANDBOX_PATH volume",
            |task| {
                task.container =
                    volume(v1::volume::Source { r#type: Some(2), ..Default::default() });
            },
        ),
        (
            "Task's `ContainerInfo` is invalid: Invalid volume: 'source.csi_volume.static_provisioning' is not set for CSI volume",
            |task| {
                let csi_volume = Some(v1::volume::source::CsiVolume::default());
                task.container = volume(v1::volume::Source {
                    r#type: Some(5),
                    csi_volume,
                    ..Default::default()
                });
            },
        ),
        ("Only tasks in a task group may have 'share_cgroups' set to 'false'", |task| {
            task.container = sharing(false);
        }),
        ("Only cpus and mem may be included in a task's resource limits", |task| {
            task.limits = limits(&[("disk", 1.0)]);
        }),
        ("The cpu limit must be greater than or equal to the cpu request", |task| {
            task.limits = limits(&[("cpus", 0.5)]);
        }),
        ("The memory limit must be greater than or equal to the memory request", |task| {
            task.limits = limits(&[("cpus", f64::INFINITY), ("mem", 127.0)]);
        }),
        ("When a CPU limit is specified, a CPU request must also be specified", |task| {
            (task.resources, task.limits) = (resources("mem:32"), limits(&[("cpus", 1.0)]));
        }),
        (
            "Executor's `ContainerInfo` is invalid: Invalid volume: 'source.type' is unknown",
            |task| {
                with_executor(task, |own| own.container = volume(v1::volume::Source::default()));
            },
        ),
        ("The 'share_cgroups' field cannot be set to 'true' on executor containers", |task| {
            with_executor(task, |own| own.container = sharing(true));
        }),
        (
            "There are overlapping resources in the task resources ports(allocated: *):[31000-31001] and executor resources ports(allocated: *):[31001-31002]",
            |task| {
                with_executor(task, |own| own.resources = resources("ports:[31001-31002]"));
                task.resources = resources("ports:[31000-31001]");
            },
        ),
    ];
    for (expected, change) in cases {
        let (mut test, stream) = ready(&[Capability::TaskResourceLimits]);
        let mut wrong = task("t");
        change(&mut wrong);
        test.launch(stream, vec![wrong]);
        assert_eq!(refusal(&test, expected), *expected);
    }
}

/// A volume `v` at some path.
fn persistent(container_path: &str) -> v1::Resource {
    let mut disk = resources("disk(r):1").remove(0);
    let persistence = v1::resource::disk_info::Persistence { id: "v".to_owned(), principal: None };
    let volume = v1::Volume {
        mode: v1::volume::Mode::Rw as i32,
        container_path: container_path.to_owned(),
        ..Default::default()
    };
    disk.disk = Some(Box::new(v1::resource::DiskInfo {
        persistence: Some(persistence),
        volume: Some(volume),
        ..Default::default()
    }));
    disk
}

#[test]
fn limits_are_for_agents_that_keep_them() {
    for capabilities in [&[][..], &[Capability::TaskResourceLimits]] {
        let (mut test, stream) = ready(capabilities);
        let limits = limits(&[("cpus", 2.0), ("mem", f64::INFINITY)]);
        test.launch(stream, vec![v1::TaskInfo { limits, ..task("t") }]);
        if capabilities.is_empty() {
            let text = "Agent is not capable of handling task resource limits";
            assert_eq!(refusal(&test, text), text);
        } else {
            assert_eq!(test.sent::<internal::RunTaskMessage>(&agent_pid()).len(), 1);
        }
    }
}

#[test]
fn a_group_is_refused_in_the_words_of_the_original() {
    let cases: &[(&str, Change<Group>)] = &[
        (
            "Task 'a' is invalid: Resource limits may only be set for tasks within a task group when the 'share_cgroups' field is set to 'false'.",
            |(_, tasks)| {
                tasks[0].limits = limits(&[("cpus", 2.0)]);
            },
        ),
        (
            "Task 'a' is invalid: HTTP and TCP health checks are not supported for nested containers not joining parent's network",
            |(_, tasks)| {
                let network_infos = vec![v1::NetworkInfo::default()];
                let container = in_mesos(v1::LinuxInfo::default());
                tasks[0].container = Some(v1::ContainerInfo { network_infos, ..container });
                tasks[0].health_check = Some(v1::HealthCheck {
                    r#type: Some(3),
                    tcp: Some(v1::health_check::TcpCheckInfo::default()),
                    ..Default::default()
                });
            },
        ),
        ("Task has duplicate ID: a", |(_, tasks)| tasks[1] = task("a")),
        (
            "If set, the value of 'share_cgroups' must be the same for all tasks in each task group and under a single executor",
            |(_, tasks)| {
                tasks[0].container = sharing(false);
            },
        ),
        (
            "The 'share_cgroups' field cannot be set to 'true' on executor containers",
            |(info, _)| {
                info.container = sharing(true);
            },
        ),
        (
            "There are overlapping resources in the task group's task resources [ ports(allocated: *):[31000-31000], ports(allocated: *):[31000-31001] ] and/or executor resources cpus(allocated: *):0.1; mem(allocated: *):32; disk(allocated: *):1",
            |(_, tasks)| {
                tasks[0].resources = resources("ports:[31000-31000]");
                tasks[1].resources = resources("ports:[31000-31001]");
            },
        ),
        (
            "Task group and executor use duplicate persistence ID: Persistence ID 'v' is not unique",
            |(info, tasks)| {
                tasks[0].resources.push(persistent("a"));
                info.resources.push(persistent("b"));
            },
        ),
    ];
    for (expected, change) in cases {
        let (mut test, stream) = ready(&[Capability::TaskResourceLimits]);
        let mut group = (pod(), vec![task("a"), task("b")]);
        change(&mut group);
        launch_group(&mut test, stream, group.0, group.1);
        assert_eq!(refusal(&test, expected), *expected);
        assert!(test.master.frameworks["M-0000"].tasks.is_empty(), "{expected}");
    }
}

#[test]
fn the_tasks_of_an_executor_share_cgroups_alike_over_several_groups() {
    let (mut test, stream) = ready(&[Capability::TaskResourceLimits]);
    let with = |name: &str, shares: bool| v1::TaskInfo {
        container: sharing(shares),
        resources: resources("cpus:0.1;mem:32"),
        ..task(name)
    };
    launch_group(&mut test, stream, pod(), vec![with("a", false)]);
    assert_eq!(test.sent::<internal::RunTaskGroupMessage>(&agent_pid()).len(), 1);
    launch_group(&mut test, stream, pod(), vec![with("b", true)]);
    let text = "If set, the value of 'share_cgroups' must be the same for all tasks in each task group and under a single executor";
    assert_eq!(refusal(&test, text), text);
    launch_group(&mut test, stream, pod(), vec![with("c", false)]);
    assert_eq!(test.sent::<internal::RunTaskGroupMessage>(&agent_pid()).len(), 1);
}
