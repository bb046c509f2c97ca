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
            "our allocator has nothing to measure while the master doesn't lead",
            &["alone/metrics", "three/follower/metrics/snapshot"],
        ),
    ],
    differences: &[],
    incomparable: &[],
};
