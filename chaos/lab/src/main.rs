//! Binary `lab`: arguments in, exit code out; all work is in the library.
//!
//! Exit codes: 0 when all that was measured is as the product claims (or with `--no-check`); 1 when something is not, or the lab could
//! not run; 2 for wrong usage (by clap); 130 when it was interrupted.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    lab::error::exit("lab", lab::app::main(lab::cli::Cli::parse()))
}
