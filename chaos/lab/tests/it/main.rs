//! End to end: real processes, real sockets, real time, on loopback. What a unit test can show is not shown here again.
//!
//! The programs are taken from beside this test's binary: `cargo build --workspace` first.

mod admin;
mod bodies;
mod breaker;
mod config_file;
mod leaving;
mod limits;
mod metrics;
mod names;
mod origin;
mod paused;
mod posts;
mod program;
mod reload;
mod restart;
mod retries;
mod slow_readers;
mod stage;
mod start;
mod stop;
mod streams;
mod stub;
mod stuck_uploads;
mod target;
mod truncated;
mod world;
