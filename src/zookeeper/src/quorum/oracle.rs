//! The oracle of an ensemble of two (`QuorumOracleMaj`): a file that says whether this server may go on without the other
//! one. Whoever writes it has found out that the other one has failed, and never lets both go on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;

use super::net::{Event, Events};

/// Between two looks at the file.
const PAUSE: Duration = Duration::from_millis(200);

/// Tells what the file says whenever that changes, until the server ends.
pub(crate) async fn watch(path: PathBuf, events: Events) {
    let mut before = None;
    loop {
        let grants = grants(&path).await;
        if before.replace(grants) != Some(grants) {
            let may = if grants { "may" } else { "may not" };
            tracing::info!("{} says that this server {may} go on alone", path.display());
            if !events.send(Event::Oracle(grants)).await {
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A file that can't be read grants nothing.
async fn grants(path: &Path) -> bool {
    let mut first = [0];
    let read = async { tokio::fs::File::open(path).await?.read_exact(&mut first).await };
    read.await.is_ok() && first == *b"1"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_one_at_the_beginning_grants() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("oracle");
        assert!(!grants(&path).await);
        for (text, expected) in [("1\n", true), ("0\n", false), ("", false), ("01", false)] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(grants(&path).await, expected, "{text:?}");
        }
    }
}
