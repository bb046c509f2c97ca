//! The commands: names, usage and options as `zkCli.sh` lists them, and how a command's words are read
//! (commons-cli's `DefaultParser`).

use std::collections::BTreeMap;

use crate::failure::Failure;

/// An option of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opt {
    /// Its name, after one dash.
    pub name: &'static str,
    /// Whether a value follows it.
    pub takes_value: bool,
    /// What it does.
    pub about: &'static str,
}

const fn flag(name: &'static str, about: &'static str) -> Opt {
    Opt { name, takes_value: false, about }
}

const fn value(name: &'static str, about: &'static str) -> Opt {
    Opt { name, takes_value: true, about }
}

/// What `Options` of commons-cli ask of the options as a group (`OptionGroup`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grouping {
    /// Any of them.
    Free,
    /// At most one.
    One,
    /// Exactly one.
    OneRequired,
}

/// A command.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// What follows it, in the original's words.
    pub usage: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Its options.
    pub options: &'static [Opt],
    /// How many of them.
    pub grouping: Grouping,
    /// How many words it needs beside its options.
    pub words_min: usize,
}

const fn command(
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    options: &'static [Opt],
    words_min: usize,
) -> Command {
    Command { name, usage, about, options, grouping: Grouping::Free, words_min }
}

const QUOTAS: &[Opt] = &[
    flag("n", "num soft quota"),
    flag("b", "bytes soft quota"),
    flag("N", "num hard quota"),
    flag("B", "bytes hard quota"),
];
const QUOTA_VALUES: &[Opt] = &[
    value("n", "num soft quota"),
    value("b", "bytes soft quota"),
    value("N", "num hard quota"),
    value("B", "bytes hard quota"),
];

/// All commands, sorted by name as Java sorts.
pub const COMMANDS: &[Command] = &[
    command(
        "addWatch",
        "[-m mode] path # optional mode is one of [PERSISTENT, PERSISTENT_RECURSIVE] - default is PERSISTENT_RECURSIVE",
        "Watch a znode until the watch is removed",
        &[value("m", "PERSISTENT or PERSISTENT_RECURSIVE")],
        1,
    ),
    command("addauth", "scheme auth", "Prove an identity to the server", &[], 1),
    command("close", "", "End the session", &[], 0),
    command(
        "config",
        "[-c] [-w] [-s]",
        "Print the ensemble's configuration",
        &[flag("c", "client connection string"), flag("w", "watch"), flag("s", "stats")],
        0,
    ),
    command(
        "connect",
        "host:port",
        "Begin a new session, with another server if one is named",
        &[],
        0,
    ),
    command(
        "create",
        "[-s] [-e] [-c] [-t ttl] path [data] [acl]",
        "Create a znode",
        &[
            flag("e", "ephemeral"),
            flag("s", "sequential"),
            flag("c", "container"),
            value("t", "ttl"),
        ],
        1,
    ),
    command(
        "delete",
        "[-v version] path",
        "Delete a znode without children",
        &[value("v", "version")],
        1,
    ),
    command(
        "deleteall",
        "path [-b batch size]",
        "Delete a znode and all below it",
        &[value("b", "batch size")],
        1,
    ),
    Command {
        grouping: Grouping::One,
        ..command("delquota", "[-n|-b|-N|-B] path", "Take quotas from a path", QUOTAS, 1)
    },
    command(
        "get",
        "[-s] [-w] [-b] [-x] path",
        "Print a znode's data",
        &[
            flag("s", "Print znode stats additionally"),
            flag("w", "Watch for changes on the znode"),
            flag("b", "Output data in base64 format"),
            flag("x", "Output data in hexdump format"),
        ],
        1,
    ),
    command("getAcl", "[-s] path", "Print who may do what with a znode", &[flag("s", "stats")], 1),
    command("getAllChildrenNumber", "path", "Count the znodes below a path", &[], 1),
    command("getEphemerals", "path", "List the session's ephemeral znodes", &[], 0),
    command("history", "", "Print the last commands and their numbers", &[], 0),
    command("listquota", "path", "Print a path's quotas and use", &[], 1),
    command(
        "ls",
        "[-s] [-w] [-R] path",
        "List a znode's children",
        &[flag("?", "help"), flag("s", "stat"), flag("w", "watch"), flag("R", "recurse")],
        0,
    ),
    command("printwatches", "on|off", "Whether events are printed", &[], 0),
    command("quit", "", "End the session and the program", &[], 0),
    command(
        "reconfig",
        "[-s] [-v version] [[-file path] | [-members serverID=host:port1:port2;port3[,...]*]] | [-add serverId=host:port1:port2;port3[,...]]* [-remove serverId[,...]*]",
        "Change the ensemble's members",
        &[
            flag("s", "stats"),
            value("v", "required current config version"),
            value("file", "path of config file to parse for membership"),
            value("members", "comma-separated list of config strings for non-incremental reconfig"),
            value("add", "comma-separated list of config strings for new servers"),
            value("remove", "comma-separated list of server IDs to remove"),
        ],
        0,
    ),
    command("redo", "cmdno", "Do a command of the history again", &[], 0),
    command(
        "removewatches",
        "path [-c|-d|-a] [-l]",
        "Watch a path no more",
        &[
            flag("c", "child watcher type"),
            flag("d", "data watcher type"),
            flag("a", "any watcher type"),
            flag("l", "remove locally when there is no server connection"),
        ],
        1,
    ),
    command(
        "set",
        "[-s] [-v version] [-b] path data",
        "Change a znode's data",
        &[
            flag("s", "Print znode stats additionally"),
            value("v", "Set with an expected version"),
            flag("b", "Supply data in base64 format"),
        ],
        2,
    ),
    command(
        "setAcl",
        "[-s] [-v version] [-R] path acl",
        "Change who may do what with a znode",
        &[flag("s", "stats"), value("v", "version"), flag("R", "recursive")],
        2,
    ),
    Command {
        grouping: Grouping::OneRequired,
        ..command("setquota", "-n|-b|-N|-B val path", "Limit what is below a path", QUOTA_VALUES, 1)
    },
    command("stat", "[-w] path", "Print a znode's stat", &[flag("w", "watch")], 1),
    command("sync", "path", "Let the server catch up with its leader", &[], 1),
    command("version", "", "Print this program's version", &[], 0),
    command("whoami", "", "Print the identities that the server knows the session by", &[], 0),
];

/// The command of a name.
///
/// # Errors
/// When there is none.
pub fn find(name: &str) -> Result<&'static Command, Failure> {
    COMMANDS
        .iter()
        .find(|command| command.name == name)
        .ok_or_else(|| Failure::NotFound(name.to_owned()))
}

/// What is printed where a command is unknown (`ZooKeeperMain.usage`).
pub fn usage() -> String {
    let mut text =
        "ZooKeeper -server host:port -client-configuration properties-file cmd args".to_owned();
    for command in COMMANDS {
        text.push_str("\n\t");
        text.push_str(&command.usage());
    }
    text
}

/// A command's words, read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parsed {
    options: BTreeMap<&'static str, String>,
    /// What is no option, without the command's name.
    pub words: Vec<String>,
}

impl Parsed {
    /// Whether an option is given.
    pub fn has(&self, name: &str) -> bool {
        self.options.contains_key(name)
    }

    /// Puts an option without a value in.
    pub fn set(&mut self, name: &'static str) {
        self.options.insert(name, String::new());
    }

    /// An option's value.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// An option's value as a number, −1 if it is not given.
    ///
    /// # Errors
    /// When it is none.
    pub fn version(&self) -> Result<Option<i32>, Failure> {
        match self.value("v").map(str::parse) {
            None | Some(Ok(-1)) => Ok(None),
            Some(Ok(version)) => Ok(Some(version)),
            Some(Err(_)) => Err(Failure::Malformed("-v argument must be an int value".to_owned())),
        }
    }

    /// The first word, which most commands take for a path; the table sees to it that it is there.
    pub fn path(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }
}

fn is_negative_number(word: &str) -> bool {
    word.parse::<f64>().is_ok_and(f64::is_finite)
}

impl Command {
    /// Name and usage.
    pub fn usage(&self) -> String {
        format!("{} {}", self.name, self.usage)
    }

    fn option(&self, name: &str) -> Option<&'static Opt> {
        self.options.iter().find(|option| option.name == name)
    }

    /// The options that a word stands for, and the value that is joined to it, if any.
    fn options_of<'a>(&self, word: &'a str) -> Option<(Vec<&'static Opt>, Option<&'a str>)> {
        let name = word.strip_prefix('-').filter(|name| !name.is_empty())?;
        if let Some(option) = self.option(name) {
            return Some((vec![option], None));
        }
        if let Some((name, joined)) = name.split_once('=') {
            return self.option(name).map(|option| (vec![option], Some(joined)));
        }
        let mut found = Vec::new();
        for (start, letter) in name.char_indices() {
            let end = start + letter.len_utf8();
            let option = self.option(&name[start..end])?;
            found.push(option);
            if option.takes_value && end < name.len() {
                return Some((found, Some(&name[end..])));
            }
        }
        Some((found, None))
    }

    /// Reads the words that follow the command's name. Options may stand anywhere.
    ///
    /// # Errors
    /// For unknown options, missing values and missing words, in the original's words.
    pub fn parse(&self, words: &[String]) -> Result<Parsed, Failure> {
        let malformed = |text: String| Err(Failure::Malformed(text));
        let mut parsed = Parsed::default();
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            if word == "--" {
                parsed.words.extend(rest.cloned());
                break;
            }
            let Some((options, joined)) = self.options_of(word) else {
                if word.len() > 1 && word.starts_with('-') && !is_negative_number(word) {
                    let reason = format!("Unrecognized option: {word}");
                    return malformed(thrown("UnrecognizedOption", &reason));
                }
                parsed.words.push(word.clone());
                continue;
            };
            for option in options {
                let mut given = String::new();
                if option.takes_value {
                    let next = joined.map(str::to_owned).or_else(|| {
                        let next = rest.clone().next()?;
                        let is_value = self.options_of(next).is_none() || is_negative_number(next);
                        is_value.then(|| rest.next().cloned()).flatten()
                    });
                    let Some(next) = next else {
                        let reason = format!("Missing argument for option: {}", option.name);
                        return malformed(thrown("MissingArgument", &reason));
                    };
                    given = next;
                }
                if self.grouping != Grouping::Free
                    && let Some(other) = parsed.options.keys().find(|name| **name != option.name)
                {
                    let reason = format!(
                        "The option '{}' was specified but an option from this group has already been selected: '{other}'",
                        option.name
                    );
                    return malformed(thrown("AlreadySelected", &reason));
                }
                parsed.options.entry(option.name).or_insert(given);
            }
        }
        if self.grouping == Grouping::OneRequired && parsed.options.is_empty() {
            let options =
                self.options.iter().map(|option| format!("-{} {}", option.name, option.about));
            let options = options.collect::<Vec<_>>().join(", ");
            let reason = format!("Missing required option: [{options}]");
            return malformed(thrown("MissingOption", &reason));
        }
        if parsed.words.len() < self.words_min {
            return malformed(self.usage());
        }
        Ok(parsed)
    }
}

/// What the original prints of an exception of the library that reads its options (`CliParseException`).
fn thrown(exception: &str, reason: &str) -> String {
    format!("org.apache.commons.cli.{exception}Exception: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(line: &str) -> Result<Parsed, String> {
        let mut words = crate::words::split(line);
        let name = words.remove(0);
        find(&name).and_then(|command| command.parse(&words)).map_err(|failure| failure.message())
    }

    #[test]
    fn options_stand_anywhere_and_may_be_joined() {
        for line in ["set -s -v 3 /a x", "set /a x -sv 3", "set -v3 /a -s x", "set -s /a -v=3 x"] {
            let parsed = parse(line).unwrap();
            assert_eq!(parsed.words, ["/a", "x"], "{line}");
            assert_eq!((parsed.has("s"), parsed.value("v")), (true, Some("3")), "{line}");
        }
        assert_eq!(parse("set /a -5").unwrap().words, ["/a", "-5"]);
        assert_eq!(parse("set /a -v -1 x").unwrap().version().unwrap(), None);
        assert_eq!(parse("create -- -e").unwrap().words, ["-e"]);
        assert_eq!(parse("reconfig -add a -remove b").unwrap().value("remove"), Some("b"));
    }

    #[test]
    fn what_is_wrong_is_told_in_the_originals_words() {
        for (line, message) in [
            ("nosuch", "Command not found: Command not found nosuch"),
            (
                "get -z /x",
                "org.apache.commons.cli.UnrecognizedOptionException: Unrecognized option: -z",
            ),
            (
                "set /a x -v",
                "org.apache.commons.cli.MissingArgumentException: Missing argument for option: v",
            ),
            ("set /a", "set [-s] [-v version] [-b] path data"),
            (
                "setquota /a",
                "org.apache.commons.cli.MissingOptionException: Missing required option: [-n num soft quota, -b bytes soft quota, -N num hard quota, -B bytes hard quota]",
            ),
            (
                "setquota -n 4 -b 5 /a",
                "org.apache.commons.cli.AlreadySelectedException: The option 'b' was specified but an option from this group has already been selected: 'n'",
            ),
        ] {
            assert_eq!(parse(line).unwrap_err(), message);
        }
    }

    #[test]
    fn the_table_is_sorted_and_the_usage_lists_all() {
        assert!(COMMANDS.is_sorted_by_key(|command| command.name));
        assert!(usage().ends_with("\n\tversion \n\twhoami "));
    }

    proptest! {
        #[test]
        fn nothing_panics_on_any_line(line in "\\PC{0,40}", command in 0..COMMANDS.len()) {
            let _ = COMMANDS[command].parse(&crate::words::split(&line));
        }
    }
}
