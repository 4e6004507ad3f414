//! From a request to the policies that apply to it: host → upstream, then path and method → route.
//!
//! A host takes one hash look-up. Within an upstream the first route of the file that matches wins. The search does not walk the list: it looks up each prefix
//! of the path's segments and takes the earliest route among the hits, so that ten thousand routes cost as much as one.

use std::sync::Arc;

use http::Method;
use outrigger_policy::call;
use rustc_hash::FxHashMap;

use crate::config;
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
    segments_max: usize,
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

impl Routes {
    /// `configured` in order of the file.
    pub fn new(default: Arc<Route>, configured: Vec<(Pattern, Arc<Route>)>) -> Routes {
        let mut routes = Routes {
            default,
            configured: Vec::new(),
            methods: Vec::new(),
            by_prefix: FxHashMap::default(),
            segments_max: 0,
        };
        for (at, (pattern, route)) in configured.into_iter().enumerate() {
            let prefix = pattern.path_prefix.trim_end_matches('/');
            routes.segments_max = routes.segments_max.max(prefix.matches('/').count());
            routes.by_prefix.entry(prefix.to_owned()).or_default().push(at);
            routes.configured.push(route);
            routes.methods.push(pattern.methods);
        }
        routes
    }

    /// The first route of the file that matches, else the default.
    pub fn find(&self, path: &str, method: &Method) -> &Arc<Route> {
        if self.configured.is_empty() {
            return &self.default;
        }
        let first = prefixes(path, self.segments_max)
            .filter_map(|prefix| self.by_prefix.get(prefix))
            .filter_map(|hits| {
                hits.iter().find(|at| self.methods[**at].is_empty() || self.methods[**at].contains(method))
            })
            .min();
        first.map_or(&self.default, |at| &self.configured[*at])
    }

    /// All routes, the default first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Route>> {
        std::iter::once(&self.default).chain(&self.configured)
    }
}

/// The path cut at its segments: `""`, `"/a"`, `"/a/b"`, … up to `segments_max` of them.
fn prefixes(path: &str, segments_max: usize) -> impl Iterator<Item = &str> {
    let ends = path.match_indices('/').map(|(at, _)| at).chain(std::iter::once(path.len()));
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
