//! TCP proxies between the members of an ensemble: partitions without root. One for each member and port that it connects
//! to, so that a link is stalled or cut by who connects and whom to.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How often a stalled or idle link looks whether it has been cut.
const TICK: Duration = Duration::from_millis(100);

/// What a partition does to a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing passes; it arrives when the link heals, as with lost packets.
    Stall,
    /// Connections are closed, new ones refused.
    Cut,
}

#[derive(Debug, Default)]
struct Links {
    faults: HashMap<(usize, usize), Fault>,
    ended: bool,
}

/// The links between members 0, 1, …
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    links: Arc<(Mutex<Links>, Condvar)>,
}

impl Proxies {
    fn lock(&self) -> MutexGuard<'_, Links> {
        self.links.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A port for member `from` to reach member `to`'s `port`. Data in both directions passes or doesn't together.
    ///
    /// # Panics
    /// When loopback has no free port.
    #[must_use]
    pub fn add(&self, from: usize, to: usize, port: u16) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let own = listener.local_addr().expect("an address").port();
        listener.set_nonblocking(true).expect("a socket");
        let proxies = self.clone();
        thread::spawn(move || {
            while !proxies.lock().ended {
                match listener.accept() {
                    Ok((client, _)) if proxies.fault(from, to) != Some(Fault::Cut) => {
                        proxies.serve(client, (from, to), port);
                    }
                    // Closed at once.
                    Ok(_) => {}
                    Err(_) => thread::sleep(TICK / 4),
                }
            }
        });
        own
    }

    fn fault(&self, from: usize, to: usize) -> Option<Fault> {
        self.lock().faults.get(&(from, to)).copied()
    }

    fn serve(&self, client: TcpStream, link: (usize, usize), port: u16) {
        let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
        for stream in [&client, &server] {
            // A socket that is closed already shows when it is read.
            let _ = stream.set_nonblocking(false);
            let _ = stream.set_nodelay(true);
            let _ = stream.set_read_timeout(Some(TICK));
        }
        let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else {
            return;
        };
        for (reader, writer) in [(client, server), (server_too, client_too)] {
            let proxies = self.clone();
            thread::spawn(move || proxies.copy(reader, writer, link));
        }
    }

    fn copy(&self, mut reader: TcpStream, mut writer: TcpStream, link: (usize, usize)) {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = reader.read(&mut buffer);
            if !self.passes(link) {
                break;
            }
            match read {
                Ok(0) => break,
                Ok(count) => {
                    if writer.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
        }
        let _ = reader.shutdown(Shutdown::Both);
        let _ = writer.shutdown(Shutdown::Both);
    }

    /// Waits while the link is stalled; false when it is cut.
    fn passes(&self, link: (usize, usize)) -> bool {
        let mut links = self.lock();
        loop {
            if links.ended {
                return false;
            }
            match links.faults.get(&link) {
                None => return true,
                Some(Fault::Cut) => return false,
                Some(Fault::Stall) => {
                    links = self.links.1.wait(links).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Separates members of two groups from each other, both ways; earlier faults are healed.
    pub fn partition(&self, one: &[usize], other: &[usize], fault: Fault) {
        let pairs = one.iter().flat_map(|from| other.iter().map(move |to| (*from, *to)));
        let both = pairs.flat_map(|(from, to)| [(from, to), (to, from)]);
        self.lock().faults = both.map(|pair| (pair, fault)).collect();
        self.links.1.notify_all();
    }

    /// Lets everything pass.
    pub fn heal(&self) {
        self.lock().faults.clear();
        self.links.1.notify_all();
    }

    /// Ends all threads.
    pub fn end(&self) {
        self.lock().ended = true;
        self.links.1.notify_all();
    }
}
