//! Faults of the world, a row each: the app gets a truthful response in time, a metric says why, and when it is over the proxy is as it was: as fast, with as
//! many descriptors, and with nothing under way.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lab::clock::Deadline;
use lab::http::{self, End, Response};
use lab::programs::Proxy;
use socket2::{Domain, Socket, Type};

use crate::origin::{OK, Origin, Script, read_head, reset, say, wait_for_end};
use crate::stage::{Folder, config, programs, wait_until};

/// Short enough for a test, far above what a loaded machine takes. One attempt, no breaker: each request meets its fault.
const POLICIES: &str = "retry = { max_attempts = 1 }\npool = { idle_timeout = \"100ms\" }\n\
     timeouts = { request = \"3s\", attempt = \"1s\", connect = \"500ms\", idle_body = \"1s\" }\n\
     breaker = { enabled = false }\nendpoint_breaker = { enabled = false }\n";
/// No response may take longer, body included: the request's time, a stillness and its look, and room for a loaded machine.
const DEADLINE: Duration = Duration::from_secs(8);
const GET: &str = "GET / HTTP/1.1\r\nhost: HOST\r\nconnection: close\r\n\r\n";
const HEAD_BYTES: usize = OK.len() - "hello".len();

/// What the app must see.
#[derive(Clone, Copy, Debug)]
enum Truth {
    /// A whole response with one of these.
    Status(&'static [u16]),
    /// The upstream's head, and an end that cannot be taken for the body's; or a refusal.
    Broken,
}

struct Row {
    name: &'static str,
    origin: Origin,
    request: &'static str,
    requests: usize,
    truth: fn(usize) -> Truth,
    /// A family and a label of it that say why.
    told: (&'static str, &'static str, &'static str),
}

const ATTEMPTS: &str = "outrigger_attempts_total";
const CONNECTS: &str = "outrigger_connects_total";
const REQUESTS: &str = "outrigger_requests_total";

fn row(name: &'static str, script: impl Fn(usize, &mut TcpStream) + Send + Sync + 'static) -> Row {
    let script: Script = Arc::new(script);
    let told = (ATTEMPTS, "outcome", "malformed_response");
    Row { name, origin: Origin::new(script), request: GET, requests: 3, truth: |_| Truth::Status(&[502]), told }
}

/// Sends each request these bytes and closes.
fn responding(name: &'static str, bytes: impl Into<String>) -> Row {
    let bytes = bytes.into();
    row(name, move |_, stream| {
        if read_head(stream).is_some() {
            say(stream, &bytes);
        }
    })
}

/// After so many bytes of a response the connection is closed, by FIN or by RST; a request for each place.
fn cut(name: &'static str, is_reset: bool) -> Row {
    let cut = row(name, move |n, stream| {
        if read_head(stream).is_some() {
            say(stream, &OK[..n]);
            if is_reset {
                reset(stream);
            }
        }
    });
    // The first is cut before its first byte, which is a reset and not garbage; so at least the others.
    let truth = |n| if n < HEAD_BYTES { Truth::Status(&[502]) } else { Truth::Broken };
    Row { requests: OK.len(), truth, ..cut }
}

fn rows() -> Vec<Row> {
    let mut rows = vec![refused(), no_syn_ack(), cut("closes_at_every_byte", false), cut("resets_at_every_byte", true)];
    rows.extend(no_responses());
    rows.extend(bad_responses());
    rows
}

/// Something else than one whole response in time.
fn no_responses() -> Vec<Row> {
    let early = |_: usize, stream: &mut TcpStream| {
        if read_head(stream).is_some() {
            say(stream, "HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n");
            wait_for_end(stream);
        }
    };
    let flood = |_: usize, stream: &mut TcpStream| {
        use std::io::Write as _;
        if read_head(stream).is_some() {
            while stream.write_all("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(50).as_bytes()).is_ok() {}
        }
    };
    vec![
        Row {
            requests: 1,
            truth: |_| Truth::Status(&[504]),
            told: (ATTEMPTS, "outcome", "attempt_timeout"),
            ..row("accepts_and_says_nothing", |_, stream| wait_for_end(stream))
        },
        Row {
            told: (ATTEMPTS, "outcome", "reset"),
            ..row("half_closes_without_a_response", |_, stream| {
                if read_head(stream).is_some() {
                    stream.shutdown(Shutdown::Write).expect("a socket");
                    wait_for_end(stream);
                }
            })
        },
        Row {
            truth: |_| Truth::Status(&[200]),
            told: (REQUESTS, "outcome", "success"),
            ..responding("half_closes_after_a_response", "HTTP/1.1 200 OK\r\n\r\nall of it")
        },
        Row {
            truth: |_| Truth::Status(&[200]),
            told: (REQUESTS, "outcome", "success"),
            ..responding("more_than_it_said", format!("{OK}HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"))
        },
        Row {
            truth: |_| Truth::Broken,
            told: (REQUESTS, "outcome", "truncated"),
            ..responding("less_than_it_said", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        },
        Row {
            truth: |_| Truth::Broken,
            requests: 1,
            told: (REQUESTS, "outcome", "body_idle_timeout"),
            ..row("stops_in_the_middle", |_, stream| {
                if read_head(stream).is_some() {
                    say(stream, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
                    wait_for_end(stream);
                }
            })
        },
        Row {
            request: "POST / HTTP/1.1\r\nhost: HOST\r\ncontent-length: 9\r\n\r\nnot all",
            truth: |_| Truth::Status(&[413]),
            told: (ATTEMPTS, "outcome", "success"),
            ..row("answers_before_the_request_is_whole", early)
        },
        Row {
            truth: |_| Truth::Status(&[502, 504]),
            requests: 1,
            // Refused at its count, or ended by the attempt's time.
            told: (REQUESTS, "code", "5xx"),
            ..row("informational_responses_without_an_end", flood)
        },
    ]
}

/// What is no response by the rules.
fn bad_responses() -> Vec<Row> {
    let many_fields = "x: y\r\n".repeat(150);
    vec![
        responding("garbage", "\u{0}\u{1}\u{7f} no HTTP at all\r\n\r\n"),
        responding("another_protocol", "SSH-2.0-OpenSSH_9.2\r\n"),
        responding("another_version", "HTTP/3.7 200 OK\r\ncontent-length: 0\r\n\r\n"),
        responding("a_head_of_a_megabyte", format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20))),
        responding("a_hundred_and_fifty_fields", format!("HTTP/1.1 200 OK\r\n{many_fields}content-length: 0\r\n\r\n")),
        responding(
            "switches_protocols_unasked",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        ),
    ]
}

/// Nobody listens.
fn refused() -> Row {
    let origin = Origin::refusing();
    Row { origin, told: (CONNECTS, "result", "connect_refused"), ..row("refuses", |_, _| {}) }
}

/// The queue of a listener that accepts nothing is full: the kernel drops further SYNs, as a dead host does.
fn no_syn_ack() -> Row {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    socket.listen(0).expect("a listener");
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().expect("its address");
    let waiting = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
    let queue: Vec<_> = std::iter::from_fn(waiting).take(64).collect();
    assert!(queue.len() < 64, "the queue has an end");
    let origin = Origin::full(listener, queue);
    let told = (CONNECTS, "result", "connect_timeout");
    Row { origin, truth: |_| Truth::Status(&[504]), told, ..row("drops_syn", |_, _| {}) }
}

fn check(row: &Row, n: usize, response: &Response) {
    let Row { name, truth, .. } = row;
    match truth(n) {
        Truth::Status(allowed) => {
            assert!(allowed.contains(&response.status), "{name} {n}: {} {}", response.status, response.text());
            assert_eq!(response.end, End::Whole, "{name} {n}");
        }
        Truth::Broken if response.status == 200 => {
            assert_ne!(response.end, End::Whole, "{name} {n}: {}", response.text());
        }
        Truth::Broken => assert_eq!(response.status, 502, "{name} {n}"),
    }
    let is_ours = response.header("proxy-status").is_some_and(|status| status.starts_with("outrigger; error="));
    assert_eq!(is_ours, response.status >= 500, "{name} {n}: our own refusals say so");
}

fn ask(proxy: &Proxy, host: &str, request: &str) -> Response {
    http::exchange(proxy.app, &request.replace("HOST", host)).unwrap_or_else(|error| panic!("{host}: {error}"))
}

/// Descriptors of a proxy that has nothing under way and no pooled connection: the fewest within a moment, because the connection of the last
/// scrape closes a little later.
fn at_rest(proxy: &Proxy) -> usize {
    wait_until("rest", || {
        let metrics = proxy.metrics().expect("the admin port responds");
        let busy = ["connections", "in_flight", "endpoint_connections", "replay_bytes"];
        busy.iter().map(|gauge| metrics.sum(&format!("outrigger_{gauge}"), &[])).sum::<f64>() == 0.0
    });
    let mut fewest = usize::MAX;
    Deadline::after(Duration::from_millis(100)).poll(|| {
        fewest = fewest.min(proxy.process.descriptors());
        None::<()>
    });
    fewest
}

/// Time of the fastest of some requests: what the machine does besides makes others slower, not this one.
fn pace(proxy: &Proxy) -> Duration {
    let one = |_| {
        let started = Instant::now();
        assert_eq!(ask(proxy, "backend", GET).status, 200);
        started.elapsed()
    };
    (0..30).map(one).min().expect("some")
}

#[test]
fn every_fault_is_told_truthfully_in_time_and_leaves_nothing_behind() {
    let (programs, folder, rows) = (programs(), Folder::new(), rows());
    let healthy = Origin::new(Arc::new(|_, _| {}));
    healthy.heal();
    let mut text = config(&format!("\"{}\"", healthy.address), POLICIES);
    for Row { name, origin, .. } in &rows {
        text += &format!("[upstreams.{name}]\nendpoints = [\"{}\"]\n{POLICIES}", origin.address);
    }
    let proxy = programs.proxy(&folder.write("config.toml", &text)).unwrap_or_else(|error| panic!("{error}"));
    let pace_before = pace(&proxy);
    let descriptors = at_rest(&proxy);
    let memory = proxy.process.resident_bytes();

    for row in &rows {
        let told = |row: &Row| {
            let (family, label, value) = row.told;
            let labels = [("upstream", row.name), (label, value)];
            proxy.metrics().expect("the admin port responds").count(family, &labels)
        };
        for n in 0..row.requests {
            let started = Instant::now();
            check(row, n, &ask(&proxy, row.name, row.request));
            assert!(started.elapsed() < DEADLINE, "{} took {:?}", row.name, started.elapsed());
        }
        // What is counted when a body has ended is counted a moment after its last byte.
        let least = u64::try_from(row.requests).expect("few").min(3);
        wait_until(&format!("{} to be told as {:?}", row.name, row.told), || told(row) >= least);
        assert_eq!(ask(&proxy, "backend", GET).status, 200, "{}: the others go on", row.name);
        row.origin.heal();
        wait_until(&format!("{} to be well again", row.name), || ask(&proxy, row.name, GET).status == 200);
        assert_eq!(at_rest(&proxy), descriptors, "{}: descriptors", row.name);
    }
    let pace_after = pace(&proxy);
    assert!(pace_after < pace_before * 3 + Duration::from_millis(5), "{pace_before:?} before, {pace_after:?} after");
    let grown = proxy.process.resident_bytes().saturating_sub(memory);
    assert!(grown < 8 * 1024 * 1024, "{grown} bytes more than before");
    let smuggled = rows.iter().find(|row| row.name == "more_than_it_said").expect("it is there");
    assert!(smuggled.origin.connections() > smuggled.requests, "a connection that said too much is not used again");
}
