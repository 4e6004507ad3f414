//! Why a request is refused before anything of it is sent.

use crate::breaker::Open;

/// Why a request is refused without another attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rejection {
    /// The upstream has as many requests in flight as its limit allows: when the request arrived, or from the moment when it was to go on until its deadline.
    InFlightLimit {
        /// The limit.
        max: u32,
    },
    /// The breaker that counts calls refuses.
    BreakerOpen(Open),
    /// Every endpoint's breaker refuses; this is the one that admits first.
    AllEndpointsOpen(Open),
    /// No endpoint is known.
    NoEndpoints,
}
