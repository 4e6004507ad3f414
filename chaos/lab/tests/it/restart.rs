//! Another process in place of the proxy while requests go on: nobody is refused, nothing fails.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};

use lab::http;
use lab::process::{Process, Signal};
use lab::programs::{Backend, Programs, Proxy};
use report::run::Report;
use socket2::{Domain, Socket, Type};

use crate::stage::{Folder, WAIT_MAX, config, programs, start_client, wait_until};

/// Requests over kept connections, and others over a new connection each.
struct Load {
    client: Process,
    json: PathBuf,
    is_over: Arc<AtomicBool>,
    /// Each with how many it asked, and what went wrong.
    clients: Vec<JoinHandle<(u32, Vec<String>)>>,
}

impl Load {
    fn start(programs: &Programs, proxy: &Proxy, folder: &Folder) -> Self {
        let (app, is_over, json) = (proxy.app, Arc::new(AtomicBool::new(false)), folder.file("client.json"));
        // Few, so that each is busy again and again: one that idles over the whole drain is closed at its end, whatever its client is about to do.
        let flags = ["--rate", "200", "--duration", "1m", "--connections", "4"];
        let client = start_client(programs, proxy, &json, &flags);
        let clients = (0..2).map(|_| {
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || {
                let ask = || http::ask(app, "GET", "/", &[("host", "backend")], "");
                let (mut asked, mut bad) = (0, Vec::new());
                while !is_over.load(Relaxed) {
                    let response = ask();
                    asked += 1;
                    if !response.as_ref().is_ok_and(|response| response.status == 200) {
                        bad.push(format!("{response:?}"));
                    }
                }
                (asked, bad)
            })
        });
        Self { client, json, clients: clients.collect(), is_over }
    }

    /// Ends it; nothing may have failed.
    fn end(mut self) {
        self.is_over.store(true, Relaxed);
        for client in self.clients {
            let (asked, bad) = client.join().expect("it does not panic");
            assert!(asked > 10, "{asked} on connections of their own");
            assert!(bad.is_empty(), "{} on connections of their own: {:?}", bad.len(), bad.first());
        }
        self.client.signal(Signal::INT);
        self.client.wait(WAIT_MAX).unwrap_or_else(|error| panic!("{error}"));
        let counts = Report::read(&self.json).expect("a report").counts;
        assert!(counts.requests > 100 && counts.succeeded == counts.requests, "{counts:?}");
    }
}

/// A port that nobody else gets, but whoever agrees to share it.
struct Port {
    address: SocketAddr,
    _bound: Socket,
}

impl Port {
    fn reserved() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_port(true).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        let address = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("its address");
        Self { address, _bound: socket }
    }
}

fn stage(listen: &str) -> (Programs, Folder, Backend, PathBuf) {
    let (programs, folder) = (programs(), Folder::new());
    let backend = programs.backend(&["--latency", "5ms"]).unwrap_or_else(|error| panic!("{error}"));
    let text = config(&format!("\"{}\"", backend.data), "").replacen("app = \"127.0.0.1:0\"", listen, 1).replacen(
        "silence = \"300ms\"",
        "silence = \"1s\"\ntimeout = \"8s\"\ngrace = \"2s\"",
        1,
    );
    let path = folder.write("config.toml", &text);
    (programs, folder, backend, path)
}

fn requests(proxy: &Proxy) -> u64 {
    proxy.metrics().expect("the admin port responds").count("outrigger_requests_total", &[])
}

/// It ends in good order and has cut off nothing; what it said.
fn ended(mut proxy: Proxy) -> Vec<String> {
    assert_eq!(proxy.process.wait(WAIT_MAX).expect("it ends").code(), Some(0));
    let log = proxy.log();
    let drained = log.iter().find(|line| line.message == "drained").expect("it says so");
    assert_eq!(drained.number("cut_off"), Some(0.0));
    log.into_iter().map(|line| line.message).collect()
}

#[test]
fn a_successor_on_the_same_port_takes_over_under_load() {
    let port = Port::reserved();
    let (programs, folder, _backend, path) = stage(&format!("app = \"{}\"\nreuse_port = true", port.address));
    let start = || programs.proxy(&path).unwrap_or_else(|error| panic!("{error}"));
    let mut serving = start();
    let load = Load::start(&programs, &serving, &folder);
    for round in 0..4 {
        wait_until("load", || requests(&serving) > 50);
        let mut next = start();
        assert_eq!(next.app, serving.app);
        assert!(next.log().iter().any(|line| line.message.starts_with("another process listens")), "round {round}");
        // The other order works too: a proxy that drains finds out that a successor has come.
        let said = if round % 2 == 0 {
            serving.process.signal(Signal::TERM);
            ended(serving)
        } else {
            next.process.signal(Signal::TERM);
            let said = ended(next);
            next = serving;
            said
        };
        assert!(said.iter().any(|message| message == "listeners handed over"), "{said:?}");
        serving = next;
    }
    let before = requests(&serving);
    wait_until("load on the last one", || requests(&serving) > before + 50);
    load.end();
}

#[test]
fn a_proxy_without_a_successor_serves_on_until_its_app_is_silent() {
    let port = Port::reserved();
    let (programs, _folder, _backend, path) = stage(&format!("app = \"{}\"\nreuse_port = true", port.address));
    // Silent for long: a busy machine may take its time between two requests.
    let text = std::fs::read_to_string(&path).expect("just written");
    let patient = text.replace("silence = \"1s\"", "silence = \"3s\"").replace("timeout = \"8s\"", "timeout = \"20s\"");
    assert_ne!(patient, text);
    std::fs::write(&path, patient).expect("a folder of its own");
    let mut proxy = programs.proxy(&path).unwrap_or_else(|error| panic!("{error}"));
    proxy.process.signal(Signal::TERM);
    wait_until("the drain", || proxy.log().iter().any(|line| line.message == "draining"));
    for _ in 0..8 {
        let response = http::ask(proxy.app, "GET", "/", &[("host", "backend")], "").expect("a response");
        assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    }
    let said = ended(proxy);
    assert!(!said.iter().any(|message| message == "listeners handed over"), "{said:?}");
}

#[test]
fn a_socket_that_the_service_manager_keeps_outlives_the_proxy_under_load() {
    // The configured address is not used: what was passed goes before it.
    let (programs, folder, _backend, path) = stage("app = \"127.0.0.1:1\"");
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address: SocketAddr = socket.local_addr().expect("its address");
    let start = || {
        let passed = socket.try_clone().expect("a descriptor").into();
        programs.proxy_with_socket(&path, passed).unwrap_or_else(|error| panic!("{error}"))
    };
    let mut serving = start();
    assert_eq!(serving.app, address);
    let load = Load::start(&programs, &serving, &folder);
    for _ in 0..2 {
        wait_until("load", || requests(&serving) > 50);
        serving.process.signal(Signal::TERM);
        ended(serving);
        serving = start();
    }
    wait_until("load on the last one", || requests(&serving) > 50);
    load.end();
}
