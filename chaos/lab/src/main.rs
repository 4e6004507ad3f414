//! Binary `lab`: arguments in, exit code out; all work is in the library.
//!
//! Exit codes: 0 when all that was measured is as the product claims (or nobody asked: `--no-check`); 1 when something is not, or the lab could
//! not run; 2 for wrong usage (by clap); 130 when it was interrupted.

use std::process::ExitCode;

use clap::Parser as _;
use lab::app::{self, Ended};
use lab::cli::Cli;
use lab::run::Error;

/// By custom of shells: 128 and the number of SIGINT.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    match app::main(Cli::parse()) {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::Otherwise) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("lab: {error}");
            if matches!(error, Error::Interrupted) { ExitCode::from(INTERRUPTED) } else { ExitCode::FAILURE }
        }
    }
}
