//! The connections of the admin listener: their number is limited, and a connection that makes no progress never shuts out a new one.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::task::AbortHandle;

/// Enough for probes, one or two scrapers, and a person with curl.
pub(super) const CONNECTIONS_MAX: usize = 64;

/// How far a connection's one exchange is. Earlier ones give way first.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Stage {
    /// No whole head has come.
    #[default]
    Silent,
    /// The response has been made; the rest is up to the reader.
    Responded,
    /// The response is being made.
    Asked,
}

/// The connections in the order in which they came.
#[derive(Default)]
pub(super) struct Places(VecDeque<Place>);

struct Place {
    task: AbortHandle,
    stage: Rc<Cell<Stage>>,
}

impl Places {
    /// Makes room for one more. Returns the stage of the connection that was ended for it, if one was: the oldest silent one, or else the oldest whose
    /// response has not been read.
    pub(super) fn make_room(&mut self) -> Option<Stage> {
        self.0.retain(|place| !place.task.is_finished());
        if self.0.len() < CONNECTIONS_MAX {
            return None;
        }
        let at = (0..self.0.len()).min_by_key(|at| self.0[*at].stage.get())?;
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
    use super::*;

    #[tokio::test]
    async fn the_oldest_silent_connection_gives_way_then_the_oldest_that_does_not_read() {
        let mut places = Places::default();
        let stages: Vec<_> = (0..CONNECTIONS_MAX).map(|_| Rc::new(Cell::new(Stage::Asked))).collect();
        let tasks: Vec<_> = stages
            .iter()
            .map(|stage| {
                assert_eq!(places.make_room(), None, "there is room");
                let task = tokio::spawn(std::future::pending::<()>());
                places.add(task.abort_handle(), Rc::clone(stage));
                task
            })
            .collect();
        for (at, stage) in [(3, Stage::Responded), (5, Stage::Silent), (7, Stage::Silent), (9, Stage::Responded)] {
            stages[at].set(stage);
        }
        for at in [5, 7, 3, 9] {
            assert_eq!(places.make_room(), Some(stages[at].get()));
            let task = tokio::spawn(std::future::pending::<()>());
            places.add(task.abort_handle(), Rc::new(Cell::new(Stage::Asked)));
            tokio::task::yield_now().await;
            assert!(tasks[at].is_finished(), "{at}");
        }
        assert_eq!(tasks.iter().filter(|task| task.is_finished()).count(), 4);
        tasks[0].abort();
        tokio::task::yield_now().await;
        assert_eq!(places.make_room(), None, "a connection that has ended leaves room");
    }
}
