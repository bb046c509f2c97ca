//! `POST /api/v1`: the operator API (`slave/http.cpp`).

use access::guard::Caller;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use mesos::content::ContentType;
use mesos::v1;
use mesos::v1::agent::{Call, Response as Answer, call, response};
use web::files::FileError;
use web::{files, logging, respond};

use super::http::{App, BODY_MAX, bad_request};
use super::media::{self, Media, Wanted};
use super::{containers, metrics, operator_view};
use crate::core::validation;

/// Answers a request.
pub(super) async fn handle(
    app: &App,
    caller: &Caller,
    headers: &HeaderMap,
    body: Body,
) -> Response {
    let wanted = match Wanted::from_headers(headers) {
        Ok(wanted) => wanted,
        Err(refusal) => return *refusal,
    };
    let content = match wanted.content {
        Media::One(content) => content,
        // Only the input of containers comes as a stream.
        Media::Stream(content) => return app.attach_input(caller, wanted, content, body).await,
    };
    let body = match Limited::new(body, BODY_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return bad_request("The body can't be read"),
    };
    let call = match parse(content, &body) {
        Ok(call) => call,
        Err(reason) => return bad_request(reason),
    };
    let name = call.r#type().as_str_name();
    if call.r#type() == call::Type::AttachContainerInput {
        let text = format!("Expecting 'Content-Type' to be application/recordio for {name} call");
        return respond::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
    }
    if !app.may_call(caller, &call).await {
        return respond::forbidden();
    }
    match call.r#type() {
        call::Type::AttachContainerOutput => return app.attach_output(wanted.accept, call).await,
        call::Type::LaunchNestedContainerSession => {
            return app.launch_session(wanted.accept, call).await;
        }
        _ => {}
    }
    let Media::One(accept) = wanted.accept else {
        let text = format!("Streaming response is not supported for {name} call");
        return respond::text(StatusCode::NOT_ACCEPTABLE, text);
    };
    one(app, caller, accept, call).await
}

/// Reads and checks a call.
pub(super) fn parse(content: ContentType, body: &[u8]) -> Result<Call, String> {
    let call: Call = media::decode(content, body)?;
    validation::validate(&call)
        .map_err(|reason| format!("Failed to validate agent::Call: {reason}"))?;
    Ok(call)
}

/// A reply with a message in it.
fn reply(accept: ContentType, answer: &Answer) -> Response {
    respond::body(StatusCode::OK, accept.as_str(), accept.encode(answer))
}

/// A call that gets one answer.
async fn one(app: &App, caller: &Caller, accept: ContentType, call: Call) -> Response {
    use call::Type as T;
    let kind = call.r#type();
    let answer = match kind {
        T::Unknown => return respond::text(StatusCode::NOT_IMPLEMENTED, "501 Not Implemented."),
        T::SetLoggingLevel => {
            let set = call.set_logging_level.unwrap_or_default();
            logging::set_verbosity(set.level, set.duration.duration());
            return respond::empty(StatusCode::OK);
        }
        T::PruneImages => return prune_images(app, call).await,
        T::ListFiles | T::ReadFile => match file(app, caller, call).await {
            Ok(answer) => Some(answer),
            Err(error) => return error.into_response(),
        },
        T::LaunchContainer | T::LaunchNestedContainer => return app.launch_container(call).await,
        T::KillContainer | T::KillNestedContainer => return app.kill_container(call).await,
        T::RemoveContainer | T::RemoveNestedContainer => return app.remove_container(call).await,
        T::WaitContainer | T::WaitNestedContainer => match app.wait_container(call).await {
            Ok(answer) => Some(answer),
            Err(refusal) => return *refusal,
        },
        T::AddResourceProviderConfig
        | T::UpdateResourceProviderConfig
        | T::RemoveResourceProviderConfig => return no_resource_provider(kind, call),
        // As the original says of one that it doesn't know.
        T::MarkResourceProviderGone => return respond::empty(StatusCode::OK),
        _ => shown(app, caller, kind, call).await,
    };
    match answer {
        Some(answer) => reply(accept, &answer),
        None => app.ending(),
    }
}

/// Refuses configurations of resource providers: this agent has none.
fn no_resource_provider(kind: call::Type, call: Call) -> Response {
    const STORAGE: &str = "org.apache.mesos.rp.local.storage";
    let added = call.add_resource_provider_config.map(|add| add.info);
    let info = added.or_else(|| call.update_resource_provider_config.map(|update| update.info));
    match info.filter(|info| info.r#type != STORAGE) {
        Some(info) => respond::text(
            StatusCode::BAD_REQUEST,
            format!(
                "Failed to validate resource provider config with type '{0}' and name '{1}': Unknown local resource provider type '{0}'",
                info.r#type, info.name
            ),
        ),
        None => {
            let text = format!("{}: this agent has no resource providers", kind.as_str_name());
            respond::text(StatusCode::NOT_IMPLEMENTED, text)
        }
    }
}

/// Removes images that nobody needs. Without images there is nothing to do.
async fn prune_images(app: &App, call: Call) -> Response {
    let Some(provisioner) = &app.provisioner else { return respond::empty(StatusCode::OK) };
    let asked = call.prune_images.map(|prune| prune.excluded_images).unwrap_or_default();
    let kept = [asked, app.kept_images.to_vec()].concat();
    match provisioner.prune(&kept).await {
        Ok(()) => respond::empty(StatusCode::OK),
        Err(reason) => respond::text(StatusCode::INTERNAL_SERVER_ERROR, reason),
    }
}

/// What is shown; `None` when the agent is ending.
async fn shown(app: &App, caller: &Caller, kind: call::Type, call: Call) -> Option<Answer> {
    let caller = caller.clone();
    use call::Type as T;
    use operator_view::answer;
    use response::Type as R;
    Some(match kind {
        T::GetHealth => Answer {
            get_health: Some(response::GetHealth { healthy: true }),
            ..answer(R::GetHealth)
        },
        T::GetVersion => Answer {
            get_version: Some(response::GetVersion { version_info: version() }),
            ..answer(R::GetVersion)
        },
        T::GetFlags => {
            let flag = |(name, value): (&&str, &String)| v1::Flag {
                name: (*name).to_owned(),
                value: Some(value.clone()),
            };
            let flags = app.flags.as_strings().iter().map(flag).collect();
            Answer { get_flags: Some(response::GetFlags { flags }), ..answer(R::GetFlags) }
        }
        T::GetMetrics => {
            let uptime = app.started.elapsed().as_secs_f64();
            let mut all = app.handle.look(move |agent| metrics::metrics(agent, uptime)).await?;
            all.extend(app.fetching.metrics().map(|(name, value)| (name.to_owned(), value)));
            all.extend(metrics::system());
            let metric = |(name, value)| v1::Metric { name, value: Some(value) };
            let metrics = all.into_iter().map(metric).collect();
            Answer { get_metrics: Some(response::GetMetrics { metrics }), ..answer(R::GetMetrics) }
        }
        T::GetLoggingLevel => Answer {
            get_logging_level: Some(response::GetLoggingLevel { level: logging::verbosity() }),
            ..answer(R::GetLoggingLevel)
        },
        T::GetState => Answer {
            get_state: Some(
                app.handle.look(move |agent| operator_view::state(agent, &caller)).await?,
            ),
            ..answer(R::GetState)
        },
        T::GetFrameworks => Answer {
            get_frameworks: Some(
                app.handle.look(move |agent| operator_view::frameworks(agent, &caller)).await?,
            ),
            ..answer(R::GetFrameworks)
        },
        T::GetExecutors => Answer {
            get_executors: Some(
                app.handle.look(move |agent| operator_view::executors(agent, &caller)).await?,
            ),
            ..answer(R::GetExecutors)
        },
        T::GetTasks => Answer {
            get_tasks: Some(
                app.handle.look(move |agent| operator_view::tasks(agent, &caller)).await?,
            ),
            ..answer(R::GetTasks)
        },
        T::GetAgent => Answer {
            get_agent: Some(app.handle.look(|agent| operator_view::agent(agent)).await?),
            ..answer(R::GetAgent)
        },
        T::GetContainers => Answer {
            // Without containers the member is left out.
            get_containers: app.containers(caller, call.get_containers.unwrap_or_default()).await?,
            ..answer(R::GetContainers)
        },
        T::GetOperations => Answer {
            get_operations: Some(
                app.handle.look(move |agent| operator_view::operations(agent, &caller)).await?,
            ),
            ..answer(R::GetOperations)
        },
        T::GetResourceProviders => Answer {
            get_resource_providers: Some(response::GetResourceProviders::default()),
            ..answer(R::GetResourceProviders)
        },
        _ => Answer::default(),
    })
}

fn version() -> v1::VersionInfo {
    v1::VersionInfo {
        version: mesos::VERSION.to_owned(),
        build_date: Some(crate::BUILD_DATE.to_owned()),
        build_time: Some(crate::BUILD_TIME),
        build_user: Some("meso".to_owned()),
        ..Default::default()
    }
}

impl App {
    /// What runs, with what it uses; `None` inside when nothing runs.
    async fn containers(
        &self,
        caller: Caller,
        wanted: call::GetContainers,
    ) -> Option<Option<response::GetContainers>> {
        let all = self.handle.look(move |agent| containers::all(agent, &caller, wanted)).await?;
        let now = self.start_time + self.started.elapsed().as_secs_f64();
        let cgroups = self.cgroups.clone();
        let message = move |shown: &containers::Shown| shown.message(now, cgroups.as_ref());
        let read = move || all.iter().map(message).collect::<Vec<_>>();
        let containers = tokio::task::spawn_blocking(read).await.ok()?;
        Some((!containers.is_empty()).then_some(response::GetContainers { containers }))
    }
}

async fn file(app: &App, caller: &Caller, call: Call) -> Result<Answer, FileError> {
    let attached = app.attached(caller).await;
    if let Some(wanted) = call.list_files {
        let file_infos = files::listed(attached, wanted.path).await?;
        return Ok(Answer {
            list_files: Some(response::ListFiles { file_infos }),
            ..operator_view::answer(response::Type::ListFiles)
        });
    }
    let wanted = call.read_file.unwrap_or_default();
    let (size, data) =
        files::sliced(attached, wanted.path, Some(wanted.offset), wanted.length).await?;
    Ok(Answer {
        read_file: Some(response::ReadFile { size, data }),
        ..operator_view::answer(response::Type::ReadFile)
    })
}
