//! Durations and sizes as the file writes them: one whole number and one unit.
//!
//! There are no sums ("1h30m" is "90m") and no fractions ("1.5s" is "1500ms"), so that the same value is nearly always written in the same way. A
//! duration needs its unit, because a bare number means seconds in one tool and milliseconds in the next. A size may be plain bytes.

use std::time::Duration;

/// From the largest to the smallest, so that the first that divides a value is the one to write it with.
const DURATION_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZE_UNITS: [(&str, usize); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads "250ms", "10s", "5m", "1h". A value too large for a `u64` of milliseconds becomes `u64::MAX`, which is beyond every range. The error says what is
/// wrong with the text; the fault quotes the text before it.
pub(super) fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    let (number, unit) = split(text).ok_or(r#"is not a duration (write "10s", "250ms", "5m")"#)?;
    if unit.is_empty() {
        return Err(r#"has no unit (write "10s", "250ms", "5m")"#);
    }
    let (_, millis) = DURATION_UNITS
        .into_iter()
        .find(|(name, _)| *name == unit)
        .ok_or(r#"is not one whole number with a unit of "ms", "s", "m" or "h""#)?;
    Ok(Duration::from_millis(number.parse().unwrap_or(u64::MAX).saturating_mul(millis)))
}

/// Reads "64KiB", "16MiB", "1GiB", "512B". A value too large for a `usize` becomes `usize::MAX`, which is beyond every range.
pub(super) fn parse_size(text: &str) -> Result<usize, &'static str> {
    let (number, unit) = split(text).ok_or(r#"is not a size (write "64KiB", "16MiB", or bytes without quotes)"#)?;
    if unit.is_empty() {
        return Err(r#"has no unit (write "64KiB", "16MiB", or bytes without quotes)"#);
    }
    let (_, bytes) = SIZE_UNITS
        .into_iter()
        .find(|(name, _)| *name == unit)
        .ok_or(r#"is not one whole number with a unit of "B", "KiB", "MiB" or "GiB""#)?;
    Ok(number.parse().unwrap_or(usize::MAX).saturating_mul(bytes))
}

/// The shortest spelling that [`parse_duration`] reads back. Fractions of a millisecond are cut.
pub(super) fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    show(millis, DURATION_UNITS.into_iter().find(|(_, unit)| millis.is_multiple_of(*unit)))
}

/// The shortest spelling; plain bytes have no unit.
pub(super) fn show_size(bytes: usize) -> String {
    let unit = SIZE_UNITS.into_iter().find(|(_, unit)| bytes.is_multiple_of(*unit));
    show(bytes as u64, unit.filter(|(name, _)| bytes > 0 && *name != "B").map(|(name, unit)| (name, unit as u64)))
}

fn show(value: u64, unit: Option<(&str, u64)>) -> String {
    let (name, unit) = unit.unwrap_or(("", 1));
    format!("{}{name}", value / unit)
}

/// Digits and the rest; `None` when it does not begin with a digit.
fn split(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).filter(|(number, _)| !number.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_one_whole_number_and_one_unit() {
        for (text, millis) in [
            ("0s", 0),
            ("0ms", 0),
            ("250ms", 250),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("007s", 7_000),
            ("18446744073709551615ms", u64::MAX),
            ("18446744073709551616ms", u64::MAX),
            ("18446744073709551615h", u64::MAX),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn the_error_of_a_wrong_duration_says_what_is_wrong() {
        let (no_unit, not_one) = ("has no unit", "is not one whole number");
        for (text, said) in [
            ("", "is not a duration"),
            ("s", "is not a duration"),
            ("-5s", "is not a duration"),
            ("+5s", "is not a duration"),
            (" 5s", "is not a duration"),
            ("٣s", "is not a duration"),
            ("ten seconds", "is not a duration"),
            ("10", no_unit),
            ("0", no_unit),
            ("10 s", not_one),
            ("10S", not_one),
            ("1h30m", not_one),
            ("1.5s", not_one),
            ("1d", not_one),
            ("10µs", not_one),
            ("5é", not_one),
            ("10s\n", not_one),
        ] {
            let error = parse_duration(text).expect_err(text);
            assert!(error.starts_with(said), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_size_is_one_whole_number_and_a_binary_unit() {
        for (text, bytes) in [
            ("0B", 0),
            ("512B", 512),
            ("64KiB", 65_536),
            ("16MiB", 16 << 20),
            ("1GiB", 1 << 30),
            ("99999999999999999999B", usize::MAX),
            ("99999999999999999GiB", usize::MAX),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for (text, said) in [
            ("", "is not a size"),
            ("-1KiB", "is not a size"),
            ("65536", "has no unit"),
            ("64KB", "is not one whole number"),
            ("64kib", "is not one whole number"),
            ("1.5MiB", "is not one whole number"),
            ("64 KiB", "is not one whole number"),
        ] {
            let error = parse_size(text).expect_err(text);
            assert!(error.starts_with(said), "{text:?}: {error}");
        }
    }

    #[test]
    fn what_is_shown_is_short_and_reads_back() {
        for text in ["0s", "1ms", "1500ms", "90s", "1m", "90m", "24h"] {
            assert_eq!(parse_duration(text).map(show_duration).as_deref(), Ok(text));
        }
        for (bytes, text) in [(0, "0"), (1, "1"), (1023, "1023"), (1024, "1KiB"), (1536, "1536"), (1 << 30, "1GiB")] {
            assert_eq!(show_size(bytes), text);
        }
    }
}
