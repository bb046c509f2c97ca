//! Whole trees: `deleteall`, and the walk that others need (`ZKUtil`).

use std::collections::VecDeque;

use serde_json::json;
use zookeeper_client::Error;

use super::{Context, Outcome};
use crate::failure::{Failure, at};
use crate::path;

/// Deletions in one transaction, if not told otherwise.
const BATCH: usize = 1000;

/// A path and all below it, level by level (`ZKUtil.listSubTreeBFS`).
pub(super) async fn below(context: &Context, top: &str) -> Result<Vec<String>, Failure> {
    let mut found = vec![top.to_owned()];
    let mut todo = VecDeque::from([top.to_owned()]);
    while let Some(parent) = todo.pop_front() {
        let names = match context.client.list_children(&parent).await {
            Ok(names) => names,
            Err(Error::NoNode) if parent != top => continue,
            Err(error) => return Err(at(&parent)(error)),
        };
        for name in names {
            let child = path::join(&parent, &name);
            found.push(child.clone());
            todo.push_back(child);
        }
    }
    Ok(found)
}

pub(super) async fn delete_all(context: &Context) -> Outcome {
    let Ok(batch) = context.parsed.value("b").map_or(Ok(BATCH as i32), str::parse::<i32>) else {
        return Err(Failure::Malformed("-b argument must be an int value".to_owned()));
    };
    let top = context.path();
    path::validate(top)?;
    // The leaves first.
    let paths: Vec<String> = below(context, top).await?.into_iter().rev().collect();
    match usize::try_from(batch).ok().filter(|batch| *batch > 0) {
        Some(batch) => {
            for some in paths.chunks(batch) {
                let mut writer = context.client.new_multi_writer();
                for each in some {
                    writer.add_delete(each, None).map_err(at(each))?;
                }
                if writer.commit().await.is_err() {
                    context.output.remark("Failed to delete some node(s) in the subtree!");
                    return Ok(json!({ "path": top, "complete": false }));
                }
            }
        }
        None => {
            for each in &paths {
                context.client.delete(each, None).await.map_err(at(each))?;
            }
        }
    }
    Ok(json!({ "path": top, "complete": true, "deleted": paths.len() }))
}
