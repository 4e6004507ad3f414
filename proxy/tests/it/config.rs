//! Configuration files: each bad one has its exact message, each good one loads, and none can make the reader panic.
//!
//! `BLESS=1 cargo test -p outrigger --test it config` rewrites the expected messages, to be read in the diff.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use outrigger::config::{Config, Upstream};
use proptest::prelude::*;

const REFERENCE: &str = include_str!("../../../config.toml");
const MINIMAL: &str = "[upstreams.backend]\nendpoints = [\"127.0.0.1:5001\"]\n";

fn cases(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config_cases").join(folder);
    let entries = fs::read_dir(&folder).expect("the folder of cases is there");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    assert!(!paths.is_empty(), "no case in {}", folder.display());
    paths
}

fn faults(text: &str) -> String {
    Config::parse("config.toml", text).map_or_else(|faults| format!("{faults}\n"), |_| String::new())
}

fn upstream(text: &str) -> Upstream {
    let config = Config::parse("config.toml", text).unwrap_or_else(|faults| panic!("{text}\n{faults}"));
    config.upstreams.into_iter().next().expect("a configuration has an upstream")
}

#[test]
fn each_bad_file_is_told_all_that_is_wrong_with_it() {
    let (cases, bless) = (cases(""), std::env::var_os("BLESS").is_some());
    assert!(cases.len() >= 30, "only {} cases were found", cases.len());
    let mut differences = String::new();
    for path in cases {
        let said = faults(&fs::read_to_string(&path).expect("readable"));
        let expected_at = path.with_extension("stderr");
        if bless {
            fs::write(&expected_at, &said).expect("writable");
        }
        let expected = fs::read_to_string(&expected_at).unwrap_or_default();
        if said != expected || said.is_empty() {
            differences += &format!("{}\nexpected:\n{expected}said:\n{said}\n", path.display());
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn each_good_file_loads() {
    for path in cases("good") {
        if let Err(faults) = Config::load(&path) {
            panic!("{faults}");
        }
    }
}

#[test]
fn the_reference_says_exactly_what_applies_without_it() {
    assert_eq!(Config::parse("config.toml", REFERENCE), Config::parse("minimal", MINIMAL));
}

/// The reference with its commented-out routes written in.
fn reference_with_routes() -> String {
    let at = REFERENCE.find("# [[").expect("the reference shows a route");
    let (head, routes) = REFERENCE.split_at(at);
    head.to_owned() + &routes.lines().map(|line| line.trim_start_matches("# ").to_owned() + "\n").collect::<String>()
}

#[test]
fn the_route_of_the_reference_loads_and_differs_from_its_upstream_only_in_what_it_writes() {
    let upstream = upstream(&reference_with_routes());
    let [route] = &upstream.routes[..] else { panic!("one route is shown") };
    assert!(route.has_own_budget && route.has_own_breaker);
    assert_eq!(route.policies.timeouts.attempt, Duration::from_secs(2));
    assert_eq!(route.policies.timeouts.connect, upstream.policies.timeouts.connect);
    assert_eq!(route.policies.retry, upstream.policies.retry);
}

#[test]
fn every_key_that_is_read_stands_in_the_reference() {
    // The fault of an unknown key lists all keys that its table knows.
    let text = reference_with_routes();
    let mut section = String::new();
    let mut sections = 0;
    for (at, line) in text.lines().enumerate() {
        let is_header = line.starts_with('[');
        let is_first = at == 0;
        if !is_header && !is_first {
            continue;
        }
        if is_header {
            section = line[..=line.rfind(']').expect("a header ends")].to_owned();
        }
        sections += 1;
        let mut lines: Vec<&str> = text.lines().collect();
        lines.insert(if is_header { at + 1 } else { at }, "quux_zzzzzzzzzz = 1");
        let said = faults(&lines.join("\n"));
        let known = said.split_once("(known here: ").and_then(|(_, rest)| rest.split_once(')'));
        let known = known.unwrap_or_else(|| panic!("{section}: {said}")).0;
        for key in known.split(", ") {
            let path = format!("{}.{key}", section.trim_matches(['[', ']']));
            let is_section =
                text.lines().any(|line| line.trim_start_matches('[').starts_with(path.trim_start_matches('.')));
            let rest = text.lines().skip(if is_header { at + 1 } else { at });
            let is_key =
                rest.take_while(|line| !line.starts_with('[')).any(|line| line.starts_with(&format!("{key} = ")));
            assert!(is_section || is_key, "{section}: {key} is read, but is not in config.toml");
        }
    }
    assert_eq!(sections, 14, "the top, and each table");
}

#[test]
fn the_reference_names_the_ranges_that_hold() {
    let lines: Vec<&str> = REFERENCE.lines().collect();
    let replaced = |at: usize, with: &str| {
        let mut lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        let (key, _) = lines[at].split_once(" = ").expect("a key");
        lines[at] = format!("{key} = {with}");
        let place = format!("config.toml:{}: ", at + 1);
        let said = faults(&lines.join("\n"));
        said.lines().filter(|line| line.starts_with(&place)).collect::<Vec<_>>().join("\n")
    };
    let mut ranges = 0;
    let mut comments = std::collections::HashMap::new();
    for (at, line) in lines.iter().enumerate() {
        let Some((key, rest)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) else { continue };
        let (value, comment) = rest.split_once('#').unwrap_or((rest, ""));
        let is_text = value.starts_with('"');
        let beyond = match value.trim().trim_matches('"') {
            text if text.ends_with("iB") => "99999999999",
            text if is_text && text.ends_with(['s', 'm', 'h']) => "\"9999h\"",
            text if text.parse::<f64>().is_ok() => "999999999999",
            _ => continue,
        };
        // The second breaker refers to the comments of the first one above it.
        let comment = if comment.contains(" to ") { comment } else { comments.get(key).copied().unwrap_or(comment) };
        comments.insert(key, comment);
        let said = replaced(at, beyond);
        let range = said.split_once(" is not between ").unwrap_or_else(|| panic!("{line}: {said}")).1;
        let (low, high) = range.split_once(" and ").expect("a range has two ends");
        let high = high.split(' ').next().unwrap_or(high);
        let documented = format!("{low} to {high}");
        // A share of 0 has a message of its own.
        assert!(comment.contains(&documented), "{line}\n: the range is {documented}");
        for end in [low, high] {
            let end = if end.parse::<f64>().is_ok() { end.to_owned() } else { format!("\"{end}\"") };
            let said = replaced(at, &end);
            assert!(!said.contains("is not between"), "{said}");
        }
        ranges += 1;
    }
    assert_eq!(ranges, 63, "every number of the reference");
}

#[test]
fn the_default_limits_are_the_ones_of_the_http_reader() {
    let config = Config::parse("config.toml", MINIMAL).expect("loads");
    let default = outrigger_http1::parse::Limits::default();
    assert_eq!(config.upstreams[0].response, default);
    assert_eq!(config.listen.limits, outrigger_http1::parse::Limits { informational_responses: 0, ..default });
}

#[test]
fn unset_keys_adapt_to_the_ones_that_are_set() {
    let ms = Duration::from_millis;
    let with = |extra: &str| upstream(&format!("{MINIMAL}{extra}"));
    let lease = |breaker: Option<outrigger_policy::breaker::Config>| breaker.expect("enabled").probe_lease;

    let lowered = with("timeouts.request = \"500ms\"");
    let timeouts = lowered.policies.timeouts;
    assert_eq!((timeouts.request, timeouts.attempt, timeouts.connect), (ms(500), ms(500), ms(500)));
    assert_eq!((lease(lowered.policies.breaker), lease(lowered.endpoint_breaker)), (ms(5_500), ms(5_500)));

    let raised = with("timeouts = { request = \"5m\", attempt = \"1m\" }");
    assert_eq!((lease(raised.policies.breaker), lease(raised.endpoint_breaker)), (ms(305_000), ms(65_000)));

    let capped = with("retry.backoff_cap = \"5ms\"\nbreaker.open_cap = \"500ms\"");
    assert_eq!(capped.policies.retry.backoff.base, ms(5));
    assert_eq!(capped.policies.breaker.expect("enabled").open_base, ms(500));

    let heads = with("response.head_bytes_max = \"8KiB\"").response;
    assert_eq!((heads.head_bytes, heads.field_bytes, heads.first_line_bytes), (8_192, 8_192, 8_192));

    let drain = Config::parse("config.toml", &format!("[drain]\ntimeout = \"2s\"\n{MINIMAL}")).expect("loads").drain;
    assert_eq!(drain.grace, ms(2_000));
}

#[test]
fn a_route_takes_what_it_does_not_set_from_its_upstream() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config_cases/good/routes.toml");
    let upstream = upstream(&fs::read_to_string(path).expect("readable"));
    let [orders, reports, rest] = &upstream.routes[..] else { panic!("three routes are written") };
    let secs = Duration::from_secs;

    // The upstream's attempt of 2 s adapts to the route's request.
    assert_eq!(orders.policies.timeouts.attempt, secs(1));
    assert_eq!((orders.has_own_budget, orders.has_own_breaker), (true, false));
    assert_eq!(orders.policies.budget.floor_per_second, upstream.policies.budget.floor_per_second);
    assert_eq!(orders.policies.breaker, upstream.policies.breaker);
    assert_eq!(upstream.policies.breaker.expect("enabled").probe_lease, secs(60));

    // The lease of the upstream would not cover this route's requests.
    assert_eq!(reports.policies.breaker.expect("enabled").probe_lease, secs(605));
    assert_eq!(reports.policies.timeouts.attempt, secs(2));

    assert_eq!((rest.has_own_budget, rest.has_own_breaker), (false, true));
    assert_eq!(rest.policies.breaker, None);
    assert_eq!(rest.path_prefix, "/");
}

#[test]
fn a_breaker_outlasts_the_longest_route_that_shares_it() {
    let slow = "[[upstreams.backend.routes]]\nname = \"slow\"\ntimeouts = { request = \"10m\", attempt = \"4m\" }\n";
    let upstream = upstream(&format!("{MINIMAL}{slow}"));
    let lease = |breaker: Option<outrigger_policy::breaker::Config>| breaker.expect("enabled").probe_lease.as_secs();
    assert_eq!((lease(upstream.policies.breaker), lease(upstream.endpoint_breaker)), (605, 245));
    assert_eq!(upstream.routes[0].policies.breaker, upstream.policies.breaker);
}

#[test]
fn upstreams_stand_in_the_order_of_the_file_and_only_a_single_one_is_the_default() {
    let two = "[upstreams.b]\nendpoints = [\"a:1\"]\n[upstreams.a]\nendpoints = [\"a:1\"]\n";
    let config = Config::parse("config.toml", two).expect("loads");
    let names: Vec<&str> = config.upstreams.iter().map(|upstream| &*upstream.name).collect();
    assert_eq!((names, config.default_upstream), (vec!["b", "a"], None));
    let named = Config::parse("config.toml", &format!("default_upstream = \"a\"\n{two}")).expect("loads");
    assert_eq!(named.default_upstream, Some(1));
    assert_eq!(Config::parse("config.toml", MINIMAL).expect("loads").default_upstream, Some(0));
}

#[test]
fn a_file_that_is_not_there_is_one_fault() {
    let faults = Config::load(Path::new("/nowhere/config.toml")).expect_err("there is none");
    assert!(faults.to_string().starts_with("/nowhere/config.toml: cannot be read: no such file"), "{faults}");
}

/// Checks that `text` loads or has faults in well-formed lines.
fn check_any(text: &str) {
    if let Err(faults) = Config::parse("config.toml", text) {
        let printed = faults.to_string();
        assert!(faults.iter().count() >= 1, "{text}");
        assert_eq!(printed.lines().count(), faults.iter().count() + usize::from(faults.more() > 0), "{printed}");
        let is_placed = |line: &str| line.starts_with("config.toml:") || line.starts_with('…');
        assert!(printed.lines().all(is_placed), "{printed}");
    }
}

#[test]
fn a_file_cut_anywhere_never_panics() {
    let text = reference_with_routes();
    for (end, _) in text.char_indices() {
        check_any(&text[..end]);
    }
}

fn characters(range: std::ops::Range<usize>, text: &[char]) -> std::ops::Range<usize> {
    range.start.min(text.len())..range.end.min(text.len())
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in any::<String>()) {
        check_any(&text);
    }

    #[test]
    fn any_text_that_looks_like_toml_is_read_without_panic(
        parts in prop::collection::vec(prop::sample::select(vec![
            "[", "]", "[[", "]]", "{", "}", "=", ".", ",", "\n", " ", "\"", "'", "\"\"\"", "#", "-1", "1.5", "\"5s\"", "nan", "true",
            "upstreams", "backend", "routes", "retry", "statuses", "endpoints", "listen", "\"a:1\"", "1979-05-27", "\\u0000", "é",
        ]), 0..40),
    ) {
        check_any(&parts.concat());
    }

    #[test]
    fn a_mutilated_reference_loads_or_says_why_not(
        start in 0usize..9_000,
        length in 0usize..60,
        to in 0usize..9_000,
        kind in 0u8..3,
        noise in "[\\PC\n\"\\[\\]{}=.]{0,8}",
    ) {
        let mut text: Vec<char> = reference_with_routes().chars().collect();
        let range = characters(start..start + length, &text);
        let piece: Vec<char> = text[range.clone()].to_vec();
        match kind {
            0 => drop(text.drain(range)),
            1 => {
                let at = to.min(text.len());
                text.splice(at..at, piece);
            }
            _ => drop(text.splice(range, noise.chars())),
        }
        check_any(&text.iter().collect::<String>());
    }
}
