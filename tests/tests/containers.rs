//! Containers on a real host: Docker's and the agent's own, through restarts, kills and limits.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use end_to_end::daemon::Daemon;
use end_to_end::lab::{self, Lab};
use end_to_end::programs::{binary, root};
use end_to_end::{http, need, wait};
use serde_json::{Value, json};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

/// One host with our ZooKeeper server, master and agent as units, and a framework here.
struct Host {
    lab: Lab,
    ip: String,
    commands: PathBuf,
    framework: Daemon,
    _directory: TempDir,
}

fn unit(lab: &Lab, name: &str, command: &str) {
    let text = format!("[Service]\\nExecStart={command}\\nKillMode=process\\n");
    lab.ssh("h1", &format!("printf '{text}' > /etc/systemd/system/{name}.service"));
}

impl Host {
    fn up(name: &str, agent_flags: &str) -> Self {
        let lab = Lab::up(name, 1);
        let ip = lab.ip("h1");
        let directory = TempDir::new().expect("a directory");
        let programs = directory.path().join("programs");
        fs::create_dir(&programs).expect("a directory");
        for name in ["zookeeper-server", "mesos-master", "mesos-agent"] {
            fs::copy(binary(name), programs.join(name)).expect("a copy");
        }
        let zoo = "tickTime=2000\ndataDir=/var/lib/zookeeper\nclientPort=2181\n";
        fs::write(programs.join("zoo.cfg"), zoo).expect("a file");
        let dns =
            json!({"docker": [{"network_mode": "BRIDGE", "dns": {"nameservers": ["10.9.9.9"]}}]});
        fs::write(programs.join("dns.json"), dns.to_string()).expect("a file");
        for name in ["executor_v0.py", "finishing_executor.py", "libprocess.py"] {
            fs::copy(root().join("tests/clients").join(name), programs.join(name)).expect("a copy");
        }
        lab.copy("h1", &programs, "/opt/meso");
        lab.ssh("h1", "mkdir -p /usr/libexec/mesos /var/lib/zookeeper && for name in mesos-executor mesos-docker-executor; do ln -sf /opt/meso/mesos-agent /usr/libexec/mesos/$name; done");
        lab.import_busybox("h1");
        let common = format!("--ip={ip} --hostname={ip} --work_dir=/var/lib/mesos");
        unit(&lab, "zookeeper", "/opt/meso/zookeeper-server /opt/meso/zoo.cfg");
        unit(
            &lab,
            "mesos-master",
            &format!("/opt/meso/mesos-master --zk=zk://{ip}:2181/mesos --quorum=1 {common}"),
        );
        unit(
            &lab,
            "mesos-slave",
            &format!(
                "/opt/meso/mesos-agent --master=zk://{ip}:2181/mesos {common} --containerizers=docker,mesos --executor_registration_timeout=15mins {agent_flags}"
            ),
        );
        lab.ssh(
            "h1",
            "systemctl daemon-reload && systemctl start zookeeper mesos-master mesos-slave",
        );
        wait::until("an active agent", LIMIT, || {
            let state = http::get_json(&format!("http://{ip}:5050/state"))?;
            if state["activated_slaves"].as_f64() == Some(1.0) {
                Ok(())
            } else {
                Err(state.to_string())
            }
        });
        let commands = directory.path().join("commands");
        File::create(&commands).expect("a file");
        let framework = Daemon::start(
            "framework",
            directory.path(),
            Command::new("python3")
                .arg(root().join("tests/clients/console.py"))
                .arg(format!("{ip}:5050"))
                .arg(&commands),
        );
        Self { lab, ip, commands, framework, _directory: directory }
    }

    fn order(&self, command: &Value) {
        let mut file = File::options().append(true).open(&self.commands).expect("the commands");
        writeln!(file, "{command}").expect("a command");
    }

    /// Starts a task with 0.2 CPUs and 64 MB.
    fn run(&self, id: &str, more: &Value) {
        let scalar = |name: &str, value: f64| json!({"name": name, "type": "SCALAR", "scalar": {"value": value}});
        let mut task = json!({"name": id, "task_id": {"value": id}, "resources": [scalar("cpus", 0.2), scalar("mem", 64.0)]});
        for (key, value) in more.as_object().expect("an object") {
            match (key.as_str(), task["resources"].as_array_mut()) {
                ("port", Some(resources)) => resources.push(json!({"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": value, "end": value}]}})),
                _ => task[key] = value.clone(),
            }
        }
        self.order(&json!({"run": task}));
    }

    fn updates(&self, task: &str) -> Vec<Value> {
        let output = self.framework.output();
        let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|update| update["task"] == task).collect()
    }

    fn wait_for(&self, task: &str, state: &str) -> Value {
        wait::until(&format!("{state} of {task}"), LIMIT, || {
            let updates = self.updates(task);
            let found = updates.iter().find(|update| update["state"] == state);
            found.cloned().ok_or_else(|| format!("{updates:?}"))
        })
    }

    fn states(&self, task: &str) -> Vec<String> {
        let states = self
            .updates(task)
            .into_iter()
            .map(|update| update["state"].as_str().unwrap_or_default().to_owned());
        states.collect()
    }

    fn restart_agent(&self) {
        self.lab.ssh("h1", "systemctl restart mesos-slave");
        wait::until("the agent to be back", LIMIT, || {
            let metrics = http::get_json(&format!("http://{}:5051/metrics/snapshot", self.ip))?;
            if metrics["slave/registered"] == 1.0 { Ok(()) } else { Err(metrics.to_string()) }
        });
    }

    /// The container that an executor runs in, and its sandbox.
    fn container(&self, executor: &str) -> (String, String) {
        let state =
            http::get_json(&format!("http://{}:5051/state", self.ip)).expect("the agent's state");
        let executors = state["frameworks"][0]["executors"].as_array().cloned().unwrap_or_default();
        let found = executors
            .iter()
            .find(|known| known["id"] == executor)
            .unwrap_or_else(|| panic!("no {executor} in {state}"));
        let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
        (text("container"), text("directory"))
    }

    fn file(&self, path: &str) -> String {
        let reply =
            http::get_json(&format!("http://{}:5051/files/read?path={path}&offset=0", self.ip))
                .expect("a file");
        reply["data"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a file has this content.
    fn wait_for_content(&self, path: &str, expected: &str) {
        wait::until(path, LIMIT, || {
            let content = self.file(path);
            if content == expected { Ok(()) } else { Err(content) }
        });
    }
}

fn shell(value: &str) -> Value {
    json!({"shell": true, "value": value})
}

fn docker(network: &str) -> Value {
    json!({"type": "DOCKER", "docker": {"image": "busybox", "network": network}})
}

#[test]
fn docker_tasks_outlive_their_agent_and_end_as_they_are_told() {
    need!(lab::missing().is_none(), "{}", lab::missing().unwrap_or_default());
    let host = Host::up(
        "containers-docker",
        "--default_container_dns=/opt/meso/dns.json --log_dir=/var/log/mesos",
    );
    let web = json!({
        "port": 31000,
        "command": {"shell": true, "value": "echo to stdout; echo to stderr >&2; mkdir /www; echo $GREETING > /www/index.html; cp /host/hostname /www/; exec httpd -f -p 80 -h /www", "environment": {"variables": [{"name": "GREETING", "value": "hello"}]}},
        "container": {"type": "DOCKER", "volumes": [{"host_path": "/etc", "container_path": "/host", "mode": "RO"}], "docker": {"image": "busybox", "network": "BRIDGE", "port_mappings": [{"host_port": 31000, "container_port": 80, "protocol": "tcp"}], "parameters": [{"key": "label", "value": "made=here"}]}},
    });
    host.run("web", &web);
    host.run("stubborn", &json!({"command": shell("trap '' TERM; while :; do sleep 1; done"), "container": docker("HOST")}));
    let limits = json!({"cpus": {"value": "Infinity"}, "mem": {"value": "Infinity"}});
    host.run(
        "victim",
        &json!({"command": shell("sleep 1000"), "container": docker("HOST"), "limits": limits}),
    );
    for task in ["web", "stubborn", "victim"] {
        host.wait_for(task, "TASK_RUNNING");
    }
    let (web, sandbox) = host.container("web");
    let page =
        |name: &str| http::get(&format!("http://{}:31000/{name}", host.ip)).map(|reply| reply.body);
    wait::until("the page", LIMIT, || {
        page("").and_then(|body| if body == "hello\n" { Ok(()) } else { Err(body) })
    });
    assert_eq!(page("hostname").expect("the volume's file").trim(), "h1");
    host.wait_for_content(&format!("{sandbox}/stdout"), "to stdout\n");
    host.wait_for_content(&format!("{sandbox}/stderr"), "to stderr\n");
    let format = "{{.Config.Labels.made}} {{.HostConfig.CpuShares}} {{.HostConfig.Memory}} {{.Id}}";
    let inspect = || host.lab.ssh("h1", &format!("docker inspect -f '{format}' mesos-{web}"));
    let before = inspect();
    assert!(before.starts_with("here 204 67108864 "), "{before}");
    let resolver = host.lab.ssh("h1", &format!("docker exec mesos-{web} cat /etc/resolv.conf"));
    assert!(resolver.contains("nameserver 10.9.9.9"), "{resolver}");
    let log = host.file("/slave/log");
    assert!(log.contains("compatible with Mesos"), "{log}");
    checked_and_limited_in_time(&host);

    host.restart_agent();
    assert_eq!(inspect(), before, "the same container");
    assert_eq!(host.container("web").0, web);

    let (victim, _) = host.container("victim");
    // It may take all that there is, and is sure of what it asks for.
    let format = "{{.HostConfig.Memory}} {{.HostConfig.MemoryReservation}} {{.HostConfig.CpuShares}} {{.HostConfig.CpuQuota}}";
    let unlimited = host.lab.ssh("h1", &format!("docker inspect -f '{format}' mesos-{victim}"));
    assert_eq!(unlimited.trim(), "0 67108864 204 0");
    host.lab.ssh("h1", &format!("docker kill mesos-{victim}"));
    let failed = host.wait_for("victim", "TASK_FAILED");
    assert_eq!(failed["message"], "Container exited with status 137");
    host.order(&json!({"kill": "stubborn", "grace": 1}));
    host.wait_for("stubborn", "TASK_KILLED");
    assert_eq!(host.states("web"), ["TASK_STARTING", "TASK_RUNNING"], "nothing happened to it");

    // An executor that dies takes its container with it.
    host.lab.ssh("h1", &format!("pkill -9 -f 'mesos-docker-executor.*{web}'"));
    assert_eq!(host.wait_for("web", "TASK_FAILED")["reason"], "REASON_EXECUTOR_TERMINATED");
    wait::until("no running container", LIMIT, || {
        let running = host.lab.ssh("h1", "docker ps -q");
        if running.trim().is_empty() { Ok(()) } else { Err(running) }
    });
}

/// Checks look from within a container: what listens there to itself only is healthy. A task that takes too long ends.
fn checked_and_limited_in_time(host: &Host) {
    let check = |kind: Value| {
        let mut check = json!({"delay_seconds": 0, "interval_seconds": 0.2, "grace_period_seconds": 60, "timeout_seconds": 10});
        for (key, value) in kind.as_object().expect("an object") {
            check[key] = value.clone();
        }
        check
    };
    let hidden =
        shell("mkdir /www; echo up > /www/index.html; exec httpd -f -p 127.0.0.1:80 -h /www");
    let checks = [
        ("tcp", json!({"type": "TCP", "tcp": {"port": 80}})),
        ("http", json!({"type": "HTTP", "http": {"port": 80, "path": "/", "scheme": "http"}})),
        ("command", json!({"type": "COMMAND", "command": {"value": "grep -q up /www/index.html"}})),
    ];
    for (task, kind) in &checks {
        let container = docker(if *task == "tcp" { "NONE" } else { "BRIDGE" });
        let health = check(kind.clone());
        host.run(task, &json!({"command": hidden, "container": container, "health_check": health}));
    }
    for (task, _) in &checks {
        wait::until(&format!("a healthy {task}"), LIMIT, || {
            let updates = host.updates(task);
            let is_healthy = updates.iter().any(|update| update["healthy"] == true);
            if is_healthy { Ok(()) } else { Err(format!("{updates:?}")) }
        });
        host.order(&json!({"kill": task, "grace": 0}));
        host.wait_for(task, "TASK_KILLED");
    }
    let limit = json!({"nanoseconds": 1_000_000_000});
    // Ids of Chronos' tasks have colons in them, which part fields where Docker takes volumes as text.
    host.run("ct:1:0:late", &json!({"command": shell("sleep 1000"), "container": docker("NONE"), "max_completion_time": limit}));
    let late = host.wait_for("ct:1:0:late", "TASK_FAILED");
    assert_eq!(late["reason"], "REASON_MAX_COMPLETION_TIME_REACHED", "{late}");
    let bad = json!({"type": "DOCKER", "docker": {"image": "busybox", "network": "USER"}});
    host.run("bad", &json!({"command": shell("true"), "container": bad}));
    let bad = host.wait_for("bad", "TASK_FAILED");
    let expected = "Failed to create docker run options: No network info found in container info";
    assert_eq!(bad["message"], expected);
}

/// An executor of a framework's that Docker runs, with the host's Python in the one image that the host has.
fn executor_in_docker(id: &str, program: &str) -> Value {
    let mount = |path: &str| json!({"host_path": path, "container_path": path, "mode": "RO"});
    let volumes = ["/usr", "/lib", "/lib64", "/opt/meso"].map(mount);
    json!({"executor": {
        "type": "CUSTOM", "executor_id": {"value": id}, "name": id,
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}}],
        "command": {
            "value": format!("cd $MESOS_SANDBOX && echo for $NAME >&2 && exec python3 /opt/meso/{program}"),
            "environment": {"variables": [{"name": "NAME", "value": id}]},
        },
        "container": {"type": "DOCKER", "volumes": volumes, "docker": {"image": "busybox"}},
    }})
}

#[test]
fn docker_runs_executors_of_frameworks() {
    need!(lab::missing().is_none(), "{}", lab::missing().unwrap_or_default());
    let host = Host::up("containers-executors", "--cgroups_enable_cfs");
    host.run("at once", &executor_in_docker("v1", "finishing_executor.py"));
    host.wait_for("at once", "TASK_FINISHED");
    let (v0, victim) = ("executor_v0.py", executor_in_docker("victim", "executor_v0.py"));
    host.run("first", &executor_in_docker("v0", v0));
    host.run("lost", &victim);
    for task in ["first", "lost"] {
        host.wait_for(task, "TASK_RUNNING");
    }
    let (container, sandbox) = host.container("v0");
    host.wait_for_content(&format!("{sandbox}/stderr"), "for v0\n");
    let inspect = |format: &str| {
        host.lab.ssh("h1", &format!("docker inspect -f '{format}' mesos-{container}"))
    };
    let limits = || {
        inspect("{{.HostConfig.CpuShares}} {{.HostConfig.CpuQuota}} {{.HostConfig.Memory}}")
            .trim()
            .to_owned()
    };
    // The executor's and its task's.
    assert_eq!(limits(), format!("307 30000 {}", 64 << 20));
    host.run("second", &executor_in_docker("v0", v0));
    host.wait_for("second", "TASK_RUNNING");
    wait::until("limits for both tasks", LIMIT, || {
        let limits = limits();
        if limits == format!("512 50000 {}", 128 << 20) { Ok(()) } else { Err(limits) }
    });

    let started = inspect("{{.State.StartedAt}}");
    host.restart_agent();
    wait::until("the executor to be back", LIMIT, || {
        let output = host.file(&format!("{sandbox}/stdout"));
        if output.contains("ExecutorReregisteredMessage") { Ok(()) } else { Err(output) }
    });
    assert_eq!(inspect("{{.State.StartedAt}}"), started, "the same container");
    host.lab.ssh("h1", &format!("touch {sandbox}/go"));
    for task in ["first", "second"] {
        host.wait_for(task, "TASK_FINISHED");
    }

    let (lost, _) = host.container("victim");
    host.lab.ssh("h1", &format!("docker kill mesos-{lost}"));
    let failed = host.wait_for("lost", "TASK_FAILED");
    assert_eq!(
        (&failed["reason"], &failed["message"]),
        (&json!("REASON_EXECUTOR_TERMINATED"), &json!("Container terminated"))
    );
    let mut unknown = executor_in_docker("unknown", v0);
    unknown["executor"]["container"]["docker"]["parameters"] =
        json!([{"key": "frobnicate", "value": "x"}]);
    host.run("refused", &unknown);
    let refused = host.wait_for("refused", "TASK_FAILED");
    assert_eq!(refused["reason"], "REASON_CONTAINER_LAUNCH_FAILED", "{refused}");

    host.order(&json!({"stop": true}));
    wait::until("no running container", LIMIT, || {
        let running = host.lab.ssh("h1", "docker ps -q");
        if running.trim().is_empty() { Ok(()) } else { Err(running) }
    });
}

#[test]
fn the_agents_own_containers_are_limited_and_end_whole() {
    need!(lab::missing().is_none(), "{}", lab::missing().unwrap_or_default());
    let host = Host::up("containers-mesos", "--launcher=linux --isolation=cgroups/cpu,cgroups/mem");
    host.run(
        "tree",
        &json!({"command": shell("setsid sleep 5001 & (setsid sleep 5001 &); sleep 5001")}),
    );
    host.run(
        "other",
        &json!({"command": {"shell": true, "user": "ops", "value": "id -un; stat -c %U hostname; sleep 5002", "uris": [{"value": "/etc/hostname"}]}}),
    );
    let shadow = json!({"command": {"shell": true, "user": "ops", "value": "sleep 5002", "uris": [{"value": "file:///etc/shadow"}]}});
    host.run("thief", &shadow);
    let refused = host.wait_for("thief", "TASK_FAILED");
    assert_eq!(refused["reason"], "REASON_CONTAINER_LAUNCH_FAILED");
    assert!(refused.to_string().contains("Permission denied"), "{refused}");
    for task in ["tree", "other"] {
        host.wait_for(task, "TASK_RUNNING");
    }
    let (tree, _) = host.container("tree");
    let (_, sandbox) = host.container("other");
    host.wait_for_content(&format!("{sandbox}/stdout"), "ops\nops\n");
    let read =
        |file: &str| host.lab.ssh("h1", &format!("cat /sys/fs/cgroup/{file}")).trim().to_owned();
    // The task's and its executor's.
    assert_eq!(read(&format!("cpu/mesos/{tree}/cpu.shares")), "307");
    assert_eq!(
        read(&format!("memory/mesos/{tree}/memory.limit_in_bytes")),
        (96u64 << 20).to_string()
    );
    let inside = || read(&format!("memory/mesos/{tree}/cgroup.procs")).lines().count();
    wait::until("all processes in the container", LIMIT, || {
        let count = inside();
        if count == 5 { Ok(()) } else { Err(count.to_string()) }
    });

    host.restart_agent();
    assert_eq!(host.container("tree").0, tree);
    assert_eq!(inside(), 5);
    host.order(&json!({"kill": "tree", "grace": 1}));
    host.wait_for("tree", "TASK_KILLED");
    wait::until("the container to be gone", LIMIT, || {
        let left = host.lab.ssh(
            "h1",
            &format!(
                "ls -d /sys/fs/cgroup/*/mesos/{tree} 2>/dev/null; pgrep -fx 'sleep 5001'; true"
            ),
        );
        if left.trim().is_empty() { Ok(()) } else { Err(left) }
    });

    // Memory in the task itself, then in a child that its shell would survive.
    let hog = "python3 -c 'x = b\"x\" * (300 << 20); import time; time.sleep(1000)'";
    for (task, command) in [("hog", format!("exec {hog}")), ("hogs", format!("{hog}; sleep 1000"))]
    {
        host.run(task, &json!({"command": shell(&command)}));
        let failed = host.wait_for(task, "TASK_FAILED");
        assert_eq!(failed["reason"], "REASON_CONTAINER_LIMITATION_MEMORY", "{failed}");
        let message = failed["message"].as_str().unwrap_or_default();
        assert!(
            message.starts_with("Memory limit exceeded: Requested: 96MB Maximum Used: 96MB"),
            "{message}"
        );
    }
    assert_eq!(host.states("other"), ["TASK_STARTING", "TASK_RUNNING"], "nothing happened to it");
}
