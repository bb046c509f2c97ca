//! What does not match the recording, and why.

use end_to_end::golden::Allowed;

/// Of the agent's replies in `core`.
pub const ALLOWED: Allowed = Allowed {
    exchanges: &[(
        "our agent is no collection of processes, and its help has words of its own",
        &[
            "empty/agent/help",
            "empty/agent/__processes__",
            "running/agent/help",
            "running/agent/__processes__",
        ],
    )],
    differences: &[
        ("capabilities: 8 recorded, 7 of ours", "what is not built is not claimed"),
        (".master_hostname: recorded", "our agent asks no resolver for the name of an address"),
        (".reserved_resources", "the recording's operator had reserved resources"),
    ],
    incomparable: &[
        (
            "what an executor printed",
            &["*download-ex-1", "*download-range-ex-1", "*read-stdout-ex-1"],
        ),
        (
            "executors that only the recording's framework had",
            &["*-ex-pb", "*-exb12", "running/agent/files/debug"],
        ),
    ],
};

/// Of its replies about containers in `tasks`.
pub const ALLOWED_OF_CONTAINERS: Allowed =
    Allowed { exchanges: &[], incomparable: &[], differences: ALLOWED.differences };

/// Of its replies about tasks, sessions and draining in `tasks`.
pub const ALLOWED_OF_TASKS: Allowed = Allowed {
    exchanges: &[],
    incomparable: &[],
    differences: &[
        (
            "members missing [\"framework_id\", \"executor_id\", \"executor_name\"]",
            "the recording's stand-in of a default executor started no containers",
        ),
        ("container_id: members missing [], of ours only [\"parent\"]", "the same"),
        (
            "statuses[0].container_status: members missing [\"network_infos\", \"executor_pid\"]",
            "the same: a task in a pod is starting before its container is there",
        ),
        (
            "resource_statistics: members missing [\"cpus_user_time_secs\"",
            "containers in a pod are not measured apart",
        ),
        ("of ours only [\"check_status\"]", "the recording's stand-ins of executors ran no checks"),
        ("statuses[2]: members missing [], of ours only [\"reason\"]", "nor told of TASK_KILLING"),
        (
            "members missing [\"executor_pid\"]",
            "a user whom the host does not have fails our container; the original drops its task before",
        ),
        ("of ours only [\"user\"]", "the same"),
        (
            "members missing [\"drain_config\", \"estimated_drain_start_time_seconds\"]",
            "our executor is gone sooner, and with it the end of draining is there",
        ),
    ],
};
