//! `mesos-cni-port-mapper`: a CNI plugin that has another one, its `delegate`, attach a container, and maps ports of the
//! host to ports of the container by rules of `iptables` (`network/cni/plugins/port_mapper`).
//!
//! Operators name it in a network's configuration, with the delegate's configuration and the `chain` that its rules are
//! put into. Each rule carries the container's id in a comment: by that they are found when the container leaves.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use mesos::json::{self, Dialect};
use mesos::v1;
use serde_json::{Value, json};

use super::result::Attached;
use super::{TEXT_MAX, find, is_plain};

/// The name that the plugin is started under.
pub const NAME: &str = "mesos-cni-port-mapper";
/// What the original says its errors' form is.
const VERSION: &str = "0.3.0";
/// Longest name of a chain that `iptables` takes.
const CHAIN_MAX: usize = 28;

/// The original's numbers for what can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    Read = 100,
    Arguments = 101,
    Delegate = 102,
    Mapping = 103,
    Command = 104,
}

type Failure = (Code, String);

fn wrong(text: impl Into<String>) -> Failure {
    (Code::Arguments, text.into())
}

/// What the plugin was told.
#[derive(Debug)]
struct Order {
    command: String,
    container: String,
    chain: String,
    /// The device whose packets are left alone.
    excluded: Option<String>,
    mappings: Vec<v1::network_info::PortMapping>,
    delegate: PathBuf,
    config: Value,
}

impl Order {
    fn read(text: &[u8], variable: impl Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let needed = |name: &str| {
            let missing = || wrong(format!("Unable to find environment variable '{name}'"));
            variable(name).ok_or_else(missing)
        };
        let command = needed("CNI_COMMAND")?;
        let container = needed("CNI_CONTAINERID")?;
        if command != "DEL" {
            needed("CNI_NETNS")?;
        }
        needed("CNI_IFNAME")?;
        let path = needed("CNI_PATH")?;
        if container.is_empty() || container.contains(['"', '\\', '\n']) {
            return Err(wrong("'CNI_CONTAINERID' is no container's"));
        }
        let config: Value =
            serde_json::from_slice(text).map_err(|error| wrong(error.to_string()))?;
        let field = |name: &str| {
            let missing = || wrong(format!("Failed to get the required field '{name}': Not found"));
            config[name].as_str().map(str::to_owned).ok_or_else(missing)
        };
        let (name, chain) = (field("name")?, field("chain")?);
        let is_sign = |sign: char| sign.is_ascii_alphanumeric() || "-_.".contains(sign);
        if chain.is_empty()
            || chain.len() > CHAIN_MAX
            || chain.starts_with('-')
            || !chain.chars().all(is_sign)
        {
            return Err(wrong(format!("'{chain}' is no name of a chain")));
        }
        let devices = match &config["excludeDevices"] {
            Value::Null => Vec::new(),
            Value::Array(all) => all.iter().map(Value::as_str).collect::<Option<_>>().ok_or_else(
                || wrong("Failed to parse 'excludeDevices' list. The excluded device needs to be a string"),
            )?,
            _ => return Err(wrong("Failed to parse field 'excludeDevices': Not an array")),
        };
        // A rule has room for one: as the original's, that is the last.
        let excluded = devices.last().map(|name| (*name).to_owned());
        if let Some(name) = excluded.as_ref().filter(|name| name.starts_with(['-', '!'])) {
            return Err(wrong(format!("'{name}' is no name of a device")));
        }
        let mut args = config["args"].clone();
        if args.is_null() {
            args = json!({"org.apache.mesos": {"network_info": {}}});
        }
        let info = &args["org.apache.mesos"]["network_info"];
        if !info.is_object() {
            return Err(wrong(
                "Failed to get the field 'args{org.apache.mesos}{network_info}': Not found",
            ));
        }
        let info: v1::NetworkInfo = json::from_slice(info.to_string().as_bytes(), Dialect::V0)
            .map_err(|error| wrong(format!("Unable to parse `NetworkInfo`: {error}")))?;
        for protocol in info.port_mappings.iter().filter_map(|own| own.protocol.as_ref()) {
            if protocol.is_empty() || !protocol.chars().all(|sign| sign.is_ascii_alphanumeric()) {
                return Err(wrong(format!("'{protocol}' is no protocol")));
            }
        }
        let mut own = config["delegate"].clone();
        if !own.is_object() {
            return Err(wrong("Failed to get the required field 'delegate': Not found"));
        }
        let Some(plugin) = own["type"].as_str().filter(|name| is_plain(name)) else {
            return Err(wrong("Failed to get the delegate plugin 'type': Not found"));
        };
        let directories: Vec<PathBuf> = path.split(':').map(PathBuf::from).collect();
        let delegate = find(&directories, plugin).ok_or_else(|| {
            wrong(format!("Could not find the delegate plugin '{plugin}' in '{path}'"))
        })?;
        own["name"] = json!(name);
        own["args"] = args;
        Ok(Self {
            command,
            container,
            chain,
            excluded,
            mappings: info.port_mappings,
            delegate,
            config: own,
        })
    }

    fn tag(&self) -> String {
        format!("container_id: {}", self.container)
    }

    /// What leads packets for a port to the container.
    fn rule(&self, ip: Ipv4Addr, mapping: &v1::network_info::PortMapping) -> Vec<String> {
        let protocol = mapping.protocol.as_deref().unwrap_or("tcp").to_lowercase();
        let mut rule = vec![self.chain.clone()];
        if let Some(device) = &self.excluded {
            rule.extend(["!", "-i", device].map(str::to_owned));
        }
        let (from, to) = (mapping.host_port, format!("{ip}:{}", mapping.container_port));
        rule.extend(["-p", &protocol, "-m", &protocol, "--dport"].map(str::to_owned));
        rule.push(from.to_string());
        rule.extend(["-j", "DNAT", "--to-destination", &to].map(str::to_owned));
        rule.extend(["-m", "comment", "--comment", &self.tag()].map(str::to_owned));
        rule
    }

    /// Has the delegate do what this plugin is told; what it printed.
    fn delegate(&self) -> Result<Vec<u8>, Failure> {
        let path = self.delegate.display();
        let failed = |reason: String| {
            let command = &self.command;
            let text = format!(
                "Could not execute the delegate plugin '{path}' for {command} command: {reason}"
            );
            (Code::Delegate, text)
        };
        // The environment says the same to it.
        let child = Command::new(&self.delegate)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn();
        let mut child = child.map_err(|error| failed(error.to_string()))?;
        if let Some(mut input) = child.stdin.take() {
            // One that does not read says why when it ends.
            let _ = input.write_all(self.config.to_string().as_bytes());
        }
        let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stdout);
        Err(failed(format!("{}: {}", output.status, said.trim())))
    }

    fn add(&self) -> Result<Vec<u8>, Failure> {
        let output = self.delegate()?;
        let refused = |what: &str| {
            let path = self.delegate.display();
            (Code::Delegate, format!("Delegate CNI plugin '{path}' {what}"))
        };
        let attached =
            Attached::parse(&output).map_err(|error| refused(&format!("said: {error}")))?;
        let Some(IpAddr::V4(ip)) = attached.ip() else {
            return Err(refused("did not return an IPv4 address"));
        };
        for mapping in &self.mappings {
            self.map(ip, mapping).map_err(|error| {
                (Code::Mapping, format!("Failed to add DNAT rule with tag: {error}"))
            })?;
        }
        Ok(output)
    }

    fn map(&self, ip: Ipv4Addr, mapping: &v1::network_info::PortMapping) -> Result<(), String> {
        let chain = self.chain.as_str();
        if iptables(["-n", "--list", chain]).is_err() {
            // Another container may make it just now.
            if let Err(error) = iptables(["-N", chain]) {
                iptables(["-n", "--list", chain]).map_err(|_| error)?;
            }
            // Packets for this host, from elsewhere and from itself.
            let local = ["-m", "addrtype", "--dst-type", "LOCAL", "-j", chain];
            iptables(["-A", "PREROUTING"].into_iter().chain(local))?;
            iptables(["-A", "OUTPUT", "!", "-d", "127.0.0.0/8"].into_iter().chain(local))?;
        }
        let rule = self.rule(ip, mapping);
        let order = |name| std::iter::once(name).chain(rule.iter().map(String::as_str));
        if iptables(order("-C")).is_ok() {
            return Ok(());
        }
        iptables(order("-A")).map(drop)
    }

    fn delete(&self) -> Result<(), Failure> {
        // Without the chain there are no rules.
        let rules = iptables(["-S", &self.chain]).unwrap_or_default();
        for line in rules.lines() {
            let words = words(line);
            let tag = self.tag();
            let mut pairs = words.windows(2);
            let is_own = pairs.any(|pair| pair[0] == "--comment" && pair[1] == tag);
            let ["-A", rule @ ..] = &words.iter().map(String::as_str).collect::<Vec<_>>()[..]
            else {
                continue;
            };
            if is_own {
                let deleted = iptables(std::iter::once("-D").chain(rule.iter().copied()));
                deleted.map_err(|error| {
                    (Code::Mapping, format!("Unable to remove iptables DNAT rules: {error}"))
                })?;
            }
        }
        // Only now may its address be another's.
        self.delegate().map(drop)
    }
}

/// The words of a line of `iptables -S`, which puts those with blanks in quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted, mut is_word) =
        (Vec::new(), String::new(), false, false);
    let mut signs = line.chars();
    while let Some(sign) = signs.next() {
        match sign {
            '"' => (is_quoted, is_word) = (!is_quoted, true),
            '\\' if is_quoted => word.extend(signs.next()),
            ' ' if !is_quoted => {
                if std::mem::take(&mut is_word) {
                    words.push(std::mem::take(&mut word));
                }
            }
            other => {
                word.push(other);
                is_word = true;
            }
        }
    }
    if is_word {
        words.push(word);
    }
    words
}

/// Runs `iptables` on its table `nat`, waiting for others that use it; what it printed.
fn iptables<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<String, String> {
    let output = Command::new("iptables")
        .args(["-w", "-t", "nat"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("iptables: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

fn execute() -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let most = TEXT_MAX as u64 + 1;
    let read = std::io::stdin().take(most).read_to_end(&mut text);
    read.map_err(|error| (Code::Read, error.to_string()))?;
    if text.len() > TEXT_MAX {
        return Err((Code::Read, "the configuration is too large".to_owned()));
    }
    let order = Order::read(&text, |name| std::env::var(name).ok())?;
    match order.command.as_str() {
        "ADD" => order.add(),
        "DEL" => order.delete().map(|()| Vec::new()),
        other => Err((Code::Command, format!("Unsupported command: {other}"))),
    }
}

/// Does what the environment and standard input say.
pub fn run() -> ExitCode {
    let (output, code) = match execute() {
        Ok(output) => (output, ExitCode::SUCCESS),
        Err((code, text)) => {
            let error = json!({"cniVersion": VERSION, "code": code as u32, "msg": text});
            (error.to_string().into_bytes(), ExitCode::FAILURE)
        }
    };
    // Whoever does not listen learns by the status.
    let _ = std::io::stdout().write_all(&output);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(change: impl Fn(&mut Value)) -> Result<Order, Failure> {
        let plugins = tempfile::TempDir::new().unwrap();
        std::fs::write(plugins.path().join("bridge"), "").unwrap();
        let mapping = json!({"host_port": 8080, "container_port": 80, "protocol": "UDP"});
        let mut config = json!({
            "name": "net", "type": NAME, "chain": "MESOS", "excludeDevices": ["a", "b"],
            "args": {"org.apache.mesos": {"network_info": {"name": "net", "port_mappings": [mapping]}}},
            "delegate": {"type": "bridge", "bridge": "br0"},
        });
        change(&mut config);
        let path = format!("/nowhere:{}", plugins.path().display());
        Order::read(config.to_string().as_bytes(), |name| {
            Some(match name {
                "CNI_COMMAND" => "ADD".to_owned(),
                "CNI_PATH" => path.clone(),
                other => other.to_lowercase(),
            })
        })
    }

    #[test]
    fn a_mapping_becomes_a_rule_that_names_its_container() {
        let own = order(|_| ()).unwrap();
        let rule = own.rule(Ipv4Addr::new(10, 0, 0, 7), &own.mappings[0]);
        assert_eq!(
            rule.join(" "),
            "MESOS ! -i b -p udp -m udp --dport 8080 -j DNAT --to-destination 10.0.0.7:80 -m comment --comment container_id: cni_containerid"
        );
        assert_eq!((&own.config["name"], &own.config["bridge"]), (&json!("net"), &json!("br0")));
        let told = &own.config["args"]["org.apache.mesos"]["network_info"]["name"];
        assert_eq!(told, "net", "the delegate knows as much");
        let plain = order(|config| config["args"] = Value::Null).unwrap();
        assert!(plain.mappings.is_empty());
    }

    #[test]
    fn what_is_wrong_with_a_configuration_is_said() {
        for (name, value, expected) in [
            ("name", json!(1), "required field 'name'"),
            ("chain", json!("a b"), "'a b' is no name of a chain"),
            ("chain", json!("-F"), "'-F' is no name of a chain"),
            ("excludeDevices", json!([1]), "needs to be a string"),
            ("args", json!({}), "'args{org.apache.mesos}{network_info}'"),
            ("delegate", Value::Null, "required field 'delegate'"),
            ("delegate", json!({"type": "../sh"}), "delegate plugin 'type'"),
            ("delegate", json!({"type": "what"}), "Could not find the delegate plugin 'what'"),
        ] {
            let (code, text) = order(|config| config[name] = value.clone()).unwrap_err();
            assert!(code == Code::Arguments && text.contains(expected), "{text}");
        }
    }

    #[test]
    fn rules_are_read_as_they_are_printed() {
        let line = r#"-A MESOS -p tcp -m comment --comment "container_id: a\"b" -j DNAT"#;
        let expected = [
            "-A",
            "MESOS",
            "-p",
            "tcp",
            "-m",
            "comment",
            "--comment",
            "container_id: a\"b",
            "-j",
            "DNAT",
        ];
        assert_eq!(words(line), expected);
        assert_eq!(words(" a  \"\" "), ["a", ""]);
    }
}
