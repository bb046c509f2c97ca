//! What does not match the recording, and why.

use end_to_end::golden::Allowed;

/// Of the agent's replies in `core`.
pub const ALLOWED: Allowed = Allowed {
    exchanges: &[(
        "our agent is no collection of processes, and its help is its documentation",
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
