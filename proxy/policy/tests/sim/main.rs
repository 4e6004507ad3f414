//! The third ring of tests: whole fleets of sidecars against whole sets of endpoints, in simulated time.
//!
//! The loop under test is the real one, `policy::call`, with the real policies; callers and endpoints are models. Time is
//! an event heap over `Instant + Duration`, chance is one generator from a seed: the same seed is the same run, and ten minutes
//! take a second. What a scenario claims is a band that must hold for every seed, beside the laws of [`laws`] that hold in every world.
//!
//! A failure prints its seed and its numbers. `SIM_SEEDS=7..8 cargo test -p outrigger-policy --test sim NAME -- --nocapture` runs that seed
//! alone; `SIM_SEEDS=0..1000` looks for rarer ones.

mod cores;
mod endpoint;
mod laws;
mod report;
mod scenarios;
mod sidecar;
mod world;
