//! `[listen]`.

use std::net::{Ipv4Addr, SocketAddr};

use crate::config::duration::show_size;
use crate::config::fault::Collector;
use crate::config::file::{Item, Settled, Table};
use crate::config::settings::{Address, Listen, MemoryMax};
use crate::memory::Budget;

use super::units::{GIB, HOUR, MIB, MINUTE, millis, secs};
use super::{address, limits};

/// The least memory that the proxy can serve with.
const MEMORY_MIN: usize = 32 * MIB;
/// The memory for kept bodies, unless the heap is smaller.
const REPLAY_BYTES: usize = 16 * MIB;

/// `[listen]`, and where its two listeners stand: no upstream may lead to them.
pub(super) struct ListenDraft {
    pub(super) settings: Listen,
    memory_max: Settled<usize>,
    app: Settled<SocketAddr>,
    admin: Settled<SocketAddr>,
}

pub(super) fn read(table: &mut Table<'_>) -> ListenDraft {
    let mut listener = |name, port| {
        let default = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        table.text(name, address::LISTENER, address::parse_listener).settle(default)
    };
    let (app, admin) = (listener("app", 4140), listener("admin", 4191));
    if !app.is_wrong() && !admin.is_wrong() && address::collide(app.value, admin.value) {
        let (this, other) = if admin.is_written() { (&admin, &app) } else { (&app, &admin) };
        let message = format!("{} collides with {}", this.value, other.described(table.faults));
        table.faults.add_relation(&this.place, message);
    }
    let hosts = table.texts("admin_hosts", "a host name", 1..=100, address::parse_host);
    let hosts = hosts.map(|hosts| hosts.into_iter().map(|host| host.value).collect());
    let reuse_port = table.boolean("reuse_port").or(false);
    let workers = table.integer("workers", 0..=64).or(0);
    let memory_max = read_memory(table);
    let settings = Listen {
        app: app.value,
        admin: admin.value,
        admin_hosts: hosts.or(vec!["localhost".to_owned()]),
        reuse_port,
        workers,
        memory_max: match memory_max.value {
            0 => MemoryMax::OfContainer,
            bytes => MemoryMax::Bytes(bytes),
        },
        connections_max: table.integer("connections_max", 1..=1_000_000).or(10_000),
        head_timeout: table.duration("head_timeout", millis(100)..=5 * MINUTE).or(secs(10)),
        limits: limits::read_requests(table),
        idle_timeout: table.duration("idle_timeout", secs(1)..=HOUR).or(MINUTE),
        requests_max: table.integer("requests_max", 0..=1_000_000).or(0),
    };
    ListenDraft { settings, memory_max, app, admin }
}

/// With less than the least the proxy could not serve, so that is a fault and not raised in silence.
fn read_memory(table: &mut Table<'_>) -> Settled<usize> {
    let key = table.size("memory_max", 0..=64 * GIB);
    if let Some((bytes, place)) = key.written()
        && (1..MEMORY_MIN).contains(bytes)
    {
        let message =
            format!("{} is less than {} (0: what the container allows)", show_size(*bytes), show_size(MEMORY_MIN));
        table.faults.add_relation(place, message);
    }
    key.settle(0)
}

impl ListenDraft {
    /// Reads the memory for kept bodies, which is a part of the heap. How large the heap of a container is, only the running proxy knows.
    pub(super) fn read_replay(&self, table: &mut Table<'_>) -> usize {
        let key = table.size("memory_max", 0..=GIB);
        if self.memory_max.value == 0 {
            return key.or(REPLAY_BYTES);
        }
        let heap = Budget::new(self.memory_max.value, 0).heap;
        if let Some((bytes, place)) = key.written()
            && *bytes > heap
        {
            let outer = self.memory_max.described(table.faults);
            let message = format!("{} is more than {}, the heap of {outer}", show_size(*bytes), show_size(heap));
            table.faults.add_relation(place, message);
        }
        key.or(REPLAY_BYTES.min(heap))
    }

    /// Adds a fault for each endpoint that is a listener of this proxy: it would call itself.
    pub(super) fn check_is_no_endpoint(&self, endpoints: &[Item<Address>], faults: &Collector<'_>) {
        for endpoint in endpoints {
            for listener in [&self.app, &self.admin] {
                if !listener.is_wrong() && address::leads_to(&endpoint.value, listener.value) {
                    let message = format!("would call itself: {} is {}", listener.place.path, listener.value);
                    faults.add_relation(&endpoint.place, message);
                }
            }
        }
    }
}
