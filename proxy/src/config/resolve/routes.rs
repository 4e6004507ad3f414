//! `[[upstreams.NAME.routes]]`: what they match, what they change, and whether they can ever be reached.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use http::Method;
use outrigger_policy::breaker;

use crate::config::fault::{Collector, is_name, quoted};
use crate::config::file::{Settled, Table};
use crate::config::settings::Route;
use crate::path::RequestPath;

use super::policies::{Base, Draft};

/// What metrics and logs call the requests of an upstream that none of its routes matches.
const DEFAULT_ROUTE: &str = "default";

/// A route before the breaker of its upstream is known.
pub(super) struct RouteDraft {
    name: Settled<String>,
    path_prefix: Settled<String>,
    methods: Settled<Vec<Method>>,
    pub(super) policies: Draft,
}

impl RouteDraft {
    pub(super) fn read(table: &mut Table<'_>, base: &Base) -> RouteDraft {
        let name = table.text("name", "a name", parse_name).required(String::new(), r#"name = "orders""#, table.faults);
        let path_prefix = table.text("path_prefix", "a path", parse_prefix).settle("/".to_owned());
        let methods = table.texts("methods", "a method", 1..=100, parse_method);
        let methods = methods.map(|items| items.into_iter().map(|item| item.value).collect()).settle(Vec::new());
        RouteDraft { name, path_prefix, methods, policies: Draft::read(table, base) }
    }

    /// The route; `shared` is the breaker of its upstream.
    pub(super) fn finish(self, shared: Option<breaker::Config>, faults: &Collector<'_>) -> Route {
        let policies = self.policies;
        let (has_own_budget, has_own_breaker) = (policies.has_own_budget, policies.has_own_breaker);
        let breaker =
            if has_own_breaker { policies.breaker.finish(&policies.timeouts.request, faults) } else { shared };
        Route {
            name: Arc::from(self.name.value),
            path_prefix: self.path_prefix.value,
            methods: self.methods.value,
            policies: policies.finish(breaker),
            has_own_budget,
            has_own_breaker,
        }
    }
}

/// Adds a fault for each route that has the name of an earlier one, or that an earlier one leaves nothing to match.
pub(super) fn check_each_is_reached(routes: &[RouteDraft], faults: &Collector<'_>) {
    let mut by_name: HashMap<&str, &RouteDraft> = HashMap::new();
    let mut by_prefix: HashMap<&str, Vec<&RouteDraft>> = HashMap::new();
    for route in routes {
        if route.name.is_written() {
            match by_name.entry(&route.name.value) {
                Entry::Occupied(earlier) => {
                    let line = faults.line(earlier.get().name.place.offset);
                    let message = format!("{} is also the route of line {line}", quoted(&route.name.value));
                    faults.add_relation(&route.name.place, message);
                }
                Entry::Vacant(free) => {
                    free.insert(route);
                }
            }
        }
        if route.path_prefix.is_wrong() || route.methods.is_wrong() {
            continue;
        }
        let prefix = route.path_prefix.value.trim_end_matches('/');
        let mut wider = ancestors(prefix).filter_map(|prefix| by_prefix.get(prefix)).flatten();
        if let Some(earlier) = wider.find(|earlier| covers(&earlier.methods.value, &route.methods.value)) {
            let (name, line) = (quoted(&earlier.name.value), faults.line(earlier.name.place.offset));
            let message = format!("never matches: the route {name} of line {line} takes all it could match");
            faults.add_relation(&route.name.place, message);
        }
        by_prefix.entry(prefix).or_default().push(route);
    }
}

/// The prefixes that match whatever `prefix` matches: `""`, `"/a"`, `"/a/b"` for `"/a/b"`.
fn ancestors(prefix: &str) -> impl Iterator<Item = &str> {
    let ends = prefix.match_indices('/').map(|(at, _)| at).chain(std::iter::once(prefix.len()));
    ends.map(|end| &prefix[..end])
}

/// Whether `wide` has each method of `narrow`; none listed means all.
fn covers(wide: &[Method], narrow: &[Method]) -> bool {
    wide.is_empty() || !narrow.is_empty() && narrow.iter().all(|method| wide.contains(method))
}

fn parse_name(text: &str) -> Result<String, String> {
    if text == DEFAULT_ROUTE {
        return Err(format!("{} is what metrics call requests that no route matches", quoted(text)));
    }
    let is_name = is_name(text).then(|| text.to_owned());
    is_name.ok_or_else(|| format!("{} is not 1 to 64 letters, digits, \"-\" and \"_\"", quoted(text)))
}

fn parse_prefix(text: &str) -> Result<String, String> {
    let found = quoted(text);
    if !text.starts_with('/') {
        return Err(format!("{found} does not begin with \"/\""));
    }
    let path = RequestPath::new(text);
    let normal = path.normal();
    let prefix = match normal.as_str().trim_end_matches('/') {
        "" => "/",
        prefix => prefix,
    };
    if text.len() > 1 && text.ends_with('/') {
        return Err(format!("{found} ends with \"/\" (a prefix is whole segments already: write {})", quoted(prefix)));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte)) {
        return Err(format!("{found} has characters that no path has (spaces, \"?\" and others are written %20, %3F)"));
    }
    if normal.as_str() != text {
        return Err(format!("{found} is not in normal form, so it would never match (write {})", quoted(prefix)));
    }
    if path.may_climb() {
        return Err(format!("{found} has a segment that some servers read as \"..\", so it is not one place"));
    }
    Ok(text.to_owned())
}

fn parse_method(text: &str) -> Result<Method, String> {
    let method = Method::from_bytes(text.as_bytes()).map_err(|_| format!("{} is not a method", quoted(text)))?;
    // Methods are case-sensitive (RFC 9110 §9.1): "get" would never match.
    let upper = text.to_ascii_uppercase();
    if upper == text { Ok(method) } else { Err(format!("{} is not a method (write {})", quoted(text), quoted(&upper))) }
}
