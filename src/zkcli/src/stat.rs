//! A znode's stat as text (`StatPrinter`) and as JSON.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use zookeeper_client::Stat;

/// `java.util.Date.toString`, in the local time zone.
fn date(ms: i64, zone: &TimeZone) -> String {
    Timestamp::from_millisecond(ms).map_or_else(
        |_| format!("{ms} ms since 1970"),
        |time| time.to_zoned_datetime(zone.clone()).strftime("%a %b %d %H:%M:%S %Z %Y").to_string(),
    )
}

/// Eleven lines.
pub fn text(stat: &Stat) -> String {
    text_in(stat, &TimeZone::system())
}

fn text_in(stat: &Stat, zone: &TimeZone) -> String {
    format!(
        "cZxid = 0x{:x}\nctime = {}\nmZxid = 0x{:x}\nmtime = {}\npZxid = 0x{:x}\ncversion = {}\ndataVersion = {}\naclVersion = {}\nephemeralOwner = 0x{:x}\ndataLength = {}\nnumChildren = {}",
        stat.czxid,
        date(stat.ctime, zone),
        stat.mzxid,
        date(stat.mtime, zone),
        stat.pzxid,
        stat.cversion,
        stat.version,
        stat.aversion,
        stat.ephemeral_owner,
        stat.data_length,
        stat.num_children
    )
}

/// Under the protocol's names; times in ms since 1970.
pub fn json(stat: &Stat) -> Value {
    json!({
        "czxid": stat.czxid, "mzxid": stat.mzxid, "pzxid": stat.pzxid,
        "ctime": stat.ctime, "mtime": stat.mtime,
        "version": stat.version, "cversion": stat.cversion, "aversion": stat.aversion,
        "ephemeralOwner": stat.ephemeral_owner,
        "dataLength": stat.data_length, "numChildren": stat.num_children,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_is_printed_as_the_original_does() {
        let stat = Stat {
            czxid: 0x10,
            mzxid: 0x1a,
            pzxid: 255,
            ctime: 1_764_150_838_000,
            mtime: 0,
            version: 1,
            cversion: 2,
            aversion: -1,
            ephemeral_owner: 0x0100_0000_dead_beef,
            data_length: 3,
            num_children: 4,
        };
        assert_eq!(
            text_in(&stat, &TimeZone::UTC),
            "cZxid = 0x10\nctime = Wed Nov 26 09:53:58 UTC 2025\nmZxid = 0x1a\nmtime = Thu Jan 01 00:00:00 UTC 1970\npZxid = 0xff\ncversion = 2\ndataVersion = 1\naclVersion = -1\nephemeralOwner = 0x1000000deadbeef\ndataLength = 3\nnumChildren = 4"
        );
        assert_eq!(json(&stat)["ephemeralOwner"], 0x0100_0000_dead_beef_i64);
    }
}
