//! What a key of the file turned out to be: left out, wrong, or a value with its place.
//!
//! "Wrong" is kept apart from "left out" so that one slip is one fault: a key that could not be read is never compared with another one as if its
//! default stood there.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::duration::{show_duration, show_size};
use crate::config::fault::{Collector, Place};

/// A key as the file has it.
pub(in crate::config) struct Key<T> {
    pub(super) place: Place,
    pub(super) found: Found<T>,
}

pub(super) enum Found<T> {
    LeftOut,
    /// The fault has been added.
    Wrong,
    Written(T),
}

impl<T> Key<T> {
    /// What is written, or the default.
    pub(in crate::config) fn or(self, default: T) -> T {
        match self.found {
            Found::Written(value) => value,
            Found::LeftOut | Found::Wrong => default,
        }
    }

    /// What is written, and where.
    pub(in crate::config) fn written(&self) -> Option<(&T, &Place)> {
        match &self.found {
            Found::Written(value) => Some((value, &self.place)),
            Found::LeftOut | Found::Wrong => None,
        }
    }

    /// The same key with a value of another type. The range has been checked before, so `turn` cannot fail.
    pub(in crate::config) fn map<U>(self, turn: impl FnOnce(T) -> U) -> Key<U> {
        let found = match self.found {
            Found::LeftOut => Found::LeftOut,
            Found::Wrong => Found::Wrong,
            Found::Written(value) => Found::Written(turn(value)),
        };
        Key { place: self.place, found }
    }

    /// What is written, or the default, for keys that others are compared with.
    pub(in crate::config) fn settle(self, default: T) -> Settled<T> {
        let origin = match self.found {
            Found::LeftOut => Origin::LeftOut,
            Found::Wrong => Origin::Wrong,
            Found::Written(_) => Origin::Written,
        };
        Settled { place: self.place.clone(), origin, value: self.or(default) }
    }

    /// As [`Key::settle`], for a key that must be there; `example` is how to write it.
    pub(in crate::config) fn required(self, default: T, example: &str, faults: &Collector<'_>) -> Settled<T> {
        if matches!(self.found, Found::LeftOut) {
            faults.add_relation(&self.place, format!("missing (write {example})"));
        }
        self.settle(default)
    }

    /// As [`Key::settle`], for a value that may not exceed `outer`. If the file sets a larger one, that is a fault; a larger default is lowered.
    pub(in crate::config) fn at_most(self, default: T, outer: &Settled<T>, faults: &Collector<'_>) -> Settled<T>
    where
        T: Ord + Copy + Shown,
    {
        let inner = self.settle(default.min(outer.value));
        if inner.is_written() && !outer.is_wrong() && inner.value > outer.value {
            let message = format!("{} is longer than {}", inner.value.shown(), outer.described(faults));
            faults.add_relation(&inner.place, message);
        }
        inner
    }
}

/// A value that acts, and where it came from.
pub(in crate::config) struct Settled<T> {
    pub(in crate::config) value: T,
    pub(in crate::config) place: Place,
    origin: Origin,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Written,
    LeftOut,
    Wrong,
}

impl<T> Settled<T> {
    /// Whether the file sets it, and its type and range are right.
    pub(in crate::config) fn is_written(&self) -> bool {
        self.origin == Origin::Written
    }

    /// Whether a fault has been added for it. Then `value` is a default that nobody asked for.
    pub(in crate::config) fn is_wrong(&self) -> bool {
        self.origin == Origin::Wrong
    }

    /// `upstreams.a.timeouts.request (5s in line 8)`.
    pub(in crate::config) fn described(&self, faults: &Collector<'_>) -> String
    where
        T: Shown,
    {
        let (path, value) = (&self.place.path, self.value.shown());
        match self.origin {
            Origin::Written => format!("{path} ({value} in line {})", faults.line(self.place.offset)),
            Origin::LeftOut | Origin::Wrong => format!("{path} ({value}, left out)"),
        }
    }
}

/// Values that faults show as the file would spell them.
pub(in crate::config) trait Shown {
    fn shown(&self) -> String;
}

impl Shown for Duration {
    fn shown(&self) -> String {
        show_duration(*self)
    }
}

/// A number of bytes.
impl Shown for usize {
    fn shown(&self) -> String {
        show_size(*self)
    }
}

impl Shown for SocketAddr {
    fn shown(&self) -> String {
        self.to_string()
    }
}
