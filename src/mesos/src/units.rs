//! Durations and sizes as flags and messages write them (stout's `duration.hpp`, `bytes.hpp`).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Why a text is no duration or size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// No number in front.
    #[error("Invalid number in '{0}'")]
    Number(String),
    /// The unit isn't known.
    #[error("Unknown {of} unit '{unit}'")]
    Unit {
        /// `duration` or `bytes`.
        of: &'static str,
        /// What stands there.
        unit: String,
    },
    /// The value doesn't fit.
    #[error("'{0}' is out of range")]
    Range(String),
}

const NANOS: [(&str, u64); 8] = [
    ("weeks", 604_800_000_000_000),
    ("days", 86_400_000_000_000),
    ("hrs", 3_600_000_000_000),
    ("mins", 60_000_000_000),
    ("secs", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Reads `15mins`, `1.5hrs`, `100ms`.
///
/// # Errors
/// When there is no number, the unit is unknown, or the value is negative or too large.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let value: f64 = number.parse().map_err(|_| UnitError::Number(text.to_owned()))?;
    let (_, nanos) = NANOS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(|| UnitError::Unit { of: "duration", unit: unit.to_owned() })?;
    // The original counts nanoseconds in an i64.
    let total = value * *nanos as f64;
    if !(0.0..9_223_372_036_854_775_807.0).contains(&total) {
        return Err(UnitError::Range(text.to_owned()));
    }
    Ok(Duration::from_nanos(total as u64))
}

/// Writes with the largest unit that divides evenly: `1mins`, `15secs`, `1weeks`.
pub fn format_duration(duration: Duration) -> String {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    if nanos == 0 {
        return "0ns".to_owned();
    }
    let (unit, size) =
        NANOS.iter().find(|(_, size)| nanos.is_multiple_of(*size)).unwrap_or(&("ns", 1));
    format!("{}{unit}", nanos / size)
}

/// A size in bytes, written `64MB`: powers of 1024, no fractions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Bytes(pub u64);

const SIZES: [(&str, u64); 5] =
    [("TB", 1 << 40), ("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10), ("B", 1)];

impl Bytes {
    /// In megabytes, as resources count memory and disk.
    pub fn megabytes(self) -> u64 {
        self.0 >> 20
    }
}

impl FromStr for Bytes {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let value: u64 = number.parse().map_err(|_| UnitError::Number(text.to_owned()))?;
        let upper = unit.to_ascii_uppercase();
        let (_, size) = SIZES
            .iter()
            .find(|(name, _)| *name == upper)
            .ok_or_else(|| UnitError::Unit { of: "bytes", unit: unit.to_owned() })?;
        value.checked_mul(*size).map(Self).ok_or_else(|| UnitError::Range(text.to_owned()))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return formatter.write_str("0B");
        }
        let (unit, size) =
            SIZES.iter().find(|(_, size)| self.0.is_multiple_of(*size)).unwrap_or(&("B", 1));
        write!(formatter, "{}{unit}", self.0 / size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print_as_the_original() {
        for (text, printed) in [
            ("15mins", "15mins"),
            ("1.5hrs", "90mins"),
            ("60secs", "1mins"),
            ("1weeks", "1weeks"),
            ("0ns", "0ns"),
            ("100ms", "100ms"),
        ] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), printed, "{text}");
        }
        for text in ["", "15", "15 mins", "15minutes", "x", "-1secs", "1e30weeks", "mins"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_read_and_print_as_the_original() {
        for (text, printed) in
            [("64MB", "64MB"), ("1024kb", "1MB"), ("5GB", "5GB"), ("0B", "0B"), ("1500B", "1500B")]
        {
            assert_eq!(text.parse::<Bytes>().unwrap().to_string(), printed, "{text}");
        }
        for text in ["", "64", "1.5GB", "MB", "-1MB", "99999999999999TB"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }
}
