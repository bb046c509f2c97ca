//! What does not match the recording, and why.

use end_to_end::golden::Allowed;

/// Of the master's replies in `core`.
pub const ALLOWED: Allowed = Allowed {
    exchanges: &[
        ("a HEAD has no body in HTTP, whatever the original sends", &["methods/HEAD/state"]),
        (
            "our page is at /; the recording's master had none installed",
            &["empty/master/", "running/master/"],
        ),
        (
            "our master is no collection of processes, and its help has words of its own",
            &[
                "empty/master/help",
                "empty/master/help/master",
                "empty/master/__processes__",
                "running/master/help",
                "running/master/help/master",
                "running/master/__processes__",
            ],
        ),
        (
            // Of roles by the C++ library's, of their resources by protobuf's, which differs with each run.
            "the original shows quotas in the order of its hash tables",
            &["running/master/quota", "running/master/v1/GET_QUOTA"],
        ),
    ],
    differences: &[
        (
            "of ours only [\"offer_filters\"]",
            "the recording ended before the framework with filters went away",
        ),
        (
            ".used_resources: members missing [], of ours only [\"ports\"]",
            "the recording's agent with ports in use has reservations, too: it looks less alike than the idle one",
        ),
        (
            "order of members: recorded [\"mem\", \"cpus\"], ours [\"cpus\", \"mem\"]",
            "resources of quotas in the order of the original's hash table",
        ),
        (
            "order of members: recorded [\"opr\", \"golden\"], ours [\"golden\", \"opr\"]",
            "roles in the order of the original's hash table",
        ),
        (
            ".offers[2].resources: members missing [\"ports\"]",
            "what a finished task left is in an offer of its own",
        ),
    ],
    incomparable: &[(
        "they show which tasks ran before, in which order: not the same in two runs",
        &["running/master/tasks?limit=2&order=asc", "running/master/tasks?limit=1&offset=1"],
    )],
};
