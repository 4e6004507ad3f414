//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::peers::Peer;
use crate::scenario::{self, Scenario};

/// What the proxy costs, side by side with others on one machine
#[derive(Debug, Parser)]
#[command(name = "bench", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    /// Instead of a run.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// What to run.
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// What else it can do; what is hidden are its own processes.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Hold the tables of docs/performance.md against the results they were written from; exits with 1 and the first line that differs
    Page {
        /// Write the tables instead
        #[arg(long)]
        write: bool,
        /// The file with the lines <!-- bench:begin --> and <!-- bench:end -->
        #[arg(value_name = "performance.md")]
        page: PathBuf,
        /// results.json of a run
        #[arg(value_name = "results.json")]
        results: PathBuf,
    },
    /// Count system calls per request of each peer with strace, and print them as a table
    Syscalls {
        /// Where outrigger is [default: beside this program]
        #[arg(long, value_name = "FOLDER")]
        bin_dir: Option<PathBuf>,
        /// Where raw files go
        #[arg(long, value_name = "FOLDER", default_value = "target/bench")]
        out: PathBuf,
    },
    /// Count instructions of hot functions and of whole requests with valgrind, and hold them against their bounds
    Counts {
        /// Write the bounds instead
        #[arg(long)]
        write: bool,
        /// The file of bounds
        #[arg(value_name = "counts.json", default_value = "bench/counts.json")]
        bounds: PathBuf,
        /// Where outrigger is [default: beside this program]
        #[arg(long, value_name = "FOLDER")]
        bin_dir: Option<PathBuf>,
    },
    #[command(hide = true)]
    Origin {
        #[arg(long, default_value = "3")]
        ports: usize,
    },
    #[command(hide = true)]
    Relay {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        to: SocketAddr,
    },
    #[command(hide = true)]
    Load(LoadArgs),
    #[command(hide = true)]
    Work {
        #[arg()]
        name: String,
        #[arg()]
        times: u32,
    },
}

/// How to run. Each comment is the flag's help.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Where results.json, index.html and raw files go
    #[arg(long, value_name = "FOLDER", default_value = "target/bench")]
    pub(crate) out: PathBuf,
    /// One short round: a look, two minutes, no figure to quote
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    pub(crate) quick: bool,
    /// How often each scenario is gone through, peer after peer
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// How long each load is measured, after its warm-up
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=600))]
    pub(crate) seconds: u32,
    /// Not all scenarios, but these.
    #[arg(long, value_name = "SCENARIO,…", value_delimiter = ',', value_parser = scenario)]
    #[arg(help = format!("Only these scenarios: {}", scenario::names()))]
    pub(crate) only: Option<Vec<&'static Scenario>>,
    /// Not all peers, but these and outrigger.
    #[arg(long, value_name = "PEER,…", value_delimiter = ',', value_parser = peer)]
    #[arg(help = format!("Only these peers beside outrigger: {}", Peer::names()))]
    pub(crate) peers: Option<Vec<Peer>>,
    /// Where outrigger and client are [default: beside this program]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) bin_dir: Option<PathBuf>,
    /// Which outrigger to measure, if not the one in that folder
    #[arg(long, value_name = "FILE")]
    pub(crate) outrigger: Option<PathBuf>,
    /// Exit with 1 if a goal is missed
    #[arg(long)]
    pub(crate) check: bool,
}

/// The load that `bench load` makes.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    #[arg(long)]
    pub(crate) to: SocketAddr,
    /// How many are open.
    #[arg(long, default_value = "64")]
    pub(crate) connections: usize,
    /// How many requests are under way at once [default: one on each connection].
    #[arg(long)]
    pub(crate) active: Option<usize>,
    /// Requests a second in open loop, one connection each [default: closed loop].
    #[arg(long, conflicts_with = "active")]
    pub(crate) rate: Option<f64>,
    #[arg(long, default_value = "300")]
    pub(crate) warm_ms: u64,
    #[arg(long, default_value = "1000")]
    pub(crate) measure_ms: u64,
    #[arg(long, default_value = "GET")]
    pub(crate) method: String,
    #[arg(long, default_value = "0")]
    pub(crate) body_bytes: usize,
    #[arg(long, value_delimiter = ',', default_value = "/40")]
    pub(crate) paths: Vec<String>,
    #[arg(long, value_delimiter = ',', default_value = "backend")]
    pub(crate) hosts: Vec<String>,
    /// Whose time on processors counts, with its children's.
    #[arg(long)]
    pub(crate) watch: Option<u32>,
    /// The origin, which must not be what limits the load.
    #[arg(long)]
    pub(crate) origin: Option<u32>,
}

fn scenario(name: &str) -> Result<&'static Scenario, String> {
    Scenario::named(name).ok_or_else(|| format!("there are {}", scenario::names()))
}

fn peer(name: &str) -> Result<Peer, String> {
    Peer::named(name).ok_or_else(|| format!("there are {}", Peer::names()))
}
