//! Binary `client`: arguments in, exit code out; all work is in the library.
//!
//! Exit codes: 0 when the measurement ran, whatever it measured; 1 when it could not run; 2 for wrong usage (by clap).

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match client::app::main(client::cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("client: {error}");
            ExitCode::FAILURE
        }
    }
}
