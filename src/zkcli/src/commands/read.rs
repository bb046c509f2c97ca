//! `get`, `ls`, `stat`, `sync`, `getEphemerals`, `getAllChildrenNumber`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use zookeeper_client::{Error, Stat};

use super::{Context, Outcome};
use crate::failure::{Failure, at};
use crate::watches::Kind;
use crate::{path, stat as stats, table};

/// Data as `--json` shows it: text, or base64 where it is none.
pub(super) fn data_json(data: &[u8]) -> Value {
    std::str::from_utf8(data)
        .map_or_else(|_| json!({ "base64": STANDARD.encode(data) }), Value::from)
}

/// Netty's `ByteBufUtil.prettyHexDump`, as `get -x` prints it.
fn hex_dump(data: &[u8]) -> String {
    let rule = format!("+--------+{}+{}+", "-".repeat(49), "-".repeat(16));
    let mut lines = vec![
        format!("         +{}+", "-".repeat(49)),
        format!(
            "         | {} |",
            (0..16).map(|digit| format!(" {digit:x}")).collect::<Vec<_>>().join(" ")
        ),
        rule.clone(),
    ];
    for (row, bytes) in data.chunks(16).enumerate() {
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let hex = hex.join(" ");
        let text: String = bytes
            .iter()
            .map(|byte| if matches!(byte, 0x20..=0x7e) { char::from(*byte) } else { '.' })
            .collect();
        lines.push(format!("|{:08x}| {hex:<47} |{text:<16}|", row * 16));
    }
    if !data.is_empty() {
        lines.push(rule);
        return lines.join("\n");
    }
    String::new()
}

pub(super) async fn get(context: &Context) -> Outcome {
    let at_path = context.path();
    path::validate(at_path)?;
    let (data, stat) = if context.parsed.has("w") {
        let (data, stat, watcher) =
            context.client.get_and_watch_data(at_path).await.map_err(at(at_path))?;
        context.watches.keep_once(at_path, Kind::Data, watcher);
        (data, stat)
    } else {
        context.client.get_data(at_path).await.map_err(at(at_path))?
    };
    let shown = if context.parsed.has("x") {
        hex_dump(&data)
    } else if context.parsed.has("b") {
        STANDARD.encode(&data)
    } else {
        String::from_utf8_lossy(&data).into_owned()
    };
    context.output.say(&shown);
    let mut value = json!({ "path": at_path, "data": data_json(&data) });
    context.with_stat(&stat, &mut value);
    Ok(value)
}

pub(super) async fn list(context: &Context) -> Outcome {
    if context.parsed.has("?") {
        context
            .output
            .say("usage: ls [options] path\n -?   help\n -R   recurse\n -s   stat\n -w   watch");
    }
    let Some(at_path) = context.word(0) else {
        return Err(Failure::Malformed(table::find("ls")?.usage()));
    };
    path::validate(at_path)?;
    if context.parsed.has("R") {
        return list_all(context, at_path).await;
    }
    let (mut names, stat) = children(context, at_path, context.parsed.has("w")).await?;
    names.sort();
    context.output.say(&format!("[{}]", names.join(", ")));
    let mut value = json!({ "path": at_path, "children": names });
    context.with_stat(&stat, &mut value);
    Ok(value)
}

async fn children(
    context: &Context,
    at_path: &str,
    watch: bool,
) -> Result<(Vec<String>, Stat), Failure> {
    if !watch {
        return context.client.get_children(at_path).await.map_err(at(at_path));
    }
    let (names, stat, watcher) =
        context.client.get_and_watch_children(at_path).await.map_err(at(at_path))?;
    context.watches.keep_once(at_path, Kind::Child, watcher);
    Ok((names, stat))
}

/// `ZKUtil.visitSubTreeDFS`: all children of a znode, then what is below each.
async fn list_all(context: &Context, top: &str) -> Outcome {
    let watch = context.parsed.has("w");
    if watch {
        let (_, _, watcher) = context.client.get_and_watch_data(top).await.map_err(at(top))?;
        context.watches.keep_once(top, Kind::Data, watcher);
    } else {
        context.client.get_data(top).await.map_err(at(top))?;
    }
    context.output.say(top);
    let mut found = vec![top.to_owned()];
    let mut todo = vec![top.to_owned()];
    while let Some(parent) = todo.pop() {
        let mut names = match children(context, &parent, watch).await {
            Ok((names, _)) => names,
            // It was deleted in between.
            Err(Failure::Keeper { error: Error::NoNode, .. }) => continue,
            Err(failure) => return Err(failure),
        };
        names.sort();
        let paths: Vec<String> = names.iter().map(|name| path::join(&parent, name)).collect();
        for child in &paths {
            context.output.say(child);
        }
        if context.output.is_json() {
            found.extend(paths.iter().cloned());
        }
        todo.extend(paths.into_iter().rev());
    }
    Ok(json!({ "path": top, "tree": found }))
}

pub(super) async fn stat(context: &Context) -> Outcome {
    let at_path = context.path();
    path::validate(at_path)?;
    let found = if context.parsed.has("w") {
        let (found, watcher) =
            context.client.check_and_watch_stat(at_path).await.map_err(at(at_path))?;
        let kind = if found.is_some() { Kind::Data } else { Kind::Exist };
        context.watches.keep_once(at_path, kind, watcher);
        found
    } else {
        context.client.check_stat(at_path).await.map_err(at(at_path))?
    };
    let found = found.ok_or_else(|| at(at_path)(Error::NoNode))?;
    context.output.say(&stats::text(&found));
    Ok(json!({ "path": at_path, "stat": stats::json(&found) }))
}

pub(super) async fn sync(context: &Context) -> Outcome {
    let at_path = context.path();
    path::validate(at_path)?;
    context.client.sync(at_path).await.map_err(at(at_path))?;
    context.output.say("Sync is OK");
    Ok(json!({ "path": at_path }))
}

pub(super) async fn ephemerals(context: &Context) -> Outcome {
    let prefix = context.word(0).unwrap_or("/");
    path::validate(prefix)?;
    let paths = context.client.list_ephemerals(prefix).await.map_err(at(prefix))?;
    context.output.say(&format!("[{}]", paths.join(", ")));
    Ok(json!({ "prefix": prefix, "paths": paths }))
}

pub(super) async fn count(context: &Context) -> Outcome {
    let at_path = context.path();
    path::validate(at_path)?;
    let number = context.client.count_descendants_number(at_path).await.map_err(at(at_path))?;
    context.output.say(&number.to_string());
    Ok(json!({ "path": at_path, "descendants": number }))
}

impl Context {
    /// Adds the stat, where `-s` asks for it; JSON always has it.
    pub(super) fn with_stat(&self, stat: &Stat, value: &mut Value) {
        if self.parsed.has("s") {
            self.output.say(&stats::text(stat));
        }
        value["stat"] = stats::json(stat);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hex_dump_looks_like_nettys() {
        assert_eq!(
            hex_dump(b"hello world 0123\n"),
            "         +-------------------------------------------------+\n         |  0  1  2  3  4  5  6  7  8  9  a  b  c  d  e  f |\n+--------+-------------------------------------------------+----------------+\n|00000000| 68 65 6c 6c 6f 20 77 6f 72 6c 64 20 30 31 32 33 |hello world 0123|\n|00000010| 0a                                              |.               |\n+--------+-------------------------------------------------+----------------+"
        );
        assert_eq!(hex_dump(b""), "");
        assert_eq!(data_json(&[0xff]), json!({ "base64": "/w==" }));
    }
}
