//! What is bounded, at its bound: connections, descriptors and memory.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use lab::programs::{Backend, Programs, Proxy};
use report::run::Report;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::origin::{Origin, read_head, say};
use crate::stage::{Folder, Site, WAIT_MAX, cannot_run, check_none, config, programs, start_client, wait_until};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: backend\r\n\r\n";
/// Nearly as many as `listen.connections_max` allows by default; for more there are not descriptors enough where 20 000 is the hard limit.
const MANY: usize = 9_400;
/// What an idle connection may cost a build with debug assertions: its task and its place in the list; it has no buffers.
const BYTES_PER_CONNECTION_MAX: u64 = 10 * 1024;

/// Of a body: more than all buffers on its way hold.
const LARGE: usize = 16 * 1024 * 1024;

/// A connection of the app that is kept.
struct Kept(TcpStream);

impl Kept {
    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(WAIT_MAX)).expect("a socket");
        Self(stream)
    }

    /// One request over it; the status, or `None` if the connection has ended.
    fn ask(&mut self) -> Option<u16> {
        self.0.write_all(REQUEST).ok()?;
        self.response()
    }

    fn response(&mut self) -> Option<u16> {
        let (mut seen, mut byte) = (Vec::new(), [0]);
        while !seen.ends_with(b"\r\n\r\n") {
            match self.0.read(&mut byte) {
                Ok(1) => seen.push(byte[0]),
                _ => return None,
            }
        }
        let head = String::from_utf8_lossy(&seen).to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1)?.split("\r\n").next()?.parse().ok()?;
        self.0.read_exact(&mut vec![0; length]).ok()?;
        head.split(' ').nth(1)?.parse().ok()
    }
}

/// A proxy that may open so many descriptors.
fn proxy_with_descriptors(limit: u32, listen: &str, policies: &str) -> (Programs, Folder, Backend, Proxy) {
    proxy_after(&format!("ulimit -n {limit}"), listen, policies)
}

/// A proxy that the shell becomes after this command.
fn proxy_after(first: &str, listen: &str, policies: &str) -> (Programs, Folder, Backend, Proxy) {
    let (programs, folder) = (programs(), Folder::new());
    let backend = programs.backend(&[]).unwrap_or_else(|error| panic!("{error}"));
    let text =
        config(&format!("\"{}\"", backend.data), policies).replacen("[listen]\n", &format!("[listen]\n{listen}\n"), 1);
    let path = folder.write("config.toml", &text);
    let proxy = programs.command("outrigger", [OsStr::new("--config"), path.as_os_str()]);
    let mut command = Command::new("sh");
    command.env_clear().args(["-c", &format!("{first} && exec \"$@\""), "sh"]);
    command.arg(proxy.get_program()).args(proxy.get_args());
    let proxy = programs.proxy_by(command).unwrap_or_else(|error| panic!("{error}"));
    (programs, folder, backend, proxy)
}

/// A control group with so much memory, which is gone with its test.
struct Group(PathBuf);

impl Group {
    /// `None` if this machine lets nobody make one.
    fn with_memory(bytes: u64) -> Option<Group> {
        let name = format!("outrigger-it-{}", std::process::id());
        for (folder, limit) in [("memory", "memory.limit_in_bytes"), ("", "memory.max")] {
            let group = Group(Path::new("/sys/fs/cgroup").join(folder).join(&name));
            if fs::create_dir(&group.0).is_ok() && fs::write(group.0.join(limit), bytes.to_string()).is_ok() {
                return Some(group);
            }
        }
        None
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It can be removed only when the last process in it has ended, which takes a moment.
        wait_until("the end of the group", || !self.0.exists() || fs::remove_dir(&self.0).is_ok());
    }
}

fn closed(proxy: &Proxy, reason: &str) -> u64 {
    let metrics = proxy.metrics().expect("the admin port responds");
    metrics.count("outrigger_connections_closed_total", &[("reason", reason)])
}

#[test]
fn where_descriptors_are_few_so_are_the_places_and_one_too_many_is_told_so() {
    let (_programs, _folder, _backend, proxy) = proxy_with_descriptors(168, "connections_max = 100", "");
    let log = proxy.log();
    let told = log.iter().find(|line| line.message == "connections_max lowered: descriptor limit").expect("it is said");
    assert_eq!((told.number("descriptors"), told.number("connections_max")), (Some(168.0), Some(21.0)));

    let mut kept: Vec<_> = (0..21).map(|_| Kept::open(proxy.app)).collect();
    assert!(kept.iter_mut().all(|connection| connection.ask() == Some(200)));
    for _ in 0..20 {
        assert_eq!(Kept::open(proxy.app).response(), Some(503));
    }
    assert_eq!(closed(&proxy, "connections_max"), 20);
    assert!(kept.iter_mut().all(|connection| connection.ask() == Some(200)), "those that are there go on");
    kept.truncate(10);
    wait_until("a place", || Kept::open(proxy.app).ask() == Some(200));
    check_none(&proxy, "outrigger_connections_closed_total", &[("reason", "accept_failed")]);
}

#[test]
fn a_stop_ends_although_nobody_reads_the_log() {
    let folder = Folder::new();
    let pipe = folder.file("log").display().to_string();
    // The reader stops when the proxy is ready. It is there for longer than the stop may take, because a pipe without a reader would not be full.
    let reader =
        "while read -r line; do echo \"$line\"; case $line in *'\"ready\"'*) exec sleep 30 >/dev/null 2>&1; esac; done";
    // The third argument is the configuration.
    let access = "sed -i 's/^format/access = true\\nformat/' \"$3\"";
    let first = format!("{access}; mkfifo {pipe}; {{ {reader}; }} <{pipe} & exec >{pipe}");
    let (_programs, _folder, _backend, mut proxy) = proxy_after(&first, "workers = 1", "");
    let mut app = Kept::open(proxy.app);
    // Each is a line of the access log: more than the pipe and the queue of the log's thread hold.
    for _ in 0..6_000 {
        assert_eq!(app.ask(), Some(200));
    }
    drop(app);
    proxy.process.signal(lab::process::Signal::TERM);
    let status = proxy.process.wait(Duration::from_secs(10)).expect("it ends");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn without_descriptors_accepting_pauses_and_resumes_and_requests_go_on() {
    let (_programs, _folder, _backend, proxy) = proxy_with_descriptors(64, "workers = 1", "");
    let mut kept = Kept::open(proxy.app);
    assert_eq!(kept.ask(), Some(200));
    // What takes the rest: connections of the operator's side that say nothing, for the 5 s that they may.
    let silent: Vec<_> = (0..64).map(|_| TcpStream::connect(proxy.admin).expect("a connection")).collect();
    wait_until("the last descriptor", || proxy.process.descriptors() >= 64);
    let mut waiting = Kept::open(proxy.app);
    waiting.0.write_all(REQUEST).expect("it is in the queue");
    for _ in 0..20 {
        assert_eq!(kept.ask(), Some(200), "what is there goes on");
    }
    // Taken as soon as there is a descriptor, without anybody asking again.
    let status = waiting.response();
    assert!(matches!(status, Some(200 | 503)), "{status:?}: it is served, or told that there is none for its endpoint");
    assert!(closed(&proxy, "accept_failed") > 0, "it did run out of them");
    drop(silent);
    wait_until("new connections", || Kept::open(proxy.app).ask() == Some(200));
}

#[test]
fn a_connection_that_we_have_no_descriptor_for_is_held_against_nobody() {
    let (_programs, _folder, _backend, proxy) = proxy_with_descriptors(64, "workers = 1", "pool = { idle_max = 0 }\n");
    let mut kept = Kept::open(proxy.app);
    assert_eq!(kept.ask(), Some(200));
    let silent: Vec<_> = (0..64).map(|_| TcpStream::connect(proxy.admin).expect("a connection")).collect();
    wait_until("the last descriptor", || proxy.process.descriptors() >= 64);
    // More in a row than open a breaker by default.
    for _ in 0..30 {
        assert_eq!(kept.ask(), Some(503));
    }
    drop(silent);
    wait_until("a descriptor", || kept.ask() == Some(200));
    let metrics = proxy.metrics().expect("the admin port responds");
    check_none(&proxy, "outrigger_breaker_transitions_total", &[]);
    assert!(metrics.count("outrigger_connects_total", &[("result", "no_local_socket")]) >= 30);
    assert!(metrics.count("outrigger_requests_total", &[("outcome", "no_local_socket")]) >= 30);
}

#[test]
fn with_every_place_taken_on_both_sides_the_probe_is_answered() {
    let hangs = Origin::new(Arc::new(|_, stream| while read_head(stream).is_some() {}));
    let policies = format!("[upstreams.hangs]\nendpoints = [\"{}\"]\n", hangs.address);
    let (_programs, _folder, _backend, proxy) = proxy_with_descriptors(256, "connections_max = 100", &policies);
    let mut waiting: Vec<_> = (0..40).map(|_| Kept::open(proxy.app)).collect();
    for connection in &mut waiting {
        connection.0.write_all(b"GET / HTTP/1.1\r\nhost: hangs\r\n\r\n").expect("taken");
    }
    wait_until("a connection upstream for each", || hangs.connections() == 40);
    assert_eq!(Kept::open(proxy.app).response(), Some(503), "no place is left");
    for _ in 0..10 {
        let seen = lab::http::ask(proxy.admin, "GET", "/livez", &[], "").expect("it responds");
        assert_eq!(seen.status, 200);
    }
    check_none(&proxy, "outrigger_connections_closed_total", &[("reason", "accept_failed")]);
}

#[test]
fn thousands_of_heads_that_do_not_end_fit_into_the_memory_of_the_manifest_and_requests_are_served() {
    const MEMORY: u64 = 128 << 20;
    const HEADS: usize = 4_000;
    let name = "thousands of half-sent heads in 128 MiB";
    let Some(group) = Group::with_memory(MEMORY) else {
        return cannot_run(name, "no control group with a limit of memory can be made here");
    };
    let mut limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|most| most < 2 * HEADS as u64) {
        return cannot_run(name, "too few descriptors may be opened here");
    }
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("up to the hard limit everybody may");
    let join = format!("echo $$ > {}/cgroup.procs", group.0.display());
    let (_programs, _folder, _backend, mut proxy) = proxy_after(&join, "", "");
    let head = format!("GET / HTTP/1.1\r\nhost: backend\r\n{}", format!("x: {}\r\n", "y".repeat(400)).repeat(74));
    let mut held = Vec::new();
    for number in 0..HEADS {
        let mut stream = TcpStream::connect(proxy.app).expect("a connection");
        // One that was refused may be closed already.
        let _ = stream.write_all(head.as_bytes());
        held.push(stream);
        if number % 100 == 0 {
            assert!(proxy.process.ended().is_none(), "it lives after {number}");
            assert!(proxy.process.resident_bytes() < MEMORY);
            assert_eq!(Kept::open(proxy.app).ask(), Some(200), "after {number}");
        }
    }
    assert!(closed(&proxy, "memory_limit") > 0);
    drop((held, proxy));
}

#[test]
fn thousands_of_idle_connections_are_held_for_little_and_let_go_again() {
    let mut limit = getrlimit(Resource::Nofile);
    // The proxy keeps a descriptor for the endpoint of each place, and some for itself and its look-ups.
    let needed = 2 * MANY as u64 + 1_184;
    if limit.maximum.is_some_and(|most| most < needed) {
        return cannot_run("thousands of idle connections", "too few descriptors may be opened here");
    }
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("up to the hard limit everybody may");
    let site = Site::new(&[], "pool = { idle_timeout = \"100ms\" }\n");
    assert_eq!(site.get().status, 200);
    let (memory, descriptors) = (site.proxy.process.resident_bytes(), site.proxy.process.descriptors());

    let mut kept: Vec<_> = (0..MANY - 10).map(|_| Kept::open(site.proxy.app)).collect();
    for connection in kept.iter_mut().step_by(10) {
        assert_eq!(connection.ask(), Some(200));
    }
    let metrics = site.proxy.metrics().expect("the admin port responds");
    assert_eq!(metrics.sum("outrigger_connections", &[]), (MANY - 10) as f64);
    let each = site.proxy.process.resident_bytes().saturating_sub(memory) / MANY as u64;
    assert!(each < BYTES_PER_CONNECTION_MAX, "{each} bytes a connection");
    let report = site.run_client(&["--closed", "--requests", "500", "--connections", "4"]);
    assert_eq!(report.counts.succeeded, 500, "{:?}", report.counts);

    drop(kept);
    wait_until("as few descriptors as before", || site.proxy.process.descriptors() <= descriptors);
    assert_eq!(site.get().status, 200);
}

/// Heads that drip, bodies that drip, responses that nobody reads, bodies in pieces of a byte: the plain path's median stays what it was. (Its p99 is for a
/// quiet machine: `docs/performance.md`.)
#[test]
fn slow_and_small_clients_slow_nobody_else() {
    let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n{}", "x".repeat(LARGE));
    let large = Origin::new(Arc::new(move |_, stream| {
        if read_head(stream).is_some() {
            say(stream, &response);
        }
    }));
    let site = Site::new(&[], &format!("[upstreams.large]\nendpoints = [\"{}\"]\n", large.address));
    let pace = || {
        let json = site.folder.file("client.json");
        let mut client = start_client(&site.programs, &site.proxy, &json, &["--rate", "100", "--duration", "2s"]);
        assert!(client.wait(WAIT_MAX).expect("it ends").success());
        let report = Report::read(&json).expect("a report");
        assert_eq!((report.counts.requests, report.counts.succeeded), (200, 200), "{:?}", report.counts);
        report.latency_ms.p50.expect("some")
    };
    let before = pace();
    let open = |text: &str| {
        let mut stream = Kept::open(site.proxy.app).0;
        stream.write_all(text.as_bytes()).expect("a part of a request");
        stream
    };
    let mut slow: Vec<TcpStream> = (0..200).map(|_| open("GET / HTTP/1.1\r\nhost: ba")).collect();
    slow.extend((0..100).map(|_| open("POST / HTTP/1.1\r\nhost: backend\r\ncontent-length: 100\r\n\r\nx")));
    slow.extend((0..100).map(|_| open("POST / HTTP/1.1\r\nhost: backend\r\ntransfer-encoding: chunked\r\n\r\n")));
    let unread: Vec<TcpStream> = (0..10).map(|_| open("GET / HTTP/1.1\r\nhost: large\r\n\r\n")).collect();
    wait_until("responses that nobody reads", || large.connections() == 10);
    let dripping = std::sync::atomic::AtomicBool::new(true);
    let meanwhile = std::thread::scope(|scope| {
        scope.spawn(|| {
            while dripping.load(std::sync::atomic::Ordering::Relaxed) {
                for (n, stream) in slow.iter_mut().enumerate() {
                    // Those whose time is over are closed.
                    let _ = stream.write_all(if n < 300 { b"y" } else { b"1\r\nz\r\n" });
                }
                std::thread::sleep(Duration::from_millis(400));
            }
        });
        // The first one while what there is to be buffered still flows.
        pace();
        let meanwhile = pace();
        dripping.store(false, std::sync::atomic::Ordering::Relaxed);
        meanwhile
    });
    assert!(meanwhile < 2.0 * before + 10.0, "{before} ms before, {meanwhile} ms with {} slow clients", slow.len());
    drop((slow, unread));
    wait_until("nothing under way", || {
        site.proxy.metrics().expect("the admin port responds").sum("outrigger_in_flight", &[]) == 0.0
    });
}
