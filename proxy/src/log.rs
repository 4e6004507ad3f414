//! Where log lines go: standard output, written by a thread of its own, so that a reader that stops reading stops no request.
//!
//! Lines beyond what the thread can write are dropped, not queued without bound.

use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::LevelFilter;

use crate::config::{Log, LogFormat};

/// Starts logging; what is still queued is written when the guard is dropped.
pub fn start(log: Log) -> WorkerGuard {
    let (writer, guard) = tracing_appender::non_blocking(std::io::stdout());
    let builder = tracing_subscriber::fmt()
        .with_writer(writer)
        .with_max_level(LevelFilter::from_level(log.level))
        .with_target(false);
    // A second start in one process (tests) keeps the first subscriber.
    let _ = match log.format {
        LogFormat::Json => tracing::subscriber::set_global_default(builder.json().flatten_event(true).finish()),
        LogFormat::Text => tracing::subscriber::set_global_default(builder.with_ansi(false).finish()),
    };
    guard
}
