//! Flags of what this agent doesn't have. Those that only tune it are taken; those that ask for it are refused when they
//! are on.

use mesos::flags::Flag;
use mesos::flags::Kind::{Boolean, Duration, Json, Text};
use mesos::flags::flag;

const TAKEN: &str = "Taken for compatibility.";
const NOT_THERE: &str = "Not there: refused when on.";

/// The flags.
pub(super) const FLAGS: &[Flag] = &[
    flag("agent_features", Json, None, "JSON of capabilities, which must be all there are."),
    flag("agent_subsystems", Text, None, NOT_THERE),
    flag("appc_simple_discovery_uri_prefix", Text, Some("http://"), TAKEN),
    flag("appc_store_dir", Text, Some("/tmp/mesos/store/appc"), TAKEN),
    flag("authentication_backoff_factor", Duration, Some("1secs"), TAKEN),
    flag("csi_plugin_config_dir", Text, None, NOT_THERE),
    flag("disk_profile_adaptor", Text, None, NOT_THERE),
    flag("docker_ignore_runtime", Boolean, Some("false"), NOT_THERE),
    flag("docker_volume_chown", Boolean, Some("false"), NOT_THERE),
    flag("domain_socket_location", Text, None, NOT_THERE),
    flag("executor_reregistration_retry_interval", Duration, None, TAKEN),
    flag("http_executor_domain_sockets", Boolean, Some("false"), NOT_THERE),
    flag("ip6", Text, None, NOT_THERE),
    flag("ip6_discovery_command", Text, None, NOT_THERE),
    flag("master_detector", Text, None, NOT_THERE),
    flag("network_cni_metrics", Boolean, Some("true"), TAKEN),
    flag("network_cni_root_dir_persist", Boolean, Some("false"), NOT_THERE),
    flag("resource_provider_config_dir", Text, None, NOT_THERE),
    flag("secret_resolver", Text, None, NOT_THERE),
    flag("volume_gid_range", Text, None, NOT_THERE),
];

/// Those that are refused when they are on.
pub const REFUSED: &[&str] = &[
    "agent_subsystems",
    "csi_plugin_config_dir",
    "disk_profile_adaptor",
    "docker_ignore_runtime",
    "docker_volume_chown",
    "domain_socket_location",
    "http_executor_domain_sockets",
    "ip6",
    "ip6_discovery_command",
    "master_detector",
    "network_cni_root_dir_persist",
    "resource_provider_config_dir",
    "secret_resolver",
    "volume_gid_range",
];
