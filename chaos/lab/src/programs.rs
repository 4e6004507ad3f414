//! The three programs as child processes on loopback, each with the ports it really got; or as containers in pods.
//!
//! They start with an empty environment, so that a `http_proxy` or `BACKEND_…` of the user does not change an experiment.

use std::ffi::{OsStr, OsString};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::exposition::Samples;
use crate::http;
use crate::pods::{Pod, Pods};
use crate::process::{Failed, Process};
use crate::proxy_log;

/// For a program to say that it is ready. Generous: a busy machine is no fault of the program.
const START_MAX: Duration = Duration::from_secs(20);
/// The programs, and where they run.
#[derive(Debug)]
pub enum Programs {
    /// As processes, from this folder.
    Processes(PathBuf),
    /// As containers in pods of podman.
    Pods(Pods),
}

/// A running backend.
#[derive(Debug)]
pub struct Backend {
    /// The child, or the container that it shows the output of.
    pub process: Process,
    /// Its data port.
    pub data: SocketAddr,
    /// Its control port.
    pub control: SocketAddr,
}

/// A running proxy. Dropping it stops it, and panics if the proxy has panicked.
#[derive(Debug)]
pub struct Proxy {
    /// The child, or the container that it shows the output of.
    pub process: Process,
    /// Where it takes requests: `listen.app`.
    pub app: SocketAddr,
    /// Where it serves `/metrics` and `/status`: `listen.admin`.
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

/// One route of an upstream.
#[derive(Debug, Clone, Deserialize)]
pub struct RouteStatus {
    /// In all, the first included.
    pub max_attempts: u32,
    /// `None` where it shares the upstream's.
    pub budget: Option<BudgetStatus>,
}

/// A retry budget's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BudgetStatus {
    /// Extra attempts per request.
    pub ratio: f64,
    /// Extra attempts per second, whatever the number of requests.
    pub floor_per_second: f64,
    /// The time in seconds over which both count.
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
            return Ok(Self::Processes(folder));
        }
        let (missing, folder) = (missing.join(", "), folder.display());
        Err(format!("not in {folder}: {missing}; `cargo build --workspace` (with --release if this is) makes them"))
    }

    /// Those beside the program that runs now, be it the lab or a test of it.
    ///
    /// # Errors
    /// A sentence that names what is missing.
    pub fn beside_this() -> Result<Self, String> {
        let this = std::env::current_exe().map_err(|error| format!("the path of this program is unknown: {error}"))?;
        let folder = this.parent().unwrap_or(Path::new("/"));
        // Cargo puts tests one folder deeper.
        let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
        Self::in_folder(folder.to_owned())
    }

    /// A process of this program with these arguments, ready to be changed further and started.
    ///
    /// # Panics
    /// The programs run in pods.
    pub fn command<A: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = A>) -> Command {
        let Self::Processes(folder) = self else { panic!("what runs in a pod is no process to be changed") };
        let mut command = Command::new(folder.join(program));
        command.env_clear().args(arguments);
        command
    }

    /// Where a listener has to be for the lab to reach it: its own loopback, or whatever address a pod has.
    #[must_use]
    pub fn reachable(&self) -> IpAddr {
        match self {
            Self::Processes(_) => Ipv4Addr::LOCALHOST.into(),
            Self::Pods(_) => Ipv4Addr::UNSPECIFIED.into(),
        }
    }

    /// A backend on any free ports, with these further arguments.
    ///
    /// # Errors
    /// It does not say that it is ready.
    pub fn backend(&self, arguments: &[&str]) -> Result<Backend, Failed> {
        self.start_backend(SocketAddr::new(self.reachable(), 0), None, arguments)
    }

    /// A process of the backend whose data port is given.
    ///
    /// # Errors
    /// It does not say that it is ready.
    pub fn backend_at(&self, data: SocketAddr, arguments: &[&str]) -> Result<Backend, Failed> {
        self.start_backend(data, None, arguments)
    }

    /// A backend in the place of one that has ended: the same address, and the same pod.
    ///
    /// # Errors
    /// It does not say that it is ready.
    pub fn backend_again(&self, ended: &Backend, arguments: &[&str]) -> Result<Backend, Failed> {
        let pod = ended.process.container().map(|container| Arc::clone(container.pod()));
        let data = if pod.is_some() { SocketAddr::new(self.reachable(), ended.data.port()) } else { ended.data };
        self.start_backend(data, pod, arguments)
    }

    fn start_backend(&self, data: SocketAddr, pod: Option<Arc<Pod>>, arguments: &[&str]) -> Result<Backend, Failed> {
        let (data, control) = (data.to_string(), SocketAddr::new(self.reachable(), 0).to_string());
        let arguments = [&["--listen", &data, "--control", &control], arguments].concat();
        let mut process = self.start("backend", pod, &arguments.iter().map(OsString::from).collect::<Vec<_>>(), &[])?;
        let (data, control) = process.wait_for("line with its ports", START_MAX, backend_ports)?;
        let (data, control) = (seen_from_here(data, &process), seen_from_here(control, &process));
        Ok(Backend { process, data, control })
    }

    /// A proxy with this configuration file, which must log as JSON.
    ///
    /// # Errors
    /// It does not say that it is ready.
    pub fn proxy(&self, config: &Path) -> Result<Proxy, Failed> {
        Proxy::ready(self.start("outrigger", None, &["--config".into(), config.into()], &[config])?)
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

    /// A client, started with these arguments.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn client<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<Process, Failed> {
        self.client_beside(None, arguments, Path::new("."))
    }

    /// A client in the proxy's pod, if there are pods and a proxy; it may write into `folder`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn client_beside<A: AsRef<OsStr>>(
        &self,
        proxy: Option<&Proxy>,
        arguments: impl IntoIterator<Item = A>,
        folder: &Path,
    ) -> Result<Process, Failed> {
        let pod = proxy.and_then(|proxy| proxy.process.container()).map(|container| Arc::clone(container.pod()));
        let arguments: Vec<OsString> = arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
        self.start("client", pod, &arguments, &[folder])
    }

    /// Starts a program: as a process, or in this pod, or in one of its own.
    fn start(
        &self,
        program: &str,
        pod: Option<Arc<Pod>>,
        arguments: &[OsString],
        files: &[&Path],
    ) -> Result<Process, Failed> {
        let Self::Pods(pods) = self else { return Process::spawn(program, self.command(program, arguments)) };
        let failed = |cause: String| Failed::Start { name: program.to_owned(), cause: io::Error::other(cause) };
        let pod = pod.map_or_else(|| pods.pod(), Ok).map_err(failed)?;
        Process::spawn_in(program, pod.command(program, arguments, files))
    }
}

/// An address that a program has printed, as others reach it.
fn seen_from_here(printed: SocketAddr, process: &Process) -> SocketAddr {
    match process.container() {
        Some(container) if printed.ip().is_unspecified() => SocketAddr::new(container.pod().address(), printed.port()),
        _ => printed,
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
    /// The control port does not respond as it should.
    pub fn received(&self) -> io::Result<Received> {
        parsed(&http::get(self.control, "/received?repeated=true")?)
    }

    /// Replaces the faults: the JSON of `PUT /faults`.
    ///
    /// # Errors
    /// The backend does not take them.
    pub fn set_faults(&self, faults: &str) -> io::Result<()> {
        let response = http::ask(self.control, "PUT", "/faults", &[], faults)?;
        if response.status == 200 { Ok(()) } else { Err(io::Error::other(response.text())) }
    }
}

impl Proxy {
    fn ready(mut process: Process) -> Result<Self, Failed> {
        let (app, admin) = process.wait_for("log line \"ready\"", START_MAX, proxy_ports)?;
        let admin = seen_from_here(admin, &process);
        Ok(Self { process, app, admin })
    }

    /// The counters now.
    ///
    /// # Errors
    /// `/metrics` does not respond as it should.
    pub fn metrics(&self) -> io::Result<Samples> {
        Samples::parse(&http::get(self.admin, "/metrics")?.text()).map_err(io::Error::other)
    }

    /// What is in force now.
    ///
    /// # Errors
    /// `/status` does not respond as it should.
    pub fn status(&self) -> io::Result<Status> {
        parsed(&http::get(self.admin, "/status")?)
    }

    /// The lines of its JSON log so far.
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
        let panicked = self.log().into_iter().find(|line| line.message.starts_with("panicked"));
        let place = panicked.as_ref().map(|line| line.text("place").to_owned());
        assert!(counted == 0 && panicked.is_none(), "the proxy panicked at {place:?}");
    }
}

fn parsed<T: for<'de> Deserialize<'de>>(response: &http::Response) -> io::Result<T> {
    serde_json::from_slice(&response.body).map_err(|error| io::Error::other(format!("{error} in {}", response.text())))
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
