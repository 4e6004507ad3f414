//! The program `backend`: arguments, the line that says where it listens, signals, exit code.
//!
//! Exits with 0 on SIGTERM or SIGINT, at once; with 1 if a port cannot be bound; with 2 if the arguments are wrong.

use std::io::{self, Write};
use std::process::ExitCode;

use backend::flags::Flags;
use backend::{Backend, Options};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// One thread: it serves far more requests than the lab sends, and leaves the other cores to the programs under test.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = match Options::try_from(Flags::parse()) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("backend: {error}");
            return ExitCode::from(2);
        }
    };
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("backend: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> io::Result<()> {
    // Before the line below: its reader may send a signal at once.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let backend = Backend::start(options).await?;
    let (data, control) = (backend.data_address(), backend.control_address());
    writeln!(io::stdout(), "backend listening on {data}, control on {control}")?;
    // Nothing is lost with the branch that is dropped: either signal ends the program.
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
