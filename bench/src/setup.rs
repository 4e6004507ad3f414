//! How the proxy is set up for a scenario: with the features of its peers, without its policies, or with more of something.

use std::fmt::Write as _;
use std::net::SocketAddr;

const TEMPLATE: &str = include_str!("../peers/outrigger.toml");
/// What can be switched off, is. Metrics cannot, nor the deadline of a request.
const BARE: &str = "
[replay]
memory_max = 0

[upstreams.backend.retry]
max_attempts = 1

[upstreams.backend.budget]
ratio = 0
floor_per_second = 0

[upstreams.backend.breaker]
enabled = false

[upstreams.backend.endpoint_breaker]
enabled = false
";
/// As many as every peer has.
const ENDPOINTS: usize = 3;

/// A setup. All but the first are the proxy's alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setup {
    /// Everything on, three endpoints.
    Standard,
    /// Retries, budget, breakers and replay off.
    Bare,
    /// So many routes; requests match the last.
    Routes(u16),
    /// So many endpoints.
    Endpoints(usize),
    /// So many upstreams of one endpoint, each in turn.
    Upstreams(usize),
}

impl Setup {
    /// For file names.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Standard => "standard".to_owned(),
            Self::Bare => "bare".to_owned(),
            Self::Routes(count) => format!("routes_{count}"),
            Self::Endpoints(count) => format!("endpoints_{count}"),
            Self::Upstreams(count) => format!("upstreams_{count}"),
        }
    }

    /// How many ports the origin needs.
    pub(crate) fn endpoints(self) -> usize {
        match self {
            Self::Standard | Self::Bare | Self::Routes(_) => ENDPOINTS,
            Self::Endpoints(count) | Self::Upstreams(count) => count.max(ENDPOINTS),
        }
    }

    /// The `host` values of requests.
    pub(crate) fn hosts(self) -> Vec<String> {
        match self {
            Self::Upstreams(count) => (0..count).map(|n| format!("upstream{n}")).collect(),
            _ => vec!["backend".to_owned()],
        }
    }

    /// The paths of requests, in place of the scenario's own path.
    pub(crate) fn paths(self) -> Vec<String> {
        match self {
            Self::Routes(count) => vec![prefix(count - 1)],
            _ => vec!["/40".to_owned()],
        }
    }

    /// The configuration's text.
    pub(crate) fn config(self, address: SocketAddr, origin: &[SocketAddr]) -> String {
        let list = |endpoints: &[SocketAddr]| {
            endpoints.iter().map(|endpoint| format!("\"{endpoint}\"")).collect::<Vec<_>>().join(", ")
        };
        let endpoints = match self {
            Self::Endpoints(count) => &origin[..count],
            _ => &origin[..ENDPOINTS],
        };
        let mut text = TEMPLATE.replace("@PORT@", &address.port().to_string()).replace("@ENDPOINTS@", &list(endpoints));
        match self {
            Self::Standard | Self::Endpoints(_) => {}
            Self::Bare => text += BARE,
            Self::Routes(count) => {
                for n in 0..count {
                    // Writing to a String cannot fail.
                    let _ = write!(
                        text,
                        "\n[[upstreams.backend.routes]]\nname = \"r{n}\"\npath_prefix = \"{}\"\n",
                        prefix(n)
                    );
                }
            }
            Self::Upstreams(count) => {
                for n in 0..count {
                    let _ = write!(text, "\n[upstreams.upstream{n}]\nendpoints = [{}]\n", list(&origin[n..=n]));
                }
            }
        }
        text
    }
}

/// Of one length, so that the last route's requests are no longer than the first's.
fn prefix(route: u16) -> String {
    format!("/40/r{route:05}")
}
