//! Two routes share one budget. The failures of one route must not use up the retries of the other.

use std::time::Duration;

use super::{for_seeds, secs};
use crate::endpoint::{Health, Model};
use crate::sidecar::Settings;
use crate::world::{Client, World};

/// Pairs of clients: the rate of each, and its share of errors.
const PAIRS: [[(f64, f64); 2]; 3] =
    [[(100.0, 0.6), (100.0, 0.3)], [(180.0, 0.5), (20.0, 0.5)], [(190.0, 0.4), (10.0, 1.0)]];

#[test]
fn an_exhausted_budget_is_shared_in_proportion_to_the_failures() {
    for pair in PAIRS {
        for_seeds(4, |seed| {
            let mut world = World::new(seed);
            let health = move |_: Duration, client: usize| Health::errs(pair[client].1);
            let backend = world.endpoint(Model { health: Box::new(health), ..Model::quick(|_| Health::Works) });
            let sidecar = world.sidecar(&Settings::defaults().no_breakers(), &[backend]);
            for (rate, _) in pair {
                world.client(Client::steady(sidecar, rate));
            }
            let report = world.run(secs(30));
            // After the first window, when the floor from the start is spent.
            let served = [0, 1].map(|client| {
                let late = report.ended.iter().filter(|r| r.client == client && r.begun >= secs(10));
                let (mut asked, mut given) = (0.0, 0.0);
                for request in late {
                    let failed = request.attempts - u32::from(request.ending.is_success());
                    // A failure of the last attempt needs no retry.
                    asked += f64::from(failed.min(2));
                    given += f64::from(request.attempts - 1);
                }
                given / asked
            });
            report.expect(&format!("{pair:?}: retries given of those asked, first"), served[0], 0.3..=0.6);
            report.expect(&format!("{pair:?}: second against first"), served[1] / served[0], 0.8..=1.25);
        });
    }
}
