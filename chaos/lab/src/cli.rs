//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::experiment::{self, Experiment};

/// The lab: runs parts A (baseline), B (resilience) and C (chaos) on loopback and writes the report
#[derive(Debug, Parser)]
#[command(name = "lab", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Instead of a run.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What else the lab can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load for minutes over a backend that fails in every way; exits with 1 unless every request is accounted for
    Soak {
        /// How long
        #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u64).range(1..=30))]
        minutes: u64,
        /// Where raw files go
        #[arg(long, value_name = "FOLDER", default_value = "target/soak")]
        out: PathBuf,
    },
    /// Hold the table in README.md against a run's results; exits with 1 and each cell that has drifted
    Readme {
        /// Write the table instead
        #[arg(long)]
        write: bool,
        /// Say nothing of rows whose part the run has left out
        #[arg(long, conflicts_with = "write")]
        some: bool,
        /// The file with the lines <!-- lab:begin --> and <!-- lab:end -->
        #[arg(value_name = "README.md")]
        readme: PathBuf,
        /// results.json of a run
        #[arg(value_name = "results.json")]
        results: PathBuf,
    },
}

/// How to run. Each comment is the flag's help.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Where results, report and raw files go
    #[arg(long, value_name = "FOLDER", default_value = "target/lab")]
    pub out: PathBuf,
    /// Requests per second (b_storm has twice as many, b_tuned ten times)
    #[arg(long, value_name = "PER_SECOND", default_value = "200", value_parser = rate)]
    pub rate: f64,
    /// How long each load lasts (an outage at least 10 s)
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub seconds: Duration,
    /// Of the backend's generator: the n-th request it gets meets the same fate in each run
    #[arg(long, value_name = "N", default_value = "1")]
    pub seed: u64,
    /// Not all parts, but these.
    #[arg(long, value_name = "PART,…", value_delimiter = ',', value_parser = named)]
    #[arg(help = format!("Only these parts: {}", experiment::names()))]
    pub only: Option<Vec<&'static Experiment>>,
    /// Where backend, client and outrigger are [default: beside this program]
    #[arg(long, value_name = "FOLDER")]
    pub bin_dir: Option<PathBuf>,
    /// Run them as containers in pods of podman, from the images of `make images` (needs root)
    #[arg(long, conflicts_with = "bin_dir")]
    pub pods: bool,
    /// Only measure: exit with 0 though an expectation does not hold
    #[arg(long)]
    pub no_check: bool,
}

fn rate(text: &str) -> Result<f64, &'static str> {
    // Ten times this is about what one core can send, count and serve.
    let is_allowed = |rate: &f64| (1.0..=1_000.0).contains(rate);
    text.parse().ok().filter(is_allowed).ok_or("must be a number from 1 to 1000")
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let is_allowed = |seconds: &u64| (1..=600).contains(seconds);
    text.parse().ok().filter(is_allowed).map(Duration::from_secs).ok_or("must be a whole number from 1 to 600")
}

fn named(name: &str) -> Result<&'static Experiment, String> {
    Experiment::named(name).ok_or_else(|| format!("there are {}", experiment::names()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn a_part_that_does_not_exist_is_refused_with_those_that_do() {
        let parsed = Cli::try_parse_from(["lab", "--only", "a,c"]).expect("valid");
        let names: Vec<_> = parsed.run.only.expect("given").iter().map(|experiment| experiment.name).collect();
        assert_eq!(names, ["a", "c"]);
        let error = Cli::try_parse_from(["lab", "--only", "a,d"]).expect_err("there is no d").to_string();
        assert!(error.contains("there are a, b, b_storm"), "{error}");
    }

    #[test]
    fn help_names_every_part() {
        let help = Cli::command().render_long_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(help.contains(&format!("Only these parts: {}", experiment::names())), "{help}");
    }

    #[test]
    fn the_readme_can_be_checked_and_written() {
        let check = |arguments: &[&str], expected: bool| {
            let parsed = Cli::try_parse_from(arguments).expect("valid");
            assert!(matches!(parsed.command, Some(Command::Readme { write, .. }) if write == expected));
        };
        check(&["lab", "readme", "README.md", "results.json"], false);
        check(&["lab", "readme", "--write", "README.md", "results.json"], true);
    }
}
