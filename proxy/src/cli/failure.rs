//! The ways in which the program fails: what it prints, and its exit code.

use std::process::ExitCode;

use outrigger::config::Faults;

/// The configuration has faults. clap uses the same code for wrong arguments.
pub(super) const EXIT_CONFIG: u8 = 2;
/// Something else went wrong.
const EXIT_FAILURE: u8 = 1;

/// What to print, and with which code to exit.
pub(super) enum Failure {
    /// The faults of a configuration file, as they are printed.
    Config(Faults),
    /// Any other failure, as one sentence.
    Other(String),
}

impl Failure {
    /// Prints the failure and returns the exit code.
    #[expect(clippy::print_stderr, reason = "the one place that prints errors")]
    pub(super) fn exit(&self) -> ExitCode {
        match self {
            Failure::Config(faults) => {
                eprintln!("{faults}");
                ExitCode::from(EXIT_CONFIG)
            }
            Failure::Other(sentence) => {
                eprintln!("outrigger: {sentence}");
                ExitCode::from(EXIT_FAILURE)
            }
        }
    }
}
