//! What the system lets the proxy have, descriptors and memory, and the limits that follow from it.
//!
//! The limits are fitted at the start and ten times a second, because the memory of a container can change while it runs. A key of the configuration only ever
//! lowers what follows from the system, except for `listen.memory_max`, which takes the place of the container's limit.

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::config::{Listen, MemoryMax};
use crate::memory::container::{Container, Usable};
use crate::memory::{Budget, Level};
use crate::shared::Shared;
use crate::telemetry::events::Event;
use crate::upstream::names::POOL_THREADS;

/// Descriptors that the proxy needs besides those of its connections and look-ups: up to 112 of the admin listener, and listeners, runtimes, files.
const OWN_DESCRIPTORS: u64 = 160;
/// Descriptors of one look-up.
const LOOKUP_DESCRIPTORS: u64 = 2;
/// One in so many descriptors is for look-ups.
const LOOKUP_SHARE: u64 = 16;
/// So much memory of the container allows one look-up, which takes a thread for as long as a name server is silent. So all of them need a sixteenth, if a thread
/// needs 64 KiB.
const LOOKUP_MEMORY: usize = 1024 * 1024;
/// Look-ups at once, however little there is.
const LOOKUPS_MIN: usize = 8;

/// The limits of the system.
pub(super) struct SystemLimits {
    container: Container,
    /// `None` if the system grants as many as one wants.
    descriptors: Option<u64>,
    /// The connections that were allowed last.
    connections_max: usize,
    /// The heap before the first connection, without what the configuration needs.
    own_heap: Option<usize>,
    is_full: bool,
}

/// How many connections both sides may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Connections {
    downstream: usize,
    upstream: usize,
}

impl SystemLimits {
    /// Looks for what the system grants, and raises the descriptor limit as far as it allows: the usual soft limit of 1024 is a tenth of the default
    /// `connections_max`.
    pub(super) fn find(listen: &Listen) -> SystemLimits {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        // If this is not permitted, the old limit stays, and the second reading returns it.
        let _ = setrlimit(Resource::Nofile, limit);
        let descriptors = getrlimit(Resource::Nofile).current;
        let connections_max = listen.connections_max;
        SystemLimits { container: Container::find(), descriptors, connections_max, own_heap: None, is_full: false }
    }

    /// How many look-ups of names may be under way at once.
    pub(super) fn lookups(&self, listen: &Listen) -> usize {
        lookups(self.descriptors, memory_of(listen, self.container.usable().bytes))
    }

    /// Counts the memory in use, and puts in force what the system grants at this moment.
    pub(super) fn fit(&mut self, shared: &Shared) {
        let listen = &shared.live().config.listen;
        let Usable { bytes, sockets } = self.container.usable();
        let memory = memory_of(listen, bytes);
        let budget = Budget::new(memory, sockets);
        // Before the measure: a generation that a worker drops in between would count in what is used, but not in the limit.
        let configured = shared.metrics.ledger.bytes();
        shared.memory.measure();
        let own = *self.own_heap.get_or_insert_with(|| shared.memory.used().saturating_sub(configured));
        shared.memory.set_max(budget.heap_max(own + configured, shared.memory.unused()));
        let allowed = connections(listen.connections_max, self.descriptors, budget.connections);
        shared.fit_connections(allowed.downstream, allowed.upstream);
        if self.connections_max != allowed.downstream {
            self.connections_max = allowed.downstream;
            if allowed.downstream < listen.connections_max {
                let is_for_memory = allowed.downstream == budget.connections;
                let connections_max = allowed.downstream;
                shared.emit(&match self.descriptors.filter(|_| !is_for_memory) {
                    Some(descriptors) => Event::FewDescriptors { descriptors, connections_max },
                    None => Event::LittleMemory { memory, connections_max },
                });
            }
        }
        self.report(shared);
    }

    /// Logs when the memory is full for the first time, and when it is free again: below three quarters.
    fn report(&mut self, shared: &Shared) {
        let was_full = shared.memory.take_was_full();
        let (used, max) = (shared.memory.used(), shared.memory.max());
        if was_full && !self.is_full {
            shared.emit(&Event::MemoryFull { used, max });
        }
        if was_full {
            self.is_full = true;
        } else if self.is_full && shared.memory.level() == Level::Free {
            self.is_full = false;
            shared.emit(&Event::MemoryFree { used, max });
        }
    }
}

fn memory_of(listen: &Listen, of_container: usize) -> usize {
    match listen.memory_max {
        MemoryMax::OfContainer => of_container,
        MemoryMax::Bytes(bytes) => bytes,
    }
}

/// How many look-ups so many descriptors and so much `memory` allow.
fn lookups(descriptors: Option<u64>, memory: usize) -> usize {
    let affordable = descriptors.unwrap_or(u64::MAX) / LOOKUP_SHARE / LOOKUP_DESCRIPTORS;
    let affordable = usize::try_from(affordable).unwrap_or(usize::MAX);
    affordable.min(memory / LOOKUP_MEMORY).clamp(LOOKUPS_MIN, POOL_THREADS)
}

/// What the proxy needs of so many `descriptors` for itself. However few there are, a quarter is left for connections.
fn own(descriptors: u64) -> u64 {
    let lookups = lookups(Some(descriptors), usize::MAX) as u64 * LOOKUP_DESCRIPTORS;
    (OWN_DESCRIPTORS + lookups).min(descriptors / 4 * 3)
}

/// The connections that `configured` downstream ones, the descriptors, and the memory for `fitting` downstream connections with an upstream one each allow. So a
/// connection too many gets a 503 instead of waiting in the accept queue.
fn connections(configured: usize, descriptors: Option<u64>, fitting: usize) -> Connections {
    let descriptors = descriptors.unwrap_or(u64::MAX);
    let left = usize::try_from(descriptors - own(descriptors)).unwrap_or(usize::MAX);
    let downstream = configured.min(left / 2).min(fitting).max(1);
    let upstream = (left - downstream).min(2 * fitting - downstream).max(1);
    Connections { downstream, upstream }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;
    use crate::config::Config;
    use crate::live::Live;
    use crate::telemetry::metrics::Metrics;
    use crate::upstream::resolve::Addresses;

    const MIB: usize = 1 << 20;

    /// So many upstreams of `names` with two routes each, beside `before`.
    fn live(upstreams: usize, names: &str, before: Option<&Live>, metrics: &Metrics) -> Live {
        let upstream = |n| {
            format!(
                "[upstreams.{names}{n}]\nhosts = [\"h{n}\"]\nendpoints = [\"127.0.0.1:{}\"]\n\
                 [[upstreams.{names}{n}.routes]]\nname = \"a\"\npath_prefix = \"/a\"\nretry = {{ max_attempts = 1 }}\n",
                n + 1
            )
        };
        let text: String = (0..upstreams).map(upstream).collect();
        let config = Config::parse("test.toml", &format!("listen.memory_max = \"32MiB\"\n{text}"));
        let config = config.unwrap_or_else(|faults| panic!("{faults}"));
        Live::build(config, before, &Addresses::new(), metrics, clock::now())
    }

    #[test]
    fn a_reload_gets_the_memory_that_a_start_with_the_same_file_gets_and_gives_it_back() {
        let metrics = Metrics::new();
        let fits = |shared: &Shared| shared.memory.max() >= shared.metrics.ledger.bytes() + 4 * MIB;
        let shared = Shared::new(live(1, "u", None, &metrics), metrics, 1);
        let mut limits = SystemLimits::find(&shared.live().config.listen);
        limits.fit(&shared);
        let (max, small) = (shared.memory.max(), shared.metrics.ledger.bytes());
        assert!((1..MIB).contains(&small) && fits(&shared), "{small} of {max}");

        shared.swap(live(2_000, "u", Some(&shared.live()), &shared.metrics));
        limits.fit(&shared);
        let large = shared.metrics.ledger.bytes();
        assert!(large > 12 * MIB && fits(&shared), "{large} of {}", shared.memory.max());

        // Another name for each upstream, while a request of the generation before is under way.
        let before = shared.live();
        shared.swap(live(2_000, "v", Some(&before), &shared.metrics));
        shared.metrics.remove_unheld();
        limits.fit(&shared);
        let both = shared.metrics.ledger.bytes();
        assert!(both > large + large / 2 && fits(&shared), "{both} after {large} of {}", shared.memory.max());
        drop(before);
        shared.metrics.remove_unheld();
        let one = shared.metrics.ledger.bytes();
        assert!(one.abs_diff(large) < large / 8, "{one} after {large}");

        // A reload that changes nothing takes over endpoints and series with their entries.
        for _ in 0..5 {
            shared.swap(live(2_000, "v", Some(&shared.live()), &shared.metrics));
            shared.metrics.remove_unheld();
        }
        let again = shared.metrics.ledger.bytes();
        assert!(again.abs_diff(one) < one / 8, "{again} after {one}");

        shared.swap(live(1, "u", Some(&shared.live()), &shared.metrics));
        shared.metrics.remove_unheld();
        limits.fit(&shared);
        let (max_after, left) = (shared.memory.max(), shared.metrics.ledger.bytes());
        assert!(left < MIB && max_after < max + MIB, "{left} of {max_after}, {small} of {max} at the start");
    }

    #[test]
    fn the_scarcest_of_configuration_descriptors_and_memory_limits_the_connections() {
        for (configured, descriptors, fitting, downstream, upstream) in [
            (10_000, None, 100_000, 10_000, 190_000),
            (10_000, None, 3_584, 3_584, 3_584),
            (10_000, Some(1_048_576), 3_584, 3_584, 3_584),
            (10_000, Some(1_024), 3_584, 400, 400),
            (10, Some(1_024), 3_584, 10, 790),
            (10_000, Some(256), 3_584, 40, 40),
            (10_000, Some(64), 3_584, 8, 8),
        ] {
            let allowed = connections(configured, descriptors, fitting);
            assert_eq!(allowed, Connections { downstream, upstream }, "{configured}, {descriptors:?}, {fitting}");
        }
    }

    #[test]
    fn look_ups_have_descriptors_and_memory_of_their_own_and_leave_the_admin_listener_its_own() {
        for (descriptors, memory, expected) in [
            (None, 128 << 20, 128),
            (None, 1 << 30, 512),
            (Some(1_048_576), 1 << 30, 512),
            (Some(1_024), 1 << 30, 32),
            (Some(256), 128 << 20, 8),
            (Some(64), 1 << 20, 8),
        ] {
            assert_eq!(lookups(descriptors, memory), expected, "{descriptors:?}, {memory}");
        }
        for descriptors in [256, 1_024, 65_536] {
            let lookups = lookups(Some(descriptors), usize::MAX) as u64;
            assert!(own(descriptors) >= 112 + 48 + 2 * lookups, "{descriptors}");
        }
    }

    proptest! {
        #[test]
        fn both_sides_and_the_reserve_never_need_more_descriptors_than_there_are(
            configured in 1_usize..1_000_000, descriptors in 4_u64..2_000_000, fitting in 1_usize..1_000_000,
        ) {
            let Connections { downstream, upstream } = connections(configured, Some(descriptors), fitting);
            let own = own(descriptors);
            prop_assert!((downstream + upstream) as u64 + own <= descriptors);
            prop_assert!(downstream >= 1 && upstream >= downstream.min(1) && downstream + upstream <= 2 * fitting);
        }
    }
}
