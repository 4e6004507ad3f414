//! Writes log lines to standard output, on a thread of its own, so that a reader that stops reading stops no request.
//!
//! If lines come faster than the thread can write, it drops some instead of queueing them without a limit.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

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

/// How long the end waits for the lines that are still queued.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// Its drop writes the lines that are still queued, as long as somebody reads them.
pub struct Flush(Option<WorkerGuard>);

impl Drop for Flush {
    fn drop(&mut self) {
        let guard = self.0.take();
        let (done, flushed) = mpsc::channel::<()>();
        // Not here: where nobody reads, the log's thread never comes to the end of its write, and the guard waits for the lock that it holds meanwhile.
        let flushing = move || {
            drop(guard);
            drop(done);
        };
        if thread::Builder::new().name("flush".to_owned()).spawn(flushing).is_ok() {
            // Either way it has ended, or its time is over.
            let _ = flushed.recv_timeout(FLUSH_MAX);
        }
    }
}

/// Starts logging, until the process ends after the drop of what this returns.
pub fn start(log: Log) -> Flush {
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
    Flush(Some(guard))
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
