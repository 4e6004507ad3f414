//! The three programs as child processes on loopback, each with the ports it really got.
//!
//! They are started with an empty environment: a `http_proxy` or `BACKEND_…` of whoever runs the lab must not bend an experiment.

use std::ffi::OsStr;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::exposition::Samples;
use crate::http;
use crate::process::{Failed, Process};
use crate::proxy_log;

/// For a program to say that it is ready. Generous: a busy machine is no fault of the program.
const START_MAX: Duration = Duration::from_secs(20);
/// Any free port.
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A folder that has the programs.
#[derive(Debug, Clone)]
pub struct Programs {
    folder: PathBuf,
}

/// A running backend.
#[derive(Debug)]
pub struct Backend {
    /// Its process.
    pub process: Process,
    /// Where it answers.
    pub data: SocketAddr,
    /// Where it is steered.
    pub control: SocketAddr,
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    /// Its process.
    pub process: Process,
    /// The app's side.
    pub app: SocketAddr,
    /// The operator's side.
    pub admin: SocketAddr,
}

/// What a backend says has arrived.
#[derive(Debug, Clone, Deserialize)]
pub struct Received {
    /// Requests whose head was read.
    pub requests: u64,
    /// Ids that came more than once, and how often; only where they were asked for.
    #[serde(default)]
    pub ids: std::collections::BTreeMap<String, u64>,
}

/// What a proxy says it has in force.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// Which configuration.
    pub generation: u64,
    /// In order of the file.
    pub upstreams: Vec<UpstreamStatus>,
}

/// One upstream of it.
#[derive(Debug, Clone, Deserialize)]
pub struct UpstreamStatus {
    /// The default route first.
    pub routes: Vec<RouteStatus>,
}

/// One route of it.
#[derive(Debug, Clone, Deserialize)]
pub struct RouteStatus {
    /// In all, the first included.
    pub max_attempts: u32,
    /// Absent where it shares the upstream's.
    pub budget: Option<BudgetStatus>,
}

/// A retry budget's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BudgetStatus {
    /// Extra attempts per request.
    pub ratio: f64,
    /// And per second.
    pub floor_per_second: f64,
    /// The time over which both count.
    pub window_seconds: f64,
}

impl Programs {
    /// Those in this folder.
    ///
    /// # Errors
    /// A sentence that names what is missing.
    pub fn in_folder(folder: PathBuf) -> Result<Self, String> {
        let missing: Vec<_> =
            ["backend", "client", "outrigger"].into_iter().filter(|name| !folder.join(name).is_file()).collect();
        if missing.is_empty() {
            return Ok(Self { folder });
        }
        let (missing, folder) = (missing.join(", "), folder.display());
        Err(format!("not in {folder}: {missing}; `cargo build --workspace` (with --release if this is) makes them"))
    }

    /// Those beside the program that runs now, be it the lab or a test of it.
    ///
    /// # Errors
    /// A sentence that names what is missing.
    pub fn beside_this() -> Result<Self, String> {
        let this = std::env::current_exe().map_err(|error| format!("where this program is cannot be told: {error}"))?;
        let folder = this.parent().unwrap_or(Path::new("/"));
        // Cargo puts tests one folder deeper.
        let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
        Self::in_folder(folder.to_owned())
    }

    /// A program with these arguments, ready to be changed further and started.
    pub fn command<A: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(self.folder.join(program));
        command.env_clear().args(arguments);
        command
    }

    /// A backend on any free ports, with these further arguments.
    ///
    /// # Errors
    /// It does not say that it is ready.
    pub fn backend(&self, arguments: &[&str]) -> Result<Backend, Failed> {
        self.backend_at(ANY_PORT, arguments)
    }

    /// A backend whose data port is given.
    ///
    /// # Errors
    /// It does not say that it is ready.
    pub fn backend_at(&self, data: SocketAddr, arguments: &[&str]) -> Result<Backend, Failed> {
        let (data, control) = (data.to_string(), ANY_PORT.to_string());
        let ports = ["--listen", &data, "--control", &control];
        let mut process = Process::spawn("backend", self.command("backend", [&ports, arguments].concat()))?;
        let (data, control) = process.wait_for("line with its ports", START_MAX, backend_ports)?;
        Ok(Backend { process, data, control })
    }

    /// A proxy with this configuration file, which must log as JSON.
    ///
    /// # Errors
    /// It does not say that it is ready.
    pub fn proxy(&self, config: &Path) -> Result<Proxy, Failed> {
        self.proxy_by(self.command("outrigger", [OsStr::new("--config"), config.as_os_str()]))
    }

    /// A proxy that this command starts.
    ///
    /// # Errors
    /// It does not say that it is ready.
    pub fn proxy_by(&self, command: Command) -> Result<Proxy, Failed> {
        Proxy::ready(Process::spawn("outrigger", command)?)
    }

    /// A proxy that is given this listening socket for its app's side, as a service manager would do it.
    ///
    /// # Errors
    /// It does not say that it is ready.
    pub fn proxy_with_socket(&self, config: &Path, socket: OwnedFd) -> Result<Proxy, Failed> {
        let proxy = self.command("outrigger", [OsStr::new("--config"), config.as_os_str()]);
        let mut command = Command::new("sh");
        // The shell becomes the proxy, so that the process id stays.
        let script = "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=app; exec \"$@\" 3<&0 </dev/null";
        command.env_clear().args(["-c", script, "sh"]).arg(proxy.get_program()).args(proxy.get_args());
        Proxy::ready(Process::spawn_with("outrigger", command, socket.into())?)
    }

    /// A client.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn client<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<Process, Failed> {
        Process::spawn("client", self.command("client", arguments))
    }
}

/// `backend listening on 127.0.0.1:5001, control on 127.0.0.1:5002`
fn backend_ports(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (data, control) = line.strip_prefix("backend listening on ")?.split_once(", control on ")?;
    Some((data.parse().ok()?, control.parse().ok()?))
}

fn proxy_ports(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line = proxy_log::Line::parse(line).filter(|line| line.message == "ready")?;
    Some((line.text("app").parse().ok()?, line.text("admin").parse().ok()?))
}

impl Backend {
    /// What has arrived, with the ids that came more than once.
    ///
    /// # Errors
    /// The control port does not answer as it should.
    pub fn received(&self) -> io::Result<Received> {
        parsed(&http::get(self.control, "/received?repeated=true")?)
    }

    /// Replaces the faults: the JSON of `PUT /faults`.
    ///
    /// # Errors
    /// The backend does not take them.
    pub fn set_faults(&self, faults: &str) -> io::Result<()> {
        let answer = http::ask(self.control, "PUT", "/faults", &[], faults)?;
        if answer.status == 200 { Ok(()) } else { Err(io::Error::other(answer.text())) }
    }
}

impl Proxy {
    fn ready(mut process: Process) -> Result<Self, Failed> {
        let (app, admin) = process.wait_for("log line \"ready\"", START_MAX, proxy_ports)?;
        Ok(Self { process, app, admin })
    }

    /// The counters now.
    ///
    /// # Errors
    /// `/metrics` does not answer as it should.
    pub fn metrics(&self) -> io::Result<Samples> {
        Samples::parse(&http::get(self.admin, "/metrics")?.text()).map_err(io::Error::other)
    }

    /// What is in force now.
    ///
    /// # Errors
    /// `/status` does not answer as it should.
    pub fn status(&self) -> io::Result<Status> {
        parsed(&http::get(self.admin, "/status")?)
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> Vec<proxy_log::Line> {
        self.process.stdout().iter().filter_map(|line| proxy_log::Line::parse(line)).collect()
    }
}

/// Whatever was done to it, it must not have panicked.
impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return; // somebody has found a fault already
        }
        let is_running = self.process.ended().is_none();
        let counted = self
            .metrics()
            .ok()
            .filter(|_| is_running)
            .map_or(0, |metrics| metrics.count("outrigger_panics_total", &[]));
        let told = self.log().into_iter().find(|line| line.message.starts_with("panicked"));
        let place = told.as_ref().map(|line| line.text("place").to_owned());
        assert!(counted == 0 && told.is_none(), "the proxy panicked at {place:?}");
    }
}

fn parsed<T: for<'de> Deserialize<'de>>(answer: &http::Answer) -> io::Result<T> {
    serde_json::from_slice(&answer.body).map_err(|error| io::Error::other(format!("{error} in {}", answer.text())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_how_to_make_it() {
        let message = Programs::in_folder(PathBuf::from("/nowhere")).expect_err("nothing is there");
        assert!(message.starts_with("not in /nowhere: backend, client, outrigger; `cargo build"), "{message}");
    }

    #[test]
    fn real_ports_are_read_from_what_the_programs_say() {
        let ports = Some(("127.0.0.1:5001".parse().expect("valid"), "127.0.0.1:5002".parse().expect("valid")));
        assert_eq!(backend_ports("backend listening on 127.0.0.1:5001, control on 127.0.0.1:5002"), ports);
        assert_eq!(backend_ports("backend: cannot listen on 127.0.0.1:5001"), None);
        let ready = r#"{"timestamp":"2026-11-22T10:51:23.297950Z","level":"INFO","message":"ready","app":"127.0.0.1:5001","admin":"127.0.0.1:5002"}"#;
        assert_eq!(proxy_ports(ready), ports);
        assert_eq!(proxy_ports(&ready.replace("ready", "draining")), None);
    }
}
