//! Flags of what this agent doesn't have. Those that only tune it are taken; those that ask for it are refused when they
//! are on, with the reason.

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
    flag("container_logger", Text, None, NOT_THERE),
    flag("csi_plugin_config_dir", Text, None, NOT_THERE),
    flag("disk_profile_adaptor", Text, None, NOT_THERE),
    flag("docker_mesos_image", Text, None, NOT_THERE),
    flag("docker_volume_chown", Boolean, Some("false"), NOT_THERE),
    flag("domain_socket_location", Text, None, TAKEN),
    flag("executor_reregistration_retry_interval", Duration, None, TAKEN),
    flag("hooks", Text, None, NOT_THERE),
    flag("http_executor_domain_sockets", Boolean, Some("false"), NOT_THERE),
    flag("master_detector", Text, None, NOT_THERE),
    flag("network_cni_metrics", Boolean, Some("true"), TAKEN),
    flag("resource_provider_config_dir", Text, None, NOT_THERE),
    flag("secret_resolver", Text, None, NOT_THERE),
    flag("volume_gid_range", Text, None, NOT_THERE),
];

const NATIVE: &str = "native modules can't be loaded into it";

/// Those that are refused when they are on, and why.
pub const REFUSED: &[(&str, &str)] = &[
    ("agent_subsystems", "what the agent itself may take is for its systemd unit to say"),
    ("container_logger", NATIVE),
    ("csi_plugin_config_dir", "it has no CSI volumes"),
    ("disk_profile_adaptor", NATIVE),
    (
        "docker_mesos_image",
        "it does not run executors in containers of their own, so it must not run in a container itself",
    ),
    ("docker_volume_chown", "it has no isolator docker/volume"),
    ("hooks", NATIVE),
    ("http_executor_domain_sockets", "its executors reach it over TCP"),
    ("master_detector", NATIVE),
    ("resource_provider_config_dir", "it has no resource providers"),
    ("secret_resolver", NATIVE),
    ("volume_gid_range", "volumes belong to their container's user"),
];
