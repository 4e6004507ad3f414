//! The fourth ring: the whole way of a request over in-memory pipes, on paused time. What the policies decide is proved below; here it is proved that they are asked
//! in the right order and told the truth, and that whoever leaves halfway undoes what was done.

mod answers;
mod breakers;
mod door;
mod hedging;
mod holding;
mod interim;
mod life;
mod limits;
mod matrix;
pub(crate) mod multiplexed;
mod net;
mod refusals;
mod requests;
mod retries;
mod simulation;
mod tunnels;
mod uploads;

use std::time::Duration;

use self::net::{Bench, DialFault, Net, pass, paused, settle};
use crate::clock;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const FAILED: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 4\r\n\r\noops";
const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";

/// One endpoint, no jitter in the open time, the rest as `config.toml` has it.
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
