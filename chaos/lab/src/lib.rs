//! The lab: what breaker and retry buy and what they cost, measured with real processes on loopback.
//!
//! [`experiment`] lists the experiments and [`run`] runs one. [`outage`] reads how an outage went, [`results`] holds what was measured, and
//! [`expect`] checks the product's claims against it. [`page`], [`table`] and [`readme`] show it. `target/lab` gets the
//! results, the report, and every raw file they were made of.
//!
//! The end-to-end tests and the bench use the lower modules as well: [`process`] owns children, [`programs`] starts backend, client and proxy and
//! knows their ports, [`http`] speaks to them byte by byte, [`exposition`], [`proxy_log`] and [`rows`] read what they write, [`error`] is how all of it
//! fails.
//!
//! Everything blocks and waits with a limit; the load is the client's, in its own process. Only [`clock`] reads the time.

pub mod app;
pub mod bodies;
pub mod cli;
pub mod clock;
pub mod error;
pub mod expect;
pub mod experiment;
pub mod exposition;
pub mod http;
pub mod interrupt;
pub mod outage;
mod outages;
pub mod page;
pub mod pods;
pub mod process;
pub mod programs;
pub mod progress;
pub mod proxy_log;
pub mod readme;
pub mod results;
pub mod rows;
pub mod run;
pub mod soak;
pub mod table;
