//! The connections of the admin listener: their number is limited, and nothing that others do can take the place that a probe needs.
//!
//! A connection has its place by what it has done so far. A new one, such as a probe's, gives way only to [`SILENT_MIN`] newer ones that have not sent a head
//! either, however many scrapers wait or read. Scrapers that wait are fewer than the other places, so there is always one that may be taken.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::task::AbortHandle;

use super::scrapes::SCRAPES_MAX;

/// Enough for probes, for a few scrapers, and for a storm of connections that come faster than their heads. The descriptors that the proxy keeps for itself are
/// enough for them.
pub(super) const CONNECTIONS_MAX: usize = 96;
/// So many silent connections are safe from all others. A storm of 10 000 connections a second leaves a probe 5 ms for its head, which mostly comes with the
/// connection.
pub(super) const SILENT_MIN: usize = 48;

/// If fewer than [`SILENT_MIN`] are silent and no more than [`SCRAPES_MAX`] wait, some are left that have their response.
const _: () = assert!(SILENT_MIN + SCRAPES_MAX < CONNECTIONS_MAX);

/// How far a connection's one exchange is.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// No whole head has come.
    #[default]
    Silent,
    /// The response is being made.
    Asked,
    /// The response has been made; the rest is up to the reader.
    Responded,
}

/// The connections in the order in which they came.
#[derive(Default)]
pub(super) struct Places(VecDeque<Place>);

struct Place {
    task: AbortHandle,
    stage: Rc<Cell<Stage>>,
}

impl Places {
    /// Makes room for one more. Returns the stage of the connection that was ended for it, if one was: the oldest one that has not read its response, or, if
    /// silent ones take more than their share, the oldest silent one.
    pub(super) fn make_room(&mut self) -> Option<Stage> {
        self.0.retain(|place| !place.task.is_finished());
        if self.0.len() < CONNECTIONS_MAX {
            return None;
        }
        let silent = self.0.iter().filter(|place| place.stage.get() == Stage::Silent).count();
        let yields = if silent > SILENT_MIN { Stage::Silent } else { Stage::Responded };
        let at = self.0.iter().position(|place| place.stage.get() == yields).unwrap_or(0);
        let place = self.0.remove(at)?;
        place.task.abort();
        Some(place.stage.get())
    }

    /// Adds the connection that `task` serves.
    pub(super) fn add(&mut self, task: AbortHandle, stage: Rc<Cell<Stage>>) {
        self.0.push_back(Place { task, stage });
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinHandle;

    use super::*;

    /// As many connections as may be, at these stages, the oldest first.
    fn full(stages: impl IntoIterator<Item = Stage>) -> (Places, Vec<JoinHandle<()>>) {
        let mut places = Places::default();
        let tasks = stages.into_iter().map(|stage| {
            assert_eq!(places.make_room(), None, "there is room");
            let task = tokio::spawn(std::future::pending());
            places.add(task.abort_handle(), Rc::new(Cell::new(stage)));
            task
        });
        let tasks: Vec<_> = tasks.collect();
        assert_eq!(tasks.len(), CONNECTIONS_MAX);
        (places, tasks)
    }

    /// The stages of the connections that give way to this many new ones, which stay silent.
    fn that_give_way(places: &mut Places, new: usize) -> Vec<Option<Stage>> {
        let add = |_| {
            let gave_way = places.make_room();
            places.add(tokio::spawn(std::future::pending::<()>()).abort_handle(), Rc::default());
            gave_way
        };
        (0..new).map(add).collect()
    }

    #[tokio::test]
    async fn a_silent_connection_gives_way_to_no_scraper_and_only_to_many_newer_silent_ones() {
        let scrapers = CONNECTIONS_MAX - 1 - SCRAPES_MAX;
        let stages = (0..SCRAPES_MAX).map(|_| Stage::Asked).chain([Stage::Silent]);
        let (mut places, mut tasks) = full(stages.chain((0..scrapers).map(|_| Stage::Responded)));
        let gave_way = that_give_way(&mut places, SILENT_MIN);
        assert!(gave_way.iter().all(|stage| *stage == Some(Stage::Responded)), "{gave_way:?}");
        assert_eq!(that_give_way(&mut places, 1), [Some(Stage::Silent)]);
        let mut rest = tasks.split_off(SCRAPES_MAX);
        let alive = rest.split_off(1 + SILENT_MIN);
        for ended in rest {
            assert!(ended.await.is_err_and(|error| error.is_cancelled()));
        }
        assert!(tasks.iter().chain(&alive).all(|task| !task.is_finished()), "a scrape that waits is not ended");
    }

    #[tokio::test]
    async fn silent_connections_alone_give_way_to_each_other_from_the_oldest_on() {
        let (mut places, mut tasks) = full((0..CONNECTIONS_MAX).map(|_| Stage::Silent));
        assert_eq!(that_give_way(&mut places, 2), [Some(Stage::Silent); 2]);
        let alive = tasks.split_off(2);
        for ended in tasks {
            assert!(ended.await.is_err_and(|error| error.is_cancelled()));
        }
        assert!(alive.iter().all(|task| !task.is_finished()));
        alive[0].abort();
        while !alive[0].is_finished() {
            tokio::task::yield_now().await;
        }
        assert_eq!(places.make_room(), None, "a connection that has ended leaves room");
    }
}
