//! What does not match the recording, and why.

use end_to_end::golden::Allowed;

/// Of the replies in `auth`.
pub const ALLOWED: Allowed = Allowed {
    exchanges: &[
        (
            "get_endpoints guards these two, as documented; the recorded programs had not wired it there",
            &["master/viewer/metrics/snapshot", "master/viewer/logging/toggle"],
        ),
        (
            "an original agent names the role * of its resources, and claims more; here it is one of ours",
            &["master/viewer/registrar(1)/registry", "master/admin/registrar(1)/registry"],
        ),
    ],
    differences: &[],
    incomparable: &[],
};
