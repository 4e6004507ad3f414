//! A service that we call: its endpoints, and the connections to them.
//!
//! An [`Upstream`] belongs to one generation of configuration; what must survive a reload hangs on it by `Arc` and is taken over by the next generation when its own
//! numbers did not change. `endpoint` has its addresses, `resolve` finds them, `pool` lends connections to them, `connect` makes these, and a
//! `stream` is what an exchange is lent.

pub mod connect;
pub mod endpoint;
pub mod pool;
pub mod resolve;
pub mod stream;

use std::sync::Arc;

use outrigger_policy::limit::InFlight;

use self::endpoint::Endpoints;
use crate::config;
use crate::telemetry::metrics::UpstreamMetrics;

/// One upstream in one generation.
pub struct Upstream {
    /// As the configuration has it.
    pub config: config::Upstream,
    /// Its addresses; shared with the generations before and after.
    pub endpoints: Arc<Endpoints>,
    /// Requests in flight; shared likewise.
    pub in_flight: Arc<InFlight>,
    /// Resolved handles.
    pub metrics: UpstreamMetrics,
}
