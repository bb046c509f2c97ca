//! What a host is and has, as one command tells it ([`SCRIPT`]); parsing is pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::Serialize;

/// The command's program, for `sh -s`.
pub const SCRIPT: &str = include_str!("facts/facts.sh");

/// A file on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileFact {
    /// Permission bits.
    #[serde(serialize_with = "crate::templates::octal")]
    pub mode: u32,
    /// Owner's name.
    pub owner: String,
    /// SHA-256 of the content, in hex.
    pub sha256: String,
    /// When its content was written, in µs since 1970.
    pub written_us: u64,
}

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageFact {
    /// `VERSION-RELEASE`.
    pub version: String,
    /// When it was installed, in µs since 1970.
    pub installed_us: u64,
}

/// Who listens on a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listener {
    /// Name of the process, if it could be seen.
    pub process: Option<String>,
    /// Its id.
    pub pid: Option<u32>,
    /// The systemd unit that it belongs to.
    pub unit: Option<String>,
}

/// State of a unit, from systemd.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct UnitFact {
    /// Whether a unit file is there.
    pub exists: bool,
    /// Whether it starts at boot.
    pub enabled: bool,
    /// Whether an operator has masked it.
    pub masked: bool,
    /// `ActiveState`: `active`, `inactive`, `failed`, `activating`…
    pub active: String,
    /// `SubState`: `running`, `dead`, `auto-restart`…
    pub sub: String,
    /// When its main process was started last, in µs since 1970; 0 when it never was.
    pub started_us: u64,
}

/// Everything known of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Facts {
    /// Name and version of its system.
    pub os: String,
    /// Version of its kernel.
    pub kernel: String,
    /// Architecture.
    pub machine: String,
    /// Version of its control groups.
    pub cgroups: u8,
    /// Its own name for itself.
    pub hostname: String,
    /// Address that sshd was reached at.
    pub address: Option<Ipv4Addr>,
    /// Programs and sockets that matter and are there.
    pub tools: BTreeSet<String>,
    /// Free space in KB by directory.
    pub free_kb: BTreeMap<String, u64>,
    /// Listeners by port.
    pub ports: BTreeMap<u16, Listener>,
    /// Those of our packages that are installed.
    pub packages: BTreeMap<String, PackageFact>,
    /// Files that we manage and are there.
    pub files: BTreeMap<String, FileFact>,
    /// Paths of ours that hold something other than a file.
    pub odd: BTreeSet<String>,
    /// Units by name.
    pub units: BTreeMap<String, UnitFact>,
}

/// The shell command that runs [`SCRIPT`] for these ports, packages and files.
#[must_use]
pub fn command(ports: &[u16], packages: &[&str], files: &[&str]) -> String {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    format!("sh -s {} -- {} -- {} --", ports.join(" "), packages.join(" "), files.join(" "))
}

/// Reads what the command said.
///
/// # Errors
/// When it isn't whole.
pub fn parse(text: &str) -> Result<Facts, String> {
    let mut facts = Facts::default();
    let mut processes: BTreeMap<u32, (String, Option<String>)> = BTreeMap::new();
    let mut ended = false;
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields.as_slice() {
            ["os", name] => (*name).clone_into(&mut facts.os),
            ["kernel", version] => (*version).clone_into(&mut facts.kernel),
            ["machine", name] => (*name).clone_into(&mut facts.machine),
            ["cgroups", version] => facts.cgroups = version.parse().map_err(|_| bad(line))?,
            ["hostname", name] => (*name).clone_into(&mut facts.hostname),
            // SSH_CONNECTION: client's address and port, then ours.
            ["connection", words] => {
                facts.address = words.split_whitespace().nth(2).and_then(|word| word.parse().ok())
            }
            ["tool", name] => {
                facts.tools.insert((*name).to_owned());
            }
            ["free", directory, kb] => {
                if let Ok(kb) = kb.parse() {
                    facts.free_kb.insert((*directory).to_owned(), kb);
                }
            }
            ["port", port, users] => {
                let port = port.parse().map_err(|_| bad(line))?;
                facts.ports.insert(port, listener(users));
            }
            ["process", pid, name, groups] => {
                processes.insert(
                    pid.parse().map_err(|_| bad(line))?,
                    ((*name).to_owned(), unit_of(groups)),
                );
            }
            ["package", name, version, installed] => {
                let fact = PackageFact {
                    version: (*version).to_owned(),
                    installed_us: microseconds(installed),
                };
                facts.packages.insert((*name).to_owned(), fact);
            }
            ["file", path, mode, owner, written, sha256] => {
                let file = FileFact {
                    mode: u32::from_str_radix(mode, 8).map_err(|_| bad(line))?,
                    owner: (*owner).to_owned(),
                    sha256: (*sha256).to_owned(),
                    written_us: microseconds(written),
                };
                facts.files.insert((*path).to_owned(), file);
            }
            ["odd", path] => {
                facts.odd.insert((*path).to_owned());
            }
            ["end"] => ended = true,
            _ => return Err(bad(line)),
        }
    }
    if !ended {
        return Err("the host's answer is cut off".to_owned());
    }
    for listener in facts.ports.values_mut() {
        if let Some((name, unit)) = listener.pid.and_then(|pid| processes.get(&pid)) {
            listener.process = Some(name.clone());
            listener.unit.clone_from(unit);
        }
    }
    Ok(facts)
}

fn bad(line: &str) -> String {
    format!("'{}' in the host's answer can't be read", line.chars().take(80).collect::<String>())
}

/// Seconds, perhaps with a fraction, in µs; 0 where a host can't tell.
fn microseconds(seconds: &str) -> u64 {
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let fraction: String = fraction.chars().chain("000000".chars()).take(6).collect();
    format!("{whole}{fraction}").parse().unwrap_or(0)
}

/// `users:(("name",pid=1,fd=3),…)` of `ss`: the first of them.
fn listener(users: &str) -> Listener {
    let process = users.split('"').nth(1).map(str::to_owned);
    let pid = users
        .split_once("pid=")
        .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next())
        .and_then(|pid| pid.parse().ok());
    Listener { process, pid, unit: None }
}

/// The unit in `/proc/PID/cgroup`: the last part of a path that is a service.
fn unit_of(groups: &str) -> Option<String> {
    groups
        .split_whitespace()
        .flat_map(|group| group.split('/'))
        .find(|part| part.ends_with(".service"))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read() {
        let facts = parse(
            "os\tCentOS Linux 7 (Core)\nkernel\t3.10.0\nmachine\tx86_64\ncgroups\t1\nhostname\th1\n\
             connection\t172.30.0.1 40000 172.30.0.11 22\ntool\trpm\ntool\tdocker\nfree\t/var/lib\t1000\nfree\t/x\t\n\
             port\t8080\tusers:((\"python3\",pid=77,fd=3))\nport\t5050\t\n\
             process\t77\tpython3\t1:name=systemd:/system.slice/web.service 0::/\n\
             package\tmesos\t1.11.0-100.0.1.0\t17\nfile\t/etc/mesos/zk\t644\troot\t18.52\tabc\nodd\t/etc/mesos-master/quorum\nend\n",
        )
        .unwrap();
        assert_eq!(facts.address, Some(Ipv4Addr::new(172, 30, 0, 11)));
        assert_eq!(
            facts.packages["mesos"],
            PackageFact { version: "1.11.0-100.0.1.0".into(), installed_us: 17_000_000 }
        );
        assert_eq!(
            facts.files["/etc/mesos/zk"],
            FileFact {
                mode: 0o644,
                owner: "root".into(),
                sha256: "abc".into(),
                written_us: 18_520_000
            }
        );
        let web = Listener {
            process: Some("python3".into()),
            pid: Some(77),
            unit: Some("web.service".into()),
        };
        assert_eq!(facts.ports[&8080], web);
        assert_eq!(facts.ports[&5050], Listener { process: None, pid: None, unit: None });
        assert_eq!(facts.free_kb.len(), 1);
    }

    #[test]
    fn a_cut_or_garbled_answer_is_refused() {
        assert!(parse("os\tx\n").unwrap_err().contains("cut off"));
        assert!(parse("welcome to h1\nend\n").unwrap_err().contains("welcome"));
        assert!(parse("cgroups\tx\nend\n").is_err());
    }

    #[test]
    fn the_script_runs_here() {
        let command = command(&[1], &["no-such-package"], &["/etc/passwd", "/etc"]);
        let mut shell = std::process::Command::new("sh")
            .args(["-c", &command])
            .env("MESO_SSH_CONNECTION", "10.0.0.1 1 10.0.0.2 22")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut shell.stdin.take().unwrap(), SCRIPT.as_bytes()).unwrap();
        let output = shell.wait_with_output().unwrap();
        let facts = parse(&String::from_utf8(output.stdout).unwrap()).unwrap();
        assert_eq!(facts.address, Some(Ipv4Addr::new(10, 0, 0, 2)));
        assert_eq!(
            (facts.files["/etc/passwd"].mode, facts.files["/etc/passwd"].owner.as_str()),
            (0o644, "root")
        );
        assert!(
            facts.odd.contains("/etc")
                && facts.packages.is_empty()
                && facts.tools.contains("sha256sum")
        );
    }
}
