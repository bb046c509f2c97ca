//! `/v2/info` and `/metrics`: what this Marathon is and how it does.

use mesos::flags::Values;
use serde_json::{Map, Value, json};
use web::prometheus::Families;

use super::actor::Look;
use crate::VERSION;

/// Keys of `marathon_config` that are options of the same name.
const CONFIG: &[&str] = &[
    "access_control_allow_origin",
    "checkpoint",
    "decline_offer_duration",
    "env_vars_prefix",
    "executor",
    "failover_timeout",
    "framework_name",
    "ha",
    "hostname",
    "launch_token_refresh_interval",
    "local_port_max",
    "local_port_min",
    "master",
    "max_instances_per_offer",
    "mesos_heartbeat_failure_threshold",
    "mesos_heartbeat_interval",
    "mesos_leader_ui_url",
    "mesos_role",
    "mesos_user",
    "min_revive_offers_interval",
    "offer_matching_timeout",
    "on_elected_prepare_timeout",
    "reconciliation_initial_delay",
    "reconciliation_interval",
    "scale_apps_initial_delay",
    "scale_apps_interval",
    "store_cache",
    "task_launch_confirm_timeout",
    "task_launch_timeout",
    "task_lost_expunge_initial_delay",
    "task_lost_expunge_interval",
    "task_reservation_timeout",
    "webui_url",
];

/// Keys of `zookeeper_config`.
const ZOOKEEPER: &[&str] = &[
    "zk",
    "zk_compression",
    "zk_compression_threshold",
    "zk_connection_timeout",
    "zk_max_node_size",
    "zk_max_versions",
    "zk_session_timeout",
    "zk_timeout",
];

/// Options as JSON: switches and numbers as such, passwords hidden.
fn shown(flags: &Values, names: &[&str]) -> Map<String, Value> {
    let all = flags.as_strings();
    names
        .iter()
        .map(|name| {
            let value = match all.get(name).map(String::as_str) {
                None => Value::Null,
                Some("true") => json!(true),
                Some("false") => json!(false),
                Some(text) => {
                    text.parse::<u64>().map_or_else(|_| json!(text), |number| json!(number))
                }
            };
            ((*name).to_owned(), value)
        })
        .collect()
}

/// `/v2/info`.
pub(super) fn info(
    flags: &Values,
    elected: bool,
    leader: Option<&str>,
    look: Option<&Look>,
) -> Value {
    let mut config = shown(flags, CONFIG);
    for name in ["leader_proxy_connection_timeout", "leader_proxy_read_timeout"] {
        config.insert(format!("{name}_ms"), json!(flags.number(name)));
    }
    config.insert("launch_token".to_owned(), json!(flags.number("launch_tokens")));
    config.insert("features".to_owned(), json!([]));
    json!({
        "name": "marathon",
        "version": VERSION,
        "buildref": format!("meso-{}", env!("CARGO_PKG_VERSION")),
        "elected": elected,
        "leader": leader,
        "frameworkId": look.and_then(|look| look.framework_id.clone()),
        "marathon_config": config,
        "zookeeper_config": shown(flags, ZOOKEEPER),
        "http_config": {"http_port": flags.port("http_port"), "https_port": Value::Null},
    })
}

/// `/metrics`, in the original's form.
pub(super) fn metrics(look: &Look, started_ms: i64, now_ms: i64) -> Value {
    let mut gauges = Map::new();
    for (name, value) in look.gauges.as_object().into_iter().flatten() {
        gauges.insert(format!("marathon.{name}.gauge"), json!({"value": value}));
    }
    let seconds = (now_ms - started_ms) as f64 / 1e3;
    gauges.insert("marathon.uptime.gauge.seconds".to_owned(), json!({"value": seconds}));
    json!({
        "start": crate::core::timestamp(started_ms),
        "end": crate::core::timestamp(now_ms),
        "counters": {},
        "gauges": gauges,
        "histograms": {},
        "min-max-counters": {},
        "additional-data": {},
    })
}

/// `/metrics/prometheus`.
pub(super) fn prometheus(look: &Look, started_ms: i64, now_ms: i64) -> Families {
    let mut families = Families::default();
    for (name, value) in look.gauges.as_object().into_iter().flatten() {
        families.add(&format!("marathon_{name}"), &[], value.as_f64().unwrap_or_default());
    }
    families.add("marathon_uptime_seconds", &[], (now_ms - started_ms) as f64 / 1e3);
    families
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        let arguments = ["--zk=zk://me:secret@h/marathon", "--master=zk://me:secret@h/mesos"];
        let flags = crate::flags::load(arguments.map(str::to_owned), []).unwrap();
        let info = info(&flags, true, Some("h:8080"), None);
        assert!(!info.to_string().contains("secret"), "{info}");
        assert_eq!(info["marathon_config"]["failover_timeout"], 604_800);
        assert_eq!(info["marathon_config"]["checkpoint"], true);
    }

    #[test]
    fn metrics_have_the_originals_names() {
        let look = Look { framework_id: None, gauges: json!({"apps.active": 2}) };
        assert_eq!(metrics(&look, 0, 1500)["gauges"]["marathon.apps.active.gauge"]["value"], 2);
        let text = prometheus(&look, 0, 1500).text();
        assert_eq!(
            text,
            "# TYPE marathon_apps_active gauge\nmarathon_apps_active 2\n# TYPE marathon_uptime_seconds gauge\nmarathon_uptime_seconds 1.5\n"
        );
    }
}
