//! Carries out what the command line asks for.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use crate::cli::{Cli, Command, RunArgs};
use crate::error::{Error, Outcome};
use crate::experiment::{ALL, Experiment};
use crate::interrupt::Interrupt;
use crate::pods::Pods;
use crate::programs::Programs;
use crate::progress::Progress;
use crate::results::{Results, SCHEMA};
use crate::run::Lab;
use crate::{clock, expect, page, readme, soak, table};

/// Runs the command.
///
/// # Errors
/// What could not be done.
pub fn main(cli: Cli) -> Result<Outcome, Error> {
    match cli.command {
        None => run(cli.run),
        Some(Command::Soak { minutes, out }) => soak(Duration::from_secs(60 * minutes), &out),
        Some(Command::Readme { write: false, some, readme, results }) => check_readme(&readme, &results, some),
        Some(Command::Readme { write: true, readme, results, .. }) => write_readme(&readme, &results),
    }
}

fn run(args: RunArgs) -> Result<Outcome, Error> {
    // First, so that from here on a signal ends everything in order.
    let interrupt = Interrupt::listen().map_err(Error::io("signals"))?;
    let programs = match args.bin_dir {
        _ if args.pods => Pods::on_a_network().map(Programs::Pods),
        Some(folder) => Programs::in_folder(folder),
        None => Programs::beside_this(),
    };
    let programs = programs.map_err(Error::Unexpected)?;
    let of_folder = Error::io(args.out.display());
    fs::create_dir_all(&args.out).map_err(&of_folder)?;
    // A folder has the same name in a container, for which it must be a whole one.
    let folder = if args.pods { args.out.canonicalize().map_err(&of_folder)? } else { args.out.clone() };
    let (rate, lasts, seed) = (args.rate, args.seconds, args.seed);
    let lab = Lab { programs, folder, rate, lasts, seed, interrupt, progress: Progress::to_stderr() };
    let is_wanted = |experiment: &&Experiment| {
        args.only.as_ref().is_none_or(|only| only.iter().any(|wanted| wanted.name == experiment.name))
    };

    let started = clock::today();
    let mut results = Results { schema: SCHEMA, started, seed, parts: Default::default(), expectations: Vec::new() };
    for experiment in ALL.iter().filter(is_wanted) {
        results.parts.insert(experiment.name.to_owned(), lab.run(experiment)?);
    }
    results.expectations = expect::all(&results);

    let json = lab.write("results.json", |mut file| {
        serde_json::to_writer_pretty(&mut file, &results)?;
        file.write_all(b"\n")
    })?;
    let page = page::page(&results, &lab.folder).map_err(Error::Unexpected)?;
    let page = lab.write("report.html", |mut file| file.write_all(page.as_bytes()))?;
    let text = format!("{}\nresults  {}\nreport   {}\n", table::text(&results), json.display(), page.display());
    io::stdout().write_all(text.as_bytes()).map_err(Error::io("stdout"))?;
    let all_hold = results.expectations.iter().all(|claim| claim.holds);
    Ok(Outcome::of(all_hold || args.no_check))
}

fn soak(lasts: Duration, out: &Path) -> Result<Outcome, Error> {
    let programs = Programs::beside_this().map_err(Error::Unexpected)?;
    let interrupt = Interrupt::listen().map_err(Error::io("signals"))?;
    fs::create_dir_all(out).map_err(Error::io(out.display()))?;
    let broken = soak::run(&programs, out, lasts, &interrupt)?;
    broken.iter().take(20).for_each(|promise| println!("BROKEN {promise}"));
    Ok(Outcome::of(broken.is_empty()))
}

fn check_readme(readme: &Path, results: &Path, some: bool) -> Result<Outcome, Error> {
    let results = Results::read(results).map_err(Error::Unexpected)?;
    let text = fs::read_to_string(readme).map_err(Error::io(readme.display()))?;
    let named = |message| Error::Unexpected(format!("{}: {message}", readme.display()));
    let drifted = readme::drift(&text, &results, some).map_err(named)?;
    drifted.iter().for_each(|cell| eprintln!("{}: {cell}", readme.display()));
    Ok(Outcome::of(drifted.is_empty()))
}

fn write_readme(readme: &Path, results: &Path) -> Result<Outcome, Error> {
    let results = Results::read(results).map_err(Error::Unexpected)?;
    let of_file = Error::io(readme.display());
    let text = fs::read_to_string(readme).map_err(&of_file)?;
    let named = |message| Error::Unexpected(format!("{}: {message}", readme.display()));
    fs::write(readme, readme::write(&text, &results).map_err(named)?).map_err(&of_file)?;
    Ok(Outcome::Passed)
}
