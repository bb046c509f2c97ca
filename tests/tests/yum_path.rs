//! The classic guide, command by command, on hosts that never saw Meso: packages by yum, files by `echo`, units by systemctl,
//! an app by curl. Only addresses and the repository's location differ from the guide.

use std::path::Path;
use std::time::Duration;

use end_to_end::cluster::wait_for_tasks;
use end_to_end::lab::{self, Lab};
use end_to_end::programs::packages;
use end_to_end::{http, need, wait};
use packaging::binaries::Binaries;
use packaging::builder::{Build, DEFAULT_SOURCE_DATE};
use packaging::{build_all, repository};
use tempfile::TempDir;

const START: Duration = Duration::from_secs(60);
const REPOSITORY_PORT: u16 = 8001;

/// The app of the guide, as typed into the UI's JSON mode, with the one image that the hosts have.
const APP: &str = r#"{
  "id": "web", "cpus": 0.1, "mem": 32, "instances": 1,
  "cmd": "mkdir -p /www && echo it works > /www/index.html && exec httpd -f -p 80 -h /www",
  "container": {
    "type": "DOCKER",
    "docker": { "image": "busybox", "network": "BRIDGE", "portMappings": [ { "containerPort": 80, "hostPort": 0, "protocol": "tcp" } ] }
  }
}"#;

/// Makes a repository with its own release package and puts it onto `h1`, under `/srv/meso/<name>`.
fn publish(lab: &Lab, name: &str, base_url: &str) {
    let build = Build {
        binaries: Binaries::new(Path::new("/nonexistent")),
        source_date: DEFAULT_SOURCE_DATE,
    };
    let (rpms, repo) = (TempDir::new().expect("a directory"), TempDir::new().expect("a directory"));
    for path in repository::packages_in(&packages().expect("checked before")).expect("packages") {
        let name = path.file_name().expect("a name").to_owned();
        let _size = std::fs::copy(&path, rpms.path().join(name)).expect("a copy");
    }
    let only = ["mesosphere-el-repo".to_owned()];
    let _paths = build_all(&build, base_url, &only, rpms.path()).expect("the release package");
    let _count =
        repository::write(rpms.path(), repo.path(), DEFAULT_SOURCE_DATE).expect("a repository");
    lab.copy("h1", repo.path(), &format!("/srv/meso/{name}"));
}

/// The two hosts of the guide while it is followed.
struct Guide {
    lab: Lab,
    /// Address of `h1`: ZooKeeper, master, Marathon.
    master: String,
    /// Address of `h2`: the agent.
    agent: String,
    /// Marathon's URL.
    marathon: String,
}

impl Guide {
    /// Fresh hosts and a repository: one by path, the same over HTTP.
    fn begin() -> Self {
        let lab = Lab::up("yum-path", 2);
        let (master, agent) = (lab.ip("h1"), lab.ip("h2"));
        let web = format!("http://{master}:{REPOSITORY_PORT}/");
        publish(&lab, "repo", "file:///srv/meso/repo");
        publish(&lab, "web", &web);
        lab.ssh(
            "h1",
            &format!(
                "systemd-run --quiet python3 -m http.server {REPOSITORY_PORT} -d /srv/meso/web"
            ),
        );
        wait::until("the repository over HTTP", START, || {
            http::get(&format!("{web}repodata/repomd.xml")).map(|_| ())
        });
        lab.import_busybox("h2");
        Self { marathon: format!("http://{master}:8080"), lab, master, agent }
    }

    fn set_up_the_master(&self) {
        let master = &self.master;
        for command in [
            "rpm -Uvh /srv/meso/repo/mesosphere-el-repo-7-*.noarch.rpm",
            "yum -y install mesosphere-zookeeper",
            "echo 1 > /var/lib/zookeeper/myid",
            &format!("echo server.1={master}:2888:3888 >> /etc/zookeeper/conf/zoo.cfg"),
            "systemctl start zookeeper",
            "yum -y install mesos marathon",
            &format!("echo zk://{master}:2181/mesos > /etc/mesos/zk"),
            "echo 1 > /etc/mesos-master/quorum",
            &format!("echo {master} > /etc/mesos-master/hostname"),
            "mkdir -p /etc/marathon/conf",
            "cp /etc/mesos-master/hostname /etc/marathon/conf",
            "systemctl disable mesos-slave",
            "systemctl restart mesos-master",
            "systemctl restart marathon",
        ] {
            self.lab.ssh("h1", command);
        }
    }

    fn set_up_the_agent(&self) {
        let (master, agent) = (&self.master, &self.agent);
        let web = format!("http://{master}:{REPOSITORY_PORT}");
        let index = http::get(&format!("{web}/")).expect("the repository's index").body;
        let release = index
            .split('"')
            .find(|name| name.starts_with("mesosphere-el-repo-7-"))
            .unwrap_or_else(|| panic!("no release package in {index}"));
        for command in [
            &format!("rpm -Uvh {web}/{release}"),
            "yum -y install mesos",
            "systemctl disable mesos-master",
            &format!("echo zk://{master}:2181/mesos > /etc/mesos/zk"),
            "echo docker,mesos > /etc/mesos-slave/containerizers",
            "echo 15mins > /etc/mesos-slave/executor_registration_timeout",
            &format!("echo {agent} > /etc/mesos-slave/hostname"),
            "systemctl restart mesos-slave",
        ] {
            self.lab.ssh("h2", command);
        }
    }

    fn see_both_pages(&self) {
        for page in [format!("http://{}:5050/", self.master), format!("{}/ui/", self.marathon)] {
            let reply = wait::until(&page, START, || http::get(&page));
            assert_eq!(reply.status, 200, "{page}");
            assert!(
                reply.body.to_lowercase().contains("<!doctype html>"),
                "{page}: {}",
                reply.body
            );
        }
    }

    fn see_one_agent(&self) {
        wait::until("one registered agent", START, || {
            let state = http::get_json(&format!("http://{}:5050/state", self.master))?;
            let registered = state["activated_slaves"].as_f64() == Some(1.0)
                && state["slaves"][0]["hostname"] == self.agent.as_str();
            if registered { Ok(()) } else { Err(state.to_string()) }
        });
    }

    fn see_marathon_lead(&self) {
        wait::until("Marathon to lead", START, || {
            let info = http::get_json(&format!("{}/v2/info", self.marathon))?;
            if info["frameworkId"].is_string() { Ok(()) } else { Err(info.to_string()) }
        });
    }

    /// The guide's curl, on the master's host.
    fn curl(&self, method: &str, path: &str, body: &str) {
        let url = format!("{}{path}", self.marathon);
        self.lab.ssh(
            "h1",
            &format!("curl -sSf -X {method} {url} -H 'Content-type: application/json' -d '{body}'"),
        );
    }

    /// Waits for that many running tasks of the app; their ids, sorted.
    fn tasks(&self, count: usize) -> Vec<String> {
        wait_for_tasks(&self.marathon, "/web", count)
    }

    /// Ids of the running containers.
    fn containers(&self) -> String {
        self.lab.ssh("h2", "docker ps -q --no-trunc | sort")
    }

    fn see_the_apps_own_page(&self) {
        let served = wait::until("the app's page through its mapped port", START, || {
            let app = http::get_json(&format!("{}/v2/apps/web", self.marathon))?;
            let port =
                app["app"]["tasks"][0]["ports"][0].as_u64().ok_or_else(|| app.to_string())?;
            http::get(&format!("http://{}:{port}/", self.agent))
        });
        assert_eq!(served.body.trim(), "it works");
    }
}

#[test]
fn the_guide_works_as_it_stands() {
    need!(lab::missing().is_none(), "{}", lab::missing().unwrap_or_default());
    need!(packages().is_some(), "there are no packages; run: make rpm");
    let guide = Guide::begin();
    guide.set_up_the_master();
    guide.set_up_the_agent();
    guide.see_both_pages();
    guide.see_one_agent();
    guide.see_marathon_lead();

    guide.curl("POST", "/v2/apps", APP);
    let first = guide.tasks(1);
    guide.see_the_apps_own_page();
    guide.curl("PUT", "/v2/apps/web", r#"{"instances": 2}"#);
    let scaled = guide.tasks(2);
    assert!(scaled.contains(&first[0]), "{first:?} kept in {scaled:?}");

    // A container killed by hand is replaced.
    guide.lab.ssh("h2", "docker kill $(docker ps -q | head -n 1)");
    let replaced = wait::until("another task", START, || {
        let now = guide.tasks(2);
        if now == scaled { Err(format!("{now:?}")) } else { Ok(now) }
    });
    let kept = replaced.iter().filter(|id| scaled.contains(id)).count();
    assert_eq!(kept, 1, "{scaled:?} became {replaced:?}");

    // Each daemon restarted: tasks and their containers stay.
    let running = guide.containers();
    for (host, unit) in [("h2", "mesos-slave"), ("h1", "mesos-master"), ("h1", "marathon")] {
        guide.lab.ssh(host, &format!("systemctl restart {unit}"));
        guide.see_one_agent();
        guide.see_marathon_lead();
        assert_eq!(guide.tasks(2), replaced, "after systemctl restart {unit}");
        assert_eq!(guide.containers(), running, "after systemctl restart {unit}");
    }
    for (host, unit) in
        [("h1", "zookeeper"), ("h1", "mesos-master"), ("h1", "marathon"), ("h2", "mesos-slave")]
    {
        let state =
            guide.lab.ssh(host, &format!("systemctl show -p ActiveState -p NRestarts {unit}"));
        let steady = state.contains("ActiveState=active") && state.contains("NRestarts=0");
        assert!(steady, "{unit}: {state}");
    }
}

#[test]
fn packages_go_as_they_came() {
    need!(lab::missing().is_none(), "{}", lab::missing().unwrap_or_default());
    need!(packages().is_some(), "there are no packages; run: make rpm");
    let lab = Lab::up("yum-remove", 1);
    publish(&lab, "repo", "file:///srv/meso/repo");
    lab.ssh("h1", "rpm -Uvh /srv/meso/repo/mesosphere-el-repo-7-*.noarch.rpm");
    lab.ssh("h1", "yum -y install mesosphere-zookeeper mesos marathon");
    let units = "zookeeper mesos-master mesos-slave marathon";
    let states = |verb: &str| {
        lab.try_ssh("h1", &format!("systemctl {verb} {units}; true")).unwrap_or_default()
    };
    assert_eq!(states("is-enabled").split_whitespace().collect::<Vec<_>>(), ["enabled"; 4]);
    assert_eq!(states("is-active").split_whitespace().collect::<Vec<_>>(), ["inactive"; 4]);
    assert_eq!(lab.ssh("h1", "rpm -V mesosphere-zookeeper mesos marathon").trim(), "");

    // Edits outlive a reinstallation, and a unit that was disabled stays so.
    lab.ssh("h1", "systemctl disable mesos-slave; echo 3 > /etc/mesos-master/quorum; systemctl start zookeeper");
    lab.ssh("h1", "rpm -U --force $(ls /srv/meso/repo/mesos-1*.rpm)");
    assert_eq!(lab.ssh("h1", "cat /etc/mesos-master/quorum").trim(), "3");
    assert_eq!(
        states("is-enabled").split_whitespace().collect::<Vec<_>>(),
        ["enabled", "enabled", "disabled", "enabled"]
    );

    lab.ssh(
        "h1",
        "echo 1 > /var/lib/zookeeper/myid; yum -y remove mesosphere-zookeeper mesos marathon",
    );
    assert!(!states("is-active").contains("inactive\nactive"), "nothing runs any more");
    assert_eq!(lab.ssh("h1", "pgrep -c zookeeper-serve || true").trim(), "0");
    assert_eq!(lab.ssh("h1", "cat /var/lib/zookeeper/myid").trim(), "1", "data stays");
    assert_eq!(lab.ssh("h1", "cat /etc/mesos-master/quorum.rpmsave").trim(), "3", "edits stay");
    assert_eq!(lab.ssh("h1", "ls -l /etc/systemd/system/multi-user.target.wants | grep -cE 'mesos|marathon|zoo' || true").trim(), "0");
}
