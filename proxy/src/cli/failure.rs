//! Why the program ends without success.

use std::process::ExitCode;

use outrigger::config::Faults;

/// The configuration is at fault; also what clap uses for wrong arguments.
pub(super) const EXIT_CONFIG: u8 = 2;
/// Something else went wrong.
const EXIT_FAILURE: u8 = 1;

/// What to print, and with which code to exit.
pub(super) enum Failure {
    /// The faults of a configuration file, as they are printed.
    Config(Faults),
    /// One sentence.
    Other(String),
}

impl Failure {
    /// Prints it.
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
