//! Reaching a host, trusting its key, and logging in.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ssh2::{KeyboardInteractivePrompt, MethodType, Prompt, Session};

use super::known_hosts::{KnownHosts, Verdict, fingerprint};
use crate::inventory::Host;
use crate::problem::{Kind, Problem};

/// How to log in, the same for all hosts.
#[derive(Clone)]
pub struct Login {
    /// Private key file; then neither agent nor default keys are tried.
    pub key: Option<PathBuf>,
    /// Password.
    pub password: Option<Arc<str>>,
    /// Keys of hosts.
    pub known_hosts: Arc<KnownHosts>,
    /// How long reaching a host and each answer of it may take.
    pub timeout: Duration,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let password = self.password.as_ref().map(|_| "(not shown)");
        f.debug_struct("Login")
            .field("key", &self.key)
            .field("password", &password)
            .finish_non_exhaustive()
    }
}

/// Identities of the agent that are tried: a server ends the connection after six (`MaxAuthTries`).
const IDENTITIES_MAX: usize = 4;
/// Tries to reach a host whose sshd drops connections because there are many at once (`MaxStartups`).
const TRIES: u32 = 3;

fn unreachable(
    host: &Host,
    what: &str,
    why: impl Into<String>,
    next: impl Into<String>,
) -> Problem {
    Problem::on(&host.name, Kind::Unreachable, what, why, next)
}

/// A logged-in session in blocking mode, and its socket.
pub(super) fn open(host: &Host, login: &Login) -> Result<(Session, TcpStream), Problem> {
    let mut refused = None;
    for preference in login.known_hosts.preferences() {
        let (session, socket) = handshake(host, login, &preference)?;
        match check_key(host, login, &session)? {
            None => {
                authenticate(host, login, &session)?;
                return Ok((session, socket));
            }
            // A key that has changed says more than one that is not on file.
            Some((verdict, problem)) => {
                if refused.as_ref().is_none_or(|(before, _)| *before == Verdict::Unknown) {
                    refused = Some((verdict, problem));
                }
            }
        }
    }
    match refused {
        Some((_, problem)) => Err(problem),
        None => Err(unreachable(
            host,
            "the host's key can't be checked",
            "it shows a key of no type that is supported",
            "give its sshd an ed25519, ECDSA or RSA host key",
        )),
    }
}

fn connect(host: &Host, timeout: Duration) -> Result<TcpStream, Problem> {
    let (name, port) = (&host.name, host.port);
    let addresses = (name.as_str(), port).to_socket_addrs().map_err(|error| {
        unreachable(
            host,
            "the host's name has no address",
            error.to_string(),
            "correct the name, or add it to DNS or /etc/hosts",
        )
    })?;
    let mut why = format!("{name} has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(socket) => {
                notice_silence(&socket);
                return Ok(socket);
            }
            Err(error) => why = format!("{address}: {error}"),
        }
    }
    Err(unreachable(
        host,
        "the host can't be reached",
        why,
        format!(
            "see that it is up, that sshd listens on port {port} there, and that no firewall is between; then run meso again"
        ),
    ))
}

/// Has the kernel end a connection whose other end is gone without a word: a command may be silent for as long as it likes,
/// a host may not. Best effort, as deadlines bound everything anyhow.
fn notice_silence(socket: &TcpStream) {
    use nix::sys::socket::{setsockopt, sockopt};
    let _ = socket.set_nodelay(true);
    let _ = setsockopt(socket, sockopt::KeepAlive, &true);
    let _ = setsockopt(socket, sockopt::TcpKeepIdle, &10);
    let _ = setsockopt(socket, sockopt::TcpKeepInterval, &5);
    let _ = setsockopt(socket, sockopt::TcpKeepCount, &4);
    let _ = setsockopt(socket, sockopt::TcpUserTimeout, &30_000);
}

fn handshake(
    host: &Host,
    login: &Login,
    preference: &str,
) -> Result<(Session, TcpStream), Problem> {
    let mut last = String::new();
    for attempt in 0..TRIES {
        if attempt > 0 {
            std::thread::sleep(Duration::from_millis(300) * attempt);
        }
        let socket = connect(host, login.timeout)?;
        let begun_at = Instant::now();
        let twin = socket.try_clone();
        let begun = Session::new().and_then(|mut session| {
            session.set_timeout(u32::try_from(login.timeout.as_millis()).unwrap_or(u32::MAX));
            session.method_pref(MethodType::HostKey, preference)?;
            session.set_tcp_stream(socket);
            session.handshake()?;
            Ok(session)
        });
        match (begun, twin) {
            (Ok(session), Ok(twin)) => return Ok((session, twin)),
            (Err(error), _) => last = error.to_string(),
            (_, Err(error)) => last = error.to_string(),
        }
        // One that does not answer is not one that has too much to do.
        if begun_at.elapsed() >= login.timeout {
            break;
        }
    }
    Err(unreachable(
        host,
        "SSH could not be started",
        last,
        format!("see that it is sshd that listens on port {}", host.port),
    ))
}

fn check_key(
    host: &Host,
    login: &Login,
    session: &Session,
) -> Result<Option<(Verdict, Problem)>, Problem> {
    let known = &login.known_hosts;
    let (key, kind) = session.host_key().ok_or_else(|| {
        unreachable(host, "the host showed no key", "its SSH server is broken", "restart its sshd")
    })?;
    let verdict = known.check(session, &host.name, host.port, key).map_err(|why| {
        unreachable(host, "the host's key can't be checked", why, "run meso again")
    })?;
    let shown = fingerprint(key, kind);
    let files = known.paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    let file = files.first().cloned().unwrap_or_else(|| "known_hosts".to_owned());
    let files = files.join(" or ");
    let name =
        if host.port == 22 { host.name.clone() } else { format!("[{}]:{}", host.name, host.port) };
    let (what, why, next) = match verdict {
        Verdict::Known => return Ok(None),
        Verdict::Changed => (
            "the host's key is not the one on file: refused",
            format!(
                "it shows {shown}, and {files} holds another for {name}: someone may be between, or the host was set up anew"
            ),
            format!(
                "compare the fingerprint on the host's console (ssh-keygen -lf /etc/ssh/ssh_host_…_key.pub); only if it is the same: ssh-keygen -R '{name}' -f {file}, then add the new key"
            ),
        ),
        Verdict::Unknown => (
            "the host's key is not known: refused",
            format!("it shows {shown}, and {files} holds none for {name}"),
            format!(
                "compare the fingerprint on the host's console (ssh-keygen -lf /etc/ssh/ssh_host_…_key.pub); if it is the same: ssh-keyscan -p {} {} >> {file}",
                host.port, host.name
            ),
        ),
        Verdict::Revoked => (
            "the host's key is revoked: refused",
            format!("it shows {shown}, which {files} marks as @revoked"),
            "give the host a new key".to_owned(),
        ),
    };
    Ok(Some((verdict, unreachable(host, what, why, next))))
}

/// Answers every hidden prompt with the password: what PAM asks where plain passwords are off.
struct Answer<'a>(&'a str);

impl KeyboardInteractivePrompt for Answer<'_> {
    fn prompt(&mut self, _user: &str, _instructions: &str, prompts: &[Prompt<'_>]) -> Vec<String> {
        prompts
            .iter()
            .map(|prompt| if prompt.echo { String::new() } else { self.0.to_owned() })
            .collect()
    }
}

fn authenticate(host: &Host, login: &Login, session: &Session) -> Result<(), Problem> {
    let user = host.user.as_str();
    let mut tried: Vec<String> = Vec::new();
    // What the server takes; an error here is one of the connection, which the next call meets again.
    let methods = session.auth_methods(user).unwrap_or("publickey,password").to_owned();
    if session.authenticated() {
        return Ok(());
    }
    if let Some(key) = &login.key {
        match with_key_file(session, user, key) {
            Ok(()) => return Ok(()),
            Err(why) => tried.push(why),
        }
    }
    if let Some(password) = &login.password {
        if methods.contains("password") && session.userauth_password(user, password).is_ok() {
            return Ok(());
        }
        if methods.contains("keyboard-interactive")
            && session.userauth_keyboard_interactive(user, &mut Answer(password)).is_ok()
        {
            return Ok(());
        }
        tried.push(if methods.contains("password") || methods.contains("keyboard-interactive") {
            "the password was refused".to_owned()
        } else {
            format!("the host takes no passwords, only {methods}")
        });
    }
    if login.key.is_none() {
        match with_agent(session, user) {
            Ok(true) => return Ok(()),
            Ok(false) => tried.push("no key of the SSH agent was taken".to_owned()),
            Err(why) => tried.push(why),
        }
        for key in default_keys() {
            match with_key_file(session, user, &key) {
                Ok(()) => return Ok(()),
                Err(why) => tried.push(why),
            }
        }
    }
    Err(Problem::on(
        &host.name,
        Kind::Refused,
        format!("the host refuses to log {user} in"),
        tried.join("; "),
        format!(
            "check --user, --key and --password-file, or add your public key with: ssh-copy-id -p {} {user}@{}",
            host.port, host.name
        ),
    ))
}

fn with_key_file(session: &Session, user: &str, key: &Path) -> Result<(), String> {
    let shown = key.display();
    let text = std::fs::read_to_string(key).map_err(|error| format!("{shown}: {error}"))?;
    if text.contains("ENCRYPTED") {
        return Err(format!("{shown} is encrypted: add it to the agent with ssh-add"));
    }
    session.userauth_pubkey_file(user, None, key, None).map_err(|error| match error.code() {
        // LIBSSH2_ERROR_FILE: the key can't be parsed; for OpenSSH's own format that also means a passphrase.
        ssh2::ErrorCode::Session(-16) => format!("{shown} is no private key that can be used without a passphrase: add it to the agent with ssh-add"),
        _ => format!("{shown} was refused ({})", error.message()),
    })
}

fn with_agent(session: &Session, user: &str) -> Result<bool, String> {
    let none = |error: ssh2::Error| format!("no SSH agent ({})", error.message());
    let mut agent = session.agent().map_err(none)?;
    agent.connect().map_err(none)?;
    agent.list_identities().map_err(none)?;
    let identities = agent.identities().map_err(none)?;
    Ok(identities
        .iter()
        .take(IDENTITIES_MAX)
        .any(|identity| agent.userauth(user, identity).is_ok()))
}

fn default_keys() -> Vec<PathBuf> {
    let Some(home) = std::env::home_dir() else { return Vec::new() };
    ["id_ed25519", "id_ecdsa", "id_rsa"]
        .iter()
        .map(|name| home.join(".ssh").join(name))
        .filter(|path| path.is_file())
        .collect()
}
