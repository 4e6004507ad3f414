//! From a text to [`Config`]: which keys there are, what each allows, and what applies when it is left out.
//!
//! One function reads one table of the file, key by key, each with its range and its default in one line. Checks between keys stand behind the
//! reading of both. Nothing returns early: whatever is wrong, the rest of the file is read too.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tracing::Level;

use super::fault::{Collector, Faults, Place, is_name, quoted};
use super::file::{self, Item, Key, Settled, Table};
use super::{Config, Drain, Listen, Log, LogFormat, Pool, Upstream};

mod address;
mod limits;
mod policies;
mod routes;

use policies::{Base, BreakerDraft, Draft};
use routes::RouteDraft;

const MINUTE: Duration = secs(60);
const HOUR: Duration = secs(3_600);
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

/// Reads a whole file.
pub(super) fn resolve(name: &str, text: &str) -> Result<Config, Faults> {
    file::read(name, text, read_config)
}

fn read_config(root: &mut Table<'_>) -> Config {
    let doors = root.section("listen", read_listen);
    let drain = root.section("drain", read_drain);
    let log = root.section("log", read_log);
    let replay_memory_bytes_max = root.section("replay", |table| table.size("memory_max", 0..=GIB).or(16 * MIB));
    let upstreams = root.sections("upstreams", |name, table| read_upstream(name, table, &doors));
    let example = r#"[upstreams.NAME] with endpoints = ["host:port"]"#;
    let upstreams = match upstreams.written() {
        Some((none, place)) if none.is_empty() => {
            root.faults.add_relation(place, format!("names no upstream (write {example})"));
            upstreams.settle(Vec::new())
        }
        _ => upstreams.required(Vec::new(), example, root.faults),
    };
    check_hosts_are_unique(&upstreams.value, root.faults);
    let default_upstream = root.text("default_upstream", "the name of an upstream", |text| Ok(text.to_owned()));
    let default_upstream = resolve_default(&default_upstream, &upstreams, root.faults);
    let upstreams = upstreams.value.into_iter().map(|upstream| upstream.settled).collect();
    Config { listen: doors.listen, drain, log, replay_memory_bytes_max, default_upstream, upstreams }
}

/// `[listen]`, and where an upstream must not lead.
struct Doors {
    listen: Listen,
    app: Settled<SocketAddr>,
    admin: Settled<SocketAddr>,
}

fn read_listen(table: &mut Table<'_>) -> Doors {
    let app = table
        .text("app", address::LISTENER, address::parse_listener)
        .settle(SocketAddr::from((Ipv4Addr::LOCALHOST, 4140)));
    let admin = table
        .text("admin", address::LISTENER, address::parse_listener)
        .settle(SocketAddr::from((Ipv4Addr::LOCALHOST, 4191)));
    if !app.is_wrong() && !admin.is_wrong() && address::collide(app.value, admin.value) {
        let (this, other) = if admin.is_written() { (&admin, &app) } else { (&app, &admin) };
        let message = format!("{} collides with {}", this.value, other.described(table.faults));
        table.faults.add_relation(&this.place, message);
    }
    let hosts = table.texts("admin_hosts", "a host name", 1..=100, address::parse_host);
    let hosts = hosts.written().map(|(hosts, _)| hosts.iter().map(|host| host.value.clone()).collect());
    let listen = Listen {
        app: app.value,
        admin: admin.value,
        admin_hosts: hosts.unwrap_or_else(|| vec!["localhost".to_owned()]),
        reuse_port: table.boolean("reuse_port").or(false),
        workers: table.integer("workers", 0..=64).or(0),
        connections_max: table.integer("connections_max", 1..=1_000_000).or(10_000),
        head_timeout: table.duration("head_timeout", millis(100)..=5 * MINUTE).or(secs(10)),
        limits: limits::read_requests(table),
        idle_timeout: table.duration("idle_timeout", secs(1)..=HOUR).or(MINUTE),
        requests_max: table.integer("requests_max", 0..=1_000_000).or(0),
    };
    Doors { listen, app, admin }
}

fn read_drain(table: &mut Table<'_>) -> Drain {
    let timeout = table.duration("timeout", Duration::ZERO..=HOUR).settle(secs(25));
    let grace = table.duration("grace", Duration::ZERO..=HOUR).at_most(secs(5), &timeout, table.faults);
    let silence = table.duration("silence", Duration::ZERO..=5 * MINUTE).or(secs(3));
    let quit = table.boolean("quit").or(false);
    Drain { silence, timeout: timeout.value, grace: grace.value, quit }
}

fn read_log(table: &mut Table<'_>) -> Log {
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let levels = [("error", Level::ERROR), ("warn", Level::WARN), ("info", Level::INFO), ("debug", Level::DEBUG)];
    Log {
        format: table.choice("format", &formats).or(LogFormat::Text),
        level: table.choice("level", &levels).or(Level::INFO),
        access: table.boolean("access").or(false),
    }
}

/// An upstream, and the places of what others may contradict.
struct ReadUpstream {
    settled: Upstream,
    hosts: Vec<Place>,
}

fn read_upstream(name: &str, table: &mut Table<'_>, doors: &Doors) -> ReadUpstream {
    if !is_name(name) {
        table.faults.add(&table.place, "an upstream's name is 1 to 64 letters, digits, \"-\" and \"_\"");
    }
    let endpoints = table.texts("endpoints", "\"host:port\"", 1..=1_000, address::parse_endpoint).required(
        Vec::new(),
        r#"endpoints = ["host:port"]"#,
        table.faults,
    );
    check_calls_not_itself(&endpoints.value, doors, table.faults);
    let hosts = read_hosts(name, table);
    let resolve_interval = table.duration("resolve_interval", millis(500)..=HOUR).or(secs(5));
    let in_flight_max = table.integer("in_flight_max", 1..=1_000_000).or(1_024);
    let connect = table.boolean("connect").or(false);
    let pool = table.section("pool", read_pool);
    let answer = table.section("answer", limits::read_answers);

    let own = Draft::read(table, &Base::of_upstreams());
    let endpoint_breaker = table.section("endpoint_breaker", BreakerDraft::of_endpoints);
    let base = Base::of_routes(&own);
    let routes = table.tables("routes", |table| RouteDraft::read(table, &base));
    routes::check_each_is_reached(&routes, table.faults);

    // A breaker's probe may be a request of any route that shares it, so the longest of them counts.
    let sharing = routes.iter().map(|route| &route.policies).filter(|policies| !policies.has_own_breaker);
    let request = longest(&own.timeouts.request, sharing.map(|policies| &policies.timeouts.request));
    let attempt = longest(&own.timeouts.attempt, routes.iter().map(|route| &route.policies.timeouts.attempt));
    let breaker = own.breaker.finish(request, table.faults);
    let endpoint_breaker = endpoint_breaker.finish(attempt, table.faults);

    let (hosts, places) = hosts.into_iter().map(|host| (host.value, host.place)).unzip();
    let settled = Upstream {
        name: Arc::from(name),
        endpoints: endpoints.value.into_iter().map(|endpoint| endpoint.value).collect(),
        hosts,
        resolve_interval,
        in_flight_max,
        connect,
        endpoint_breaker,
        pool,
        answer,
        policies: own.finish(breaker),
        routes: routes.into_iter().map(|route| route.finish(breaker, table.faults)).collect(),
    };
    ReadUpstream { settled, hosts: places }
}

fn read_hosts(name: &str, table: &mut Table<'_>) -> Vec<Item<String>> {
    let own_name = Item { value: name.to_ascii_lowercase(), place: table.place.clone() };
    table.texts("hosts", "a host name", 1..=1_000, address::parse_host).or(vec![own_name])
}

fn read_pool(table: &mut Table<'_>) -> Pool {
    Pool {
        idle_max: table.integer("idle_max", 0..=10_000).or(64),
        idle_timeout: table.duration("idle_timeout", millis(100)..=HOUR).or(secs(4)),
        age_max: table.duration("age_max", secs(1)..=24 * HOUR).or(5 * MINUTE),
    }
}

fn check_calls_not_itself(endpoints: &[Item<super::Address>], doors: &Doors, faults: &Collector<'_>) {
    for endpoint in endpoints {
        for door in [&doors.app, &doors.admin] {
            if !door.is_wrong() && address::leads_to(&endpoint.value, door.value) {
                let message = format!("would call itself: {} is {}", door.place.path, door.value);
                faults.add_relation(&endpoint.place, message);
            }
        }
    }
}

fn check_hosts_are_unique(upstreams: &[ReadUpstream], faults: &Collector<'_>) {
    let mut owners: HashMap<&str, &Place> = HashMap::new();
    for upstream in upstreams {
        for (host, place) in upstream.settled.hosts.iter().zip(&upstream.hosts) {
            match owners.entry(host) {
                Entry::Occupied(owner) => {
                    let (path, line) = (&owner.get().path, faults.line(owner.get().offset));
                    let message = format!("the host {} also belongs to {path} in line {line}", quoted(host));
                    faults.add_relation(place, message);
                }
                Entry::Vacant(free) => {
                    free.insert(place);
                }
            }
        }
    }
}

/// The index of the default upstream: the one that is named, else the only one.
fn resolve_default(
    named: &Key<String>,
    upstreams: &Settled<Vec<ReadUpstream>>,
    faults: &Collector<'_>,
) -> Option<usize> {
    let Some((name, place)) = named.written() else {
        return (upstreams.value.len() == 1).then_some(0);
    };
    let index = upstreams.value.iter().position(|upstream| *upstream.settled.name == **name);
    if index.is_none() && upstreams.is_written() {
        let known: Vec<&str> = upstreams.value.iter().map(|upstream| &*upstream.settled.name).collect();
        faults.add_relation(place, format!("{} is no upstream (there is {})", quoted(name), known.join(", ")));
    }
    index
}

/// The longest of some timeouts; the first of those that are equal.
fn longest<'s>(
    own: &'s Settled<Duration>,
    others: impl Iterator<Item = &'s Settled<Duration>>,
) -> &'s Settled<Duration> {
    others.fold(own, |longest, other| if other.value > longest.value { other } else { longest })
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
