//! Configuration as it acts: values that cannot be invalid.
//!
//! A file goes through three rooms: [`file`] parses TOML and keeps every place, [`resolve`] checks each key against its range, collects every
//! fault of the file and fills in defaults, and what leaves is the [`Config`] of this file: no strings to be parsed later, no `Option` that means
//! "default". Nothing past this module looks at text from a file.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use outrigger_policy::{breaker, budget, retry};

mod duration;
mod fault;
mod file;
mod resolve;

pub use fault::{Fault, Faults};
use outrigger_http1::parse::Limits;

/// Everything a configuration file says, defaults filled in.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Where to listen; fixed at start.
    pub listen: Listen,
    /// How to stop.
    pub drain: Drain,
    /// What to log.
    pub log: Log,
    /// Bytes of request bodies kept for retries, over all requests.
    pub replay_memory_bytes_max: usize,
    /// Index into `upstreams` of the one that gets requests for unknown hosts.
    pub default_upstream: Option<usize>,
    /// At least one, in order of the file.
    pub upstreams: Vec<Upstream>,
}

/// `[listen]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Listen {
    /// The app's side.
    pub app: SocketAddr,
    /// The operator's side.
    pub admin: SocketAddr,
    /// Lower-case hosts, besides addresses, under which the operator's side is asked.
    pub admin_hosts: Vec<String>,
    /// Other processes of the same user may bind the same ports.
    pub reuse_port: bool,
    /// Worker threads; 0 lets the machine decide.
    pub workers: usize,
    /// Connections from the app.
    pub connections_max: usize,
    /// For a whole request head.
    pub head_timeout: Duration,
    /// How much of a request is taken, its body's data apart.
    pub limits: Limits,
    /// Between two requests of a connection.
    pub idle_timeout: Duration,
    /// Requests over one connection; 0 is no limit.
    pub requests_max: u32,
}

/// `[drain]`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Drain {
    /// Time without a request after which the app is taken to be done.
    pub silence: Duration,
    /// The whole stop takes no longer.
    pub timeout: Duration,
    /// The part of `timeout` kept for requests in flight; at most `timeout`.
    pub grace: Duration,
    /// This pod's own containers may ask for the stop on the operator's side.
    pub quit: bool,
}

/// `[log]`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// The least severe level that is written.
    pub level: tracing::Level,
    /// One line an exchange.
    pub access: bool,
}

/// How a log line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For collectors: one object a line.
    Json,
}

/// `[upstreams.NAME]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Upstream {
    /// Letters, digits, `-` and `_`.
    pub name: Arc<str>,
    /// Where it is; at least one.
    pub endpoints: Vec<Address>,
    /// Lower-case host names (without port) under which the app calls it.
    pub hosts: Vec<String>,
    /// Between two look-ups of a name.
    pub resolve_interval: Duration,
    /// Requests under way at once.
    pub in_flight_max: u32,
    /// CONNECT may lead to it.
    pub connect: bool,
    /// Counts attempts at one address; `None` when switched off.
    pub endpoint_breaker: Option<breaker::Config>,
    /// Connections kept.
    pub pool: Pool,
    /// How much of an answer is taken, its body's data apart.
    pub answer: Limits,
    /// What applies where no route does: `budget` and `breaker` are the upstream's own.
    pub policies: Policies,
    /// First match wins.
    pub routes: Vec<Route>,
}

/// `host:port`, the host a name or an IP address.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Address {
    /// Without brackets, lower case.
    pub host: String,
    /// Never 0.
    pub port: u16,
}

/// `[upstreams.NAME.pool]`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pool {
    /// Idle connections per endpoint and worker.
    pub idle_max: usize,
    /// How long one may wait for its next request.
    pub idle_timeout: Duration,
    /// How old one may grow.
    pub age_max: Duration,
}

/// The numbers that an upstream has and a route may change.
#[derive(Clone, PartialEq, Debug)]
pub struct Policies {
    /// Durations.
    pub timeouts: Timeouts,
    /// Attempts and conditions.
    pub retry: retry::Config,
    /// What may be repeated.
    pub repeat: Repeat,
    /// Extra attempts.
    pub budget: budget::Config,
    /// Counts calls; `None` when switched off.
    pub breaker: Option<breaker::Config>,
    /// Lower-case protocols that a request may ask to go on with; never `h2c`.
    pub upgrade: Vec<String>,
}

/// `[….timeouts]`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Timeouts {
    /// From request to answer's head, attempts and waits included.
    pub request: Duration,
    /// One attempt.
    pub attempt: Duration,
    /// One connection.
    pub connect: Duration,
    /// Without a byte of a body.
    pub idle_body: Duration,
    /// For a whole request body.
    pub upload: Duration,
    /// Least average rate of a request body; 0 is none.
    pub upload_bytes_per_second_min: usize,
    /// Without a byte through a tunnel.
    pub tunnel_idle: Duration,
}

/// The part of `[….retry]` that says which requests may be sent twice.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Repeat {
    /// Any method may.
    pub idempotent: bool,
    /// A request with `Idempotency-Key` may.
    pub idempotency_key: bool,
    /// Bytes of a body kept for it.
    pub replay_bytes_max: usize,
}

/// `[[upstreams.NAME.routes]]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Route {
    /// Unique within its upstream.
    pub name: Arc<str>,
    /// Begins with `/`; matched by whole segments.
    pub path_prefix: String,
    /// Upper-case methods; empty means all.
    pub methods: Vec<http::Method>,
    /// What the route leaves out it has from the upstream.
    pub policies: Policies,
    /// It writes a budget key, so it has a budget of its own.
    pub has_own_budget: bool,
    /// It writes a breaker key, so it has a breaker of its own.
    pub has_own_breaker: bool,
}

impl Config {
    /// Reads the text of a configuration file; `name` is what errors call it.
    ///
    /// # Errors
    /// All faults of the text, in order of their place.
    pub fn parse(name: &str, text: &str) -> Result<Config, Faults> {
        resolve::resolve(name, text)
    }

    /// Reads a configuration file.
    ///
    /// # Errors
    /// The one fault that it cannot be read, or all faults of its text.
    pub fn load(path: &std::path::Path) -> Result<Config, Faults> {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Config::parse(&name, &text),
            Err(error) => Err(Faults::unreadable(&name, &error)),
        }
    }
}
