//! The quota znodes: their places and their text (`Quotas`, `StatsTrack`).

use std::collections::BTreeMap;

/// Below it a path's quota lies.
pub const ROOT: &str = "/zookeeper/quota";
/// The name of the znode with the limits.
pub const LIMITS: &str = "zookeeper_limits";
/// The name of the znode with the use.
pub const STATS: &str = "zookeeper_stats";

/// Where a path's quota znodes are.
pub fn place(path: &str) -> String {
    format!("{ROOT}{path}")
}

/// One of the four limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Warn above this number of znodes.
    Count,
    /// Warn above this number of bytes.
    Bytes,
    /// Refuse above this number of znodes.
    CountHard,
    /// Refuse above this number of bytes.
    BytesHard,
}

impl Limit {
    /// The limit that an option of `setquota` and `delquota` names.
    pub fn of_option(name: &str) -> Option<Self> {
        Some(match name {
            "n" => Self::Count,
            "b" => Self::Bytes,
            "N" => Self::CountHard,
            "B" => Self::BytesHard,
            _ => return None,
        })
    }

    fn key(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Bytes => "bytes",
            Self::CountHard => "countHardLimit",
            Self::BytesHard => "byteHardLimit",
        }
    }
}

/// Counts and limits: −1 is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Track {
    values: BTreeMap<String, i64>,
}

impl Track {
    /// No limit at all, written out as `setquota` does.
    pub fn unlimited() -> Self {
        let mut track = Self::default();
        for limit in [Limit::Count, Limit::Bytes, Limit::CountHard, Limit::BytesHard] {
            track.set(limit, -1);
        }
        track
    }

    /// Reads `count=1,bytes=2=;byteHardLimit=3;…`; what can't be read is left out.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split([',', ';']).filter_map(|pair| {
            let (key, rest) = pair.split_once('=')?;
            let value = rest.split('=').next().unwrap_or_default();
            Some((key.to_owned(), if value.is_empty() { -1 } else { value.parse().ok()? }))
        });
        Self { values: pairs.collect() }
    }

    /// A value; −1 if it is not there.
    pub fn get(&self, limit: Limit) -> i64 {
        self.values.get(limit.key()).copied().unwrap_or(-1)
    }

    /// Sets a value.
    pub fn set(&mut self, limit: Limit, value: i64) {
        self.values.insert(limit.key().to_owned(), value);
    }

    /// As it is stored. The odd `=` in front of what is new makes readers from before 3.7 pass it over.
    pub fn text(&self) -> String {
        let mut text = format!("count={},bytes={}", self.get(Limit::Count), self.get(Limit::Bytes));
        let further = self.values.iter().filter(|(key, _)| *key != "count" && *key != "bytes");
        for (index, (key, value)) in further.enumerate() {
            text.push_str(if index == 0 { "=;" } else { ";" });
            text.push_str(key);
            text.push('=');
            text.push_str(&value.to_string());
        }
        text
    }

    /// What `setquota` warns of: limits below what is used.
    pub fn warnings(&self, used: &Self) -> Vec<String> {
        let below = |soft, hard, use_of| {
            [soft, hard].iter().any(|limit| (0..used.get(use_of)).contains(&self.get(*limit)))
        };
        let mut found = Vec::new();
        for (soft, hard, what) in
            [(Limit::Count, Limit::CountHard, "count"), (Limit::Bytes, Limit::BytesHard, "bytes")]
        {
            if below(soft, hard, soft) {
                found.push(format!(
                    "[Warning]: the {what} quota you create is less than the existing {what}:{}",
                    used.get(soft)
                ));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quotas_are_read_and_written_as_the_original_does() {
        let mut track = Track::unlimited();
        assert_eq!(track.text(), "count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=-1");
        track.set(Limit::Count, 5);
        assert_eq!(Track::parse(&track.text()), track);
        let used = Track::parse("count=7,bytes=9");
        assert_eq!(used.text(), "count=7,bytes=9");
        assert_eq!(
            track.warnings(&used),
            ["[Warning]: the count quota you create is less than the existing count:7"]
        );
        track.set(Limit::Count, 7);
        assert!(track.warnings(&used).is_empty());
        assert_eq!(Track::parse("count=,bytes=x").get(Limit::Count), -1);
    }

    proptest! {
        #[test]
        fn nothing_panics_on_any_text(text in "\\PC{0,40}") {
            let _ = Track::parse(&text).text();
        }
    }
}
