//! The way to servers under TLS: for each of them a port of the loopback interface, behind which bytes go on under TLS.
//!
//! The client library's own TLS needs a C library that old hosts can't build; the server's, which is used here, does not.
//! Whoever speaks to such a port speaks to the server as whom the certificate names, so only connections of this very user
//! are taken: the kernel's table of connections says whose each is.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, fs, io};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use zookeeper::tls::Tls;

use crate::output::Output;

/// How long reaching a server may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Where the kernel tells of connections.
const CONNECTIONS: &str = "/proc/self/net/tcp";
/// The state of one that both ends have open (`TCP_ESTABLISHED`).
const ESTABLISHED: &str = "01";

/// Relays that run until this is dropped.
#[derive(Debug)]
pub struct Relays {
    /// The servers as the client library is to see them: ports on the loopback, and the path behind them.
    pub hosts: String,
    _tasks: JoinSet<()>,
}

/// One server as it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Host {
    name: String,
    port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(out, "[{}]:{}", self.name, self.port)
        } else {
            write!(out, "{}:{}", self.name, self.port)
        }
    }
}

/// `host:port,host/path` (`ConnectStringParser`): hosts and path.
fn hosts(server: &str) -> Result<(Vec<Host>, &str), String> {
    let (servers, path) = server.split_at(server.find('/').unwrap_or(server.len()));
    let read = |text: &str| {
        let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((name, port)) => (name, port.strip_prefix(':')),
            None => text.rsplit_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
        };
        let port = port.map_or(Some(2181), |port| port.parse().ok().filter(|port| *port > 0));
        let port = port.filter(|_| !name.is_empty());
        let port = port.ok_or_else(|| format!("'{text}' is not host:port"))?;
        Ok(Host { name: name.to_owned(), port })
    };
    Ok((servers.split(',').map(str::trim).map(read).collect::<Result<_, String>>()?, path))
}

impl Relays {
    /// Opens a port for each server. What goes wrong on the way to one is remarked on `output`, each reason once in a row.
    ///
    /// # Errors
    /// When the servers can't be read, or there is no port.
    pub async fn open(tls: &Arc<Tls>, server: &str, output: &Output) -> Result<Self, String> {
        let (servers, path) = hosts(server)?;
        let (mut tasks, mut ports) = (JoinSet::new(), Vec::new());
        for host in servers {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
            let listener = listener.map_err(|error| format!("no port of 127.0.0.1: {error}"))?;
            let own = listener.local_addr().map_err(|error| error.to_string())?;
            ports.push(own.to_string());
            tasks.spawn(serve(listener, own, Arc::clone(tls), host, output.clone()));
        }
        Ok(Self { hosts: format!("{}{path}", ports.join(",")), _tasks: tasks })
    }
}

async fn serve(listener: TcpListener, own: SocketAddr, tls: Arc<Tls>, host: Host, output: Output) {
    let mut connections = JoinSet::new();
    let said = Arc::new(Mutex::new(String::new()));
    loop {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        if !is_own(peer, own) {
            output.remark(&format!("a connection of another user to {own} is refused"));
            continue;
        }
        let (tls, host, output, said) = (tls.clone(), host.clone(), output.clone(), said.clone());
        connections.spawn(async move {
            let reason = match relay(stream, &tls, &host).await {
                Ok(()) => String::new(),
                Err(error) => format!("{host}: {error}"),
            };
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            if *said != reason && !reason.is_empty() {
                output.remark(&reason);
            }
            *said = reason;
        });
    }
}

async fn relay(mut client: TcpStream, tls: &Tls, host: &Host) -> io::Result<()> {
    let dialled = TcpStream::connect((host.name.as_str(), host.port));
    let dialled = tokio::time::timeout(CONNECT_LIMIT, dialled).await??;
    // Requests are small, and each is waited for.
    dialled.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let mut server = tls.connect(dialled, &host.name).await?;
    // How a connection ends is the client library's to tell.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    Ok(())
}

/// Whether a connection from `peer` to `own` is of this process's user. Where the kernel does not tell, it is not.
fn is_own(peer: SocketAddr, own: SocketAddr) -> bool {
    let (SocketAddr::V4(peer), SocketAddr::V4(own)) = (peer, own) else { return false };
    let (Ok(table), Ok(process)) = (fs::read_to_string(CONNECTIONS), fs::metadata("/proc/self"))
    else {
        return false;
    };
    is_of_user(&table, peer, own, process.uid())
}

/// Looks for the peer's end. One that is closed already has no user any more, and what came through it is not trusted.
fn is_of_user(table: &str, peer: SocketAddrV4, own: SocketAddrV4, user: u32) -> bool {
    let shown = |address: SocketAddrV4| {
        format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
    };
    let ends = (shown(peer), shown(own));
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().take(8).collect();
        let [_, local, remote, state, _, _, _, uid] = fields[..] else { return false };
        (local, remote) == (ends.0.as_str(), ends.1.as_str())
            && state == ESTABLISHED
            && uid.parse() == Ok(user)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_as_the_original_does() {
        let read = |text: &str| {
            hosts(text).map(|(hosts, path)| {
                let hosts: Vec<String> = hosts.iter().map(Host::to_string).collect();
                format!("{}{path}", hosts.join(","))
            })
        };
        for (text, expected) in [
            ("a", "a:2181"),
            ("a:1,b:2/c/d", "a:1,b:2/c/d"),
            ("[::1]:3,[::2]/", "[::1]:3,[::2]:2181/"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected));
        }
        for text in ["", "a:x", ":1", "a:0", "a,,b"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_an_open_connection_of_the_user_counts() {
        let (peer, own) = ("127.0.0.1:258".parse().unwrap(), "127.0.0.1:2181".parse().unwrap());
        let row = |ends: &str, state: &str, uid: u32| {
            let address = u32::from_ne_bytes([127, 0, 0, 1]);
            let ends = ends.replace('A', &format!("{address:08X}"));
            format!("  sl  local_address\n   0: {ends} {state} 0:0 0:0 0 {uid} 0 1 2\n")
        };
        for (table, is_ours) in [
            (row("A:0102 A:0885", "01", 7), true),
            (row("A:0102 A:0885", "01", 8), false),
            (row("A:0102 A:0885", "06", 7), false),
            (row("A:0885 A:0102", "01", 7), false),
            (String::new(), false),
        ] {
            assert_eq!(is_of_user(&table, peer, own, 7), is_ours, "{table}");
        }
    }

    #[tokio::test]
    async fn the_kernel_knows_whose_a_connection_is() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap();
        let dialled = TcpStream::connect(own).await.unwrap();
        let (_accepted, peer) = listener.accept().await.unwrap();
        assert!(is_own(peer, own));
        assert_eq!(dialled.local_addr().unwrap(), peer);
        drop(dialled);
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while is_own(peer, own) && std::time::Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
        assert!(!is_own(peer, own), "closed");
    }
}
