//! What is measured: the proxy, its peers with equal features, a byte relay, and nothing at all in between. Their configurations are the files of
//! `bench/peers`; each is started with ports of its own, and each is a process group that ends with its owner.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::clock::{self, Stopwatch};
use lab::process::{Failed, Process};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::setup::Setup;

/// How long a peer may take to respond to its first request.
const START_MAX: Duration = Duration::from_secs(20);
/// The time between two checks whether a peer responds, far less than any of them needs to start.
const LOOK_INTERVAL: Duration = Duration::from_micros(200);
/// How long the response to such a check may take.
const RESPONSE_MAX: Duration = Duration::from_secs(2);

/// The only environment variable that peers get, so that those of the user change nothing.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const HAPROXY: &str = include_str!("../peers/haproxy.cfg");
const NGINX: &str = include_str!("../peers/nginx.conf");
const ENVOY: &str = include_str!("../peers/envoy.yaml");

/// What stands between load and origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Nothing: the load asks the origin itself.
    Direct,
    /// The byte relay of this program.
    Relay,
    /// The proxy of this repository.
    Outrigger,
    Nginx,
    Haproxy,
    Envoy,
}

/// Where the programs are.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// This program, which is the relay as well.
    pub(crate) bench: PathBuf,
    pub(crate) outrigger: PathBuf,
    /// Raw files go below.
    pub(crate) folder: PathBuf,
}

/// A peer that responds.
#[derive(Debug)]
pub(crate) struct Running {
    /// Where it takes requests.
    pub(crate) address: SocketAddr,
    /// From its start to its first response, in ms.
    pub(crate) start_ms: f64,
    /// `None` for [`Peer::Direct`].
    group: Option<Group>,
}

/// A process and all that it starts.
#[derive(Debug)]
struct Group(Process);

impl Peer {
    const ALL: [Self; 6] = [Self::Direct, Self::Relay, Self::Outrigger, Self::Nginx, Self::Haproxy, Self::Envoy];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relay => "relay",
            Self::Outrigger => "outrigger",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|peer| peer.name() == name)
    }

    pub(crate) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Whether it understands what it passes on, and so can hide a failed attempt.
    pub(crate) fn retries(self) -> bool {
        !matches!(self, Self::Direct | Self::Relay)
    }

    /// What it calls its own version, in one line; an error says that it is not there.
    pub(crate) fn version(self, programs: &Programs) -> io::Result<String> {
        let (program, argument) = match self {
            Self::Direct => return Ok("no proxy".to_owned()),
            Self::Relay => return Ok("two threads, bytes".to_owned()),
            Self::Outrigger => (programs.outrigger.clone(), "--version"),
            Self::Nginx => ("nginx".into(), "-v"),
            Self::Haproxy => ("haproxy".into(), "-v"),
            Self::Envoy => (envoy(), "--version"),
        };
        let output = Command::new(&program).arg(argument).env("PATH", PATH).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("says nothing of its version");
        // Envoy's line begins with its path.
        Ok(line.rsplit_once("version:").map_or(line, |(_, version)| version).trim().to_owned())
    }

    /// Starts it before these addresses of the origin, and waits for its first response.
    pub(crate) fn start(self, setup: Setup, programs: &Programs, origin: &[SocketAddr]) -> Result<Running, Failed> {
        if self == Self::Direct {
            return Ok(Running { address: origin[0], start_ms: 0.0, group: None });
        }
        let named = |cause| Failed::Start { name: self.name().to_owned(), cause };
        let address = free_address().map_err(named)?;
        let mut command = self.command(setup, programs, address, origin).map_err(named)?;
        // A group of its own, so that its children end with it, and so that a terminal's Ctrl-C does not reach it.
        command.env_clear().env("PATH", PATH).process_group(0);
        let watch = Stopwatch::start();
        let mut group = Group(Process::spawn(self.name(), command)?);
        let host = setup.hosts().remove(0);
        while !responds(address, &host, setup.paths()[0].as_str()) {
            if watch.elapsed() > START_MAX || group.0.ended().is_some() {
                return Err(group
                    .0
                    .wait_for("response", Duration::ZERO, |_| None::<()>)
                    .expect_err("nothing is looked for"));
            }
            clock::pause(LOOK_INTERVAL);
        }
        Ok(Running { address, start_ms: watch.elapsed().as_secs_f64() * 1_000.0, group: Some(group) })
    }

    fn command(
        self,
        setup: Setup,
        programs: &Programs,
        address: SocketAddr,
        origin: &[SocketAddr],
    ) -> io::Result<Command> {
        let file = |name: &str, text: String| -> io::Result<PathBuf> {
            let path = programs.folder.join(name);
            fs::write(&path, text)?;
            Ok(path)
        };
        let fill = |template: &str| fill(template, address, origin, &programs.folder);
        let mut command;
        match self {
            Self::Direct | Self::Relay => {
                command = Command::new(&programs.bench);
                command.args(["relay", "--listen", &address.to_string(), "--to", &origin[0].to_string()]);
            }
            Self::Outrigger => {
                let path = file(&format!("outrigger_{}.toml", setup.name()), setup.config(address, origin))?;
                command = Command::new(&programs.outrigger);
                command.arg("--config").arg(path);
            }
            Self::Nginx => {
                command = Command::new("nginx");
                command.arg("-c").arg(fs::canonicalize(file("nginx.conf", fill(NGINX))?)?);
            }
            Self::Haproxy => {
                command = Command::new("haproxy");
                command.arg("-db").arg("-f").arg(file("haproxy.cfg", fill(HAPROXY))?);
            }
            Self::Envoy => {
                command = Command::new(envoy());
                command.args(["--concurrency", "2", "--disable-hot-restart", "--log-level", "error", "-c"]);
                command.arg(file("envoy.yaml", fill(ENVOY))?);
            }
        }
        Ok(command)
    }
}

impl Running {
    /// Its process; the load watches it with its children.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.group.as_ref().map(|group| group.0.id())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Not reaped yet, so the number is still its own. The rest of the group may be gone already.
        if let Some(group) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The one that install.sh has put beside the repository's other things, else the system's.
fn envoy() -> PathBuf {
    let ours = Path::new(".venv-bench/bin/envoy");
    ours.canonicalize().unwrap_or_else(|_| "envoy".into())
}

fn fill(template: &str, address: SocketAddr, origin: &[SocketAddr], folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let mut text =
        template.replace("@PORT@", &address.port().to_string()).replace("@FOLDER@", &folder.to_string_lossy());
    for (endpoint, n) in origin.iter().zip(1..=3) {
        text = text
            .replace(&format!("@ENDPOINT{n}@"), &endpoint.to_string())
            .replace(&format!("@HOST{n}@"), &endpoint.ip().to_string())
            .replace(&format!("@PORT{n}@"), &endpoint.port().to_string());
    }
    text
}

/// A port that was free a moment ago: the peers cannot be given port 0, for they do not say which one they got.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?.local_addr()
}

fn responds(address: SocketAddr, host: &str, path: &str) -> bool {
    let ask = || -> io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(RESPONSE_MAX))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(status.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}
