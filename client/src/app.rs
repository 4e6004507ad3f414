//! The composition root: arguments to files, runtime, run and output.
//!
//! Files are opened before the first request is sent, so that a wrong path does not cost a run.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use crate::cli::{Cli, Command, CompareArgs, RunArgs};
use crate::clock::Clock;
use crate::csv::Rows;
use crate::progress::Progress;
use crate::run::Plan;
use crate::{page, run, table};
use report::run::Report;

/// Does what the arguments say.
///
/// # Errors
/// A sentence why it could not; failed requests are no error.
pub fn main(cli: Cli) -> Result<(), String> {
    match cli.command {
        Command::Run(args) => measure(&args),
        Command::Compare(args) => compare(&args),
    }
}

fn measure(args: &RunArgs) -> Result<(), String> {
    let (plan, files) = (args.plan(), &args.files);
    let json = files.json.as_deref().map(Output::open).transpose()?;
    let html = files.html.as_deref().map(Output::open).transpose()?;
    let csv = files.csv.as_deref().map(Output::open).transpose()?;
    let clock = Clock::start();
    let begin =
        |csv: Output| csv.write(|file| Rows::begin(BufWriter::new(file), &plan.id_prefix, clock.started_unix()));
    let rows = csv.map(begin).transpose()?;
    // One thread: no contention between workers, and the other core is left to the server.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    let report = runtime.block_on(run::run(plan, clock, rows, args.progress()));
    let parted = args.parting().map_or(Ok(()), |plan| runtime.block_on(part(plan)));
    let report = report.map_err(|error| format!("the run broke off: {error}"))?;
    print(&table::run(&report))?;
    json.map_or(Ok(()), |json| json.write(|file| report.write(file)))?;
    html.map_or(Ok(()), |html| html.write(|mut file| file.write_all(page::run(&report).as_bytes())))?;
    parted
}

/// Sends the request of `--then-post`.
async fn part(plan: Plan) -> Result<(), String> {
    let target = plan.target.to_string();
    match run::run(plan, Clock::start(), None, Progress::Quiet).await {
        Ok(report) if report.counts.succeeded == 1 => Ok(()),
        Ok(report) => {
            Err(format!("{target} has not taken the POST: {:?} {:?}", report.counts.statuses, report.counts.errors))
        }
        Err(error) => Err(format!("{target}: {error}")),
    }
}

fn compare(args: &CompareArgs) -> Result<(), String> {
    let (a, b) = (Report::read(&args.a)?, Report::read(&args.b)?);
    let html = args.html.as_deref().map(Output::open).transpose()?;
    print(&table::compare(&a, &b))?;
    html.map_or(Ok(()), |html| html.write(|mut file| file.write_all(page::compare(&a, &b).as_bytes())))
}

fn print(text: &str) -> Result<(), String> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| format!("stdout: {error}"))
}

/// An open file that can say its name when it fails.
struct Output<'a> {
    path: &'a Path,
    file: File,
}

impl<'a> Output<'a> {
    fn open(path: &'a Path) -> Result<Self, String> {
        let file = File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path, file })
    }

    fn write<T>(self, write: impl FnOnce(File) -> std::io::Result<T>) -> Result<T, String> {
        write(self.file).map_err(|error| format!("{}: {error}", self.path.display()))
    }
}
