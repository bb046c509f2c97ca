//! Durations and sizes as flags and messages write them (stout's `duration.hpp`, `bytes.hpp`).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

impl crate::v1::DurationInfo {
    /// As long as it says; nothing where it says less than nothing.
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.try_into().unwrap_or_default())
    }
}

/// Why a text is no duration or size, in the original's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// No unit.
    #[error("Invalid {of} '{text}'")]
    Unitless {
        /// `duration` or `bytes`.
        of: &'static str,
        /// The text.
        text: String,
    },
    /// What stands before the unit is no number.
    #[error("Failed to convert '{0}' to number")]
    Number(String),
    /// The unit of a duration isn't known.
    #[error(
        "Unknown duration unit '{0}'; supported units are 'ns', 'us', 'ms', 'secs', 'mins', 'hrs', 'days', and 'weeks'"
    )]
    DurationUnit(String),
    /// The unit of a size isn't known.
    #[error("Unknown bytes unit '{0}'")]
    BytesUnit(String),
    /// A size with a fraction.
    #[error("Fractional bytes '{0}'")]
    Fraction(String),
    /// More nanoseconds than a signed 64-bit integer counts.
    #[error("Argument out of the range that a Duration can represent due to int64_t's size limit")]
    DurationRange,
    /// More bytes than 64 bits count.
    #[error("'{0}' is more than can be counted in bytes")]
    BytesRange(String),
}

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000 * MICROSECOND;
const SECOND: u64 = 1_000 * MILLISECOND;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;

/// Units and their nanoseconds, from the smallest.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", MICROSECOND),
    ("ms", MILLISECOND),
    ("secs", SECOND),
    ("mins", MINUTE),
    ("hrs", HOUR),
    ("days", DAY),
    ("weeks", WEEK),
];

/// Number and unit: the unit begins where digits and points end.
fn split<'a>(text: &'a str, of: &'static str) -> Result<(&'a str, &'a str), UnitError> {
    let at = text
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .ok_or_else(|| UnitError::Unitless { of, text: text.to_owned() })?;
    Ok(text.split_at(at))
}

/// Reads `15mins`, `1.5hrs`, `100ms`.
///
/// # Errors
/// When there is no number or unit, the unit is unknown, or the value is negative or too large.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split(text, "duration")?;
    let value: f64 = number.parse().map_err(|_| UnitError::Number(number.to_owned()))?;
    let (_, nanoseconds) = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(|| UnitError::DurationUnit(unit.to_owned()))?;
    let total = value * *nanoseconds as f64;
    if !(0.0..i64::MAX as f64).contains(&total) {
        return Err(UnitError::DurationRange);
    }
    Ok(Duration::from_nanos(total as u64))
}

/// Writes a duration as the original does: in the largest unit that is not more than it, or the next smaller one if
/// only that divides it: `1mins`, `90mins`, `10days`, `1.01694444444444hrs`.
pub fn format_duration(duration: Duration) -> String {
    let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let index = UNITS.iter().rposition(|(_, size)| nanoseconds >= *size).unwrap_or(0);
    let (mut unit, mut size) = UNITS[index];
    if let Some(smaller) = index.checked_sub(1).map(|index| UNITS[index])
        && !nanoseconds.is_multiple_of(size)
        && nanoseconds.is_multiple_of(smaller.1)
    {
        (unit, size) = smaller;
    }
    format!("{}{unit}", format_significant(nanoseconds as f64 / size as f64))
}

/// A double with at most 15 significant digits, as C's `%.15g` prints it.
pub fn format_significant(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "nan"
        } else if value > 0.0 {
            "inf"
        } else {
            "-inf"
        }
        .to_owned();
    }
    let scientific = format!("{value:.14e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| {
        let trimmed = text.trim_end_matches('0').trim_end_matches('.');
        if text.contains('.') { trimmed.to_owned() } else { text.to_owned() }
    };
    if (-4..15).contains(&exponent) {
        let decimals = usize::try_from(14 - exponent).unwrap_or(0);
        return trim(&format!("{value:.decimals$}"));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim(mantissa), exponent.abs())
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
        let (number, unit) = split(text, "bytes")?;
        if number.contains('.') {
            return Err(UnitError::Fraction(text.to_owned()));
        }
        let range = || UnitError::BytesRange(text.to_owned());
        let value: u64 = match number {
            "" => return Err(UnitError::Number(String::new())),
            digits => digits.parse().map_err(|_| range())?,
        };
        let upper = unit.to_ascii_uppercase();
        let (_, size) =
            SIZES.iter().find(|(name, _)| *name == upper).ok_or(UnitError::BytesUnit(upper))?;
        value.checked_mul(*size).map(Self).ok_or_else(range)
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
    use proptest::prelude::*;

    /// Each asked of the original: `/flags` of a master started with it.
    #[test]
    fn durations_read_and_print_as_the_original() {
        for (text, printed) in [
            ("15mins", "15mins"),
            ("1.5hrs", "90mins"),
            ("60secs", "1mins"),
            ("1weeks", "1weeks"),
            ("0ns", "0ns"),
            ("0secs", "0ns"),
            ("0.1ns", "0ns"),
            ("100ms", "100ms"),
            ("3661secs", "1.01694444444444hrs"),
            ("8days", "8days"),
            ("14days", "2weeks"),
            ("1.5weeks", "1.5weeks"),
            ("61mins", "61mins"),
            ("1001ms", "1001ms"),
            ("1500us", "1500us"),
            ("90061secs", "1.04237268518519days"),
            ("100001us", "100001us"),
            ("999999999ns", "999.999999ms"),
            ("12345678901234ns", "3.42935525034278hrs"),
            ("1.0000001secs", "1.0000001secs"),
            ("1.23456789123ms", "1.234567ms"),
            ("36hrs", "36hrs"),
        ] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), printed, "{text}");
        }
        for (text, error) in [
            ("5", "Invalid duration '5'"),
            ("", "Invalid duration ''"),
            ("x", "Failed to convert '' to number"),
            ("-1secs", "Failed to convert '' to number"),
            ("1.2.3secs", "Failed to convert '1.2.3' to number"),
            (
                "5 secs",
                "Unknown duration unit ' secs'; supported units are 'ns', 'us', 'ms', 'secs', 'mins', 'hrs', 'days', and 'weeks'",
            ),
            (
                "100000weeks",
                "Argument out of the range that a Duration can represent due to int64_t's size limit",
            ),
        ] {
            assert_eq!(parse_duration(text).unwrap_err().to_string(), error, "{text}");
        }
    }

    #[test]
    fn sizes_read_and_print_as_the_original() {
        for (text, printed) in [
            ("64MB", "64MB"),
            ("1024kb", "1MB"),
            ("5000kb", "5000KB"),
            ("5GB", "5GB"),
            ("0B", "0B"),
            ("1500B", "1500B"),
        ] {
            assert_eq!(text.parse::<Bytes>().unwrap().to_string(), printed, "{text}");
        }
        for (text, error) in [
            ("", "Invalid bytes ''"),
            ("5", "Invalid bytes '5'"),
            ("1.5KB", "Fractional bytes '1.5KB'"),
            ("5x", "Unknown bytes unit 'X'"),
            ("5 MB", "Unknown bytes unit ' MB'"),
            ("MB", "Failed to convert '' to number"),
            ("-5MB", "Failed to convert '' to number"),
            ("99999999999TB", "'99999999999TB' is more than can be counted in bytes"),
        ] {
            assert_eq!(text.parse::<Bytes>().unwrap_err().to_string(), error, "{text}");
        }
    }

    #[test]
    fn doubles_print_with_fifteen_digits() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.5, "0.5"),
            (0.1 + 0.2, "0.3"),
            (1.235, "1.235"),
            (-1.124, "-1.124"),
            (123_456_789.125, "123456789.125"),
            (12_345_678_901_234.0, "12345678901234"),
            (-9_223_372_036_854_775.0, "-9.22337203685478e+15"),
            (0.000_01, "1e-05"),
            (9.999_999_999_999_999e14, "1e+15"),
        ] {
            assert_eq!(format_significant(value), text);
        }
    }

    proptest! {
        #[test]
        fn a_printed_size_reads_as_itself(size: u64) {
            prop_assert_eq!(Bytes(size).to_string().parse::<Bytes>(), Ok(Bytes(size)));
        }

        #[test]
        fn a_printed_duration_reads_as_nearly_itself(nanoseconds in 0..i64::MAX as u64 / 2) {
            let back = parse_duration(&format_duration(Duration::from_nanos(nanoseconds))).unwrap();
            prop_assert!(back.as_nanos().abs_diff(u128::from(nanoseconds)) <= 1 + u128::from(nanoseconds) / 100_000_000_000_000);
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,12}") {
            let _ = (parse_duration(&text), text.parse::<Bytes>());
        }
    }
}
