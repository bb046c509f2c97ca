//! Isolation on this very kernel: memory, CPUs, numbers of processes and disk of the agent's own containers, and that
//! ending one leaves no process of it behind. With whichever version of cgroups this machine has; `scripts/in-vm` runs
//! these tests on a kernel with the other one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use end_to_end::site::{Parts, Site};
use end_to_end::{http, leftovers, need, skip, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(90);
const HIERARCHY: &str = "/sys/fs/cgroup";
/// Where version 2 is beside version 1.
const UNIFIED: &str = "/sys/fs/cgroup/unified";
const IN_UNIFIED: &str = "--cgroups_hierarchy=/sys/fs/cgroup/unified";
const ROOT: &str = "mesos-isolation";
const CONTROLLERS: &[&str] = &["cpu", "cpuacct", "memory", "freezer", "pids"];

/// Where containers of these tests may have groups.
fn own_controllers() -> impl Iterator<Item = &'static str> {
    CONTROLLERS.iter().copied().chain(["unified", "blkio", "cpuset", "devices"])
}

/// Whether this machine has one hierarchy for all controllers.
fn is_unified() -> bool {
    Path::new(HIERARCHY).join("cgroup.controllers").exists()
}

/// Where a controller's cgroups are.
fn hierarchy(controller: &str) -> PathBuf {
    let root = Path::new(HIERARCHY);
    if is_unified() { root.to_owned() } else { root.join(controller) }
}

/// What this machine's version of cgroups calls something, or says of it.
fn either<T>(version_1: T, version_2: T) -> T {
    if is_unified() { version_2 } else { version_1 }
}

/// What keeps containers from being limited here.
fn missing() -> Option<String> {
    if !skip::is_root() {
        return Some("limits need root".to_owned());
    }
    if is_unified() {
        let controllers = fs::read_to_string(Path::new(HIERARCHY).join("cgroup.controllers"));
        let controllers = controllers.unwrap_or_default();
        let lacks = ["cpu", "memory", "pids"]
            .into_iter()
            .find(|name| !controllers.split_whitespace().any(|own| own == *name));
        return lacks.map(|name| format!("this kernel's cgroup v2 has no controller '{name}'"));
    }
    let lacks = CONTROLLERS.iter().find(|name| {
        let probe = Path::new(HIERARCHY).join(name).join("mesos-isolation-probe");
        fs::create_dir_all(&probe).and_then(|()| fs::remove_dir(&probe)).is_err()
            || !Path::new(HIERARCHY).join(name).join("cgroup.procs").exists()
    });
    lacks.map(|name| format!("this kernel's cgroup v1 controller '{name}' can't be used"))
}

/// A site with one kind of containers. Dropping it removes their cgroups.
struct Host(Option<Site>);

impl Host {
    fn start(flags: &[&'static str]) -> Self {
        let agent_flags = [&["--cgroups_root=mesos-isolation"], flags].concat();
        let own = Self(Some(Site::start(Parts { agent_flags, ..Parts::default() })));
        for controller in own_controllers() {
            leftovers::remove_groups(&hierarchy(controller).join(ROOT));
        }
        own
    }

    fn limited() -> Self {
        Self::start(&[
            "--launcher=linux",
            "--isolation=cgroups/cpu,cgroups/mem,cgroups/pids",
            "--cgroups_pids_max=48",
        ])
    }

    fn site(&self) -> &Site {
        self.0.as_ref().expect("until dropped")
    }

    /// Runs a shell command with this many CPUs, 32 MB of memory and disk; its executor adds 0.1 CPUs and 32 MB.
    fn run(&self, task: &str, cpus: f64, command: &str) {
        self.run_with(task, cpus, 32.0, command);
    }

    fn run_with(&self, task: &str, cpus: f64, mem: f64, command: &str) {
        let scalar = |name: &str, value: f64| json!({"name": name, "type": "SCALAR", "scalar": {"value": value}});
        let resources = [scalar("cpus", cpus), scalar("mem", mem), scalar("disk", 32.0)];
        self.site().run(task, &json!({"resources": resources, "command": {"value": command}}));
    }

    fn wait_for(&self, task: &str, state: &str) -> Value {
        self.site().wait_for(task, state)
    }

    /// A file of a task's cgroup.
    fn file(&self, controller: &str, task: &str, name: &str) -> PathBuf {
        let (container, _) = self.site().executor(task);
        hierarchy(controller).join(ROOT).join(container).join(name)
    }

    /// How long a task's processes have run, in nanoseconds.
    fn cpu_time(&self, task: &str) -> u64 {
        if !is_unified() {
            return self.number("cpuacct", task, "cpuacct.usage");
        }
        let text = fs::read_to_string(self.file("cpu", task, "cpu.stat")).expect("statistics");
        let used = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
        used.and_then(|used| used.parse::<u64>().ok()).expect("a number") * 1000
    }

    fn number(&self, controller: &str, task: &str, name: &str) -> u64 {
        let path = self.file(controller, task, name);
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.trim().parse().unwrap_or_else(|_| panic!("{}: {text}", path.display()))
    }

    fn wait_until_gone(&self, task: &str, marker: &str) {
        let (container, _) = self.site().executor(task);
        wait::until("nothing of the container to be left", LIMIT, || {
            let groups = own_controllers();
            let groups = groups.map(|name| hierarchy(name).join(ROOT).join(&container));
            let left: Vec<PathBuf> = groups.filter(|path| path.exists()).collect();
            let living = living(marker);
            if left.is_empty() && living.is_empty() {
                Ok(())
            } else {
                Err(format!("{left:?} {living:?}"))
            }
        });
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.0.take());
        for controller in own_controllers() {
            let root = hierarchy(controller).join(ROOT);
            // What is still ending keeps it for a moment: the next run uses it again.
            leftovers::remove_groups(&root);
            let _ = fs::remove_dir(&root);
        }
    }
}

/// Processes that have a word in their command line.
fn living(marker: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let words = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    words.filter(|line| line.contains(marker)).collect()
}

/// Takes all memory that it gets.
const HOG: &str = "python3 -c 'x = b\"x\" * (400 << 20); import time; time.sleep(1000)'";

#[test]
fn who_takes_too_much_memory_is_killed_and_it_is_said_as_the_original_says_it() {
    need!(missing().is_none(), "{}", missing().unwrap_or_default());
    let host = Host::limited();
    host.run("neighbour", 0.1, "sleep 1000");
    host.wait_for("neighbour", "TASK_RUNNING");
    // In the task's own process, then in a child that its shell would survive.
    for (task, command) in [("hog", format!("exec {HOG}")), ("hogs", format!("{HOG}; sleep 1000"))]
    {
        host.run(task, 0.1, &command);
        let failed = host.wait_for(task, "TASK_FAILED");
        assert_eq!(failed["reason"], "REASON_CONTAINER_LIMITATION_MEMORY", "{failed}");
        let message = failed["message"].as_str().unwrap_or_default();
        let expected =
            "Memory limit exceeded: Requested: 64MB Maximum Used: 64MB\n\nMEMORY STATISTICS: \n";
        assert!(message.starts_with(expected), "{message}");
        assert!(message.contains(either("\nrss ", "\nanon ")), "{message}");
        let used = &failed["limitation"]["resources"][0];
        assert_eq!((&used["name"], &used["scalar"]["value"]), (&json!("mem"), &json!(64.0)));
    }
    assert_eq!(host.site().states("neighbour"), ["TASK_STARTING", "TASK_RUNNING"]);
}

/// A task's limits as messages have them.
fn limits(cpus: Value, mem: Value) -> Value {
    json!({"cpus": {"value": cpus}, "mem": {"value": mem}})
}

/// What a container's group lets it have of CPU time and of memory.
fn limits_of(group: &str) -> [String; 2] {
    let read = |controller: &str, name: &str| {
        let path = hierarchy(controller).join(ROOT).join(group).join(name);
        let text = fs::read_to_string(&path);
        text.unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
    };
    let quota = read("cpu", either("cpu.cfs_quota_us", "cpu.max"));
    let quota = quota.split(' ').next().unwrap_or_default().to_owned();
    [quota, read("memory", either("memory.limit_in_bytes", "memory.max"))]
}

#[test]
fn tasks_have_more_than_they_ask_for_up_to_their_limits() {
    need!(missing().is_none(), "{}", missing().unwrap_or_default());
    let mut host = Host::limited();
    let megabytes = |count: u64| (count << 20).to_string();
    // The executor adds 0.1 CPUs and 32 MB to what each asks for and is limited to.
    let sleep = |limits: Value| json!({"command": {"value": "sleep 1000"}, "limits": limits});
    host.site().run("some", &sleep(limits(json!(0.5), json!(64))));
    host.wait_for("some", "TASK_RUNNING");
    host.site().run("all", &sleep(limits(json!("Infinity"), json!("Infinity"))));
    host.wait_for("all", "TASK_RUNNING");
    let (some, _) = host.site().executor("some");
    assert_eq!(limits_of(&some), ["60000".to_owned(), megabytes(96)]);
    let soft = either("memory.soft_limit_in_bytes", "memory.low");
    assert_eq!(host.number("memory", "some", soft), 64 << 20);
    let (all, _) = host.site().executor("all");
    let [quota, memory] = limits_of(&all);
    assert_eq!(quota, either("-1", "max"));
    assert!(memory == "max" || memory.parse::<u64>().is_ok_and(|all| all > 1 << 60), "{memory}");
    for task in ["some", "all"] {
        host.site().order(&json!({"kill": task, "grace": 1}));
    }

    // Each member of a group in cgroups of its own: one runs out of memory, and the other one goes on.
    let member = |mem: u64, command: &str| {
        let linux = json!({"share_cgroups": false});
        json!({
            "command": {"value": command},
            "container": {"type": "MESOS", "linux_info": linux},
            "limits": limits(json!(0.5), json!(mem)),
        })
    };
    host.site().run_group("pod", &[("stays", member(80, "sleep 86391.55"))]);
    host.wait_for("stays", "TASK_RUNNING");
    let waits = format!("until [ -e go ]; do sleep 0.1; done; {HOG}; sleep 86391.55");
    host.site().run_group("pod", &[("hog", member(48, &waits))]);
    host.wait_for("hog", "TASK_RUNNING");
    let (pod, sandbox) = host.site().executor("pod");
    let group = |task: &str| {
        let link = fs::read_link(sandbox.join("tasks").join(task)).expect("the task's sandbox");
        let name = link.file_name().expect("a container").to_string_lossy().into_owned();
        format!("{pod}/mesos/{name}")
    };
    let (stays, hog) = (group("stays"), group("hog"));
    assert_eq!(limits_of(&stays), ["50000".to_owned(), megabytes(80)]);
    assert_eq!(limits_of(&hog), ["50000".to_owned(), megabytes(48)]);
    assert_eq!(limits_of(&pod), ["110000".to_owned(), megabytes(160)]);
    // What the agent after this one doesn't find again it can't end.
    host.0.as_mut().expect("until dropped").restart_agent();
    fs::write(sandbox.join("tasks/hog/go"), "").expect("a file");
    let failed = host.wait_for("hog", "TASK_FAILED");
    assert_eq!(failed["reason"], "REASON_CONTAINER_LIMITATION_MEMORY", "{failed}");
    let message = failed["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("Memory limit exceeded: Requested: 48MB Maximum Used: 48MB"),
        "{message}"
    );
    assert_eq!(failed["limitation"]["resources"][0]["scalar"]["value"], 48.0, "{failed}");
    let freezer = |group: &str| hierarchy("freezer").join(ROOT).join(group);
    wait::until_true("the groups of the one to be gone", LIMIT, || !freezer(&hog).exists());
    assert!(freezer(&stays).exists());
    assert_eq!(host.site().states("stays"), ["TASK_STARTING", "TASK_RUNNING"]);
    host.site().order(&json!({"kill": "stays", "grace": 1}));
    host.wait_for("stays", "TASK_KILLED");
    host.wait_until_gone("pod", "86391.55");
}

/// The first CPU that this process may use.
fn cpu() -> String {
    let status = fs::read_to_string("/proc/self/status").expect("this process's status");
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let list = list.expect("a list of CPUs").trim();
    list.split([',', '-']).next().expect("a CPU").to_owned()
}

#[test]
fn shares_divide_a_busy_cpu_and_a_quota_leaves_it_idle() {
    need!(missing().is_none(), "{}", missing().unwrap_or_default());
    let host = Host::limited();
    // What else runs on this host is not to make this take long.
    let (file, most) = either(("cpu.shares", "262144"), ("cpu.weight", "10000"));
    fs::write(hierarchy("cpu").join(ROOT).join(file), most).expect("shares");
    let busy = format!("exec taskset -c {} sh -c 'while :; do :; done'", cpu());
    // With their executors' 0.1 they are one to three.
    host.run("one", 0.4, &busy);
    host.run("three", 1.4, &busy);
    for task in ["one", "three"] {
        host.wait_for(task, "TASK_RUNNING");
    }
    assert_eq!(host.number("cpu", "one", file), either(512, 20));
    assert_eq!(host.number("cpu", "three", file), either(1536, 59));
    let used = || ["one", "three"].map(|task| host.cpu_time(task));
    let [one, three] = used();
    let both_run = || {
        let now = used();
        now[0] > one + 200_000_000 && now[1] > three + 200_000_000
    };
    wait::until_true("both tasks to be busy", LIMIT, both_run);
    let from = used();
    let parts = wait::until("four seconds of CPU time", LIMIT, || {
        let now = used();
        let parts = [now[0] - from[0], now[1] - from[1]];
        if parts[0] + parts[1] > 4_000_000_000 { Ok(parts) } else { Err(format!("{parts:?}")) }
    });
    let percent = parts[1] * 100 / parts[0];
    assert!((270..=330).contains(&percent), "{parts:?}: {percent} %");
    drop(host);

    let isolation = if counts_blocks() {
        "--isolation=cgroups/cpu,cgroups/mem,cgroups/blkio"
    } else {
        "--isolation=cgroups/cpu,cgroups/mem"
    };
    let host = Host::start(&["--launcher=linux", isolation, "--cgroups_enable_cfs"]);
    // More than fits into its memory, which makes that short.
    let command = "dd if=/dev/zero of=file bs=1M count=100; while :; do :; done";
    host.run("half", 0.4, command);
    host.wait_for("half", "TASK_RUNNING");
    let (file, quota) = either(("cpu.cfs_quota_us", "50000\n"), ("cpu.max", "50000 100000\n"));
    let file = host.file("cpu", "half", file);
    assert_eq!(fs::read_to_string(file).expect("the quota"), quota);
    wait::until("the task to be throttled", LIMIT, || {
        let statistics = fs::read_to_string(host.file("cpu", "half", "cpu.stat"));
        let statistics = statistics.map_err(|error| error.to_string())?;
        let throttled = statistics.lines().find_map(|line| line.strip_prefix("nr_throttled "));
        if throttled.is_some_and(|count| count != "0") { Ok(()) } else { Err(statistics) }
    });
    // What the kernel counts is what operators are told.
    let names = ["cpus_nr_throttled", "cpus_throttled_time_secs", "cpus_user_time_secs"];
    let pressed = either(&["mem_low_pressure_counter"][..], &[]);
    let names =
        [&names[..], pressed, &["mem_total_bytes", "mem_rss_bytes", "mem_cache_bytes"]].concat();
    let used = wait::until("numbers of all kinds", LIMIT, || {
        let shown = http::get_json(&host.site().agent_url("/monitor/statistics"))?;
        let used = shown[0]["statistics"].clone();
        let is_counted = |name: &&str| used[*name].as_f64().is_some_and(|value| value > 0.0);
        if names.iter().all(is_counted) { Ok(used) } else { Err(shown.to_string()) }
    });
    let throttling = &used["blkio_statistics"]["throttling"];
    assert_eq!(throttling.as_array().is_some_and(|all| !all.is_empty()), counts_blocks(), "{used}");
}

/// Whether this kernel counts what is read from and written to block devices.
fn counts_blocks() -> bool {
    if is_unified() {
        let controllers = fs::read_to_string(Path::new(HIERARCHY).join("cgroup.controllers"));
        return controllers.is_ok_and(|names| names.split_whitespace().any(|name| name == "io"));
    }
    Path::new(HIERARCHY).join("blkio/cgroup.procs").exists()
}

#[test]
fn a_fork_bomb_stays_inside_and_is_ended_whole() {
    need!(missing().is_none(), "{}", missing().unwrap_or_default());
    let host = Host::limited();
    let bomb = "exec python3 -c 'import os # bomb-7311
while True:
    try:
        if os.fork() == 0: os.setsid()
    except OSError: pass'";
    // Enough memory for all of them: only their number is to stop them.
    host.run_with("bomb", 0.1, 256.0, bomb);
    host.wait_for("bomb", "TASK_RUNNING");
    wait::until("the limit to be hit", LIMIT, || {
        let events = fs::read_to_string(host.file("pids", "bomb", "pids.events"));
        let events = events.map_err(|error| error.to_string())?;
        if events.trim() == "max 0" { Err(events) } else { Ok(()) }
    });
    assert!(host.number("pids", "bomb", "pids.current") <= 48);
    assert!(living("bomb-7311").len() > 2, "it has forked");
    host.run("neighbour", 0.1, "true");
    host.wait_for("neighbour", "TASK_FINISHED");
    host.site().order(&json!({"kill": "bomb", "grace": 1}));
    host.wait_for("bomb", "TASK_KILLED");
    host.wait_until_gone("bomb", "bomb-7311");
}

/// Daemons of every kind: of another session, forked twice, deaf to signals, stopped.
fn daemons(marker: &str) -> String {
    let sleep = format!("sleep {marker}");
    format!(
        "setsid {sleep} & (setsid {sleep} &); (setsid sh -c 'trap \"\" TERM HUP INT; {sleep} & ({sleep} &) ; wait' &); \
         (setsid sh -c 'kill -STOP $$; {sleep}' &); exec {sleep}"
    )
}

fn ends_whole(flags: &[&'static str], marker: &str) {
    let host = Host::start(flags);
    for (task, is_killed) in [("daemons", true), ("leaver", false)] {
        let command = daemons(marker);
        let command =
            if is_killed { command } else { command.replace("exec sleep", "exec true || sleep") };
        host.run(task, 0.1, &command);
        if is_killed {
            host.wait_for(task, "TASK_RUNNING");
            wait::until("the daemons", LIMIT, || {
                let living = living(marker);
                // The stopped one has not come to its sleep; the shells have the word as well.
                if living.len() >= 7 { Ok(()) } else { Err(format!("{living:?}")) }
            });
            host.site().order(&json!({"kill": task, "grace": 1}));
            host.wait_for(task, "TASK_KILLED");
        } else {
            // One that ends by itself takes its daemons with it.
            host.wait_for(task, "TASK_FINISHED");
        }
        host.wait_until_gone(task, marker);
    }
}

#[test]
fn no_process_outlives_its_container() {
    need!(missing().is_none(), "{}", missing().unwrap_or_default());
    ends_whole(&["--launcher=linux", "--isolation=cgroups/cpu,cgroups/mem"], "86391.11");
}

#[test]
fn no_process_outlives_its_container_in_the_unified_hierarchy() {
    if is_unified() {
        // It is the one that all others here have used.
        return;
    }
    let unified = Path::new(UNIFIED).join("cgroup.controllers");
    need!(skip::is_root() && unified.exists(), "there is no cgroup2 at {UNIFIED}");
    // The controllers of this kernel are in version 1: what is left is finding and killing processes.
    let flags = ["--launcher=linux", "--isolation=posix/cpu,posix/mem", IN_UNIFIED];
    ends_whole(&flags, "86391.22");
}

#[test]
fn no_process_outlives_its_container_without_cgroups() {
    ends_whole(&["--launcher=posix", "--isolation=posix/cpu,posix/mem"], "86391.33");
}

#[test]
fn who_writes_more_than_its_disk_is_ended() {
    let host = Host::start(&[
        "--launcher=posix",
        "--isolation=posix/cpu,posix/mem,disk/du",
        "--enforce_container_disk_quota",
        "--container_disk_watch_interval=1secs",
    ]);
    host.run("neighbour", 0.1, "echo small > small; sleep 1000");
    host.wait_for("neighbour", "TASK_RUNNING");
    host.run("writer", 0.1, "dd if=/dev/zero of=large bs=1M count=96 2>/dev/null; sleep 1000");
    let failed = host.wait_for("writer", "TASK_FAILED");
    assert_eq!(failed["reason"], "REASON_CONTAINER_LIMITATION_DISK", "{failed}");
    let message = failed["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("Disk usage ("), "{message}");
    assert!(message.ends_with(") exceeds quota (32MB)"), "{message}");
    let limited = &failed["limitation"]["resources"];
    assert_eq!(limited.as_array().map(Vec::len), Some(1), "{failed}");
    assert_eq!(limited[0]["scalar"]["value"], 32.0, "{failed}");
    assert_eq!(host.site().states("neighbour"), ["TASK_STARTING", "TASK_RUNNING"]);
}

/// What a process has kept.
const KEPT: &str = "grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status; ulimit -n; ls /dev/shm | wc -l; df -Pm /dev/shm | tail -1 | awk '{print $2}'; sleep 1000";

#[test]
fn a_container_keeps_no_more_than_it_asks_for() {
    need!(skip::is_root(), "capabilities need root");
    let host = Host::start(&[
        "--launcher=posix",
        "--isolation=posix/cpu,posix/mem,posix/rlimits,linux/capabilities,linux/nnp,namespaces/ipc",
        "--bounding_capabilities={\"capabilities\": [\"KILL\", \"NET_RAW\", \"SETUID\", \"SETGID\"]}",
    ]);
    let site = host.site();
    let asks = |capability: &str| {
        let linux = json!({
            "effective_capabilities": {"capabilities": [capability]},
            "bounding_capabilities": {"capabilities": ["KILL", "NET_RAW"]},
            "ipc_mode": "PRIVATE", "shm_size": 8,
        });
        let limits = json!([{"type": "RLMT_NOFILE", "soft": 77, "hard": 99}]);
        json!({
            "command": {"value": KEPT},
            "container": {"type": "MESOS", "mesos": {}, "linux_info": linux, "rlimit_info": {"rlimits": limits}},
        })
    };
    fs::write("/dev/shm/mesos-isolation", "the host's").expect("a file");
    let mut as_user = asks("KILL");
    as_user["command"]["user"] = json!("nobody");
    site.run("root", &asks("KILL"));
    site.run("user", &as_user);
    site.run_group("pod", &[("member", asks("KILL"))]);
    site.run("more", &asks("SYS_ADMIN"));
    let expected = format!(
        "CapEff:\t{:016x}\nCapBnd:\t{:016x}\nNoNewPrivs:\t1\n77\n0\n8\n",
        1 << 5,
        1 << 5 | 1 << 13
    );
    // Without new privileges not even root gets more when it starts a program.
    for (task, executor) in [("root", "root"), ("user", "user"), ("member", "pod")] {
        site.wait_for(task, "TASK_RUNNING");
        let (_, sandbox) = site.executor(executor);
        let nested = fs::read_dir(sandbox.join("containers")).into_iter().flatten().flatten();
        let sandbox = nested.map(|entry| entry.path()).next().unwrap_or(sandbox);
        wait::until(&format!("what {task} has kept"), LIMIT, || {
            let text = fs::read_to_string(sandbox.join("stdout")).unwrap_or_default();
            if text.ends_with(&expected) { Ok(()) } else { Err(text) }
        });
    }
    fs::remove_file("/dev/shm/mesos-isolation").expect("the host's file");
    let refused = site.wait_for("more", "TASK_FAILED");
    assert_eq!(refused["reason"], "REASON_CONTAINER_LAUNCH_FAILED");
    let message = refused["message"].as_str().unwrap_or_default();
    assert!(
        message.contains(
            "Requested capabilities '{ SYS_ADMIN }', but only '{ KILL, NET_RAW }' are allowed"
        ),
        "{message}"
    );
}

/// What a process sees of others, and what it may do to a file.
const ALONE: &str = "ls /proc | grep -c '^[0-9]*$'; readlink /proc/self/ns/pid; touch f; chmod 600 f 2>&1; sleep 86391.44";

#[test]
fn a_container_has_processes_of_its_own_and_may_not_make_every_system_call() {
    need!(skip::is_root(), "namespaces need root");
    let profiles = tempfile::TempDir::new().expect("a directory");
    let calls = json!(["chmod", "fchmod", "fchmodat", "fchmodat2", "no_such_call"]);
    let deny = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": calls, "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]});
    fs::write(profiles.path().join("deny.json"), deny.to_string()).expect("a profile");
    // A test's flags live as long as the test.
    let directory = format!("--seccomp_config_dir={}", profiles.path().display()).leak();
    let mut host = Host::start(&[
        "--launcher=posix",
        "--isolation=posix/cpu,posix/mem,filesystem/linux,namespaces/pid,linux/seccomp",
        "--disallow_sharing_agent_pid_namespace",
        directory,
        "--seccomp_profile_name=deny.json",
    ]);
    let site = host.0.as_mut().expect("until dropped");
    let container = |linux: Value| json!({"type": "MESOS", "mesos": {}, "linux_info": linux});
    let mut as_user = json!({"command": {"value": ALONE, "user": "nobody"}});
    site.run("task", &as_user);
    as_user["container"] = container(json!({"seccomp": {"unconfined": true}}));
    site.run("free", &as_user);
    site.run_group("pod", &[("member", json!({"command": {"value": ALONE}}))]);
    let own = fs::read_link("/proc/self/ns/pid").expect("this namespace").display().to_string();
    let mut namespaces = std::collections::BTreeSet::from([own]);
    for (task, executor) in [("task", "task"), ("free", "free"), ("member", "pod")] {
        site.wait_for(task, "TASK_RUNNING");
        let (_, sandbox) = site.executor(executor);
        let nested = fs::read_dir(sandbox.join("containers")).into_iter().flatten().flatten();
        let sandbox = nested.map(|entry| entry.path()).next().unwrap_or(sandbox);
        let lines = wait::until(&format!("what {task} says"), LIMIT, || {
            let text = fs::read_to_string(sandbox.join("stdout")).unwrap_or_default();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            let is_whole = lines.len() >= if task == "free" { 2 } else { 3 };
            if is_whole { Ok(lines) } else { Err(text) }
        });
        let processes: usize = lines[0].parse().expect("a number");
        assert!(processes <= 6, "{task}: {lines:?}");
        assert!(namespaces.insert(lines[1].clone()), "{task}: {lines:?}");
        if task == "free" {
            let free = sandbox.join("f");
            wait::until_true("a changed mode", LIMIT, || {
                use std::os::unix::fs::PermissionsExt as _;
                free.metadata().is_ok_and(|found| found.permissions().mode() & 0o777 == 0o600)
            });
        } else {
            assert!(lines[2].contains("Function not implemented"), "{task}: {lines:?}");
        }
    }
    // Who looks into one sees its processes.
    let (parent, _) = site.executor("task");
    let look = json!({"type": "LAUNCH_NESTED_CONTAINER_SESSION", "launch_nested_container_session": {
        "container_id": {"value": "look", "parent": {"value": parent}},
        "command": {"value": "grep -l 86391.44 /proc/[0-9]*/cmdline; grep -l 86391.44 /proc/[0-9]*/cmdline | wc -l | grep -q '^[1-9]$' && test $(ls /proc | grep -c '^[0-9]*$') -lt 12"},
    }});
    let looked = site.call(&look);
    assert_eq!(looked.status, 200, "{}", looked.body);
    let waited = site.call(&json!({"type": "WAIT_NESTED_CONTAINER", "wait_nested_container": {"container_id": {"value": "look", "parent": {"value": parent}}}}));
    assert_eq!(
        waited.json()["wait_nested_container"]["exit_status"],
        0,
        "{} {}",
        waited.body,
        looked.body
    );
    site.restart_agent();
    for task in ["task", "member"] {
        assert_eq!(site.states(task), ["TASK_STARTING", "TASK_RUNNING"], "{task}");
        site.order(&json!({"kill": task, "grace": 1}));
        site.wait_for(task, "TASK_KILLED");
    }
    site.order(&json!({"kill": "free", "grace": 1}));
    site.wait_for("free", "TASK_KILLED");
    let shares = container(json!({"share_pid_namespace": true}));
    site.run("shares", &json!({"command": {"value": "true"}, "container": shares}));
    let refused = site.wait_for("shares", "TASK_FAILED");
    let expected = "Sharing agent pid namespace with top-level container is not allowed";
    assert!(refused["message"].as_str().unwrap_or_default().contains(expected), "{refused}");
    wait::until("nothing of the containers to be left", LIMIT, || {
        let living = living("86391.44");
        if living.is_empty() { Ok(()) } else { Err(format!("{living:?}")) }
    });
}

#[test]
fn secrets_come_to_their_task_and_to_nobody_else() {
    need!(skip::is_root(), "mounts need root");
    let host = Host::start(&[
        "--launcher=posix",
        "--isolation=posix/cpu,posix/mem,filesystem/linux,volume/secret",
    ]);
    let site = host.site();
    // s3cr3t-8841
    let secret = json!({"type": "VALUE", "value": {"data": "czNjcjN0LTg4NDE="}});
    let task = json!({
        "command": {
            "user": "nobody",
            "value": "echo $WORD; cat keys/own; stat -c '%a %U' keys/own; id -un; env | grep -c MESOS_TASK; sleep 1000",
            "environment": {"variables": [{"name": "WORD", "type": "SECRET", "secret": secret}]},
        },
        "container": {"type": "MESOS", "mesos": {}, "volumes": [
            {"container_path": "keys/own", "mode": "RW", "source": {"type": "SECRET", "secret": secret}},
        ]},
    });
    let mut checked = task.clone();
    checked["health_check"] = json!({
        "type": "COMMAND", "delay_seconds": 0, "interval_seconds": 1, "grace_period_seconds": 60,
        "command": {"value": "(id -un; echo $WORD; cat keys/own) > seen 2>&1"},
    });
    site.run("task", &checked);
    site.run_group("pod", &[("member", task)]);
    let expected = "s3cr3t-8841\ns3cr3t-8841600 nobody\nnobody\n0\n";
    for (task, executor) in [("task", "task"), ("member", "pod")] {
        site.wait_for(task, "TASK_RUNNING");
        let (_, sandbox) = site.executor(executor);
        let nested = fs::read_dir(sandbox.join("containers")).into_iter().flatten().flatten();
        let sandbox = nested.map(|entry| entry.path()).next().unwrap_or(sandbox);
        wait::until(&format!("what {task} says"), LIMIT, || {
            let text = fs::read_to_string(sandbox.join("stdout")).unwrap_or_default();
            if text == expected { Ok(()) } else { Err(text) }
        });
        // Where it is mounted on there is a file, without content.
        assert_eq!(fs::read_to_string(sandbox.join("keys/own")).expect("a file"), "");
        if task == "task" {
            // What looks at a task looks as the task.
            wait::until("a look at the task", LIMIT, || {
                let text = fs::read_to_string(sandbox.join("seen")).unwrap_or_default();
                if text == "nobody\ns3cr3t-8841\ns3cr3t-8841" { Ok(()) } else { Err(text) }
            });
        }
    }
    let files = |directory: PathBuf| {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let below = entries.flat_map(|entry| fs::read_dir(entry.path()).into_iter().flatten());
        below.flatten().count()
    };
    assert_eq!(files(site.path("runtime1/.secret")), 0, "taken over");
    let log = fs::read_to_string(site.path("agent1.log")).expect("the agent's log");
    assert!(!log.contains("s3cr3t-8841") && !log.contains("czNjcjN0LTg4NDE="));
    let lines = fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = lines.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let has = |line: Vec<u8>| String::from_utf8_lossy(&line).contains("czNjcjN0LTg4NDE=");
    assert_eq!(lines.map(has).filter(|has| *has).count(), 0);
    for task in ["task", "member"] {
        site.order(&json!({"kill": task, "grace": 1}));
        site.wait_for(task, "TASK_KILLED");
    }
    let reference = json!({"type": "REFERENCE", "reference": {"name": "r"}});
    site.run("unknown", &json!({"command": {"value": "true", "environment": {"variables": [{"name": "R", "type": "SECRET", "secret": reference}]}}}));
    let failed = site.wait_for("unknown", "TASK_FAILED");
    let message = failed["message"].as_str().unwrap_or_default();
    assert!(message.contains("Default secret resolver cannot resolve references"), "{failed}");
}

#[test]
fn containers_listen_on_ports_that_are_theirs() {
    need!(missing().is_none(), "{}", missing().unwrap_or_default());
    let host = Host::start(&[
        "--launcher=linux",
        "--isolation=cgroups/cpu,network/ports",
        "--container_ports_watch_interval=100ms",
        "--check_agent_port_range_only",
        "--enforce_container_ports",
    ]);
    let site = host.site();
    let listener = |port: u16| {
        let listen = format!(
            "import socket, time; s = socket.create_server((\"127.0.0.1\", {port})); print(1, flush=True); time.sleep(600)"
        );
        json!({"value": format!("python3 -c '{listen}'")})
    };
    let mut own = json!({"command": listener(31_871)});
    let scalar = |name: &str, value: f64| json!({"name": name, "type": "SCALAR", "scalar": {"value": value}});
    let ports = json!({"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 31_871, "end": 31_871}]}});
    own["resources"] = json!([scalar("cpus", 0.1), scalar("mem", 32.0), ports]);
    site.run("own", &own);
    site.wait_for("own", "TASK_RUNNING");
    let (_, sandbox) = site.executor("own");
    wait::until("a listener", LIMIT, || match fs::read_to_string(sandbox.join("stdout")) {
        Ok(text) if text.contains('1') => Ok(()),
        other => Err(format!("{other:?}")),
    });
    site.run("another's", &json!({"command": listener(31_872)}));
    let failed = site.wait_for("another's", "TASK_FAILED");
    assert_eq!(failed["reason"], "REASON_CONTAINER_LIMITATION", "{failed}");
    let message = failed["message"].as_str().unwrap_or_default();
    let expected = " is listening on unallocated port(s): [31872-31872]";
    assert!(message.starts_with("Container ") && message.ends_with(expected), "{message}");
    let range = &failed["limitation"]["resources"][0]["ranges"]["range"][0];
    assert_eq!((&range["begin"], &range["end"]), (&json!(31_872), &json!(31_872)), "{failed}");
    assert_eq!(site.states("own"), ["TASK_STARTING", "TASK_RUNNING"]);
}

#[test]
fn containers_use_the_devices_that_they_may() {
    need!(missing().is_none(), "{}", missing().unwrap_or_default());
    let there = |name: &str| hierarchy(name).join("cgroup.procs").exists();
    need!(
        is_unified() || there("devices") && there("cpuset"),
        "there are no cgroups of devices and processors here"
    );
    let host =
        devices_are_limited(&["--launcher=linux", "--isolation=cgroups/devices,cgroups/cpuset"]);
    host.run("processors", 0.1, "sleep 600");
    host.wait_for("processors", "TASK_RUNNING");
    let processors = either("cpuset.cpus", "cpuset.cpus.effective");
    let processors = fs::read_to_string(host.file("cpuset", "processors", processors));
    assert!(!processors.expect("the processors").trim().is_empty());
}

#[test]
fn containers_use_the_devices_that_they_may_in_the_unified_hierarchy() {
    if is_unified() {
        // It is the one that all others here have used.
        return;
    }
    let unified = Path::new(UNIFIED).join("cgroup.controllers");
    need!(skip::is_root() && unified.exists(), "there is no cgroup2 at {UNIFIED}");
    devices_are_limited(&["--launcher=linux", IN_UNIFIED, "--isolation=cgroups/devices"]);
}

/// The kernel's messages: which of two containers may read them is the operator's to say.
fn devices_are_limited(flags: &[&'static str]) -> Host {
    let device = "mknod own c 1 11 && exec dd if=own of=/dev/null bs=1 count=0";
    let host = Host::start(flags);
    host.run("common", 0.1, "test `head -c 9 /dev/zero | wc -c` = 9");
    host.wait_for("common", "TASK_FINISHED");
    host.run("other", 0.1, device);
    assert_eq!(host.wait_for("other", "TASK_FAILED")["message"], "Command exited with status 1");
    let (_, sandbox) = host.site().executor("other");
    let said = fs::read_to_string(sandbox.join("stderr")).expect("its output");
    assert!(said.contains("Operation not permitted"), "{said}");
    drop(host);
    let allowed = r#"--allowed_devices={"allowed_devices": [{"device": {"path": "/dev/kmsg"}, "access": {"read": true}}]}"#;
    assert!(Path::new("/dev/kmsg").exists(), "every kernel has its messages there");
    let host = Host::start(&[flags, &[allowed]].concat());
    host.run("allowed", 0.1, device);
    host.wait_for("allowed", "TASK_FINISHED");
    host
}

#[test]
fn events_of_the_processors_are_counted_by_container() {
    need!(missing().is_none(), "{}", missing().unwrap_or_default());
    let own = hierarchy("perf_event").join("cgroup.procs").exists();
    let is_beside = !own && Path::new(UNIFIED).join("cgroup.controllers").exists();
    need!(own || is_beside, "there are no cgroups here that perf counts by");
    let mut perf = std::process::Command::new("perf");
    let told = perf.args(["stat", "--all-cpus", "--event", "context-switches", "true"]).output();
    need!(told.is_ok(), "perf is missing");
    if !told.is_ok_and(|told| told.status.success()) {
        // Not every container lets it, and nobody there could.
        println!("skipped, because this kernel lets nobody count events");
        return;
    }
    let mut flags = vec![
        "--launcher=linux",
        "--isolation=cgroups/perf_event",
        // Of the kernel's own: virtual machines have no others.
        "--perf_events=context-switches,task-clock",
        "--perf_duration=200ms",
        "--perf_interval=300ms",
    ];
    flags.extend(is_beside.then_some(IN_UNIFIED));
    let host = Host::start(&flags);
    host.run("busy", 0.1, "while :; do sleep 0.01; done");
    host.wait_for("busy", "TASK_RUNNING");
    wait::until("a sample", LIMIT, || {
        let shown = http::get_json(&host.site().agent_url("/monitor/statistics"))?;
        let perf = &shown[0]["statistics"]["perf"];
        let counted = |name: &str| perf[name].as_f64().is_some_and(|value| value > 0.0);
        let names = ["context_switches", "task_clock", "duration", "timestamp"];
        if names.into_iter().all(counted) { Ok(()) } else { Err(shown.to_string()) }
    });
}
