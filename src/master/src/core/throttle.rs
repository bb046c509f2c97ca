//! How fast frameworks may send (`--rate_limits`; `Master::consume` of the original): messages of a driver whose
//! principal has a limit wait for their turn, in order; more of them than may wait are dropped, and the driver is told.
//! As in the original, calls over HTTP are not limited.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use mesos::internal::FrameworkErrorMessage;
use mesos::json::{self, Dialect};
use mesos::libprocess::inbound::Header;
use mesos::v1;

use super::Master;
use super::model::{Connection, Now};

/// How fast messages may come.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Limit {
    interval: Duration,
    /// How many may wait; any number, if it isn't said.
    capacity: Option<u64>,
}

/// What `--rate_limits` says. The default limits nobody.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RateLimits {
    /// By principal; `None` is for one that may send as it likes.
    principals: BTreeMap<String, Option<Limit>>,
    /// Of all others together.
    others: Option<Limit>,
}

fn limit(name: &str, qps: Option<f64>, capacity: Option<u64>) -> Result<Option<Limit>, String> {
    let Some(qps) = qps else { return Ok(None) };
    let interval = Some(qps)
        .filter(|qps| *qps > 0.0)
        .and_then(|qps| Duration::try_from_secs_f64(1.0 / qps).ok())
        .ok_or_else(|| format!("Invalid {name}: {qps}. It must be a positive number"))?;
    Ok(Some(Limit { interval, capacity }))
}

impl RateLimits {
    /// Reads the JSON of a `RateLimits`.
    ///
    /// # Errors
    /// When it is none, names a principal twice, or a rate is not positive.
    pub fn parse(text: &str) -> Result<Self, String> {
        let given: v1::RateLimits =
            json::from_slice(text.as_bytes(), Dialect::V0).map_err(|error| error.to_string())?;
        let mut principals = BTreeMap::new();
        for one in given.limits {
            let own = limit("qps", one.qps, one.capacity)?;
            if principals.insert(one.principal.clone(), own).is_some() {
                return Err(format!("Duplicate principal {}", one.principal));
            }
        }
        let (qps, capacity) = (given.aggregate_default_qps, given.aggregate_default_capacity);
        Ok(Self { principals, others: limit("aggregate_default_qps", qps, capacity)? })
    }

    /// The limit of a framework, with the queue that it waits in.
    fn of(&self, principal: Option<&str>) -> Option<(Limit, Option<String>)> {
        match principal.and_then(|name| Some((name, self.principals.get(name)?))) {
            Some((name, limit)) => limit.map(|limit| (limit, Some(name.to_owned()))),
            None => self.others.map(|limit| (limit, None)),
        }
    }
}

#[derive(Debug)]
enum Held {
    Message(Header, Vec<u8>),
    /// A connection that ended behind these messages.
    Exited(SocketAddr),
}

#[derive(Debug)]
struct Queue {
    interval: Duration,
    /// When the next may go.
    next: Duration,
    waiting: VecDeque<Held>,
    /// Messages that wait.
    messages: u64,
    /// Messages that were dropped.
    dropped: u64,
}

/// Messages that wait.
#[derive(Debug)]
pub(super) struct Throttle {
    limits: RateLimits,
    /// By principal; `None` is all those without a limit of their own.
    queues: BTreeMap<Option<String>, Queue>,
}

enum Verdict {
    Now,
    Held,
    Exceeded(u64),
}

impl Throttle {
    pub(super) fn new(limits: RateLimits) -> Self {
        Self { limits, queues: BTreeMap::new() }
    }

    fn is_off(&self) -> bool {
        self.limits == RateLimits::default()
    }

    fn admit(
        &mut self,
        now: Duration,
        principal: Option<&str>,
        header: &Header,
        body: &[u8],
    ) -> Verdict {
        let Some((limit, key)) = self.limits.of(principal) else { return Verdict::Now };
        let queue = self.queues.entry(key).or_insert_with(|| Queue {
            interval: limit.interval,
            next: now,
            waiting: VecDeque::new(),
            messages: 0,
            dropped: 0,
        });
        if let Some(capacity) = limit.capacity.filter(|capacity| queue.messages >= *capacity) {
            queue.dropped += 1;
            return Verdict::Exceeded(capacity);
        }
        if queue.waiting.is_empty() && queue.next <= now {
            queue.next = now + queue.interval;
            return Verdict::Now;
        }
        queue.messages += 1;
        queue.waiting.push_back(Held::Message(header.clone(), body.to_vec()));
        Verdict::Held
    }

    /// Lets the end of a connection wait behind its messages; whether there were any.
    fn hold_exit(&mut self, address: SocketAddr) -> bool {
        let mut is_held = false;
        for queue in self.queues.values_mut() {
            let is_of = |held: &Held| matches!(held, Held::Message(header, _) if header.from.address == address);
            if queue.waiting.iter().any(is_of) {
                queue.waiting.push_back(Held::Exited(address));
                is_held = true;
            }
        }
        is_held
    }

    /// What may go by now.
    fn due(&mut self, now: Duration) -> Vec<Held> {
        let mut due = Vec::new();
        for queue in self.queues.values_mut() {
            while queue.next <= now {
                let Some(held) = queue.waiting.pop_front() else { break };
                queue.messages -= u64::from(matches!(held, Held::Message(..)));
                queue.next += queue.interval;
                due.push(held);
            }
        }
        due
    }

    /// How many messages of a principal wait or were dropped.
    fn unprocessed(&self, principal: &str) -> u64 {
        let queue = self.queues.get(&Some(principal.to_owned()));
        queue.map_or(0, |queue| queue.messages + queue.dropped)
    }
}

impl Master {
    /// Whether a message is dealt with now; if not, it waits, or was dropped.
    pub(super) fn admits(&mut self, now: Now, header: &Header, body: &[u8]) -> bool {
        if self.throttle.is_off() {
            return true;
        }
        let sender = Connection::Pid(header.from.clone());
        let Some(framework) = self.frameworks.values().find(|known| known.connection == sender)
        else {
            return true;
        };
        let principal = framework.info.principal.clone();
        match self.throttle.admit(now.mono, principal.as_deref(), header, body) {
            Verdict::Now => true,
            Verdict::Held => false,
            Verdict::Exceeded(capacity) => {
                let message =
                    format!("Message {} dropped: capacity({capacity}) exceeded", header.name);
                tracing::warn!(framework = framework.id, ?principal, message);
                self.send(&header.from, &FrameworkErrorMessage { message });
                false
            }
        }
    }

    /// Whether the end of a connection must wait behind messages that came before it.
    pub(super) fn holds_exit(&mut self, address: SocketAddr) -> bool {
        !self.throttle.is_off() && self.throttle.hold_exit(address)
    }

    /// Deals with messages whose turn it is.
    pub(super) fn release(&mut self, now: Now) {
        if self.throttle.is_off() {
            return;
        }
        for held in self.throttle.due(now.mono) {
            match held {
                Held::Message(header, body) => {
                    if let Err(error) = self.take(now, &header, &body) {
                        tracing::warn!(from = %header.from, name = header.name, %error, "message dropped: it can't be read");
                    }
                }
                Held::Exited(address) => self.disconnect_all(now, address),
            }
        }
    }

    /// How many messages of a principal's frameworks wait for their turn, or were dropped because too many did.
    pub fn unprocessed_messages(&self, principal: &str) -> u64 {
        self.throttle.unprocessed(principal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(port: u16) -> Header {
        let from = format!("scheduler@127.0.0.1:{port}").parse().unwrap();
        Header { from, to: "master".into(), name: "mesos.scheduler.Call".into() }
    }

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn messages_wait_for_their_turn_and_too_many_are_dropped() {
        let limits = RateLimits::parse(
            r#"{"limits": [{"principal": "slow", "qps": 10, "capacity": 2}, {"principal": "free"}],
                "aggregate_default_qps": 1}"#,
        )
        .unwrap();
        let mut throttle = Throttle::new(limits);
        let mut come =
            |time, who: Option<&str>| match throttle.admit(at(time), who, &header(1), b"x") {
                Verdict::Now => "now".to_owned(),
                Verdict::Held => "held".to_owned(),
                Verdict::Exceeded(capacity) => capacity.to_string(),
            };
        let slow = Some("slow");
        let verdicts = [come(0, slow), come(10, slow), come(20, slow), come(30, slow)];
        assert_eq!(verdicts, ["now", "held", "held", "2"]);
        assert_eq!([come(30, Some("free")), come(31, Some("free"))], ["now", "now"]);
        // The rest shares one rate.
        assert_eq!([come(30, Some("other")), come(31, None)], ["now", "held"]);
        assert_eq!(throttle.unprocessed("slow"), 3, "two wait, one was dropped");
        assert!(throttle.due(at(99)).is_empty());
        assert_eq!(throttle.due(at(100)).len(), 1);
        assert_eq!(throttle.due(at(199)).len(), 0);
        assert_eq!(throttle.due(at(1030)).len(), 2, "the last of both");
        assert!(matches!(throttle.admit(at(1040), slow, &header(1), b"x"), Verdict::Now));
    }

    #[test]
    fn the_end_of_a_connection_waits_behind_its_messages() {
        let limits = RateLimits::parse(r#"{"aggregate_default_qps": 1}"#).unwrap();
        let mut throttle = Throttle::new(limits);
        let _verdict = throttle.admit(at(0), None, &header(1), b"a");
        let _verdict = throttle.admit(at(0), None, &header(1), b"b");
        assert!(throttle.hold_exit(header(1).from.address));
        assert!(!throttle.hold_exit(header(2).from.address));
        assert!(matches!(throttle.due(at(1000))[..], [Held::Message(..)]));
        assert!(matches!(throttle.due(at(2000))[..], [Held::Exited(_)]));
    }

    #[test]
    fn limits_that_make_no_sense_are_refused() {
        for (text, reason) in [
            ("{", "syntax error"),
            (r#"{"limits": [{"qps": 1}]}"#, "principal"),
            (r#"{"limits": [{"principal": "a", "qps": 0}]}"#, "Invalid qps: 0"),
            (r#"{"limits": [{"principal": "a"}, {"principal": "a"}]}"#, "Duplicate principal a"),
            (r#"{"aggregate_default_qps": -1}"#, "Invalid aggregate_default_qps: -1"),
        ] {
            let error = RateLimits::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
