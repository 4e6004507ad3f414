//! From the endpoints of a configuration to addresses: before a generation comes into force, and again and again while it is.
//!
//! The proxy must find a backend that comes back under a new address without a restart. So each name of an upstream has a task that looks it up every
//! `resolve_interval`, and at once when a connection fails. No name waits for another one, and each answer is published as it comes. [`super::names`] makes the
//! look-ups and bounds them.
//!
//! The tasks of a generation write into the endpoints of that generation alone.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::task::JoinSet;

use super::Upstream;
use super::endpoint::Found;
use super::names::{Answer, Name, Resolver};
use crate::clock;
use crate::config::{self, Address};
use crate::telemetry::events::Event;
use crate::telemetry::metrics::Metrics;

/// The least time between two look-ups of a name, so that a burst of failed connections causes only one.
const LOOKUP_PAUSE: Duration = Duration::from_millis(500);
/// After this time without an answer a look-up counts as failed. It goes on, and its answer counts when it comes.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// The addresses of names. A name that has never been found is not in it.
pub type Addresses = HashMap<String, Arc<[IpAddr]>>;

/// What is needed to build a generation: the addresses of its names.
pub struct Resolved {
    /// All that are known.
    pub addresses: Addresses,
    /// How the look-ups ended that were made for it.
    answers: HashMap<String, Answer>,
}

/// The addresses for `upstreams`. A name that is known keeps its addresses and needs no look-up here. The others are looked up, all at once, and waited for, but
/// no longer than `at_most`.
pub async fn find(resolver: &Rc<Resolver>, upstreams: &[config::Upstream], at_most: Duration) -> Resolved {
    let until = clock::now() + at_most;
    let hosts: BTreeSet<&str> = upstreams.iter().flat_map(names_of).collect();
    let unknown = hosts.iter().map(|host| resolver.name(host)).filter(|name| name.known().is_none());
    let looking_up: Vec<_> = unknown.map(|name| (resolver.look_up(&name), name)).collect();
    let mut answers = HashMap::new();
    for (answer, name) in looking_up {
        if let Some(answer) = clock::until(until, answer).await {
            answers.insert(name.host.clone(), answer);
        }
    }
    Resolved { addresses: known(resolver, hosts.into_iter()), answers }
}

impl Resolved {
    /// Counts and logs the look-ups that were made, for the upstreams that are built by now.
    pub fn emit<'u>(&self, upstreams: impl Iterator<Item = &'u Arc<Upstream>>, metrics: &Metrics) {
        for upstream in upstreams {
            for host in names_of(&upstream.config) {
                if let Some(answer) = self.answers.get(host) {
                    emit(upstream, host, (answer, is_news(&mut Ok(()), answer)), metrics);
                }
            }
        }
    }
}

fn emit(upstream: &Upstream, host: &str, (answer, is_news): (&Answer, bool), metrics: &Metrics) {
    let result = answer.as_ref().copied().map_err(|reason| &**reason);
    Event::NameLookedUp { upstream: &upstream.config.name, host, result, is_news }.emit(metrics);
}

/// Whether `answer` is worth a line in the log: a failure other than the one that was `said` last. A dead name would fill the log with the same line.
pub fn is_news(said: &mut Answer, answer: &Answer) -> bool {
    let is_news = answer.is_err() && said != answer;
    said.clone_from(answer);
    is_news
}

fn names_of(upstream: &config::Upstream) -> impl Iterator<Item = &str> {
    upstream.endpoints.iter().map(|address| address.host.as_str()).filter(|host| host.parse::<IpAddr>().is_err())
}

fn known<'h>(resolver: &Resolver, hosts: impl Iterator<Item = &'h str>) -> Addresses {
    hosts.filter_map(|host| Some((host.to_owned(), resolver.name(host).known()?))).collect()
}

/// Where the endpoints of `upstream` are: its literal addresses, and the addresses of its names. Two names with one address are one endpoint.
pub fn locate(upstream: &config::Upstream, addresses: &Addresses) -> Vec<Found> {
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    for Address { host, port } in &upstream.endpoints {
        let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let authority =
            HeaderValue::try_from(authority).expect("the configuration admits only hosts that fit a header");
        let server_name: Arc<str> = Arc::from(host.as_str());
        let literal = host.parse::<IpAddr>().ok();
        let resolved = addresses.get(host).into_iter().flat_map(|ips| ips.iter().copied());
        for ip in literal.into_iter().chain(resolved) {
            let address = SocketAddr::new(ip, *port);
            if seen.insert(address) {
                let (server_name, authority) = (Arc::clone(&server_name), authority.clone());
                found.push(Found { address, server_name, authority });
            }
        }
    }
    found
}

/// Looks up the names of `upstreams`, the ones of a generation in force, until the set is dropped. Names that they do not need are forgotten.
pub fn watch<'u>(
    resolver: &Rc<Resolver>,
    upstreams: impl Iterator<Item = &'u Arc<Upstream>>,
    metrics: &Arc<Metrics>,
) -> JoinSet<()> {
    let (mut watches, mut needed) = (JoinSet::new(), BTreeSet::new());
    for upstream in upstreams {
        let hosts: BTreeSet<&str> = names_of(&upstream.config).collect();
        let (resolver, metrics) = (Rc::clone(resolver), Arc::clone(metrics));
        let watched = Rc::new(Watched { resolver, upstream: Arc::clone(upstream), metrics });
        if !hosts.is_empty() {
            // A look-up may have ended since the addresses of this generation were taken.
            watched.publish();
        }
        for host in &hosts {
            let name = watched.resolver.name(host);
            watches.spawn_local(Rc::clone(&watched).follow(name));
        }
        needed.extend(hosts);
    }
    resolver.keep_only(&needed);
    watches
}

/// An upstream whose names are looked up.
struct Watched {
    resolver: Rc<Resolver>,
    upstream: Arc<Upstream>,
    metrics: Arc<Metrics>,
}

impl Watched {
    /// Looks up `name` for as long as it is polled, and publishes what becomes known of it from this call on.
    fn follow(self: Rc<Self>, name: Rc<Name>) -> impl Future<Output = ()> {
        // Not at the first poll: an answer may come before.
        let (mut answers, mut published) = (name.answers(), name.known());
        let mut wanted = self.upstream.endpoints.lookups();
        let mut failure = Ok(());
        let interval = self.upstream.config.resolve_interval;
        async move {
            loop {
                // A look-up that is under way, or that nobody has made yet, is due at once.
                let due = async {
                    if let Some(last) = name.answered_at() {
                        clock::sleep_until(last + LOOKUP_PAUSE).await;
                        let _woken = clock::until(last + interval, wanted.changed()).await;
                    }
                };
                // Both branches only wait: a request for a look-up and an answer are kept until they are seen.
                tokio::select! {
                    () = due => self.look_up(&name, &mut failure).await,
                    // The answer to another upstream, or to the generation before.
                    _ = answers.changed() => {}
                }
                answers.mark_unchanged();
                let known = name.known();
                if known != published {
                    published = known;
                    self.publish();
                }
            }
        }
    }

    /// `said`: the answer before.
    async fn look_up(&self, name: &Rc<Name>, said: &mut Answer) {
        let mut answer = pin!(self.resolver.look_up(name));
        let in_time = clock::until(clock::now() + LOOKUP_TIMEOUT, answer.as_mut()).await;
        let is_late = in_time.is_none();
        let told = in_time.unwrap_or_else(|| Err("the resolver did not respond".into()));
        emit(&self.upstream, &name.host, (&told, is_news(said, &told)), &self.metrics);
        if is_late && answer.await.is_ok() {
            *said = Ok(());
            emit(&self.upstream, &name.host, (&Ok(()), false), &self.metrics);
        }
    }

    /// Sets the endpoints of the upstream to what is known.
    fn publish(&self) {
        let Watched { resolver, upstream, metrics } = self;
        let addresses = known(resolver, names_of(&upstream.config));
        let found = locate(&upstream.config, &addresses);
        if upstream.endpoints.replace(&found, upstream.config.endpoint_breaker, clock::now()) {
            let addresses: Vec<_> = upstream.endpoints.load().iter().map(|endpoint| endpoint.at.address).collect();
            Event::EndpointsChanged { upstream: &upstream.config.name, addresses: &addresses }.emit(metrics);
        }
    }
}
