//! Progress on stderr: rewritten in place on a terminal, one line a part elsewhere.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use crate::experiment::Experiment;

/// Where progress goes.
#[derive(Debug)]
pub struct Progress {
    is_terminal: bool,
}

impl Progress {
    /// To stderr, whatever that is.
    #[must_use]
    pub fn to_stderr() -> Self {
        Self { is_terminal: io::stderr().is_terminal() }
    }

    /// Shows that a part begins, unless a terminal will show its ticks.
    pub fn begin(&self, Experiment { name, title, .. }: &Experiment, lasts: Duration) {
        if !self.is_terminal {
            eprintln!("{name:<14}{title} ({} s)", lasts.as_secs());
        }
    }

    /// A part has gone on for so long; `note` says in what state.
    pub fn tick(&self, experiment: &Experiment, elapsed: Duration, lasts: Duration, note: &str) {
        if self.is_terminal {
            let Experiment { name, title, .. } = experiment;
            // Progress that cannot be shown is no reason to end a measurement.
            let _ =
                write!(io::stderr(), "\r\x1b[K{name:<14}{title}  {}/{} s{note}", elapsed.as_secs(), lasts.as_secs());
        }
    }

    /// Nothing goes on any more.
    pub fn end(&self) {
        if self.is_terminal {
            // As above.
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
