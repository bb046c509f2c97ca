//! Skipping a test that lacks what it needs, out loud. In CI a skip is a failure.

/// Ends the calling test early, saying why, when `$have` is false.
///
/// With `MESO_REQUIRE_ALL=1` in the environment (as `make test` sets under CI) the test fails instead.
#[macro_export]
macro_rules! need {
    ($have:expr, $($reason:tt)*) => {
        if !$have {
            $crate::skip::refuse(&format!($($reason)*));
            return;
        }
    };
}

/// Prints the reason; panics where skipping is not allowed.
///
/// # Panics
/// When `MESO_REQUIRE_ALL` is set: there every test must run.
pub fn refuse(reason: &str) {
    assert!(
        std::env::var_os("MESO_REQUIRE_ALL").is_none(),
        "skipped where every test must run, because {reason}"
    );
    #[expect(clippy::print_stderr, reason = "a skip is told to the person who runs the tests")]
    {
        eprintln!("skipped, because {reason}");
    }
}

/// Whether the tests run as root.
#[must_use]
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
