//! Flags of what this agent doesn't have. Those that only tune it are taken; those that ask for it are refused when they
//! are on.

use mesos::flags::Flag;
use mesos::flags::Kind::{Boolean, Duration, Text};
use mesos::flags::flag;

const TAKEN: &str = "Taken for compatibility.";
const NOT_THERE: &str = "Not there: refused when on.";

/// The flags.
pub(super) const FLAGS: &[Flag] = &[
    flag("appc_simple_discovery_uri_prefix", Text, Some("http://"), TAKEN),
    flag("appc_store_dir", Text, Some("/tmp/mesos/store/appc"), TAKEN),
    flag("authenticate_http_executors", Boolean, Some("false"), NOT_THERE),
    flag("authentication_backoff_factor", Duration, Some("1secs"), TAKEN),
    flag("cgroups_cpu_enable_pids_and_tids_count", Boolean, Some("false"), NOT_THERE),
    flag("disallow_sharing_agent_ipc_namespace", Boolean, Some("false"), NOT_THERE),
    flag("disallow_sharing_agent_pid_namespace", Boolean, Some("false"), NOT_THERE),
    flag("docker_ignore_runtime", Boolean, Some("false"), NOT_THERE),
    flag("docker_volume_chown", Boolean, Some("false"), NOT_THERE),
    flag("http_executor_domain_sockets", Boolean, Some("false"), NOT_THERE),
    flag("network_cni_metrics", Boolean, Some("true"), TAKEN),
    flag("network_cni_root_dir_persist", Boolean, Some("false"), NOT_THERE),
    flag("perf_duration", Duration, Some("10secs"), TAKEN),
    flag("perf_interval", Duration, Some("1mins"), TAKEN),
    flag("qos_correction_interval_min", Duration, Some("0ns"), TAKEN),
];

/// Those that are refused when they are on.
pub const REFUSED: &[&str] = &[
    "authenticate_http_executors",
    "cgroups_cpu_enable_pids_and_tids_count",
    "disallow_sharing_agent_ipc_namespace",
    "disallow_sharing_agent_pid_namespace",
    "docker_ignore_runtime",
    "docker_volume_chown",
    "http_executor_domain_sockets",
    "network_cni_root_dir_persist",
];
