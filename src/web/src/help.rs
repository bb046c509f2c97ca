//! `/help`: which endpoints there are, in the original's forms (libprocess' `help.cpp`): JSON for programs, Markdown for
//! `curl`, a page for browsers.

use axum::response::Response;
use http::header::USER_AGENT;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::respond;

/// Endpoints by process: its name, and each endpoint's with a sentence on it. In order of their names.
pub type Endpoints = [(&'static str, &'static [(&'static str, &'static str)])];

/// What all daemons of Mesos have.
pub const FILES: &[(&str, &str)] = &[
    ("/browse", "Lists a directory: path=VALUE."),
    ("/debug", "Shows what virtual paths stand for."),
    ("/download", "Gives a file whole: path=VALUE."),
    ("/read", "Gives a part of a file: path=VALUE, offset=VALUE, length=VALUE."),
];
/// The same.
pub const LOGGING: &[(&str, &str)] =
    &[("/toggle", "Sets how much is logged, for a while: level=VALUE, duration=VALUE.")];
/// The same.
pub const METRICS: &[(&str, &str)] = &[
    ("/prometheus", "Shows all metrics as Prometheus reads them."),
    ("/snapshot", "Shows all metrics; timeout=VALUE is taken."),
];
/// The same.
pub const PROFILER: &[(&str, &str)] = &[
    ("/start", "There is no profiler: answers 400."),
    ("/stop", "There is no profiler: answers 400."),
];
/// The same.
pub const SYSTEM: &[(&str, &str)] = &[("/stats.json", "Shows load, memory and CPUs of the host.")];
/// The same.
pub const VERSION: &[(&str, &str)] = &[("/", "Shows the version.")];

/// Answers `/help`, `/help/<process>` and `/help/<process>/<endpoint>`; nothing for other paths.
pub fn answer(
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
    endpoints: &Endpoints,
) -> Option<Response> {
    let rest = path.strip_prefix("/help")?;
    if !rest.is_empty() && !rest.starts_with('/') {
        return None;
    }
    let rest = rest.trim_start_matches('/');
    if rest.is_empty() && respond::query_parameter(query, "format").as_deref() == Some("json") {
        return Some(respond::json(as_json(endpoints).to_string()));
    }
    let id = rest.split('/').next().unwrap_or_default();
    if !id.is_empty() && !endpoints.iter().any(|(own, _)| *own == id) {
        return Some(respond::not_found());
    }
    let Some(document) = markdown(rest, endpoints) else {
        let text = format!("No help available for '/{rest}'.\n");
        return Some(respond::text(StatusCode::BAD_REQUEST, text));
    };
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    Some(if agent.starts_with("curl") || agent.starts_with("HTTPie") {
        respond::body(StatusCode::OK, "text/x-markdown", document)
    } else {
        respond::body(StatusCode::OK, "text/html", page(&document))
    })
}

fn as_json(endpoints: &Endpoints) -> Value {
    let process = |(id, all): &(&str, &[(&str, &str)])| {
        let each =
            all.iter().map(|(name, line)| json!({"name": name, "text": text(id, name, line)}));
        json!({"id": id, "endpoints": each.collect::<Vec<_>>()})
    };
    json!({"processes": endpoints.iter().map(process).collect::<Vec<_>>()})
}

/// Where an endpoint is.
fn usage(id: &str, name: &str) -> String {
    format!("{id}{name}").trim_end_matches('/').to_owned()
}

fn text(id: &str, name: &str, line: &str) -> String {
    format!("### USAGE ###\n>        /{}\n\n### TL;DR; ###\n{line}\n", usage(id, name))
}

fn markdown(asked: &str, endpoints: &Endpoints) -> Option<String> {
    let list = |title: String, names: Vec<(String, String)>| {
        let lines = names.iter().map(|(name, _)| format!("> [/{name}][{name}]\n"));
        let links = names.iter().map(|(name, to)| format!("[{name}]: {to}\n"));
        format!("{title}\n{}\n{}", lines.collect::<String>(), links.collect::<String>())
    };
    if asked.is_empty() {
        let names = endpoints.iter().map(|(id, _)| ((*id).to_owned(), format!("/help/{id}")));
        return Some(list("## HELP".to_owned(), names.collect()));
    }
    let (id, name) = asked.split_once('/').unwrap_or((asked, ""));
    let (id, all) = endpoints.iter().find(|(own, _)| *own == id)?;
    if name.is_empty() {
        let names = all.iter().map(|(name, _)| (usage(id, name), format!("/help/{id}{name}")));
        return Some(list(format!("## `/{id}` ##"), names.collect()));
    }
    let (name, line) = all.iter().find(|(own, _)| own.trim_start_matches('/') == name)?;
    Some(text(id, name, line) + "\n")
}

/// What is asked for is not in it: only names of the tables are.
fn page(markdown: &str) -> String {
    let escaped = markdown.replace('&', "&amp;").replace('<', "&lt;");
    let shown = |line: &str| match line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")) {
        Some((name, to)) => Some(format!("<a href=\"{to}\">/{name}</a>")),
        None => (!line.starts_with("> [")).then(|| line.to_owned()),
    };
    let lines: Vec<String> = escaped.lines().filter_map(shown).collect();
    let body = lines.join("\n");
    format!("<html><head><title>Help</title></head><body><pre>{body}</pre></body></html>")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    const ENDPOINTS: &Endpoints = &[("files", FILES), ("version", VERSION)];

    async fn ask(path: &str, query: Option<&str>, agent: &'static str) -> Option<(u16, String)> {
        let headers = HeaderMap::from_iter([(USER_AGENT, agent.parse().unwrap())]);
        let response = answer(path, query, &headers, ENDPOINTS)?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Some((status, String::from_utf8_lossy(&body).into_owned()))
    }

    #[tokio::test]
    async fn every_endpoint_is_found_in_each_form() {
        let of = |path, query| async move { ask(path, query, "curl/8").await.unwrap() };
        let (status, json) = of("/help", Some("format=json")).await;
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (status, &json["processes"][0]["endpoints"][0]["name"]),
            (200, &json!("/browse"))
        );
        assert!(of("/help/", None).await.1.contains("> [/files][files]\n"));
        assert!(of("/help/files", None).await.1.contains("[files/browse]: /help/files/browse\n"));
        assert!(of("/help/files/read", None).await.1.contains(">        /files/read\n"));
        assert!(of("/help/version/", None).await.1.contains("[version]: /help/version/\n"));
        let unknown = (400, "No help available for '/files/x'.\n".to_owned());
        assert_eq!(of("/help/files/x", None).await, unknown);
        assert_eq!(of("/help/x", None).await.0, 404);
        assert_eq!(ask("/helpers", None, "curl").await, None);
        let page = ask("/help/files", None, "Mozilla").await.unwrap().1;
        assert!(page.contains("<a href=\"/help/files/read\">/files/read</a>"), "{page}");
    }
}
