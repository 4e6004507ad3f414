//! The command line: clap's declaration, and the [`Plan`] made from it, which cannot be invalid.
//!
//! Every value is checked while parsing, so that a wrong one is a usage error (exit 2) before anything is sent.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, Parser, Subcommand};
use hyper::Method;
use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};

use crate::clock;
use crate::load::{End, Load, RATE_MAX, Rate};
use crate::progress::Progress;
use crate::run::{ID_HEADER, Plan};
use crate::target::Target;

/// How long a run lasts when nothing says so.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);

/// The longest id prefix: a uuid and something before it.
const ID_PREFIX_BYTES_MAX: usize = 64;

/// The plain client: sends requests, measures, reports; never retries.
#[derive(Debug, Parser)]
#[command(name = "client", version)]
pub struct Cli {
    /// A run or a comparison.
    #[command(subcommand)]
    pub command: Command,
}

/// What the client can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send requests to a URL and report how they fared
    Run(Box<RunArgs>),
    /// Show two JSON reports side by side
    Compare(CompareArgs),
}

/// How to run. Each comment is the flag's help.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The URL to request
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:5001/")]
    target: Target,
    /// Send through this proxy, with the whole URL in the request line; empty: no proxy
    #[arg(long, value_name = "URL", env = "http_proxy", value_parser = proxy)]
    proxy: Option<ProxyChoice>,
    /// Open loop: so many requests a second, latency counted from when each was due
    #[arg(long, value_name = "PER_SECOND", default_value = "50", value_parser = rate)]
    rate: Rate,
    /// Closed loop: each connection sends its next request when the last has ended
    #[arg(long, conflicts_with = "rate")]
    closed: bool,
    /// The most requests under way at once, each on a connection of its own
    #[arg(long, value_name = "N", default_value = "32", value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Open loop: how many requests may wait for a free connection before more fail as `overload`
    #[arg(long, value_name = "N", default_value = "10000")]
    queue: usize,
    /// How long requests fall due, such as 500ms, 10s, 5m [default: 10s unless --requests is given]
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    /// Stop after so many requests
    #[arg(long, value_name = "N")]
    requests: Option<u64>,
    /// Never stop: one line a second on stdout; SIGTERM ends the run with its report
    #[arg(long, conflicts_with_all = ["duration", "requests"])]
    forever: bool,
    /// The request's method
    #[arg(long, default_value = "GET")]
    method: Method,
    /// A header of the request; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The request's body: a text, or @FILE
    #[arg(long, value_name = "TEXT|@FILE", value_parser = body)]
    body: Option<Bytes>,
    /// From due to giving up, for each request
    #[arg(long, default_value = "10s", value_parser = duration)]
    timeout: Duration,
    /// Request n carries `x-request-id: PREFIX-n` [default: random]
    #[arg(long, value_name = "PREFIX", value_parser = id_prefix)]
    id_prefix: Option<String>,
    /// At the end, POST to this URL, whatever came of the run: a Job's sidecar may be waiting for it
    #[arg(long, value_name = "URL", conflicts_with = "forever")]
    then_post: Option<Target>,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
    /// Where results go besides stdout.
    #[command(flatten)]
    pub files: Files,
}

/// Where results go besides stdout; each file is written only if its path is given.
#[derive(Debug, Args)]
pub struct Files {
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write one line for each request
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write the report as a page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Two reports of `run --json` to compare.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The JSON report of the first run
    #[arg(value_name = "A.json")]
    pub a: PathBuf,
    /// The JSON report of the second run
    #[arg(value_name = "B.json")]
    pub b: PathBuf,
    /// Write one page with the plots of both
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

impl RunArgs {
    /// What the arguments mean.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let unsaid = (!self.forever && self.requests.is_none()).then_some(DURATION_DEFAULT);
        Plan {
            target: Arc::new(self.target.clone()),
            via: self.proxy.as_ref().and_then(|choice| choice.0.clone()).map(Arc::new),
            load: if self.closed { Load::Closed } else { Load::Open(self.rate) },
            end: End { after: self.duration.or(unsaid), requests: self.requests },
            connections: usize::from(self.connections),
            queue_max: self.queue,
            timeout: self.timeout,
            method: self.method.clone(),
            headers: self.headers.iter().cloned().collect::<HeaderMap>(),
            body: self.body.clone().unwrap_or_default(),
            id_prefix: self.id_prefix.clone().unwrap_or_else(clock::random_prefix),
        }
    }

    /// The one request of `--then-post`, if it is asked for.
    #[must_use]
    pub fn parting(&self) -> Option<Plan> {
        let target = Arc::new(self.then_post.clone()?);
        let plan = Plan { target, via: None, load: Load::Closed, connections: 1, method: Method::POST, ..self.plan() };
        Some(Plan {
            end: End { after: None, requests: Some(1) },
            headers: HeaderMap::new(),
            body: Bytes::new(),
            ..plan
        })
    }

    /// Where progress is shown.
    #[must_use]
    pub fn progress(&self) -> Progress {
        match (self.quiet, self.forever) {
            (true, _) => Progress::Quiet,
            (false, true) => Progress::Stdout,
            (false, false) => Progress::Stderr,
        }
    }
}

/// A proxy, or none because the text was empty, as `http_proxy=` in an environment means.
#[derive(Debug, Clone)]
struct ProxyChoice(Option<Target>);

fn proxy(text: &str) -> Result<ProxyChoice, String> {
    if text.is_empty() { Ok(ProxyChoice(None)) } else { text.parse().map(|proxy| ProxyChoice(Some(proxy))) }
}

fn rate(text: &str) -> Result<Rate, String> {
    let rate = text.parse().ok().and_then(Rate::per_second);
    rate.ok_or_else(|| format!("must be a number above 0 and at most {RATE_MAX}"))
}

fn duration(text: &str) -> Result<Duration, String> {
    const ALLOWED: &str = "must be a number above 0 and a unit: 250ms, 1.5s, 10m or 1h";
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or(ALLOWED)?;
    let seconds = match &text[unit_at..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(ALLOWED.to_owned()),
    };
    let number: f64 = text[..unit_at].parse().map_err(|_| ALLOWED)?;
    let duration = Duration::try_from_secs_f64(number * seconds).map_err(|_| ALLOWED)?;
    if duration.is_zero() { Err(ALLOWED.to_owned()) } else { Ok(duration) }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("must be `name: value`")?;
    let name: HeaderName = name.trim().parse().map_err(|_| format!("`{name}` is no header name"))?;
    let value: HeaderValue = value.trim().parse().map_err(|_| format!("`{value}` is no header value"))?;
    if name == ID_HEADER {
        return Err(format!("{ID_HEADER} is set by the client itself, see --id-prefix"));
    }
    if [CONTENT_LENGTH, TRANSFER_ENCODING].contains(&name) {
        return Err(format!("{name} follows from --body"));
    }
    Ok((name, value))
}

fn body(text: &str) -> Result<Bytes, String> {
    match text.strip_prefix('@') {
        Some(path) => fs::read(path).map(Bytes::from).map_err(|error| format!("{path}: {error}")),
        None => Ok(Bytes::copy_from_slice(text.as_bytes())),
    }
}

fn id_prefix(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if plain && (1..=ID_PREFIX_BYTES_MAX).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err(format!("must be 1 to {ID_PREFIX_BYTES_MAX} letters, digits, `.`, `_` or `-`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(args: &[&str]) -> Result<Plan, String> {
        let all = ["client", "run"].iter().chain(args);
        match Cli::try_parse_from(all).map_err(|error| error.to_string())?.command {
            Command::Run(run) => Ok(run.plan()),
            Command::Compare(_) => unreachable!("the subcommand is `run`"),
        }
    }

    #[test]
    fn a_run_ends_after_ten_seconds_unless_told_otherwise() {
        let check = |args: &[&str], after: Option<u64>, requests: Option<u64>| {
            let end = End { after: after.map(Duration::from_secs), requests };
            assert_eq!(plan(args).expect("valid").end, end, "{args:?}");
        };
        check(&[], Some(10), None);
        check(&["--duration", "2m"], Some(120), None);
        check(&["--requests", "5"], None, Some(5));
        check(&["--requests", "5", "--duration", "3s"], Some(3), Some(5));
        check(&["--forever"], None, None);
    }

    #[test]
    fn durations_need_a_unit_and_a_length() {
        let check = |text: &str, expected_ms: Option<u64>| {
            assert_eq!(duration(text).ok(), expected_ms.map(Duration::from_millis), "{text}");
        };
        check("250ms", Some(250));
        check("1.5s", Some(1_500));
        check("10m", Some(600_000));
        check("10", None);
        check("0s", None);
        check("-1s", None);
        check("1d", None);
        check("s", None);
        check("1é", None);
    }

    #[test]
    fn a_wrong_value_is_named_with_what_is_allowed() {
        let check = |args: &[&str], expected: &str| {
            let error = plan(args).expect_err("refused");
            assert!(error.contains(expected), "{args:?}: {error}");
        };
        check(&["https://127.0.0.1/"], "must begin with http://");
        check(&["--rate", "0"], "above 0");
        check(&["--rate", "9", "--closed"], "cannot be used with");
        check(&["--forever", "--requests", "1"], "cannot be used with");
        check(&["--header", "x-request-id: 1"], "--id-prefix");
        check(&["--header", "content-length: 1"], "follows from --body");
        check(&["--header", "nothing"], "must be `name: value`");
        check(&["--id-prefix", "a,b"], "letters, digits");
        check(&["--body", "@/does/not/exist"], "/does/not/exist");
        check(&["--connections", "0"], "1..=65535");
    }

    #[test]
    fn an_empty_proxy_is_none() {
        assert_eq!(plan(&["--proxy", ""]).expect("valid").via, None);
        let via = plan(&["--proxy", "http://127.0.0.1:4140"]).expect("valid").via.expect("a proxy");
        assert_eq!(via.address(), ("127.0.0.1", 4140));
    }
}
