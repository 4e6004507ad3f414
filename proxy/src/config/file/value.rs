//! One value: its type, its range, and the words for what is wrong with either.

use std::fmt::Display;
use std::ops::RangeInclusive;

use outrigger_policy::units::Ratio;
use toml::de::{DeInteger, DeTable, DeValue};

use super::key::Found;
use crate::config::fault::{Collector, Place, quoted};

/// What a value says once its type is right; the error is the message of a fault.
pub(super) type Checked<T> = Result<T, String>;

/// Runs `check`, which returns `None` for a value of another type than `expected`.
pub(super) fn check_value<'v, 'i, T>(
    value: &'v DeValue<'i>,
    expected: &str,
    check: impl FnOnce(&'v DeValue<'i>) -> Option<Checked<T>>,
) -> Checked<T> {
    check(value).unwrap_or_else(|| Err(format!("found {}, expected {expected}", type_of(value))))
}

/// A value that must be a table, being one among others.
pub(super) fn found_table<'v, 'i>(
    faults: &Collector<'_>,
    place: &Place,
    value: &'v DeValue<'i>,
) -> Found<&'v DeTable<'i>> {
    match check_value(value, "a table", |value| value.as_table().map(Ok)) {
        Ok(table) => Found::Written(table),
        Err(message) => {
            faults.add(place, message);
            Found::Wrong
        }
    }
}

/// `value`, if `range` has it; `None` is beyond every range.
pub(super) fn in_range<T: PartialOrd>(
    value: Option<T>,
    range: &RangeInclusive<T>,
    found: &str,
    show: impl Fn(&T) -> String,
) -> Checked<T> {
    let outside = || format!("{found} is not between {} and {}", show(range.start()), show(range.end()));
    value.filter(|value| range.contains(value)).ok_or_else(outside)
}

/// `None` if it does not fit.
pub(super) fn integer<T: TryFrom<i128>>(number: &DeInteger<'_>) -> Option<T> {
    i128::from_str_radix(number.as_str(), number.radix()).ok().and_then(|number| T::try_from(number).ok())
}

pub(super) fn integer_in<T>(value: &DeValue<'_>, range: &RangeInclusive<T>) -> Option<Checked<T>>
where
    T: PartialOrd + Display + TryFrom<i128>,
{
    value.as_integer().map(|number| in_range(integer(number), range, &shown(value), ToString::to_string))
}

pub(super) fn ratio_in(value: &DeValue<'_>, range: &RangeInclusive<f64>) -> Option<Checked<Ratio>> {
    let number: f64 = match value {
        DeValue::Integer(number) => integer::<i64>(number).map_or(f64::NAN, |number| number as f64),
        DeValue::Float(number) => number.as_str().parse().unwrap_or(f64::NAN),
        _ => return None,
    };
    let found = shown(value);
    let checked = in_range(Some(number), range, &found, ToString::to_string).and_then(|number| {
        // Never rounded to nothing in silence.
        let ratio = Ratio::from_f64(number).filter(|ratio| *ratio != Ratio::ZERO || number == 0.0);
        ratio.ok_or_else(|| format!("{found} is finer than a millionth"))
    });
    Some(checked.map_err(|message| {
        // Nobody means 20 times; 1.5 could be a slip of another kind.
        let is_percent = (2.0..=100.0).contains(&number) && *range.end() < number;
        if is_percent { format!("{message} (ratios are shares: {found} % is {})", number / 100.0) } else { message }
    }))
}

/// A value as the file has it.
pub(super) fn shown(value: &DeValue<'_>) -> String {
    let text = match value {
        DeValue::String(text) => return quoted(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        _ => return type_of(value).to_owned(),
    };
    // Numbers need no quotes, but can be as long as the file.
    if text.len() <= 40 { text } else { format!("{}…", &text[..40]) }
}

fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
