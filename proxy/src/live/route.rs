//! From a request to the policies that apply to it: host → upstream, then path and method → route.
//!
//! A host takes one hash look-up. Within an upstream the first route of the file that matches wins. The search does not walk the list: it looks up each prefix
//! of the path's segments and takes the earliest route among the hits, so that ten thousand routes cost as much as one. It follows the path's normal form; what
//! must hold however the endpoint reads the path asks [`Routes::every_reading`].

use std::sync::Arc;

use http::Method;
use outrigger_policy::call;
use rustc_hash::FxHashMap;

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
    /// Whether some of these routes, the default one included, sends nothing twice.
    pub has_single_attempts: bool,
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
}

impl Routes {
    /// `configured` in order of the file.
    pub fn new(default: Arc<Route>, configured: Vec<(Pattern, Arc<Route>)>) -> Routes {
        let mut routes = Routes {
            has_single_attempts: default.is_single_attempt(),
            default,
            configured: Vec::new(),
            methods: Vec::new(),
            by_prefix: FxHashMap::default(),
            by_loose: Vec::new(),
            segments_max: 0,
        };
        for (at, (pattern, route)) in configured.into_iter().enumerate() {
            let prefix = pattern.path_prefix.trim_end_matches('/');
            routes.segments_max = routes.segments_max.max(prefix.matches('/').count());
            routes.has_single_attempts |= route.is_single_attempt();
            routes.by_prefix.entry(prefix.to_owned()).or_default().push(at);
            routes.by_loose.push((below(RequestPath::new(prefix).agreed().levels).collect(), at));
            routes.configured.push(route);
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
        self.route(self.first(path.normal().as_str(), method))
    }

    /// Whether `says` holds for the route that each server, by its own reading of the path, would find.
    pub fn every_reading(&self, path: RequestPath<'_>, method: &Method, says: impl Fn(&Route) -> bool) -> bool {
        if self.configured.is_empty() {
            return says(&self.default);
        }
        let agreed = path.agreed();
        // Every reading matches this one, so none of them finds a later route.
        let last = self.first(agreed.kept, method);
        let mut earlier =
            self.reachable(&agreed).filter(|at| last.is_none_or(|last| *at < last) && self.takes(*at, method));
        says(self.route(last)) && earlier.all(|at| says(&self.configured[at]))
    }

    /// The routes that some reading of a path with this beginning may match: those of its prefixes, and those below it unless it is the whole path.
    fn reachable(&self, agreed: &Agreed<'_>) -> impl Iterator<Item = usize> {
        let (levels, is_whole) = (agreed.levels, agreed.is_whole);
        let above = prefixes(levels, self.segments_max).flat_map(|prefix| {
            let from = self.by_loose.partition_point(|(text, _)| text.iter().copied().lt(below(prefix)));
            self.by_loose[from..].iter().take_while(move |(text, _)| text.iter().copied().eq(below(prefix)))
        });
        let from = self.by_loose.partition_point(|(text, _)| text.iter().copied().lt(below(levels)));
        let inside = self.by_loose[from..].iter().take_while(move |(text, _)| !is_whole && begins(text, below(levels)));
        above.chain(inside).map(|(_, at)| *at)
    }

    /// The first route of the file whose prefix `path` begins with.
    fn first(&self, path: &str, method: &Method) -> Option<usize> {
        let hits = prefixes(path, self.segments_max).filter_map(|prefix| self.by_prefix.get(prefix));
        hits.filter_map(|hits| hits.iter().copied().find(|at| self.takes(*at, method))).min()
    }

    fn takes(&self, at: usize, method: &Method) -> bool {
        self.methods[at].is_empty() || self.methods[at].contains(method)
    }

    fn route(&self, at: Option<usize>) -> &Arc<Route> {
        at.map_or(&self.default, |at| &self.configured[at])
    }

    /// All routes, the default first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Route>> {
        std::iter::once(&self.default).chain(&self.configured)
    }
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
