//! The operator API's calls that start, await, end and remove containers (`slave/http.cpp`).

use std::collections::BTreeMap;

use axum::response::Response;
use http::StatusCode;
use mesos::resources::Resources;
use mesos::v1;
use mesos::v1::agent::{Call, Response as Answer, call, response};
use web::respond;

use super::http::{App, bad_request};
use super::operator_view::answer;
use crate::containerizer::{Problem, ResourceLimits};
use crate::core::container_id::ContainerId;
use crate::core::containers::{Ask, Class, Launched, NotRemoved, Termination};

/// Numbers of signals; 0 only asks whether there is a process.
const SIGNALS: std::ops::RangeInclusive<i32> = 0..=64;
/// What the refusal of a container begins with whose sandbox can't be made.
const NO_SANDBOX: &str = "Failed to create sandbox: ";

fn found(id: &v1::ContainerId) -> Result<ContainerId, Box<Response>> {
    // Checked with the whole call before.
    ContainerId::parse(id).map_err(|reason| Box::new(bad_request(reason)))
}

/// The container that a call asks for.
pub(super) fn ask(call: Call) -> Option<Ask> {
    let (id, class, command, container, resources, limits) = if let Some(launch) =
        call.launch_container
    {
        let (resources, limits) = (launch.resources, launch.limits);
        (launch.container_id, Class::Default, launch.command, launch.container, resources, limits)
    } else if let Some(launch) = call.launch_nested_container {
        let (class, command) = (Class::Default, launch.command);
        (launch.container_id, class, command, launch.container, Vec::new(), BTreeMap::new())
    } else {
        let launch = call.launch_nested_container_session?;
        let (class, command) = (Class::Session, launch.command);
        (launch.container_id, class, command, launch.container, Vec::new(), BTreeMap::new())
    };
    Some(Ask {
        id: ContainerId::parse(&id).ok()?,
        class,
        command: command.unwrap_or_default(),
        container,
        resources: Resources::from_protos(&resources),
        limits: ResourceLimits::of(&limits),
    })
}

impl App {
    /// Starts a container; the refusal if it can't be.
    pub(super) async fn launch(&self, ask: Ask) -> Result<Launched, Box<Response>> {
        match self.handle.launch_container(ask).await {
            Some(Ok(launched)) => Ok(launched),
            // The original makes a standalone container's sandbox itself, before it asks for the container.
            Some(Err(reason)) if reason.starts_with(NO_SANDBOX) => {
                Err(Box::new(respond::text(StatusCode::INTERNAL_SERVER_ERROR, reason)))
            }
            Some(Err(reason)) => Err(Box::new(bad_request(reason))),
            None => Err(Box::new(self.ending())),
        }
    }

    /// LAUNCH_CONTAINER, LAUNCH_NESTED_CONTAINER.
    pub(super) async fn launch_container(&self, call: Call) -> Response {
        let Some(ask) = ask(call) else { return bad_request("The container can't be read") };
        match self.launch(ask).await {
            Ok(Launched::Launching) => respond::empty(StatusCode::OK),
            Ok(Launched::Already) => respond::empty(StatusCode::ACCEPTED),
            Err(refusal) => *refusal,
        }
    }

    /// WAIT_CONTAINER, WAIT_NESTED_CONTAINER.
    pub(super) async fn wait_container(&self, call: Call) -> Result<Answer, Box<Response>> {
        let is_nested = call.r#type() == call::Type::WaitNestedContainer;
        let id = match (call.wait_nested_container, call.wait_container) {
            (Some(wait), _) if is_nested => wait.container_id,
            (_, wait) => wait.unwrap_or_default().container_id,
        };
        let id = found(&id)?;
        let Some(ended) = self.handle.wait_container(id.clone()).await else {
            return Err(Box::new(self.ending()));
        };
        let Some(termination) = ended else {
            let text = format!("Container {id} cannot be found");
            return Err(Box::new(respond::text(StatusCode::NOT_FOUND, text)));
        };
        let Termination { status, problem } = termination;
        let state = problem.as_ref().map(|_| v1::TaskState::TaskFailed as i32);
        let reason = problem.as_ref().map(|problem| problem.reason as i32);
        let limitation = problem.as_ref().and_then(Problem::limited_resources);
        let message = problem.map(|problem| problem.message);
        Ok(if is_nested {
            let wait = response::WaitNestedContainer {
                exit_status: status,
                state,
                reason,
                message,
                limitation,
            };
            let kind = response::Type::WaitNestedContainer;
            Answer { wait_nested_container: Some(wait), ..answer(kind) }
        } else {
            let wait =
                response::WaitContainer { exit_status: status, state, reason, message, limitation };
            Answer { wait_container: Some(wait), ..answer(response::Type::WaitContainer) }
        })
    }

    /// KILL_CONTAINER, KILL_NESTED_CONTAINER.
    pub(super) async fn kill_container(&self, call: Call) -> Response {
        let (id, signal) = match (call.kill_nested_container, call.kill_container) {
            (Some(kill), None) => (kill.container_id, kill.signal),
            (_, kill) => kill.map(|kill| (kill.container_id, kill.signal)).unwrap_or_default(),
        };
        let id = match found(&id) {
            Ok(id) => id,
            Err(refusal) => return *refusal,
        };
        if signal.is_some_and(|number| !SIGNALS.contains(&number)) {
            let text = "Unable to send signal to container: Invalid argument";
            return respond::text(StatusCode::INTERNAL_SERVER_ERROR, text);
        }
        let asked = id.clone();
        match self.handle.look(move |agent| agent.kill_container(&asked, signal)).await {
            Some(true) => respond::empty(StatusCode::OK),
            Some(false) => respond::text(
                StatusCode::NOT_FOUND,
                format!("Container '{id}' cannot be found (or is already killed)"),
            ),
            None => self.ending(),
        }
    }

    /// REMOVE_CONTAINER, REMOVE_NESTED_CONTAINER.
    pub(super) async fn remove_container(&self, call: Call) -> Response {
        let id = match (call.remove_nested_container, call.remove_container) {
            (Some(remove), None) => remove.container_id,
            (_, remove) => remove.unwrap_or_default().container_id,
        };
        let id = match found(&id) {
            Ok(id) => id,
            Err(refusal) => return *refusal,
        };
        let asked = id.clone();
        let removed = self.handle.look(move |agent| agent.remove_container(&asked)).await;
        let paths = match removed {
            Some(Ok(paths)) => paths,
            Some(Err(NotRemoved::Wrong(reason))) => return bad_request(reason),
            Some(Err(NotRemoved::State(reason))) => {
                return respond::text(StatusCode::INTERNAL_SERVER_ERROR, reason);
            }
            None => return self.ending(),
        };
        let removed = tokio::task::spawn_blocking(move || {
            let mut was_there = false;
            for path in paths {
                match std::fs::remove_dir_all(&path) {
                    Ok(()) => was_there = true,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(format!("{}: {error}", path.display())),
                }
            }
            Ok(was_there)
        });
        match removed.await {
            // A nested one may be removed twice.
            Ok(Ok(was_there)) if was_there || id.depth() > 0 => respond::empty(StatusCode::OK),
            Ok(Ok(_)) => {
                respond::text(StatusCode::NOT_FOUND, format!("Container {id} cannot be found"))
            }
            Ok(Err(reason)) => respond::text(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("Failed to remove the container: {reason}"),
            ),
            Err(_) => self.ending(),
        }
    }
}
