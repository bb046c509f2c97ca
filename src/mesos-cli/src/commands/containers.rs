//! `exec` and `attach`: being inside a task's container.

use anyhow::{Context as _, Result};
use mesos::v1;
use mesos::v1::agent::Call;
use mesos::v1::agent::call::{self, Type};

use super::Context;
use crate::find::{self, agent_call};
use crate::session;
use crate::terminal::{self, Raw};

/// What shells say of a process that a signal ended.
const SIGNALLED: i32 = 128;

/// An exit code from what `wait(2)` gives.
fn code(status: i32) -> u8 {
    let (exited, signal) = (status >> 8 & 0xff, status & 0x7f);
    u8::try_from(if signal == 0 { exited } else { SIGNALLED + signal }).unwrap_or(1)
}

pub(super) async fn exec(
    context: &Context,
    task: &str,
    command: Vec<String>,
    interactive: bool,
    tty: bool,
) -> Result<u8> {
    let client = &context.client;
    let found = find::task(client, task).await?;
    let container = v1::ContainerId {
        value: uuid::Uuid::new_v4().to_string(),
        parent: Some(Box::new(found.container(client).await?)),
    };
    let raw = tty.then(Raw::begin).transpose()?;
    let info = tty.then(|| v1::ContainerInfo {
        r#type: v1::container_info::Type::Mesos as i32,
        tty_info: Some(terminal::size()),
        ..Default::default()
    });
    let launch = Call {
        launch_nested_container_session: Some(call::LaunchNestedContainerSession {
            container_id: container.clone(),
            command: Some(v1::CommandInfo {
                shell: Some(false),
                value: command.first().cloned(),
                arguments: command,
                ..Default::default()
            }),
            container: info,
        }),
        ..agent_call(Type::LaunchNestedContainerSession)
    };
    let output = client.stream_from_agent(&found.agent, &launch).await?;
    let wait = Call {
        wait_nested_container: Some(call::WaitNestedContainer { container_id: container.clone() }),
        ..agent_call(Type::WaitNestedContainer)
    };
    let waiting = client.wait_at_agent(&found.agent, &wait);
    let input = async {
        if interactive {
            let records = session::standard_input(&container, tty);
            // A command that doesn't wait for its input is none the worse for it.
            let _ = client.stream_to_agent(&found.agent, records).await;
        }
        std::future::pending::<()>().await;
    };
    let both = futures::future::join(session::print(output), waiting);
    let (printed, waited) = tokio::select! {
        done = both => done,
        () = input => unreachable_input(),
    };
    drop(raw);
    printed?;
    let status = waited.context("how the command ended is not known")?;
    let status = status.wait_nested_container.and_then(|waited| waited.exit_status);
    Ok(status.map_or(1, code))
}

/// The input never ends by itself: the command does.
fn unreachable_input<T>() -> (Result<()>, Result<T>) {
    (Ok(()), Err(anyhow::anyhow!("the input ended before the command")))
}

pub(super) async fn attach(context: &Context, task: &str, interactive: bool) -> Result<()> {
    let client = &context.client;
    let found = find::task(client, task).await?;
    let container = found.container(client).await?;
    let call = Call {
        attach_container_output: Some(call::AttachContainerOutput {
            container_id: container.clone(),
        }),
        ..agent_call(Type::AttachContainerOutput)
    };
    let output = client.stream_from_agent(&found.agent, &call).await.context(
        "only what was started with a terminal or by `mesos exec` can be attached to; `mesos logs -f` follows others",
    )?;
    if !interactive {
        return session::print(output).await;
    }
    let has_tty = found.task.container.as_ref().is_some_and(|info| info.tty_info.is_some());
    let raw = has_tty.then(Raw::begin).transpose()?;
    let records = session::standard_input(&container, has_tty);
    let input = client.stream_to_agent(&found.agent, records);
    let (printed, input) = tokio::select! {
        printed = session::print(output) => (printed, Ok(())),
        input = input => (Ok(()), input),
    };
    drop(raw);
    printed.and(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_shells() {
        assert_eq!([0, 3 << 8, 9, 15].map(code), [0, 3, 137, 143]);
    }
}
