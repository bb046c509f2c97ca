//! The environment as the packages of the original had it: `/etc/default/zookeeper`, `zookeeper-env.sh`, `java.env`
//! and their like, whose `-Dzookeeper.KEY=VALUE` flags say the same as `KEY=VALUE` in `zoo.cfg` (`zkEnv.sh`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Variables that hold flags for the JVM, the ones that win last.
const FLAGS: [&str; 3] = ["JAVA_OPTS", "SERVER_JVMFLAGS", "JVMFLAGS"];
/// The same for clients (`zkCli.sh`).
const CLIENT_FLAGS: [&str; 2] = ["CLIENT_JVMFLAGS", "JVMFLAGS"];
/// Files of the whole system that set variables.
const SYSTEM_FILES: [&str; 2] = ["/etc/default/zookeeper", "/etc/sysconfig/zookeeper"];
/// Files beside `zoo.cfg` that set variables, in the order that the original's scripts read them.
const NEIGHBOURS: [&str; 3] = ["environment", "zookeeper-env.sh", "java.env"];
/// Where `zoo.cfg` is when nothing says otherwise.
const DEFAULT_DIRECTORY: &str = "/etc/zookeeper/conf";

/// A `-Dkey=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// The key, `zookeeper.` included.
    pub key: String,
    /// The value.
    pub value: String,
    /// The variable that holds it, and the file that set it.
    pub origin: String,
}

/// Variables, and where each came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<String, (String, Option<PathBuf>)>,
}

impl Environment {
    /// The variables of a process, as far as the original's scripts look at them.
    pub fn of(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let known = variables.into_iter().filter(|(name, _)| is_known(name));
        Self { variables: known.map(|(name, value)| (name, (value, None))).collect() }
    }

    /// This process's variables and what the system's files add. Files that are not there, or that this user may not
    /// read, add nothing.
    pub fn of_system() -> Self {
        let mut environment = Self::of(std::env::vars());
        for path in SYSTEM_FILES {
            environment.source_file(Path::new(path));
        }
        environment
    }

    /// Adds what the files beside a `zoo.cfg` say.
    pub fn source_neighbours(&mut self, config: &Path) {
        let directory = config.parent().unwrap_or(Path::new("."));
        for name in NEIGHBOURS {
            self.source_file(&directory.join(name));
        }
    }

    fn source_file(&mut self, path: &Path) {
        if let Ok(text) = std::fs::read_to_string(path) {
            self.source(path, &text);
        }
    }

    /// Adds the assignments of a shell file: `NAME=value`, `export NAME="value $OTHER"`. All else in it is passed over.
    pub fn source(&mut self, path: &Path, text: &str) {
        for line in text.lines() {
            let line = line.trim();
            let line = line.strip_prefix("export ").map_or(line, str::trim_start);
            let Some((name, rest)) = line.split_once('=') else { continue };
            if is_known(name) {
                let value = self.expand(rest);
                self.variables.insert(name.to_owned(), (value, Some(path.to_owned())));
            }
        }
    }

    /// A shell word: quotes taken away, variables replaced, up to the first blank or `#` outside of quotes.
    fn expand(&self, text: &str) -> String {
        let mut value = String::new();
        let mut quote = None;
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            match (character, quote) {
                ('"' | '\'', None) => quote = Some(character),
                ('"' | '\'', Some(open)) if open == character => quote = None,
                (' ' | '\t' | ';', None) => break,
                ('\\', None | Some('"')) => value.extend(characters.next()),
                ('$', None | Some('"')) => {
                    let has_brace = characters.next_if_eq(&'{').is_some();
                    let mut name = String::new();
                    while let Some(next) =
                        characters.next_if(|next| next.is_ascii_alphanumeric() || *next == '_')
                    {
                        name.push(next);
                    }
                    if has_brace {
                        // Of `${NAME:-default}` the default is not taken.
                        characters.by_ref().find(|next| *next == '}');
                    }
                    value.push_str(self.get(&name).unwrap_or_default());
                }
                _ => value.push(character),
            }
        }
        value
    }

    /// A variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|(value, _)| value.as_str())
    }

    /// Where `zoo.cfg` is: `ZOOCFG`, relative to `ZOOCFGDIR`.
    pub fn config(&self) -> PathBuf {
        let directory = self.get("ZOOCFGDIR").filter(|text| !text.is_empty());
        let name = self.get("ZOOCFG").filter(|text| !text.is_empty());
        Path::new(directory.unwrap_or(DEFAULT_DIRECTORY)).join(name.unwrap_or("zoo.cfg"))
    }

    /// How much is to be logged, if `ZOO_LOG4J_PROP` or `ZOO_LOG_LEVEL` says it.
    pub fn log_level(&self) -> Option<&'static str> {
        let text = self.get("ZOO_LOG4J_PROP").or_else(|| self.get("ZOO_LOG_LEVEL"))?;
        match text.split(',').next().unwrap_or_default().trim() {
            "ALL" | "TRACE" => Some("trace"),
            "DEBUG" => Some("debug"),
            "INFO" => Some("info"),
            "WARN" => Some("warn"),
            "ERROR" | "FATAL" => Some("error"),
            "OFF" => Some("off"),
            _ => None,
        }
    }

    /// The `-D` flags, those that win last.
    pub fn flags(&self) -> Vec<Flag> {
        let mut flags = self.flags_in(&FLAGS);
        if self.get("ZOO_DATADIR_AUTOCREATE_DISABLE").is_some() {
            flags.push(Flag {
                key: "zookeeper.datadir.autocreate".to_owned(),
                value: "false".to_owned(),
                origin: "ZOO_DATADIR_AUTOCREATE_DISABLE".to_owned(),
            });
        }
        flags
    }

    /// The `-D` flags of clients, those that win last.
    pub fn client_flags(&self) -> Vec<Flag> {
        self.flags_in(&CLIENT_FLAGS)
    }

    fn flags_in(&self, variables: &[&str]) -> Vec<Flag> {
        let mut flags = Vec::new();
        for variable in variables {
            let Some((text, file)) = self.variables.get(*variable) else { continue };
            let origin = file.as_ref().map_or_else(
                || (*variable).to_owned(),
                |file| format!("{}: {variable}", file.display()),
            );
            for word in words(text) {
                let Some(flag) = word.strip_prefix("-D") else { continue };
                let (key, value) = flag.split_once('=').unwrap_or((flag, ""));
                flags.push(Flag {
                    key: key.to_owned(),
                    value: value.to_owned(),
                    origin: origin.clone(),
                });
            }
        }
        flags
    }
}

fn is_known(name: &str) -> bool {
    FLAGS.contains(&name)
        || ["ZOO", "ZK_", "JMX", "CLIENT_JVMFLAGS"].iter().any(|start| name.starts_with(start))
}

/// Splits at blanks outside of quotes.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for character in text.chars() {
        match (character, quote) {
            ('"' | '\'', None) => quote = Some(character),
            ('"' | '\'', Some(open)) if open == character => quote = None,
            (blank, None) if blank.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            _ => word.push(character),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_add_to_variables_and_to_themselves() {
        let mut environment =
            Environment::of([("JVMFLAGS".to_owned(), "-Dzookeeper.a=1".to_owned())]);
        environment.source(
            Path::new("/e/java.env"),
            "# comment\nexport SERVER_JVMFLAGS=\"-Xmx1g -Dzookeeper.snapCount=7\" # more\n\
             JVMFLAGS=\"$JVMFLAGS -Dzookeeper.b='2 3'\"\nOTHER=x\nSERVER_JVMFLAGS=\"${SERVER_JVMFLAGS} -Dc\"\n",
        );
        let flags: Vec<String> = environment
            .flags()
            .iter()
            .map(|flag| format!("{} {}={}", flag.origin, flag.key, flag.value))
            .collect();
        assert_eq!(
            flags,
            [
                "/e/java.env: SERVER_JVMFLAGS zookeeper.snapCount=7",
                "/e/java.env: SERVER_JVMFLAGS c=",
                "/e/java.env: JVMFLAGS zookeeper.a=1",
                "/e/java.env: JVMFLAGS zookeeper.b=2 3",
            ]
        );
        assert_eq!(environment.get("OTHER"), None);
    }

    #[test]
    fn the_packages_variables_say_where_the_configuration_is() {
        let of = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            Environment::of(pairs).config()
        };
        assert_eq!(of(&[]), Path::new("/etc/zookeeper/conf/zoo.cfg"));
        assert_eq!(of(&[("ZOOCFGDIR", "/c")]), Path::new("/c/zoo.cfg"));
        assert_eq!(of(&[("ZOOCFGDIR", "/c"), ("ZOOCFG", "z")]), Path::new("/c/z"));
        assert_eq!(of(&[("ZOOCFGDIR", "/c"), ("ZOOCFG", "/d/z")]), Path::new("/d/z"));
    }

    #[test]
    fn log4js_level_is_taken() {
        let level = |text: &str| {
            Environment::of([("ZOO_LOG4J_PROP".to_owned(), text.to_owned())]).log_level()
        };
        assert_eq!(level("WARN,ROLLINGFILE"), Some("warn"));
        assert_eq!(level("?"), None);
    }
}
