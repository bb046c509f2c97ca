//! Networks of containers without Docker, by the published CNI plugins, on this very kernel.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use end_to_end::programs::binary;
use end_to_end::site::{Parts, Site};
use end_to_end::{http, need, skip, wait};
use serde_json::{Value, json};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);
const PLUGINS: &str = "/usr/lib/cni";
const BRIDGE: &str = "meso-cni0";
const CHAIN: &str = "MESO-TEST-PORTS";

fn missing() -> Option<&'static str> {
    if !skip::is_root() {
        return Some("network namespaces need root");
    }
    let has_plugins =
        ["bridge", "host-local"].iter().all(|name| Path::new(PLUGINS).join(name).exists());
    (!has_plugins).then_some("there are no CNI plugins in /usr/lib/cni")
}

/// Removes the bridge that the plugin leaves.
struct Bridge;

impl Drop for Bridge {
    fn drop(&mut self) {
        // It may not have come to be.
        let _ = Command::new("ip").args(["link", "delete", BRIDGE]).output();
    }
}

#[test]
fn a_container_joins_networks_by_name_and_leaves_them_when_it_ends() {
    need!(missing().is_none(), "{}", missing().unwrap_or_default());
    let _bridge = Bridge;
    let work = TempDir::new().expect("a directory");
    let (configs, leases) = (work.path().join("configs"), work.path().join("leases"));
    fs::create_dir(&configs).expect("a directory");
    let config = json!({
        "cniVersion": "0.3.1", "name": "inner", "type": "bridge", "bridge": BRIDGE, "isGateway": true,
        "ipam": {"type": "host-local", "subnet": "10.203.77.0/24", "dataDir": leases},
        "dns": {"nameservers": ["10.203.77.1"]},
    });
    fs::write(configs.join("inner.conf"), config.to_string()).expect("a file");
    // A test's flags live as long as the test.
    let directory = format!("--network_cni_config_dir={}", configs.display()).leak();
    let agent_flags = vec![
        "--launcher=posix",
        "--isolation=posix/cpu,posix/mem,filesystem/linux,network/cni",
        "--network_cni_plugins_dir=/usr/lib/cni",
        directory,
    ];
    let mut site = Site::start(Parts { agent_flags, ..Parts::default() });
    let say = "hostname; cat /etc/hosts; cat /etc/hostname; ip -4 -o addr show dev eth0 | grep -c 'inet 10.203.77'; ip -o link show dev lo | grep -c UP; exec python3 -m http.server 8080";
    let joins = |name: &str| json!({"type": "MESOS", "mesos": {}, "hostname": "own-name", "network_infos": [{"name": name}]});
    let check = json!({
        "type": "HTTP", "delay_seconds": 0, "interval_seconds": 1, "grace_period_seconds": 60,
        "http": {"port": 8080, "path": "/stdout"},
    });
    site.run(
        "server",
        &json!({"command": {"value": say}, "container": joins("inner"), "check": check}),
    );
    site.wait_for("server", "TASK_RUNNING");
    let address = || -> Result<String, String> {
        let state = http::get_json(&site.master_url("/tasks"))?;
        let tasks = state["tasks"].as_array().cloned().unwrap_or_default();
        let task = tasks.iter().find(|task| task["id"] == "server").ok_or("no task")?;
        let statuses = task["statuses"].as_array().cloned().unwrap_or_default();
        let info = &statuses.last().ok_or("no status")?["container_status"]["network_infos"][0];
        if info["name"] != "inner" {
            return Err(info.to_string());
        }
        info["ip_addresses"][0]["ip_address"].as_str().map(str::to_owned).ok_or(info.to_string())
    };
    let ip = wait::until("the task's address", LIMIT, address);
    assert!(ip.starts_with("10.203.77."), "{ip}");
    let page = format!("http://{ip}:8080/stdout");
    let said = wait::until("the task's page", LIMIT, || http::get(&page));
    assert_eq!(said.body, format!("own-name\n127.0.0.1 localhost\n{ip} own-name\nown-name1\n1\n"));
    wait::until("a look at it by its address", LIMIT, || {
        let seen = site.updates("server");
        // The check tells of the page in an update of its own.
        if seen.len() >= 3 { Ok(()) } else { Err(format!("{seen:?}")) }
    });

    // One that is nested shares it, and the next agent still knows.
    let (parent, _) = site.executor("server");
    site.restart_agent();
    let look = |command: &str| -> Value {
        let id = json!({"value": "look", "parent": {"value": parent}});
        let session = json!({"type": "LAUNCH_NESTED_CONTAINER_SESSION", "launch_nested_container_session": {
            "container_id": id, "command": {"shell": true, "value": command},
        }});
        assert_eq!(site.call(&session).status, 200);
        let waited = site.call(&json!({"type": "WAIT_NESTED_CONTAINER", "wait_nested_container": {"container_id": id}}));
        waited.json()["wait_nested_container"]["exit_status"].clone()
    };
    assert_eq!(
        look(
            "ip -4 -o addr show dev eth0 | grep -q 'inet 10.203.77' && test $(hostname) = own-name"
        ),
        0
    );
    let given = || {
        fs::read_dir(leases.join("inner"))
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("10."))
            .count()
    };
    assert_eq!(given(), 1);
    site.order(&json!({"kill": "server", "grace": 1}));
    site.wait_for("server", "TASK_KILLED");
    wait::until("the address to be given back", LIMIT, || {
        let noted = site.path("runtime1/isolators/network/cni");
        let left = fs::read_dir(noted).into_iter().flatten().count();
        if (given(), left) == (0, 0) { Ok(()) } else { Err(format!("{} {left}", given())) }
    });
    let mounts = fs::read_to_string("/proc/self/mounts").expect("the mounts");
    let noted = site.path("runtime1/isolators/network/cni");
    assert!(!mounts.contains(noted.to_str().expect("a path")), "{mounts}");
    site.run("other", &json!({"command": {"value": "true"}, "container": joins("outer")}));
    let failed = site.wait_for("other", "TASK_FAILED");
    let message = failed["message"].as_str().unwrap_or_default();
    assert!(message.contains("Unknown CNI network 'outer'"), "{failed}");
}

/// Removes the chain that the port mapper leaves to operators.
struct Chain(&'static str);

impl Drop for Chain {
    fn drop(&mut self) {
        let chain = self.0;
        let local = ["-m", "addrtype", "--dst-type", "LOCAL", "-j", chain];
        let rules = [vec!["-D", "PREROUTING"], vec!["-D", "OUTPUT", "!", "-d", "127.0.0.0/8"]];
        for rule in rules {
            // It may not have come to be.
            let _ =
                Command::new("iptables").args(["-w", "-t", "nat"]).args(rule).args(local).output();
        }
        for order in ["-F", "-X"] {
            let _ = Command::new("iptables").args(["-w", "-t", "nat", order, chain]).output();
        }
    }
}

fn rules(chain: &str) -> String {
    let printed = Command::new("iptables").args(["-w", "-t", "nat", "-S", chain]).output();
    String::from_utf8_lossy(&printed.expect("iptables runs").stdout).into_owned()
}

#[test]
fn ports_of_the_host_lead_to_containers_by_the_port_mapper() {
    need!(missing().is_none(), "{}", missing().unwrap_or_default());
    let has_iptables = Command::new("iptables").args(["-w", "-t", "nat", "-S"]).output();
    need!(has_iptables.is_ok_and(|ran| ran.status.success()), "iptables can't be used here");
    let (_bridge, _chain) = (Bridge, Chain(CHAIN));
    let work = TempDir::new().expect("a directory");
    let path = |name: &str| work.path().join(name);
    for name in ["configs", "plugins"] {
        fs::create_dir(path(name)).expect("a directory");
    }
    let mapper = "mesos-cni-port-mapper";
    symlink(binary("mesos-agent"), path("plugins").join(mapper)).expect("a link");
    let config = json!({
        "cniVersion": "0.3.1", "name": "mapped", "type": mapper, "chain": CHAIN, "excludeDevices": [BRIDGE],
        "delegate": {
            "cniVersion": "0.3.1", "type": "bridge", "bridge": BRIDGE, "isGateway": true,
            "ipam": {"type": "host-local", "subnet": "10.203.77.0/24", "dataDir": path("leases")},
        },
    });
    fs::write(path("configs/mapped.conf"), config.to_string()).expect("a file");
    // A test's flags live as long as the test.
    let leaked = |flag: String| -> &'static str { flag.leak() };
    let agent_flags = vec![
        "--launcher=posix",
        "--isolation=posix/cpu,posix/mem,filesystem/linux,network/cni",
        leaked(format!("--network_cni_plugins_dir={}:{PLUGINS}", path("plugins").display())),
        leaked(format!("--network_cni_config_dir={}", path("configs").display())),
    ];
    let site = Site::start(Parts { agent_flags, ..Parts::default() });
    let mapping = json!({"host_port": 31_877, "container_port": 8080, "protocol": "tcp"});
    site.run(
        "server",
        &json!({
            "command": {"value": "echo here; exec python3 -m http.server 8080"},
            "container": {"type": "MESOS", "mesos": {}, "network_infos": [{"name": "mapped", "port_mappings": [mapping]}]},
        }),
    );
    site.wait_for("server", "TASK_RUNNING");
    // The bridge's address is this host's.
    let page = wait::until("the page by the host's port", LIMIT, || {
        http::get("http://10.203.77.1:31877/stdout")
    });
    assert_eq!(page.body, "here\n");
    let (container, _) = site.executor("server");
    let own = rules(CHAIN);
    assert!(own.contains(&format!("--comment \"container_id: {container}\"")), "{own}");
    site.order(&json!({"kill": "server", "grace": 1}));
    site.wait_for("server", "TASK_KILLED");
    wait::until("its rule to be gone", LIMIT, || {
        let own = rules(CHAIN);
        if own.contains("DNAT") { Err(own) } else { Ok(()) }
    });
}
