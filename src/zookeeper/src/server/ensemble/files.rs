//! The files of configurations: one for each version beside `zoo.cfg`, which names the one in force
//! (`QuorumPeerConfig.writeDynamicConfig`, `editStaticConfig`).

use std::fs;

use crate::config::Ensemble;
use crate::config::ensemble::is_of_servers;
use crate::disk::{DiskError, remove_if_there, replace};
use crate::quorum::configuration::Configuration;

/// Keeps a copy of a `zoo.cfg` that still holds the servers itself.
pub(super) fn back_up(ensemble: &Ensemble) {
    if !(ensemble.is_dynamic && ensemble.is_static) {
        return;
    }
    let mut copy = ensemble.file.as_os_str().to_owned();
    copy.push(".bak");
    let copied = fs::read(&ensemble.file)
        .map_err(|source| DiskError::Io { action: "read", path: ensemble.file.clone(), source })
        .and_then(|bytes| replace(copy.as_ref(), &bytes));
    complain(copied);
}

/// Keeps a configuration that may be agreed on; one that is in force already is not kept twice.
pub(super) fn propose(ensemble: &Ensemble, newest: &Configuration, current: &Configuration) {
    let path = ensemble.next_file();
    if newest.version > current.version {
        complain(replace(&path, newest.lines(true).as_bytes()));
    } else {
        forget(ensemble);
    }
}

fn forget(ensemble: &Ensemble) {
    complain(remove_if_there(&ensemble.next_file()).map(drop));
}

/// Writes the configuration in force, and has `zoo.cfg` name its file. A file that can't be written is no reason to end:
/// the other servers tell this one of the configuration when it starts again.
pub(super) fn activate(ensemble: &Ensemble, members: &crate::quorum::membership::Membership) {
    let current = members.current();
    let path = ensemble.dynamic_file(current.version);
    let has_client = current.servers().get(&ensemble.id).is_some_and(|own| own.client.is_some());
    let written = replace(&path, current.lines(false).as_bytes()).and_then(|()| {
        let read = |source| DiskError::Io { action: "read", path: ensemble.file.clone(), source };
        let text = fs::read_to_string(&ensemble.file).map_err(read)?;
        let path = fs::canonicalize(&path).unwrap_or(path);
        let text = edited(&text, &path.display().to_string(), has_client);
        replace(&ensemble.file, text.as_bytes())
    });
    complain(written);
    if members.proposed().is_none() {
        forget(ensemble);
    }
}

fn complain(outcome: Result<(), DiskError>) {
    if let Err(error) = outcome {
        tracing::error!("the ensemble's configuration is not kept in files: {error}");
    }
}

/// A `zoo.cfg` without servers, which names the file that has them instead. Comments stay as they are.
fn edited(text: &str, dynamic: &str, has_client: bool) -> String {
    let is_moved = |line: &str| {
        let key = line.trim_start();
        let moved = ["dynamicConfigFile", "peerType", "group", "weight"];
        is_of_servers(key)
            || moved.iter().any(|prefix| key.starts_with(prefix))
            || has_client && key.starts_with("clientPort")
    };
    let (mut out, mut is_continued, mut is_left_out) = (String::new(), false, false);
    for line in text.lines() {
        is_left_out = if is_continued { is_left_out } else { is_moved(line) };
        let is_comment = !is_continued && line.trim_start().starts_with(['#', '!']);
        is_continued = !is_comment && line.ends_with('\\');
        if !is_left_out {
            out.push_str(line);
            out.push('\n');
        }
    }
    out + "dynamicConfigFile=" + dynamic + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_moved_out_of_the_file_and_all_else_stays() {
        let text = "# a comment\ntickTime=2000\nserver.1=a:1:2;\\\n  2181\n server.2=b:1:2\nclientPort=2181\ngroup.1=1:2\ndataDir=/d\\\nata\nclientPortListenBacklog=3";
        let kept = "# a comment\ntickTime=2000\nclientPort=2181\ndataDir=/d\\\nata\nclientPortListenBacklog=3\ndynamicConfigFile=/f.1\n";
        assert_eq!(edited(text, "/f.1", false), kept);
        assert_eq!(
            edited(text, "/f.1", true),
            "# a comment\ntickTime=2000\ndataDir=/d\\\nata\ndynamicConfigFile=/f.1\n"
        );
        assert_eq!(edited(kept, "/f.2", false), kept.replace("/f.1", "/f.2"));
    }
}
