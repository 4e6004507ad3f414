//! The plain client: sends requests at a fixed rate or as fast as the responses come, measures, and reports.
//!
//! The proxy is measured with it, so it does nothing that could change the numbers: no retry, no circuit breaker,
//! no pooled client that resends unasked. Each request is written to one connection at most once, and in open loop
//! its latency starts when it was *due*, not when a connection became free, so a stalled server cannot hide its stall.
//!
//! The way of one request: [`load`] says when it is due, [`tickets`] hands it to a free worker of [`run`], [`connection`]
//! exchanges it, [`record`] counts it. At the end [`report::run::Report`] is the value that [`table`] and [`page`] show and the
//! JSON file holds; [`csv`] has each request by itself.
//!
//! Everything async runs on one thread; open loop adds one thread that only waits for the next due moment.

pub mod app;
pub mod cli;
pub mod clock;
pub mod connection;
pub mod csv;
pub mod load;
pub mod page;
pub mod progress;
pub mod record;
pub mod run;
pub mod table;
pub mod target;
pub mod tickets;
