//! How a command of the lab or the bench ends, and what exit code that is.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use crate::process::Failed;

/// By custom of shells: 128 and the number of SIGINT.
const INTERRUPTED: u8 = 130;

/// How a command that could be run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All checks passed.
    Passed,
    /// A claim does not hold, or a document has drifted from the results.
    Failed,
}

/// Why a command could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program did not do what it should.
    #[error(transparent)]
    Process(#[from] Failed),
    /// A file, a port or a kernel interface.
    #[error("{what}: {cause}")]
    Io {
        /// The file, port or interface.
        what: String,
        /// What the system said.
        cause: io::Error,
    },
    /// A program wrote or did something unexpected; the text says what.
    #[error("{0}")]
    Unexpected(String),
    /// A signal asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// For `map_err`: names what the I/O error is about.
    pub fn io(what: impl Display) -> impl Fn(io::Error) -> Self {
        move |cause| Self::Io { what: what.to_string(), cause }
    }
}

impl Outcome {
    /// [`Outcome::Passed`] if all checks passed.
    #[must_use]
    pub fn of(passed: bool) -> Self {
        if passed { Self::Passed } else { Self::Failed }
    }
}

/// The exit code: 0 if all checks passed, 130 for an interrupt, else 1 with the error on stderr.
#[must_use]
pub fn exit(program: &str, result: Result<Outcome, Error>) -> ExitCode {
    match result {
        Ok(Outcome::Passed) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{program}: {error}");
            if matches!(error, Error::Interrupted) { ExitCode::from(INTERRUPTED) } else { ExitCode::FAILURE }
        }
    }
}
