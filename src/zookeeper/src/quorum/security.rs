//! How members of the ensemble reach each other: by TLS, and by SASL on top, before the first word of Zab
//! (`QuorumX509Util`, `SaslQuorumAuthLearner`, `SaslQuorumAuthServer`). In the election the first word comes before SASL.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use jute::{Reader, Writer};
use nix::sys::socket::sockopt;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::sasl::digest_md5::{Answer, Authorization, Client, Server, Users};
use crate::sasl::{MEMBERS, SaslError};
use crate::secret::Secret;
use crate::stream::Stream;
use crate::tls::{self, Tls, TlsError};

/// What a packet of SASL begins with (`QuorumAuth.QUORUM_AUTH_MAGIC_NUMBER`).
const MAGIC: i64 = 0x5f24_3501_3501_edcc;
/// Longest token that is read, in bytes.
const TOKEN_MAX: usize = 8 * 1024;
/// How long a member may take for each step.
const STEP_LIMIT: Duration = Duration::from_secs(5);

/// What the configuration says.
#[derive(Debug, Clone)]
pub struct Settings {
    /// TLS, where it is spoken.
    pub tls: Option<tls::Settings>,
    /// `sslQuorum`: connections are dialled with TLS, and only such are taken.
    pub dials_tls: bool,
    /// `portUnification`: both kinds are taken.
    pub takes_both: bool,
    /// SASL, where it is switched on.
    pub sasl: Option<Sasl>,
    /// `cnxTimeout`: how long reaching a member for an election may take.
    pub dial_limit: Duration,
    /// `tcpKeepAlive`: whether connections have TCP's.
    pub keeps_alive: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let (tls, sasl) = (None, None);
        let (dials_tls, takes_both, keeps_alive) = (false, false, false);
        Self { tls, dials_tls, takes_both, sasl, dial_limit: STEP_LIMIT, keeps_alive }
    }
}

/// SASL between members.
#[derive(Debug, Clone)]
pub struct Sasl {
    /// Name and password to prove oneself with; none where one does not.
    pub credentials: Option<(String, Secret)>,
    /// Who may prove to be a member.
    pub users: Users,
    /// Whether every member must.
    pub is_needed: bool,
}

/// What protects the connections between members.
#[derive(Debug, Clone)]
pub struct Security {
    tls: Option<Arc<Tls>>,
    dials_tls: bool,
    takes_both: bool,
    sasl: Option<Arc<Sasl>>,
    dial_limit: Duration,
    keeps_alive: bool,
}

/// Where an exchange stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
enum Status {
    Under = 0,
    Success = 1,
    Error = -1,
}

fn refused(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, reason.into())
}

async fn in_time<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(STEP_LIMIT, step)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it says nothing"))?
}

impl Security {
    /// Reads the files of keys.
    ///
    /// # Errors
    /// When one can't be used.
    pub fn new(settings: Settings) -> Result<Self, TlsError> {
        let tls = settings.tls.map(Tls::new).transpose()?.map(Arc::new);
        let Settings { dials_tls, takes_both, sasl, dial_limit, keeps_alive, .. } = settings;
        let sasl = sasl.map(Arc::new);
        Ok(Self { tls, dials_tls, takes_both, sasl, dial_limit, keeps_alive })
    }

    /// How long reaching a member for an election may take.
    pub(crate) fn dial_limit(&self) -> Duration {
        self.dial_limit
    }

    fn prepare(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        if self.keeps_alive {
            // A connection without it works all the same.
            let _ = nix::sys::socket::setsockopt(stream, sockopt::KeepAlive, &true);
        }
        Ok(())
    }

    /// Opens a connection to a member.
    ///
    /// # Errors
    /// When it is not reached or is not who it must be.
    pub(crate) async fn connect(&self, host: &str, port: u16) -> io::Result<Stream> {
        let stream = TcpStream::connect((host, port)).await?;
        self.prepare(&stream)?;
        match self.tls.as_ref().filter(|_| self.dials_tls) {
            None => Ok(stream.into()),
            Some(tls) => tls.connect(stream, host).await.map(Stream::from),
        }
    }

    /// Opens a connection that a member, it says, has dialled.
    ///
    /// # Errors
    /// When it is not who it must be.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<Stream> {
        self.prepare(&stream)?;
        let Some(tls) = &self.tls else {
            return Ok(stream.into());
        };
        let mut first = [0];
        if self.takes_both
            && in_time(stream.peek(&mut first)).await? == 1
            && first[0] != tls::HANDSHAKE
        {
            return Ok(stream.into());
        }
        tls.accept(stream).await.map(Stream::from)
    }

    /// Proves to a member that was dialled who this one is, where it has to.
    ///
    /// # Errors
    /// When the other one does not believe it, or does not know the password itself.
    pub(crate) async fn prove(&self, stream: &mut Stream) -> io::Result<()> {
        let Some((username, password)) =
            self.sasl.as_ref().and_then(|sasl| sasl.credentials.clone())
        else {
            return Ok(());
        };
        let failed = |error: SaslError| refused(error.to_string());
        let mut client = Client::new(MEMBERS, username, password, nonce());
        in_time(send(stream, Status::Under, b"")).await?;
        let (Status::Under, challenge) = in_time(receive(stream)).await? else {
            return Err(refused("it does not want to know who this server is"));
        };
        let response = client.respond(&challenge).map_err(failed)?;
        in_time(send(stream, Status::Under, &response)).await?;
        match in_time(receive(stream)).await? {
            (Status::Success, last) => client.finish(&last).map_err(failed),
            _ => Err(refused(
                "it refuses this server's name or password: see QuorumLearner here and QuorumServer there",
            )),
        }
    }

    /// Has a member that dialled prove who it is, where it must or wants to.
    ///
    /// # Errors
    /// When it must, and does not.
    pub(crate) async fn check(&self, stream: &mut Stream) -> io::Result<()> {
        let Some(sasl) = &self.sasl else { return Ok(()) };
        let is_authenticating = match in_time(begins_with_magic(stream)).await {
            Ok(is_authenticating) => is_authenticating,
            // One that need not prove anything may have nothing to say.
            Err(_) if !sasl.is_needed => return Ok(()),
            Err(error) => return Err(error),
        };
        if !is_authenticating {
            return if sasl.is_needed {
                Err(refused(
                    "it does not prove who it is, and quorum.auth.serverRequireSasl is true",
                ))
            } else {
                Ok(())
            };
        }
        let mut server = Server::new(MEMBERS, nonce(), Authorization::Itself);
        loop {
            let (_, token) = in_time(receive(stream)).await?;
            match server.evaluate(&token, &sasl.users) {
                Ok(Answer::Challenge(challenge)) => {
                    in_time(send(stream, Status::Under, &challenge)).await?;
                }
                Ok(Answer::Proven(last, _)) => {
                    return in_time(send(stream, Status::Success, &last)).await;
                }
                Err(error) => {
                    in_time(send(stream, Status::Error, b"")).await?;
                    tracing::warn!("a member failed to authenticate by SASL: {error}");
                    return if sasl.is_needed { Err(refused(error.to_string())) } else { Ok(()) };
                }
            }
        }
    }
}

fn nonce() -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(rand::random::<[u8; 30]>())
}

/// Looks at the next eight bytes without taking them.
async fn begins_with_magic(stream: &mut Stream) -> io::Result<bool> {
    let (mut seen, mut length) = ([0; 8], 0);
    while length < seen.len() {
        // What came is put back even if no more comes.
        match stream.read(&mut seen[length..]).await {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) => {
                stream.put_back(&seen[..length]);
                return Err(error);
            }
        }
        if seen[..length] != MAGIC.to_be_bytes()[..length] {
            break;
        }
    }
    stream.put_back(&seen[..length]);
    Ok(seen == MAGIC.to_be_bytes())
}

async fn send(stream: &mut Stream, status: Status, token: &[u8]) -> io::Result<()> {
    let mut packet = Writer::new();
    packet.long(MAGIC).int(status as i32).buffer(Some(token));
    stream.write_all(packet.as_bytes()).await?;
    stream.flush().await
}

async fn receive(stream: &mut Stream) -> io::Result<(Status, Vec<u8>)> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut head = [0; 16];
    stream.read_exact(&mut head).await?;
    let mut reader = Reader::new(&head);
    let fields = reader.long().and_then(|magic| Ok((magic, reader.int()?, reader.int()?)));
    let (magic, status, length) = fields.map_err(|error| wrong(&error.to_string()))?;
    if magic != MAGIC {
        return Err(wrong("it does not speak SASL: is quorum.auth.enableSasl true there?"));
    }
    let status = match status {
        0 => Status::Under,
        1 => Status::Success,
        _ => Status::Error,
    };
    let length = usize::try_from(length).unwrap_or(0);
    if length > TOKEN_MAX {
        return Err(wrong("a token that is too long"));
    }
    let mut token = vec![0; length];
    stream.read_exact(&mut token).await?;
    Ok((status, token))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn security(password: Option<&str>, is_needed: bool) -> Security {
        let credentials = password.map(|password| ("zk".to_owned(), Secret::new(password)));
        let users = [("zk".to_owned(), Secret::new("pw"))].into();
        let sasl = Some(Sasl { credentials, users, is_needed });
        Security::new(Settings { sasl, ..Settings::default() }).unwrap()
    }

    fn plain() -> Security {
        Security::new(Settings::default()).unwrap()
    }

    /// How each side sees it when one with `dialling` dials one with `listening`, and what is read behind it.
    async fn meet(dialling: Security, listening: Security) -> (bool, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dialled = tokio::spawn(async move {
            let mut stream = dialling.connect("127.0.0.1", port).await.unwrap();
            let is_proven = dialling.prove(&mut stream).await.is_ok();
            stream.write_all(b"then hello").await.unwrap();
            is_proven
        });
        let mut stream = listening.accept(listener.accept().await.unwrap().0).await.unwrap();
        let is_checked = listening.check(&mut stream).await.is_ok();
        if is_checked {
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "then hello");
        }
        (dialled.await.unwrap(), is_checked)
    }

    #[tokio::test]
    async fn members_prove_who_they_are_where_they_must() {
        let with = |password, is_needed| security(Some(password), is_needed);
        assert_eq!(meet(with("pw", true), with("pw", true)).await, (true, true));
        assert_eq!(meet(with("no", true), with("pw", true)).await, (false, false));
        assert_eq!(meet(security(None, false), with("pw", true)).await, (true, false));
        assert_eq!(meet(security(None, false), security(None, false)).await, (true, true));
        assert_eq!(meet(with("no", false), security(None, false)).await, (false, true));
        assert_eq!(meet(plain(), plain()).await, (true, true));
    }
}
