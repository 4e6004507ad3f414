//! From a request to the policies that apply to it: host → upstream, then path and method → route.
//!
//! A host takes one hash look-up. Within an upstream the first route of the file that matches wins. The search does not walk the list: it looks up each prefix
//! of the path's segments and takes the earliest route among the hits, so that ten thousand routes cost as much as one. It follows the path's normal form; what
//! must hold however the endpoint reads the path asks [`Routes::every_reading`].

use std::sync::Arc;

use http::Method;
use outrigger_policy::call;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::config;
use crate::path::{self, Agreed, RequestPath};
use crate::telemetry::metrics::RouteMetrics;
use crate::upstream::Upstream;

/// The policies of a part of an upstream, with the state they share.
pub struct Route {
    /// Unique in the process. Workers find their handles by it.
    pub id: u32,
    /// The configured name, or `default` for the route that takes what no configured route matches.
    pub name: Arc<str>,
    /// The upstream it belongs to.
    pub upstream: Arc<Upstream>,
    /// The route's policies as configured.
    pub config: config::Policies,
    /// The policies with their state. Budget and breaker are the upstream's unless the route has its own.
    pub policies: call::Policies,
    /// The label of the breaker: `upstream` or `route`.
    pub breaker_scope: &'static str,
    /// Which policies this route does not share with its upstream's default route.
    pub own: Own,
    /// Handles of the route's metrics.
    pub metrics: RouteMetrics,
}

/// Which policies a route has for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Own {
    /// The budget.
    pub budget: bool,
    /// The breaker of calls.
    pub breaker: bool,
}

/// The routes of one upstream.
pub struct Routes {
    /// The route for requests that no configured route matches.
    pub default: Arc<Route>,
    /// In order of the file.
    pub configured: Vec<Arc<Route>>,
    methods: Vec<Vec<Method>>,
    by_prefix: FxHashMap<String, Vec<usize>>,
    /// The [`path::loose`] text of each prefix as far as all servers agree on it, with a slash behind it, and the index of its route. In order, so that the ones
    /// below a path are neighbours.
    by_loose: Vec<(Vec<u8>, usize)>,
    segments_max: usize,
    /// Methods beyond those of [`is_standard`] that a route names.
    extensions: FxHashSet<Method>,
    /// Whether some of these routes, the default one included, repeats less than another one.
    pub has_stricter: bool,
}

/// Finds an upstream's routes by the host of a request.
pub struct Table {
    hosts: FxHashMap<String, usize>,
    default: Option<usize>,
    routes: Vec<Routes>,
    /// All configured hosts, for the message that refuses an unknown one.
    pub known: Arc<str>,
}

/// The result of a look-up by host.
pub struct Found<'a> {
    /// The upstream's routes.
    pub routes: &'a Routes,
    /// Whether the host itself is configured. Otherwise the default upstream takes it.
    pub is_by_name: bool,
}

/// The requests that a configured route matches.
pub struct Pattern {
    /// Begins with `/`.
    pub path_prefix: String,
    /// Empty means all.
    pub methods: Vec<Method>,
}

impl Route {
    /// Whether it retries nothing.
    pub fn is_single_attempt(&self) -> bool {
        self.config.retry.max_attempts == 1
    }

    /// Whether it retries all that `other` retries although the endpoint may have acted.
    pub fn retries_as_much_as(&self, other: &Route) -> bool {
        !self.is_single_attempt() && self.config.retry.on.include(&other.config.retry.on)
    }
}

impl Routes {
    /// `configured` in order of the file.
    pub fn new(default: Arc<Route>, configured: Vec<(Pattern, Arc<Route>)>) -> Routes {
        let mut routes = Routes {
            has_stricter: default.is_single_attempt(),
            default,
            configured: Vec::new(),
            methods: Vec::new(),
            by_prefix: FxHashMap::default(),
            by_loose: Vec::new(),
            segments_max: 0,
            extensions: FxHashSet::default(),
        };
        for (at, (pattern, route)) in configured.into_iter().enumerate() {
            let prefix = pattern.path_prefix.trim_end_matches('/');
            routes.segments_max = routes.segments_max.max(prefix.matches('/').count());
            routes.has_stricter |=
                !route.retries_as_much_as(&routes.default) || !routes.default.retries_as_much_as(&route);
            routes.by_prefix.entry(prefix.to_owned()).or_default().push(at);
            let levels = RequestPath::new(prefix).prefix_levels();
            // A server that looks for a file finds `/pay.php` for `/pay`.
            let spellings = std::iter::once(levels).chain(path::stems(levels));
            routes.by_loose.extend(spellings.map(|levels| (below(levels).collect(), at)));
            routes.configured.push(route);
            routes.extensions.extend(pattern.methods.iter().filter(|method| !is_standard(method)).cloned());
            routes.methods.push(pattern.methods);
        }
        routes.by_loose.sort_unstable();
        routes
    }

    /// The first route of the file that matches the path's normal form, else the default.
    pub fn find(&self, path: RequestPath<'_>, method: &Method) -> &Arc<Route> {
        if self.configured.is_empty() {
            return &self.default;
        }
        self.route(self.first(path.normal().as_str(), |at| self.takes(at, method), |_| true))
    }

    /// Whether every server reads `method` as what it is, apart from a HEAD, which many take for a GET: it is a standard one, or a route names it.
    pub fn knows(&self, method: &Method) -> bool {
        is_standard(method) || self.extensions.contains(method)
    }

    /// Whether `says` holds for the route that each server, by its own reading of the path, would find. `method` is `None` if a server may see any.
    pub fn every_reading(&self, path: RequestPath<'_>, method: Option<&Method>, says: impl Fn(&Route) -> bool) -> bool {
        if self.configured.is_empty() {
            return says(&self.default);
        }
        let agreed = path.agreed();
        // Every reading matches this one, so none of them finds a later route.
        let last = self.first(agreed.path, |at| self.surely_takes(at, method), |bytes| agreed.keeps(bytes));
        let mut earlier =
            self.reachable(&agreed).filter(|at| last.is_none_or(|last| *at < last) && self.may_take(*at, method));
        says(self.route(last)) && earlier.all(|at| says(&self.configured[at]))
    }

    /// The routes that some reading of a path with this beginning may match: those of its prefixes, and those below it unless it is the whole path.
    fn reachable(&self, agreed: &Agreed<'_>) -> impl Iterator<Item = usize> {
        let (levels, is_whole) = (agreed.levels, agreed.is_whole);
        // Where no route's text goes on with a stem, none is equal to a longer one.
        let stems = path::stems(levels).take_while(|stem| {
            self.from(path::loose(stem)).first().is_some_and(|(text, _)| begins(text, path::loose(stem)))
        });
        let above = prefixes(levels, self.segments_max).chain(stems).flat_map(|prefix| {
            self.from(below(prefix)).iter().take_while(move |(text, _)| text.iter().copied().eq(below(prefix)))
        });
        let inside =
            self.from(below(levels)).iter().take_while(move |(text, _)| !is_whole && begins(text, below(levels)));
        above.chain(inside).map(|(_, at)| *at)
    }

    /// The loose texts from `text` on.
    fn from(&self, text: impl Iterator<Item = u8> + Clone) -> &[(Vec<u8>, usize)] {
        let from = self.by_loose.partition_point(|(other, _)| other.iter().copied().lt(text.clone()));
        &self.by_loose[from..]
    }

    /// The first route of the file that `takes` the method, and whose prefix `path` begins with. `keeps` says which lengths of a prefix count.
    fn first(&self, path: &str, takes: impl Fn(usize) -> bool, keeps: impl Fn(usize) -> bool) -> Option<usize> {
        let prefixes = prefixes(path, self.segments_max).filter(|prefix| keeps(prefix.len()));
        let hits = prefixes.filter_map(|prefix| self.by_prefix.get(prefix));
        hits.filter_map(|hits| hits.iter().copied().find(|at| takes(*at))).min()
    }

    fn takes(&self, at: usize, method: &Method) -> bool {
        self.methods[at].is_empty() || self.methods[at].contains(method)
    }

    /// Whether some server would find this route by the method. Many take a HEAD for a GET.
    fn may_take(&self, at: usize, method: Option<&Method>) -> bool {
        method.is_none_or(|method| self.takes(at, method) || *method == Method::HEAD && self.takes(at, &Method::GET))
    }

    /// Whether every server would find this route by the method.
    fn surely_takes(&self, at: usize, method: Option<&Method>) -> bool {
        match method {
            None => self.methods[at].is_empty(),
            Some(&Method::HEAD) => self.takes(at, &Method::HEAD) && self.takes(at, &Method::GET),
            Some(method) => self.takes(at, method),
        }
    }

    fn route(&self, at: Option<usize>) -> &Arc<Route> {
        at.map_or(&self.default, |at| &self.configured[at])
    }

    /// All routes, the default first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Route>> {
        std::iter::once(&self.default).chain(&self.configured)
    }
}

/// Whether `method` is one that RFC 9110 or RFC 5789 defines.
fn is_standard(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET
            | Method::POST
            | Method::PUT
            | Method::DELETE
            | Method::HEAD
            | Method::OPTIONS
            | Method::PATCH
            | Method::CONNECT
            | Method::TRACE
    )
}

/// What the loose texts of all paths at or below `levels` begin with.
fn below(levels: &str) -> impl Iterator<Item = u8> + Clone {
    path::loose(levels).chain(std::iter::once(b'/'))
}

fn begins(text: &[u8], mut beginning: impl Iterator<Item = u8>) -> bool {
    let mut text = text.iter();
    beginning.all(|byte| text.next() == Some(&byte))
}

/// The path cut at its segments: `""`, `"/a"`, `"/a/b"`, … up to `segments_max` of them.
fn prefixes(path: &str, segments_max: usize) -> impl Iterator<Item = &str> {
    // Byte by byte: between two slashes there are too few of them for a search that looks at many at once.
    let slashes = path.bytes().enumerate().filter(|(_, byte)| *byte == b'/').map(|(at, _)| at);
    let ends = slashes.chain(std::iter::once(path.len()));
    ends.take(segments_max + 1).map(|end| &path[..end])
}

impl Table {
    /// `hosts` are lower-case names and the index of their routes.
    pub fn new(routes: Vec<Routes>, hosts: FxHashMap<String, usize>, default: Option<usize>) -> Table {
        let mut known: Vec<&str> = hosts.keys().map(String::as_str).collect();
        known.sort_unstable();
        let known = Arc::from(known.join(", "));
        Table { hosts, default, routes, known }
    }

    /// The routes of the upstream with this host name.
    pub fn by_name(&self, host: &str) -> Option<Found<'_>> {
        // Most names are in lower case already; only the others need a copy.
        let at = match self.hosts.get(host) {
            Some(at) => at,
            None if host.bytes().any(|b| b.is_ascii_uppercase()) => self.hosts.get(&host.to_ascii_lowercase())?,
            None => return None,
        };
        Some(Found { routes: &self.routes[*at], is_by_name: true })
    }

    /// The routes of the default upstream, if there is one.
    pub fn by_default(&self) -> Option<Found<'_>> {
        self.default.map(|at| Found { routes: &self.routes[at], is_by_name: false })
    }

    /// Every upstream's routes, in order of the file.
    pub fn all(&self) -> &[Routes] {
        &self.routes
    }
}

#[cfg(test)]
impl Table {
    /// Edits the policies of every upstream's default route, before anybody uses it: some have no key in the configuration.
    pub(crate) fn edit_policies(&mut self, edit: impl Fn(&mut call::Policies)) {
        for routes in &mut self.routes {
            edit(&mut Arc::get_mut(&mut routes.default).expect("it was just built").policies);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cut_at_whole_segments_only() {
        let cut = |path, max| prefixes(path, max).collect::<Vec<_>>();
        assert_eq!(cut("/", 2), ["", "/"]);
        assert_eq!(cut("/orders", 2), ["", "/orders"]);
        assert_eq!(cut("/orders/7/lines", 2), ["", "/orders", "/orders/7"]);
        assert_eq!(cut("*", 1), ["*"]);
    }
}
