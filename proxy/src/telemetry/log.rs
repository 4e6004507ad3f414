//! Where log lines go: standard output, written by a thread of its own, so that a reader that stops reading stops no request.
//!
//! Lines beyond what the thread can write are dropped, not queued without bound.

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::{fmt, registry};

use crate::config::{Log, LogFormat};

/// Target of lines that are written whatever the level is: a breaker's move is what one looks for afterwards, and the lines of exchanges have
/// a switch of their own.
pub const ALWAYS: &str = "always";

/// Lines that may wait for the thread. Its queue is allocated whole at the start: at the library's own limit it would be half of the proxy's memory.
const LINES_MAX: usize = 4 * 1024;

/// Starts logging; what is still queued is written when the guard is dropped.
pub fn start(log: Log) -> WorkerGuard {
    let queue = NonBlockingBuilder::default().buffered_lines_limit(LINES_MAX).lossy(true);
    let (writer, guard) = queue.finish(std::io::stdout());
    let wanted = wanted(log.level.into());
    let lines = fmt::layer().with_writer(writer).with_target(false);
    // A second start in one process (tests) keeps the first subscriber.
    let _ = match log.format {
        LogFormat::Json => tracing::subscriber::set_global_default(
            registry().with(lines.json().flatten_event(true).with_filter(wanted)),
        ),
        LogFormat::Text => {
            tracing::subscriber::set_global_default(registry().with(lines.with_ansi(false).with_filter(wanted)))
        }
    };
    guard
}

/// Lines of at least this level, and all of [`ALWAYS`].
fn wanted(level: LevelFilter) -> Targets {
    Targets::new().with_default(level).with_target(ALWAYS, LevelFilter::TRACE)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_level_hides_what_is_less_severe_but_not_what_is_always_written() {
        for (least, level, target, wanted) in [
            (Level::INFO, Level::INFO, "outrigger", true),
            (Level::WARN, Level::INFO, "outrigger", false),
            (Level::ERROR, Level::WARN, "outrigger", false),
            (Level::ERROR, Level::ERROR, "outrigger", true),
            (Level::ERROR, Level::INFO, ALWAYS, true),
        ] {
            assert_eq!(super::wanted(least.into()).would_enable(target, &level), wanted, "{least} {level} {target}");
        }
    }
}
