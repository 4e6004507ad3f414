//! What has arrived at the data port, counted before any fault acts.
//!
//! The lab checks clients and proxies against these counts: they say how often each request really came.
//! Requests are told apart by their header `x-request-id`.
//!
//! Two locks, never held together: the tally is touched by every request for a few additions, the table of ids only by
//! requests that carry one. `in_flight` is an atomic because its guard ends in `Drop`, wherever that is.

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use hyper::Method;
use hyper::header::HeaderValue;
use serde::Serialize;

use crate::plan::FateKind;

/// At about 100 bytes each, the full table stays near 100 MB.
const IDS_MAX: usize = 1_000_000;

/// The table is only bounded if its keys are. A UUID has 36 bytes.
const ID_BYTES_MAX: usize = 128;

/// Methods counted by name; the rest share the name `other`, since anyone can invent methods without end.
static METHODS: [Method; 9] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::HEAD,
    Method::OPTIONS,
    Method::PATCH,
    Method::TRACE,
    Method::CONNECT,
];

/// Which ids a [`Report`] lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdFilter {
    /// All of them. With a full table this copies a million entries and stops the data port for some 100 ms.
    All,
    /// Those that came more than once.
    Repeated,
    /// None: the key `ids` is left out.
    Omit,
}

/// The response to `GET /received`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Requests whose head has been read.
    pub requests: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Requests being worked on now: waiting, hanging, or with a body under way.
    pub in_flight: u64,
    /// By method, those that came.
    pub by_method: BTreeMap<&'static str, u64>,
    /// By fate, all of them, by the names of [`FateKind::name`].
    pub by_fate: BTreeMap<&'static str, u64>,
    /// Requests whose id was not counted: the table was full, or the id was over 128 bytes or not text.
    pub ids_dropped: u64,
    /// How often each `x-request-id` came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<BTreeMap<Arc<str>, u64>>,
}

/// All counters of the data port, shared by its connections.
#[derive(Debug, Default)]
pub(crate) struct Received {
    tally: Mutex<Tally>,
    ids: Mutex<Ids>,
    in_flight: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    requests: u64,
    connections: u64,
    /// In the order of [`METHODS`]; the last place is for all others.
    by_method: [u64; METHODS.len() + 1],
    /// In the order of [`FateKind::ALL`].
    by_fate: [u64; FateKind::ALL.len()],
}

#[derive(Debug, Default)]
struct Ids {
    counts: HashMap<Arc<str>, u64>,
    dropped: u64,
}

impl Received {
    pub(crate) fn connection(&self) {
        self.tally().connections += 1;
    }

    pub(crate) fn request(&self, method: &Method, fate: FateKind, id: Option<&HeaderValue>) {
        let method = METHODS.iter().position(|known| known == method).unwrap_or(METHODS.len());
        let mut tally = self.tally();
        tally.requests += 1;
        tally.by_method[method] += 1;
        tally.by_fate[fate as usize] += 1;
        drop(tally);
        if let Some(id) = id {
            self.ids().count(id, IDS_MAX);
        }
    }

    /// Counts a request as in flight until the guard is dropped.
    pub(crate) fn enter(counters: &Arc<Self>) -> InFlight {
        counters.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(counters))
    }

    pub(crate) fn report(&self, filter: IdFilter) -> Report {
        let tally = *self.tally();
        let table = self.ids();
        let (ids, ids_dropped) = (table.list(filter), table.dropped);
        drop(table); // sorting, below, needs no lock
        let methods = METHODS.iter().map(Method::as_str).chain(["other"]).zip(tally.by_method);
        let fates = FateKind::ALL.map(FateKind::name).into_iter().zip(tally.by_fate);
        Report {
            requests: tally.requests,
            connections: tally.connections,
            in_flight: self.in_flight.load(Ordering::Relaxed),
            by_method: methods.filter(|(_, count)| *count > 0).collect(),
            by_fate: fates.collect(),
            ids_dropped,
            ids: ids.map(BTreeMap::from_iter),
        }
    }

    /// All counts back to zero, except `in_flight`, which is a state and not a count.
    pub(crate) fn reset(&self) {
        *self.tally() = Tally::default();
        // The old table is freed after the statement has released the lock.
        let old = mem::take(&mut *self.ids());
        drop(old);
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().expect("no code under this lock panics")
    }

    fn ids(&self) -> MutexGuard<'_, Ids> {
        self.ids.lock().expect("no code under this lock panics")
    }
}

impl Ids {
    fn count(&mut self, id: &HeaderValue, ids_max: usize) {
        let Some(id) = id.to_str().ok().filter(|id| id.len() <= ID_BYTES_MAX) else {
            self.dropped += 1;
            return;
        };
        if let Some(count) = self.counts.get_mut(id) {
            *count += 1;
        } else if self.counts.len() < ids_max {
            self.counts.insert(id.into(), 1);
        } else {
            self.dropped += 1;
        }
    }

    /// The ids the filter wants, in no order.
    fn list(&self, filter: IdFilter) -> Option<Vec<(Arc<str>, u64)>> {
        let at_least = match filter {
            IdFilter::All => 1,
            IdFilter::Repeated => 2,
            IdFilter::Omit => return None,
        };
        let wanted = self.counts.iter().filter(|(_, count)| **count >= at_least);
        Some(wanted.map(|(id, count)| (Arc::clone(id), *count)).collect())
    }
}

/// One request in flight; ends when dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Received>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(ids: &mut Ids, id: &str, ids_max: usize) {
        ids.count(&HeaderValue::from_str(id).expect("the test's id is a header value"), ids_max);
    }

    #[test]
    fn an_id_over_the_limit_is_dropped_and_counted_as_such() {
        let mut ids = Ids::default();
        count(&mut ids, &"x".repeat(ID_BYTES_MAX), 9);
        count(&mut ids, &"x".repeat(ID_BYTES_MAX + 1), 9);
        assert_eq!((ids.counts.len(), ids.dropped), (1, 1));
    }

    #[test]
    fn a_full_table_still_counts_the_ids_it_knows() {
        let mut ids = Ids::default();
        for id in ["a", "b", "one too many", "b"] {
            count(&mut ids, id, 2);
        }
        assert_eq!(ids.counts, HashMap::from([("a".into(), 1), ("b".into(), 2)]));
        assert_eq!(ids.dropped, 1);
    }

    #[test]
    fn an_invented_method_is_counted_as_other() {
        let received = Received::default();
        let brew = Method::from_bytes(b"BREW").expect("the test's method is a token");
        received.request(&brew, FateKind::Hang, None);
        assert_eq!(received.report(IdFilter::Omit).by_method, BTreeMap::from([("other", 1)]));
    }
}
