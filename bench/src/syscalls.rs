//! System calls per request of the proxy and its peers, by strace: a figure that does not depend on the load of the machine. Tracing makes everything slower,
//! so nothing else is measured meanwhile.

use std::collections::BTreeMap;
use std::iter;
use std::process::Command;
use std::time::Duration;

use lab::clock::{self, Deadline};
use lab::error::Error;
use lab::process::{Process, Signal};
use report::table::Table;

use crate::measure::Bench;
use crate::peers::Peer;
use crate::proc;
use crate::scenario::{PLAIN, Work};
use crate::setup::Setup;

/// How long calls are counted, within a load that lasts longer.
const TRACED: Duration = Duration::from_secs(2);
/// For the load to be under way.
const BEGINNING: Duration = Duration::from_millis(500);
/// For strace to write its table.
const TABLE_MAX: Duration = Duration::from_secs(20);

/// What calls of one kind are called by different programs.
const KINDS: &[(&str, &[&str])] = &[
    ("read", &["read", "readv", "recvfrom", "recvmsg"]),
    ("write", &["write", "writev", "sendto", "sendmsg"]),
    ("wait", &["epoll_wait", "epoll_pwait", "epoll_pwait2", "poll"]),
    ("epoll_ctl", &["epoll_ctl"]),
    ("futex", &["futex"]),
];

/// A row for each peer, as a table in Markdown.
///
/// # Errors
/// strace is not there, or a peer is not as it should be.
pub(crate) fn table(bench: &Bench) -> Result<String, Error> {
    let heads = KINDS.iter().map(|(kind, _)| *kind);
    let mut table = Table::new(1, iter::once("peer").chain(heads).chain(["other", "all"]));
    for peer in [Peer::Relay, Peer::Outrigger, Peer::Nginx, Peer::Haproxy, Peer::Envoy] {
        if peer.version(&bench.programs).is_err() {
            eprintln!("{}: NOT FOUND; the table goes on without it", peer.name().to_uppercase());
            continue;
        }
        let calls = per_request(bench, peer)?;
        let sum = |names: &[&str]| names.iter().filter_map(|name| calls.get(*name)).fold(0.0, |sum, calls| sum + calls);
        let all: f64 = calls.values().sum();
        let known: Vec<f64> = KINDS.iter().map(|(_, names)| sum(names)).collect();
        let other = (all - known.iter().sum::<f64>()).abs();
        let counts = known.into_iter().chain([other, all]).map(|count| format!("{count:.2}"));
        table.push(iter::once(peer.name().to_owned()).chain(counts));
    }
    Ok(table.markdown())
}

fn per_request(bench: &Bench, peer: Peer) -> Result<BTreeMap<String, f64>, Error> {
    let origin = bench.origin(Setup::Standard.endpoints())?;
    let running = peer.start(Setup::Standard, &bench.programs, &origin.addresses)?;
    let lasting = Bench { lasts: 4 * TRACED, ..bench.clone() };
    let case = crate::scenario::Case { name: String::new(), peer, setup: Setup::Standard, work: Work::Load(PLAIN) };
    let _load = lasting.start_load(&case, &PLAIN, &running, &origin)?;
    clock::pause(BEGINNING);
    let mut command = Command::new("strace");
    command.args(["-c", "-f"]);
    for pid in running.pid().map(proc::tree).unwrap_or_default() {
        command.args(["-p", &pid.to_string()]);
    }
    let mut strace = Process::spawn("strace", command)?;
    // From here on its calls are counted.
    let is_attached = || strace.stderr().iter().any(|line| line.contains("attached")).then_some(());
    if Deadline::after(TABLE_MAX).poll(is_attached).is_none() {
        return Err(Error::Unexpected(format!("strace did not attach to {}{}", peer.name(), strace.tail())));
    }
    let before = origin.stats()?.requests;
    clock::pause(TRACED);
    strace.signal(Signal::INT);
    #[expect(clippy::cast_precision_loss, reason = "requests of seconds are fewer than 2^53")]
    let requests = (origin.stats()?.requests - before) as f64;
    strace.wait(TABLE_MAX)?;
    let calls = parse(&strace.stderr());
    if calls.is_empty() || requests < 1.0 {
        return Err(Error::Unexpected(format!("strace saw nothing of {}{}", peer.name(), strace.tail())));
    }
    Ok(calls.into_iter().map(|(name, count)| (name, count / requests)).collect())
}

/// `% time  seconds  usecs/call  calls  [errors]  syscall`
fn parse(lines: &[String]) -> BTreeMap<String, f64> {
    let call = |line: &String| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[share, _, _, calls, .., name] = words.as_slice() else { return None };
        let is_row = share.parse::<f64>().is_ok() && name != "total";
        Some((name.to_owned(), calls.parse::<f64>().ok().filter(|_| is_row)?))
    };
    lines.iter().filter_map(call).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_from_the_table_of_strace() {
        let lines = [
            "% time     seconds  usecs/call     calls    errors syscall",
            "------ ----------- ----------- --------- --------- ----------------",
            " 55.00    0.050000           5     10000       12 recvfrom",
            " 45.00    0.040000           4      9000          writev",
            "100.00    0.090000           4     19000       12 total",
        ];
        let calls = parse(&lines.map(str::to_owned));
        assert_eq!(calls, BTreeMap::from([("recvfrom".to_owned(), 10_000.0), ("writev".to_owned(), 9_000.0)]));
    }
}
