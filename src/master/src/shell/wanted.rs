//! Operations on resources that operators ask for: from calls of `/api/v1`, and from the forms of the older endpoints.

use mesos::json::{self, Dialect};
use mesos::v1;
use mesos::v1::maintenance::Schedule;
use mesos::v1::master::{Call, call};
use mesos::v1::offer::Operation;
use mesos::v1::offer::operation::{
    self, Create, Destroy, GrowVolume, Reserve, ShrinkVolume, Unreserve,
};
use mesos::v1::quota::QuotaRequest;
use serde_json::Value;
use web::respond;

/// JSON, but an array where an object must be, or the other way round.
const OTHER_KIND: &str = "Unexpected JSON type parsed";

fn of(kind: operation::Type) -> Operation {
    Operation { r#type: Some(kind as i32), ..Default::default() }
}

/// The agent and the operation of a call; `None` if it names no agent.
pub(super) fn operation(call: Call) -> Option<(String, Box<Operation>)> {
    use operation::Type as T;
    if let Some(own) = call.reserve_resources {
        let reserve = Some(Reserve { source: own.source, resources: own.resources });
        return Some((own.agent_id.value, Box::new(Operation { reserve, ..of(T::Reserve) })));
    }
    if let Some(own) = call.unreserve_resources {
        let unreserve = Some(Unreserve { resources: own.resources });
        return Some((own.agent_id.value, Box::new(Operation { unreserve, ..of(T::Unreserve) })));
    }
    if let Some(own) = call.create_volumes {
        let create = Some(Create { volumes: own.volumes });
        return Some((own.agent_id.value, Box::new(Operation { create, ..of(T::Create) })));
    }
    if let Some(own) = call.destroy_volumes {
        let destroy = Some(Destroy { volumes: own.volumes });
        return Some((own.agent_id.value, Box::new(Operation { destroy, ..of(T::Destroy) })));
    }
    if let Some(own) = call.grow_volume {
        let grow_volume = Some(GrowVolume { volume: own.volume, addition: own.addition });
        return Some((
            own.agent_id?.value,
            Box::new(Operation { grow_volume, ..of(T::GrowVolume) }),
        ));
    }
    let own = call.shrink_volume?;
    let shrink_volume = Some(ShrinkVolume { volume: own.volume, subtract: own.subtract });
    Some((own.agent_id?.value, Box::new(Operation { shrink_volume, ..of(T::ShrinkVolume) })))
}

/// The agent and the operation of a form: `slaveId=…&resources=…` or `slaveId=…&volumes=…`.
///
/// # Errors
/// What is wrong with it, in the original's words.
pub(super) fn from_form(local: &str, form: &str) -> Result<(String, Box<Operation>), String> {
    use operation::Type as T;
    let name = if local.ends_with("volumes") { "volumes" } else { "resources" };
    let missing = |name: &str| format!("Missing '{name}' query parameter in the request body");
    let agent =
        respond::query_parameter(Some(form), "slaveId").ok_or_else(|| missing("slaveId"))?;
    let list = respond::query_parameter(Some(form), name).ok_or_else(|| missing(name))?;
    // The original's authors were not of one mind.
    let error = if local == "/reserve" { "Error parsing" } else { "Error in parsing" };
    let resources = resources(&list).map_err(|reason| {
        format!("{error} '{name}' query parameter in the request body: {reason}")
    })?;
    let operation = match local {
        "/reserve" => {
            Operation { reserve: Some(Reserve { resources, source: Vec::new() }), ..of(T::Reserve) }
        }
        "/unreserve" => Operation { unreserve: Some(Unreserve { resources }), ..of(T::Unreserve) },
        "/create-volumes" => {
            Operation { create: Some(Create { volumes: resources }), ..of(T::Create) }
        }
        _ => Operation { destroy: Some(Destroy { volumes: resources }), ..of(T::Destroy) },
    };
    Ok((agent, Box::new(operation)))
}

/// A change of quotas or maintenance, as the call of `/api/v1` that says the same; `None` if this is no such endpoint.
pub(super) fn planned(local: &str, text: &str) -> Option<Result<Box<Call>, String>> {
    use call::Type as T;
    let of = |kind: T| Box::new(Call { r#type: Some(kind as i32), ..Call::default() });
    Some(match local {
        "/quota" => quota(text).map(|quota_request| {
            let mut call = of(T::SetQuota);
            call.set_quota = Some(call::SetQuota { quota_request });
            call
        }),
        "/maintenance/schedule" => schedule(text).map(|schedule| {
            let mut call = of(T::UpdateMaintenanceSchedule);
            call.update_maintenance_schedule = Some(call::UpdateMaintenanceSchedule { schedule });
            call
        }),
        "/machine/down" => list(text).map(|machines| {
            let mut call = of(T::StartMaintenance);
            call.start_maintenance = Some(call::StartMaintenance { machines });
            call
        }),
        "/machine/up" => list(text).map(|machines| {
            let mut call = of(T::StopMaintenance);
            call.stop_maintenance = Some(call::StopMaintenance { machines });
            call
        }),
        _ => return None,
    })
}

/// The role that `DELETE /quota/<role>` names: what follows, slashes and all.
///
/// # Errors
/// When none follows.
pub(super) fn role_of_path(path: &str) -> Result<&str, String> {
    let mut rest = path;
    let mut count = 0;
    loop {
        rest = rest.trim_start_matches('/');
        match rest.split_once('/') {
            _ if rest.is_empty() => break,
            _ if count == 2 => return Ok(rest),
            Some((_, after)) => rest = after,
            None => rest = "",
        }
        count += 1;
    }
    Err(format!(
        "Failed to parse remove quota request for path '{path}': expected 3 tokens, found {count} tokens"
    ))
}

/// The quota of a `POST /quota`, or what is wrong with it, in the original's words.
fn quota(text: &str) -> Result<QuotaRequest, String> {
    let value = object(text)
        .map_err(|error| format!("Failed to parse set quota request JSON '{text}': {error}"))?;
    json::from_value(&value, Dialect::V0)
        .map_err(|error| format!("Failed to validate set quota request JSON '{text}': {error}"))
}

fn schedule(text: &str) -> Result<Schedule, String> {
    json::from_value(&object(text)?, Dialect::V0).map_err(|error| error.to_string())
}

fn resources(text: &str) -> Result<Vec<v1::Resource>, String> {
    list(text)
}

fn list<M: json::Json>(text: &str) -> Result<Vec<M>, String> {
    messages(&items(text)?)
}

/// What a text of JSON lists, or the original's words for why it is no list.
pub(super) fn items(text: &str) -> Result<Vec<Value>, String> {
    match json::parse(text.as_bytes()).map_err(|error| error.to_string())? {
        Value::Array(items) => Ok(items),
        _ => Err(OTHER_KIND.to_owned()),
    }
}

/// Each as a message, or why one is none.
pub(super) fn messages<M: json::Json>(items: &[Value]) -> Result<Vec<M>, String> {
    let read = |item| json::from_value(item, Dialect::V0).map_err(|error| error.to_string());
    items.iter().map(read).collect()
}

/// What must be an object is read as one.
fn object(text: &str) -> Result<Value, String> {
    match json::parse(text.as_bytes()).map_err(|error| error.to_string())? {
        value @ Value::Object(_) => Ok(value),
        _ => Err(OTHER_KIND.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_read_and_refused_in_the_originals_words() {
        let error = |local: &str, form: &str| from_form(local, form).unwrap_err();
        assert_eq!(
            error("/reserve", "resources=[]"),
            "Missing 'slaveId' query parameter in the request body"
        );
        assert_eq!(
            error("/destroy-volumes", "slaveId=a"),
            "Missing 'volumes' query parameter in the request body"
        );
        assert_eq!(
            error("/reserve", "slaveId=a&resources=nope"),
            "Error parsing 'resources' query parameter in the request body: syntax error at line 1 near: ope"
        );
        assert_eq!(
            error("/reserve", "slaveId=a&resources={}"),
            "Error parsing 'resources' query parameter in the request body: Unexpected JSON type parsed"
        );
        let (agent, operation) = from_form(
            "/unreserve",
            "slaveId=a&resources=%5B%7B%22name%22:%22cpus%22,%22type%22:%22SCALAR%22,%22scalar%22:%7B%22value%22:1%7D%7D%5D",
        )
        .unwrap();
        assert_eq!((agent.as_str(), operation.r#type()), ("a", operation::Type::Unreserve));
        assert_eq!(operation.unreserve.unwrap().resources[0].name, "cpus");
    }

    #[test]
    fn changes_of_plans_are_refused_in_the_originals_words() {
        let error = |local: &str, text: &str| planned(local, text).unwrap().unwrap_err();
        for (local, text, reason) in [
            (
                "/quota",
                "[]",
                "Failed to parse set quota request JSON '[]': Unexpected JSON type parsed",
            ),
            (
                "/quota",
                "",
                "Failed to parse set quota request JSON '': syntax error at line 1 near: ",
            ),
            ("/machine/down", "{}", OTHER_KIND),
            ("/machine/up", "[1]", "Expecting a JSON object"),
            ("/maintenance/schedule", "[]", OTHER_KIND),
        ] {
            assert_eq!(error(local, text), reason, "{local} {text}");
        }
        assert!(planned("/weights", "[]").is_none());
    }

    #[test]
    fn roles_of_paths_keep_their_slashes() {
        for (path, role) in [
            ("/master/quota/a", "a"),
            ("/master/quota//a/b", "a/b"),
            ("/master/quota/a/b/c", "a/b/c"),
            ("/master/quota/%2A", "%2A"),
        ] {
            assert_eq!(role_of_path(path), Ok(role), "{path}");
        }
        assert_eq!(
            role_of_path("/master/quota/").unwrap_err(),
            "Failed to parse remove quota request for path '/master/quota/': expected 3 tokens, found 2 tokens"
        );
    }
}
