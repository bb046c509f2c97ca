//! `setquota`, `delquota`, `listquota`: quotas are znodes that the client writes.

use serde_json::json;
use zookeeper_client::{Acls, CreateMode, Error};

use super::{Context, Outcome, tree};
use crate::failure::{Failure, at};
use crate::path;
use crate::quota::{LIMITS, Limit, ROOT, STATS, Track, place};

const OPTIONS: [&str; 4] = ["n", "b", "N", "B"];

async fn read(context: &Context, at_path: &str) -> Result<Track, Error> {
    let (data, _) = context.client.get_data(at_path).await?;
    Ok(Track::parse(&String::from_utf8_lossy(&data)))
}

async fn create(context: &Context, at_path: &str, data: &[u8]) -> Result<(), Failure> {
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    match context.client.create(at_path, data, &options).await {
        Ok(_) | Err(Error::NodeExists) => Ok(()),
        Err(error) => Err(at(at_path)(error)),
    }
}

pub(super) async fn list(context: &Context) -> Outcome {
    let at_path = context.path();
    let (limits, stats) = (path::join(&place(at_path), LIMITS), path::join(&place(at_path), STATS));
    context.output.remark(&format!("absolute path is {limits}"));
    path::validate(&limits)?;
    let mut found = json!({ "path": at_path, "quota": null, "stat": null });
    for (name, from, label) in [("quota", limits, "quota"), ("stat", stats, "stat")] {
        match read(context, &from).await {
            Ok(track) => {
                context.output.say(&format!("Output {label} for {at_path} {}", track.text()));
                found[name] = track.text().into();
            }
            Err(Error::NoNode) => {
                context.output.remark(&format!("quota for {at_path} does not exist."));
                break;
            }
            Err(error) => return Err(at(&from)(error)),
        }
    }
    Ok(found)
}

/// The limit that the options set; `None` after a remark that it can't be.
fn limit(context: &Context) -> Option<(Limit, i64)> {
    let name = *OPTIONS.iter().find(|name| context.parsed.has(name))?;
    let (limit, text) = (Limit::of_option(name)?, context.parsed.value(name)?);
    let of_count = matches!(limit, Limit::Count | Limit::CountHard);
    let number = if of_count { text.parse::<i32>().map(i64::from) } else { text.parse::<i64>() };
    let problem = match number {
        Err(_) => "NumberFormatException happens when parsing the option value",
        Ok(count) if of_count && count <= 0 => "the num quota must be greater than zero",
        Ok(bytes) if bytes < 0 => "the bytes quota must be greater than or equal to zero",
        Ok(number) => return Some((limit, number)),
    };
    context.output.remark(problem);
    None
}

/// A quota above or below another would count twice: refused.
async fn refuse_nesting(context: &Context, at_path: &str) -> Result<(), Failure> {
    let own = place(at_path);
    let refuse = |relation: &str, other: &str| {
        let other = other.strip_prefix(ROOT).unwrap_or(other);
        Err(Failure::Malformed(format!("{at_path} has a {relation} {other} which has a quota")))
    };
    let suffix = format!("/{LIMITS}");
    match tree::below(context, &own).await {
        Ok(paths) => {
            let mut others = paths.iter().filter_map(|found| found.strip_suffix(&suffix));
            if let Some(other) = others.find(|other| *other != own) {
                return refuse("child", other);
            }
        }
        Err(Failure::Keeper { error: Error::NoNode, .. }) => {}
        Err(failure) => return Err(failure),
    }
    let mut above = own.as_str();
    while let Some((parent, _)) =
        above.rsplit_once('/').filter(|(parent, _)| parent.len() > ROOT.len())
    {
        let limits = path::join(parent, LIMITS);
        if context.client.check_stat(&limits).await.map_err(at(&limits))?.is_some() {
            return refuse("parent", parent);
        }
        above = parent;
    }
    Ok(())
}

pub(super) async fn set(context: &Context) -> Outcome {
    let at_path = context.path();
    if at_path.starts_with(ROOT) {
        context.output.remark(&format!("cannot set a quota under the path: {ROOT}"));
        return Ok(json!({ "path": at_path, "set": false }));
    }
    let Some((limit, number)) = limit(context) else {
        return Ok(json!({ "path": at_path, "set": false }));
    };
    path::validate(at_path)?;
    if context.client.check_stat(at_path).await.map_err(at(at_path))?.is_none() {
        return Err(Failure::Malformed(format!("{at_path} does not exist.")));
    }
    refuse_nesting(context, at_path).await?;
    let own = place(at_path);
    for (end, _) in own.match_indices('/').skip(1) {
        create(context, &own[..end], b"").await?;
    }
    create(context, own.trim_end_matches('/'), b"").await?;
    let (limits, stats) = (path::join(&own, LIMITS), path::join(&own, STATS));
    let (mut track, is_new) = match read(context, &limits).await {
        Ok(track) => (track, false),
        Err(Error::NoNode) => (Track::unlimited(), true),
        Err(error) => return Err(at(&limits)(error)),
    };
    track.set(limit, number);
    if is_new {
        create(context, &limits, track.text().as_bytes()).await?;
        create(context, &stats, b"count=0,bytes=0").await?;
    }
    let used = read(context, &stats).await.map_err(at(&stats))?;
    for warning in track.warnings(&used) {
        context.output.say(&warning);
    }
    if !is_new {
        let text = track.text();
        context.client.set_data(&limits, text.as_bytes(), None).await.map_err(at(&limits))?;
    }
    Ok(json!({ "path": at_path, "set": true, "quota": track.text() }))
}

pub(super) async fn delete(context: &Context) -> Outcome {
    let at_path = context.path();
    let own = place(at_path);
    let limits = path::join(&own, LIMITS);
    path::validate(&limits)?;
    let mut track = match read(context, &limits).await {
        Ok(track) => track,
        Err(Error::NoNode) => {
            context.output.say(&format!("Quota does not exist for {at_path}"));
            return Ok(json!({ "path": at_path, "deleted": false }));
        }
        Err(error) => return Err(at(&limits)(error)),
    };
    if let Some(limit) =
        OPTIONS.iter().find(|name| context.parsed.has(name)).and_then(|name| Limit::of_option(name))
    {
        track.set(limit, -1);
        let text = track.text();
        context.client.set_data(&limits, text.as_bytes(), None).await.map_err(at(&limits))?;
        return Ok(json!({ "path": at_path, "deleted": true, "quota": text }));
    }
    for child in context.client.list_children(&own).await.map_err(at(&own))? {
        let child = path::join(&own, &child);
        context.client.delete(&child, None).await.map_err(at(&child))?;
    }
    // Up to where another quota's path begins.
    let mut empty = own.as_str();
    while empty.len() > ROOT.len() {
        if !context.client.list_children(empty).await.map_err(at(empty))?.is_empty() {
            break;
        }
        context.client.delete(empty, None).await.map_err(at(empty))?;
        empty = empty.rsplit_once('/').map_or(ROOT, |(parent, _)| parent);
    }
    Ok(json!({ "path": at_path, "deleted": true }))
}
