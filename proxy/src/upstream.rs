//! A service that the app calls: its endpoints, and the connections to them.
//!
//! An [`Upstream`] belongs to one generation of configuration. State that must survive a reload is behind an `Arc`, and the next generation takes it over if
//! its configuration did not change. `endpoint` has the addresses, `resolve` finds them, `names` makes the look-ups, `connect` makes connections to them, `pool` keeps these, and a
//! `stream` is what the pool lends to an exchange.

pub mod connect;
pub mod endpoint;
pub mod names;
pub mod pool;
pub mod resolve;
pub mod sockets;
pub mod stream;

use std::sync::Arc;

use outrigger_policy::limit::InFlight;

use self::endpoint::Endpoints;
use crate::config;
use crate::telemetry::metrics::UpstreamMetrics;

/// One upstream in one generation.
pub struct Upstream {
    /// The upstream as configured.
    pub config: config::Upstream,
    /// Its endpoints.
    pub endpoints: Endpoints,
    /// Its requests in flight; shared with the generations before and after.
    pub in_flight: Arc<InFlight>,
    /// Handles of the upstream's metrics.
    pub metrics: UpstreamMetrics,
}
