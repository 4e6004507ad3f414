//! The operator's side under those who should not be there, or are there too often.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use lab::clock::{Deadline, Stopwatch};
use lab::http::{self, Response};
use lab::programs::Proxy;

use crate::stage::{Folder, Site, WAIT_MAX, config, programs, start_client, wait_until};

/// For what must come at once: far above what a busy machine takes, far below any limit that it is about.
const AT_ONCE: Duration = Duration::from_secs(3);

fn is_alive_at_once(proxy: &Proxy) {
    let deadline = Deadline::after(AT_ONCE);
    assert_eq!(http::get(proxy.admin, "/livez").expect("a response").status, 200);
    assert!(!deadline.left().is_zero(), "a probe must not wait");
}

#[test]
fn it_ends_when_its_app_asks_for_it_and_only_where_that_is_allowed() {
    let (programs, folder) = (programs(), Folder::new());
    let closed = programs.proxy(&folder.write("closed.toml", &config("\"127.0.0.1:9\"", ""))).expect("it starts");
    let post = |proxy: &Proxy, headers: &[(&str, &str)]| {
        http::ask(proxy.admin, "POST", "/quitquitquit", headers, "").expect("a response").status
    };
    assert_eq!(post(&closed, &[]), 405, "it is off by default");

    let allowed = config("\"127.0.0.1:9\"", "").replacen("[drain]\n", "[drain]\nquit = true\n", 1);
    let mut proxy = programs.proxy(&folder.write("config.toml", &allowed)).expect("it starts");
    assert_eq!(http::get(proxy.admin, "/quitquitquit").expect("a response").status, 404, "a link must not end it");
    assert_eq!(post(&proxy, &[("origin", "http://rebound.example")]), 403);
    assert_eq!(proxy.process.ended(), None);
    let quit = format!("http://{}/quitquitquit", proxy.admin);
    // As the app of a Job does it.
    let mut client =
        programs.client(["run", "http://127.0.0.1:9/", "--requests", "1", "--then-post", &quit]).expect("it starts");
    assert_eq!(client.wait(WAIT_MAX).expect("it ends").code(), Some(0), "{}", client.tail());
    assert_eq!(proxy.process.wait(WAIT_MAX).expect("it ends").code(), Some(0));
    assert!(proxy.log().iter().any(|line| line.message == "drained"));

    let mut client =
        programs.client(["run", "http://127.0.0.1:9/", "--requests", "1", "--then-post", &quit]).expect("it starts");
    assert_eq!(client.wait(WAIT_MAX).expect("it ends").code(), Some(1), "nobody was told");
}

#[test]
fn readiness_can_be_waited_for() {
    let (programs, folder) = (programs(), Folder::new());
    let proxy = programs.proxy(&folder.write("config.toml", &config("\"127.0.0.1:9\"", ""))).expect("it starts");
    let wait = |admin: &str, within: &str| {
        let arguments = ["ready", "--admin", admin, "--within", within];
        programs.command("outrigger", arguments).status().expect("it runs").code()
    };
    assert_eq!(wait(&proxy.admin.to_string(), "20"), Some(0));
    assert_eq!(wait("127.0.0.1:9", "0"), Some(1));
}

#[test]
fn only_addresses_and_configured_names_are_answered() {
    let (programs, folder) = (programs(), Folder::new());
    let text = config("\"127.0.0.1:9\"", "").replacen(
        "[listen]\n",
        "[listen]\nadmin_hosts = [\"localhost\", \"Scrape.internal\"]\n",
        1,
    );
    let proxy = programs.proxy(&folder.write("config.toml", &text)).unwrap_or_else(|error| panic!("{error}"));
    let ask = |method, path, headers: &[(&str, &str)]| -> Response {
        http::ask(proxy.admin, method, path, headers, "").expect("a response")
    };
    for (host, wanted) in [
        ("127.0.0.1:4191", 200),
        ("10.1.2.3:4191", 200),
        ("[fd00::1]:4191", 200),
        ("localhost", 200),
        ("scrape.internal:4191", 200),
        ("rebound.example:4191", 421),
        ("", 400),
    ] {
        for path in ["/livez", "/readyz", "/metrics", "/status", "/"] {
            assert_eq!(ask("GET", path, &[("host", host)]).status, wanted, "{path} for {host:?}");
        }
    }
    assert_eq!(ask("GET", "http://rebound.example/status", &[("host", "localhost")]).status, 421);
    let refused = ask("POST", "/status", &[]);
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
    for header in [("origin", "http://rebound.example"), ("sec-fetch-site", "cross-site")] {
        assert_eq!(ask("POST", "/status", &[header]).status, 403, "{header:?}");
        let read = ask("GET", "/status", &[header]);
        assert_eq!((read.status, read.header("access-control-allow-origin")), (200, None), "{header:?}");
        assert_eq!(read.header("cross-origin-resource-policy"), Some("same-origin"));
    }
    let metrics = proxy.metrics().expect("the admin port responds");
    assert_eq!(metrics.count("outrigger_admin_requests_total", &[("path", "/livez"), ("code", "4xx")]), 2);
}

#[test]
fn connections_that_say_nothing_keep_no_probe_out_and_are_ended() {
    let site = Site::new(&[], "");
    let dripping = |n: usize| -> TcpStream {
        let mut stream = TcpStream::connect(site.proxy.admin).expect("a connection");
        if n.is_multiple_of(2) {
            stream.write_all(b"GET /metrics HT").expect("a part of a head");
        }
        stream
    };
    let mut silent: Vec<_> = (0..200).map(dripping).collect();
    is_alive_at_once(&site.proxy);
    let deadline = Deadline::after(WAIT_MAX);
    for stream in &mut silent {
        stream.set_read_timeout(Some(deadline.left().max(Duration::from_millis(1)))).expect("a socket");
        // By the head's limit, or to make room: closed or reset, but ended. A response is one, too.
        match stream.read_to_end(&mut Vec::new()) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
        }
    }
    let silent = site.count("outrigger_admin_requests_total", &[("path", "other"), ("code", "none")]);
    assert_eq!(silent, 200, "each is counted once");
}

#[test]
fn a_head_without_an_end_is_refused() {
    let site = Site::new(&[], "");
    let long = "x".repeat(40_000);
    let mut stream = TcpStream::connect(site.proxy.admin).expect("a connection");
    // It may be refused before it has been written whole.
    let _ = stream.write_all(format!("GET /livez HTTP/1.1\r\nhost: localhost\r\nx: {long}\r\n\r\n").as_bytes());
    let mut response = String::new();
    let _ = stream.read_to_string(&mut response);
    assert!(response.is_empty() || response.starts_with("HTTP/1.1 431 "), "{response}");
    is_alive_at_once(&site.proxy);
}

/// The routes of a large configuration.
fn many_routes() -> String {
    let route = |n| format!("[[upstreams.backend.routes]]\nname = \"route-{n}\"\npath_prefix = \"/route-{n}\"\n");
    (0..3000).map(route).collect()
}

/// Each text of this configuration takes 5 MiB. A copy for each scraper would take 640 MiB.
#[test]
fn scrapers_that_do_not_read_cost_one_text_and_keep_no_probe_waiting() {
    let site = Site::new(&[], &many_routes());
    let text = http::get(site.proxy.admin, "/metrics").expect("a response").body.len() as u64;
    assert!(text > 4_000_000, "{text} bytes");
    let before = site.proxy.process.peak_resident_bytes();
    let (mut unread, mut probes) = (Vec::new(), Vec::new());
    for _ in 0..128 {
        let mut stream = TcpStream::connect(site.proxy.admin).expect("a connection");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("there is room");
        unread.push(stream);
        let asked = Stopwatch::start();
        is_alive_at_once(&site.proxy);
        probes.push(asked.elapsed());
    }
    probes.sort_unstable();
    // The median, because a machine under load may stop any of them for longer.
    let median = probes[probes.len() / 2];
    assert!(median < Duration::from_millis(100), "half of the probes took more than {median:?}");
    wait_until("a text for one who reads", || {
        http::get(site.proxy.admin, "/metrics").is_ok_and(|response| response.status == 200)
    });
    let grown = site.proxy.process.peak_resident_bytes() - before;
    // What may be kept for readers, the text that is made, and as much again for the values that it is made from.
    let most = 16 * 1024 * 1024 + 3 * text;
    assert!(grown < most, "{grown} bytes for texts of {text}");
}

/// A storm shares texts: what it costs is bounded, whatever it asks for, and nobody else notices.
#[test]
fn a_storm_of_scrapes_waits_for_its_turns_while_requests_and_probes_go_on() {
    let site = Site::new(&[], "");
    let json = site.folder.file("client.json");
    let mut client = start_client(&site.programs, &site.proxy, &json, &["--rate", "100", "--duration", "3s"]);
    wait_until("load", || site.count("outrigger_requests_total", &[]) > 20);
    let (started, is_over) = (Deadline::after(WAIT_MAX), AtomicBool::new(false));
    let (mut served, mut refused) = (0, 0);
    thread::scope(|scope| {
        let scraper = || {
            let (mut served, mut refused) = (0_u32, 0_u32);
            while !is_over.load(Relaxed) {
                match http::get(site.proxy.admin, "/metrics").map(|response| response.status) {
                    Ok(200) => served += 1,
                    Ok(503) => refused += 1,
                    Ok(other) => panic!("{other}"),
                    Err(_) => {} // no place
                }
            }
            (served, refused)
        };
        let scrapers: Vec<_> = (0..50).map(|_| scope.spawn(scraper)).collect();
        for _ in 0..20 {
            is_alive_at_once(&site.proxy);
        }
        assert!(client.wait(WAIT_MAX).expect("it ends").success());
        is_over.store(true, Relaxed);
        for scraper in scrapers {
            let (also_served, also_refused) = scraper.join().expect("it does not panic");
            (served, refused) = (served + also_served, refused + also_refused);
        }
    });
    let seconds = (WAIT_MAX - started.left()).as_secs_f64();
    // 20 texts a second, each for as many as may wait, and the text that is still to come when it is over.
    let most = 32.0 * 20.0 * (seconds + 2.0);
    assert!(f64::from(served) <= most && served >= 50, "{served} in {seconds} s");
    assert!(refused > 0, "fifty at a time are more than may wait");
    let counts = report::run::Report::read(&json).expect("a report").counts;
    assert_eq!((counts.requests, counts.succeeded), (300, 300), "{counts:?}");
}

#[test]
fn a_data_path_that_is_busy_without_a_pause_hides_nothing() {
    let (programs, folder) = (programs(), Folder::new());
    let backend = programs.backend(&[]).unwrap_or_else(|error| panic!("{error}"));
    let text = config(&format!("\"{}\"", backend.data), "").replacen("[listen]\n", "[listen]\nworkers = 1\n", 1);
    let proxy = programs.proxy(&folder.write("config.toml", &text)).unwrap_or_else(|error| panic!("{error}"));
    let json = folder.file("client.json");
    let flags = ["--closed", "--connections", "64", "--duration", "2s"];
    let mut client = start_client(&programs, &proxy, &json, &flags);
    let requests = || proxy.metrics().expect("the admin port responds").count("outrigger_requests_total", &[]);
    wait_until("load", || requests() > 0);
    let (first, mut seen) = (requests(), 0);
    for _ in 0..10 {
        let deadline = Deadline::after(AT_ONCE);
        let now = requests();
        assert!(now >= seen && !deadline.left().is_zero());
        seen = now;
        is_alive_at_once(&proxy);
    }
    assert!(seen > first, "it goes on counting under load: {first}, then {seen}");
    assert!(client.wait(WAIT_MAX).expect("it ends").success());
}
