//! `addWatch`, `removewatches`.

use serde_json::json;
use zookeeper_client::{AddWatchMode, Error, SessionState};

use super::{Context, Outcome};
use crate::failure::{Failure, at};
use crate::path;
use crate::table;
use crate::watches::Kind;

pub(super) async fn add(context: &Context) -> Outcome {
    let mode = context.parsed.value("m").map(str::to_uppercase);
    let (mode, kind) = match mode.as_deref() {
        Some("PERSISTENT") => (AddWatchMode::Persistent, Kind::Persistent),
        None | Some("PERSISTENT_RECURSIVE") => (AddWatchMode::PersistentRecursive, Kind::Recursive),
        Some(_) => return Err(Failure::Malformed(table::find("addWatch")?.usage())),
    };
    if context.parsed.words.len() != 1 {
        return Err(Failure::Malformed(table::find("addWatch")?.usage()));
    }
    let at_path = context.path();
    path::validate(at_path)?;
    let watcher = context.client.watch(at_path, mode).await.map_err(at(at_path))?;
    context.watches.keep(at_path, kind, watcher);
    Ok(json!({ "path": at_path }))
}

pub(super) async fn remove(context: &Context) -> Outcome {
    let at_path = context.path();
    path::validate(at_path)?;
    let kinds: &[Kind] = if context.parsed.has("c") {
        &[Kind::Child]
    } else if context.parsed.has("d") {
        &[Kind::Data, Kind::Exist]
    } else {
        &[Kind::Child, Kind::Data, Kind::Exist, Kind::Persistent, Kind::Recursive]
    };
    if context.client.state() == SessionState::Disconnected && !context.parsed.has("l") {
        return Err(at(at_path)(Error::ConnectionLoss));
    }
    if context.watches.remove(at_path, kinds).await {
        Ok(json!({ "path": at_path }))
    } else {
        Err(at(at_path)(Error::NoWatcher))
    }
}
