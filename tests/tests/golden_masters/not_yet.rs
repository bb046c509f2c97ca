//! What does not match the recording, and why.

use end_to_end::golden::Allowed;

/// Of the replies in `ha`.
pub const ALLOWED: Allowed = Allowed {
    exchanges: &[
        (
            "our master is no collection of processes",
            &[
                "three/leader/__processes__",
                "three/follower/__processes__",
                "failover/leader/__processes__",
                "failover/follower/__processes__",
            ],
        ),
        (
            "a master of ours that doesn't lead has no allocator that could measure, and shows no gauges",
            &["alone/metrics", "three/follower/metrics/snapshot"],
        ),
        ("ours shows resources of agents that are not back yet", &["failover/at-once/slaves"]),
        (
            "a framework that was known by its tasks alone counts as registered again, not as registered",
            &["failover/leader/state", "agent-down/state", "agent-back/state"],
        ),
        (
            "the original tells nothing of a single measurement",
            &["failover/leader/metrics/snapshot"],
        ),
    ],
    differences: &[(
        ".flags: members missing [], of ours only [\"http_authenticators\"]",
        "ours says that there is one, the original that none was given",
    )],
    incomparable: &[],
};
