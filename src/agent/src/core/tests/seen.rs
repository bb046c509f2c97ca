//! What the agent shows, and to whom.

use std::collections::BTreeMap;
use std::sync::Arc;

use access::Acls;
use access::guard::Caller;

use super::*;
use crate::shell::{containers, operator_view, view};

/// How much of each is shown: frameworks, executors, tasks, containers.
fn shown(own: &Conversation, acls: &str) -> ([usize; 4], serde_json::Value) {
    let acls = Arc::new(Acls::parse(acls).unwrap());
    let caller = Caller { acls, ..Caller::default() };
    let flags = BTreeMap::from([("log_dir", "/l".to_owned())]);
    let state = view::state(&own.agent, 0.0, &flags, &caller);
    let executors = state["frameworks"][0]["executors"].as_array().cloned().unwrap_or_default();
    let tasks = executors.first().map_or(0, |own| own["tasks"].as_array().unwrap().len());
    let message = operator_view::state(&own.agent, &caller);
    let found = (
        message.get_frameworks.unwrap().frameworks.len(),
        message.get_executors.unwrap().executors.len(),
        message.get_tasks.unwrap().launched_tasks.len(),
    );
    let frameworks = state["frameworks"].as_array().unwrap().len();
    assert_eq!(found, (frameworks, executors.len(), tasks), "both forms show the same");
    let all =
        v1::agent::call::GetContainers { show_nested: Some(true), show_standalone: Some(true) };
    let containers = containers::all(&own.agent, &caller, all).len();
    assert_eq!(containers::of_executors(&own.agent, &caller).len(), containers);
    ([frameworks, executors.len(), tasks, containers], state)
}

#[test]
fn what_may_not_be_seen_is_left_out() {
    let (own, _) = Conversation::running("t");
    let none = |what: &str, object: &str| {
        format!(r#"{{"{what}":[{{"principals":{{"type":"ANY"}},"{object}":{{"type":"NONE"}}}}]}}"#)
    };
    for (acls, expected) in [
        ("{}".to_owned(), [1, 1, 1, 1]),
        (none("view_frameworks", "users"), [0, 0, 0, 1]),
        (none("view_executors", "users"), [1, 0, 0, 1]),
        (none("view_tasks", "users"), [1, 1, 0, 1]),
        (none("view_containers", "users"), [1, 1, 1, 0]),
    ] {
        let (found, state) = shown(&own, &acls);
        assert_eq!(found, expected, "{acls}");
        assert_eq!(state["flags"]["log_dir"], "/l");
    }
    let (_, state) = shown(&own, &none("view_flags", "flags"));
    assert!(state["flags"].is_null() && state["log_dir"].is_null(), "{state}");
}
