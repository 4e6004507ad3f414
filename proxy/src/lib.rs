//! Outrigger: a sidecar HTTP proxy that gives a plain client retries, budgets and circuit breakers.
//!
//! The house, from the top down: [`app`] composes and stops the whole; [`worker`] is one thread of requests; `downstream::h1` a connection of the app;
//! [`exchange`] carries out one request; [`live`] says which policies it has; [`upstream`] holds the connections to endpoints. What is decided is decided by the crate
//! `outrigger_policy`, and HTTP/1.1 is spoken by the crate `outrigger_http1`. ARCHITECTURE.md has the map.

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
pub mod shared;
pub mod transport;
pub mod upstream;
pub mod worker;

#[cfg(test)]
mod tests;
