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

/// Updates of a task that may wait; with more, those that others of the same kind have overtaken are left out.
const PENDING_MAX: usize = 1000;
/// Acknowledged updates by which a repetition is recognised.
const ACKNOWLEDGED_MAX: usize = 100;

#[derive(Debug, Default)]
struct Stream {
    pending: VecDeque<StatusUpdate>,
    acknowledged: VecDeque<Vec<u8>>,
    retry: Duration,
    due: Duration,
}

impl Stream {
    fn has(&self, uuid: &[u8]) -> bool {
        self.acknowledged.iter().any(|own| own == uuid)
            || self.pending.iter().any(|own| own.uuid.as_deref() == Some(uuid))
    }

    fn send_at_once(&mut self) {
        self.retry = Duration::ZERO;
        self.due = Duration::ZERO;
    }
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
        if stream.has(&uuid) {
            return false;
        }
        if stream.pending.is_empty() {
            stream.send_at_once();
        }
        stream.pending.push_back(update);
        // The head may be on its way, and the newest must arrive; one between them says nothing that counts.
        if stream.pending.len() > PENDING_MAX {
            stream.pending.remove(stream.pending.len() - 2);
        }
        true
    }

    /// An acknowledgement of `uuid`.
    pub fn acknowledge(&mut self, key: &TaskKey, uuid: &[u8]) -> Acknowledged {
        let Some(stream) = self.streams.get_mut(key) else { return Acknowledged::Unknown };
        if stream.pending.front().is_none_or(|head| head.uuid.as_deref() != Some(uuid)) {
            return Acknowledged::Unknown;
        }
        let head = stream.pending.pop_front();
        if head.is_some_and(|head| crate::core::is_terminal(head.status.state())) {
            self.streams.remove(key);
            return Acknowledged::Last;
        }
        stream.acknowledged.push_back(uuid.to_vec());
        if stream.acknowledged.len() > ACKNOWLEDGED_MAX {
            stream.acknowledged.pop_front();
        }
        stream.send_at_once();
        Acknowledged::Done
    }

    /// The heads that are due, with the newest state of their tasks in them.
    pub fn due(&mut self, now: Duration) -> Vec<StatusUpdate> {
        let mut due = Vec::new();
        for stream in self.streams.values_mut().filter(|stream| stream.due <= now) {
            let Some(head) = stream.pending.front() else { continue };
            stream.retry =
                if stream.retry.is_zero() { RETRY_MIN } else { (stream.retry * 2).min(RETRY_MAX) };
            stream.due = now + stream.retry;
            let mut update = head.clone();
            update.latest_state = stream.pending.back().map(|newest| newest.status.state);
            due.push(update);
        }
        due
    }

    /// Sends every head again at once: there is a new master.
    pub fn resume(&mut self) {
        self.streams.values_mut().for_each(Stream::send_at_once);
    }

    /// Forgets a framework's streams.
    pub fn remove_framework(&mut self, framework: &str) {
        self.streams.retain(|(of, _), _| of != framework);
    }

    /// The state and uuid of the update that waits at the head of a task's stream, for re-registration.
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
    use proptest::prelude::*;

    use super::*;
    use mesos::v1;

    fn update(uuid: u8, state: TaskState) -> StatusUpdate {
        StatusUpdate {
            framework_id: v1::FrameworkId { value: "f".into() },
            status: v1::TaskStatus {
                task_id: v1::TaskId { value: "t".into() },
                state: state as i32,
                ..Default::default()
            },
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
        assert!(
            updates.push(update(1, TaskState::TaskStarting))
                && updates.push(update(2, TaskState::TaskRunning))
        );
        assert!(!updates.push(update(1, TaskState::TaskStarting)), "taken before");
        let at = Duration::from_secs;
        let sent = updates.due(at(0));
        assert_eq!(
            (sent.len(), sent[0].uuid.as_deref(), sent[0].latest_state),
            (1, Some(&[1u8][..]), Some(TaskState::TaskRunning as i32))
        );
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

    #[test]
    fn what_waits_is_bounded_and_the_newest_arrives() {
        let mut updates = Updates::default();
        for number in 0..=u16::MAX {
            let mut update = update(0, TaskState::TaskRunning);
            update.uuid = Some(number.to_le_bytes().to_vec());
            updates.push(update);
        }
        let stream = &updates.streams[&key()];
        assert_eq!(stream.pending.len(), PENDING_MAX);
        let uuid = |update: Option<&StatusUpdate>| update.and_then(|update| update.uuid.clone());
        assert_eq!(uuid(stream.pending.front()), Some(0u16.to_le_bytes().to_vec()));
        assert_eq!(uuid(stream.pending.back()), Some(u16::MAX.to_le_bytes().to_vec()));
    }

    proptest! {
        /// Whatever is pushed again, acknowledged wrongly or retried: updates arrive in order, each once when every
        /// head that is sent is acknowledged.
        #[test]
        fn updates_arrive_once_and_in_order(events in proptest::collection::vec((0u8..4, 0u8..20), 0..200)) {
            let mut updates = Updates::default();
            let (mut now, mut next) = (Duration::ZERO, 0u8);
            let (mut pushed, mut arrived) = (Vec::new(), Vec::new());
            for (kind, number) in events {
                match kind {
                    0 if next < 90 => {
                        prop_assert!(updates.push(update(next, TaskState::TaskRunning)));
                        pushed.push(next);
                        next += 1;
                    }
                    1 if number < next => prop_assert!(!updates.push(update(number, TaskState::TaskRunning))),
                    2 => {
                        let head = updates.head(&key()).map(|(_, uuid)| uuid);
                        let wrong = vec![number.wrapping_add(100)];
                        if head.as_ref() != Some(&wrong) {
                            prop_assert_eq!(updates.acknowledge(&key(), &wrong), Acknowledged::Unknown);
                        }
                    }
                    _ => {
                        now += Duration::from_secs(u64::from(number) * 60);
                        for sent in updates.due(now) {
                            let uuid = sent.uuid.unwrap();
                            prop_assert_eq!(updates.acknowledge(&key(), &uuid), Acknowledged::Done);
                            arrived.push(uuid[0]);
                        }
                    }
                }
            }
            loop {
                now += RETRY_MAX;
                let Some(sent) = updates.due(now).pop() else { break };
                let uuid = sent.uuid.unwrap();
                updates.acknowledge(&key(), &uuid);
                arrived.push(uuid[0]);
            }
            prop_assert_eq!(arrived, pushed);
        }
    }
}
