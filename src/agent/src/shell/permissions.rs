//! What a caller of the operator API may do (`slave/http.cpp`, `authorizer/local/authorizer.cpp`).

use access::Action;
use access::acls::Object;
use access::guard::Caller;
use mesos::v1;
use mesos::v1::agent::{Call, call};

use super::http::App;

/// What is done to a container, and as whom, where a command says so.
struct Wanted<'a> {
    action: Action,
    container: &'a v1::ContainerId,
    /// What is also needed to run something in it.
    command: Option<(Action, Option<&'a v1::CommandInfo>)>,
}

fn wanted(call: &Call) -> Option<Wanted<'_>> {
    use call::Type as T;
    let simple = |action, container| Some(Wanted { action, container, command: None });
    match call.r#type() {
        T::LaunchNestedContainer => {
            let launch = call.launch_nested_container.as_ref()?;
            let command = (Action::LaunchNestedContainersAsUser, launch.command.as_ref());
            Some(Wanted {
                action: Action::LaunchNestedContainersUnderParentWithUser,
                container: &launch.container_id,
                command: Some(command),
            })
        }
        T::LaunchNestedContainerSession => {
            let launch = call.launch_nested_container_session.as_ref()?;
            let command = (Action::LaunchNestedContainerSessionsAsUser, launch.command.as_ref());
            Some(Wanted {
                action: Action::LaunchNestedContainerSessionsUnderParentWithUser,
                container: &launch.container_id,
                command: Some(command),
            })
        }
        T::WaitNestedContainer => {
            let wait = call.wait_nested_container.as_ref()?;
            simple(Action::WaitNestedContainers, &wait.container_id)
        }
        T::KillNestedContainer => {
            let kill = call.kill_nested_container.as_ref()?;
            simple(Action::KillNestedContainers, &kill.container_id)
        }
        T::RemoveNestedContainer => {
            let remove = call.remove_nested_container.as_ref()?;
            simple(Action::RemoveNestedContainers, &remove.container_id)
        }
        T::AttachContainerInput => {
            let attach = call.attach_container_input.as_ref()?;
            simple(Action::AttachContainersInput, attach.container_id.as_ref()?)
        }
        T::AttachContainerOutput => {
            let attach = call.attach_container_output.as_ref()?;
            simple(Action::AttachContainersOutput, &attach.container_id)
        }
        _ => None,
    }
}

/// What an executor may do by its token alone: to containers in its own.
const IMPLICIT: &[Action] = &[
    Action::LaunchNestedContainersUnderParentWithUser,
    Action::LaunchNestedContainerSessionsUnderParentWithUser,
    Action::WaitNestedContainers,
    Action::KillNestedContainers,
    Action::RemoveNestedContainers,
    Action::AttachContainersOutput,
];

fn root(mut id: &v1::ContainerId) -> &str {
    while let Some(parent) = id.parent.as_deref() {
        id = parent;
    }
    &id.value
}

impl App {
    /// Whether a caller may make a call that was checked before. A container belongs to the user of the executor that it
    /// is, or is in; of one whose user isn't known a caller must be allowed what it wants of all users.
    pub(super) async fn may_call(&self, caller: &Caller, call: &Call) -> bool {
        let Some(wanted) = wanted(call) else { return may(caller, call.r#type()) };
        let root = root(wanted.container);
        if let Some(claims) = &caller.claims {
            return IMPLICIT.contains(&wanted.action) && claims.get("cid") == Some(root);
        }
        if let Some((action, Some(command))) = wanted.command {
            let user = command.user.as_deref().map_or(Object::Any, Object::Named);
            if !caller.may(action, user) {
                return false;
            }
        }
        if caller.may_whatever(wanted.action) {
            return true;
        }
        let id = root.to_owned();
        let owner = self.handle.look(move |agent| agent.owner(&id)).await.flatten();
        owner.is_some_and(|user| caller.may(wanted.action, Object::Named(&user)))
    }
}

/// As [`App::may_call`], where nobody's container is concerned.
fn may(caller: &Caller, kind: call::Type) -> bool {
    use call::Type as T;
    let action = match kind {
        T::GetFlags => return caller.may_any(Action::ViewFlags),
        T::SetLoggingLevel => return caller.may_any(Action::SetLogLevel),
        T::PruneImages => return caller.may_any(Action::PruneImages),
        T::LaunchContainer => Action::LaunchStandaloneContainers,
        T::WaitContainer => Action::WaitStandaloneContainers,
        T::KillContainer => Action::KillStandaloneContainers,
        T::RemoveContainer => Action::RemoveStandaloneContainers,
        T::AddResourceProviderConfig
        | T::UpdateResourceProviderConfig
        | T::RemoveResourceProviderConfig => Action::ModifyResourceProviderConfigs,
        _ => return true,
    };
    caller.may_whatever(action)
}
