//! One measurement: starts the origin, the peer before it, and the load before that, and reads the results. Then it ends all of them.
//!
//! Each measurement has fresh processes, so that nothing of one is left for the next, and each is a measurement of the start as well.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use lab::clock::{self, Stopwatch};
use lab::error::Error;
use lab::http;
use lab::interrupt::Interrupt;
use lab::process::Process;

use crate::load::Measured;
use crate::origin::Stats;
use crate::peers::{Peer, Programs, Running};
use crate::proc;
use crate::scenario::{Case, Load, Work};

/// How long the origin may take to print where it listens.
const ORIGIN_MAX: Duration = Duration::from_secs(20);
/// The part of the time before anything counts, in which connections are made, pools fill and branch predictors learn.
const WARM_SHARE: f64 = 0.2;
/// How much longer than its own time a load may take, since ten thousand connections take a while to open.
const LOAD_MAX: Duration = Duration::from_secs(90);
/// Connections of the memory's scenario, and how many ask at once.
const HELD: usize = 1_000;
const HELD_AT_ONCE: usize = 64;
/// Until the last look at memory: longer than idle upstream connections are kept.
const SETTLE: Duration = Duration::from_secs(6);

/// What all measurements share.
#[derive(Debug, Clone)]
pub(crate) struct Bench {
    pub(crate) programs: Programs,
    /// Each load is measured for so long.
    pub(crate) lasts: Duration,
    /// Looked at while a load passes.
    pub(crate) interrupt: Interrupt,
}

/// The origin at work.
pub(crate) struct Origin {
    /// One for each of its ports.
    pub(crate) addresses: Vec<SocketAddr>,
    process: Process,
}

impl Bench {
    /// What a case comes to, by figure.
    ///
    /// # Errors
    /// A program was not as it should be, or somebody interrupted.
    pub(crate) fn measure(&self, case: &Case) -> Result<Vec<(String, f64)>, Error> {
        let origin = self.origin(case.setup.endpoints())?;
        let running = case.peer.start(case.setup, &self.programs, &origin.addresses)?;
        let mut figures = match &case.work {
            Work::Load(load) => {
                origin.order(&format!("fail/{}", load.fail_permille))?;
                figures(&self.load(case, load, &running, &origin)?)
            }
            Work::Memory => self.memory(&running)?,
        };
        if running.pid().is_some() {
            figures.push(("start_ms", running.start_ms));
        }
        if self.interrupt.is_set() {
            return Err(Error::Interrupted);
        }
        Ok(figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// An origin with so many ports.
    ///
    /// # Errors
    /// It does not say where it listens.
    pub(crate) fn origin(&self, ports: usize) -> Result<Origin, Error> {
        let mut command = Command::new(&self.programs.bench);
        command.args(["origin", "--ports", &ports.to_string()]);
        let mut process = Process::spawn("origin", command)?;
        let addresses = process.wait_for("line with its ports", ORIGIN_MAX, |line| {
            line.strip_prefix("origin listening on ")?.split(',').map(|address| address.parse().ok()).collect()
        })?;
        Ok(Origin { addresses, process })
    }

    fn load(&self, case: &Case, load: &Load, running: &Running, origin: &Origin) -> Result<Measured, Error> {
        let mut process = self.start_load(case, load, running, origin)?;
        let watch = Stopwatch::start();
        while process.ended().is_none() && watch.elapsed() < self.lasts.mul_f64(1.0 + WARM_SHARE) + LOAD_MAX {
            if self.interrupt.is_set() {
                return Err(Error::Interrupted);
            }
            clock::pause(Duration::from_millis(10));
        }
        process.wait(Duration::ZERO)?;
        let measured: Option<Measured> = process.stdout().first().and_then(|line| serde_json::from_str(line).ok());
        let measured = measured
            .ok_or_else(|| Error::Unexpected(format!("the load on {} failed{}", case.peer.name(), process.tail())))?;
        if measured.requests == 0 {
            return Err(Error::Unexpected(format!("{} sent no response: {:?}", case.peer.name(), measured.failures)));
        }
        Ok(measured)
    }

    /// The load's process, which watches the peer's.
    pub(crate) fn start_load(
        &self,
        case: &Case,
        load: &Load,
        running: &Running,
        origin: &Origin,
    ) -> Result<Process, Error> {
        let paths = match case.setup.paths() {
            paths if load.response_bytes == 40 => paths.join(","),
            _ => format!("/{}", load.response_bytes),
        };
        let mut command = Command::new(&self.programs.bench);
        command.args(["load", "--to", &running.address.to_string(), "--method", load.method, "--paths", &paths]);
        command.args(["--hosts", &case.setup.hosts().join(","), "--body-bytes", &load.body_bytes.to_string()]);
        command.args(["--connections", &load.connections.to_string()]);
        match load.rate {
            Some(rate) => command.args(["--rate", &rate.to_string()]),
            None => command.args(["--active", &load.active.to_string()]),
        };
        let (warm, lasts) = (self.lasts.mul_f64(WARM_SHARE).as_millis(), self.lasts.as_millis());
        command.args(["--warm-ms", &warm.to_string(), "--measure-ms", &lasts.to_string()]);
        command.args(["--origin", &origin.process.id().to_string()]);
        if let Some(pid) = running.pid() {
            command.args(["--watch", &pid.to_string()]);
        }
        Ok(Process::spawn("load", command)?)
    }

    /// Resident memory: after its first response, with many connections that have made a request each, and when they have gone.
    fn memory(&self, running: &Running) -> Result<Vec<(&'static str, f64)>, Error> {
        let at = Error::io("memory");
        let resident = || -> io::Result<f64> {
            let bytes = proc::resident_bytes(&running.pid().map(proc::tree).unwrap_or_default())?;
            #[expect(clippy::cast_precision_loss, reason = "memory is less than 2^53 bytes")]
            Ok(bytes as f64 / (1024.0 * 1024.0))
        };
        clock::pause(Duration::from_millis(500));
        let idle = resident().map_err(&at)?;
        let held = hold(running.address).map_err(&at)?;
        let open = resident().map_err(&at)?;
        drop(held);
        let watch = Stopwatch::start();
        while watch.elapsed() < SETTLE && !self.interrupt.is_set() {
            clock::pause(Duration::from_millis(50));
        }
        Ok(vec![("idle_mib", idle), ("open_mib", open), ("after_mib", resident().map_err(&at)?)])
    }

    /// Whether a peer is one: it responds with the origin's status and body, sends a body on, keeps its connections to the origin, and hides a failed
    /// attempt where it is meant to.
    ///
    /// # Errors
    /// What it does not do.
    pub(crate) fn check(&self, peer: Peer) -> Result<(), Error> {
        let origin = self.origin(3)?;
        let setup = crate::setup::Setup::Standard;
        let running = peer.start(setup, &self.programs, &origin.addresses)?;
        let at = Error::io(format!("{} does not proxy", peer.name()));
        let unfit =
            |what: String| Err(Error::Unexpected(format!("{} does not proxy as the others do: {what}", peer.name())));
        let response = http::ask(running.address, "GET", "/40", &[("host", "backend")], "").map_err(&at)?;
        if (response.status, response.body.as_slice()) != (200, &[b'o'; 40][..]) {
            return unfit(format!("GET gave {} with {} bytes", response.status, response.body.len()));
        }
        let before = origin.stats()?;
        let response =
            http::ask(running.address, "POST", "/40", &[("host", "backend")], &"i".repeat(1024)).map_err(&at)?;
        let sent = origin.stats()?.body_bytes - before.body_bytes;
        if (response.status, sent) != (200, 1024) {
            return unfit(format!("POST gave {}, and {sent} bytes of 1024 arrived", response.status));
        }
        let load = Load {
            connections: 4,
            active: 4,
            rate: None,
            method: "GET",
            body_bytes: 0,
            response_bytes: 40,
            fail_permille: 0,
        };
        let case = Case { name: String::new(), peer, setup, work: Work::Load(load.clone()) };
        let before = origin.stats()?;
        let brief = Self { lasts: Duration::from_millis(200), ..self.clone() };
        brief.load(&case, &load, &running, &origin)?;
        let after = origin.stats()?;
        let (requests, connections) = (after.requests - before.requests, after.connections - before.connections);
        if requests < 50 || connections > 40 {
            return unfit(format!("{requests} requests took {connections} connections to the origin"));
        }
        if peer.retries() {
            let before = origin.order("fail_next/1")?;
            let response = http::ask(running.address, "GET", "/40", &[("host", "backend")], "").map_err(&at)?;
            let after = origin.stats()?;
            let (attempts, failed) = (after.requests - before.requests, after.failed - before.failed);
            if (response.status, attempts, failed) != (200, 2, 1) {
                return unfit(format!("a failed attempt gave {}, {attempts} attempts", response.status));
            }
        }
        Ok(())
    }
}

impl Origin {
    /// What has arrived.
    pub(crate) fn stats(&self) -> Result<Stats, Error> {
        self.order("stats")
    }

    fn order(&self, order: &str) -> Result<Stats, Error> {
        let at = Error::io("origin");
        let response = http::get(self.addresses[0], &format!("/-/{order}")).map_err(&at)?;
        serde_json::from_slice(&response.body).map_err(|error| at(io::Error::other(error)))
    }
}

fn figures(measured: &Measured) -> Vec<(&'static str, f64)> {
    #[expect(clippy::cast_precision_loss, reason = "requests of a run are fewer than 2^53")]
    let (requests, succeeded) = (measured.requests as f64, measured.succeeded as f64);
    let cpu_us = measured.cpu_s * 1e6 / requests;
    let mut figures =
        vec![("per_second", requests / measured.seconds), ("success", succeeded / requests), ("busy", measured.busy)];
    if measured.cpu_s > 0.0 {
        let user_us = cpu_us * measured.user_share;
        figures.extend([("cpu_us", cpu_us), ("user_us", user_us), ("system_us", cpu_us - user_us)]);
    }
    figures.extend(measured.latency_us.iter().filter_map(|(share, latency)| Some((figure_of(*share)?, *latency))));
    figures
}

/// The name of a latency by its share of requests.
pub(crate) fn figure_of(share: f64) -> Option<&'static str> {
    let names = [
        (0.1, "p10_us"),
        (0.25, "p25_us"),
        (0.5, "p50_us"),
        (0.75, "p75_us"),
        (0.9, "p90_us"),
        (0.95, "p95_us"),
        (0.99, "p99_us"),
        (0.995, "p995_us"),
        (0.999, "p999_us"),
        (1.0, "max_us"),
    ];
    names.into_iter().find(|(known, _)| (known - share).abs() < 1e-9).map(|(_, name)| name)
}

/// Connections that have each had a response, [`HELD_AT_ONCE`] of them at a time.
fn hold(address: SocketAddr) -> io::Result<Vec<TcpStream>> {
    let mut held = Vec::with_capacity(HELD);
    while held.len() < HELD {
        let count = HELD_AT_ONCE.min(HELD - held.len());
        let mut asking: Vec<TcpStream> = (0..count).map(|_| TcpStream::connect(address)).collect::<io::Result<_>>()?;
        for stream in &mut asking {
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.write_all(b"GET /40 HTTP/1.1\r\nhost: backend\r\n\r\n")?;
        }
        for stream in &mut asking {
            let mut bytes = Vec::new();
            let mut piece = [0; 4096];
            while !bytes.ends_with(&[b'o'; 40]) {
                match stream.read(&mut piece)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    read => bytes.extend_from_slice(&piece[..read]),
                }
            }
        }
        held.append(&mut asking);
    }
    Ok(held)
}
