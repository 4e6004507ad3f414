//! The style guide as tests: one test for each rule, which lists every violation.
//!
//! A rule is a function over the files of the workspace. It also returns how many places it checked, because a rule that finds nothing to
//! check no longer works, and fails. A snippet that breaks it proves each rule. [`EXCEPTIONS`] lists the places that may break a
//! rule, with reasons; an exception that is no longer needed fails too.

mod imports;
mod source;

use source::{Source, workspace};

const FILE_LINES_MAX: usize = 400;

/// Rule, place, reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// Methods that count, and macros that log.
const COUNTS: &[&str] = &["inc", "inc_by", "observe", "with_label_values"];
const LOGS: &[&str] = &[
    "trace",
    "debug",
    "info",
    "warn",
    "error",
    "event",
    "span",
    "trace_span",
    "debug_span",
    "info_span",
    "warn_span",
    "error_span",
];
/// The files that may read the time of day, for people and for dates in headers. It can be set back and forth, so every wait uses the monotonic clock.
const WALL: &[&str] = &[
    "proxy/src/admin/status.rs",
    "proxy/src/downstream/h1/sending.rs",
    "proxy/src/downstream/problem.rs",
    "proxy/src/exchange/forward.rs",
    "proxy/src/telemetry/events.rs",
];
/// Names of `std` that the policies must not use. Neither they nor the HTTP/1 crate may read a clock.
const WORLD: &[&str] = &["thread", "net", "fs", "io", "env", "process", "SystemTime"];
/// Written in two parts, so that this file does not contain them.
const UNFINISHED: &[&str] = &[concat!("#[ig", "nore"), concat!("FIX", "ME")];
const MACHINE_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/t", "mp/"), concat!("/ho", "me/")];

/// The result of a rule.
#[derive(Default)]
struct Finding {
    looked_at: usize,
    violations: Vec<String>,
}

impl Finding {
    fn look(&mut self, violations: impl IntoIterator<Item = String>) {
        self.looked_at += 1;
        self.violations.extend(violations);
    }
}

type Rule = fn(&[Source]) -> Finding;

/// Checks that the rule holds in the workspace and checks at least `least` places there.
fn holds(name: &str, rule: Rule, least: usize) {
    let finding = rule(workspace());
    assert!(finding.looked_at >= least, "{name}: looked at {} places only", finding.looked_at);
    let excused = |violation: &String| {
        EXCEPTIONS.iter().any(|(rule, place, _)| *rule == name && violation.starts_with(&format!("{place}: ")))
    };
    let violations: Vec<_> = finding.violations.iter().filter(|violation| !excused(violation)).collect();
    assert!(violations.is_empty(), "{name}:\n{violations:#?}");
    for (rule, place, _) in EXCEPTIONS.iter().filter(|(rule, ..)| *rule == name) {
        let is_needed = finding.violations.iter().any(|violation| violation.starts_with(&format!("{place}: ")));
        assert!(is_needed, "{rule}: {place} is excused for nothing");
    }
}

/// Checks that the rule finds exactly these violations in made-up files.
fn finds(rule: Rule, files: &[(&str, &str)], violations: &[&str]) {
    let sources: Vec<_> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
    assert_eq!(rule(&sources).violations, violations);
}

#[test]
#[should_panic(expected = "nothing: looked at 0 places only")]
fn a_rule_that_finds_nothing_to_look_at_fails() {
    holds("nothing", |_| Finding::default(), 1);
}

fn rust(sources: &[Source]) -> impl Iterator<Item = &Source> {
    sources.iter().filter(|source| source.is_rust())
}

/// The product's files under `folder`: those below a `src/`, without test modules.
fn product<'s>(sources: &'s [Source], folder: &'s str) -> impl Iterator<Item = &'s Source> {
    let tests: Vec<String> = rust(sources).flat_map(test_files).collect();
    let is_test = move |path: &str| {
        tests.iter().any(|test| path == format!("{test}.rs") || path.starts_with(&format!("{test}/")))
    };
    let is_product = move |path: &str| path.starts_with(folder) && path.contains("src/") && !is_test(path);
    rust(sources).filter(move |source| is_product(&source.path))
}

/// The files that this one declares as modules for tests only, without their extension.
fn test_files(source: &Source) -> Vec<String> {
    let folder = source.path.trim_end_matches(".rs").trim_end_matches("/lib").trim_end_matches("/main");
    source.code.test_modules.iter().map(|name| format!("{folder}/{name}")).collect()
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
    for source in product(sources, "") {
        let lines = source.lines_without_tests();
        finding.look((lines > FILE_LINES_MAX).then(|| format!("{}: {lines} lines", source.path)));
    }
    finding
}

#[test]
fn no_file_is_long() {
    holds("file length", file_lengths, 60);
    let long = "\n".repeat(400) + "fn a() {}\n";
    let tested = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n".to_owned() + &"\n".repeat(500) + "}\n";
    let files = [("src/a.rs", long.as_str()), ("src/b.rs", tested.as_str()), ("p/tests/c.rs", long.as_str())];
    finds(file_lengths, &files, &["src/a.rs: 401 lines"]);
}

/// Clippy finds who reads the clock and who prints. Here it is seen to that nobody else is excused.
fn excuses(sources: &[Source]) -> Finding {
    let mut finding = Finding::default();
    for source in product(sources, "proxy/") {
        let is_excused = |lint: &str| match lint {
            "disallowed_methods" => source.path == "proxy/src/clock.rs",
            "print_stdout" | "print_stderr" => source.path.starts_with("proxy/src/cli/"),
            _ => true,
        };
        let strange = source.code.expected_lints.iter().filter(|lint| !is_excused(lint));
        finding.look(strange.map(|lint| format!("{}: expects {lint}", source.path)));
    }
    finding
}

#[test]
fn only_the_clock_reads_time_and_chance_and_only_the_command_line_prints() {
    holds("excuses", excuses, 40);
    let reads = "#[expect(clippy::disallowed_methods, reason = \"a\")]\nfn a() {}";
    let prints = "fn a() { #[allow(clippy::print_stdout, clippy::print_stderr)] b() }";
    let files = [
        ("proxy/src/a.rs", reads),
        ("proxy/src/clock.rs", reads),
        ("proxy/policy/src/lib.rs", "#![cfg_attr(test, expect(clippy::disallowed_methods))]"),
        ("proxy/src/cli/b.rs", prints),
        ("proxy/http1/src/c.rs", prints),
        ("client/src/d.rs", prints),
    ];
    let offences = [
        "proxy/src/a.rs: expects disallowed_methods",
        "proxy/http1/src/c.rs: expects print_stdout",
        "proxy/http1/src/c.rs: expects print_stderr",
    ];
    finds(excuses, &files, &offences);
}

fn days(sources: &[Source]) -> Finding {
    let mut finding = Finding::default();
    let others = |source: &&Source| source.path != "proxy/src/clock.rs" && !WALL.contains(&source.path.as_str());
    for source in product(sources, "proxy/").filter(others) {
        let asks = source.code.paths.iter().any(|path| path.ends_with(&["clock".to_owned(), "wall".to_owned()]));
        finding.look(asks.then(|| format!("{}: clock::wall", source.path)));
    }
    finding
}

#[test]
fn a_clock_that_is_set_moves_nothing_but_dates() {
    holds("days", days, 40);
    let files = [
        ("proxy/src/a.rs", "fn a() { clock::wall() }"),
        ("proxy/src/telemetry/events.rs", "fn a() { clock::wall() }"),
        ("proxy/src/b.rs", "#[cfg(test)]\nmod tests {\nfn a() { clock::wall() }\n}\n"),
    ];
    finds(days, &files, &["proxy/src/a.rs: clock::wall"]);
}

fn voices(sources: &[Source]) -> Finding {
    let mut finding = Finding::default();
    for source in product(sources, "proxy/") {
        let (may_count, may_log) = match source.path.as_str() {
            "proxy/src/telemetry/events.rs" => (true, true),
            // The counts of a route's requests per worker, the families themselves, and the gauges that mirror a state.
            "proxy/src/worker/handle.rs" | "proxy/src/telemetry/metrics.rs" | "proxy/src/admin/status.rs" => {
                (true, false)
            }
            _ => (false, false),
        };
        let counts = source.code.methods.iter().filter(|method| !may_count && COUNTS.contains(&method.as_str()));
        let logs = source.code.macros.iter().filter(|name| !may_log && LOGS.contains(&name.as_str()));
        finding.look(counts.chain(logs).map(|call| format!("{}: {call}", source.path)));
    }
    finding
}

#[test]
fn only_events_counts_and_logs() {
    holds("voices", voices, 40);
    let files = [
        ("proxy/src/a.rs", "fn a() {\n warn!(\"b\"); c.inc(); }\n#[cfg(test)]\nmod t { fn a() { info!() } }\n"),
        ("proxy/src/telemetry/events.rs", "fn a() { warn!(\"b\"); c.inc(); }"),
        ("proxy/http1/src/b.rs", "fn a() { tracing::debug!(\"b\") }"),
    ];
    finds(voices, &files, &["proxy/src/a.rs: inc", "proxy/src/a.rs: warn", "proxy/http1/src/b.rs: debug"]);
}

fn purity(sources: &[Source]) -> Finding {
    let mut finding = Finding::default();
    for source in product(sources, "proxy/policy/src/") {
        let strange =
            |path: &&Vec<String>| path[0] == "std" && path.iter().any(|segment| WORLD.contains(&segment.as_str()));
        let found = source.code.paths.iter().filter(strange);
        finding.look(found.map(|path| format!("{}: {}", source.path, path.join("::"))));
    }
    for source in sources.iter().filter(|source| source.path == "proxy/policy/Cargo.toml") {
        let Some((_, section)) = source.text.split_once("\n[dependencies]\n") else {
            finding.look([format!("{}: no [dependencies]", source.path)]);
            continue;
        };
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
        ("proxy/policy/src/a.rs", "use std::{fs, time::{Instant, SystemTime}};\n"),
        (
            "proxy/policy/Cargo.toml",
            "[package]\n\n[dependencies]\nrand.workspace = true\ntokio = \"1\"\n\n[dev-dependencies]\nx = 1\n",
        ),
    ];
    let offences = [
        "proxy/policy/src/a.rs: std::fs",
        "proxy/policy/src/a.rs: std::time::SystemTime",
        "proxy/policy/Cargo.toml: depends on tokio = \"1\"",
    ];
    finds(purity, &files, &offences);
}

fn leftovers(sources: &[Source]) -> Finding {
    let mut finding = Finding::default();
    for source in rust(sources) {
        let found = UNFINISHED.iter().flat_map(|word| source.text.match_indices(word).map(move |(at, _)| (at, word)));
        finding.look(found.map(|(at, word)| format!("{}:{}: {word}", source.path, source.line(at))));
    }
    finding
}

#[test]
fn nothing_is_left_unfinished_or_switched_off() {
    holds("leftovers", leftovers, 60);
    let [switched_off, note] = UNFINISHED else { panic!("two words") };
    let text = format!("{switched_off}]\nfn a() {{}}\n// {note}\n");
    let violations = [(1, switched_off), (3, note)].map(|(line, word)| format!("a.rs:{line}: {word}"));
    finds(leftovers, &[("a.rs", &text)], &violations.each_ref().map(String::as_str));
}

fn policy_pages(sources: &[Source]) -> Finding {
    let mut finding = Finding::default();
    let pages: String = sources
        .iter()
        .filter(|source| source.path.starts_with("docs/policies/"))
        .map(|page| page.text.as_str())
        .collect();
    for source in sources.iter().filter(|source| source.path == "proxy/policy/src/lib.rs") {
        for line in source.text.lines() {
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
        // A longer path may end like one of them.
        let is_inside =
            |at: usize| source.text[..at].ends_with(|before: char| before.is_alphanumeric() || "_-.".contains(before));
        let places = MACHINE_PATHS.iter().flat_map(|path| source.text.match_indices(path));
        let places = places.filter(|(at, _)| !is_inside(*at));
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
    let violations = [
        "Cargo.toml: no unsafe_code = \"forbid\" in [workspace.lints.rust]",
        "a/Cargo.toml: no workspace = true in [lints]",
    ];
    finds(safety, &files, &violations);
}
