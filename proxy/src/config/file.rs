//! A small typed reader over TOML that knows the place of each value and does not stop at a fault.
//!
//! It is not serde, because serde stops at the first fault and knows a place only for what it could parse. The code that reads a table asks for each
//! key by name, with the range that is allowed; a key that it does not ask for is unknown. So one line of code holds all about a key: its name, its
//! type, its range and its default. This module does not know what the keys mean, or how they depend on each other.

use std::fmt::Display;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use outrigger_policy::units::Ratio;
use toml::de::{DeTable, DeValue};

use super::duration::{parse_duration, parse_size, show_duration, show_size};
use super::fault::{Collector, Faults, Place, quoted};

mod key;
mod nearest;
mod value;

use key::Found;
pub(super) use key::{Key, Settled};
use nearest::nearest;
use value::{Checked, check_value, found_table, in_range, integer, integer_in, ratio_in, shown};

/// Keys that had another name in an earlier release: the old name, then the name of today. They hold in every table that knows the new name.
const RENAMED: [(&str, &str); 2] = [("answer", "response"), ("interim_max", "informational_max")];

/// Reads a text; `read` gets its outermost table. `file` is the name that faults call it.
///
/// # Errors
/// All faults of the text, in order of their place.
pub(super) fn read<R>(file: &str, text: &str, read: impl FnOnce(&mut Table<'_>) -> R) -> Result<R, Faults> {
    let (document, syntax) = DeTable::parse_recoverable(text);
    let faults = Collector::new(file, text, &syntax);
    let place = Place { path: String::new(), offset: 0 };
    let value = Table::new(&faults, place, Found::Written(document.get_ref())).read(read);
    faults.finish(value)
}

/// One table while it is read. A table that the file leaves out reads like an empty one.
pub(super) struct Table<'t> {
    pub(super) faults: &'t Collector<'t>,
    pub(super) place: Place,
    found: Found<&'t DeTable<'t>>,
    /// Keys that were asked for.
    known: Vec<&'static str>,
}

/// An item of an array.
pub(super) struct Item<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

impl<'t> Table<'t> {
    fn new(faults: &'t Collector<'t>, place: Place, found: Found<&'t DeTable<'t>>) -> Table<'t> {
        Table { faults, place, found, known: Vec::new() }
    }

    /// Whether the file sets any key of it, right or wrong.
    pub(super) fn has_keys(&self) -> bool {
        matches!(self.found, Found::Written(table) if !table.is_empty())
    }

    /// A table in this one: `[name]`.
    pub(super) fn section<R>(&mut self, name: &'static str, read: impl FnOnce(&mut Table<'_>) -> R) -> R {
        let expected = format!("a table ([{}])", self.place.child(name, 0).path);
        let key = self.key(name, &expected, |value| value.as_table().map(Ok));
        Table::new(self.faults, key.place, key.found).read(read)
    }

    /// A table of tables, `[name.ANY]`, in order of the file; `read` gets the name of each.
    pub(super) fn sections<R>(
        &mut self,
        name: &'static str,
        mut read: impl FnMut(&str, &mut Table<'_>) -> R,
    ) -> Key<Vec<R>> {
        let expected = format!("a table ([{}.NAME])", self.place.child(name, 0).path);
        let key = self.key(name, &expected, |value| value.as_table().map(Ok));
        let (faults, place) = (self.faults, key.place.clone());
        key.map(|tables| {
            let mut tables: Vec<_> = tables.iter().collect();
            tables.sort_by_key(|(name, _)| name.span().start);
            let each = tables.into_iter().map(|(name, value)| {
                let place = place.child(name.get_ref(), name.span().start);
                let found = found_table(faults, &place, value.get_ref());
                Table::new(faults, place, found).read(|table| read(name.get_ref(), table))
            });
            each.collect()
        })
    }

    /// An array of tables, `[[name]]`; empty if the file leaves it out.
    pub(super) fn tables<R>(&mut self, name: &'static str, mut read: impl FnMut(&mut Table<'_>) -> R) -> Vec<R> {
        let expected = format!("tables ([[{}]])", self.place.child(name, 0).path);
        let key = self.key(name, &expected, |value| value.as_array().map(Ok));
        let (faults, place) = (self.faults, key.place.clone());
        let items = key.map(|array| {
            let each = array.iter().enumerate().map(|(index, item)| {
                let place = place.item(index, item.span().start);
                let found = found_table(faults, &place, item.get_ref());
                Table::new(faults, place, found).read(&mut read)
            });
            each.collect()
        });
        items.or(Vec::new())
    }

    pub(super) fn boolean(&mut self, name: &'static str) -> Key<bool> {
        self.key(name, "true or false", |value| value.as_bool().map(Ok))
    }

    pub(super) fn integer<T>(&mut self, name: &'static str, range: RangeInclusive<T>) -> Key<T>
    where
        T: PartialOrd + Display + TryFrom<i128>,
    {
        let expected = format!("an integer from {} to {}", range.start(), range.end());
        self.key(name, &expected, |value| integer_in(value, &range))
    }

    /// An integer from 1 to `max`.
    pub(super) fn positive(&mut self, name: &'static str, max: u32) -> Key<NonZeroU32> {
        // The range leaves no 0 to be replaced.
        self.integer(name, 1..=max).map(|number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN))
    }

    pub(super) fn duration(&mut self, name: &'static str, range: RangeInclusive<Duration>) -> Key<Duration> {
        self.key(name, r#"a duration like "10s", "250ms", "5m""#, |value| {
            let text = value.as_str()?;
            let duration = parse_duration(text).map_err(|error| format!("{} {error}", quoted(text)));
            Some(duration.and_then(|found| in_range(Some(found), &range, &quoted(text), |end| show_duration(*end))))
        })
    }

    /// A number of bytes: an integer, or a string with a unit.
    pub(super) fn size(&mut self, name: &'static str, range: RangeInclusive<usize>) -> Key<usize> {
        self.key(name, r#"a size like "64KiB", "16MiB", or bytes"#, |value| {
            let (size, shown) = match value {
                DeValue::String(text) => {
                    (parse_size(text).map(Some).map_err(|error| format!("{} {error}", quoted(text))), quoted(text))
                }
                DeValue::Integer(number) => (Ok(integer(number)), number.to_string()),
                _ => return None,
            };
            Some(size.and_then(|found| in_range(found, &range, &shown, |end| show_size(*end))))
        })
    }

    /// A ratio: 0.2 is 20 %.
    pub(super) fn ratio(&mut self, name: &'static str, range: RangeInclusive<f64>) -> Key<Ratio> {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        self.key(name, &expected, |value| ratio_in(value, &range))
    }

    /// As [`Table::ratio`], but 0 is refused.
    pub(super) fn ratio_above_zero(&mut self, name: &'static str, max: f64) -> Key<Ratio> {
        self.key(name, &format!("a number above 0 to {max}"), |value| {
            Some(ratio_in(value, &(0.0..=max))?.and_then(|ratio| match ratio {
                Ratio::ZERO => Err(format!("0 is not in the range above 0 to {max}")),
                ratio => Ok(ratio),
            }))
        })
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)]) -> Key<T> {
        let all = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        self.key(name, &format!("one of {all}"), |value| {
            let text = value.as_str()?;
            let found = words.iter().find(|(word, _)| *word == text);
            Some(found.map(|(_, meant)| *meant).ok_or_else(|| format!("{} is not one of {all}", quoted(text))))
        })
    }

    /// A string that `parse` accepts; `expected` describes it.
    pub(super) fn text<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Checked<T>,
    ) -> Key<T> {
        self.key(name, &format!("a string with {expected}"), |value| value.as_str().map(parse))
    }

    /// An array of `count` different strings, each of which `parse` accepts.
    pub(super) fn texts<T: PartialEq>(
        &mut self,
        name: &'static str,
        expected: &str,
        count: RangeInclusive<usize>,
        parse: impl Fn(&str) -> Checked<T>,
    ) -> Key<Vec<Item<T>>> {
        self.array(name, &format!("a string with {expected}"), count, |value| value.as_str().map(&parse))
    }

    /// An array of different integers.
    pub(super) fn integers(&mut self, name: &'static str, range: RangeInclusive<u16>) -> Key<Vec<Item<u16>>> {
        let expected = format!("an integer from {} to {}", range.start(), range.end());
        let count = 0..=usize::from(range.end() - range.start()) + 1;
        self.array(name, &expected, count, |value| integer_in(value, &range))
    }

    fn array<T: PartialEq>(
        &mut self,
        name: &'static str,
        expected: &str,
        count: RangeInclusive<usize>,
        check: impl Fn(&DeValue<'_>) -> Option<Checked<T>>,
    ) -> Key<Vec<Item<T>>> {
        let key = self.key(name, &format!("an array, each item of it {expected}"), |value| {
            let array = value.as_array()?;
            let (length, least, most) = (array.len(), count.start(), count.end());
            let fault = || format!("has {length} items, not {least} to {most}");
            Some(count.contains(&length).then_some(array).ok_or_else(fault))
        });
        let Found::Written(array) = key.found else {
            return key.map(|_| Vec::new());
        };
        let mut read: Vec<Item<T>> = Vec::new();
        for (index, item) in array.iter().enumerate() {
            let place = key.place.item(index, item.span().start);
            match check_value(item.get_ref(), expected, &check) {
                Ok(value) if read.iter().any(|earlier| earlier.value == value) => {
                    self.faults.add(&place, format!("{} is there twice", shown(item.get_ref())));
                }
                Ok(value) => read.push(Item { value, place }),
                Err(message) => self.faults.add(&place, message),
            }
        }
        let found = if read.len() == array.len() { Found::Written(read) } else { Found::Wrong };
        Key { place: key.place, found }
    }

    /// Looks a key up and checks it; `check` returns `None` for a value of another type than `expected`.
    fn key<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        check: impl FnOnce(&'t DeValue<'t>) -> Option<Checked<T>>,
    ) -> Key<T> {
        self.known.push(name);
        let left_out = self.place.child(name, self.place.offset);
        let table = match self.found {
            Found::Written(table) => table,
            Found::LeftOut => return Key { place: left_out, found: Found::LeftOut },
            Found::Wrong => return Key { place: left_out, found: Found::Wrong },
        };
        // The value of an old name is checked too, so that one run reports every fault.
        let mut old_names = RENAMED.iter().filter(|(_, new)| *new == name).map(|(old, _)| *old);
        let entry = table.get_key_value(name).or_else(|| old_names.find_map(|old| table.get_key_value(old)));
        let Some((key, value)) = entry else {
            return Key { place: left_out, found: Found::LeftOut };
        };
        let place = self.place.child(name, key.span().start);
        let found = match check_value(value.get_ref(), expected, check) {
            Ok(value) => Found::Written(value),
            Err(message) => {
                // A string that is never closed seems to hold the rest of the file.
                if self.faults.is_readable(value.span().end) {
                    self.faults.add(&place, message);
                }
                Found::Wrong
            }
        };
        Key { place, found }
    }

    /// Runs `read` on the table, then adds a fault for each key that it did not ask for.
    fn read<R>(mut self, read: impl FnOnce(&mut Table<'_>) -> R) -> R {
        let value = read(&mut self);
        if let Found::Written(table) = self.found {
            for (key, _) in table.iter().filter(|(key, _)| !self.known.contains(&key.get_ref().as_ref())) {
                let place = self.place.child(key.get_ref(), key.span().start);
                self.faults.add(&place, self.not_known(key.get_ref()));
            }
        }
        value
    }

    /// What is wrong with a key that was not asked for.
    fn not_known(&self, key: &str) -> String {
        let renamed = RENAMED.iter().find(|(old, new)| *old == key && self.known.contains(new));
        if let Some((_, new)) = renamed {
            return format!("renamed: write {}", self.place.child(new, 0).path);
        }
        match nearest(key, &self.known) {
            Some(known) => format!("unknown key (did you mean {known}?)"),
            None => format!("unknown key (known here: {})", self.known.join(", ")),
        }
    }
}
