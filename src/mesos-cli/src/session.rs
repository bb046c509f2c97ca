//! The input and output of a container, over the agent's streams.

use std::io::{Write as _, stderr, stdout};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures::StreamExt as _;
use mesos::recordio::{self, Decoder};
use mesos::v1::agent::{Call, ProcessIo, call, process_io};
use mesos::v1::{self, agent};
use prost::Message as _;
use reqwest::{Body, Response};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::find::agent_call;
use crate::terminal;

/// Longest record taken, in bytes.
const RECORD_MAX: usize = 16 << 20;
/// Most bytes of input in one record.
const INPUT_MAX: usize = 16 << 10;

/// Prints what a container writes, until its stream ends.
///
/// # Errors
/// When the stream breaks, or here nobody takes what is printed.
pub(crate) async fn print(response: Response) -> Result<()> {
    let mut chunks = response.bytes_stream();
    let mut decoder = Decoder::new(RECORD_MAX);
    while let Some(chunk) = chunks.next().await {
        decoder.push(&chunk.context("the container's output broke off")?);
        while let Some(record) = decoder.next()? {
            let part = ProcessIo::decode(record).context("the container's output is unreadable")?;
            let Some(data) = part.data else { continue };
            let bytes = data.data.unwrap_or_default();
            if data.r#type == Some(process_io::data::Type::Stderr as i32) {
                stderr().write_all(&bytes)?;
                stderr().flush()?;
            } else {
                stdout().write_all(&bytes)?;
                stdout().flush()?;
            }
        }
    }
    Ok(())
}

fn input(container: &v1::ContainerId, part: Option<ProcessIo>) -> Bytes {
    use call::attach_container_input::Type;
    let kind = if part.is_some() { Type::ProcessIo } else { Type::ContainerId };
    let call = Call {
        attach_container_input: Some(call::AttachContainerInput {
            r#type: Some(kind as i32),
            container_id: part.is_none().then(|| container.clone()),
            process_io: part,
        }),
        ..agent_call(agent::call::Type::AttachContainerInput)
    };
    recordio::encode(&call.encode_to_vec())
}

fn typed(bytes: Vec<u8>) -> ProcessIo {
    ProcessIo {
        r#type: Some(process_io::Type::Data as i32),
        data: Some(process_io::Data {
            r#type: Some(process_io::data::Type::Stdin as i32),
            data: Some(bytes),
        }),
        control: None,
    }
}

fn resized() -> ProcessIo {
    ProcessIo {
        r#type: Some(process_io::Type::Control as i32),
        data: None,
        control: Some(process_io::Control {
            r#type: Some(process_io::control::Type::TtyInfo as i32),
            tty_info: Some(terminal::size()),
            heartbeat: None,
        }),
    }
}

/// What is typed here, and how the terminal's size changes, as a stream to an agent. Its end is told as an empty input.
pub(crate) fn standard_input(container: &v1::ContainerId, tty: bool) -> Body {
    let (records, queue) = mpsc::channel::<Result<Bytes, std::io::Error>>(8);
    let container = container.clone();
    tokio::spawn(async move {
        if records.send(Ok(input(&container, None))).await.is_err() {
            return;
        }
        let mut typing = tokio::io::stdin();
        let mut sizes = signal(SignalKind::window_change()).ok().filter(|_| tty);
        let mut buffer = vec![0; INPUT_MAX];
        loop {
            let change = async {
                match &mut sizes {
                    Some(sizes) => sizes.recv().await,
                    None => std::future::pending().await,
                }
            };
            let (part, is_end) = tokio::select! {
                _ = change => (resized(), false),
                read = typing.read(&mut buffer) => {
                    let count = read.unwrap_or_default();
                    (typed(buffer[..count].to_vec()), count == 0)
                }
            };
            if records.send(Ok(input(&container, Some(part)))).await.is_err() || is_end {
                return;
            }
        }
    });
    Body::wrap_stream(ReceiverStream::new(queue))
}
