//! From a parsed file to a [`Config`]: which keys there are, what each allows, and what applies when a key is not set.
//!
//! Each section of the file has a module of its own, with one function that reads the section key by key: a key's range and default stand in its
//! line. Checks between keys stand behind the reading of both. Nothing returns early: whatever is wrong, the rest of the file is read too.
//!
//! **Unset keys adapt to the ones you set.** A route or upstream that sets only `request = "500ms"` gets attempts of at most 500 ms and no fault,
//! because nothing in the file contradicts it. Only a key that is set can be wrong.

mod address;
mod breaker;
mod budget;
mod drain;
mod limits;
mod listen;
mod log;
mod policies;
mod pool;
mod retry;
mod routes;
mod timeouts;
mod units;
mod upstreams;

use super::fault::{Collector, quoted};
use super::file::{Key, Settled, Table};
use super::settings::Config;
use upstreams::UpstreamDraft;

/// Reads the outermost table of a file.
pub(super) fn read(root: &mut Table<'_>) -> Config {
    let listen = root.section("listen", listen::read);
    let drain = root.section("drain", drain::read);
    let log = root.section("log", log::read);
    let replay_memory_bytes_max = root.section("replay", |table| listen.read_replay(table));
    let upstreams = root.sections("upstreams", |name, table| UpstreamDraft::read(name, table, &listen));
    let example = r#"[upstreams.NAME] with endpoints = ["host:port"]"#;
    let upstreams = match upstreams.written() {
        Some((none, place)) if none.is_empty() => {
            root.faults.add_relation(place, format!("names no upstream (write {example})"));
            upstreams.settle(Vec::new())
        }
        _ => upstreams.required(Vec::new(), example, root.faults),
    };
    upstreams::check_hosts_are_unique(&upstreams.value, root.faults);
    let default_upstream = root.text("default_upstream", "the name of an upstream", |text| Ok(text.to_owned()));
    let default_upstream = find_default(&default_upstream, &upstreams, root.faults);
    let upstreams = upstreams.value.into_iter().map(|upstream| upstream.settings).collect();
    Config { listen: listen.settings, drain, log, replay_memory_bytes_max, default_upstream, upstreams }
}

/// The index of the default upstream: the one that the file names, else the only one.
fn find_default(named: &Key<String>, upstreams: &Settled<Vec<UpstreamDraft>>, faults: &Collector<'_>) -> Option<usize> {
    let Some((name, place)) = named.written() else {
        return (upstreams.value.len() == 1).then_some(0);
    };
    let index = upstreams.value.iter().position(|upstream| *upstream.settings.name == **name);
    if index.is_none() && upstreams.is_written() {
        let known: Vec<&str> = upstreams.value.iter().map(|upstream| &*upstream.settings.name).collect();
        faults.add_relation(place, format!("{} is no upstream (there is {})", quoted(name), known.join(", ")));
    }
    index
}
