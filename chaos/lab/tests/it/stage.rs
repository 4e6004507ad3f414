//! What every test needs: the programs, a folder of its own, a backend with a proxy before it.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use lab::clock::Deadline;
use lab::http::{self, Response};
use lab::programs::{Backend, Programs, Proxy};
use report::run::Report;
use socket2::{Domain, Socket, Type};

/// The limit for anything that should happen soon. It is long enough that a loaded machine alone does not exceed it.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(20);

/// The programs, or a message that says how to get them.
pub(crate) fn programs() -> Programs {
    Programs::beside_this().unwrap_or_else(|missing| panic!("{missing}"))
}

/// A folder that is gone with its test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("outrigger-it-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file and says where it is.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, text).expect("a writable file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays in a temporary folder harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A configuration for these endpoints (TOML strings); `rest` goes on within `[upstreams.backend]`.
pub(crate) fn config(endpoints: &str, rest: &str) -> String {
    format!(
        "[listen]\napp = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\n[log]\nformat = \"json\"\n\n\
         [drain]\nsilence = \"300ms\"\n\n[upstreams.backend]\nendpoints = [{endpoints}]\n{rest}"
    )
}

/// A backend and a proxy before it.
pub(crate) struct Site {
    pub(crate) programs: Programs,
    pub(crate) backend: Backend,
    pub(crate) proxy: Proxy,
    pub(crate) folder: Folder,
}

impl Site {
    /// A backend with these faults (its flags), and a proxy with these policies.
    pub(crate) fn new(faults: &[&str], policies: &str) -> Self {
        let (programs, folder) = (programs(), Folder::new());
        let backend = programs.backend(faults).unwrap_or_else(|error| panic!("{error}"));
        let text = config(&format!("\"{}\"", backend.data), policies);
        let proxy = programs.proxy(&folder.write("config.toml", &text)).unwrap_or_else(|error| panic!("{error}"));
        Self { programs, backend, proxy, folder }
    }

    /// Writes a configuration with other policies in place of the present one.
    pub(crate) fn rewrite(&self, policies: &str) -> PathBuf {
        self.folder.write("config.toml", &config(&format!("\"{}\"", self.backend.data), policies))
    }

    /// One GET through the proxy.
    pub(crate) fn get(&self) -> Response {
        get_via(&self.proxy)
    }

    /// A client's run through the proxy to its end.
    pub(crate) fn run_client(&self, arguments: &[&str]) -> Report {
        run_client(&self.programs, &self.proxy, &self.folder, arguments)
    }

    /// A counter of the proxy.
    pub(crate) fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.proxy.metrics().expect("the admin port responds").count(name, labels)
    }

    /// Waits until the proxy has this generation of its configuration in force.
    pub(crate) fn wait_for_generation(&self, wanted: u64) {
        wait_until(&format!("generation {wanted}"), || {
            self.proxy.status().expect("the admin port responds").generation == wanted
        });
    }
}

/// Nothing has been counted so. Panics at words that the documentation does not have: of those there never is a sample.
#[track_caller]
pub(crate) fn check_none(proxy: &Proxy, name: &str, labels: &[(&str, &str)]) {
    const METRICS: &str = include_str!("../../../../docs/metrics.md");
    assert!(METRICS.contains(&format!("| `{name}` |")), "{name} is no metric");
    for word in labels.iter().flat_map(|(label, value)| [label, value]) {
        assert!(METRICS.contains(&format!("`{word}`")), "{word} is nowhere a label or a value");
    }
    let count = proxy.metrics().expect("the admin port responds").count(name, labels);
    assert_eq!(count, 0, "{name} {labels:?}");
}

/// One GET for the upstream `backend`.
pub(crate) fn get_via(proxy: &Proxy) -> Response {
    http::ask(proxy.app, "GET", "/", &[("host", "backend")], "").expect("the proxy responds")
}

/// Runs the client through the proxy to its end.
pub(crate) fn run_client(programs: &Programs, proxy: &Proxy, folder: &Folder, arguments: &[&str]) -> Report {
    let json = folder.file("client.json");
    let mut client = start_client(programs, proxy, &json, arguments);
    let status = client.wait(WAIT_MAX).unwrap_or_else(|error| panic!("{error}"));
    assert!(status.success(), "{status}{}", client.tail());
    Report::read(&json).expect("the client's report")
}

/// Starts the client; its report goes to `json`.
pub(crate) fn start_client(
    programs: &Programs,
    proxy: &Proxy,
    json: &Path,
    arguments: &[&str],
) -> lab::process::Process {
    let (via, json) = (format!("http://{}", proxy.app), json.to_string_lossy());
    let fixed = ["run", "http://backend/", "--proxy", &via, "--json", &json, "--quiet"];
    programs.client([&fixed[..], arguments].concat()).unwrap_or_else(|error| panic!("{error}"))
}

/// Waits until it is so.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let seen = Deadline::after(WAIT_MAX).poll(|| is_so().then_some(()));
    assert!(seen.is_some(), "not within {WAIT_MAX:?}: {what}");
}

/// An address where nobody listens, and nobody else can as long as it is kept.
pub(crate) struct Dead(Socket);

impl Dead {
    pub(crate) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        Self(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound")
    }
}

/// Says aloud that a test cannot run here; where `CI=true` that is a failure.
pub(crate) fn cannot_run(test: &str, why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} cannot run: {why}");
    // Not `eprintln`, which a test that passes keeps to itself.
    let _ = writeln!(std::io::stderr(), "\n!!! NOT TESTED: {test}: {why}");
}
