//! `getAcl`, `setAcl`, `addauth`.

use serde_json::{Value, json};
use zookeeper_client::Error;

use super::{Context, Outcome, tree};
use crate::failure::{at, keeper_message};
use crate::{acl, path};

pub(super) async fn get(context: &Context) -> Outcome {
    let at_path = context.path();
    path::validate(at_path)?;
    let (list, stat) = context.client.get_acl(at_path).await.map_err(at(at_path))?;
    for entry in &list {
        context.output.say(&acl::text(entry));
    }
    let mut value =
        json!({ "path": at_path, "acl": list.iter().map(acl::json).collect::<Vec<_>>() });
    context.with_stat(&stat, &mut value);
    Ok(value)
}

pub(super) async fn set(context: &Context) -> Outcome {
    let at_path = context.path();
    let given = context.word(1).unwrap_or_default();
    let list = acl::parse(given, |line| context.output.remark(&line));
    let version = context.parsed.version()?;
    path::validate(at_path)?;
    // The client refuses an empty list before it knows the path.
    let named = if list.is_empty() { "null" } else { at_path };
    if !context.parsed.has("R") {
        let stat = context.client.set_acl(at_path, &list, version).await.map_err(at(named))?;
        let mut value = json!({ "path": at_path });
        context.with_stat(&stat, &mut value);
        return Ok(value);
    }
    // As in the original, a znode that refuses is told of and does not stop the others.
    let mut refused = serde_json::Map::new();
    for each in tree::below(context, at_path).await? {
        if let Err(error) = context.client.set_acl(&each, &list, version).await {
            let message = keeper_message(&error, &each);
            context.output.say_part(&message);
            refused.insert(each, Value::from(message));
        }
    }
    Ok(json!({ "path": at_path, "refused": refused }))
}

/// The original only hands the identity to the client: that the server refuses it shows in the session's end.
pub(super) async fn add_auth(context: &Context) -> Outcome {
    let scheme = context.path();
    let auth = context.word(1).unwrap_or_default();
    match context.client.auth(scheme, auth.as_bytes()).await {
        Ok(()) | Err(Error::AuthFailed) => Ok(json!({ "scheme": scheme })),
        Err(error) => Err(at("")(error)),
    }
}
