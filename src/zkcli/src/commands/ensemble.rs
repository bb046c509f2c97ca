//! `config`, `reconfig`, `whoami`.

use std::iter;

use serde_json::json;
use zookeeper_client::EnsembleUpdate;

use super::{Context, Outcome};
use crate::failure::{Failure, at};
use crate::table;
use crate::watches::Kind;

const CONFIG: &str = "/zookeeper/config";

/// `ConfigUtils.getClientConfigStr`: the version, and where the servers listen for clients.
fn client_string(config: &str) -> String {
    let mut version = "";
    let mut servers = Vec::new();
    for (key, value) in config.lines().filter_map(|line| line.split_once('=')) {
        match key.trim() {
            "version" => version = value.trim(),
            key if key.starts_with("server.") => {
                let client = value.rsplit_once(';').map_or("", |(_, client)| client.trim());
                // A port alone is one on all addresses.
                let is_port = client.bytes().all(|byte| byte.is_ascii_digit());
                servers.push(match client {
                    "" => String::new(),
                    port if is_port => format!("0.0.0.0:{port}"),
                    address => address.to_owned(),
                });
            }
            _ => {}
        }
    }
    format!("{version} {}", servers.join(","))
}

pub(super) async fn config(context: &Context) -> Outcome {
    let (data, stat) = if context.parsed.has("w") {
        let (data, stat, watcher) =
            context.client.get_and_watch_config().await.map_err(at(CONFIG))?;
        context.watches.keep_once(CONFIG, Kind::Data, watcher);
        (data, stat)
    } else {
        context.client.get_config().await.map_err(at(CONFIG))?
    };
    let text = String::from_utf8_lossy(&data);
    if context.parsed.has("c") {
        context.output.say(&client_string(&text));
    } else {
        context.output.say(&text);
    }
    let mut value = json!({ "config": text, "clients": client_string(&text) });
    context.with_stat(&stat, &mut value);
    Ok(value)
}

/// The members that a dynamic configuration file lists, as the protocol wants them.
fn members_of_file(file: &str) -> Result<String, Failure> {
    let problem = |what: String| Failure::Malformed(format!("Error processing {file}{what}"));
    let text = std::fs::read_to_string(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => problem(format!("{file} (No such file or directory)")),
        _ => problem(format!("{file} ({error})")),
    })?;
    let mut members = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let known = ["server.", "group.", "weight.", "version"];
        if !known.iter().any(|start| line.starts_with(start)) || !line.contains('=') {
            return Err(problem(format!(": '{line}' is no member of an ensemble")));
        }
        members.push(line);
    }
    Ok(members.join(","))
}

pub(super) async fn reconfigure(context: &Context) -> Outcome {
    let parsed = &context.parsed;
    let has = |name| parsed.has(name);
    let malformed = |text: &str| Err(Failure::Malformed(text.to_owned()));
    if !["file", "members", "add", "remove"].iter().any(|name| has(name)) {
        return malformed(&table::find("reconfig")?.usage());
    }
    let version = match parsed.value("v").map(|text| i64::from_str_radix(text, 16)) {
        None => None,
        Some(Ok(version)) => Some(version),
        Some(Err(_)) => return malformed("-v must be followed by a long (configuration version)"),
    };
    if (has("file") || has("members")) && (has("add") || has("remove")) {
        return malformed(
            "Can't use -file or -members together with -add or -remove (mixing incremental and non-incremental modes is not allowed)",
        );
    }
    if has("file") && has("members") {
        return malformed(
            "Can't use -file and -members together (conflicting non-incremental modes)",
        );
    }
    let lower = |name| parsed.value(name).unwrap_or_default().to_lowercase();
    let (joining, leaving) = (lower("add"), lower("remove"));
    let members = match parsed.value("file") {
        Some(file) => members_of_file(file)?,
        None => lower("members"),
    };
    let update = if has("add") || has("remove") {
        EnsembleUpdate::Incremental {
            joinings: iter::once(joining.as_str()),
            leavings: iter::once(leaving.as_str()),
        }
    } else {
        EnsembleUpdate::New { ensemble: iter::once(members.as_str()) }
    };
    let (data, stat) = context.client.update_ensemble(update, version).await.map_err(at(""))?;
    let text = String::from_utf8_lossy(&data);
    context.output.say(&format!("Committed new configuration:\n{text}"));
    let mut value = json!({ "config": text });
    context.with_stat(&stat, &mut value);
    Ok(value)
}

pub(super) async fn who_am_i(context: &Context) -> Outcome {
    let users = context.client.list_auth_users().await.map_err(at(""))?;
    context.output.say("Auth scheme: User");
    for user in &users {
        context.output.say(&format!("{}: {}", user.scheme(), user.user()));
    }
    let users: Vec<_> =
        users.iter().map(|user| json!({ "scheme": user.scheme(), "user": user.user() })).collect();
    Ok(json!({ "users": users }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_string_lists_where_clients_connect() {
        assert_eq!(client_string(""), " ");
        assert_eq!(
            client_string(
                "server.1=a:2888:3888:participant;0.0.0.0:2181\nserver.2=b:1:2;2182\nserver.3=c:1:2\nversion=100000000"
            ),
            "100000000 0.0.0.0:2181,0.0.0.0:2182,"
        );
    }
}
