//! What clients may have under way, and how fast new sessions may come (`ZooKeeperServer`, `RequestThrottler`,
//! `BlueThrottle`).

use super::{ConfigError, Values};

/// Limits of requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Requests under way beyond which a connection that has one under way is not read.
    pub outstanding_max: usize,
    /// Requests under way beyond which further ones wait, 0 for no such limit.
    pub requests_max: usize,
    /// A request that waited for longer than this, in ms, is refused; 0 for never.
    pub throttled_after_ms: u64,
    /// Bytes above which a request counts as large, if any does.
    pub large_threshold: Option<usize>,
    /// Bytes of large requests that may be under way.
    pub large_bytes_max: usize,
    /// How fast new sessions may come, if that is limited.
    pub sessions: Option<SessionBucket>,
}

/// A bucket of tokens that new sessions take, and a chance to drop them all the same (`BlueThrottle`).
#[derive(Debug, Clone, PartialEq)]
pub struct SessionBucket {
    /// Tokens in a full bucket.
    pub tokens_max: i64,
    /// Time between refills in ms.
    pub fill_time_ms: i64,
    /// Tokens of a refill.
    pub fill_count: i64,
    /// Time between changes of the chance in ms, if there is a chance.
    pub freeze_time_ms: Option<i64>,
    /// How much the chance grows when the bucket is empty.
    pub drop_increase: f64,
    /// How much it falls when the bucket is full enough.
    pub drop_decrease: f64,
    /// Part of the bucket that may be missing for the chance to fall.
    pub decrease_ratio: f64,
    /// Tokens of a new session.
    pub new_weight: i64,
    /// Tokens of a session taken up again.
    pub renew_weight: i64,
}

impl Limits {
    pub(super) fn read(values: &Values) -> Result<Self, ConfigError> {
        Ok(Self {
            outstanding_max: values.number("globalOutstandingLimit", 1000usize)?,
            requests_max: values.limit("request_throttle_max_requests", 0)?,
            throttled_after_ms: values.limit("throttled_op_wait_time", 0)? as u64,
            large_threshold: usize::try_from(values.number_in(
                "largeRequestThreshold",
                1..=0x7fff_ffff,
                -1,
            )?)
            .ok(),
            large_bytes_max: values.number_in("largeRequestMaxBytes", 1..=0x7fff_ffff, 100 << 20)?
                as usize,
            sessions: SessionBucket::read(values)?,
        })
    }
}

impl SessionBucket {
    fn read(values: &Values) -> Result<Option<Self>, ConfigError> {
        let number =
            |key: &str, default: i64| values.number_in(key, -0x8000_0000..=0x7fff_ffff, default);
        let positive = |key: &str, default: i64| values.number_in(key, 1..=0x7fff_ffff, default);
        let is_weighted = values.boolean("connection_throttle_weight_enabled")?;
        let local = positive("connection_throttle_local_session_weight", 1)?;
        let new = positive("connection_throttle_global_session_weight", 3)?.max(local);
        let is_local = values.boolean("localSessionsEnabled")?;
        let renew = positive("connection_throttle_renew_session_weight", 2)?.max(local);
        // Tokens are of new sessions: with weights there are as many more of them.
        let scale = if is_weighted { new } else { 1 };
        let tokens_max = number("connection_throttle_tokens", 0)? * scale;
        let bucket = Self {
            tokens_max,
            fill_time_ms: positive("connection_throttle_fill_time", 1)?,
            fill_count: positive("connection_throttle_fill_count", 1)? * scale,
            freeze_time_ms: match number("connection_throttle_freeze_time", -1)? {
                -1 => None,
                given => Some(given),
            },
            drop_increase: values.part("connection_throttle_drop_increase", 0.02)?,
            drop_decrease: values.part("connection_throttle_drop_decrease", 0.002)?,
            decrease_ratio: values.part("connection_throttle_decrease_ratio", 0.0)?,
            new_weight: match (is_weighted, is_local) {
                (false, _) => 1,
                (true, false) => new,
                (true, true) => local,
            },
            renew_weight: if is_weighted { renew } else { 1 },
        };
        Ok((tokens_max > 0).then_some(bucket))
    }
}
