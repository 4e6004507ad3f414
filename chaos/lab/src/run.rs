//! Runs one experiment: starts the programs, lets the load pass, kills or hangs the backend meanwhile, and reads the results.
//!
//! The programs end with the values that own them, whatever happens. Raw files are written even for a part with unexpected results, because
//! they explain it.

use std::fs::{self, File};
use std::io;
use std::iter;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use report::run::Report;

use crate::clock::{self, Deadline, Stopwatch};
use crate::error::Error;
use crate::experiment::{Cause, DOWN_FOR, Experiment, Faults, KILL_AFTER};
use crate::exposition::Samples;
use crate::interrupt::Interrupt;
use crate::outage::Outage;
use crate::process::{Process, Signal};
use crate::programs::{Backend, BudgetStatus, Programs, Proxy};
use crate::progress::Progress;
use crate::proxy_log;
use crate::results::{Breaker, Part, Sidecar, number};
use crate::rows;

/// Beyond the load's end: the client's timeout for its last request, and its files.
const CLIENT_MAX: Duration = Duration::from_secs(20);
/// For a proxy that has nothing left to do.
const STOP_MAX: Duration = Duration::from_secs(10);

/// What all experiments share.
#[derive(Debug)]
pub struct Lab {
    /// Backend, client and proxy.
    pub programs: Programs,
    /// Where raw files go.
    pub folder: PathBuf,
    /// Requests per second.
    pub rate: f64,
    /// How long each load lasts.
    pub lasts: Duration,
    /// Of the backend's generator.
    pub seed: u64,
    /// Looked at while a load passes.
    pub interrupt: Interrupt,
    /// Where progress is shown.
    pub progress: Progress,
}

/// When the backend went and came, and what it had received of which its present process knows nothing.
#[derive(Debug, Clone, Copy)]
struct Down {
    from_unix_ms: f64,
    until_unix_ms: f64,
    received_before: u64,
}

/// The client at work.
struct Load<'a> {
    experiment: &'a Experiment,
    client: Process,
    began: Stopwatch,
}

/// Why a wait was cut short.
enum Cut {
    Interrupted,
    Ended,
}

impl Lab {
    /// Runs the experiment and reads its results.
    ///
    /// # Errors
    /// A program, a port or a file was not as it should be, or somebody interrupted.
    pub fn run(&self, experiment: &Experiment) -> Result<Part, Error> {
        let lasts = experiment.lasts(self.lasts);
        self.progress.begin(experiment, lasts);
        let arguments = self.backend_arguments(experiment);
        let arguments = arguments.each_ref().map(String::as_str);
        let mut backend = self.programs.backend(&arguments)?;
        let others = (1..experiment.backends).map(|_| self.programs.backend(&arguments));
        let others: Vec<Backend> = others.collect::<Result<_, _>>()?;
        let endpoints: Vec<_> = iter::once(&backend).chain(&others).map(|backend| backend.data).collect();
        let mut proxy = self.start_proxy(experiment, &endpoints)?;
        let mut load = self.start_load(experiment, &backend, proxy.as_ref())?;
        let down = match experiment.outage {
            Some(Cause::Killed) => Some(self.kill_and_return(&mut backend, &mut load)?),
            Some(Cause::Hangs) => Some(self.hang_and_return(&backend, &mut load)?),
            None => None,
        };
        self.let_pass(&mut load, lasts + CLIENT_MAX, "")?;
        self.progress.end();
        let status = load.client.wait(Duration::ZERO)?;
        if !status.success() {
            return Err(Error::Unexpected(format!("client failed ({status}){}", load.client.tail())));
        }
        let backends: Vec<_> = iter::once(&backend).chain(&others).collect();
        self.read(experiment, &backends, proxy.as_mut(), down)
    }

    fn backend_arguments(&self, experiment: &Experiment) -> [String; 4] {
        ["--faults".to_owned(), experiment.faults.json(), "--seed".to_owned(), self.seed.to_string()]
    }

    fn start_proxy(&self, experiment: &Experiment, endpoints: &[SocketAddr]) -> Result<Option<Proxy>, Error> {
        let Some(config) = experiment.config(endpoints, self.programs.reachable()) else { return Ok(None) };
        let path = self.file(experiment, "toml");
        fs::write(&path, config).map_err(Error::io(path.display()))?;
        Ok(Some(self.programs.proxy(&path)?))
    }

    fn start_load<'a>(
        &self,
        experiment: &'a Experiment,
        backend: &Backend,
        proxy: Option<&Proxy>,
    ) -> Result<Load<'a>, Error> {
        // Through the proxy the app names the upstream and leaves it to the proxy to know where that is.
        let (target, via) = match proxy {
            Some(proxy) => ("http://backend/".to_owned(), format!("http://{}", proxy.app)),
            None => (format!("http://{}/", backend.data), String::new()),
        };
        let rate = (self.rate * experiment.rate_factor).to_string();
        let lasts = format!("{}ms", experiment.lasts(self.lasts).as_millis());
        let (json, csv) = (self.file(experiment, "json"), self.file(experiment, "csv"));
        let (json, csv) = (json.to_string_lossy(), csv.to_string_lossy());
        let (method, connections) = (experiment.method, experiment.connections.to_string());
        let timeout = format!("{}ms", experiment.timeout.as_millis());
        let arguments = ["run", &target, "--proxy", &via, "--rate", &rate, "--duration", &lasts, "--method", method];
        let more = ["--connections", &connections, "--timeout", &timeout, "--json", &json, "--csv", &csv, "--quiet"];
        let body: &[&str] = if method == "POST" { &["--body", "one order"] } else { &[] };
        let client = self.programs.client_beside(proxy, [&arguments[..], &more[..], body].concat(), &self.folder)?;
        Ok(Load { experiment, client, began: Stopwatch::start() })
    }

    /// Kills the backend under load and starts it again on its port.
    fn kill_and_return(&self, backend: &mut Backend, load: &mut Load) -> Result<Down, Error> {
        self.let_pass(load, KILL_AFTER, "")?;
        let received = backend.received().map_err(Error::io("the backend's control port"))?;
        let from_unix_ms = clock::unix_ms();
        backend.process.signal(Signal::KILL);
        backend.process.wait(STOP_MAX)?;
        self.let_pass(load, DOWN_FOR, ", backend killed")?;
        let arguments = self.backend_arguments(load.experiment);
        *backend = self.programs.backend_again(backend, &arguments.each_ref().map(String::as_str))?;
        Ok(Down { from_unix_ms, until_unix_ms: clock::unix_ms(), received_before: received.requests })
    }

    /// Has the backend hang for a while. The requests it takes meanwhile never get a response.
    fn hang_and_return(&self, backend: &Backend, load: &mut Load) -> Result<Down, Error> {
        let faults = load.experiment.faults;
        let set = |faults: Faults| backend.set_faults(&faults.json()).map_err(Error::io("the backend's control port"));
        self.let_pass(load, KILL_AFTER, "")?;
        let from_unix_ms = clock::unix_ms();
        set(Faults { hangs: 1.0, ..faults })?;
        self.let_pass(load, DOWN_FOR, ", backend hangs")?;
        set(faults)?;
        Ok(Down { from_unix_ms, until_unix_ms: clock::unix_ms(), received_before: 0 })
    }

    /// Waits until so much time has passed or the client has ended.
    fn let_pass(&self, load: &mut Load, time: Duration, note: &str) -> Result<(), Error> {
        let lasts = load.experiment.lasts(self.lasts);
        let mut shown_s = None;
        let cut = Deadline::after(time).poll(|| {
            let elapsed = load.began.elapsed().min(lasts);
            if shown_s != Some(elapsed.as_secs()) {
                shown_s = Some(elapsed.as_secs());
                self.progress.tick(load.experiment, elapsed, lasts, note);
            }
            if self.interrupt.is_set() {
                return Some(Cut::Interrupted);
            }
            load.client.ended().map(|_| Cut::Ended)
        });
        match cut {
            Some(Cut::Interrupted) => Err(Error::Interrupted),
            Some(Cut::Ended) | None => Ok(()),
        }
    }

    /// Reads what client, backends and proxy have counted.
    fn read(
        &self,
        experiment: &Experiment,
        backends: &[&Backend],
        proxy: Option<&mut Proxy>,
        down: Option<Down>,
    ) -> Result<Part, Error> {
        let report = Report::read(&self.file(experiment, "json")).map_err(Error::Unexpected)?;
        let began = number(report.setting.started_unix_ms);
        let (retries, sidecar) = match proxy {
            Some(proxy) => {
                self.read_proxy(experiment, proxy, &report).map(|(retries, sidecar)| (retries, Some(sidecar)))?
            }
            None => (0, None),
        };
        let received = backends.iter().map(|backend| backend.received()).collect::<Result<Vec<_>, _>>();
        let received = received.map_err(Error::io("a backend's control port"))?;
        let outage = match down {
            None => None,
            Some(down) => {
                let rows = rows::read(&self.file(experiment, "csv"), began).map_err(Error::Unexpected)?;
                let moves = sidecar.as_ref().map_or(&[][..], |sidecar| &sidecar.breaker.transitions);
                let at = |unix_ms: f64| (unix_ms - began) / 1_000.0;
                Some(Outage::read(&rows, moves, at(down.from_unix_ms), at(down.until_unix_ms)))
            }
        };
        let counts = &report.counts;
        let received_now: u64 = received.iter().map(|received| received.requests).sum();
        let backend_received = received_now + down.map_or(0, |down| down.received_before);
        Ok(Part {
            title: experiment.title.to_owned(),
            rate: self.rate * experiment.rate_factor,
            elapsed_s: report.elapsed_s,
            started_unix_ms: began,
            requests: counts.requests,
            succeeded: counts.succeeded,
            success_rate: report.success_rate.unwrap_or_default(),
            p50_ms: report.latency_ms.p50,
            p95_ms: report.latency_ms.p95,
            p99_ms: report.latency_ms.p99,
            p99_ok_ms: report.latency_ok_ms.p99,
            statuses: counts.statuses.clone(),
            errors: counts.errors.iter().map(|(failure, count)| (failure.name().to_owned(), *count)).collect(),
            backend_received,
            extra_load: number(backend_received) / number(counts.requests.max(1)) - 1.0,
            repeated_ids: number_of(received.iter().map(|received| received.ids.len()).sum()),
            retries,
            sidecar,
            outage,
        })
    }

    /// The proxy's retries, its other counters and its log, which are kept as files, too; then it is stopped.
    fn read_proxy(&self, experiment: &Experiment, proxy: &mut Proxy, report: &Report) -> Result<(u64, Sidecar), Error> {
        let admin = Error::io("the proxy's admin port");
        let (metrics, status) = (proxy.metrics().map_err(&admin)?, proxy.status().map_err(admin)?);
        proxy.process.signal(Signal::TERM);
        let stopped = proxy.process.wait(STOP_MAX);
        self.keep(experiment, "proxy.log", &(proxy.process.stdout().join("\n") + "\n"))?;
        let stopped = stopped?;
        if !stopped.success() {
            return Err(Error::Unexpected(format!("the proxy ended badly ({stopped}){}", proxy.process.tail())));
        }
        let route = status.upstreams.first().and_then(|upstream| upstream.routes.first());
        let (max_attempts, budget) = route
            .and_then(|route| Some((route.max_attempts, route.budget?)))
            .ok_or_else(|| Error::Unexpected("the proxy's /status has no budget".to_owned()))?;
        let transitions = proxy_log::transitions(&proxy.log(), number(report.setting.started_unix_ms));
        let open = proxy_log::spans(&transitions, "open", report.elapsed_s);
        let open_s = open.iter().map(|(from, to)| to - from).sum();
        // `unsent` replaces an attempt that never left over a dead connection: it is none more.
        let unsent = metrics.count("outrigger_retries_total", &[("reason", "unsent")]);
        let retries = metrics.count("outrigger_retries_total", &[]).saturating_sub(unsent);
        let sidecar = Sidecar {
            retries_refused: by_label(&metrics, "outrigger_retries_refused_total", "reason"),
            retries_refused_by_budget: metrics.count("outrigger_retries_refused_total", &[("reason", "budget")]),
            budget_exhausted: metrics.count("outrigger_budget_exhausted_total", &[]),
            max_attempts,
            budget,
            backend_received_max: received_max(&budget, report),
            connects_refused: metrics.count("outrigger_connects_total", &[("result", "connect_refused")]),
            breaker: Breaker { transitions, open_s },
        };
        Ok((retries, sidecar))
    }

    /// `a.csv` for part a.
    #[must_use]
    pub fn file(&self, experiment: &Experiment, ending: &str) -> PathBuf {
        self.folder.join(format!("{}.{ending}", experiment.name))
    }

    fn keep(&self, experiment: &Experiment, ending: &str, text: &str) -> Result<(), Error> {
        let path = self.file(experiment, ending);
        fs::write(&path, text).map_err(Error::io(path.display()))
    }

    /// Writes a file of the whole run.
    ///
    /// # Errors
    /// Those of the file.
    pub fn write(&self, name: &str, write: impl FnOnce(File) -> io::Result<()>) -> Result<PathBuf, Error> {
        let path = self.folder.join(name);
        File::create(&path).and_then(write).map_err(Error::io(path.display()))?;
        Ok(path)
    }
}

/// The budget's law: each request may bring `ratio` extra attempts, and each second, with one window in advance, the floor.
fn received_max(budget: &BudgetStatus, report: &Report) -> f64 {
    let seconds = report.elapsed_s + budget.window_seconds;
    (1.0 + budget.ratio) * number(report.counts.requests) + budget.floor_per_second * seconds
}

fn by_label(metrics: &Samples, name: &str, label: &str) -> std::collections::BTreeMap<String, u64> {
    let values = metrics.of(name, &[]).filter_map(|sample| sample.label(label));
    values.map(|value| (value.to_owned(), metrics.count(name, &[(label, value)]))).collect()
}

fn number_of(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
