//! The ground floor of Outrigger: it decides, the upper floors do.
//!
//! Every policy of the proxy stands here as a plain state machine. Nothing in this crate sleeps, spawns, logs, counts, parses or reads a
//! clock: `now` and the random generator are arguments, the answer is a value. So the very same code runs in the proxy, in a simulation of
//! a hundred sidecars, and under property tests that try a million orders of events in a second.
//!
//! [`call`] is the loop that every request goes through; the others are the policies that it asks, in the order in which it asks them.
//! [`observe`] is how it tells what it decided.
//!
//! What many cores share (a breaker, a budget) takes `&self` and keeps its hot path in atomics; each module says what it takes a lock for.

#![warn(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(
    test,
    expect(clippy::disallowed_methods, reason = "tests take one moment to start from and count on from there")
)]

pub mod backoff;
pub mod balance;
pub mod breaker;
pub mod budget;
pub mod call;
pub mod deadline;
pub mod endpoint;
pub mod limit;
pub mod observe;
pub mod outcome;
pub mod rejection;
pub mod retry;
pub mod units;
pub mod upload;
mod window;
