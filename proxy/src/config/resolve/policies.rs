//! The numbers that an upstream has and a route may change: timeouts, retry, budget, breaker.
//!
//! One set of readers serves both: what an upstream leaves out is the default of this file, what a route leaves out is its upstream's. **What is
//! left out gives way:** a route or upstream that writes only `request = "500ms"` gets attempts of at most 500 ms and no fault, because nobody wrote
//! anything that contradicts it. Only what is written can be wrong.

use std::num::NonZeroU32;
use std::time::Duration;

use outrigger_policy::backoff::Backoff;
use outrigger_policy::units::Ratio;
use outrigger_policy::{breaker, budget, retry};

use crate::config::duration::show_duration;
use crate::config::fault::{Collector, quoted};
use crate::config::file::{Key, Settled, Table};
use crate::config::{Policies, Repeat, Timeouts};

use super::{GIB, HOUR, KIB, MIB, MINUTE, millis, secs};

/// How much longer than what it watches a probe's lease is unless it is written: room for the verdict to arrive.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

/// The policies of an upstream or a route, before the leases of its breaker are known.
pub(super) struct Draft {
    pub(super) timeouts: SettledTimeouts,
    pub(super) retry: retry::Config,
    pub(super) repeat: Repeat,
    pub(super) budget: budget::Config,
    pub(super) breaker: BreakerDraft,
    upgrade: Vec<String>,
    pub(super) has_own_budget: bool,
    pub(super) has_own_breaker: bool,
}

pub(super) struct SettledTimeouts {
    pub(super) request: Settled<Duration>,
    pub(super) attempt: Settled<Duration>,
    connect: Duration,
    idle_body: Duration,
    upload: Duration,
    upload_bytes_per_second_min: usize,
    tunnel_idle: Duration,
}

/// A breaker without its lease, which depends on the longest request that the breaker watches.
pub(super) struct BreakerDraft {
    is_enabled: bool,
    config: breaker::Config,
    lease: Key<Duration>,
    /// What the upstream wrote, for a route that leaves its own out.
    inherited_lease: Option<Duration>,
}

/// What applies to keys that are left out.
pub(super) struct Base {
    timeouts: Timeouts,
    retry: retry::Config,
    repeat: Repeat,
    budget: budget::Config,
    breaker: BreakerBase,
    upgrade: Vec<String>,
}

struct BreakerBase {
    is_enabled: bool,
    config: breaker::Config,
    lease: Option<Duration>,
}

impl Base {
    /// What applies to upstreams.
    pub(super) fn of_upstreams() -> Base {
        Base {
            timeouts: Timeouts {
                request: secs(30),
                attempt: secs(10),
                connect: secs(1),
                idle_body: secs(30),
                upload: 5 * MINUTE,
                upload_bytes_per_second_min: KIB,
                tunnel_idle: 10 * MINUTE,
            },
            retry: retry::Config {
                max_attempts: 3,
                on: retry::Conditions {
                    connect_failure: true,
                    reset: true,
                    attempt_timeout: true,
                    statuses: vec![500, 502, 503, 504],
                },
                backoff: Backoff { base: millis(25), cap: millis(250) },
            },
            repeat: Repeat { idempotent: false, idempotency_key: false, replay_bytes_max: 64 * KIB },
            budget: budget::Config { ratio: percent(20), floor_per_second: 10, window: secs(10) },
            breaker: BreakerBase::of_upstreams(),
            upgrade: Vec::new(),
        }
    }

    /// What applies to the routes of an upstream.
    pub(super) fn of_routes(upstream: &Draft) -> Base {
        let breaker = &upstream.breaker;
        Base {
            timeouts: upstream.timeouts.values(),
            retry: upstream.retry.clone(),
            repeat: upstream.repeat,
            budget: upstream.budget,
            breaker: BreakerBase {
                is_enabled: breaker.is_enabled,
                config: breaker.config,
                lease: breaker.lease.written().map(|(lease, _)| *lease),
            },
            upgrade: upstream.upgrade.clone(),
        }
    }
}

impl BreakerBase {
    fn of_upstreams() -> BreakerBase {
        let config = breaker::Config {
            window: secs(10),
            failure_ratio: percent(50),
            volume_min: 100,
            consecutive_failures: NonZeroU32::MIN.saturating_add(19),
            open_base: millis(500),
            open_cap: secs(2),
            open_jitter: percent(20),
            probes: NonZeroU32::MIN,
            // Settled from what the breaker watches.
            probe_lease: Duration::ZERO,
        };
        BreakerBase { is_enabled: true, config, lease: None }
    }
}

impl Draft {
    /// Reads the sections that upstreams and routes have in common.
    pub(super) fn read(table: &mut Table<'_>, base: &Base) -> Draft {
        let timeouts = table.section("timeouts", |table| read_timeouts(table, &base.timeouts));
        let (retry, repeat) =
            table.section("retry", |table| (read_retry(table, &base.retry), read_repeat(table, base.repeat)));
        let (budget, has_own_budget) =
            table.section("budget", |table| (read_budget(table, base.budget), table.has_keys()));
        let (breaker, has_own_breaker) =
            table.section("breaker", |table| (BreakerDraft::read(table, &base.breaker), table.has_keys()));
        let upgrade = table.texts("upgrade", "a protocol", 0..=10, parse_protocol);
        let upgrade = upgrade.map(|items| items.into_iter().map(|item| item.value).collect()).or(base.upgrade.clone());
        Draft { timeouts, retry, repeat, budget, breaker, upgrade, has_own_budget, has_own_breaker }
    }

    /// The policies, with the breaker that applies.
    pub(super) fn finish(self, breaker: Option<breaker::Config>) -> Policies {
        let Draft { timeouts, retry, repeat, budget, upgrade, .. } = self;
        Policies { timeouts: timeouts.values(), retry, repeat, budget, breaker, upgrade }
    }
}

impl SettledTimeouts {
    fn values(&self) -> Timeouts {
        let SettledTimeouts {
            ref request,
            ref attempt,
            connect,
            idle_body,
            tunnel_idle,
            upload,
            upload_bytes_per_second_min,
        } = *self;
        let (request, attempt) = (request.value, attempt.value);
        Timeouts { request, attempt, connect, idle_body, tunnel_idle, upload, upload_bytes_per_second_min }
    }
}

fn read_timeouts(table: &mut Table<'_>, base: &Timeouts) -> SettledTimeouts {
    let request = table.duration("request", millis(10)..=HOUR).settle(base.request);
    let attempt = table.duration("attempt", millis(10)..=HOUR).at_most(base.attempt, &request, table.faults);
    let connect = table.duration("connect", millis(10)..=MINUTE).at_most(base.connect, &attempt, table.faults).value;
    let idle_body = table.duration("idle_body", millis(100)..=HOUR).or(base.idle_body);
    let upload = table.duration("upload", secs(1)..=24 * HOUR).or(base.upload);
    let rate = table.size("upload_bytes_per_second_min", 0..=GIB).or(base.upload_bytes_per_second_min);
    let tunnel_idle = table.duration("tunnel_idle", secs(1)..=24 * HOUR).or(base.tunnel_idle);
    SettledTimeouts { request, attempt, connect, idle_body, tunnel_idle, upload, upload_bytes_per_second_min: rate }
}

/// A protocol that a request may ask to go on with; names are compared without regard to case (RFC 9110 §7.8).
fn parse_protocol(text: &str) -> Result<String, String> {
    let found = quoted(text);
    let protocol = text.to_ascii_lowercase();
    if matches!(protocol.as_str(), "h2c" | "h2") {
        return Err(format!("{found} is HTTP/2, which is not forwarded (requests in it would pass unseen)"));
    }
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_protocol = !text.is_empty() && text.len() <= 64 && text.bytes().all(is_token);
    is_protocol.then_some(protocol).ok_or_else(|| format!("{found} is not a protocol (write \"websocket\")"))
}

fn read_retry(table: &mut Table<'_>, base: &retry::Config) -> retry::Config {
    let statuses = table.integers("statuses", 400..=599);
    let cap = table.duration("backoff_cap", Duration::ZERO..=5 * MINUTE).settle(base.backoff.cap);
    let first = table.duration("backoff_base", Duration::ZERO..=MINUTE).at_most(base.backoff.base, &cap, table.faults);
    retry::Config {
        max_attempts: table.integer("max_attempts", 1..=10).or(base.max_attempts),
        on: retry::Conditions {
            connect_failure: table.boolean("connect_failure").or(base.on.connect_failure),
            reset: table.boolean("reset").or(base.on.reset),
            attempt_timeout: table.boolean("attempt_timeout").or(base.on.attempt_timeout),
            statuses: statuses
                .map(|items| items.into_iter().map(|item| item.value).collect())
                .or(base.on.statuses.clone()),
        },
        backoff: Backoff { base: first.value, cap: cap.value },
    }
}

fn read_repeat(table: &mut Table<'_>, base: Repeat) -> Repeat {
    Repeat {
        idempotent: table.boolean("idempotent").or(base.idempotent),
        idempotency_key: table.boolean("idempotency_key").or(base.idempotency_key),
        replay_bytes_max: table.size("replay_bytes_max", 0..=16 * MIB).or(base.replay_bytes_max),
    }
}

fn read_budget(table: &mut Table<'_>, base: budget::Config) -> budget::Config {
    budget::Config {
        ratio: table.ratio("ratio", 0.0..=10.0).or(base.ratio),
        floor_per_second: table.integer("floor_per_second", 0..=10_000).or(base.floor_per_second),
        window: table.duration("window", secs(1)..=5 * MINUTE).or(base.window),
    }
}

impl BreakerDraft {
    /// An endpoint breaker; it has no route to inherit it.
    pub(super) fn of_endpoints(table: &mut Table<'_>) -> BreakerDraft {
        BreakerDraft::read(table, &BreakerBase::of_upstreams())
    }

    fn read(table: &mut Table<'_>, base: &BreakerBase) -> BreakerDraft {
        let open_cap = table.duration("open_cap", millis(100)..=HOUR).settle(base.config.open_cap);
        let open_base = table.duration("open_base", millis(100)..=HOUR);
        BreakerDraft {
            is_enabled: table.boolean("enabled").or(base.is_enabled),
            config: breaker::Config {
                window: table.duration("window", secs(1)..=HOUR).or(base.config.window),
                failure_ratio: table.ratio_above_zero("failure_ratio", 1.0).or(base.config.failure_ratio),
                volume_min: table.integer("volume_min", 1..=100_000).or(base.config.volume_min),
                consecutive_failures: table
                    .positive("consecutive_failures", 100_000)
                    .or(base.config.consecutive_failures),
                open_base: open_base.at_most(base.config.open_base, &open_cap, table.faults).value,
                open_cap: open_cap.value,
                open_jitter: table.ratio("open_jitter", 0.0..=1.0).or(base.config.open_jitter),
                probes: table.positive("probes", 1_000).or(base.config.probes),
                probe_lease: base.config.probe_lease,
            },
            lease: table.duration("probe_lease", millis(100)..=2 * HOUR),
            inherited_lease: base.lease,
        }
    }

    /// The breaker, now that it is known what it watches: a probe may take as long as `longest`, so its lease must be longer.
    pub(super) fn finish(&self, longest: &Settled<Duration>, faults: &Collector<'_>) -> Option<breaker::Config> {
        let probe_lease = match self.lease.written() {
            Some((lease, place)) => {
                if *lease <= longest.value && !longest.is_wrong() {
                    let lease = show_duration(*lease);
                    faults.add_relation(place, format!("{lease} is not longer than {}", longest.described(faults)));
                }
                *lease
            }
            None => {
                let inherited = self.inherited_lease.filter(|lease| *lease > longest.value);
                inherited.unwrap_or(longest.value + LEASE_MARGIN)
            }
        };
        self.is_enabled.then_some(breaker::Config { probe_lease, ..self.config })
    }
}

/// A default, which is in range.
const fn percent(percent: u32) -> Ratio {
    match Ratio::from_ppm(percent * 10_000) {
        Some(ratio) => ratio,
        None => Ratio::MAX,
    }
}
