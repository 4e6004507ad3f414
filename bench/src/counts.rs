//! Instruction counts of hot functions and of a whole request, compared with bounds that are kept in the repository.
//!
//! Counts, not times: valgrind's counts are the same on an idle and on a loaded machine, so that a tolerance of 3 % gives no false alarms.
//! Callgrind is driven directly, and its totals of two runs are subtracted: that needs no symbols, no client requests (which are
//! unsafe code), and no second program that has to have the version of a library. Threads are counted apart, and the one with the work counts: what others
//! do ten times a second would hang on how long a run takes.
//!
//! Bounds depend on compiler and processor. After a change of either, run `make recount`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use lab::process::{Process, Signal};
use lab::proxy_log;

use crate::work;

/// The share by which a count may exceed its bound.
const TOLERANCE: f64 = 0.03;
/// The instructions by which it may exceed it besides, because one spilled register changes a small function.
const SLACK: f64 = 12.0;
/// A count below its bound by more than this share means that the bound should be written anew.
const LOOSE: f64 = 0.1;
/// Calls of a function in the two runs that are subtracted. There are so many that differences between starts, such as seeds of hash maps, do not matter.
const CALLS: [u32; 2] = [500, 20_500];
/// Requests in the two runs that are subtracted.
const REQUESTS: [u32; 2] = [300, 1_300];
/// The name of the whole request among the bounds.
const REQUEST: &str = "request";
/// Under valgrind everything takes fifty times as long.
const VALGRIND_MAX: Duration = Duration::from_secs(120);

/// Counts, and holds them against the bounds or writes them there; whether all of them hold.
///
/// # Errors
/// A sentence on what could not be done.
pub(crate) fn main(bounds: &Path, writes: bool, bin_dir: Option<&Path>) -> Result<bool, String> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        let text = "NO VALGRIND: instructions are not counted (apt-get install valgrind)";
        return if std::env::var_os("CI").is_some() {
            Err(text.to_owned())
        } else {
            eprintln!("bench: {text}");
            Ok(true)
        };
    }
    let bench = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let folder = bin_dir.or(bench.parent()).unwrap_or(Path::new("."));
    let mut counts = BTreeMap::new();
    for (name, _) in work::ALL {
        let totals = |times: u32| {
            let out = Out::new().map_err(|error| error.to_string())?;
            let mut command = callgrind(&bench, &out);
            command.args(["work", name, &times.to_string()]);
            out.collected(Process::spawn(name, command).map_err(|error| error.to_string())?)
        };
        counts.insert((*name).to_owned(), per_call(CALLS, totals)?);
    }
    counts
        .insert(REQUEST.to_owned(), per_call(REQUESTS, |requests| whole(&bench, &folder.join("outrigger"), requests))?);
    if writes {
        let text = serde_json::to_string_pretty(&counts).expect("numbers are JSON") + "\n";
        fs::write(bounds, text).map_err(|error| format!("{}: {error}", bounds.display()))?;
        return Ok(true);
    }
    let text = fs::read_to_string(bounds).map_err(|error| format!("{}: {error}", bounds.display()))?;
    let known: BTreeMap<String, u64> =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", bounds.display()))?;
    Ok(hold(&counts, &known, bounds))
}

/// Prints every count beside its bound; whether all hold.
fn hold(counts: &BTreeMap<String, u64>, bounds: &BTreeMap<String, u64>, file: &Path) -> bool {
    let mut holds = true;
    for (name, &count) in counts {
        let bound = bounds.get(name).copied();
        let word = verdict(count, bound);
        holds &= !matches!(word, Word::Exceeds | Word::Unbounded);
        println!(
            "{name:<38} {count:>7} of {:>7}  {}",
            bound.map_or_else(|| "–".to_owned(), |bound| bound.to_string()),
            word.text()
        );
    }
    for name in bounds.keys().filter(|name| !counts.contains_key(*name)) {
        println!("{name:<38} is in {} and is not counted any more", file.display());
        holds = false;
    }
    if !holds {
        let file = file.display();
        println!(
            "\nA count is above its bound by more than {} % and {SLACK} instructions. Either make it cheaper (callgrind_annotate shows where it",
            TOLERANCE * 100.0
        );
        println!(
            "goes), or say in the commit what the instructions buy and write the bounds anew: make recount (it changes {file})."
        );
        println!("Another compiler or processor is a reason too.");
    }
    holds
}

/// The verdict on a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Holds,
    Loose,
    Exceeds,
    Unbounded,
}

impl Word {
    fn text(self) -> &'static str {
        match self {
            Self::Holds => "",
            Self::Loose => "far below its bound, which should be written anew",
            Self::Exceeds => "EXCEEDS ITS BOUND",
            Self::Unbounded => "HAS NO BOUND",
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn verdict(count: u64, bound: Option<u64>) -> Word {
    let Some(bound) = bound.map(|bound| bound as f64) else { return Word::Unbounded };
    let count = count as f64;
    if count > bound * (1.0 + TOLERANCE) + SLACK {
        Word::Exceeds
    } else if count < bound * (1.0 - LOOSE) - SLACK {
        Word::Loose
    } else {
        Word::Holds
    }
}

/// Instructions by thread.
type Totals = BTreeMap<String, u64>;

/// What one more call adds to the total of the thread to which it adds most.
fn per_call(times: [u32; 2], totals: impl Fn(u32) -> Result<Totals, String>) -> Result<u64, String> {
    let [few, many] = times;
    let (more, less) = (totals(many)?, totals(few)?);
    let added = more.iter().map(|(thread, total)| total.saturating_sub(less.get(thread).copied().unwrap_or(0)));
    Ok(added.max().unwrap_or(0) / u64::from(many - few))
}

fn callgrind(program: &Path, out: &Out) -> Command {
    let mut command = Command::new("valgrind");
    let file = format!("--callgrind-out-file={}", out.0.join("out").display());
    command.args(["--tool=callgrind", "--separate-threads=yes", &file]).arg(program);
    command
}

/// A folder for what a run of callgrind writes, gone with this.
struct Out(PathBuf);

impl Out {
    fn new() -> io::Result<Out> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("outrigger-counts-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path)?;
        Ok(Out(path))
    }

    /// Waits for the end of a run and reads its totals, a file for each thread: `totals: 123456`.
    fn collected(&self, mut process: Process) -> Result<Totals, String> {
        process.wait(VALGRIND_MAX).map_err(|error| error.to_string())?;
        let files = fs::read_dir(&self.0).map_err(|error| format!("{}: {error}", self.0.display()))?;
        let mut totals = Totals::new();
        for file in files.flatten() {
            let text =
                fs::read_to_string(file.path()).map_err(|error| format!("{}: {error}", file.path().display()))?;
            if let Some(total) = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok()) {
                totals.insert(file.file_name().to_string_lossy().into_owned(), total);
            }
        }
        if totals.is_empty() { Err(format!("valgrind wrote no count{}", process.tail())) } else { Ok(totals) }
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        // What stays in a temporary folder does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The proxy's totals with one worker and so many requests, one after the other over one connection.
fn whole(bench: &Path, outrigger: &Path, requests: u32) -> Result<Totals, String> {
    let of = |error: &dyn std::fmt::Display| format!("a proxy of {requests} requests: {error}");
    let mut command = Command::new(bench);
    command.args(["origin", "--ports", "1"]);
    let mut origin = Process::spawn("origin", command).map_err(|error| of(&error))?;
    let endpoint = origin.wait_for("line with its port", VALGRIND_MAX, |line| {
        line.strip_prefix("origin listening on ")?.parse::<SocketAddr>().ok()
    });
    let endpoint = endpoint.map_err(|error| of(&error))?;
    let out = Out::new().map_err(|error| of(&error))?;
    let config = out.0.join("config.toml");
    fs::write(&config, config_text(endpoint)).map_err(|error| of(&error))?;
    let mut command = callgrind(outrigger, &out);
    command.arg("--config").arg(&config);
    let mut proxy = Process::spawn("outrigger", command).map_err(|error| of(&error))?;
    let address = proxy.wait_for("log line \"ready\"", VALGRIND_MAX, |line| {
        let line = proxy_log::Line::parse(line).filter(|line| line.message == "ready")?;
        line.text("app").parse::<SocketAddr>().ok()
    });
    let asked =
        address.map_err(|error| of(&error)).and_then(|address| ask(address, requests).map_err(|error| of(&error)));
    proxy.signal(Signal::TERM);
    let totals = out.collected(proxy);
    asked.and(totals)
}

fn config_text(endpoint: SocketAddr) -> String {
    format!(
        "[listen]\napp = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nworkers = 1\n[drain]\nsilence = \"0s\"\n[log]\nformat = \"json\"\n\
         [upstreams.backend]\nendpoints = [\"{endpoint}\"]\n"
    )
}

fn ask(address: SocketAddr, requests: u32) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(VALGRIND_MAX))?;
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    for _ in 0..requests {
        stream.write_all(b"GET /40 HTTP/1.1\r\nhost: backend\r\nuser-agent: bench\r\naccept: */*\r\n\r\n")?;
        bytes.clear();
        while !bytes.ends_with(&[b'o'; 40]) {
            match stream.read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => bytes.extend_from_slice(&piece[..read]),
            }
        }
        if !bytes.starts_with(b"HTTP/1.1 200 ") {
            return Err(io::Error::other("a response that is not 200"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_may_exceed_its_bound_by_a_little() {
        let check = |count: u64, bound: Option<u64>, expected: Word| {
            assert_eq!(verdict(count, bound), expected, "{count} {bound:?}");
        };
        check(10_312, Some(10_000), Word::Holds);
        check(10_313, Some(10_000), Word::Exceeds);
        check(112, Some(100), Word::Holds);
        check(116, Some(100), Word::Exceeds);
        check(8_988, Some(10_000), Word::Holds);
        check(8_987, Some(10_000), Word::Loose);
        check(1, None, Word::Unbounded);
    }

    #[test]
    fn what_has_no_bound_or_no_count_fails() {
        let one = |name: &str| BTreeMap::from([(name.to_owned(), 100)]);
        assert!(hold(&one("a"), &one("a"), Path::new("counts.json")));
        assert!(!hold(&one("a"), &one("b"), Path::new("counts.json")));
    }

    #[test]
    fn what_one_call_takes_knows_nothing_of_start_and_end() {
        let totals = |times: u32| {
            let thread = |name: &str, total: u64| (name.to_owned(), total);
            Ok(Totals::from([thread("start", 90_000), thread("work", 5_000 + 7 * u64::from(times))]))
        };
        assert_eq!(per_call([10, 30], totals), Ok(7));
    }
}
