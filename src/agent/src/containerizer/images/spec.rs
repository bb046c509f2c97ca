//! What registries and archives say of an image: manifests (version 2, schema 2, and OCI's) and configurations; and what
//! runs in a container of one (Mesos' `docker/runtime` isolator).

use std::collections::BTreeMap;
use std::fmt;

use mesos::v1;
use serde::{Deserialize, Serialize};

/// Layers of an image; Docker allows no more than 127.
const LAYERS_MAX: usize = 127;

/// The SHA-256 of something, as `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// The digits: a name for a file.
    pub fn hex(&self) -> &str {
        &self.0
    }

    /// Of a finished hash.
    pub fn of(hash: &[u8]) -> Self {
        use std::fmt::Write as _;
        Self(hash.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}"); // A String takes everything.
            text
        }))
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.strip_prefix("sha256:").filter(|digits| {
            digits.len() == 64 && digits.bytes().all(|own| matches!(own, b'0'..=b'9' | b'a'..=b'f'))
        });
        digits.map(|digits| Self(digits.to_owned())).ok_or_else(|| {
            "expecting a digest of the form 'sha256:' and 64 hexadecimal digits".to_owned()
        })
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "sha256:{}", self.0)
    }
}

/// Where something is in a registry, and what it must be.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// What its content must hash to.
    pub digest: Digest,
    /// How long it is, in bytes.
    #[serde(default)]
    pub size: u64,
    /// Of an index's manifests: for which machines it is.
    pub platform: Option<Platform>,
}

/// A kind of machine.
#[derive(Debug, Clone, Deserialize)]
pub struct Platform {
    architecture: String,
    os: String,
}

/// A manifest, or an index of manifests for several kinds of machines.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    schema_version: u32,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

/// What a manifest is.
#[derive(Debug)]
pub enum Kind {
    /// It names a configuration and layers, lowest first.
    Image(Descriptor, Vec<Descriptor>),
    /// This manifest is the one for this machine.
    Index(Descriptor),
}

impl Manifest {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(content: &[u8]) -> Result<Kind, String> {
        let own: Self = serde_json::from_slice(content)
            .map_err(|error| format!("Failed to parse the image's manifest: {error}"))?;
        if own.schema_version != 2 {
            return Err(format!(
                "Unsupported manifest schema version {}: this agent reads version 2 and OCI's",
                own.schema_version
            ));
        }
        match own.config {
            Some(config) if own.layers.len() <= LAYERS_MAX => Ok(Kind::Image(config, own.layers)),
            Some(_) => Err(format!("The image has more than {LAYERS_MAX} layers")),
            None => {
                let machine = machine();
                let fits = |own: &&Descriptor| {
                    own.platform
                        .as_ref()
                        .is_none_or(|it| it.os == "linux" && it.architecture == machine)
                };
                let found = own.manifests.iter().find(fits).cloned();
                found.map(Kind::Index).ok_or_else(|| {
                    format!("The image is not made for this machine (linux/{machine})")
                })
            }
        }
    }
}

/// This machine, as images name it.
fn machine() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[derive(Debug, Default, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

/// An image's configuration.
#[derive(Debug, Deserialize)]
pub struct Config {
    config: Option<Runtime>,
    #[serde(default)]
    rootfs: RootFs,
}

impl Config {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(content: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(content)
            .map_err(|error| format!("Failed to parse the image's configuration: {error}"))
    }

    /// What the unpacked layers must hash to, lowest first.
    pub fn layers(&self) -> &[Digest] {
        &self.rootfs.diff_ids
    }

    /// What is to run.
    pub fn into_runtime(self) -> Runtime {
        self.config.unwrap_or_default()
    }
}

/// What to run of a command, in an image or without one: the program, and its arguments from its name on.
///
/// # Errors
/// When neither the command nor the image says.
pub fn program(
    image: Option<&Runtime>,
    command: &v1::CommandInfo,
) -> Result<(String, Vec<String>), String> {
    match image {
        Some(image) => image.program(command),
        None if command.shell() && command.value.is_none() => Ok(by_shell(UNSPECIFIED)),
        None if command.shell() => Ok(by_shell(command.value())),
        None => Ok((command.value().to_owned(), command.arguments.clone())),
    }
}

/// What becomes of a shell's command that nobody gave: as in the original, its process says so and fails.
const UNSPECIFIED: &str = "echo 'Shell command is not specified' >&2; exit 1";

fn by_shell(line: &str) -> (String, Vec<String>) {
    ("/bin/sh".to_owned(), ["sh", "-c", line].map(str::to_owned).to_vec())
}

/// What an image says of the processes that run in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Runtime {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
}

impl Runtime {
    /// What to run: the command where it says, else what the image says.
    fn program(&self, command: &v1::CommandInfo) -> Result<(String, Vec<String>), String> {
        if command.shell() {
            let Some(value) = &command.value else {
                return Err("Shell specified but no command value provided".to_owned());
            };
            return Ok(by_shell(value));
        }
        if let Some(value) = &command.value {
            return Ok((value.clone(), command.arguments.clone()));
        }
        let entrypoint = self.entrypoint.clone().unwrap_or_default();
        let cmd = self.cmd.clone().unwrap_or_default();
        let has_arguments = !command.arguments.is_empty();
        let argv = match (entrypoint.is_empty(), has_arguments) {
            (true, true) => cmd.into_iter().take(1).chain(command.arguments.clone()).collect(),
            (true, false) => cmd,
            (false, true) => [entrypoint, command.arguments.clone()].concat(),
            (false, false) => [entrypoint, cmd].concat(),
        };
        match argv.first() {
            // Arguments alone are no program.
            Some(program) if self.has_program() => Ok((program.clone(), argv)),
            _ => {
                Err("No executable is found: neither the command nor the image has one".to_owned())
            }
        }
    }

    fn has_program(&self) -> bool {
        [&self.entrypoint, &self.cmd].into_iter().flatten().any(|words| !words.is_empty())
    }

    /// The image's variables.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let lines = self.env.iter().flatten().filter_map(|line| line.split_once('='));
        lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Where the process is to begin.
    pub fn directory(&self) -> Option<&str> {
        self.working_dir.as_deref().filter(|path| !path.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Option<Vec<String>> {
        (!text.is_empty()).then(|| text.split(' ').map(str::to_owned).collect())
    }

    fn command(shell: bool, value: &str, arguments: &str) -> v1::CommandInfo {
        v1::CommandInfo {
            shell: Some(shell),
            value: Some(value.to_owned()).filter(|value| !value.is_empty()),
            arguments: words(arguments).unwrap_or_default(),
            ..Default::default()
        }
    }

    #[test]
    fn command_and_image_say_together_what_runs() {
        for (entrypoint, cmd, value, arguments, expected) in [
            ("", "", "", "", None),
            ("", "", "", "a b", None),
            ("", "c d", "", "", Some("c d")),
            ("", "c d", "", "a b", Some("c a b")),
            ("e f", "", "", "", Some("e f")),
            ("e f", "c d", "", "", Some("e f c d")),
            ("e f", "c d", "", "a b", Some("e f a b")),
        ] {
            let runtime =
                Runtime { entrypoint: words(entrypoint), cmd: words(cmd), ..Runtime::default() };
            let found = runtime.program(&command(false, value, arguments)).ok();
            assert_eq!(found.map(|(_, argv)| argv.join(" ")).as_deref(), expected);
        }
        let runtime = Runtime { entrypoint: words("e"), cmd: words("c"), ..Runtime::default() };
        let found = |own: &v1::CommandInfo| runtime.program(own).map(|(program, _)| program);
        assert_eq!(found(&command(true, "x", "")).as_deref(), Ok("/bin/sh"));
        assert_eq!(found(&command(false, "x", "x y")).as_deref(), Ok("x"));
        assert!(found(&command(true, "", "")).unwrap_err().starts_with("Shell specified but no"));
    }

    #[test]
    fn manifests_of_both_kinds_are_read_and_others_are_refused() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"digest":"{digest}","platform":{{"os":"windows","architecture":"amd64"}}}},{{"digest":"{digest}","size":7,"platform":{{"os":"linux","architecture":"{}"}}}}]}}"#,
            machine()
        );
        assert!(matches!(Manifest::parse(index.as_bytes()), Ok(Kind::Index(own)) if own.size == 7));
        let image = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{digest}","size":1}},"layers":[{{"digest":"{digest}"}}]}}"#
        );
        assert!(
            matches!(Manifest::parse(image.as_bytes()), Ok(Kind::Image(_, own)) if own.len() == 1)
        );
        for (text, expected) in [
            (r#"{"schemaVersion":1}"#, "schema version 1"),
            (r#"{"schemaVersion":2,"manifests":[]}"#, "not made for this machine"),
            (r#"{"schemaVersion":2,"config":{"digest":"sha256:../../x"}}"#, "64 hexadecimal"),
            ("[]", "Failed to parse"),
        ] {
            let refused = Manifest::parse(text.as_bytes()).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
