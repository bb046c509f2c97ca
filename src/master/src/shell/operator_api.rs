//! `POST /api/v1`: the operator API.

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use mesos::v1;
use mesos::v1::master::{Call, Response as Answer, call, response};
use web::respond;

use super::http::{App, bad_request};
use super::scheduler_api::{accepted, content_type};
use crate::view::{metrics, operator};

/// Answers a call.
pub(super) async fn handle(app: &App, headers: &HeaderMap, body: Bytes) -> Response {
    use call::Type as T;
    let content = match content_type(headers) {
        Ok(content) => content,
        Err(response) => return *response,
    };
    let call: Call = match content.decode(&body) {
        Ok(call) => call,
        Err(error) => return bad_request(error.to_string()),
    };
    let kind = call.r#type.map_or(T::Unknown, |_| call.r#type());
    if kind == T::Unknown {
        return bad_request("Failed to validate master::Call: Expecting 'type' to be present");
    }
    let accepted = match accepted(headers) {
        Ok(accepted) => accepted,
        Err(response) => return *response,
    };
    let answer =
        |answer: Answer| respond::body(StatusCode::OK, accepted.as_str(), accepted.encode(&answer));
    let start = app.start_time;
    macro_rules! look {
        ($field:ident, $kind:ident, $look:expr) => {
            match app.handle.look($look).await {
                Some(value) => answer(Answer {
                    $field: Some(value),
                    ..operator::answer(response::Type::$kind)
                }),
                None => app.not_recovered(),
            }
        };
    }
    match kind {
        T::GetHealth => answer(Answer {
            get_health: Some(response::GetHealth { healthy: true }),
            ..operator::answer(response::Type::GetHealth)
        }),
        T::GetVersion => {
            let info = v1::VersionInfo {
                version: mesos::VERSION.to_owned(),
                build_date: Some(crate::BUILD_DATE.to_owned()),
                build_time: Some(crate::BUILD_TIME),
                build_user: Some("meso".to_owned()),
                ..Default::default()
            };
            answer(Answer {
                get_version: Some(response::GetVersion { version_info: info }),
                ..operator::answer(response::Type::GetVersion)
            })
        }
        T::GetFlags => {
            let flags = app
                .flags
                .as_strings()
                .iter()
                .map(|(name, value)| v1::Flag {
                    name: (*name).to_owned(),
                    value: Some(value.clone()),
                })
                .collect();
            answer(Answer {
                get_flags: Some(response::GetFlags { flags }),
                ..operator::answer(response::Type::GetFlags)
            })
        }
        T::GetMetrics => {
            let uptime = app.started.elapsed().as_secs_f64();
            let all =
                app.handle.look(move |master, _| metrics::snapshot(Some(master), uptime)).await;
            let all = all.unwrap_or_else(|| metrics::snapshot(None, uptime));
            let metrics = all
                .into_iter()
                .map(|(name, value)| v1::Metric { name, value: Some(value) })
                .collect();
            answer(Answer {
                get_metrics: Some(response::GetMetrics { metrics }),
                ..operator::answer(response::Type::GetMetrics)
            })
        }
        T::GetState => look!(get_state, GetState, |master, _| operator::state(master)),
        T::GetAgents => look!(get_agents, GetAgents, |master, _| operator::agents(master)),
        T::GetFrameworks => {
            look!(get_frameworks, GetFrameworks, |master, _| operator::frameworks(master))
        }
        T::GetExecutors => {
            look!(get_executors, GetExecutors, |master, _| operator::executors(master))
        }
        T::GetTasks => look!(get_tasks, GetTasks, |master, _| operator::tasks(master)),
        T::GetRoles => look!(get_roles, GetRoles, |master, _| operator::roles(master)),
        T::GetMaster => {
            look!(get_master, GetMaster, move |master, _| operator::master(master, start))
        }
        T::Teardown => match call.teardown {
            None => {
                bad_request("Failed to validate master::Call: Expecting 'teardown' to be present")
            }
            Some(teardown) => app.teardown(teardown.framework_id.value).await,
        },
        other => respond::text(
            StatusCode::NOT_IMPLEMENTED,
            format!("{} is not supported by this master yet", other.as_str_name()),
        ),
    }
}
