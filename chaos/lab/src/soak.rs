//! The soak: minutes of load, a backend that shows every fault it has, and a proxy that is reloaded and paused meanwhile. At the end client, backend
//! and proxy must agree on every request.
//!
//! Client and backend know each request by its id. The proxy only counts: its metrics and its log hold no header. `account` compares the three.
//!
//! Beside this load runs the traffic of [`crate::bodies`], whose every byte is checked. At the very end the proxy is drained under it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::bodies::{Account, Endpoint, Ledger, SLOW_FROM, Traffic};
use crate::clock::{self, Deadline};
use crate::error::Error;
use crate::http;
use crate::interrupt::Interrupt;
use crate::process::{Process, Signal};
use crate::programs::{Backend, Programs, Proxy};
use crate::rows;

/// Of each of the two loads, a second.
const RATE: &str = "150";
/// Between two disturbances.
const PAUSE: Duration = Duration::from_secs(5);
/// Now and then the whole proxy stands still for so long.
const STANDSTILL: Duration = Duration::from_millis(700);
/// Clients of the traffic whose bytes are checked.
const BODY_CLIENTS: usize = 8;
/// Long enough for the early responses to requests that are still being sent for longer.
const BEFORE_DRAIN: Duration = Duration::from_millis(500);
/// For what should be over soon.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// As in the configuration below.
const ATTEMPTS_MAX: u64 = 3;
/// What the proxy may grow by while it is busy: pools, histograms, log buffers.
const GROWTH_BYTES_MAX: u64 = 16 * 1024 * 1024;
const FAULTS: &[&str] = &[
    "--latency",
    "2ms",
    "--slow-share",
    "0.02",
    "--slow-by",
    "100ms",
    "--error-share",
    "0.05",
    "--reset-before-share",
    "0.02",
    "--reset-during-share",
    "0.005",
    "--truncate-share",
    "0.005",
    "--slow-body-share",
    "0.002",
];

/// What became of a request, as the client saw it.
struct Seen {
    succeeded: bool,
    is_post: bool,
    /// False if the client had no room to send it.
    was_sent: bool,
}

#[derive(Deserialize)]
struct Arrived {
    requests: u64,
    ids_dropped: u64,
    ids: BTreeMap<String, u64>,
}

/// What the proxy has counted.
#[derive(PartialEq, Eq)]
struct Counted {
    requests: u64,
    attempts: u64,
    unsent: u64,
    of_bodies: u64,
}

/// Runs it; each broken promise is a line.
///
/// # Errors
/// It could not be run.
pub fn run(programs: &Programs, folder: &Path, lasts: Duration, interrupt: &Interrupt) -> Result<Vec<String>, Error> {
    let backend = programs.backend(FAULTS)?;
    let ledger = Arc::new(Ledger::default());
    let endpoint = Endpoint::start(&ledger).map_err(Error::io("an endpoint"))?;
    let config = folder.join("soak.toml");
    fs::write(&config, config_text(&backend, &endpoint)).map_err(Error::io("soak.toml"))?;
    let mut proxy = programs.proxy(&config)?;
    let app = proxy.app;
    let traffic = |first| {
        Traffic::start(app, "bodies", &ledger, (BODY_CLIENTS, first)).map_err(Error::io("the traffic of bodies"))
    };
    let over = Deadline::after(lasts);
    let bodies = traffic(0)?;
    let (mut gets, mut posts) =
        (load(programs, &proxy, folder, "GET", lasts)?, load(programs, &proxy, folder, "POST", lasts)?);
    let mut broken = disturb(&mut proxy, over, interrupt)?;
    for client in [&mut gets.0, &mut posts.0] {
        client.wait(WAIT_MAX)?;
    }
    let bodies = bodies.finish();
    // The last is counted a moment after its last byte.
    let mut counted = counts(&proxy)?;
    Deadline::after(WAIT_MAX).poll(|| {
        let before = std::mem::replace(&mut counted, counts(&proxy).ok()?);
        (before == counted).then_some(())
    });
    let mut seen = BTreeMap::new();
    for (csv, is_post) in [(gets.1, false), (posts.1, true)] {
        read(&csv, is_post, &mut seen, &mut broken)?;
    }
    let response = http::get(backend.control, "/received").map_err(Error::io("the backend"))?;
    let arrived = serde_json::from_slice(&response.body).map_err(|cause| Error::Unexpected(cause.to_string()))?;
    broken.extend(account(&seen, &arrived, &counted));
    if counted.of_bodies != bodies.exchanges {
        broken.push(format!("{} exchanges of bodies, the proxy counted {}", bodies.exchanges, counted.of_bodies));
    }
    let last = drain(&mut proxy, traffic(SLOW_FROM)?, &mut broken)?;
    let Account { exchanges, succeeded, bytes, .. } = &bodies;
    println!(
        "soak: {exchanges} exchanges of bodies, {succeeded} succeeded; {} bytes arrived at endpoints and {} at clients; \
         {} more in the drain",
        bytes.0, bytes.1, last.exchanges
    );
    broken.extend(bodies.broken.into_iter().chain(last.broken));
    let succeeded = seen.values().filter(|request| request.succeeded).count();
    println!(
        "soak: {} requests, {succeeded} succeeded; the backend saw {}; {} broken promises",
        seen.len(),
        arrived.requests,
        broken.len()
    );
    Ok(broken)
}

/// Reloads the proxy now and then, and stops it for a moment, until the time is over. Returns what it has seen of broken promises.
fn disturb(proxy: &mut Proxy, over: Deadline, interrupt: &Interrupt) -> Result<Vec<String>, Error> {
    let (mut broken, mut turn, mut grown_from) = (Vec::new(), 0_u32, None);
    while !over.left().is_zero() {
        if interrupt.is_set() {
            return Err(Error::Interrupted);
        }
        clock::pause(PAUSE.min(over.left()));
        turn += 1;
        proxy.process.signal(Signal::HUP);
        if turn.is_multiple_of(4) {
            proxy.process.signal(Signal::STOP);
            clock::pause(STANDSTILL);
            proxy.process.signal(Signal::CONT);
        }
        let bytes = proxy.process.resident_bytes();
        let from = *grown_from.get_or_insert(bytes);
        if bytes > from + GROWTH_BYTES_MAX {
            broken.push(format!("the proxy has grown from {from} to {bytes} bytes"));
        }
        eprintln!("soak: {} s left, {bytes} bytes, {} descriptors", over.left().as_secs(), proxy.process.descriptors());
    }
    Ok(broken)
}

/// Ends the proxy while it passes on bodies whose responses have been sent already.
fn drain(proxy: &mut Proxy, last: Traffic, broken: &mut Vec<String>) -> Result<Account, Error> {
    Deadline::after(WAIT_MAX).poll(|| (last.under_way() == BODY_CLIENTS as u64).then_some(()));
    last.stop();
    clock::pause(BEFORE_DRAIN);
    proxy.process.signal(Signal::TERM);
    let last = last.finish();
    let status = proxy.process.wait(WAIT_MAX)?;
    if !status.success() {
        broken.push(format!("the drain ended with {status}"));
    }
    Ok(last)
}

/// What must hold between the three sides.
fn account(seen: &BTreeMap<String, Seen>, arrived: &Arrived, counted: &Counted) -> Vec<String> {
    let mut broken = Vec::new();
    for (id, request) in seen {
        let times = arrived.ids.get(id).copied().unwrap_or(0);
        let most = if request.is_post { 1 } else { ATTEMPTS_MAX };
        if times > most {
            broken.push(format!("{id} arrived {times} times"));
        }
        if request.succeeded && times == 0 {
            broken.push(format!("{id} got a response and never arrived"));
        }
    }
    let strangers =
        arrived.ids.keys().filter(|id| !seen.contains_key(*id)).map(|id| format!("{id} arrived and nobody sent it"));
    broken.extend(strangers);
    let made = seen.values().filter(|request| request.was_sent).count() as u64;
    // A request whose client gave up before its head was whole is none for the proxy.
    if counted.requests != made {
        broken.push(format!("the clients sent {made} requests, the proxy counted {}", counted.requests));
    }
    if counted.attempts - counted.unsent != arrived.requests || arrived.ids_dropped > 0 {
        let Counted { attempts, unsent, .. } = counted;
        broken.push(format!(
            "the proxy counted {attempts} attempts, {unsent} of them unsent; {} arrived",
            arrived.requests
        ));
    }
    broken
}

fn counts(proxy: &Proxy) -> Result<Counted, Error> {
    let metrics = proxy.metrics().map_err(Error::io("the admin port"))?;
    let backend = ("upstream", "backend");
    let ended = |outcome| metrics.count("outrigger_attempts_total", &[backend, ("outcome", outcome)]);
    Ok(Counted {
        requests: metrics.count("outrigger_requests_total", &[backend]),
        attempts: metrics.count("outrigger_attempts_total", &[backend]),
        unsent: ended("connect_failed") + ended("unsent"),
        of_bodies: metrics.count("outrigger_requests_total", &[("upstream", "bodies")]),
    })
}

fn config_text(backend: &Backend, bodies: &Endpoint) -> String {
    // The endpoint of bodies refuses and closes so often that breakers would be open most of the time.
    let no_breakers = "breaker = { enabled = false }\nendpoint_breaker = { enabled = false }\n";
    format!(
        "listen = {{ app = \"127.0.0.1:0\", admin = \"127.0.0.1:0\" }}\nlog.format = \"json\"\n\
         [upstreams.backend]\nendpoints = [\"{}\"]\nretry = {{ max_attempts = {ATTEMPTS_MAX} }}\n\
         [upstreams.bodies]\nendpoints = [\"{}\"]\n{no_breakers}",
        backend.data, bodies.address
    )
}

/// A client and where its lines go.
fn load(
    programs: &Programs,
    proxy: &Proxy,
    folder: &Path,
    method: &str,
    lasts: Duration,
) -> Result<(Process, PathBuf), Error> {
    let (via, csv) = (format!("http://{}", proxy.app), folder.join(format!("{method}.csv")));
    let (csv_text, lasts) = (csv.to_string_lossy(), format!("{}s", lasts.as_secs()));
    let fixed = [
        "run",
        "http://backend/",
        "--proxy",
        &via,
        "--quiet",
        "--csv",
        &csv_text,
        "--rate",
        RATE,
        "--duration",
        &lasts,
    ];
    let own = ["--method", method, "--id-prefix", method];
    let body: &[&str] = if method == "POST" { &["--body", "one order"] } else { &[] };
    let client = programs.client([&fixed[..], &own, body].concat())?;
    Ok((client, csv))
}

/// The rows of one client.
fn read(csv: &Path, is_post: bool, seen: &mut BTreeMap<String, Seen>, broken: &mut Vec<String>) -> Result<(), Error> {
    for row in rows::read(csv, 0.0).map_err(Error::Unexpected)? {
        let request = Seen { succeeded: row.is_success(), is_post, was_sent: row.latency_ms.is_some() };
        if seen.insert(row.id.clone(), request).is_some() {
            broken.push(format!("{} is there twice", row.id));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(change: impl FnOnce(&mut BTreeMap<String, Seen>, &mut Arrived, &mut Counted)) -> Vec<String> {
        let seen = |succeeded, is_post| Seen { succeeded, is_post, was_sent: true };
        let mut clients = BTreeMap::from([
            ("GET-1".to_owned(), seen(true, false)),
            ("POST-1".to_owned(), seen(true, true)),
            ("POST-2".to_owned(), seen(false, true)),
        ]);
        let ids = BTreeMap::from([("GET-1".to_owned(), 3), ("POST-1".to_owned(), 1)]);
        let mut arrived = Arrived { requests: 4, ids_dropped: 0, ids };
        let mut counted = Counted { requests: 3, attempts: 5, unsent: 1, of_bodies: 0 };
        change(&mut clients, &mut arrived, &mut counted);
        account(&clients, &arrived, &counted)
    }

    #[test]
    fn each_side_is_held_against_the_others() {
        assert_eq!(broken(|_, _, _| {}), Vec::<String>::new());
        let one =
            |found: Vec<String>, wanted: &str| assert!(found.len() == 1 && found[0].contains(wanted), "{found:?}");
        one(broken(|_, arrived, _| *arrived.ids.get_mut("POST-1").expect("there") = 2), "POST-1 arrived 2 times");
        one(broken(|_, arrived, _| *arrived.ids.get_mut("GET-1").expect("there") = 4), "GET-1 arrived 4 times");
        one(broken(|seen, _, _| seen.get_mut("POST-2").expect("there").succeeded = true), "never arrived");
        one(broken(|_, arrived, _| arrived.ids.extend([("X".to_owned(), 1)])), "nobody sent it");
        one(broken(|_, _, counted| counted.requests = 2), "sent 3 requests");
        one(broken(|_, arrived, _| arrived.requests = 5), "5 arrived");
    }
}
