//! The bench: what the proxy costs, side by side with HAProxy, nginx, Envoy and a byte relay, and how many instructions it takes.
//!
//! [`scenario`] lists the loads, [`peers`] and [`setup`] the proxies. [`measure`] runs one of each between a [`load`] and an [`origin`].
//! [`results`] holds what was measured, [`goals`] compares it with the goals, [`table`], [`page`] and [`docs`] show it. [`counts`] runs
//! on every change: it counts the instructions of hot functions, which [`work`] calls, and of whole requests. [`syscalls`] counts system calls
//! with strace.
//!
//! It blocks and waits with limits; load, origin and relay are this program again, in processes of their own.
//!
//! Exit codes: 0 when done; 1 when something is not as it should be; 2 for wrong usage (by clap); 130 when it was interrupted.

use std::process::ExitCode;

use clap::Parser as _;

mod app;
mod cli;
mod counts;
mod docs;
mod goals;
mod load;
mod measure;
mod message;
mod origin;
mod page;
mod peers;
mod proc;
mod relay;
mod results;
mod scenario;
mod setup;
mod syscalls;
mod table;
mod work;

/// The proxy's allocator, for [`work`]. How many instructions the system's takes depends on where the blocks happen to lie, and varied by a tenth from run to run.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    lab::error::exit("bench", app::main(cli::Cli::parse()))
}
