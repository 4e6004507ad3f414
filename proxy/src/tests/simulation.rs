//! The whole proxy in a simulated world that a seed determines. Clients upload, pause and disconnect. Endpoints refuse, stall, respond early, send malformed
//! responses and break off. Reloads and a drain happen in the middle.
//!
//! A run records every violation of these laws, and the test fails if there is one:
//!
//! - Each request has exactly one outcome, in time.
//! - No request that must not be repeated reaches an endpoint twice.
//! - No client gets the response to another request, or takes a response that broke off for a whole one.
//! - No request that was answered with success before its end reaches its endpoint cut or changed, if the endpoint reads on.
//! - Of a request whose endpoint does not read, no more is taken from the client than is on its way.
//! - Nothing is left behind at the end.
//!
//! The test prints the seeds that fail. `SIM_SEEDS=7..8 cargo test -p outrigger --lib simulation -- --nocapture` runs one of them alone and prints what happened;
//! `SIM_SEEDS=0..100000` looks for rarer failures.

mod client;
mod endpoint;
mod laws;
mod scenario;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use self::endpoint::Network;
use self::scenario::Scenario;
use super::net::{Bench, paused};
use crate::clock;
use crate::worker::Order;

/// Seeds of every test run, in as many threads as below.
const SEEDS: Range<u64> = 0..2_000;
const THREADS: u64 = 2;
/// How many failed seeds the test prints.
const PRINTED_MAX: usize = 8;

/// What all tasks of a run share.
pub(super) struct World {
    scenario: Scenario,
    rng: RefCell<SmallRng>,
    started: Instant,
    /// How often each request reached an endpoint, by its id: as a head, or as bytes that the endpoint did not read.
    arrivals: RefCell<HashMap<String, u32>>,
    /// The whole responses of the endpoints: the request's id, and the body.
    responses: RefCell<Vec<(String, String)>>,
    /// What endpoints have read after an early response, by the number of the response; `None` if it broke off.
    received: RefCell<HashMap<usize, Option<String>>>,
    /// Bodies that clients sent whole and that were answered with success, by the number of the response.
    sent: RefCell<Vec<(usize, String)>>,
    /// Early responses whose endpoints do not read, by their numbers.
    deaf: RefCell<HashSet<usize>>,
    /// Requests whose clients waited for the response, and how many of them an endpoint answered with a 200.
    awaited: Cell<u32>,
    succeeded: Cell<u32>,
    /// Requests under way, as the clients count them.
    under_way: Cell<u32>,
    is_draining: Cell<bool>,
    history: RefCell<Vec<String>>,
    violations: RefCell<Vec<String>>,
}

impl World {
    fn new(seed: u64) -> Rc<World> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let scenario = Scenario::draw(&mut rng);
        Rc::new(World {
            scenario,
            rng: RefCell::new(rng),
            started: clock::now(),
            arrivals: RefCell::default(),
            responses: RefCell::default(),
            received: RefCell::default(),
            sent: RefCell::default(),
            deaf: RefCell::default(),
            awaited: Cell::new(0),
            succeeded: Cell::new(0),
            under_way: Cell::new(0),
            is_draining: Cell::new(false),
            history: RefCell::default(),
            violations: RefCell::default(),
        })
    }

    /// A number from 0 to `below - 1`.
    fn draw(&self, below: u32) -> u32 {
        self.rng.borrow_mut().random_range(0..below.max(1))
    }

    /// True with a probability of `percent`.
    fn chance(&self, percent: u32) -> bool {
        self.draw(100) < percent
    }

    fn millis(&self, below: u32) -> Duration {
        Duration::from_millis(u64::from(self.draw(below)))
    }

    fn log(&self, what: impl FnOnce() -> String) {
        let at = clock::now() - self.started;
        self.history.borrow_mut().push(format!("{:>9.3} {}", at.as_secs_f64(), what()));
    }

    fn violation(&self, what: String) {
        self.log(|| format!("VIOLATION {what}"));
        self.violations.borrow_mut().push(what);
    }
}

/// One run; its history, and the violations of the laws.
fn run(seed: u64) -> (Vec<String>, Vec<String>) {
    let result = Rc::new(RefCell::new((Vec::new(), Vec::new())));
    let output = Rc::clone(&result);
    paused(async move {
        let world = World::new(seed);
        world.log(|| format!("{:?}", world.scenario));
        let bench = Rc::new(Bench::over(Box::new(Network::new(&world)), &world.scenario.config(0)).await);
        bench.reseed(seed);
        let mut clients: Vec<_> = (0..world.scenario.clients)
            .map(|number| tokio::task::spawn_local(client::live(Rc::clone(&world), Rc::clone(&bench), number)))
            .collect();
        clients.push(tokio::task::spawn_local(operate(Rc::clone(&world), Rc::clone(&bench))));
        for client in clients {
            if let Err(error) = client.await {
                world.violation(format!("a part of the simulation broke: {error}"));
            }
        }
        laws::when_all_is_quiet(&world, &bench).await;
        *output.borrow_mut() = (world.history.take(), world.violations.take());
    });
    result.take()
}

/// Plays the operator: reloads, and in some runs drains.
async fn operate(world: Rc<World>, bench: Rc<Bench>) {
    for number in 1..=world.scenario.reloads {
        clock::sleep(world.millis(3_000)).await;
        world.log(|| format!("reload {number}"));
        bench.reload(&world.scenario.config(number)).await;
    }
    if world.scenario.drains {
        clock::sleep(world.millis(3_000)).await;
        world.log(|| "drain".to_owned());
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
    let is_verbose = given.as_ref().is_some_and(|range| range.end - range.start == 1);
    (given.unwrap_or(SEEDS), is_verbose)
}

/// Runs the seeds of one thread and returns those that failed.
fn failures(seeds: Range<u64>, share: u64, is_verbose: bool) -> Vec<String> {
    let mut failures = Vec::new();
    for seed in seeds.filter(|seed| seed % THREADS == share) {
        let (history, violations) = run(seed);
        if is_verbose {
            println!("{}", history.join("\n"));
        }
        if !violations.is_empty() {
            failures.push(format!("SIM_SEEDS={seed}..{}: {violations:#?}", seed + 1));
        }
    }
    failures
}

#[test]
fn whatever_happens_the_laws_hold() {
    let (seeds, is_verbose) = seeds();
    let start = |share| {
        std::thread::spawn({
            let seeds = seeds.clone();
            move || failures(seeds, share, is_verbose)
        })
    };
    let threads: Vec<_> = (0..THREADS).map(start).collect();
    let failures: Vec<String> = threads.into_iter().flat_map(|thread| thread.join().expect("no run panics")).collect();
    let printed: Vec<_> = failures.iter().take(PRINTED_MAX).map(String::as_str).collect();
    assert!(failures.is_empty(), "{} seeds failed:\n{}", failures.len(), printed.join("\n"));
}

#[test]
fn a_seed_has_the_same_history_every_time() {
    for seed in 0..20 {
        let (first, second) = (run(seed).0, run(seed).0);
        let differs = first.iter().zip(&second).find(|(first, second)| first != second);
        assert!(differs.is_none() && first.len() == second.len(), "seed {seed}: {differs:#?}");
    }
}
