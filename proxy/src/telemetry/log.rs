//! Writes log lines to standard output, on a thread of its own, so that a reader that stops reading stops no request.
//!
//! If lines come faster than the thread can write, it drops some instead of queueing them without a limit.

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::{fmt, registry};

use crate::config::{Log, LogFormat};

/// The target of lines that are written at every level. An operator needs the changes of breakers when they look back, and the access log has a switch of its
/// own.
pub const ALWAYS: &str = "always";

/// How many lines may wait for the thread. The queue is allocated whole at the start; with the library's default it would take half of the proxy's memory.
const LINES_MAX: usize = 4 * 1024;

/// Starts logging. Dropping the guard writes the lines that are still queued.
pub fn start(log: Log) -> WorkerGuard {
    let queue = NonBlockingBuilder::default().buffered_lines_limit(LINES_MAX).lossy(true);
    let (writer, guard) = queue.finish(std::io::stdout());
    let wanted = wanted(log.level.into());
    let lines = fmt::layer().with_writer(writer).with_target(false);
    // A second start in one process, as in tests, keeps the first subscriber.
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

/// Lines of at least this level, and all of [`ALWAYS`]. The middleware of the admin server writes lines of its own at `debug`, which help nobody here.
fn wanted(level: LevelFilter) -> Targets {
    Targets::new()
        .with_default(level)
        .with_target(ALWAYS, LevelFilter::TRACE)
        .with_target("tower", level.min(LevelFilter::WARN))
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
            (Level::DEBUG, Level::DEBUG, "tower::buffer::worker", false),
            (Level::ERROR, Level::WARN, "tower::buffer::worker", false),
        ] {
            assert_eq!(super::wanted(least.into()).would_enable(target, &level), wanted, "{least} {level} {target}");
        }
    }
}
