//! Marathon's options: names and defaults of 1.8 (`MarathonConf`, `MarathonSchedulerServiceConf`, …), and the forms in
//! which they are given: `--name value`, `--name=value`, `--switch` and `--disable_switch`, `MARATHON_NAME` in the
//! environment.

use mesos::flags::Kind::{Boolean, Number, Port, Secret, Text};
use mesos::flags::{Flag, FlagError, Kind, Table, Values, flag};

/// Options that `marathon` takes.
pub fn table() -> Table {
    Table::new("marathon", PREFIX, &[FLAGS, IGNORED])
}

const PREFIX: &str = "MARATHON_";

/// Reads arguments (without the program's name) and environment.
///
/// # Errors
/// At the first thing that is wrong.
pub fn load(
    arguments: impl IntoIterator<Item = String>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Values, FlagError> {
    let table = table();
    let arguments = words(&table, arguments)?;
    table.load(arguments, variables(&table, environment))
}

fn kind_of(table: &Table, name: &str) -> Option<Kind> {
    table.flags().iter().find(|flag| flag.name == name).map(|flag| flag.kind)
}

/// `--name value` as `--name=value`, `--disable_x` as `--no-x`. A word that belongs to no option is refused.
fn words(
    table: &Table,
    arguments: impl IntoIterator<Item = String>,
) -> Result<Vec<String>, FlagError> {
    let mut joined = Vec::new();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let Some(body) = argument.strip_prefix("--") else {
            return Err(FlagError::Unknown(argument));
        };
        let name = body.split('=').next().unwrap_or_default();
        if let Some(switch) = name.strip_prefix("disable_")
            && kind_of(table, name).is_none()
            && kind_of(table, switch) == Some(Boolean)
        {
            joined.push(format!("--no-{switch}"));
            continue;
        }
        match kind_of(table, name) {
            None => return Err(FlagError::Unknown(name.to_owned())),
            Some(kind) if kind != Boolean && !body.contains('=') => {
                let value =
                    arguments.next().ok_or_else(|| FlagError::MissingValue(name.to_owned()))?;
                joined.push(format!("--{name}={value}"));
            }
            _ => joined.push(argument),
        }
    }
    Ok(joined)
}

/// A switch's variable may be empty, which means on; `MARATHON_DISABLE_X` means off.
fn variables(
    table: &Table,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Vec<(String, String)> {
    let switch = |variable: &str| {
        let name = variable.strip_prefix(PREFIX)?.to_ascii_lowercase();
        (kind_of(table, &name) == Some(Boolean)).then_some(name)
    };
    environment
        .into_iter()
        .map(|(variable, value)| {
            let disabled =
                variable.strip_prefix("MARATHON_DISABLE_").map(|rest| format!("{PREFIX}{rest}"));
            if let Some(enabled) =
                disabled.filter(|name| switch(&variable).is_none() && switch(name).is_some())
            {
                (enabled, "false".to_owned())
            } else if value.is_empty() && switch(&variable).is_some() {
                (variable, "true".to_owned())
            } else if variable == "MESOSPHERE_HTTP_CREDENTIALS" {
                ("MARATHON_HTTP_CREDENTIALS".to_owned(), value)
            } else {
                (variable, value)
            }
        })
        .collect()
}

const FLAGS: &[Flag] = &[
    flag(
        "access_control_allow_origin",
        Text,
        None,
        "Origins that browsers may call the API from, separated by commas.",
    ),
    flag("checkpoint", Boolean, Some("true"), "Whether tasks survive a restart of their agent."),
    flag(
        "decline_offer_duration",
        Number,
        Some("120000"),
        "How long an offer that nothing wants is declined for (ms).",
    ),
    flag(
        "disable_http",
        Boolean,
        Some("false"),
        "Listen on no HTTP port. Refused when given: HTTPS is not supported by this Marathon yet.",
    ),
    flag(
        "failover_timeout",
        Number,
        Some("604800"),
        "Seconds after which Mesos kills all tasks when no Marathon comes back.",
    ),
    flag("framework_name", Text, Some("marathon"), "Name that Marathon registers with."),
    flag(
        "ha",
        Boolean,
        Some("true"),
        "Whether several Marathons elect a leader through ZooKeeper.",
    ),
    flag("help", Boolean, Some("false"), "Prints the options."),
    flag("hostname", Text, None, "Name or address that others reach this Marathon at."),
    flag("http_address", Text, Some("0.0.0.0"), "Address to listen on."),
    flag(
        "http_credentials",
        Secret,
        None,
        "user:password that the API asks for, or file://path of it. Also MESOSPHERE_HTTP_CREDENTIALS.",
    ),
    flag("http_port", Port, Some("8080"), "Port to listen on."),
    flag("http_realm", Text, Some("Mesosphere"), "Realm that the API asks credentials for."),
    flag(
        "kill_retry_timeout",
        Number,
        Some("30000"),
        "How long until a kill is asked for again (ms).",
    ),
    flag(
        "leader_proxy_connection_timeout",
        Number,
        Some("5000"),
        "How long reaching the leader may take (ms).",
    ),
    flag(
        "leader_proxy_read_timeout",
        Number,
        Some("10000"),
        "How long the leader's answer may take (ms).",
    ),
    flag("local_port_max", Port, Some("20000"), "Last of the service ports that are given out."),
    flag("local_port_min", Port, Some("10000"), "First of the service ports that are given out."),
    flag("logging_level", Text, Some("info"), "trace, debug, info, warn or error."),
    flag("master", Text, None, "Mesos masters: zk://host:port,…/mesos or host:port. Required."),
    flag("max_instances_per_offer", Number, Some("5"), "Most tasks launched on one offer."),
    flag(
        "mesos_heartbeat_failure_threshold",
        Number,
        Some("5"),
        "Heartbeats of Mesos that may be missed.",
    ),
    flag(
        "mesos_heartbeat_interval",
        Number,
        Some("15000"),
        "How often Mesos sends heartbeats (ms).",
    ),
    flag(
        "mesos_authentication",
        Boolean,
        Some("false"),
        "Whether Marathon shows Mesos its principal and secret.",
    ),
    flag("mesos_authentication_principal", Text, None, "Principal that Marathon registers with."),
    flag(
        "mesos_authentication_secret",
        Secret,
        None,
        "The principal's secret, or file://path of it.",
    ),
    flag(
        "mesos_authentication_secret_file",
        Text,
        None,
        "File that holds the principal's secret; readable by its owner only.",
    ),
    flag("mesos_leader_ui_url", Text, None, "URL of the Mesos UI that people are sent to."),
    flag("mesos_role", Text, Some("*"), "Role that Marathon registers in."),
    flag("mesos_user", Text, None, "User that tasks run as [default: that of this process]."),
    flag(
        "reconciliation_initial_delay",
        Number,
        Some("15000"),
        "How long after registration tasks are reconciled (ms).",
    ),
    flag("reconciliation_interval", Number, Some("600000"), "How often tasks are reconciled (ms)."),
    flag(
        "task_launch_timeout",
        Number,
        Some("300000"),
        "How long a task may take from launch to running (ms).",
    ),
    flag("version", Boolean, Some("false"), "Prints the version."),
    flag(
        "webui_url",
        Text,
        None,
        "URL of Marathon's UI that Mesos shows [default: http://HOSTNAME:HTTP_PORT].",
    ),
    flag(
        "zk",
        Text,
        Some("zk://localhost:2181/marathon"),
        "Where Marathon keeps its state: zk://[user:password@]host:port,…/path.",
    ),
    flag("zk_session_timeout", Number, Some("10000"), "ZooKeeper session timeout (ms)."),
];

/// Options that change nothing here: what they tune works otherwise, or has no limit of its own.
const IGNORED: &[Flag] = &[
    flag("accepted_resource_roles_default_behavior", Text, Some("any"), "Ignored: any."),
    flag("backup_location", Text, None, "Refused when given: not supported by this Marathon yet."),
    flag(
        "default_accepted_resource_roles",
        Text,
        None,
        "Refused when given: not supported by this Marathon yet.",
    ),
    flag("default_network_name", Text, None, "Refused when given: name the network in the app."),
    flag("draining_seconds", Number, Some("0"), "Ignored."),
    flag("gpu_scheduling_behavior", Text, Some("restricted"), "Ignored: GPUs are not supported."),
    flag("graceful_shutdown_timeout", Number, Some("45000"), "Ignored."),
    flag("https_address", Text, None, "Refused when given: HTTPS is not supported yet."),
    flag("https_port", Port, Some("8443"), "Ignored: HTTPS is not supported by this Marathon yet."),
    flag("internal_version_caching", Boolean, Some("true"), "Ignored."),
    flag("kill_chunk_size", Number, Some("100"), "Ignored: kills are sent at once."),
    flag("leader_proxy_max_open_connections", Number, Some("64"), "Ignored."),
    flag("leader_proxy_ssl_ignore_hostname", Boolean, Some("false"), "Ignored: no HTTPS."),
    flag("logstash", Text, None, "Refused when given: not supported by this Marathon yet."),
    flag("maintenance_mode", Boolean, Some("true"), "Ignored."),
    flag("max_apps", Number, None, "Refused when given: not supported by this Marathon yet."),
    flag("max_concurrent_marathon_health_checks", Number, Some("256"), "Ignored."),
    flag("max_parallel_offers", Number, None, "Ignored."),
    flag("mesos_bridge_name", Text, Some("mesos-bridge"), "Ignored."),
    flag("metrics_datadog", Boolean, Some("false"), "Ignored: no metrics are sent out."),
    flag("metrics_name_prefix", Text, Some("marathon"), "Ignored: marathon."),
    flag("metrics_prometheus", Boolean, Some("true"), "Ignored: always on."),
    flag("metrics_statsd", Boolean, Some("false"), "Ignored: no metrics are sent out."),
    flag("new_group_enforce_role", Text, Some("off"), "Ignored: off."),
    flag("ssl_keystore_password", Secret, None, "Refused when given: HTTPS is not supported yet."),
    flag("tracing", Boolean, Some("false"), "Ignored."),
    flag("assets_path", Text, None, "Ignored: the UI is part of the program."),
    flag("deprecated_features", Text, None, "Ignored."),
    flag("enable_features", Text, None, "Ignored: what is built is enabled."),
    flag("env_vars_prefix", Text, None, "Refused when given: not supported by this Marathon yet."),
    flag(
        "event_stream_max_outstanding_messages",
        Number,
        Some("1024"),
        "Events that a slow listener may be behind.",
    ),
    flag("executor", Text, Some("//cmd"), "Only //cmd is supported by this Marathon yet."),
    flag("http_compression", Boolean, Some("true"), "Ignored: answers are not compressed."),
    flag(
        "http_max_concurrent_requests",
        Number,
        None,
        "Ignored: the number of connections is limited.",
    ),
    flag("launch_token_refresh_interval", Number, Some("30000"), "Ignored."),
    flag("launch_tokens", Number, Some("100"), "Ignored."),
    flag("leader_election_backend", Text, Some("curator"), "Only curator is known."),
    flag("max_running_deployments", Number, Some("100"), "Most deployments at a time."),
    flag("min_revive_offers_interval", Number, Some("5000"), "Ignored: 5000."),
    flag("offer_matching_timeout", Number, Some("3000"), "Ignored."),
    flag("on_elected_prepare_timeout", Number, Some("180000"), "Ignored."),
    flag("plugin_conf", Text, None, "Refused when given: plugins are not supported."),
    flag("plugin_dir", Text, None, "Refused when given: plugins are not supported."),
    flag("scale_apps_initial_delay", Number, Some("15000"), "Ignored: apps are scaled at once."),
    flag("scale_apps_interval", Number, Some("300000"), "Ignored: apps are always being scaled."),
    flag(
        "ssl_keystore_path",
        Text,
        None,
        "Refused when given: HTTPS is not supported by this Marathon yet.",
    ),
    flag("store_cache", Boolean, Some("true"), "Ignored."),
    flag(
        "suppress_offers",
        Boolean,
        Some("true"),
        "Ignored: offers are suppressed when nothing is wanted.",
    ),
    flag(
        "task_launch_confirm_timeout",
        Number,
        Some("300000"),
        "Ignored: task_launch_timeout counts.",
    ),
    flag("task_lost_expunge_initial_delay", Number, Some("300000"), "Ignored."),
    flag("task_lost_expunge_interval", Number, Some("30000"), "Ignored."),
    flag("task_reservation_timeout", Number, Some("20000"), "Ignored: nothing is reserved."),
    flag("zk_compression", Boolean, Some("true"), "Ignored: nothing is compressed."),
    flag("zk_compression_threshold", Number, Some("65536"), "Ignored."),
    flag(
        "zk_connection_timeout",
        Number,
        Some("10000"),
        "Ignored: a third of the session timeout.",
    ),
    flag("zk_max_node_size", Number, Some("1024000"), "Largest value kept in ZooKeeper (bytes)."),
    flag(
        "zk_max_versions",
        Number,
        Some("50"),
        "Versions of an app that are kept; only 50 is supported.",
    ),
    flag("zk_timeout", Number, Some("10000"), "Ignored: zk_session_timeout counts."),
];

/// Options that would change what Marathon does, were they supported: refused rather than passed over.
pub const REFUSED: &[&str] = &[
    "backup_location",
    "default_accepted_resource_roles",
    "default_network_name",
    "disable_http",
    "env_vars_prefix",
    "https_address",
    "logstash",
    "max_apps",
    "plugin_conf",
    "plugin_dir",
    "ssl_keystore_password",
    "ssl_keystore_path",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Values, FlagError> {
        load(
            arguments.iter().map(|word| (*word).to_owned()),
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    #[test]
    fn both_forms_of_an_option_are_taken() {
        let values =
            loaded(&["--master", "zk://a/mesos", "--http_port=8081", "--disable_ha"], &[]).unwrap();
        assert_eq!(values.text("master"), Some("zk://a/mesos"));
        assert_eq!(values.port("http_port"), Some(8081));
        assert!(!values.boolean("ha") && values.boolean("checkpoint"));
    }

    #[test]
    fn the_environment_is_the_packages() {
        let variables = [
            ("MARATHON_HOSTNAME", "h"),
            ("MARATHON_DISABLE_CHECKPOINT", ""),
            ("MARATHON_HA", ""),
            ("MARATHON_APP_ID", "/parent"),
            ("MESOSPHERE_HTTP_CREDENTIALS", "a:b"),
        ];
        let values = loaded(&[], &variables).unwrap();
        assert_eq!(values.text("hostname"), Some("h"));
        assert!(values.boolean("ha") && !values.boolean("checkpoint"));
        assert_eq!(values.text("http_credentials"), Some("a:b"));
    }

    #[test]
    fn what_is_no_option_is_refused() {
        assert_eq!(
            loaded(&["--nonsense", "x"], &[]).unwrap_err(),
            FlagError::Unknown("nonsense".to_owned())
        );
        assert_eq!(
            loaded(&["--master"], &[]).unwrap_err(),
            FlagError::MissingValue("master".to_owned())
        );
        assert!(loaded(&["--http_port", "many"], &[]).is_err());
        assert_eq!(loaded(&["word"], &[]).unwrap_err(), FlagError::Unknown("word".to_owned()));
    }
}
