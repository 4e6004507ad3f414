//! The limit on the requests that an upstream has in flight.
//!
//! All cores and all generations of configuration share one atomic count. A reload changes the limit but not the count. Only the limit at the moment of
//! entering matters: a request that has a slot keeps it.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

/// Requests in flight.
#[derive(Debug, Default)]
pub struct InFlight(AtomicU32);

/// A place among the requests in flight. Its drop gives it back.
#[derive(Debug)]
#[must_use = "a slot that is dropped is given back at once"]
pub struct Slot(Arc<InFlight>);

impl InFlight {
    /// Takes a place, unless `max` places are taken.
    pub fn enter(self: &Arc<Self>, max: u32) -> Option<Slot> {
        // Add first, then compare, so that two cores cannot both take the last place.
        if self.0.fetch_add(1, Relaxed) >= max {
            self.0.fetch_sub(1, Relaxed);
            return None;
        }
        Some(Slot(Arc::clone(self)))
    }

    /// Requests in flight now.
    pub fn count(&self) -> u32 {
        self.0.load(Relaxed)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_place_is_taken_once_and_a_dropped_slot_gives_it_back() {
        let in_flight = Arc::new(InFlight::default());
        let slots: Vec<_> = (0..3).filter_map(|_| in_flight.enter(2)).collect();
        assert_eq!((slots.len(), in_flight.count()), (2, 2));
        drop(slots);
        assert_eq!(in_flight.count(), 0);
        assert!(in_flight.enter(0).is_none());
    }

    #[test]
    fn no_place_is_lost_or_taken_twice_between_cores() {
        let in_flight = Arc::new(InFlight::default());
        let most = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        let Some(_slot) = in_flight.enter(3) else { continue };
                        // A refused core may have added itself for an instant, but at most three slots are held.
                        most.fetch_max(Arc::strong_count(&in_flight) as u32 - 1, Relaxed);
                    }
                });
            }
        });
        assert_eq!(in_flight.count(), 0);
        assert!((1..=3).contains(&most.load(Relaxed)), "{most:?} slots at once");
    }
}
