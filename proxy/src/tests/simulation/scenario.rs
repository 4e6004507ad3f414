//! The parameters of a run, drawn from its seed: the configuration, and the numbers of clients, endpoints and requests.

use rand::RngExt;
use rand::rngs::SmallRng;

/// The request timeout, over all attempts. Four attempts that time out would take longer.
pub(super) const REQUEST_MILLIS: u64 = 1_200;

/// The parameters of a run.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) clients: u32,
    pub(super) exchanges: u32,
    pub(super) endpoints: u32,
    pub(super) reloads: u32,
    pub(super) drains: bool,
    /// The percentage of requests that meet a fault.
    pub(super) faults: u32,
    pub(super) attempts_max: u32,
    pub(super) idle_max: u32,
    has_breakers: bool,
    pub(super) in_flight_max: u32,
    replay_bytes_max: u32,
    pub(super) budget_ratio: f64,
    pub(super) budget_floor: u32,
}

impl Scenario {
    pub(super) fn draw(rng: &mut SmallRng) -> Scenario {
        Scenario {
            clients: rng.random_range(1..6),
            exchanges: rng.random_range(1..6),
            endpoints: rng.random_range(1..4),
            reloads: if rng.random_range(0..3) == 0 { rng.random_range(1..4) } else { 0 },
            drains: rng.random_range(0..4) == 0,
            faults: [0, 10, 40, 80][rng.random_range(0..4_usize)],
            attempts_max: rng.random_range(1..5),
            idle_max: rng.random_range(0..4),
            has_breakers: rng.random_range(0..2) == 0,
            in_flight_max: [1, 2, 100][rng.random_range(0..3_usize)],
            replay_bytes_max: [0, 100, 65_536][rng.random_range(0..3_usize)],
            budget_ratio: [0.0, 0.2, 1.0][rng.random_range(0..3_usize)],
            budget_floor: [0, 1, 10][rng.random_range(0..3_usize)],
        }
    }

    /// Address of an endpoint.
    pub(super) fn address(number: u32) -> String {
        format!("10.0.0.{}:80", number + 1)
    }

    /// The file of the `generation`-th configuration. Each has other numbers and another order of endpoints, and every other one leaves an endpoint out.
    pub(super) fn config(&self, generation: u32) -> String {
        let count = if generation % 2 == 1 && self.endpoints > 1 { self.endpoints - 1 } else { self.endpoints };
        let addresses = (0..count).map(|n| format!("\"{}\"", Scenario::address((n + generation) % self.endpoints)));
        let addresses = addresses.collect::<Vec<_>>().join(", ");
        let Scenario { attempts_max, idle_max, has_breakers, in_flight_max, replay_bytes_max, .. } = self;
        let Scenario { budget_ratio, budget_floor, .. } = self;
        let idle_body = 1_500 + u64::from(generation);
        format!(
            r#"
[listen]
head_timeout = "1s"
idle_timeout = "2s"
[upstreams.backend]
endpoints = [{addresses}]
in_flight_max = {in_flight_max}
timeouts = {{ request = "{REQUEST_MILLIS}ms", attempt = "600ms", connect = "300ms", idle_body = "{idle_body}ms" }}
pool = {{ idle_max = {idle_max}, idle_timeout = "1s" }}
budget = {{ ratio = {budget_ratio:?}, floor_per_second = {budget_floor}, window = "10s" }}
breaker = {{ enabled = {has_breakers}, consecutive_failures = 5, open_base = "100ms", open_cap = "400ms", probe_lease = "3s" }}
endpoint_breaker = {{ enabled = {has_breakers}, consecutive_failures = 4, open_base = "100ms", open_cap = "400ms", probe_lease = "3s" }}
[upstreams.backend.retry]
max_attempts = {attempts_max}
replay_bytes_max = {replay_bytes_max}
[[upstreams.backend.routes]]
name = "keyed"
path_prefix = "/keyed"
retry = {{ idempotency_key = true }}
[[upstreams.backend.routes]]
name = "free"
path_prefix = "/free"
retry = {{ idempotent = true }}
"#
        )
    }
}
