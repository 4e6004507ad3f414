//! Simulations of whole fleets of sidecars and endpoints, in simulated time.
//!
//! The loop under test is the real one, `policy::call`, with the real policies. Clients and endpoints are models. Time is
//! an event heap over `Instant + Duration`, and all random draws come from one seed. So the same seed gives the same run, and ten minutes
//! take a second. A scenario expects numbers within bands for every seed; besides, the laws of [`laws`] hold in every scenario.
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
