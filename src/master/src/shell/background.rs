//! Work that may take long and that nobody waits for as for an offer, on threads that give way to all others.

use std::io;
use std::sync::LazyLock;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// The least that Linux grants: everything else of this process comes first where processors are few.
const NICE: i32 = 19;

/// Nothing but its threads for what blocks is used. They start when they are needed and end when they have long had
/// nothing to do.
static THREADS: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    Builder::new_current_thread()
        .thread_name("background")
        .on_thread_start(|| web::daemon::give_way(NICE))
        .build()
});

/// Does something on such a thread.
pub(super) fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match &*THREADS {
        Ok(threads) => threads.spawn_blocking(work),
        Err(_) => tokio::task::spawn_blocking(work),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_such_threads_give_way() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        assert_eq!(spawn(nice).await.unwrap(), NICE);
        assert_eq!((nice(), tokio::task::spawn_blocking(nice).await.unwrap()), (before, before));
    }
}
