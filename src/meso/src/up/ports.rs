//! The four ports, held before anything starts: what is taken is told while there is nothing to clean up yet.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpListener;

use super::Options;
use crate::problem::Problem;

/// Listeners on the ports.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) zookeeper: TcpListener,
    pub(super) master: TcpListener,
    pub(super) agent: TcpListener,
    pub(super) marathon: TcpListener,
}

impl Ports {
    /// Binds all.
    ///
    /// # Errors
    /// The first port that can't be had, with its option.
    pub(super) async fn hold(options: &Options) -> Result<Self, Problem> {
        let ip = options.bind;
        Ok(Self {
            zookeeper: hold(ip, options.zookeeper_port, "ZooKeeper", "--zookeeper-port").await?,
            master: hold(ip, options.master_port, "the master", "--master-port").await?,
            agent: hold(ip, options.agent_port, "the agent", "--agent-port").await?,
            marathon: hold(ip, options.marathon_port, "Marathon", "--marathon-port").await?,
        })
    }
}

async fn hold(ip: IpAddr, port: u16, whose: &str, option: &str) -> Result<TcpListener, Problem> {
    TcpListener::bind(SocketAddr::new(ip, port)).await.map_err(|error| {
        let what = format!("port {port} for {whose} can't be had");
        let next = match error.kind() {
            io::ErrorKind::AddrInUse => format!("end the program that listens there (`ss -ltnp 'sport = :{port}'` names it), or choose another port with {option}"),
            io::ErrorKind::PermissionDenied => format!("choose a port above 1023 with {option}"),
            _ => "give an address of this machine with --bind".to_owned(),
        };
        Problem::usage(what, format!("{ip}: {error}"), next)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_option() {
        let ip = IpAddr::from([127, 0, 0, 1]);
        let held = TcpListener::bind((ip, 0)).await.unwrap();
        let port = held.local_addr().unwrap().port();
        let problem = hold(ip, port, "Marathon", "--marathon-port").await.unwrap_err().to_string();
        assert!(problem.contains(&format!("port {port} for Marathon")), "{problem}");
        assert!(problem.contains("--marathon-port"), "{problem}");
    }
}
