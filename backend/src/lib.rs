//! The faulty service of the Outrigger lab: it sends one message on its data port and shows the faults that its control
//! port asks for. It knows nothing of any proxy.
//!
//! A library as well as a program, so that tests can run it in their own process:
//!
//! ```
//! # async fn example() -> std::io::Result<()> {
//! let options = backend::Options::on_loopback(backend::Plan::default());
//! let backend = backend::Backend::start(options).await?;
//! println!("http://{}", backend.data_address());
//! # Ok(())
//! # }
//! ```
//!
//! `data` responds to requests, `plan` draws their fates from `faults`, `rng` holds the generator, `cut` breaks connections,
//! `received` counts, `control` takes orders, `listen` accepts, `flags` reads the command line.

mod control;
mod cut;
mod data;
pub mod faults;
pub mod flags;
mod listen;
pub mod plan;
pub mod received;
mod rng;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::data::Shared;
pub use crate::faults::Faults;
pub use crate::plan::Plan;
use crate::received::{IdFilter, Received, Report};
use crate::rng::Draws;

/// What a backend is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address of the data port; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Address of the control port; port 0 takes any free one.
    pub control: SocketAddr,
    /// Start of the generator.
    pub seed: u64,
    /// The faults at the start.
    pub plan: Plan,
}

impl Options {
    /// Any free ports on loopback, seed 1.
    pub fn on_loopback(plan: Plan) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { listen: any, control: any, seed: 1, plan }
    }
}

/// A running backend. Dropping it closes both ports and every connection.
#[derive(Debug)]
pub struct Backend {
    data_address: SocketAddr,
    control_address: SocketAddr,
    shared: Arc<Shared>,
    /// The two accept loops, which own the connections.
    _tasks: JoinSet<()>,
}

impl Backend {
    /// Binds both ports and serves them in tasks of the current runtime. Fails if a port cannot be bound.
    pub async fn start(options: Options) -> io::Result<Self> {
        let data = listen::bind(options.listen).await?;
        let control = listen::bind(options.control).await?;
        let (data_address, control_address) = (data.local_addr()?, control.local_addr()?);
        let draws = Draws::new(options.plan, options.seed);
        let shared = Arc::new(Shared { draws, received: Arc::new(Received::default()) });

        let mut tasks = JoinSet::new();
        let of_data = Arc::clone(&shared);
        tasks.spawn(listen::accept(data, move |stream| data::serve(stream, Arc::clone(&of_data))));
        let of_control = Arc::clone(&shared);
        tasks.spawn(listen::accept(control, move |stream| control::serve(stream, Arc::clone(&of_control))));
        Ok(Self { data_address, control_address, shared, _tasks: tasks })
    }

    /// Where the data port really is.
    pub fn data_address(&self) -> SocketAddr {
        self.data_address
    }

    /// Where the control port really is.
    pub fn control_address(&self) -> SocketAddr {
        self.control_address
    }

    /// The next request meets this plan; with a seed, the generator starts over.
    pub fn set_plan(&self, plan: Plan, seed: Option<u64>) {
        self.shared.draws.replace(plan, seed);
    }

    /// What has arrived so far.
    pub fn received(&self, ids: IdFilter) -> Report {
        self.shared.received.report(ids)
    }
}
