//! The program `outrigger`: its allocator, and its command line.

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod cli;

use std::process::ExitCode;

/// jemalloc, because the system's allocator does not give memory back after a load peak and needs half as much again for each open connection.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cli::main()
}
