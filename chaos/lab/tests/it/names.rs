//! A name whose address changes while the proxy runs.
//!
//! The proxy gets an `/etc/hosts` of its own in a mount namespace of its own, so that the system's is not touched.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use lab::http;
use lab::process::Signal;
use lab::programs::Programs;

use crate::stage::{Folder, WAIT_MAX, cannot_run, config, get_via, programs, wait_until};

/// How a namespace can be had here: by root, or by a user who may have a user namespace.
fn unshare() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["--mount"], &["--mount", "--map-root-user"]];
    ways.into_iter().find(|way| {
        let script = "mount --bind /etc/hostname /etc/hosts";
        let tried = Command::new("unshare").args(*way).args(["sh", "-c", script]).stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    })
}

/// A proxy that sees `file` as `place`. Each program replaces the one before, so the child is the proxy itself.
fn proxy_that_sees(programs: &Programs, way: &[&str], (file, place): (&Path, &str), config: &Path) -> Command {
    let proxy = programs.command("outrigger", [OsStr::new("--config"), config.as_os_str()]);
    let script = "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"";
    let mut arguments: Vec<OsString> = way.iter().map(OsString::from).collect();
    arguments.extend(["sh", "-c", script, "sh"].map(OsString::from));
    arguments.extend([file.as_os_str().to_owned(), OsString::from(place), proxy.get_program().to_owned()]);
    arguments.extend(proxy.get_args().map(OsStr::to_owned));
    let mut command = Command::new("unshare");
    command.args(arguments);
    command
}

#[test]
fn an_upstream_that_comes_back_under_another_address_is_found() {
    let Some(way) = unshare() else {
        return cannot_run("a name with a new address", "no mount namespace can be had here");
    };
    let (programs, folder) = (programs(), Folder::new());
    let mut first = programs.backend(&[]).unwrap_or_else(|error| panic!("{error}"));
    let hosts = folder.write("hosts", "127.0.0.1 moving.test\n");
    let policies = "resolve_interval = \"500ms\"\n";
    let path = folder.write("config.toml", &config(&format!("\"moving.test:{}\"", first.data.port()), policies));
    let command = proxy_that_sees(&programs, way, (&hosts, "/etc/hosts"), &path);
    let proxy = programs.proxy_by(command).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(get_via(&proxy).status, 200);

    first.process.signal(Signal::KILL);
    first.process.wait(WAIT_MAX).expect("it is dead");
    assert_ne!(get_via(&proxy).status, 200);
    let elsewhere = format!("127.0.0.2:{}", first.data.port()).parse().expect("an address");
    let second = programs.backend_at(elsewhere, &[]).unwrap_or_else(|error| panic!("{error}"));
    // In place: the mount is of this very file.
    fs::write(&hosts, "127.0.0.2 moving.test\n").expect("writable");
    wait_until("success at the new address", || get_via(&proxy).status == 200);
    assert!(second.received().expect("the control port responds").requests > 0);
}

/// A name server that responds to every question about IPv4 the same way, or not at all.
struct Resolver {
    address: Ipv4Addr,
    says: Arc<Mutex<Says>>,
}

#[derive(Clone, Copy, Debug)]
enum Says {
    Address(Ipv4Addr),
    /// NXDOMAIN.
    NoSuchName,
    /// The name is there and has no address.
    Empty,
    Nothing,
}

impl Resolver {
    /// On the port of name servers, which takes rights that not everybody has.
    fn new(says: Says) -> io::Result<Self> {
        static NEXT: AtomicU8 = AtomicU8::new(53);
        let [_, _, high, low] = std::process::id().to_be_bytes();
        // One for each test of the process.
        let address = Ipv4Addr::new(127, NEXT.fetch_add(1, Relaxed), high, low);
        let socket = UdpSocket::bind((address, 53))?;
        let says = Arc::new(Mutex::new(says));
        let told = Arc::clone(&says);
        thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                let says = *told.lock().expect("nobody panics with it");
                if let Some(response) = response(&question[..length], says) {
                    // Whoever asked may have given up.
                    let _ = socket.send_to(&response, from);
                }
            }
        });
        Ok(Self { address, says })
    }

    fn say(&self, says: Says) {
        *self.says.lock().expect("nobody panics with it") = says;
    }
}

/// By RFC 1035 §4: the question comes back, with at most one address.
fn response(question: &[u8], says: Says) -> Option<Vec<u8>> {
    const TYPE_A: [u8; 2] = [0, 1];
    let name_end = 12 + question[12..].iter().position(|byte| *byte == 0)? + 1;
    let asked = &question[..name_end + 4];
    let is_v4 = asked[name_end..].starts_with(&TYPE_A);
    let (code, address) = match says {
        Says::Nothing => return None,
        Says::NoSuchName => (3, None),
        Says::Empty => (0, None),
        Says::Address(address) => (0, Some(address).filter(|_| is_v4)),
    };
    let mut response = asked.to_vec();
    response[2..12].copy_from_slice(&[0x81, 0x80 | code, 0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
    if let Some(address) = address {
        // The same name, type A, class IN, a second to live, four bytes.
        response.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        response.extend(address.octets());
    }
    Some(response)
}

#[test]
fn a_resolver_that_fails_takes_no_address_away_and_one_that_comes_back_is_believed() {
    let (Some(way), Ok(resolver)) = (unshare(), Resolver::new(Says::Nothing)) else {
        return cannot_run("faults of the resolver", "neither a mount namespace nor port 53 can be had here");
    };
    let (programs, folder) = (programs(), Folder::new());
    let backend = programs.backend(&[]).unwrap_or_else(|error| panic!("{error}"));
    let nameserver = format!("nameserver {}\noptions timeout:1 attempts:1\n", resolver.address);
    let resolv = folder.write("resolv.conf", &nameserver);
    let policies = "resolve_interval = \"500ms\"\nretry = { max_attempts = 1 }\npool = { idle_timeout = \"100ms\" }\n";
    let path = folder.write("config.toml", &config(&format!("\"moving.test:{}\"", backend.data.port()), policies));
    let command = proxy_that_sees(&programs, way, (&resolv, "/etc/resolv.conf"), &path);
    let mut proxy = programs.proxy_by(command).unwrap_or_else(|error| panic!("{error}"));
    let failed = |proxy: &lab::programs::Proxy| {
        proxy.metrics().expect("the admin port responds").count("outrigger_name_lookups_total", &[("result", "failed")])
    };

    // It is up without an address, and says so at once.
    let seen = get_via(&proxy);
    assert!(seen.status == 502 && seen.text().contains("no_endpoints"), "{}", seen.text());
    resolver.say(Says::Address(Ipv4Addr::LOCALHOST));
    wait_until("an address", || get_via(&proxy).status == 200);
    for says in [Says::NoSuchName, Says::Empty, Says::Nothing] {
        resolver.say(says);
        let before = failed(&proxy);
        wait_until(&format!("{says:?} twice"), || failed(&proxy) >= before + 2);
        assert_eq!(get_via(&proxy).status, 200, "{says:?}: the last known address stays");
    }

    let elsewhere = format!("127.0.0.2:{}", backend.data.port()).parse().expect("an address");
    let second = programs.backend_at(elsewhere, &[]).unwrap_or_else(|error| panic!("{error}"));
    resolver.say(Says::Address(Ipv4Addr::new(127, 0, 0, 2)));
    wait_until("the new address", || {
        get_via(&proxy).status == 200 && second.received().expect("the control port responds").requests > 0
    });
    proxy.process.signal(Signal::TERM);
    assert_eq!(proxy.process.wait(WAIT_MAX).expect("it ends").code(), Some(0), "no look-up holds up the end");
}

#[test]
fn a_stop_waits_for_no_reload_and_a_burst_of_reloads_is_one() {
    let (Some(way), Ok(resolver)) = (unshare(), Resolver::new(Says::Nothing)) else {
        return cannot_run("a stop during reloads", "neither a mount namespace nor port 53 can be had here");
    };
    let (programs, folder) = (programs(), Folder::new());
    let nameserver = format!("nameserver {}\noptions timeout:30 attempts:1\n", resolver.address);
    let resolv = folder.write("resolv.conf", &nameserver);
    let path = folder.write("config.toml", &config("\"dead.test:80\"", ""));
    let command = proxy_that_sees(&programs, way, (&resolv, "/etc/resolv.conf"), &path);
    let mut proxy = programs.proxy_by(command).unwrap_or_else(|error| panic!("{error}"));
    // Each reload waits for a second for the name that nobody answers.
    for _ in 0..30 {
        proxy.process.signal(Signal::HUP);
        thread::sleep(Duration::from_millis(10));
    }
    let ordered = Instant::now();
    proxy.process.signal(Signal::TERM);
    wait_until("readiness 503", || http::get(proxy.admin, "/readyz").map_or(true, |seen| seen.status == 503));
    let took = ordered.elapsed();
    assert!(took < Duration::from_millis(900), "{took:?}");
    assert_eq!(proxy.process.wait(WAIT_MAX).expect("it ends").code(), Some(0));
    let reloads = proxy.log().iter().filter(|line| line.message == "config reloaded").count();
    assert!(reloads <= 1, "{reloads} reloads for a burst of a third of a second");
}
