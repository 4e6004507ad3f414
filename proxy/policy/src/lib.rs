//! The policies of Outrigger. This crate decides; the proxy acts.
//!
//! Every policy of the proxy is a plain state machine here. Nothing in this crate sleeps, spawns, logs, counts, parses or reads a
//! clock: `now` and the rng are arguments, and the decision is a return value. So the very same code runs in the proxy, in a simulation of
//! a hundred sidecars, and under property tests that run a million orders of events in a second.
//!
//! [`call`] is the loop that every request goes through. The other modules are the policies that it applies.
//! [`observe`] emits its decisions to an observer.
//!
//! Types that cores share (a breaker, a budget) take `&self` and keep their hot path in atomics. Each module says what it takes a lock for.

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
pub mod lag;
pub mod limit;
pub mod observe;
pub mod outcome;
pub mod rejection;
pub mod retry;
mod spare;
pub mod units;
pub mod upload;
mod window;
