//! Two routes through one budget: nobody's failures may eat the retries of the other's.

use std::time::Duration;

use super::{for_seeds, secs};
use crate::endpoint::{Health, Model};
use crate::sidecar::Settings;
use crate::world::{Caller, World};

/// Who asks, at which rate and with which share of errors.
const PAIRS: [[(f64, f64); 2]; 3] =
    [[(100.0, 0.6), (100.0, 0.3)], [(180.0, 0.5), (20.0, 0.5)], [(190.0, 0.4), (10.0, 1.0)]];

#[test]
fn an_exhausted_budget_is_shared_in_proportion_to_the_failures() {
    for pair in PAIRS {
        for_seeds(4, |seed| {
            let mut world = World::new(seed);
            let health = move |_: Duration, caller: usize| Health::errs(pair[caller].1);
            let backend = world.endpoint(Model { health: Box::new(health), ..Model::quick(|_| Health::Works) });
            let sidecar = world.sidecar(&Settings::defaults().no_breakers(), &[backend]);
            for (rate, _) in pair {
                world.caller(Caller::steady(sidecar, rate));
            }
            let report = world.run(secs(30));
            // After the first window, when the floor saved up at the start is spent.
            let served = [0, 1].map(|caller| {
                let late = report.ended.iter().filter(|r| r.caller == caller && r.begun >= secs(10));
                let (mut asked, mut given) = (0.0, 0.0);
                for request in late {
                    let failed = request.attempts - u32::from(request.ending.is_success());
                    // A failure of the last attempt allowed asks for nothing.
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
