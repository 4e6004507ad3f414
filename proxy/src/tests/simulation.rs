//! The whole proxy in a world drawn from a seed: callers that upload, dawdle and leave, endpoints that refuse, stall, lie and break off, reloads and a drain in the middle.
//!
//! What must hold is written down while it runs, as offences, and looked at when all is quiet: each request has exactly one outcome, in its time; none that may not
//! be repeated reaches an endpoint twice; no answer is another request's, and none that broke off passes for whole; nothing is left behind. A failing seed is printed;
//! `SIM_SEEDS=7..8 cargo test -p outrigger --lib simulation -- --nocapture` runs it alone and prints what happened, `SIM_SEEDS=0..100000` looks for rarer ones.

mod caller;
mod endpoint;
mod laws;
mod scenario;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use self::endpoint::Wires;
use self::scenario::Scenario;
use super::net::{Bench, paused};
use crate::clock;
use crate::worker::Order;

/// Seeds of every test run, in as many threads as below.
const SEEDS: Range<u64> = 0..2_000;
const THREADS: u64 = 2;
/// Failed seeds that are told with what went wrong.
const TOLD_MAX: usize = 8;

/// What all of a run share.
pub(super) struct World {
    scenario: Scenario,
    dice: RefCell<SmallRng>,
    started: Instant,
    /// What endpoints saw of each request, by its id: heads, or bytes that nobody read.
    arrivals: RefCell<HashMap<String, u32>>,
    /// What endpoints said, whole: the id, and the body.
    answers: RefCell<Vec<(String, String)>>,
    /// Requests whose callers waited for their end, and those of them that an endpoint answered with a 200.
    awaited: Cell<u32>,
    succeeded: Cell<u32>,
    /// Requests that are under way by the callers' count.
    under_way: Cell<u32>,
    is_draining: Cell<bool>,
    story: RefCell<Vec<String>>,
    offences: RefCell<Vec<String>>,
}

impl World {
    fn new(seed: u64) -> Rc<World> {
        let mut dice = SmallRng::seed_from_u64(seed);
        let scenario = Scenario::draw(&mut dice);
        Rc::new(World {
            scenario,
            dice: RefCell::new(dice),
            started: clock::now(),
            arrivals: RefCell::default(),
            answers: RefCell::default(),
            awaited: Cell::new(0),
            succeeded: Cell::new(0),
            under_way: Cell::new(0),
            is_draining: Cell::new(false),
            story: RefCell::default(),
            offences: RefCell::default(),
        })
    }

    /// From 0 to `below`, without it.
    fn draw(&self, below: u32) -> u32 {
        self.dice.borrow_mut().random_range(0..below.max(1))
    }

    /// True in `percent` of a hundred cases.
    fn chance(&self, percent: u32) -> bool {
        self.draw(100) < percent
    }

    fn millis(&self, below: u32) -> Duration {
        Duration::from_millis(u64::from(self.draw(below)))
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        let at = clock::now() - self.started;
        self.story.borrow_mut().push(format!("{:>9.3} {}", at.as_secs_f64(), what()));
    }

    fn offence(&self, what: String) {
        self.tell(|| format!("OFFENCE {what}"));
        self.offences.borrow_mut().push(what);
    }
}

/// One run; its story, and what went against the laws.
fn run(seed: u64) -> (Vec<String>, Vec<String>) {
    let result = Rc::new(RefCell::new((Vec::new(), Vec::new())));
    let told = Rc::clone(&result);
    paused(async move {
        let world = World::new(seed);
        world.tell(|| format!("{:?}", world.scenario));
        let bench = Rc::new(Bench::over(Box::new(Wires::new(&world)), &world.scenario.config(0)).await);
        bench.reseed(seed);
        let mut callers: Vec<_> = (0..world.scenario.callers)
            .map(|number| tokio::task::spawn_local(caller::live(Rc::clone(&world), Rc::clone(&bench), number)))
            .collect();
        callers.push(tokio::task::spawn_local(operate(Rc::clone(&world), Rc::clone(&bench))));
        for caller in callers {
            if let Err(error) = caller.await {
                world.offence(format!("a part of the simulation broke: {error}"));
            }
        }
        laws::when_all_is_quiet(&world, &bench).await;
        *told.borrow_mut() = (world.story.take(), world.offences.take());
    });
    result.take()
}

/// The operator: reloads, and in some runs a drain.
async fn operate(world: Rc<World>, bench: Rc<Bench>) {
    for number in 1..=world.scenario.reloads {
        clock::sleep(world.millis(3_000)).await;
        world.tell(|| format!("reload {number}"));
        bench.reload(&world.scenario.config(number)).await;
    }
    if world.scenario.drains {
        clock::sleep(world.millis(3_000)).await;
        world.tell(|| "drain".to_owned());
        world.is_draining.set(true);
        bench.order(Order::Finish);
    }
}

fn seeds() -> (Range<u64>, bool) {
    let given = std::env::var("SIM_SEEDS").ok().map(|range| {
        let (from, to) = range.split_once("..").expect("SIM_SEEDS is a range: 0..100");
        let number = |text: &str| text.parse::<u64>().expect("SIM_SEEDS is two numbers");
        number(from)..number(to)
    });
    let is_told = given.as_ref().is_some_and(|range| range.end - range.start == 1);
    (given.unwrap_or(SEEDS), is_told)
}

/// Runs the seeds of one thread; those that failed.
fn failures(seeds: Range<u64>, share: u64, is_told: bool) -> Vec<String> {
    let mut failures = Vec::new();
    for seed in seeds.filter(|seed| seed % THREADS == share) {
        let (story, offences) = run(seed);
        if is_told {
            println!("{}", story.join("\n"));
        }
        if !offences.is_empty() {
            failures.push(format!("SIM_SEEDS={seed}..{}: {offences:#?}", seed + 1));
        }
    }
    failures
}

#[test]
fn whatever_happens_the_laws_hold() {
    let (seeds, is_told) = seeds();
    let start = |share| {
        std::thread::spawn({
            let seeds = seeds.clone();
            move || failures(seeds, share, is_told)
        })
    };
    let threads: Vec<_> = (0..THREADS).map(start).collect();
    let failures: Vec<String> = threads.into_iter().flat_map(|thread| thread.join().expect("no run panics")).collect();
    let told: Vec<_> = failures.iter().take(TOLD_MAX).map(String::as_str).collect();
    assert!(failures.is_empty(), "{} seeds failed:\n{}", failures.len(), told.join("\n"));
}

#[test]
fn a_seed_tells_the_same_story_again() {
    for seed in 0..20 {
        let (first, second) = (run(seed).0, run(seed).0);
        let differs = first.iter().zip(&second).find(|(first, second)| first != second);
        assert!(differs.is_none() && first.len() == second.len(), "seed {seed}: {differs:#?}");
    }
}
