//! The bench: what the proxy costs, side by side with HAProxy, nginx, Envoy and a byte relay, and how many instructions it takes.
//!
//! [`scenario`] says what is asked, [`peers`] and [`setup`] who is asked, [`measure`] does it with an [`origin`] behind and a [`load`] before;
//! [`results`] is what came of it, [`goals`] holds it against what was promised, [`table`], [`page`] and [`docs`] show it. [`counts`] is the part that runs
//! on every change: instructions of hot functions, which [`work`] calls, and of whole requests. [`syscalls`] has
//! strace count what the kernel is asked for.
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
mod wire;
mod work;

fn main() -> ExitCode {
    lab::error::exit("bench", app::main(cli::Cli::parse()))
}
