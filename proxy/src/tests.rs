//! Whole requests over in-memory pipes, on paused time. The tests of `outrigger_policy` prove what the policies decide. These tests prove that the proxy asks
//! them in the right order, reports the true outcomes, and undoes exactly what was done when a side disconnects halfway.

mod breakers;
mod buffers;
mod connection;
mod early_responses;
mod hedging;
mod holding;
mod informational;
mod life;
mod limits;
mod matrix;
mod memory;
pub(crate) mod multiplexed;
mod names;
mod net;
mod paths;
mod refusals;
mod reloads;
mod requests;
mod responses;
mod retries;
mod simulation;
mod tunnels;
mod uploads;
mod waiting;

use std::time::Duration;

use self::net::{Bench, DialFault, Net, Seen, pass, paused, settle};
use crate::clock;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const FAILED: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 4\r\n\r\noops";
const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";

/// One endpoint and no jitter in the open time; everything else has its default.
const ONE: &str = r#"
[upstreams.backend]
endpoints = ["10.0.0.1:80"]
[upstreams.backend.endpoint_breaker]
consecutive_failures = 4
open_jitter = 0
[upstreams.backend.breaker]
consecutive_failures = 3
open_jitter = 0
"#;

const TWO: &str = r#"
[upstreams.backend]
endpoints = ["10.0.0.1:80", "10.0.0.2:80"]
"#;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}
