//! `outrigger --config`: reads the configuration, listens to signals, and runs the proxy.

use std::io;
use std::path::PathBuf;

use outrigger::app::{App, Orders, orders};
use outrigger::config::Config;
use outrigger::telemetry::log;
use tokio::signal::unix::{SignalKind, signal};

use super::failure::Failure;

/// Runs until a signal ends it.
///
/// # Errors
/// The configuration is at fault, or the system lacks what the proxy needs.
pub(super) fn run(path: PathBuf) -> Result<(), Failure> {
    let config = Config::load(&path).map_err(Failure::Config)?;
    let log = config.log;
    // Before there is a second thread, because it removes the variables that announce passed sockets from the environment.
    let bound = App::bind(config, Some(path));
    let _flushed_at_end = log::start(log);
    let (orders, commands) = orders();
    let ended = bound.and_then(|app| {
        listen_to_signals(orders)?;
        app.run(commands)
    });
    ended.map_err(|error| Failure::Other(error.to_string()))
}

/// Turns signals into orders, on a thread of its own.
fn listen_to_signals(orders: Orders) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut term, mut int, mut hup) = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?)
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            loop {
                // The streams keep signals that come while another one is handled.
                tokio::select! {
                    _ = term.recv() => orders.stop(),
                    _ = int.recv() => orders.stop(),
                    _ = hup.recv() => orders.reload(),
                    () = orders.ended() => return,
                }
            }
        });
    })?;
    Ok(())
}
