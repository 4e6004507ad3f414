//! Why a request is refused before anything of it is sent.

use crate::breaker::Open;

/// A request is refused without another attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rejection {
    /// The upstream has all the requests in flight that it may have.
    InFlightLimit {
        /// The limit.
        max: u32,
    },
    /// The breaker that counts calls refuses.
    BreakerOpen(Open),
    /// Every endpoint's breaker refuses; this one admits first.
    AllEndpointsOpen(Open),
    /// No endpoint is known.
    NoEndpoints,
}
