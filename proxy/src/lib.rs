//! Outrigger: a sidecar HTTP proxy that gives a plain client retries, budgets and circuit breakers.
//!
//! The modules, from the top down: [`app`] starts and stops everything; [`worker`] is one thread of requests; `downstream::h1` serves one downstream
//! connection; [`exchange`] carries out one request; [`live`] says which policies it has; [`upstream`] holds the connections to endpoints. The crate
//! `outrigger_policy` makes all decisions, and the crate `outrigger_http1` speaks HTTP/1.1. ARCHITECTURE.md has the map.

#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod app;
pub mod clock;
pub mod config;
pub mod telemetry;

pub mod admin;
pub mod downstream;
pub mod error;
pub mod exchange;
pub mod live;
pub mod memory;
pub mod path;
pub mod shared;
pub mod transport;
pub mod upstream;
pub mod worker;

/// The program's own allocator, whose counts `memory` reads.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(test)]
mod tests;
