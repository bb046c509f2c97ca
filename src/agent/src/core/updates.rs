//! Status updates: one stream a task, at least once, in order (Mesos' `task_status_update_manager.cpp`).
//!
//! Only the head of a stream is sent; the next goes out after the acknowledgement of the one before. What isn't
//! acknowledged is sent again, after 10 s at first, then after twice as long each time, up to 10 min.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use mesos::internal::StatusUpdate;
use mesos::v1::TaskState;

/// A task of a framework: framework id, task id.
pub type TaskKey = (String, String);

const RETRY_MIN: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
struct Stream {
    pending: VecDeque<StatusUpdate>,
    seen: Vec<Vec<u8>>,
    retry: Duration,
    due: Duration,
}

/// All streams.
#[derive(Debug, Default)]
pub struct Updates {
    streams: BTreeMap<TaskKey, Stream>,
}

/// What an acknowledgement means.
#[derive(Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// It is for no update that waits.
    Unknown,
    /// The head of the stream is done.
    Done,
    /// The head was the task's last: the stream is closed.
    Last,
}

impl Updates {
    /// Takes an update in; false if it was taken before.
    pub fn push(&mut self, update: StatusUpdate) -> bool {
        let key = (update.framework_id.value.clone(), update.status.task_id.value.clone());
        let uuid = update.uuid.clone().unwrap_or_default();
        let stream = self.streams.entry(key).or_default();
        if stream.seen.contains(&uuid) {
            return false;
        }
        stream.seen.push(uuid);
        if stream.pending.is_empty() {
            stream.retry = Duration::ZERO;
            stream.due = Duration::ZERO;
        }
        stream.pending.push_back(update);
        true
    }

    /// An acknowledgement of `uuid`.
    pub fn acknowledge(&mut self, key: &TaskKey, uuid: &[u8]) -> Acknowledged {
        let Some(stream) = self.streams.get_mut(key) else { return Acknowledged::Unknown };
        if stream.pending.front().is_none_or(|head| head.uuid.as_deref() != Some(uuid)) {
            return Acknowledged::Unknown;
        }
        let last = stream.pending.pop_front().is_some_and(|head| crate::core::is_terminal(head.status.state()));
        if last {
            self.streams.remove(key);
            return Acknowledged::Last;
        }
        stream.retry = Duration::ZERO;
        stream.due = Duration::ZERO;
        Acknowledged::Done
    }

    /// The heads that are due, with the newest state of their tasks in them.
    pub fn due(&mut self, now: Duration) -> Vec<StatusUpdate> {
        let mut due = Vec::new();
        for stream in self.streams.values_mut().filter(|stream| stream.due <= now) {
            let Some(head) = stream.pending.front() else { continue };
            stream.retry = if stream.retry.is_zero() { RETRY_MIN } else { (stream.retry * 2).min(RETRY_MAX) };
            stream.due = now + stream.retry;
            let mut update = head.clone();
            update.latest_state = stream.pending.back().map(|newest| newest.status.state);
            due.push(update);
        }
        due
    }

    /// Sends every head again at once: there is a new master.
    pub fn resume(&mut self) {
        for stream in self.streams.values_mut() {
            stream.retry = Duration::ZERO;
            stream.due = Duration::ZERO;
        }
    }

    /// Forgets a framework's streams.
    pub fn remove_framework(&mut self, framework: &str) {
        self.streams.retain(|(of, _), _| of != framework);
    }

    /// The state that was last acknowledged or waits at the head, for re-registration.
    pub fn head(&self, key: &TaskKey) -> Option<(TaskState, Vec<u8>)> {
        let head = self.streams.get(key)?.pending.front()?;
        Some((head.status.state(), head.uuid.clone().unwrap_or_default()))
    }

    /// Whether updates of a task wait.
    pub fn has_pending(&self, key: &TaskKey) -> bool {
        self.streams.get(key).is_some_and(|stream| !stream.pending.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesos::v1;

    fn update(uuid: u8, state: TaskState) -> StatusUpdate {
        StatusUpdate {
            framework_id: v1::FrameworkId { value: "f".into() },
            status: v1::TaskStatus { task_id: v1::TaskId { value: "t".into() }, state: state as i32, ..Default::default() },
            uuid: Some(vec![uuid]),
            ..Default::default()
        }
    }

    fn key() -> TaskKey {
        ("f".into(), "t".into())
    }

    #[test]
    fn updates_go_one_by_one_and_again_until_acknowledged() {
        let mut updates = Updates::default();
        assert!(updates.push(update(1, TaskState::TaskStarting)) && updates.push(update(2, TaskState::TaskRunning)));
        assert!(!updates.push(update(1, TaskState::TaskStarting)), "taken before");
        let at = Duration::from_secs;
        let sent = updates.due(at(0));
        assert_eq!((sent.len(), sent[0].uuid.as_deref(), sent[0].latest_state), (1, Some(&[1u8][..]), Some(TaskState::TaskRunning as i32)));
        assert!(updates.due(at(9)).is_empty());
        assert_eq!(updates.due(at(10)).len(), 1);
        assert!(updates.due(at(29)).is_empty());
        assert_eq!(updates.due(at(30)).len(), 1, "twice as long");
        assert_eq!(updates.acknowledge(&key(), &[2]), Acknowledged::Unknown, "not the head");
        assert_eq!(updates.acknowledge(&key(), &[1]), Acknowledged::Done);
        assert_eq!(updates.due(at(31))[0].uuid.as_deref(), Some(&[2u8][..]));
    }

    #[test]
    fn the_last_acknowledgement_closes_the_stream() {
        let mut updates = Updates::default();
        updates.push(update(1, TaskState::TaskFinished));
        assert_eq!(updates.acknowledge(&key(), &[1]), Acknowledged::Last);
        assert_eq!(updates.acknowledge(&key(), &[1]), Acknowledged::Unknown);
        assert!(!updates.has_pending(&key()));
    }

    #[test]
    fn a_new_master_is_told_at_once() {
        let mut updates = Updates::default();
        updates.push(update(1, TaskState::TaskRunning));
        assert_eq!(updates.due(Duration::ZERO).len(), 1);
        updates.resume();
        assert_eq!(updates.due(Duration::from_secs(1)).len(), 1);
    }
}
