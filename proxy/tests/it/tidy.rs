//! The style guide as a test: one rule, one test, with every offence listed.
//!
//! A rule is a function over the files of the workspace. It also says how many places it looked at: a rule that finds nothing to look at
//! has lost its way, and fails. Each one is proved by a snippet that breaks it. What is allowed to break a rule stands in
//! [`EXCEPTIONS`] with its reason, and an exception that is no longer needed fails too.

use std::collections::{BTreeMap, BTreeSet};

mod source;

use source::{Source, is_word, paths, word_starts, workspace};

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;
const PARAMETERS_MAX: usize = 5;

/// Rule, place, reason.
const EXCEPTIONS: &[(&str, &str, &str)] =
    &[("function length", "proxy/src/metrics.rs: new", "a table: each family once, one after the other")];

/// Which module of the proxy names which, from the top of the house down; `http`'s rooms apart. A line is the whole truth about its module: an edge that is not
/// here fails, and so does one that is no longer there.
const EDGES: &[(&str, &[&str])] = &[
    ("main", &["app", "config", "log", "ready"]),
    ("ready", &["clock"]),
    (
        "app",
        &[
            "admin",
            "clock",
            "config",
            "events",
            "http::client",
            "http::server",
            "listeners",
            "live",
            "metrics",
            "names",
            "reload",
            "shared",
            "worker",
        ],
    ),
    ("admin", &["clock", "events", "listeners", "metrics", "route", "shared", "upstream"]),
    ("reload", &["clock", "config", "events", "live", "names", "shared"]),
    ("worker", &["clock", "events", "http::client", "http::io", "http::server", "lane", "live", "route", "shared"]),
    ("http::server", &["clock", "events", "exchange", "http::headers", "http::io", "worker"]),
    (
        "exchange",
        &[
            "clock",
            "config",
            "error",
            "events",
            "http::body",
            "http::client",
            "http::conn",
            "http::headers",
            "http::io",
            "http::problem",
            "http::server",
            "lane",
            "route",
            "upstream",
            "worker",
        ],
    ),
    ("names", &["clock", "config", "events", "live", "shared", "upstream"]),
    ("events", &["clock", "config", "log", "route", "shared"]),
    ("shared", &["http::body", "live", "metrics"]),
    ("lane", &["events", "metrics", "route"]),
    ("live", &["config", "metrics", "route", "upstream"]),
    ("route", &["config", "metrics", "upstream"]),
    ("http::client", &["clock", "config", "error", "http::conn", "http::io", "upstream"]),
    ("http::conn", &["error", "http::body", "http::io", "upstream"]),
    ("http::problem", &["clock", "error"]),
    ("http::body", &["clock", "http::io"]),
    ("http::headers", &["clock", "error"]),
    ("http::io", &[]),
    ("upstream", &["config", "metrics"]),
    ("log", &["config"]),
    ("listeners", &["config"]),
    ("config", &[]),
    ("error", &[]),
    ("metrics", &[]),
    ("clock", &[]),
];

/// Modules that know each other, in a ring or directly. A worker serves connections, a connection runs exchanges, an exchange uses its worker's pool.
const KNOTS: &[&[&str]] = &[&["exchange", "http::server", "worker"]];

/// What only `events.rs` does, but for a route's counts, the families themselves and the gauges that mirror a state.
const COUNTS: &[&str] = &[".inc()", ".inc_by(", ".observe(", ".with_label_values("];
const LOGS: &[&str] = &["trace!(", "debug!(", "info!(", "warn!(", "error!(", "event!(", "span!("];
const PRINTS: &[&str] = &["println!(", "print!(", "eprintln!(", "eprint!(", "dbg!("];
/// Only the clock reads these.
const CLOCKS: &[&str] =
    &["Instant::now", "SystemTime::now", "thread::sleep", "rand::rng(", "rand::random", "thread_rng"];
/// Who may ask for the time of day, which can be set back and forth: for what people read, and for dates in headers. Every wait is measured by the other clock.
const WALL: &[&str] =
    &["proxy/src/admin/status.rs", "proxy/src/events.rs", "proxy/src/http/headers.rs", "proxy/src/http/problem.rs"];
/// Nothing of the world reaches the policies.
const WORLD: &[&str] =
    &["std::thread", "std::net", "std::fs", "std::io", "std::env", "std::process", "std::time::SystemTime"];
/// Spelt apart, so that this file does not hold them.
const UNFINISHED: &[&str] =
    &[concat!("#[ig", "nore"), concat!("to", "do!("), concat!("unimple", "mented!("), concat!("FIX", "ME")];
const MACHINE_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/t", "mp/"), concat!("/ho", "me/")];

/// What a rule came to.
#[derive(Default)]
struct Finding {
    looked_at: usize,
    offences: Vec<String>,
}

impl Finding {
    fn look(&mut self, offences: impl IntoIterator<Item = String>) {
        self.looked_at += 1;
        self.offences.extend(offences);
    }
}

type Rule = fn(&[Source]) -> Finding;

/// The rule holds in the workspace, where it has at least `least` places to look at.
fn holds(name: &str, rule: Rule, least: usize) {
    let finding = rule(&workspace());
    assert!(finding.looked_at >= least, "{name}: looked at {} places only", finding.looked_at);
    let excused = |offence: &String| {
        EXCEPTIONS.iter().any(|(rule, place, _)| *rule == name && offence.starts_with(&format!("{place}: ")))
    };
    let offences: Vec<_> = finding.offences.iter().filter(|offence| !excused(offence)).collect();
    assert!(offences.is_empty(), "{name}:\n{offences:#?}");
    for (rule, place, _) in EXCEPTIONS.iter().filter(|(rule, ..)| *rule == name) {
        let is_needed = finding.offences.iter().any(|offence| offence.starts_with(&format!("{place}: ")));
        assert!(is_needed, "{rule}: {place} is excused for nothing");
    }
}

/// The rule finds `offences`, and no others, in files made up for it.
fn finds(rule: Rule, files: &[(&str, &str)], offences: &[&str]) {
    let sources: Vec<_> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
    assert_eq!(rule(&sources).offences, offences);
}

#[test]
#[should_panic(expected = "nothing: looked at 0 places only")]
fn a_rule_that_finds_nothing_to_look_at_fails() {
    holds("nothing", |_| Finding::default(), 1);
}

fn rust(sources: &[Source]) -> impl Iterator<Item = &Source> {
    sources.iter().filter(|source| source.is_rust())
}

/// The product's files under `folder`: no test modules of their own.
fn product<'s>(sources: &'s [Source], folder: &'s str) -> impl Iterator<Item = &'s Source> {
    let tests: Vec<String> = rust(sources).flat_map(Source::test_files).collect();
    let is_test = move |path: &str| {
        tests.iter().any(|test| path == format!("{test}.rs") || path.starts_with(&format!("{test}/")))
    };
    rust(sources).filter(move |source| source.path.starts_with(folder) && !is_test(&source.path))
}

fn heads(sources: &[Source]) -> Finding {
    let mut finding = Finding::default();
    for source in rust(sources) {
        finding.look((!source.text.starts_with("//! ")).then(|| format!("{}: does not begin with //!", source.path)));
    }
    finding
}

#[test]
fn every_file_begins_with_what_it_is() {
    holds("heads", heads, 60);
    finds(heads, &[("a.rs", "//! A.\n"), ("b.rs", "use std::fs;\n")], &["b.rs: does not begin with //!"]);
}

fn file_lengths(sources: &[Source]) -> Finding {
    let mut finding = Finding::default();
    for source in product(sources, "").filter(|source| !source.path.contains("/tests/")) {
        let lines = source.lines_without_tests();
        finding.look((lines > FILE_LINES_MAX).then(|| format!("{}: {lines} lines", source.path)));
    }
    finding
}

#[test]
fn no_file_is_long() {
    holds("file length", file_lengths, 60);
    let long = "\n".repeat(400) + "fn a() {}\n";
    let tested = "fn a() {}\n#[cfg(test)]\nmod tests {\n".to_owned() + &"\n".repeat(500) + "}\n";
    let files = [("src/a.rs", long.as_str()), ("src/b.rs", tested.as_str()), ("p/tests/c.rs", long.as_str())];
    finds(file_lengths, &files, &["src/a.rs: 401 lines"]);
}

fn function_lengths(sources: &[Source]) -> Finding {
    let mut finding = Finding::default();
    for source in rust(sources) {
        for function in source.functions() {
            let place =
                format!("{}: {}: {} lines in line {}", source.path, function.name, function.lines, function.line);
            finding.look((function.lines > FUNCTION_LINES_MAX).then_some(place));
        }
    }
    finding
}

#[test]
fn no_function_is_long() {
    holds("function length", function_lengths, 500);
    let long = format!("\nfn a() {{\n{}}}\nfn b() {{}}\n", "\n".repeat(69));
    finds(function_lengths, &[("a.rs", &long)], &["a.rs: a: 71 lines in line 2"]);
}

fn parameter_counts(sources: &[Source]) -> Finding {
    let mut finding = Finding::default();
    for source in rust(sources) {
        for function in source.functions() {
            let place = format!("{}: {}: {} parameters", source.path, function.name, function.parameters);
            finding.look((function.parameters > PARAMETERS_MAX).then_some(place));
        }
    }
    finding
}

#[test]
fn no_function_has_many_parameters() {
    holds("parameters", parameter_counts, 500);
    let code =
        "fn a(&self, b: M<u8, u8>, c: u8, d: u8, e: u8, f: u8) {}\nfn g(b: u8, c: u8, d: u8, e: u8, f: u8, h: u8) {}";
    finds(parameter_counts, &[("a.rs", code)], &["a.rs: g: 6 parameters"]);
}

fn clocks(sources: &[Source]) -> Finding {
    let mut finding = Finding::default();
    for source in product(sources, "proxy/").filter(|source| source.path != "proxy/src/clock.rs") {
        if source.path.contains("/src/") {
            let code = source.product_code();
            finding.look(CLOCKS.iter().flat_map(|call| source.places_in(&code, call)));
        }
    }
    finding
}

#[test]
fn only_the_clock_reads_time_and_chance() {
    holds("clocks", clocks, 40);
    let tested = "#[cfg(test)]\nmod tests {\nfn a() { Instant::now() }\n}\n#[cfg(test)]\nmod more;\n";
    let files = [
        ("proxy/src/a.rs", "// Instant::now\nfn a() { std::thread::sleep(b) }\nfn c() { rand::rng() }\n"),
        ("proxy/policy/src/b.rs", tested),
        ("proxy/policy/src/b/more.rs", "fn a() { Instant::now() }"),
        ("proxy/src/clock.rs", "fn a() { Instant::now() }"),
        ("client/src/a.rs", "fn a() { Instant::now() }"),
    ];
    finds(clocks, &files, &["proxy/src/a.rs:2: thread::sleep", "proxy/src/a.rs:3: rand::rng("]);
}

fn days(sources: &[Source]) -> Finding {
    let mut finding = Finding::default();
    let others = |source: &&Source| source.path != "proxy/src/clock.rs" && !WALL.contains(&source.path.as_str());
    for source in product(sources, "proxy/").filter(others) {
        if source.path.contains("/src/") {
            finding.look(source.places_in(&source.product_code(), "clock::wall"));
        }
    }
    finding
}

#[test]
fn a_clock_that_is_set_moves_nothing_but_dates() {
    holds("days", days, 40);
    let files = [
        ("proxy/src/a.rs", "fn a() { clock::wall() }"),
        ("proxy/src/events.rs", "fn a() { clock::wall() }"),
        ("proxy/src/b.rs", "#[cfg(test)]\nmod tests {\nfn a() { clock::wall() }\n}\n"),
    ];
    finds(days, &files, &["proxy/src/a.rs:1: clock::wall"]);
}

fn voices(sources: &[Source]) -> Finding {
    let mut finding = Finding::default();
    let crates = ["proxy/src/", "proxy/http1/src/", "proxy/policy/src/"];
    for source in crates.iter().flat_map(|folder| product(sources, folder)) {
        let code = source.product_code();
        let (may_count, may_log, may_print) = match source.path.as_str() {
            "proxy/src/events.rs" => (true, true, false),
            // What a route's requests count, worker by worker.
            "proxy/src/lane.rs" => (true, false, false),
            // The families themselves, and the gauges that mirror a state.
            "proxy/src/metrics.rs" | "proxy/src/admin/status.rs" => (true, false, false),
            "proxy/src/main.rs" => (false, false, true),
            _ => (false, false, false),
        };
        let banned = [(may_count, COUNTS), (may_log, LOGS), (may_print, PRINTS)];
        let banned = banned.into_iter().filter(|(may, _)| !may).flat_map(|(_, calls)| calls);
        finding.look(banned.flat_map(|call| source.places_in(&code, call)));
    }
    finding
}

#[test]
fn only_events_counts_and_logs() {
    holds("voices", voices, 40);
    let files = [
        (
            "proxy/src/a.rs",
            "fn a() {\n warn!(\"b\"); c.inc(); eprintln!(\"d\") }\n#[cfg(test)]\nmod t { fn a() { info!() } }\n",
        ),
        ("proxy/src/events.rs", "fn a() { warn!(\"b\"); c.inc(); }"),
        ("proxy/src/main.rs", "fn a() { eprintln!(\"b\") }"),
    ];
    let offences = ["proxy/src/a.rs:2: .inc()", "proxy/src/a.rs:2: warn!(", "proxy/src/a.rs:2: eprintln!("];
    finds(voices, &files, &offences);
}

fn purity(sources: &[Source]) -> Finding {
    let mut finding = Finding::default();
    for source in product(sources, "proxy/policy/src/") {
        let code = source.product_code();
        finding.look(WORLD.iter().flat_map(|module| source.places_in(&code, module)));
    }
    for source in sources.iter().filter(|source| source.path == "proxy/policy/Cargo.toml") {
        let section = source.text.split_once("\n[dependencies]\n").map_or("", |(_, rest)| rest);
        let lines = section.lines().take_while(|line| !line.starts_with('[')).filter(|line| !line.is_empty());
        let strangers = lines.filter(|line| !line.starts_with("rand"));
        finding.look(strangers.map(|line| format!("{}: depends on {line}", source.path)));
    }
    finding
}

#[test]
fn the_policies_use_nothing_but_std_and_rand() {
    holds("purity", purity, 10);
    let files = [
        ("proxy/policy/src/a.rs", "use std::fs;\n"),
        (
            "proxy/policy/Cargo.toml",
            "[package]\n\n[dependencies]\nrand.workspace = true\ntokio = \"1\"\n\n[dev-dependencies]\nx = 1\n",
        ),
    ];
    finds(purity, &files, &["proxy/policy/src/a.rs:1: std::fs", "proxy/policy/Cargo.toml: depends on tokio = \"1\""]);
}

/// The modules of the proxy and which others each of them names, `http`'s rooms apart.
fn edges(sources: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let mut edges = BTreeMap::new();
    for source in product(sources, "proxy/src/") {
        let file = source.path.trim_start_matches("proxy/src/").trim_end_matches(".rs");
        let here: Vec<String> = match file {
            "lib" => continue,
            file => file.split('/').map(str::to_owned).collect(),
        };
        let code = source.product_code();
        let ours = if file == "main" { "outrigger" } else { "crate" };
        let mut targets = paths(&code, ours);
        for path in paths(&code, "super") {
            let ups = 1 + path.iter().take_while(|segment| *segment == "super").count();
            targets.push(here[..here.len().saturating_sub(ups)].iter().chain(&path[ups - 1..]).cloned().collect());
        }
        let from = module(&here);
        let targets = targets.iter().map(|target| module(target)).filter(|target| *target != from);
        edges.entry(from.clone()).or_insert_with(BTreeSet::new).extend(targets);
    }
    edges
}

fn module(path: &[String]) -> String {
    match path {
        [http, room, ..] if http == "http" && room.starts_with(|c: char| c.is_ascii_lowercase()) => {
            format!("http::{room}")
        }
        [first, ..] => first.clone(),
        [] => String::new(),
    }
}

/// The groups of modules that reach each other.
fn rings(edges: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<Vec<&str>> {
    let in_ring = |module| {
        let others = reached(edges, module).into_iter().filter(|other| reached(edges, other).contains(module));
        let ring: Vec<&str> = others.collect();
        (!ring.is_empty()).then_some(ring)
    };
    edges.keys().filter_map(|module| in_ring(module.as_str())).collect()
}

/// Every module that `from` names, or one that it names does.
fn reached<'e>(edges: &'e BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<&'e str> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(module) = next.pop() {
        let targets = edges.get(module).into_iter().flatten().map(String::as_str);
        let new: Vec<&str> = targets.filter(|target| seen.insert(*target)).collect();
        next.extend(new);
    }
    seen
}

fn knots(sources: &[Source]) -> Finding {
    let mut finding = Finding::default();
    let found = edges(sources);
    let rings = rings(&found);
    finding.looked_at = found.len();
    let new = rings.iter().filter(|ring| !KNOTS.contains(&ring.as_slice()));
    finding.offences.extend(new.map(|ring| format!("{}: know each other", ring.join(", "))));
    let gone = KNOTS.iter().filter(|knot| !rings.contains(**knot));
    finding.offences.extend(gone.map(|knot| format!("{}: are no knot any more", knot.join(", "))));
    finding
}

#[test]
fn no_further_modules_know_each_other() {
    holds("knots", knots, 20);
    let files = [
        ("proxy/src/a.rs", "use crate::b;"),
        ("proxy/src/b.rs", "use crate::{c, d};"),
        ("proxy/src/c.rs", "use crate::a;"),
        ("proxy/src/d.rs", "use crate::e;"),
    ];
    let offences = ["a, b, c: know each other", "exchange, http::server, worker: are no knot any more"];
    finds(knots, &files, &offences);
}

fn imports(sources: &[Source]) -> Finding {
    let mut finding = Finding::default();
    let found = edges(sources);
    let empty = BTreeSet::new();
    for (from, targets) in &found {
        let allowed = EDGES.iter().find(|(module, _)| module == from).map_or(&[][..], |(_, targets)| targets);
        let new = targets.iter().filter(|target| !allowed.contains(&target.as_str()));
        finding.look(new.map(|target| format!("{from}: must not import {target}")));
    }
    for (from, allowed) in EDGES {
        let targets = found.get(*from).unwrap_or(&empty);
        let gone = allowed.iter().filter(|target| !targets.contains(**target));
        finding.look(gone.map(|target| format!("{from}: no longer imports {target}")));
    }
    finding
}

#[test]
fn modules_import_only_what_the_table_allows() {
    holds("imports", imports, 40);
    let files = [
        ("proxy/src/error.rs", "use crate::{clock::now, log};\n#[cfg(test)]\nmod tests { use crate::app; }\n"),
        ("proxy/src/http/io.rs", "use super::client::Conn; use super::super::live;"),
    ];
    let found = edges(&files.map(|(path, text)| Source::new(path, text)));
    let found: Vec<_> =
        found.iter().map(|(from, to)| (from.as_str(), to.iter().map(String::as_str).collect::<Vec<_>>())).collect();
    assert_eq!(found, [("error", vec!["clock", "log"]), ("http::io", vec!["http::client", "live"])]);
    let finding = imports(&[Source::new("proxy/src/error.rs", "use crate::clock;")]);
    assert!(finding.offences.contains(&"error: must not import clock".to_owned()), "{:?}", finding.offences);
    assert!(finding.offences.contains(&"main: no longer imports app".to_owned()));
}

fn leftovers(sources: &[Source]) -> Finding {
    let mut finding = Finding::default();
    for source in rust(sources) {
        finding.look(UNFINISHED.iter().flat_map(|word| source.places_in(&source.words, word)));
    }
    finding
}

#[test]
fn nothing_is_left_unfinished_or_switched_off() {
    holds("leftovers", leftovers, 60);
    let [switched_off, later, never, note] = UNFINISHED else { panic!("four words") };
    let text = format!(
        "{switched_off}]\nfn a() {{ {later}) }}\nfn b() {{ {never}) }}\n// {note}\nconst C: &str = \"{note}\";\n"
    );
    let offences =
        [(1, switched_off), (2, later), (3, never), (4, note)].map(|(line, word)| format!("a.rs:{line}: {word}"));
    finds(leftovers, &[("a.rs", &text)], &offences.each_ref().map(String::as_str));
}

fn policy_pages(sources: &[Source]) -> Finding {
    let mut finding = Finding::default();
    let pages: String = sources
        .iter()
        .filter(|source| source.path.starts_with("docs/policies/"))
        .map(|page| page.text.as_str())
        .collect();
    for source in sources.iter().filter(|source| source.path == "proxy/policy/src/lib.rs") {
        for line in source.product_code().lines() {
            let Some(name) = line.trim_start_matches("pub ").strip_prefix("mod ") else { continue };
            let file = format!("proxy/policy/src/{}.rs", name.trim_end_matches(';'));
            finding.look((!pages.contains(&file)).then(|| format!("{file}: no page names it")));
        }
    }
    finding
}

#[test]
fn every_policy_has_its_page() {
    holds("pages", policy_pages, 9);
    let files = [
        ("proxy/policy/src/lib.rs", "//! X.\npub mod hedge;\nmod window;\n"),
        ("docs/policies/breaker.md", "Code: `proxy/policy/src/window.rs`\n"),
    ];
    finds(policy_pages, &files, &["proxy/policy/src/hedge.rs: no page names it"]);
}

fn machine_paths(sources: &[Source]) -> Finding {
    let mut finding = Finding::default();
    for source in sources {
        let ends_a_path = |at: usize| {
            at > 0 && (is_word(source.text.as_bytes()[at - 1]) || b"-.".contains(&source.text.as_bytes()[at - 1]))
        };
        let places = MACHINE_PATHS.iter().flat_map(|path| word_starts(&source.text, path).map(move |at| (at, path)));
        let places = places.filter(|(at, _)| !ends_a_path(*at));
        finding.look(places.map(|(at, path)| format!("{}:{}: {path}", source.path, source.line(at))));
    }
    finding
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    holds("machine paths", machine_paths, 150);
    let path = MACHINE_PATHS[0];
    let text = format!("a\nsee {path}b and docs{path}c\n");
    finds(machine_paths, &[("a.md", &text)], &[&format!("a.md:2: {path}")]);
}

fn line_ends(sources: &[Source]) -> Finding {
    let mut finding = Finding::default();
    for source in sources {
        let is_blank_at_end = |line: &str| line.ends_with([' ', '\t', '\r']);
        let lines = source.text.split('\n').enumerate().filter(|(_, line)| is_blank_at_end(line));
        finding.look(lines.map(|(at, _)| format!("{}:{}: white space at the end", source.path, at + 1)));
    }
    finding
}

#[test]
fn no_line_ends_in_white_space() {
    holds("line ends", line_ends, 150);
    finds(line_ends, &[("a.toml", "a = 1\nb = 2 \n")], &["a.toml:2: white space at the end"]);
}

fn safety(sources: &[Source]) -> Finding {
    let mut finding = Finding::default();
    for source in sources.iter().filter(|source| source.path.ends_with("Cargo.toml")) {
        let (section, line) = match source.path.as_str() {
            "Cargo.toml" => ("[workspace.lints.rust]", "unsafe_code = \"forbid\""),
            _ => ("[lints]", "workspace = true"),
        };
        let lines = source.text.lines().skip_while(|text| *text != section).skip(1);
        let is_there = lines.take_while(|text| !text.starts_with('[')).any(|text| text == line);
        finding.look((!is_there).then(|| format!("{}: no {line} in {section}", source.path)));
    }
    finding
}

#[test]
fn every_crate_forbids_unsafe_code() {
    holds("safety", safety, 6);
    let files = [
        ("Cargo.toml", "[workspace.lints.rust]\nunsafe_code = \"warn\"\n"),
        ("a/Cargo.toml", "[lints]\n\n[b]\nworkspace = true\n"),
    ];
    let offences = [
        "Cargo.toml: no unsafe_code = \"forbid\" in [workspace.lints.rust]",
        "a/Cargo.toml: no workspace = true in [lints]",
    ];
    finds(safety, &files, &offences);
}
