//! `create`, `set`, `delete`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use zookeeper_client::{Acls, CreateMode, Error};

use super::{Context, Outcome};
use crate::failure::{Failure, at, keeper_message};
use crate::{acl, path};

/// Longest time to live, in ms: five bytes of a znode's owner hold it (`EphemeralType.TTL`).
const TTL_MAX_MS: i64 = 0xff_ffff_ffff;

fn malformed<T>(text: &str) -> Result<T, Failure> {
    Err(Failure::Malformed(text.to_owned()))
}

/// What kind of znode the options ask for, and for how long.
fn mode(context: &Context) -> Result<(CreateMode, Option<Duration>), Failure> {
    let has = |name| context.parsed.has(name);
    if has("c") && (has("e") || has("s")) {
        return malformed(
            "-c cannot be combined with -s or -e. Containers cannot be ephemeral or sequential.",
        );
    }
    let ttl = match context.parsed.value("t").map(str::parse::<i64>) {
        None => None,
        Some(Ok(ms)) => Some(ms),
        Some(Err(_)) => return malformed("-t argument must be a long value"),
    };
    if ttl.is_some() && has("e") {
        return malformed("TTLs cannot be used with Ephemeral znodes");
    }
    if ttl.is_some() && has("c") {
        return malformed("TTLs cannot be used with Container znodes");
    }
    if ttl.is_some_and(|ms| !(1..=TTL_MAX_MS).contains(&ms)) {
        return malformed(&format!("ttl must be positive and cannot be larger than: {TTL_MAX_MS}"));
    }
    let mode = match (has("e"), has("s"), has("c")) {
        (true, true, _) => CreateMode::EphemeralSequential,
        (true, false, _) => CreateMode::Ephemeral,
        (false, true, _) => CreateMode::PersistentSequential,
        (false, false, true) => CreateMode::Container,
        (false, false, false) => CreateMode::Persistent,
    };
    Ok((mode, ttl.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis)))
}

pub(super) async fn create(context: &Context) -> Outcome {
    let (mode, ttl) = mode(context)?;
    let at_path = context.path();
    let data = context.word(1).unwrap_or_default().as_bytes();
    let given = context.word(2).map(|text| acl::parse(text, |line| context.output.remark(&line)));
    let acls = given.as_deref().map_or(Acls::anyone_all(), Acls::new);
    let sequential =
        matches!(mode, CreateMode::EphemeralSequential | CreateMode::PersistentSequential);
    if sequential {
        path::validate(&format!("{at_path}1"))?;
    } else {
        path::validate(at_path)?;
    }
    if given.as_ref().is_some_and(Vec::is_empty) {
        // The client refuses it before it knows the path.
        context.output.remark(&keeper_message(&Error::InvalidAcl, ""));
        return Err(at("null")(Error::InvalidAcl));
    }
    let mut options = mode.with_acls(acls);
    if let Some(ttl) = ttl {
        options = options.with_ttl(ttl);
    }
    match context.client.create(at_path, data, &options).await {
        Ok((_, sequence)) => {
            let created =
                if sequential { format!("{at_path}{sequence}") } else { at_path.to_owned() };
            context.output.remark(&format!("Created {created}"));
            Ok(json!({ "path": created }))
        }
        Err(error) => {
            if error == Error::InvalidAcl {
                context.output.remark(&keeper_message(&error, at_path));
            }
            Err(at(at_path)(error))
        }
    }
}

pub(super) async fn set(context: &Context) -> Outcome {
    let at_path = context.path();
    let text = context.word(1).unwrap_or_default();
    let data = if context.parsed.has("b") {
        STANDARD
            .decode(text)
            .map_err(|error| Failure::Malformed(format!("the data is not in base64: {error}")))?
    } else {
        text.as_bytes().to_vec()
    };
    let version = context.parsed.version()?;
    path::validate(at_path)?;
    let stat = context.client.set_data(at_path, &data, version).await.map_err(at(at_path))?;
    let mut value = json!({ "path": at_path });
    context.with_stat(&stat, &mut value);
    Ok(value)
}

pub(super) async fn delete(context: &Context) -> Outcome {
    let at_path = context.path();
    let version = context.parsed.version()?;
    path::validate(at_path)?;
    context.client.delete(at_path, version).await.map_err(at(at_path))?;
    Ok(json!({ "path": at_path }))
}
