//! The executors that come with the agent, and other programs that its binary is under other names: programs of their own, so that tasks outlive the agent. They speak the v1
//! executor API to it, and wait for it when it is away.

pub mod agent_api;
pub mod client;
pub mod command;
pub mod default;
pub mod docker;
pub mod health;
pub mod pod;

use crate::containerizer::cni::port_mapper;
use crate::containerizer::helper;

/// Runs the program that `arguments` name, if it is one of ours: the first is the name that it was started under.
/// `None` if it is another.
pub fn multicall(arguments: &[String]) -> Option<std::process::ExitCode> {
    let name = std::path::Path::new(arguments.first()?).file_name()?.to_str()?.to_owned();
    let rest: Vec<String> = arguments.iter().skip(1).cloned().collect();
    let run = match name.as_str() {
        helper::NAME => return Some(exit_code(&name, helper::run(&rest))),
        port_mapper::NAME => return Some(port_mapper::run()),
        "mesos-executor" => Program::Command,
        "mesos-default-executor" => Program::Default,
        "mesos-docker-executor" => Program::Docker,
        _ => return None,
    };
    let ended = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            runtime.block_on(async {
                match run {
                    Program::Command => command::run().await,
                    Program::Default => default::run().await,
                    Program::Docker => Box::pin(docker::run(&rest)).await,
                }
            })
        });
    Some(exit_code(&name, ended))
}

fn exit_code(name: &str, ended: anyhow::Result<()>) -> std::process::ExitCode {
    match ended {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "{name}: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// The variable that tells a task in which role's name it has its resources.
fn allocation_role(task: &mesos::v1::TaskInfo) -> (String, String) {
    let role = mesos::model::role(&task.resources).unwrap_or("*");
    ("MESOS_ALLOCATION_ROLE".to_owned(), role.to_owned())
}

enum Program {
    Command,
    Default,
    Docker,
}
