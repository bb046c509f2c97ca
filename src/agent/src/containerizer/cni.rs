//! Networks by CNI plugins (Mesos' isolator `network/cni`): a network namespace for a container, which plugins attach to
//! the networks that it asks for by name.
//!
//! `<runtime_dir or work_dir>/isolators/network/cni/<container>` is what there is of a container: `ns`, its namespace, which is
//! there whether a process is in it or not; `<network>/network.conf`, what the plugin was given, and
//! `<network>/<interface>/network.info`, what it said; `hosts`, `hostname`, `resolv.conf`. With these, an agent that
//! comes later detaches the container as its predecessor would have.

pub mod port_mapper;
mod result;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use mesos::json::{self, Dialect};
use mesos::v1;
use nix::mount::{MntFlags, umount2};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::dns::{ContainerDns, Dns};
use super::view::{Mount, Tree};
use super::{at, helper};
use result::Attached;

/// How long a plugin may take.
const PLUGIN: Duration = Duration::from_secs(120);
/// Bytes of a network's configuration, and of what a plugin says.
const TEXT_MAX: usize = 1 << 20;
const INFO: &str = "network.info";
const CONFIG: &str = "network.conf";

/// The networks of this host, and where what is attached to them is noted.
#[derive(Debug, Clone)]
pub struct Networks {
    /// Where plugins are looked for, in order.
    plugins: Vec<PathBuf>,
    configs: BTreeMap<String, PathBuf>,
    directory: PathBuf,
    /// The name servers in networks whose plugins name none.
    dns: ContainerDns,
}

/// The network namespace of a container's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Where it is.
    pub namespace: PathBuf,
    /// What its processes take for the host's name.
    pub hostname: String,
    /// Its first address.
    pub ip: Option<IpAddr>,
}

/// A container that was attached.
#[derive(Debug, Clone)]
pub struct Joined {
    /// What its process joins.
    pub network: Network,
    /// Its own `hosts`, `hostname` and `resolv.conf`.
    pub files: Vec<Mount>,
    /// Its addresses, as updates tell them.
    pub infos: Vec<v1::NetworkInfo>,
}

fn read_config(path: &Path) -> Result<Value, String> {
    let content = fs::read(path).map_err(at(path))?;
    if content.len() > TEXT_MAX {
        return Err(format!("{}: it is too large", path.display()));
    }
    serde_json::from_slice(&content).map_err(|error| format!("{}: {error}", path.display()))
}

/// A name that is one file's.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0'])
}

/// The first file of a name in these directories.
fn find(directories: &[PathBuf], name: &str) -> Option<PathBuf> {
    directories.iter().map(|directory| directory.join(name)).find(|path| path.is_file())
}

impl Networks {
    /// The networks that are configured in a directory; `plugins` is a search path as `PATH` is one, and what is attached
    /// is noted below `kept`: `--runtime_dir`, or with `--network_cni_root_dir_persist` `--work_dir`.
    ///
    /// # Errors
    /// Which configuration is wrong, or there twice.
    pub fn new(
        plugins: &str,
        configs: &Path,
        kept: &Path,
        dns: ContainerDns,
    ) -> Result<Self, String> {
        let plugins: Vec<PathBuf> =
            plugins.split(':').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
        if let Some(missing) = plugins.iter().find(|path| !path.is_dir()) {
            return Err(format!("The CNI plugin directory '{}' does not exist", missing.display()));
        }
        let mut known = BTreeMap::new();
        for entry in fs::read_dir(configs).map_err(at(configs))? {
            let path = entry.map_err(at(configs))?.path();
            if path.is_dir() {
                continue;
            }
            let config = read_config(&path)?;
            let wrong = |what: &str| {
                Err(format!("The CNI network configuration '{}': {what}", path.display()))
            };
            let Some(name) = config["name"].as_str().filter(|name| is_plain(name)) else {
                return wrong("it has no 'name'");
            };
            if config["type"].as_str().is_none_or(|plugin| !is_plain(plugin)) {
                return wrong("it has no 'type', the name of its plugin");
            }
            if !config["args"]["org.apache.mesos"].is_null() {
                return wrong("'org.apache.mesos' in 'args' is reserved by Mesos");
            }
            if known.insert(name.to_owned(), path.clone()).is_some() {
                return wrong(&format!("another one has the name '{name}' as well"));
            }
        }
        let directory = kept.join("isolators/network/cni");
        Ok(Self { plugins, configs: known, directory, dns })
    }

    /// Attaches a container to the networks that it asks for; nothing if it asks for none by name.
    ///
    /// # Errors
    /// What a plugin says, or what is missing.
    pub async fn join(
        &self,
        container: &str,
        info: Option<&v1::ContainerInfo>,
    ) -> Result<Option<Joined>, String> {
        let asked: Vec<&v1::NetworkInfo> = info
            .iter()
            .flat_map(|info| &info.network_infos)
            .filter(|network| network.name.is_some())
            .collect();
        if let Some((root, _)) = container.split_once('.') {
            if !asked.is_empty() {
                return Err("Currently, we don't support different network namespaces for parent and nested containers.".to_owned());
            }
            return Ok(self.joined(root));
        }
        if asked.is_empty() {
            return Ok(None);
        }
        let hostname = info.and_then(|info| info.hostname.clone());
        let attached = self.attach_all(container, &asked, hostname).await;
        if attached.is_err() {
            self.leave(container).await;
        }
        attached?;
        Ok(self.joined(container))
    }

    async fn attach_all(
        &self,
        container: &str,
        asked: &[&v1::NetworkInfo],
        hostname: Option<String>,
    ) -> Result<(), String> {
        let mut names = BTreeSet::new();
        for network in asked {
            let name = network.name();
            if !self.configs.contains_key(name) {
                return Err(format!("Unknown CNI network '{name}'"));
            }
            if !names.insert(name) {
                return Err(format!("Attempted to join CNI network '{name}' multiple times"));
            }
        }
        let directory = self.directory.join(container);
        fs::create_dir_all(&directory).map_err(at(&directory))?;
        let namespace = directory.join("ns");
        let made = Command::from(helper::namespace(&namespace)).stdin(Stdio::null()).output().await;
        let made = made.map_err(|error| format!("no network namespace: {error}"))?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr);
            return Err(format!("no network namespace: {}", said.trim()));
        }
        let mut all = Vec::new();
        for (index, network) in asked.iter().enumerate() {
            all.push(self.attach(container, network, &format!("eth{index}")).await?);
        }
        let hostname = hostname.unwrap_or_else(|| container.to_owned());
        let own = all.iter().find_map(Attached::ip).map(|ip| format!("{ip} {hostname}\n"));
        let hosts = format!("127.0.0.1 localhost\n{}", own.unwrap_or_default());
        let mut files = vec![("hosts", hosts), ("hostname", hostname)];
        let servers = all.iter().zip(asked);
        let servers: Vec<&Dns> = servers
            .filter_map(|(own, network)| own.dns().or_else(|| self.dns.of_cni(network.name())))
            .collect();
        files.extend(result::resolver(&servers).map(|text| ("resolv.conf", text)));
        for (name, text) in files {
            let path = directory.join(name);
            fs::write(&path, text).map_err(at(&path))?;
        }
        Ok(())
    }

    async fn attach(
        &self,
        container: &str,
        network: &v1::NetworkInfo,
        interface: &str,
    ) -> Result<Attached, String> {
        let name = network.name();
        let path = self.configs.get(name).ok_or_else(|| format!("Unknown CNI network '{name}'"))?;
        let mut config = read_config(path)?;
        let info = json::to_value(network, Dialect::V0);
        config["args"]["org.apache.mesos"]["network_info"] = info;
        let directory = self.directory.join(container).join(name).join(interface);
        fs::create_dir_all(&directory).map_err(at(&directory))?;
        let noted = self.directory.join(container).join(name).join(CONFIG);
        // Before: what is attached must be detached.
        fs::write(&noted, config.to_string()).map_err(at(&noted))?;
        let output = self.plugin("ADD", container, interface, &config).await.map_err(|reason| {
            format!("The CNI plugin failed to attach container {container} to CNI network '{name}': {reason}")
        })?;
        let attached = Attached::parse(&output)
            .map_err(|reason| format!("Failed to parse the output of the CNI plugin: {reason}"))?;
        let noted = directory.join(INFO);
        fs::write(&noted, &output).map_err(at(&noted))?;
        Ok(attached)
    }

    /// Runs a plugin; what it printed.
    async fn plugin(
        &self,
        order: &str,
        container: &str,
        interface: &str,
        config: &Value,
    ) -> Result<Vec<u8>, String> {
        let name = config["type"].as_str().filter(|name| is_plain(name)).unwrap_or_default();
        let found = find(&self.plugins, name).filter(|_| !name.is_empty());
        let path = found.ok_or_else(|| format!("Unable to find the plugin '{name}'"))?;
        let search = std::env::join_paths(&self.plugins).map_err(|error| error.to_string())?;
        let failed = |error: io::Error| format!("Failed to execute '{}': {error}", path.display());
        let mut plugin = Command::new(&path)
            .env_clear()
            .env("CNI_COMMAND", order)
            .env("CNI_CONTAINERID", container)
            .env("CNI_PATH", search)
            .env("CNI_IFNAME", interface)
            .env("CNI_NETNS", self.directory.join(container).join("ns"))
            .env(
                "PATH",
                std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into()),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        if let Some(mut input) = plugin.stdin.take() {
            // One that does not read says why when it ends.
            let _ = input.write_all(config.to_string().as_bytes()).await;
        }
        let ended = tokio::time::timeout(PLUGIN, plugin.wait_with_output()).await;
        let output = ended.map_err(|_| "it does not end".to_owned())?.map_err(failed)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(format!("stdout='{}', stderr='{}'", text(&output.stdout), text(&output.stderr)))
        }
    }

    /// What is noted of a container that was attached.
    pub fn joined(&self, container: &str) -> Option<Joined> {
        let directory = self.directory.join(container);
        let hostname = fs::read_to_string(directory.join("hostname")).ok()?;
        let file = |name: &str| {
            let (own, target) = (directory.join(name), Path::new("/etc").join(name));
            let source = if own.exists() { own } else { target.clone() };
            let is_there = source.exists();
            is_there.then_some(Mount {
                source: Tree::Directory(source),
                target,
                is_read_only: true,
            })
        };
        let infos = self.interfaces(container).into_iter().filter_map(|(network, interface)| {
            let output = fs::read(directory.join(&network).join(interface).join(INFO)).ok()?;
            Some(Attached::parse(&output).ok()?.message(&network))
        });
        let infos: Vec<v1::NetworkInfo> = infos.collect();
        let mut addresses = infos.iter().flat_map(|info| &info.ip_addresses);
        let ip = addresses.find_map(|own| own.ip_address().parse().ok());
        Some(Joined {
            network: Network { namespace: directory.join("ns"), hostname, ip },
            files: ["hosts", "hostname", "resolv.conf"].into_iter().filter_map(file).collect(),
            infos,
        })
    }

    /// The networks of a container, and its interface in each.
    fn interfaces(&self, container: &str) -> Vec<(String, String)> {
        let names = |path: &Path| {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            let directories = entries.filter(|entry| entry.path().is_dir());
            let names = directories.map(|entry| entry.file_name().to_string_lossy().into_owned());
            names.collect::<Vec<_>>()
        };
        let directory = self.directory.join(container);
        let each = names(&directory).into_iter().flat_map(|network| {
            let interfaces = names(&directory.join(&network));
            interfaces.into_iter().map(move |interface| (network.clone(), interface))
        });
        each.collect()
    }

    /// Detaches a container that has ended. What a plugin does not let go is tried again when the agent starts.
    pub async fn leave(&self, container: &str) {
        let directory = self.directory.join(container);
        if !directory.is_dir() {
            return;
        }
        for (network, interface) in self.interfaces(container) {
            let config = match read_config(&directory.join(&network).join(CONFIG)) {
                Ok(config) => config,
                Err(error) => {
                    tracing::warn!(container, network, error, "not detached");
                    continue; // It was never attached.
                }
            };
            if let Err(error) = self.plugin("DEL", container, &interface, &config).await {
                tracing::warn!(container, network, error, "not detached");
                return;
            }
        }
        let namespace = directory.join("ns");
        // It may not have come to be mounted.
        let _ = umount2(&namespace, MntFlags::MNT_DETACH);
        if let Err(error) = fs::remove_dir_all(&directory) {
            tracing::warn!(path = %directory.display(), %error, "not removed");
        }
    }

    /// The containers that something is noted of.
    pub fn containers(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_configuration_is_refused_with_its_file() {
        let directory = tempfile::TempDir::new().unwrap();
        let own = |text: &str| {
            fs::write(directory.path().join("a.conf"), text).unwrap();
            let dns = ContainerDns::default();
            Networks::new("/:/tmp", directory.path(), Path::new("/r"), dns)
        };
        assert!(own(r#"{"name": "a", "type": "bridge"}"#).unwrap().configs.contains_key("a"));
        for text in [
            "",
            "{}",
            r#"{"name": "a"}"#,
            r#"{"name": "../a", "type": "bridge"}"#,
            r#"{"name": "a", "type": "../../bin/sh"}"#,
            r#"{"name": "a", "type": "b", "args": {"org.apache.mesos": {}}}"#,
        ] {
            assert!(own(text).unwrap_err().contains("a.conf"), "{text}");
        }
        fs::write(directory.path().join("b.conf"), r#"{"name": "a", "type": "x"}"#).unwrap();
        assert!(own(r#"{"name": "a", "type": "bridge"}"#).unwrap_err().contains("as well"));
    }
}
