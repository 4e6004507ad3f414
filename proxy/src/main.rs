//! The program: arguments, signals, exit code.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use outrigger::app::{App, Command};
use outrigger::config::Config;
use outrigger::{log, ready};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// The system's allocator keeps what a busy hour took, and touches half as much again for each open connection.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

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

/// The configuration is at fault; also what clap uses for wrong arguments.
const EXIT_CONFIG: u8 = 2;
/// Something else went wrong.
const EXIT_FAILURE: u8 = 1;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match (arguments.action, arguments.config) {
        (Some(Action::Check { file }), _) => check(&file),
        (Some(Action::Ready { admin, within }), _) => wait_for(admin, Duration::from_secs(within)),
        (None, Some(path)) => run(path),
        (None, None) => ExitCode::from(EXIT_CONFIG), // clap has required one of them
    }
}

fn check(path: &std::path::Path) -> ExitCode {
    match Config::load(path) {
        Ok(config) => {
            let routes: usize = config.upstreams.iter().map(|upstream| upstream.routes.len()).sum();
            println!("{}: valid (upstreams: {}, routes: {routes})", path.display(), config.upstreams.len());
            ExitCode::SUCCESS
        }
        Err(faults) => {
            eprintln!("{faults}");
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

fn wait_for(admin: SocketAddr, within: Duration) -> ExitCode {
    match ready::wait(admin, within) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("outrigger: not ready at {admin} within {within:?}");
            ExitCode::from(EXIT_FAILURE)
        }
        Err(error) => {
            eprintln!("outrigger: {error}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

fn run(path: PathBuf) -> ExitCode {
    let config = match Config::load(&path) {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("{faults}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let log = config.log;
    // Before there is a second thread: sockets that were passed are announced by the environment, which is cleared of them.
    let bound = App::bind(config, Some(path));
    let _flushed_at_end = log::start(log);
    let (sender, commands) = mpsc::channel(8);
    let ended = bound.and_then(|app| {
        listen_to_signals(sender)?;
        app.run(commands)
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrigger: {error}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// Turns signals into commands, on a thread of its own.
fn listen_to_signals(commands: mpsc::Sender<Command>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut term, mut int, mut hup) = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?)
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            loop {
                // Signals that come while one is handled are kept by their streams.
                let command = tokio::select! {
                    _ = term.recv() => Command::Stop,
                    _ = int.recv() => Command::Stop,
                    _ = hup.recv() => Command::Reload,
                };
                if commands.send(command).await.is_err() {
                    return; // the proxy has ended
                }
            }
        });
    })?;
    Ok(())
}
