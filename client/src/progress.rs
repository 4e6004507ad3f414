//! The line that shows how the run is going, once a second.
//!
//! It counts what *ended* in the last second; the report's rows go by the second in which requests were *due*.

use std::io::{self, IsTerminal as _, Write as _};

use report::format;
use report::run::Second;

/// Where progress goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Shows nothing.
    Quiet,
    /// To stderr; rewritten in place if that is a terminal.
    Stderr,
    /// To stdout line by line, for a log.
    Stdout,
}

impl Progress {
    /// Shows the last second.
    ///
    /// # Errors
    /// Those of the stream, such as a closed pipe.
    pub fn show(self, second: &Second) -> io::Result<()> {
        match self {
            Self::Quiet => Ok(()),
            // `\x1b[K` clears what a longer line before has left.
            Self::Stderr if io::stderr().is_terminal() => write!(io::stderr(), "\r{}\x1b[K", line(second)),
            Self::Stderr => writeln!(io::stderr(), "{}", line(second)),
            Self::Stdout => writeln!(io::stdout(), "{}", line(second)),
        }
    }

    /// Leaves the line that was rewritten in place.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn end(self) -> io::Result<()> {
        let in_place = self == Self::Stderr && io::stderr().is_terminal();
        if in_place { writeln!(io::stderr()) } else { Ok(()) }
    }
}

fn line(second: &Second) -> String {
    let counts = &second.counts;
    let failed = counts.requests - counts.succeeded;
    format!(
        "{:>5} s  {:>7} ended  {:>8} ok  {:>6} failed  p50 {:>6} ms  p99 {:>6} ms  max {:>6} ms",
        second.t_s,
        format::count(counts.requests),
        format::share(counts.succeeded, counts.requests),
        format::count(failed),
        format::ms(second.p50_ms),
        format::ms(second.p99_ms),
        format::ms(second.max_ms),
    )
}
