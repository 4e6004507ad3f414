//! What is measured: scenarios, each with its cases. A round goes through all scenarios, and within one from case to case, so that what changes on the
//! machine meanwhile affects all of them alike.

use crate::peers::Peer;
use crate::setup::Setup;

/// Connections that a load has unless its scenario is about their number.
const CONNECTIONS: usize = 64;
/// Requests a second of the open loops.
const RATE: f64 = 2_000.0;

/// One kind of load, and the cases that are compared under it.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// For the command line and the results.
    pub(crate) name: &'static str,
    /// For headings.
    pub(crate) title: &'static str,
    /// More rounds than this would add nothing.
    pub(crate) rounds_max: u32,
    cases: fn() -> Vec<Case>,
}

/// One row of a scenario's table.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// Unique within its scenario.
    pub(crate) name: String,
    pub(crate) peer: Peer,
    pub(crate) setup: Setup,
    pub(crate) work: Work,
}

/// What is done to a peer.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    /// Requests, and the processor time they take.
    Load(Load),
    /// Connections, and the memory they take.
    Memory,
}

/// Requests of one kind.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// How many are open.
    pub(crate) connections: usize,
    /// Under way at once, at most.
    pub(crate) active: usize,
    /// Requests a second; `None` in closed loop.
    pub(crate) rate: Option<f64>,
    pub(crate) method: &'static str,
    /// Of each request.
    pub(crate) body_bytes: usize,
    /// Of each response.
    pub(crate) response_bytes: usize,
    /// How many of 1,000 attempts fail.
    pub(crate) fail_permille: u32,
}

/// The plain load: a GET with a response of 40 bytes.
pub(crate) const PLAIN: Load = Load {
    connections: CONNECTIONS,
    active: CONNECTIONS,
    rate: None,
    method: "GET",
    body_bytes: 0,
    response_bytes: 40,
    fail_permille: 0,
};

const MANY: u32 = u32::MAX;

/// All of them, in the order of tables.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "saturation",
        title: "As many requests as will go: GET of 40 bytes, 64 connections",
        rounds_max: MANY,
        cases: || all(&PLAIN),
    },
    Scenario {
        name: "latency",
        title: "Open loop: 2 000 requests a second over 64 connections",
        rounds_max: MANY,
        cases: || {
            [case(Peer::Direct, &Load { rate: Some(RATE), ..PLAIN })]
                .into_iter()
                .chain(all(&Load { rate: Some(RATE), ..PLAIN }))
                .collect()
        },
    },
    Scenario {
        name: "light",
        title: "Light load: 2 000 requests a second over 8 connections",
        rounds_max: MANY,
        cases: || all(&Load { connections: 8, active: 8, rate: Some(RATE), ..PLAIN }),
    },
    Scenario {
        name: "post",
        title: "POST of 1 KiB, kept for a retry where the peer does that",
        rounds_max: MANY,
        cases: || all(&Load { method: "POST", body_bytes: 1024, ..PLAIN }),
    },
    Scenario {
        name: "answer_64k",
        title: "Responses of 64 KiB",
        rounds_max: MANY,
        cases: || all(&Load { response_bytes: 64 * 1024, ..PLAIN }),
    },
    Scenario {
        name: "answer_1m",
        title: "Responses of 1 MiB",
        rounds_max: MANY,
        cases: || all(&Load { response_bytes: 1024 * 1024, ..PLAIN }),
    },
    Scenario {
        name: "faults",
        title: "One attempt in ten fails with 503, and is retried",
        rounds_max: MANY,
        cases: || all(&Load { fail_permille: 100, ..PLAIN }).into_iter().filter(|case| case.peer.retries()).collect(),
    },
    Scenario {
        name: "memory",
        title: "Memory: idle, with 1 000 connections that made a request each, and when they have gone",
        rounds_max: 1,
        cases: || all(&PLAIN).into_iter().map(|case| Case { work: Work::Memory, ..case }).collect(),
    },
    Scenario {
        name: "policies",
        title: "Outrigger with all its policies, and with all that can be switched off",
        rounds_max: MANY,
        cases: || vec![of("on", Setup::Standard, PLAIN), of("off", Setup::Bare, PLAIN)],
    },
    Scenario {
        name: "connections",
        title: "Outrigger with more connections, 64 requests under way at most",
        rounds_max: MANY,
        // As many as Outrigger has places for where 20 000 descriptors are the hard limit.
        cases: || [1, 64, 1_000, 9_900].map(connections).into(),
    },
    Scenario {
        name: "routes",
        title: "Outrigger with more routes, the last of which is asked for",
        rounds_max: MANY,
        cases: || [1, 10_000].map(|count: u16| of(&count.to_string(), Setup::Routes(count), PLAIN)).into(),
    },
    Scenario {
        name: "endpoints",
        title: "Outrigger with more endpoints",
        rounds_max: MANY,
        cases: || [1, 1_000].map(|count: usize| of(&count.to_string(), Setup::Endpoints(count), PLAIN)).into(),
    },
    Scenario {
        name: "upstreams",
        title: "Outrigger with more upstreams, each in turn",
        rounds_max: MANY,
        cases: || [1, 8].map(|count: usize| of(&count.to_string(), Setup::Upstreams(count), PLAIN)).into(),
    },
];

impl Scenario {
    /// The scenario of this name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|scenario| scenario.name == name)
    }

    /// In the order in which the first round goes through them.
    pub(crate) fn cases(&self) -> Vec<Case> {
        (self.cases)()
    }
}

/// For the command line.
pub(crate) fn names() -> String {
    ALL.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(", ")
}

fn all(load: &Load) -> Vec<Case> {
    [Peer::Relay, Peer::Outrigger, Peer::Nginx, Peer::Haproxy, Peer::Envoy].map(|peer| case(peer, load)).into()
}

fn case(peer: Peer, load: &Load) -> Case {
    Case { name: peer.name().to_owned(), peer, setup: Setup::Standard, work: Work::Load(load.clone()) }
}

fn of(name: &str, setup: Setup, load: Load) -> Case {
    Case { name: name.to_owned(), peer: Peer::Outrigger, setup, work: Work::Load(load) }
}

fn connections(count: usize) -> Case {
    of(&count.to_string(), Setup::Standard, Load { connections: count, active: count.min(CONNECTIONS), ..PLAIN })
}
