//! The settings that act: what a configuration file means, defaults filled in.
//!
//! `resolve/` builds these values and has checked them: every number is in the range that `config.toml` names, so nobody else checks again.
//! The types hold settings only; they read no file and know nothing of TOML.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use outrigger_http1::parse::Limits;
use outrigger_policy::{breaker, budget, retry};

/// One configuration file.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// The listeners and what they accept. A reload does not change them.
    pub listen: Listen,
    /// How the proxy stops.
    pub drain: Drain,
    /// What the proxy logs.
    pub log: Log,
    /// Bytes of request bodies that all requests together may keep for retries: 0 to 1 GiB.
    pub replay_memory_bytes_max: usize,
    /// Index in `upstreams` of the upstream for requests whose host belongs to no upstream. `None` refuses them.
    pub default_upstream: Option<usize>,
    /// At least one, in the order of the file.
    pub upstreams: Vec<Upstream>,
}

/// `[listen]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Listen {
    /// Where the app connects.
    pub app: SocketAddr,
    /// Where the admin server listens.
    pub admin: SocketAddr,
    /// Hosts that the admin server accepts in requests besides IP addresses; in lower case.
    pub admin_hosts: Vec<String>,
    /// Whether other processes of the same user may listen on the same ports.
    pub reuse_port: bool,
    /// Worker threads, 1 to 64; 0 derives the number from the machine's cores.
    pub workers: usize,
    /// Memory that the process may use.
    pub memory_max: MemoryMax,
    /// Open downstream connections: 1 to 1 000 000.
    pub connections_max: usize,
    /// From the first byte of a request head to its last: 100 ms to 5 min.
    pub head_timeout: Duration,
    /// The sizes of a request, without the data of its body.
    pub limits: Limits,
    /// Between two requests of a downstream connection: 1 s to 1 h.
    pub idle_timeout: Duration,
    /// Requests over one downstream connection, up to 1 000 000; 0 is no limit.
    pub requests_max: u32,
}

/// How much memory the process may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryMax {
    /// As much as its container, or a share of the machine's.
    OfContainer,
    /// So many bytes: 32 MiB to 64 GiB.
    Bytes(usize),
}

/// `[drain]`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Drain {
    /// The app counts as done after this time without a request: 0 s to 5 min.
    pub silence: Duration,
    /// For the whole stop: 0 s to 1 h.
    pub timeout: Duration,
    /// The part of `timeout` that is reserved for requests in flight; never longer than `timeout`.
    pub grace: Duration,
    /// Whether `POST /quitquitquit` from loopback starts the stop.
    pub quit: bool,
}

/// `[log]`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Log {
    /// The form of a line.
    pub format: LogFormat,
    /// The least severe level that is written.
    pub level: tracing::Level,
    /// Whether each request writes a line.
    pub access: bool,
}

/// The form of a log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For log collectors: one JSON object in each line.
    Json,
}

/// `[upstreams.NAME]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Upstream {
    /// 1 to 64 letters, digits, `-` and `_`.
    pub name: Arc<str>,
    /// 1 to 1 000. An address with a name stands for every IP address that the name resolves to.
    pub endpoints: Vec<Address>,
    /// Host names under which the app calls the upstream; in lower case, without ports.
    pub hosts: Vec<String>,
    /// Between two look-ups of an endpoint's name: 500 ms to 1 h.
    pub resolve_interval: Duration,
    /// Requests in flight: 1 to 1 000 000.
    pub in_flight_max: u32,
    /// Whether CONNECT may open a tunnel to an endpoint.
    pub connect: bool,
    /// The breaker of each endpoint, which counts attempts; `None` if it is switched off.
    pub endpoint_breaker: Option<breaker::Config>,
    /// Idle connections.
    pub pool: Pool,
    /// The sizes of a response, without the data of its body.
    pub response: Limits,
    /// For requests that match no route. Routes without a budget or breaker of their own share the ones of the upstream.
    pub policies: Policies,
    /// The first one that matches a request applies to it.
    pub routes: Vec<Route>,
}

/// `host:port`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Address {
    /// A name in lower case, or an IP address without brackets.
    pub host: String,
    /// Never 0.
    pub port: u16,
}

/// `[upstreams.NAME.pool]`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pool {
    /// Idle connections to one endpoint, in each worker: 0 to 10 000.
    pub idle_max: usize,
    /// How long a connection may wait for its next request: 100 ms to 1 h.
    pub idle_timeout: Duration,
    /// The age at which a connection is closed: 1 s to 24 h.
    pub age_max: Duration,
}

/// The settings that an upstream has and a route may change.
#[derive(Clone, PartialEq, Debug)]
pub struct Policies {
    /// How long a request and its parts may take.
    pub timeouts: Timeouts,
    /// How many attempts a request gets, and after which failures.
    pub retry: retry::Config,
    /// Which requests may be sent again.
    pub repeat: Repeat,
    /// How many retries may be sent, relative to the requests.
    pub budget: budget::Config,
    /// The breaker that counts requests after their retries; `None` if it is switched off.
    pub breaker: Option<breaker::Config>,
    /// Protocols that a request may upgrade to, in lower case; never `h2c`.
    pub upgrade: Vec<String>,
}

/// `[….timeouts]`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Timeouts {
    /// From the request to the head of its response, with all attempts and the waits between them: 10 ms to 1 h.
    pub request: Duration,
    /// One attempt, from connecting to the head of a response: never longer than `request`.
    pub attempt: Duration,
    /// Opening one connection: never longer than `attempt`.
    pub connect: Duration,
    /// Between two bytes of a request body or of a response body: 100 ms to 1 h.
    pub idle_body: Duration,
    /// A whole request body: 1 s to 24 h.
    pub upload: Duration,
    /// The least average rate of a request body, up to 1 GiB per second; 0 is no limit.
    pub upload_bytes_per_second_min: usize,
    /// How long a tunnel may stay open while neither side sends a byte: 1 s to 24 h.
    pub tunnel_idle: Duration,
}

/// The part of `[….retry]` that says which requests may be sent again.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Repeat {
    /// Whether every method counts as idempotent.
    pub idempotent: bool,
    /// Whether a request with `Idempotency-Key` counts as idempotent.
    pub idempotency_key: bool,
    /// Bytes of one request body that are kept for retries: 0 to 16 MiB.
    pub replay_bytes_max: usize,
}

/// `[[upstreams.NAME.routes]]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Route {
    /// 1 to 64 letters, digits, `-` and `_`; unique in its upstream, and never `default`.
    pub name: Arc<str>,
    /// Begins with `/` and matches whole segments of a path.
    pub path_prefix: String,
    /// In upper case. An empty list matches every method.
    pub methods: Vec<http::Method>,
    /// What the route does not set comes from the upstream.
    pub policies: Policies,
    /// The route sets a key of `[….budget]`, so it does not share the budget of the upstream.
    pub has_own_budget: bool,
    /// The route sets a key of `[….breaker]`, so it does not share the breaker of the upstream.
    pub has_own_breaker: bool,
}
