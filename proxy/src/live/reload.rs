//! Applies another configuration while the proxy runs, on SIGHUP or when the file changes.
//!
//! The proxy checks the file once a second, through all links. Kubernetes changes a mounted ConfigMap by swapping a symlink beside it, which a watch on the
//! file itself would miss. A change is applied when two checks in a row see the same file, so that a file that is still being written is left alone. A valid
//! file becomes the next generation. An invalid one changes nothing but a metric and a log line.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::Live;
use crate::clock;
use crate::config::Config;
use crate::shared::Shared;
use crate::telemetry::events::Event;
use crate::upstream::names::Resolver;
use crate::upstream::resolve;

/// The time between two checks of the file.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long looking up names may delay a configuration. A dead resolver must block neither a reload nor the pod's start.
pub const LOOKUP_MAX: Duration = Duration::from_secs(1);

/// Remembers the state of the file at the last checks.
pub struct FileWatch {
    path: PathBuf,
    acted_on: Option<Stamp>,
    seen: Option<Stamp>,
}

/// Identifies the content of the file: files with the same stamp count as equal. A missing file has no stamp.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        let changed = (metadata.mtime(), metadata.mtime_nsec());
        Stamp { device: metadata.dev(), inode: metadata.ino(), length: metadata.len(), changed }
    }

    fn read(path: &Path) -> Option<Stamp> {
        std::fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata))
    }
}

impl FileWatch {
    /// Watches `path`, whose current content is in force.
    pub fn new(path: PathBuf) -> FileWatch {
        let stamp = Stamp::read(&path);
        FileWatch { path, acted_on: stamp, seen: stamp }
    }

    /// Checks the file; true if there is a change to apply.
    pub fn look(&mut self) -> bool {
        let now = Stamp::read(&self.path);
        let is_settled = now == self.seen;
        self.seen = now;
        // A missing file changes nothing: it is probably being replaced.
        let is_change = is_settled && now.is_some() && now != self.acted_on;
        if is_change {
            self.acted_on = now;
        }
        is_change
    }

    /// Loads the file and applies it if it is valid; returns whether it was.
    pub async fn reload(&mut self, shared: &Shared, resolver: &Rc<Resolver>) -> bool {
        self.acted_on = Stamp::read(&self.path);
        self.seen = self.acted_on;
        let path = self.path.clone();
        // Not on this thread: to read a large file takes longer than a connection should wait for being accepted.
        let loaded = tokio::task::spawn_blocking(move || Config::load(&path)).await;
        match loaded.expect("reading a configuration does not panic") {
            Ok(config) => {
                put_in_force(shared, resolver, config).await;
                true
            }
            Err(faults) => {
                shared.emit(&Event::ReloadRejected(&faults));
                false
            }
        }
    }
}

/// Puts `config` in force, except for what is fixed at start.
pub async fn put_in_force(shared: &Shared, resolver: &Rc<Resolver>, mut config: Config) {
    let before = shared.live();
    let mut needs_restart = Vec::new();
    if config.listen != before.config.listen {
        needs_restart.push("listen");
        config.listen = before.config.listen.clone();
    }
    let (log, old_log) = (config.log, before.config.log);
    if (log.format, log.level) != (old_log.format, old_log.level) {
        needs_restart.push("log.format or log.level");
        (config.log.format, config.log.level) = (old_log.format, old_log.level);
    }
    // Names first, so that the generation does not come into force without its addresses.
    let resolved = resolve::find(resolver, &config.upstreams, LOOKUP_MAX).await;
    let live = Live::build(config, Some(&before), &resolved.addresses, &shared.metrics, clock::now());
    let generation = live.generation;
    shared.swap(live);
    resolved.emit(shared.live().upstreams(), &shared.metrics);
    shared.metrics.remove_unheld();
    shared.emit(&Event::Reloaded { generation, needs_restart: &needs_restart });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_acted_on_when_it_has_settled_and_once() {
        let folder = std::env::temp_dir().join(format!("outrigger-watch-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let path = folder.join("config.toml");
        std::fs::write(&path, "a").expect("writable");
        let mut watch = FileWatch::new(path.clone());
        assert!(!watch.look());
        std::fs::write(&path, "ab").expect("writable");
        assert!(!watch.look(), "seen for the first time");
        assert!(watch.look(), "and still the same");
        assert!(!watch.look(), "acted on already");
        std::fs::remove_file(&path).expect("removable");
        assert!(!watch.look() && !watch.look(), "a file that is gone is no new configuration");
        std::os::unix::fs::symlink(folder.join("other"), &path).expect("a link");
        std::fs::write(folder.join("other"), "abc").expect("writable");
        assert!(!watch.look());
        assert!(watch.look(), "a change behind a link is one");
        std::fs::remove_dir_all(&folder).expect("removable");
    }
}
