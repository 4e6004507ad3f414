//! What is wrong with a configuration file: every fault of it in one run, one line each.
//!
//! An operator wants to mend a file once, so reading does not stop at the first fault. All messages have one form: place, key, what was found, what
//! is allowed. Text from the file cannot break out of its line, because it is quoted, escaped and cut.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt;

/// Further faults are counted, not printed: a file full of noise must not flood a log.
const SHOWN_MAX: usize = 100;
/// Characters of a text from the file that a fault repeats.
const QUOTED_MAX: usize = 60;

/// One fault: `config.toml:14: upstreams.checkout.breaker.failure_ratio: 1.5 is not between 0 and 1`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    file: String,
    line: Option<usize>,
    /// Empty when the fault is not about one key.
    path: String,
    message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// The faults of a file in order of their lines; at least one. Displayed, a line each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Faults {
    shown: Vec<Fault>,
    more: usize,
}

impl Faults {
    /// The one fault of a file that cannot be read.
    pub fn unreadable(file: &str, error: &std::io::Error) -> Faults {
        // The system's sentence begins with a capital ("No such file or directory").
        let mut message = error.to_string();
        if let Some(first) = message.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        Faults::one(file, None, format!("cannot be read: {message}"))
    }

    /// The one fault of a file that is no text, from `byte` in `line` on.
    pub(super) fn not_utf8(file: &str, line: usize, byte: u8) -> Faults {
        Faults::one(file, Some(line), format!("not UTF-8 from byte {byte:#04x} on"))
    }

    /// The one fault of a file that may take more than `allowed` bytes to read, up to `line`.
    pub(super) fn too_heavy(file: &str, line: usize, allowed: &str) -> Faults {
        let message = format!("to read the file up to here may take more than {allowed}, a quarter of the memory");
        Faults::one(file, Some(line), message)
    }

    fn one(file: &str, line: Option<usize>, message: String) -> Faults {
        Faults { shown: vec![Fault { file: file.to_owned(), line, path: String::new(), message }], more: 0 }
    }

    /// The faults that are printed: the first 100.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.shown.iter()
    }

    /// How many there are beyond those of [`Faults::iter`].
    pub fn more(&self) -> usize {
        self.more
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.shown.iter().enumerate() {
            let separator = if n == 0 { "" } else { "\n" };
            write!(f, "{separator}{fault}")?;
        }
        if self.more > 0 {
            write!(f, "\n… and {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Where something stands in the file, or where it is missing.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Keys from the top, joined by dots.
    pub(super) path: String,
    /// Byte of the text.
    pub(super) offset: usize,
}

impl Place {
    /// The place of `key` below this one.
    pub(super) fn child(&self, key: &str, offset: usize) -> Place {
        let is_bare = is_name(key);
        let key = if is_bare { key.to_owned() } else { quoted(key) };
        let path = if self.path.is_empty() { key } else { format!("{}.{key}", self.path) };
        Place { path, offset }
    }

    /// The place of an array's item.
    pub(super) fn item(&self, index: usize, offset: usize) -> Place {
        Place { path: format!("{}[{index}]", self.path), offset }
    }
}

/// Collects faults while a file is read. All readers of one file share it, on one thread.
pub(super) struct Collector<'t> {
    file: &'t str,
    /// Offsets at which lines begin; the first is 0.
    lines: Vec<usize>,
    /// The line of the first syntax error: what stands below it may have been read as something that it is not.
    broken_from: Option<usize>,
    /// With the offsets they are sorted by; never many more than are shown.
    found: RefCell<Vec<(usize, Fault)>>,
    /// Those that are in `found` no more.
    more: Cell<usize>,
}

impl<'t> Collector<'t> {
    /// Begins with what the TOML parser could not make sense of.
    pub(super) fn new(file: &'t str, text: &str, syntax: &[toml::de::Error]) -> Collector<'t> {
        let after_newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(after_newlines).collect();
        let mut faults = Collector { file, lines, broken_from: None, found: RefCell::default(), more: Cell::new(0) };
        let mut seen = HashSet::new();
        for error in syntax {
            let span = error.span().unwrap_or_default();
            let line = faults.line(span.start);
            // One slip often confuses the parser a few times more on the same line.
            if seen.insert(line) {
                let at = text.get(span.clone()).filter(|at| !at.trim().is_empty());
                let at = at.map(|at| format!(" at {}", quoted(at))).unwrap_or_default();
                let place = Place { path: String::new(), offset: span.start };
                faults.add(&place, format!("not TOML{at}: {}", error.message()));
            }
        }
        faults.broken_from = seen.into_iter().min();
        faults
    }

    /// The line of an offset; the first is 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset)
    }

    /// Whether the text up to this offset is what it seems.
    pub(super) fn is_readable(&self, offset: usize) -> bool {
        self.broken_from.is_none_or(|broken| self.line(offset) < broken)
    }

    /// What is written at `place` is wrong by itself.
    pub(super) fn add(&self, place: &Place, message: impl Into<String>) {
        if !self.is_readable(place.offset) {
            return;
        }
        let line = self.line(place.offset);
        let (file, path) = (self.file.to_owned(), place.path.clone());
        let fault = Fault { file, line: Some(line), path, message: message.into() };
        let mut found = self.found.borrow_mut();
        found.push((place.offset, fault));
        if found.len() > 10 * SHOWN_MAX {
            self.keep_first(&mut found);
        }
    }

    /// Sorts the faults, and counts those that are not shown.
    fn keep_first(&self, found: &mut Vec<(usize, Fault)>) {
        found.sort_by(|(at, a), (other, b)| (at, &a.path, &a.message).cmp(&(other, &b.path, &b.message)));
        found.dedup();
        self.more.set(self.more.get() + found.len().saturating_sub(SHOWN_MAX));
        found.truncate(SHOWN_MAX);
    }

    /// Something is missing at `place`, or does not go with what is written elsewhere: known only of a file that could be read as a whole.
    pub(super) fn add_relation(&self, place: &Place, message: impl Into<String>) {
        if self.broken_from.is_none() {
            self.add(place, message);
        }
    }

    /// `value`, unless something was wrong.
    pub(super) fn finish<T>(self, value: T) -> Result<T, Faults> {
        let mut found = self.found.take();
        if found.is_empty() {
            return Ok(value);
        }
        self.keep_first(&mut found);
        Err(Faults { shown: found.into_iter().map(|(_, fault)| fault).collect(), more: self.more.get() })
    }
}

/// A text of the file, in double quotes, on one line, and not too long.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_MAX) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

/// What upstreams and routes may be called: metrics and logs carry it.
pub(super) fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_one_line_whatever_the_file_says() {
        let text = "x\ny\u{2028}\"\u{1b}[31m".repeat(100);
        let place = Place { path: String::new(), offset: 0 }.child(&text, 0);
        let faults = Collector::new("f", &text, &[]);
        faults.add(&place, format!("{} is wrong", quoted(&text)));
        let fault = faults.finish(()).expect_err("one was added").to_string();
        assert!(!fault.contains(['\n', '\u{2028}', '\u{1b}']) && fault.len() < 1_000, "{fault}");
    }

    #[test]
    fn faults_come_in_order_once_and_not_by_the_thousand() {
        let text = "\n".repeat(300);
        let faults = Collector::new("f", &text, &[]);
        for line in (1..=150).rev() {
            let place = Place { path: "k".to_owned(), offset: line - 1 };
            faults.add(&place, "is wrong");
            faults.add(&place, "is wrong");
        }
        let faults = faults.finish(()).expect_err("some were added");
        let lines: Vec<_> = faults.iter().map(|fault| fault.line).collect();
        assert_eq!(lines, (1..=100).map(Some).collect::<Vec<_>>());
        assert!(faults.to_string().ends_with("\nf:100: k: is wrong\n… and 50 more"), "{faults}");
    }

    #[test]
    fn faults_without_number_are_counted_and_the_first_of_them_kept() {
        let text = "\n".repeat(5_000);
        let faults = Collector::new("f", &text, &[]);
        for line in (1..=5_000).rev() {
            faults.add(&Place { path: "k".to_owned(), offset: line - 1 }, "is wrong");
            assert!(faults.found.borrow().len() <= 10 * SHOWN_MAX);
        }
        let faults = faults.finish(()).expect_err("some were added");
        assert_eq!((faults.iter().next().and_then(|fault| fault.line), faults.more()), (Some(1), 4_900));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_a_fault_in_the_same_form() {
        let error = std::io::Error::from_raw_os_error(2);
        let fault = Faults::unreadable("etc/none.toml", &error).to_string();
        assert!(fault.starts_with("etc/none.toml: cannot be read: no such file"), "{fault}");
    }
}
