//! Arguments, subcommands and exit codes; one file a subcommand.

mod check;
mod failure;
mod ready;
mod run;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use self::failure::EXIT_CONFIG;

/// A sidecar HTTP proxy that gives a plain client retries, budgets and circuit breakers.
#[derive(Parser)]
#[command(name = "outrigger", version, subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    /// The configuration file.
    #[arg(long, short, env = "OUTRIGGER_CONFIG", value_name = "FILE", required = true)]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Action {
    /// Reads a configuration file, reports all its faults, and exits with 0 or 2.
    Check {
        /// The configuration file.
        file: PathBuf,
    },
    /// Waits until the proxy that runs here is ready; exits with 0, or 1 if it is not in time. For a container's postStart.
    Ready {
        /// Its `listen.admin`.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4191")]
        admin: SocketAddr,
        /// Seconds to wait at most.
        #[arg(long, value_name = "SECONDS", default_value = "30")]
        within: u64,
    },
}

/// Does what the command line says.
pub(super) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = match (arguments.action, arguments.config) {
        (Some(Action::Check { file }), _) => check::check(&file),
        (Some(Action::Ready { admin, within }), _) => ready::wait(admin, Duration::from_secs(within)),
        (None, Some(path)) => run::run(path),
        (None, None) => return ExitCode::from(EXIT_CONFIG), // clap has required one of them
    };
    ended.map_or_else(|failure| failure.exit(), |()| ExitCode::SUCCESS)
}
