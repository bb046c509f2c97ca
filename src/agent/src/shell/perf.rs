//! Samples of the processors' events, taken for as long as the agent runs.

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::containerizer::cgroups::Cgroups;

/// Takes them where they are wanted.
pub(super) fn start(cgroups: Cgroups, shutdown: CancellationToken) {
    let Some(interval) = cgroups.perf_interval() else { return };
    tokio::spawn(async move {
        let mut next = Instant::now();
        while shutdown.run_until_cancelled(tokio::time::sleep_until(next)).await.is_some() {
            next = Instant::now() + interval;
            let sampled = shutdown.run_until_cancelled(cgroups.sample_perf()).await;
            if let Some(Err(error)) = sampled {
                // The next one may succeed: a container may have ended just then.
                tracing::error!(error, "Failed to get the perf sample");
            }
        }
    });
}
