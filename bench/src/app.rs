//! Runs the command of the command line.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::error::{Error, Outcome};
use lab::interrupt::Interrupt;
use report::block::Missing;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cli::{Cli, Command, RunArgs};
use crate::measure::Bench;
use crate::peers::{Peer, Programs};
use crate::results::{Results, SCHEMA};
use crate::scenario::{self, Case, Scenario};
use crate::{counts, docs, goals, load, origin, page, relay, syscalls, table, work};

/// Enough for 9 900 downstream connections: the proxy needs two descriptors for each, and 128 besides.
const DESCRIPTORS: u64 = 20_000;

/// Runs the command.
///
/// # Errors
/// What could not be done.
pub(crate) fn main(cli: Cli) -> Result<Outcome, Error> {
    let done = |result: io::Result<()>| result.map(|()| Outcome::Passed).map_err(Error::io("this process"));
    match cli.command {
        None => run(&cli.run),
        Some(Command::Page { write, page, results }) => hold_page(&page, &results, write),
        Some(Command::Counts { write, bounds, bin_dir }) => {
            let held = counts::main(&bounds, write, bin_dir.as_deref()).map_err(Error::Unexpected)?;
            Ok(Outcome::of(held))
        }
        Some(Command::Syscalls { bin_dir, out }) => print_syscalls(bin_dir, out),
        Some(Command::Origin { ports }) => done(origin::serve(ports)),
        Some(Command::Relay { listen, to }) => done(relay::serve(listen, to)),
        Some(Command::Load(args)) => done(load::run(&args)),
        Some(Command::Work { name, times }) => {
            work::run(&name, times).map(|()| Outcome::Passed).map_err(Error::Unexpected)
        }
    }
}

fn print_syscalls(bin_dir: Option<PathBuf>, out: PathBuf) -> Result<Outcome, Error> {
    let bench = prepare(programs(bin_dir, None, out)?, 1)?;
    let text = syscalls::table(&bench)?;
    io::stdout().write_all(text.as_bytes()).map_err(Error::io("stdout"))?;
    Ok(Outcome::Passed)
}

/// What every measurement needs, each load of it lasting so many seconds.
fn prepare(programs: Programs, seconds: u32) -> Result<Bench, Error> {
    let interrupt = Interrupt::listen().map_err(Error::io("signals"))?;
    fs::create_dir_all(&programs.folder).map_err(Error::io(programs.folder.display()))?;
    raise_descriptors();
    Ok(Bench { programs, lasts: Duration::from_secs(u64::from(seconds)), interrupt })
}

fn run(args: &RunArgs) -> Result<Outcome, Error> {
    let (rounds, seconds) = if args.quick { (1, 1) } else { (args.rounds, args.seconds) };
    let bench = prepare(programs(args.bin_dir.clone(), args.outrigger.clone(), args.out.clone())?, seconds)?;
    let mut results = Results {
        schema: SCHEMA,
        started: lab::clock::today(),
        machine: machine(),
        seconds: bench.lasts.as_secs_f64(),
        versions: BTreeMap::new(),
        binary_bytes: fs::metadata(&bench.programs.outrigger).map_err(Error::io("outrigger"))?.len(),
        figures: BTreeMap::new(),
    };
    let scenarios: Vec<(&Scenario, Vec<Case>)> = chosen(args);
    let peers = present(&bench, &scenarios, &mut results)?;
    for round in 0..rounds {
        for (scenario, cases) in scenarios.iter().filter(|(scenario, _)| round < scenario.rounds_max) {
            eprintln!("round {} of {rounds}: {}", round + 1, scenario.title);
            let cases: Vec<&Case> = cases.iter().filter(|case| peers.contains(&case.peer)).collect();
            // Each round begins with another case, so that the order of cases differs.
            let first = usize::try_from(round).unwrap_or(0) % cases.len().max(1);
            for case in cases[first..].iter().chain(&cases[..first]) {
                results.add(scenario.name, &case.name, bench.measure(case)?);
            }
        }
        // After every round, so that an interrupted run has results.
        write(args, &results)?;
    }
    let text = format!(
        "{}\nresults  {}\npage     {}\n",
        table::text(&results),
        args.out.join("results.json").display(),
        args.out.join("index.html").display()
    );
    io::stdout().write_all(text.as_bytes()).map_err(Error::io("stdout"))?;
    let is_missed = goals::all(&results).iter().any(|goal| goal.is_met == Some(false));
    Ok(Outcome::of(!(args.check && is_missed)))
}

/// The scenarios with those of their cases whose peers are wanted.
fn chosen(args: &RunArgs) -> Vec<(&'static Scenario, Vec<Case>)> {
    let is_wanted = |scenario: &&Scenario| {
        args.only.as_ref().is_none_or(|only| only.iter().any(|wanted| wanted.name == scenario.name))
    };
    let has_peer = |case: &Case| {
        case.peer == Peer::Outrigger || args.peers.as_ref().is_none_or(|peers| peers.contains(&case.peer))
    };
    scenario::ALL
        .iter()
        .filter(is_wanted)
        .map(|scenario| (scenario, scenario.cases().into_iter().filter(|case| has_peer(case)).collect()))
        .collect()
}

/// The peers that are installed, each of them checked. A missing one is reported on stderr.
fn present(bench: &Bench, scenarios: &[(&Scenario, Vec<Case>)], results: &mut Results) -> Result<Vec<Peer>, Error> {
    let mut peers: Vec<Peer> = Vec::new();
    for case in scenarios.iter().flat_map(|(_, cases)| cases) {
        if peers.contains(&case.peer) || results.versions.contains_key(case.peer.name()) {
            continue;
        }
        match case.peer.version(&bench.programs) {
            Ok(version) => {
                bench.check(case.peer)?;
                eprintln!("{}: {version}", case.peer.name());
                results.versions.insert(case.peer.name().to_owned(), version);
                peers.push(case.peer);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                eprintln!(
                    "{}: NOT FOUND; the run goes on without it (bench/install.sh installs it)",
                    case.peer.name().to_uppercase()
                );
                results.versions.insert(case.peer.name().to_owned(), "not found, not measured".to_owned());
            }
            Err(error) => return Err(Error::io(case.peer.name())(error)),
        }
    }
    Ok(peers)
}

/// `outrigger` and this program, raw files to go to `out`.
fn programs(bin_dir: Option<PathBuf>, outrigger: Option<PathBuf>, out: PathBuf) -> Result<Programs, Error> {
    let bench = std::env::current_exe().map_err(Error::io("this program"))?;
    let folder = bin_dir.or_else(|| bench.parent().map(Path::to_owned)).unwrap_or_else(|| PathBuf::from("."));
    let outrigger = outrigger.unwrap_or_else(|| folder.join("outrigger"));
    if !outrigger.is_file() {
        return Err(Error::Unexpected(format!("no {}; `cargo build --release` makes it", outrigger.display())));
    }
    Ok(Programs { bench, outrigger, folder: out })
}

fn write(args: &RunArgs, results: &Results) -> Result<(), Error> {
    let json = serde_json::to_string_pretty(results).expect("figures are JSON") + "\n";
    for (name, text) in [("results.json", json), ("index.html", page::page(results))] {
        let path = args.out.join(name);
        fs::write(&path, text).map_err(Error::io(path.display()))?;
    }
    Ok(())
}

fn hold_page(path: &Path, results: &Path, writes: bool) -> Result<Outcome, Error> {
    let results = Results::read(results).map_err(Error::Unexpected)?;
    let unmarked = |missing: Missing| Error::Unexpected(format!("{}: {missing}", path.display()));
    let of_page = Error::io(path.display());
    let text = fs::read_to_string(path).map_err(&of_page)?;
    if writes {
        fs::write(path, docs::write(&text, &results).map_err(unmarked)?).map_err(&of_page)?;
        return Ok(Outcome::Passed);
    }
    let drifted = docs::drift(&text, &results).map_err(unmarked)?;
    if let Some(line) = &drifted {
        eprintln!("{}: {line}", path.display());
    }
    Ok(Outcome::of(drifted.is_none()))
}

/// Raises the descriptor limit, which child processes inherit.
fn raise_descriptors() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // No number means no limit.
    let wanted = maximum.map_or(DESCRIPTORS, |maximum| maximum.max(DESCRIPTORS));
    let is_raised = [wanted, maximum.unwrap_or(wanted)]
        .into_iter()
        .any(|limit| setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum: Some(limit) }).is_ok());
    let allowed = getrlimit(Resource::Nofile).current.or(current).unwrap_or(u64::MAX);
    if !is_raised || allowed < DESCRIPTORS {
        eprintln!("bench: only {allowed} descriptors are allowed; 9 900 connections need {DESCRIPTORS}");
    }
}

fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel: String = kernel.trim().split('-').next().unwrap_or_default().to_owned();
    format!("{processors} processors, Linux {kernel}, all on loopback")
}
