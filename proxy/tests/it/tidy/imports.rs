//! Checks the imports, file by file: no two files import each other in a circle, and no file of the proxy imports from a higher floor.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Source;
use super::{Finding, finds, holds, product};

/// The floors of `proxy/src/`, from the top down: a file imports from its own floor and from those below. A file stands on the floor that names it, or else the
/// closest folder that it lies in.
const FLOORS: &[&[&str]] = &[
    &["main", "cli"],
    &["app"],
    &["admin", "live::reload"],
    &["worker"],
    &["downstream::h1"],
    &["exchange"],
    &["worker::context", "worker::connections", "worker::handle"],
    &["shared"],
    &["live"],
    &["upstream"],
    &["downstream"],
    &["telemetry"],
    &["error", "config", "memory", "transport", "clock", "path"],
];

/// Files by their module path within a crate, and the files each of them names.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// The graph of every crate of the workspace.
fn graphs(sources: &[Source]) -> BTreeMap<String, Graph> {
    let mut files: BTreeMap<&str, Vec<&Source>> = BTreeMap::new();
    for source in product(sources, "") {
        if let Some(folder) = source.crate_folder() {
            files.entry(folder).or_default().push(source);
        }
    }
    files.into_iter().map(|(folder, files)| (folder.to_owned(), graph(&files))).collect()
}

fn graph(files: &[&Source]) -> Graph {
    let modules: BTreeSet<Vec<String>> = files.iter().map(|file| file.module()).collect();
    let mut graph = Graph::new();
    for file in files {
        let here = file.module();
        let is_program = here.first().is_some_and(|first| first == "main");
        let base = if is_program { Vec::new() } else { here.clone() };
        let targets = file.code.paths.iter().filter_map(|path| resolve(&base, path, &modules));
        let targets = targets.filter(|target| *target != here);
        graph.entry(name(&here)).or_default().extend(targets.map(|target| name(&target)));
    }
    graph
}

/// The file that `path`, named in module `here`, leads to.
fn resolve(here: &[String], path: &[String], modules: &BTreeSet<Vec<String>>) -> Option<Vec<String>> {
    let ups = path.iter().take_while(|segment| *segment == "super").count();
    let full = match path.first().map(String::as_str) {
        Some("crate") => path[1..].to_vec(),
        Some("self") => [here, &path[1..]].concat(),
        Some("super") => [&here[..here.len().checked_sub(ups)?], &path[ups..]].concat(),
        // A child, if there is a file of that name.
        Some(_) => {
            let child = [here, path].concat();
            return deepest(&child, modules).filter(|found| found.len() > here.len());
        }
        None => return None,
    };
    deepest(&full, modules)
}

fn deepest(path: &[String], modules: &BTreeSet<Vec<String>>) -> Option<Vec<String>> {
    (0..=path.len()).rev().map(|end| &path[..end]).find(|part| modules.contains(*part)).map(<[String]>::to_vec)
}

fn name(module: &[String]) -> String {
    if module.is_empty() { "lib".to_owned() } else { module.join("::") }
}

/// Every file that `from` names, or one that it names does.
fn reached<'g>(graph: &'g Graph, from: &str) -> BTreeSet<&'g str> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(file) = next.pop() {
        let targets = graph.get(file).into_iter().flatten().map(String::as_str);
        let new: Vec<&str> = targets.filter(|target| seen.insert(*target)).collect();
        next.extend(new);
    }
    seen
}

fn circles(sources: &[Source]) -> Finding {
    let mut finding = Finding::default();
    for (folder, graph) in graphs(sources) {
        let mut known = BTreeSet::new();
        for file in graph.keys() {
            let circle: Vec<&str> = reached(&graph, file)
                .into_iter()
                .filter(|other| reached(&graph, other).contains(file.as_str()))
                .collect();
            let is_new = !circle.is_empty() && known.insert(circle.clone());
            finding.look(is_new.then(|| format!("{folder}: {} import each other", circle.join(", "))));
        }
    }
    finding
}

#[test]
fn no_two_files_import_each_other_in_a_circle() {
    holds("circles", circles, 100);
    let files = [
        ("p/src/lib.rs", "mod a; mod b; mod c; mod d;"),
        ("p/src/a.rs", "mod inner; use self::inner::B;"),
        ("p/src/a/inner.rs", "use super::C;"),
        ("p/src/b.rs", "use crate::{c, d};"),
        ("p/src/c.rs", "use crate::d::D; #[cfg(test)] mod tests { use crate::b; }"),
        ("p/src/d.rs", "fn e() { crate::b::f() }"),
        ("q/src/main.rs", "mod g; use crate::g::H;"),
        ("q/src/g.rs", "use super::I;"),
    ];
    let violations = ["p/: a, a::inner import each other", "p/: b, c, d import each other"];
    finds(circles, &files, &violations);
}

fn floor(file: &str) -> Option<usize> {
    let stands = |name: &str| file == name || file.strip_prefix(name).is_some_and(|rest| rest.starts_with("::"));
    let names = FLOORS.iter().enumerate().flat_map(|(floor, names)| names.iter().map(move |name| (floor, *name)));
    names.filter(|(_, name)| stands(name)).max_by_key(|(_, name)| name.len()).map(|(floor, _)| floor)
}

fn climbs(sources: &[Source]) -> Finding {
    let mut finding = Finding::default();
    let graphs = graphs(sources);
    for (from, targets) in graphs.get("proxy/").into_iter().flatten().filter(|(from, _)| *from != "lib") {
        let Some(above) = floor(from) else {
            finding.look([format!("{from}: stands on no floor")]);
            continue;
        };
        let up = targets.iter().filter(|target| floor(target).is_some_and(|floor| floor < above));
        finding.look(up.map(|target| format!("{from}: imports {target}, which stands above it")));
    }
    finding
}

#[test]
fn no_import_runs_up_a_floor() {
    holds("climbs", climbs, 40);
    let files = [
        ("proxy/src/lib.rs", "pub mod app;"),
        ("proxy/src/main.rs", "mod cli;"),
        ("proxy/src/app.rs", "use crate::clock::now;"),
        ("proxy/src/clock.rs", "use crate::app::App;"),
        ("proxy/src/attic.rs", ""),
    ];
    finds(climbs, &files, &["attic: stands on no floor", "clock: imports app, which stands above it"]);
}
