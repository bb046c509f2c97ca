//! Whether the key that a host shows is the one that is on file for it.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};
use ssh2::{CheckResult, HostKeyType, KnownHostFileKind, Session};

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// This very key is on file.
    Known,
    /// Another key is on file for the host.
    Changed,
    /// No key is on file for the host.
    Unknown,
    /// The key is marked as revoked.
    Revoked,
}

/// Lines of `known_hosts` files, read once.
#[derive(Debug, Clone, Default)]
pub struct KnownHosts {
    lines: Vec<String>,
    /// Base64 keys of `@revoked` lines.
    revoked: Vec<String>,
    /// The files, for messages.
    pub paths: Vec<PathBuf>,
}

/// Host key types that libssh2 speaks, by its own preference.
const TYPES: [&str; 6] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
];

impl KnownHosts {
    /// Reads the files; one that isn't there holds no keys.
    ///
    /// # Errors
    /// When a file is there and can't be read.
    pub fn read(paths: &[PathBuf]) -> Result<Self, String> {
        let mut known = Self { paths: paths.to_vec(), ..Self::default() };
        for path in paths {
            match std::fs::read_to_string(path) {
                Ok(text) => known.add(&text),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(format!("{}: {error}", path.display())),
            }
        }
        Ok(known)
    }

    fn add(&mut self, text: &str) {
        for line in text.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("@revoked") {
                self.revoked.extend(rest.split_whitespace().nth(2).map(str::to_owned));
            } else if !line.is_empty() && !line.starts_with(['#', '@']) {
                self.lines.push(line.to_owned());
            }
        }
    }

    /// Lists of host key types to ask for, one handshake each: a host has several keys, of which not all are on file.
    #[must_use]
    pub fn preferences(&self) -> Vec<String> {
        let on_file = |kind: &&str| {
            let name = if kind.starts_with("rsa-") { "ssh-rsa" } else { kind };
            self.lines.iter().any(|line| line.split_whitespace().any(|word| word == name))
        };
        let (first, rest): (Vec<&str>, Vec<&str>) = TYPES.iter().partition(|kind| on_file(kind));
        let mut lists = vec![[first.clone(), rest].concat().join(",")];
        if first.len() > 1 {
            lists.extend(
                first
                    .iter()
                    .skip(1)
                    .filter(|kind| **kind != "rsa-sha2-256")
                    .map(|kind| (*kind).to_owned()),
            );
        }
        lists
    }

    /// Checks a key as libssh2 does: hashed names and `[host]:port` are understood.
    ///
    /// # Errors
    /// When libssh2 has no memory for the keys.
    pub fn check(
        &self,
        session: &Session,
        host: &str,
        port: u16,
        key: &[u8],
    ) -> Result<Verdict, String> {
        if self.revoked.contains(&STANDARD.encode(key)) {
            return Ok(Verdict::Revoked);
        }
        let mut known = session.known_hosts().map_err(|error| error.to_string())?;
        for line in &self.lines {
            // OpenSSH passes over lines that it can't read, too.
            let _ = known.read_str(line, KnownHostFileKind::OpenSSH);
        }
        match known.check_port(host, port, key) {
            CheckResult::Match => Ok(Verdict::Known),
            CheckResult::Mismatch => Ok(Verdict::Changed),
            CheckResult::NotFound => Ok(Verdict::Unknown),
            CheckResult::Failure => Err("libssh2 could not check the key".to_owned()),
        }
    }
}

/// A key's fingerprint as `ssh-keygen -l` prints it.
#[must_use]
pub fn fingerprint(key: &[u8], kind: HostKeyType) -> String {
    let name = match kind {
        HostKeyType::Rsa => "RSA",
        HostKeyType::Ed25519 => "ED25519",
        HostKeyType::Ecdsa256 | HostKeyType::Ecdsa384 | HostKeyType::Ecdsa521 => "ECDSA",
        HostKeyType::Dss => "DSA",
        HostKeyType::Unknown => "unknown",
    };
    format!("{name} SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIKX4zZQk0Y1X5m5rWJ0bq3o1hT0mJ0o2h6v9r2xkV8Yq";

    fn verdict(lines: &str, host: &str, port: u16) -> Verdict {
        let mut known = KnownHosts::default();
        known.add(lines);
        let key = STANDARD.decode(KEY).unwrap();
        known.check(&Session::new().unwrap(), host, port, &key).unwrap()
    }

    #[test]
    fn keys_are_found_under_the_names_that_openssh_writes() {
        let other = KEY.replace("V8Yq", "V8Yr");
        let line = |name: &str, key: &str| format!("{name} ssh-ed25519 {key}\n");
        // `ssh-keygen -H` of "hashed.example" and "[hashed.example]:2222".
        let hashed = line("|1|/jui+K6Irsl+42GZS5Qh4pUM6AY=|/DHOQQu/f7LGVb6IaVlqu3ury0I=", KEY);
        let hashed_port = line("|1|vDcBt4JU3wvIj5YGkpnmkOdVwks=|QKe5qAJrpsXGK8Mk4XWBBW/smjc=", KEY);
        for (lines, host, port, expected) in [
            (line("h1,10.0.0.1", KEY), "h1", 22, Verdict::Known),
            (line("h1,10.0.0.1", KEY), "10.0.0.1", 22, Verdict::Known),
            (line("[h1]:2222", KEY), "h1", 2222, Verdict::Known),
            (line("[h1]:2222", KEY), "h1", 22, Verdict::Unknown),
            (line("h1", &other), "h1", 22, Verdict::Changed),
            (line("h2", KEY), "h1", 22, Verdict::Unknown),
            (line("h1", &other) + &line("h1", KEY), "h1", 22, Verdict::Known),
            (line("h1", KEY) + "@revoked " + &line("*", KEY), "h1", 22, Verdict::Revoked),
            ("# h1\nnonsense\n".to_owned() + &line("h1", KEY), "h1", 22, Verdict::Known),
            (hashed.clone(), "hashed.example", 22, Verdict::Known),
            (hashed, "h1", 22, Verdict::Unknown),
            (hashed_port.clone(), "hashed.example", 2222, Verdict::Known),
            (hashed_port, "hashed.example", 22, Verdict::Unknown),
        ] {
            assert_eq!(verdict(&lines, host, port), expected, "{host}:{port} in {lines}");
        }
    }

    #[test]
    fn types_on_file_are_asked_for_first() {
        let mut known = KnownHosts::default();
        assert_eq!(known.preferences(), [TYPES.join(",")]);
        known.add("h1 ssh-rsa AAAA\nh2 ecdsa-sha2-nistp256 AAAA\n");
        let preferences = known.preferences();
        assert!(
            preferences[0].starts_with("ecdsa-sha2-nistp256,rsa-sha2-512,rsa-sha2-256,ssh-ed25519"),
            "{preferences:?}"
        );
        assert_eq!(preferences[1..], ["rsa-sha2-512"]);
    }
}
