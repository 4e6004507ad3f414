//! Outrigger: a sidecar HTTP proxy that gives a plain client retries, budgets and circuit breakers.
//!
//! The house, from the door down: [`app`] composes and stops the whole; `http::server` is the door; `exchange` takes one request through all
//! policies; `http::client` holds the connections to endpoints; the crate `outrigger_policy` decides. ARCHITECTURE.md has the map.

pub mod app;
pub mod clock;
pub mod config;
pub mod log;

pub mod admin;
pub mod error;
pub mod events;
pub mod exchange;
pub mod http;
pub mod lane;
pub mod listeners;
pub mod live;
pub mod metrics;
pub mod names;
pub mod ready;
pub mod reload;
pub mod route;
pub mod shared;
pub mod upstream;
pub mod worker;

#[cfg(test)]
mod wiring;
