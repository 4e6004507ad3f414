//! Compares the tables of the documentation with what they describe: `config.toml`, `metrics.rs`, `error.rs`, the words of `events.rs`.
//!
//! The module `config` proves that `config.toml` agrees with the code. So a page that agrees with `config.toml` agrees with the code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use outrigger::telemetry::metrics::Metrics;

const REFERENCE: &str = include_str!("../../../config.toml");
const METRICS: &str = include_str!("../../src/telemetry/metrics.rs");
const ERRORS: &str = include_str!("../../src/error.rs");
const EVENTS: &str = include_str!("../../src/telemetry/events.rs");
const H1: &str = include_str!("../../src/downstream/h1.rs");
/// The files that have the values of labels.
const WORDS: [&str; 6] = [
    EVENTS,
    H1,
    include_str!("../../src/telemetry/labels.rs"),
    include_str!("../../policy/src/breaker/types.rs"),
    include_str!("../../policy/src/outcome.rs"),
    include_str!("../../policy/src/retry.rs"),
];

const PAGES: [&str; 5] = ["balance", "breaker", "budget", "retry", "timeouts"];
const HEADINGS: [&str; 7] = [
    "What it protects from",
    "When it acts",
    "Keys",
    "States",
    "Metrics and log lines",
    "With other policies",
    "Pitfalls",
];
/// Keys whose value in the reference is an example: what applies, and what is allowed, in words.
const EXAMPLES: [(&str, &str, Option<&str>); 2] =
    [("endpoints", "must be given", None), ("hosts", "the upstream's name", Some("host names"))];
/// Words that no label ever has: the class of a response is never neutral.
const NEVER_SAID: [&str; 1] = ["neutral"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_limit_is_a_key_with_that_default_and_is_counted_where_it_says() {
    let page = read("docs/limits.md");
    let reference = reference();
    let families: Vec<&str> = METRICS.split('"').collect();
    let mut keys = 0;
    for row in rows(&page) {
        let [limit, default, key, _, counted] = &row[..] else { panic!("{row:?}") };
        for (at, key) in quoted(key).into_iter().enumerate() {
            let (table, name) = key.rsplit_once('.').expect("a key in a table");
            let (value, _) =
                reference.get(table).and_then(|table| table.get(name)).unwrap_or_else(|| panic!("no {key}"));
            keys += 1;
            // The page shows a ratio as a percentage, and the second key of a row in its second place.
            let shown = default.replace([' ', '\u{a0}'], "").replace("min", "m");
            let wanted = value.replace("0.2", "20%");
            let stands_alone = |at: usize| {
                let (before, behind) = (shown[..at].chars().next_back(), shown[at + wanted.len()..].chars().next());
                !before.is_some_and(|c| c.is_ascii_digit()) && !behind.is_some_and(|c| c.is_ascii_digit())
            };
            let is_shown = shown.match_indices(&wanted).any(|(at, _)| stands_alone(at));
            assert!(is_shown, "{limit}: {key} is {value}, not {default} ({at})");
        }
        for family in quoted(counted) {
            let family = family.split('{').next().unwrap_or(family);
            assert!(family.starts_with("process_") || families.contains(&family), "{limit}: no family {family}");
        }
    }
    assert!(keys >= 17, "{keys}");
}

fn policy_page(name: &str) -> String {
    read(&format!("docs/policies/{name}.md"))
}

/// The part of a page under `## heading`.
fn part<'p>(page: &'p str, heading: &str) -> &'p str {
    let rest = page.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no heading {heading}")).1;
    rest.split("\n## ").next().unwrap_or(rest)
}

/// The rows of the tables in `text`, cell by cell, without heads and rulers.
fn rows(text: &str) -> Vec<Vec<String>> {
    let mut lines = text.lines().peekable();
    let mut rows = Vec::new();
    while let Some(line) = lines.next() {
        let is_head = lines.peek().is_some_and(|next| next.starts_with("|---"));
        if line.starts_with("| ") && !is_head {
            let cells = line.trim_matches('|').split('|');
            rows.push(cells.map(|cell| cell.trim().to_owned()).collect());
        }
    }
    rows
}

fn bare(cell: &str) -> String {
    cell.replace('`', "")
}

/// The words in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The default and the range of a key.
type Setting = (String, String);

/// The tables of the reference with the settings of their keys; upstreams are called NAME.
fn reference() -> BTreeMap<String, BTreeMap<String, Setting>> {
    let mut tables: BTreeMap<String, BTreeMap<String, Setting>> = BTreeMap::new();
    let mut table = String::new();
    let mut ranges = BTreeMap::new();
    for line in REFERENCE.lines().filter(|line| !line.starts_with('#')) {
        if let Some(header) = line.strip_prefix('[') {
            let header = header.split(']').next().unwrap_or(header);
            table = header.replace("upstreams.backend", "upstreams.NAME");
        } else if let Some((key, rest)) = line.split_once(" = ") {
            let (value, comment) = rest.split_once('#').unwrap_or((rest, ""));
            // The second breaker leaves out what the comments of the first one say.
            let inherited = ranges.get(key).cloned();
            let range = range(value.trim(), comment).or(inherited).unwrap_or_default();
            ranges.insert(key, range.clone());
            let example = EXAMPLES.iter().find(|(example, ..)| *example == key);
            let default = example.map_or_else(|| value.trim().replace('"', ""), |(_, words, _)| (*words).to_owned());
            let range = example.and_then(|(_, _, words)| *words).map_or(range, str::to_owned);
            tables.entry(table.clone()).or_default().insert(key.to_owned(), (default, range));
        }
    }
    tables
}

/// "10ms to 1h" out of a comment that begins so.
fn range(value: &str, comment: &str) -> Option<String> {
    if matches!(value, "true" | "false") {
        return Some("true or false".to_owned());
    }
    let words: Vec<&str> =
        comment.split_whitespace().take(4).map(|word| word.trim_end_matches([':', ',', '.'])).collect();
    let is_number = |word: &str| word.starts_with(|c: char| c.is_ascii_digit());
    match words[..] {
        [low, "to", high, ..] if is_number(low) && is_number(high) => Some(format!("{low} to {high}")),
        ["above", low, "to", high] if is_number(low) => Some(format!("above {low} to {high}")),
        _ => None,
    }
}

/// The tables under `### ` headings of a page's keys: which tables of the reference each is about, and its rows.
fn keys_tables(page: &str) -> Vec<(Vec<String>, Vec<Vec<String>>)> {
    let keys = part(page, "Keys");
    let sections = keys.split("### ").skip(1);
    let about =
        |heading: &str| quoted(heading).iter().map(|name| name.trim_matches(['[', ']']).to_owned()).collect::<Vec<_>>();
    sections.map(|section| (about(section.lines().next().unwrap_or("")), rows(section))).collect()
}

#[test]
fn each_policy_page_has_the_same_headings_in_the_same_order() {
    let folder = fs::read_dir(root().join("docs/policies")).expect("the folder is there");
    let mut found: Vec<String> =
        folder.map(|entry| entry.expect("readable").file_name().to_string_lossy().replace(".md", "")).collect();
    found.sort();
    assert_eq!(found, PAGES);
    for name in PAGES {
        let page = policy_page(name);
        let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(headings, HEADINGS, "{name}");
    }
}

#[test]
fn the_keys_tables_say_what_the_reference_says() {
    let reference = reference();
    let mut documented = BTreeSet::new();
    let mut differences = Vec::new();
    for name in PAGES {
        for (tables, rows) in keys_tables(&policy_page(name)) {
            let settings: Vec<_> = tables.iter().map(|table| &reference[table.as_str()]).collect();
            let listed: BTreeMap<String, Setting> = rows
                .iter()
                .map(|row| {
                    let [key, default, range, cost] = &row[..] else { panic!("{name}: {row:?}") };
                    assert!(!cost.is_empty(), "{name}: {key} costs nothing?");
                    (bare(key), (bare(default), range.clone()))
                })
                .collect();
            let keys: BTreeSet<&String> = settings.iter().flat_map(|settings| settings.keys()).collect();
            assert_eq!(listed.keys().collect::<BTreeSet<_>>(), keys, "{name}: {tables:?}");
            for key in keys {
                let mut defaults: Vec<&str> = settings.iter().map(|settings| settings[key].0.as_str()).collect();
                defaults.dedup();
                let expected = (defaults.join(" / "), settings[0][key].1.clone());
                if listed[key] != expected {
                    differences.push(format!("{name}: {key}: {:?} where {expected:?} applies", listed[key]));
                }
            }
            documented.extend(tables);
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
    let policies = reference.keys().filter(|table| table.starts_with("upstreams.") || *table == "replay");
    assert_eq!(documented.iter().collect::<Vec<_>>(), policies.collect::<Vec<_>>(), "each table has its page");
}

#[test]
fn a_range_is_read_from_the_beginning_of_a_comment() {
    for (value, comment, expected) in [
        ("3", " 1 to 10 in all", Some("1 to 10")),
        ("0.2", " 0 to 1: 80 to 100 % of it", Some("0 to 1")),
        ("0.5", " above 0 to 1: failures", Some("above 0 to 1")),
        ("true", " No connection", Some("true or false")),
        ("[\"a\"]", " What the app calls it", None),
    ] {
        assert_eq!(range(value, comment).as_deref(), expected, "{comment}");
    }
}

/// Name, type and labels of each family in the source of `metrics.rs`.
fn declared_families() -> BTreeMap<String, (String, Vec<String>)> {
    let kinds = [
        ("counters", "counter"),
        ("counter", "counter"),
        ("gauges", "gauge"),
        ("gauge", "gauge"),
        ("int_gauges", "gauge"),
        ("int_gauge", "gauge"),
        ("histograms", "histogram"),
    ];
    let mut families = BTreeMap::new();
    for (at, _) in METRICS.match_indices("make") {
        let Some(call) = METRICS[at + "make".len()..].trim_start().strip_prefix('.') else { continue };
        let Some((method, arguments)) = call.split_once('(') else { continue };
        let Some((_, kind)) = kinds.iter().find(|(name, _)| *name == method) else { continue };
        let mut literals = literals_until_close(arguments).into_iter();
        let name = format!("outrigger_{}", literals.next().expect("a name"));
        assert!(literals.next().is_some_and(|help| help.ends_with('.')), "{name}: help is a sentence");
        families.insert(name, ((*kind).to_owned(), literals.collect()));
    }
    families
}

/// The string literals up to the bracket that closes the one before `text`.
fn literals_until_close(text: &str) -> Vec<String> {
    let mut depth = 1;
    let mut literals = Vec::new();
    // Between the quotes code and literals alternate; no literal contains a quote.
    for (at, piece) in text.split('"').enumerate() {
        if at % 2 == 1 {
            literals.push(piece.to_owned());
            continue;
        }
        for c in piece.chars() {
            depth += i32::from(c == '(') - i32::from(c == ')');
            if depth == 0 {
                return literals;
            }
        }
    }
    literals
}

#[test]
fn the_page_of_metrics_lists_exactly_the_families_that_are_declared() {
    let declared = declared_families();
    let page = read("docs/metrics.md");
    let mut listed = BTreeMap::new();
    for row in rows(&page) {
        let [name, kind, labels, meaning] = &row[..] else { panic!("{row:?}") };
        assert!(meaning.ends_with('.'), "{name}: a meaning is a sentence");
        let labels = quoted(labels).into_iter().map(str::to_owned).collect();
        assert!(listed.insert(bare(name), (kind.clone(), labels)).is_none(), "{name} is listed twice");
    }
    assert_eq!(listed, declared);
    // The families of a fresh registry prove that the source was read correctly.
    let mut text = Vec::new();
    Metrics::new().write_text(&mut text).expect("memory");
    let text = String::from_utf8(text).expect("text");
    let shown: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE outrigger_")?.split(' ').next()).collect();
    assert!(shown.len() >= 5, "{shown:?}");
    assert!(shown.iter().all(|name| declared.contains_key(&format!("outrigger_{name}"))), "{shown:?}");
}

/// The words on the right of a match arm, alone or first of several: `=> "closed"`, `=> ("idle", "")`.
fn words(source: &str) -> BTreeSet<&str> {
    let product = source.split("#[cfg(test)]").next().unwrap_or(source);
    let after_arrows = product.split("=> ").skip(1);
    let quoted = after_arrows.filter_map(|rest| rest.trim_start_matches('(').strip_prefix('"'));
    quoted.filter_map(|rest| rest.split('"').next()).filter(|word| !word.is_empty() && !word.contains(' ')).collect()
}

#[test]
fn every_word_of_a_label_is_explained() {
    let page = read("docs/metrics.md");
    let explained: BTreeSet<&str> = quoted(&page).into_iter().collect();
    let said: BTreeSet<&str> = WORDS.iter().flat_map(|source| words(source)).collect();
    assert!(said.len() >= 40, "only {} words were found", said.len());
    let missing: Vec<_> = said.iter().filter(|word| !explained.contains(*word) && !NEVER_SAID.contains(word)).collect();
    assert!(missing.is_empty(), "docs/metrics.md does not say what these mean: {missing:?}");
}

#[test]
fn the_page_of_errors_is_the_table_of_the_code() {
    let table = ERRORS.split_once("\ntable! {\n").expect("the table is there").1;
    let table = table.split("\n}\n").next().unwrap_or(table);
    let in_code: Vec<Vec<String>> = table
        .lines()
        .filter_map(|line| line.trim().split_once(": ")?.1.strip_suffix(';'))
        .map(|row| row.split(", ").map(|cell| cell.trim_matches('"').to_lowercase()).collect())
        .collect();
    assert!(in_code.len() >= 16, "{in_code:?}");
    let page = read("docs/errors.md");
    let on_page: Vec<Vec<String>> = rows(&page)
        .into_iter()
        .map(|row| {
            assert!(row.len() == 5 && !row[4].is_empty(), "{row:?}: say what to do");
            row[..4].iter().map(|cell| bare(cell)).collect()
        })
        .collect();
    assert_eq!(on_page, in_code);
}

/// The pages that these tests check.
fn pages() -> Vec<String> {
    let mut pages: Vec<String> =
        ["ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"].map(str::to_owned).into();
    for folder in ["docs", "docs/policies", "docs/decisions"] {
        let entries = fs::read_dir(root().join(folder)).expect("the folder is there");
        let names = entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned());
        pages.extend(names.filter(|name| name.ends_with(".md")).map(|name| format!("{folder}/{name}")));
    }
    pages
}

#[test]
fn every_link_and_every_path_leads_somewhere() {
    let (mut looked_at, mut dead) = (0, Vec::new());
    for name in pages() {
        let page = read(&name);
        let folder = root().join(&name).parent().expect("a page lies in a folder").to_owned();
        let links = page.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        let links = links.filter(|link| !link.is_empty() && !link.contains("://")).map(|link| folder.join(link));
        let tops = ["proxy/", "docs/", "backend/", "client/", "chaos/"];
        let named = quoted(&page).into_iter().filter(|word| tops.iter().any(|top| word.starts_with(top)));
        for path in links.chain(named.map(|path| root().join(path))) {
            looked_at += 1;
            if !path.exists() {
                dead.push(format!("{name}: {}", path.display()));
            }
        }
    }
    assert!(looked_at >= 50, "only {looked_at} links and paths were found");
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn decisions_are_numbered_without_gaps_and_have_the_same_parts() {
    let mut names: Vec<String> = pages().into_iter().filter(|name| name.starts_with("docs/decisions/")).collect();
    names.sort();
    assert!(names.len() >= 7, "{names:?}");
    for (at, name) in names.iter().enumerate() {
        let number = at + 1;
        let page = read(name);
        assert!(name.starts_with(&format!("docs/decisions/{number:04}-")), "{name} has not number {number}");
        assert!(page.starts_with(&format!("# {number}. ")), "{name}: its title begins with its number");
        let parts: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(parts, ["Problem", "Choice", "What it costs", "What would change our mind"], "{name}");
    }
}
