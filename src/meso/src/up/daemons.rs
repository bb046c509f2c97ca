//! The four daemons in one process: started in order of what they need, stopped in the reverse.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Options;
use super::ports::Ports;

/// Where the Docker daemon listens.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";
/// How long one daemon may take to end.
const STOP: Duration = Duration::from_secs(20);

struct Daemon {
    name: &'static str,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

/// A running cluster.
pub(super) struct Cluster {
    /// In order of their start.
    daemons: Vec<Daemon>,
    failures: mpsc::Receiver<anyhow::Error>,
    docker: bool,
}

impl Cluster {
    /// Prepares the directory and starts the daemons on the ports that are held.
    pub(super) async fn start(
        directory: &Path,
        options: &Options,
        ports: Ports,
    ) -> anyhow::Result<Self> {
        let bind = options.bind;
        let launcher = programs(directory)?;
        let docker = UnixStream::connect(DOCKER_SOCKET).is_ok();
        let ip = bind.to_string();
        let zk =
            |path: &str| format!("zk://{}/{path}", SocketAddr::new(bind, options.zookeeper_port));

        let mut flags = vec![
            format!("--zk={}", zk("mesos")),
            "--quorum=1".to_owned(),
            format!("--ip={ip}"),
            format!("--hostname={ip}"),
            "--cluster=meso up".to_owned(),
            format!("--work_dir={}", directory.join("master").display()),
        ];
        let master_flags = master::flags::table().load(flags, []).context("the master's flags")?;
        flags = vec![
            format!("--master={}", zk("mesos")),
            format!("--ip={ip}"),
            format!("--hostname={ip}"),
            format!("--work_dir={}", directory.join("agent").display()),
            format!("--runtime_dir={}", directory.join("agent-runtime").display()),
            format!("--launcher_dir={}", launcher.display()),
            format!("--resources=ports:[{}]", options.task_ports),
            "--launcher=posix".to_owned(),
            "--isolation=posix/cpu,posix/mem".to_owned(),
            "--no-systemd_enable_support".to_owned(),
            // Only root can run tasks as another user.
            format!("--switch_user={}", nix::unistd::geteuid().is_root()),
            format!("--containerizers={}", if docker { "docker,mesos" } else { "mesos" }),
        ];
        let agent_flags = agent::flags::table().load(flags, []).context("the agent's flags")?;
        flags = vec![
            format!("--master={}", zk("mesos")),
            format!("--zk={}", zk("marathon")),
            format!("--hostname={ip}"),
            format!("--http_port={}", options.marathon_port),
            "--reconciliation_initial_delay=1000".to_owned(),
        ];
        let marathon_flags = marathon::flags::load(flags, []).context("Marathon's options")?;

        // The server binds its port by itself.
        drop(ports.zookeeper);
        let server = zookeeper_server(directory, bind, options.zookeeper_port).await?;
        let (fail, failures) = mpsc::channel(4);
        let mut cluster = Self { daemons: vec![], failures, docker };
        cluster.add(server.0, &fail, "ZooKeeper", async move { Ok(server.1.ended().await?) });
        let shutdown = CancellationToken::new();
        let options =
            master::Options { flags: master_flags, listener: Some(ports.master), tls: None };
        cluster.add(shutdown.clone(), &fail, "the master", master::run(options, shutdown, || ()));
        let shutdown = CancellationToken::new();
        let options = agent::Options {
            flags: agent_flags,
            listener: Some(ports.agent),
            tls: None,
            end_containers: true,
        };
        cluster.add(shutdown.clone(), &fail, "the agent", agent::run(options, shutdown, || ()));
        let shutdown = CancellationToken::new();
        let options =
            marathon::Options { flags: marathon_flags, listener: Some(ports.marathon), tls: None };
        cluster.add(shutdown.clone(), &fail, "Marathon", marathon::run(options, shutdown, || ()));
        Ok(cluster)
    }

    fn add(
        &mut self,
        shutdown: CancellationToken,
        fail: &mpsc::Sender<anyhow::Error>,
        name: &'static str,
        daemon: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let (fail, ending) = (fail.clone(), shutdown.clone());
        let task = tokio::spawn(async move {
            let ended = daemon.await;
            let failure = match ended {
                Err(error) => error.context(format!("{name} failed")),
                Ok(()) if ending.is_cancelled() => return,
                Ok(()) => anyhow!("{name} ended by itself"),
            };
            // A full queue means that others failed before.
            let _ = fail.try_send(failure);
        });
        self.daemons.push(Daemon { name, shutdown, task });
    }

    /// Waits until a daemon fails.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        match self.failures.recv().await {
            Some(failure) => failure,
            None => std::future::pending().await,
        }
    }

    /// Whether Docker apps can run.
    pub(super) fn has_docker(&self) -> bool {
        self.docker
    }

    /// Ends all: Marathon first, so that it replaces no task, ZooKeeper last.
    pub(super) async fn stop(&mut self) {
        while let Some(mut daemon) = self.daemons.pop() {
            daemon.shutdown.cancel();
            if tokio::time::timeout(STOP, &mut daemon.task).await.is_err() {
                tracing::warn!(daemon = daemon.name, "does not end: given up");
                daemon.task.abort();
            }
        }
    }
}

/// The programs that the agent starts: this one, under the executors' names.
fn programs(directory: &Path) -> anyhow::Result<PathBuf> {
    let launcher = directory.join("launcher");
    std::fs::create_dir_all(&launcher)
        .with_context(|| format!("cannot make {}", launcher.display()))?;
    let own = std::env::current_exe().context("where this program is")?;
    for name in [
        "mesos-executor",
        "mesos-docker-executor",
        "mesos-default-executor",
        "mesos-cni-port-mapper",
    ] {
        let link = launcher.join(name);
        // The program may have moved since an earlier run.
        if std::fs::read_link(&link).ok().as_ref() != Some(&own) {
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(&own, &link)
                .with_context(|| format!("cannot make {}", link.display()))?;
        }
    }
    Ok(launcher)
}

async fn zookeeper_server(
    directory: &Path,
    bind: IpAddr,
    port: u16,
) -> anyhow::Result<(CancellationToken, zookeeper::Server)> {
    let data = directory.join("zookeeper");
    std::fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
    let path = directory.join("zoo.cfg");
    let text = format!(
        "tickTime=2000\ndataDir={}\nclientPort={port}\nclientPortAddress={bind}\nadmin.enableServer=false\nautopurge.purgeInterval=1\n",
        data.display()
    );
    std::fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    let config = zookeeper::Config::parse(&path, &text)?;
    let shutdown = CancellationToken::new();
    let server = zookeeper::Server::start(config, shutdown.clone())
        .await
        .context("ZooKeeper does not start")?;
    Ok((shutdown, server))
}
