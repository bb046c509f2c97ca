//! `logs`, `ls`, `cp`: what is in a task's sandbox.

use std::io::{Write as _, stdout};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use mesos::v1::agent::call::{self, Type};
use mesos::v1::agent::{Call, response};
use tokio::io::AsyncWriteExt as _;

use super::Context;
use crate::find::{self, Found, agent_call};
use crate::show;

/// How much is read at once, in bytes.
const CHUNK: u64 = 64 << 10;
/// How often a file that is followed is looked at.
const INTERVAL: Duration = Duration::from_millis(500);

async fn read(
    context: &Context,
    found: &Found,
    path: &str,
    offset: u64,
) -> Result<response::ReadFile> {
    let call = Call {
        read_file: Some(call::ReadFile { path: path.to_owned(), offset, length: Some(CHUNK) }),
        ..agent_call(Type::ReadFile)
    };
    let answer = context.client.call_agent(&found.agent, &call).await;
    let answer = answer.with_context(|| found.cannot("read", path))?;
    Ok(answer.read_file.unwrap_or_default())
}

/// Where the last `lines` lines of a file begin.
async fn tail(context: &Context, found: &Found, path: &str, lines: usize) -> Result<u64> {
    let size = read(context, found, path, 0).await?.size;
    let mut wanted = lines;
    let mut end = size;
    while end > 0 {
        let start = end.saturating_sub(CHUNK);
        let mut data = read(context, found, path, start).await?.data;
        data.truncate((end - start) as usize);
        for (index, byte) in data.iter().enumerate().rev() {
            let is_last = start + index as u64 + 1 == size;
            if *byte == b'\n' && !is_last {
                wanted = wanted.saturating_sub(1);
                if wanted == 0 {
                    return Ok(start + index as u64 + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

pub(super) async fn logs(
    context: &Context,
    task: &str,
    file: &str,
    follow: bool,
    lines: Option<usize>,
) -> Result<()> {
    let found = find::task(&context.client, task).await?;
    let path = found.sandbox(file);
    let mut offset = match lines {
        Some(0) => read(context, &found, &path, 0).await?.size,
        Some(lines) => tail(context, &found, &path, lines).await?,
        None => 0,
    };
    loop {
        let part = read(context, &found, &path, offset).await?;
        if part.size < offset {
            // Begun anew, as by rotation.
            offset = 0;
            continue;
        }
        if part.data.is_empty() {
            if !follow {
                return Ok(());
            }
            tokio::time::sleep(INTERVAL).await;
            continue;
        }
        stdout().write_all(&part.data)?;
        stdout().flush()?;
        offset += part.data.len() as u64;
    }
}

pub(super) async fn list(context: &Context, task: &str, path: &str) -> Result<()> {
    let found = find::task(&context.client, task).await?;
    let call = Call {
        list_files: Some(call::ListFiles { path: found.sandbox(path) }),
        ..agent_call(Type::ListFiles)
    };
    let answer = context.client.call_agent(&found.agent, &call).await;
    let answer = answer.with_context(|| found.cannot("list", &found.sandbox(path)))?;
    let shown = answer.list_files.unwrap_or_default();
    if context.json {
        return show::message(&shown);
    }
    let rows: Vec<Vec<String>> = shown
        .file_infos
        .iter()
        .map(|file| {
            let name = Path::new(&file.path).file_name().unwrap_or_default();
            // The type is in the mode, as stat(2) has it.
            let is_directory = file.mode() & 0o170_000 == 0o040_000;
            let slash = if is_directory { "/" } else { "" };
            vec![
                format!("{:o}", file.mode() & 0o7777),
                file.uid().to_owned(),
                file.size().to_string(),
                format!("{}{slash}", name.to_string_lossy()),
            ]
        })
        .collect();
    show::table(&["MODE", "OWNER", "SIZE", "NAME"], &rows)
}

pub(super) async fn copy(context: &Context, source: &str, target: &Path) -> Result<()> {
    let (task, path) = source
        .split_once(':')
        .with_context(|| format!("'{source}' names no file: expecting TASK:PATH"))?;
    let found = find::task(&context.client, task).await?;
    let path = found.sandbox(path);
    let parameters = [("path", path.as_str())];
    let response = context.client.get(&found.agent, "/files/download", &parameters).await;
    let response = response.with_context(|| found.cannot("copy", &path))?;
    let mut chunks = response.bytes_stream();
    if target == Path::new("-") {
        while let Some(chunk) = chunks.next().await {
            stdout().write_all(&chunk?)?;
        }
        return Ok(stdout().flush()?);
    }
    let name = Path::new(&path).file_name().unwrap_or_default();
    let target = if target.is_dir() { target.join(name) } else { target.to_owned() };
    let to = || format!("cannot write {}", target.display());
    let mut file = tokio::fs::File::create(&target).await.with_context(to)?;
    while let Some(chunk) = chunks.next().await {
        file.write_all(&chunk.context("the file broke off")?).await.with_context(to)?;
    }
    file.flush().await.with_context(to)
}
