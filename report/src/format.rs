//! Numbers as people read them, the same in tables, on pages and in progress lines.
//!
//! Rounding never makes a result look better than it is: a share is cut, not rounded, so 100 % means all.

/// A latency in ms with three digits that matter: `0.123`, `1.23`, `12.3`, `1234`; a dash if there is none.
#[must_use]
pub fn ms(value: Option<f64>) -> String {
    let Some(value) = value else { return "–".to_owned() };
    let decimals = match value {
        ..0.9995 => 3,
        0.9995..9.995 => 2,
        9.995..99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// The same with its unit: `12.3 ms`; a dash alone if there is none.
#[must_use]
pub fn with_ms(value: Option<f64>) -> String {
    let unit = if value.is_some() { " ms" } else { "" };
    ms(value) + unit
}

/// A count with its thousands set apart: `1,234,567`.
#[must_use]
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A part of a whole, cut to two decimals: `99.99 %` even if one in a million is missing; a dash of nothing.
#[must_use]
pub fn share(part: u64, whole: u64) -> String {
    let Some(hundredths) = (u128::from(part) * 10_000).checked_div(u128::from(whole)) else { return "–".to_owned() };
    match hundredths {
        10_000 => "100 %".to_owned(),
        // One in a million is not none.
        0 if part > 0 => "< 0.01 %".to_owned(),
        _ => format!("{}.{:02} %", hundredths / 100, hundredths % 100),
    }
}

/// A rate per second: `199.8/s`, or whole above a thousand.
#[must_use]
pub fn per_second(rate: f64) -> String {
    let decimals = usize::from(rate < 1_000.0);
    format!("{rate:.decimals$}/s")
}

/// A ratio with two decimals: `1.17`.
#[must_use]
pub fn ratio(value: f64) -> String {
    format!("{value:.2}")
}

/// Seconds: `1,199 s`, or `17.2 s` below a hundred.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds of a run are few and not negative"
)]
pub fn seconds(value: f64) -> String {
    format!("{} s", if value < 100.0 { format!("{value:.1}") } else { count(value.round() as u64) })
}

/// A share (0 to 1), rounded to the digits that matter: `15 %`, `0.34 %`. For limits and settings; results use [`share`].
#[must_use]
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let decimals = if (percent - percent.round()).abs() < 1e-9 {
        0
    } else if percent.abs() < 1.0 {
        2
    } else {
        1
    };
    format!("{percent:.decimals$} %")
}

/// A duration in ms: `48 ms`, `2.9 s`, or `never` if there is none.
#[must_use]
pub fn ms_or_never(value: Option<f64>) -> String {
    match value {
        None => "never".to_owned(),
        Some(ms) if ms >= 1_000.0 => format!("{:.1} s", ms / 1_000.0),
        Some(ms) => format!("{ms:.0} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_keep_three_digits_that_matter() {
        let check = |value: f64, expected: &str| assert_eq!(ms(Some(value)), expected);
        check(0.0, "0.000");
        check(0.1234, "0.123");
        check(0.9996, "1.00");
        check(1.234, "1.23");
        check(9.996, "10.0");
        check(99.96, "100");
        check(12_345.6, "12346");
        assert_eq!(ms(None), "–");
    }

    #[test]
    fn thousands_are_set_apart() {
        let check = |value: u64, expected: &str| assert_eq!(count(value), expected);
        check(0, "0");
        check(999, "999");
        check(1_000, "1,000");
        check(1_234_567, "1,234,567");
    }

    #[test]
    fn a_share_is_never_rounded_to_all_or_to_none() {
        let check = |part: u64, whole: u64, expected: &str| assert_eq!(share(part, whole), expected);
        check(1_000_000, 1_000_000, "100 %");
        check(999_999, 1_000_000, "99.99 %");
        check(1, 1_000_000, "< 0.01 %");
        check(0, 5, "0.00 %");
        check(17, 20, "85.00 %");
        check(0, 0, "–");
    }

    #[test]
    fn shares_have_the_digits_that_matter() {
        let check = |share: f64, expected: &str| assert_eq!(percent(share), expected);
        check(0.15, "15 %");
        check(0.3, "30 %");
        check(0.171, "17.1 %");
        check(0.15_f64.powi(3), "0.34 %");
        check(0.0, "0 %");
    }

    #[test]
    fn long_waits_have_their_thousands_apart_and_short_ones_a_decimal() {
        assert_eq!([1_199.4, 99.94, 0.0].map(seconds), ["1,199 s", "99.9 s", "0.0 s"]);
    }
}
