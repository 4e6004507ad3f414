//! The look-ups of names, with bounds that dead names cannot use up.
//!
//! The system's resolver is asked, so that a name means here what it means to every other program of the machine: `/etc/hosts`, `nsswitch.conf`, search domains.
//! Its call blocks a thread and cannot be stopped, and for a name whose server is silent it may block for a long time. Therefore:
//!
//! - A name has at most one look-up under way. Whoever asks for it meanwhile waits for the same answer, across upstreams and generations.
//! - Names that were answered promptly, new names, and slow names have places of their own, and wait for them in the order in which they came. So a name that is
//!   answered never waits for one that is not.
//! - A look-up that takes longer than [`PROMPT_MAX`] goes on, and its name counts as slow until it is answered promptly again. It gives its place back if it
//!   finds one among those that are overdue, so a new name waits for the dead ones before it only that long.
//!
//! All places together are at most as many as tokio's pool has threads, so no look-up waits for a thread. They are fewer where descriptors or memory are few. All of this belongs to the control thread.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

use crate::clock;

/// Look-ups under way at once, by the pace of their names, at most. Each takes a thread and a descriptor or two. The rest of all places is for look-ups that took
/// longer than [`PROMPT_MAX`] and have left theirs.
const PROMPT_PLACES: usize = 32;
const NEW_PLACES: usize = 64;
const SLOW_PLACES: usize = 64;
/// The threads of tokio's pool, unless a runtime is built with another number.
pub const POOL_THREADS: usize = 512;
/// A server that works answers within milliseconds, even if every search domain has to be tried.
const PROMPT_MAX: Duration = Duration::from_secs(1);

/// How a name is looked up; tests bring their own.
pub trait Ask {
    /// All addresses of `host`.
    fn ask(&self, host: &str) -> Asking;
}

/// The addresses of a name, in time.
pub type Asking = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>>>>;

/// Asks the system, on a thread of tokio's pool.
pub struct System;

impl Ask for System {
    fn ask(&self, host: &str) -> Asking {
        let host = host.to_owned();
        Box::pin(async move {
            // The port has no meaning here.
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// How a look-up ended: the addresses are in [`Name::known`], or this is the resolver's error.
pub type Answer = Result<(), Arc<str>>;

/// Every name that the generation in force needs.
pub struct Resolver {
    system: Box<dyn Ask>,
    names: RefCell<HashMap<String, Rc<Name>>>,
    prompt: Semaphore,
    new: Semaphore,
    slow: Semaphore,
    overdue: Semaphore,
}

/// How the last look-up of a name went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pace {
    /// There was none.
    New,
    /// It took no longer than [`PROMPT_MAX`].
    Prompt,
    /// It took longer.
    Slow,
}

/// A name, and what is known of it.
pub struct Name {
    /// The name, in lower case.
    pub host: String,
    known: RefCell<Option<Arc<[IpAddr]>>>,
    /// When the last look-up ended.
    answered_at: Cell<Option<Instant>>,
    is_under_way: Cell<bool>,
    pace: Cell<Pace>,
    answers: watch::Sender<Answer>,
}

impl Resolver {
    /// A resolver that asks `system`, for at most so many names at once, and knows nothing yet.
    pub fn new(system: Box<dyn Ask>, places: usize) -> Rc<Resolver> {
        // A quarter each, where that is less.
        let share = |most: usize| most.min(places / 4).max(1);
        let (prompt, new, slow) = (share(PROMPT_PLACES), share(NEW_PLACES), share(SLOW_PLACES));
        Rc::new(Resolver {
            system,
            names: RefCell::default(),
            prompt: Semaphore::new(prompt),
            new: Semaphore::new(new),
            slow: Semaphore::new(slow),
            overdue: Semaphore::new(places.saturating_sub(prompt + new + slow)),
        })
    }

    /// The name `host`.
    pub fn name(&self, host: &str) -> Rc<Name> {
        let mut names = self.names.borrow_mut();
        let new = || {
            Rc::new(Name {
                host: host.to_owned(),
                known: RefCell::default(),
                answered_at: Cell::default(),
                is_under_way: Cell::default(),
                pace: Cell::new(Pace::New),
                answers: watch::Sender::new(Ok(())),
            })
        };
        Rc::clone(names.entry(host.to_owned()).or_insert_with(new))
    }

    /// Looks `name` up, unless a look-up is under way already, and waits for its end. The look-up goes on if the future is dropped.
    pub fn look_up(self: &Rc<Self>, name: &Rc<Name>) -> impl Future<Output = Answer> + use<> {
        let mut answers = name.answers.subscribe();
        if !name.is_under_way.replace(true) {
            // The task ends with the look-up, or with the runtime.
            tokio::task::spawn_local(Rc::clone(self).ask(Rc::clone(name)));
        }
        async move {
            // It fails if the name is gone, which only the end of the runtime does to a look-up under way.
            let _ = answers.changed().await;
            answers.borrow().clone()
        }
    }

    async fn ask(self: Rc<Self>, name: Rc<Name>) {
        let places = match name.pace.get() {
            Pace::Prompt => &self.prompt,
            Pace::New => &self.new,
            Pace::Slow => &self.slow,
        };
        let mut place = places.acquire().await.expect("nobody closes it");
        if name.answers.receiver_count() == 0 {
            // Whoever asked is gone, with the generation that needed the name.
            name.is_under_way.set(false);
            return;
        }
        let mut asking = self.system.ask(&name.host);
        let answer = match clock::until(clock::now() + PROMPT_MAX, &mut asking).await {
            Some(answer) => {
                name.pace.set(Pace::Prompt);
                answer
            }
            None => {
                // A slow name stays where it is, or the dead ones would take all places in turn.
                if name.pace.replace(Pace::Slow) != Pace::Slow
                    && let Ok(free) = self.overdue.try_acquire()
                {
                    place = free;
                }
                asking.await
            }
        };
        drop(place);
        name.answer(answer);
    }

    /// Forgets all names but these, and those that are being looked up.
    pub fn keep_only(&self, hosts: &BTreeSet<&str>) {
        self.names.borrow_mut().retain(|host, name| hosts.contains(host.as_str()) || name.is_under_way.get());
    }
}

impl Name {
    /// The addresses that were found last. A look-up that fails takes none away, because the old address is a better guess than none.
    pub fn known(&self) -> Option<Arc<[IpAddr]>> {
        self.known.borrow().clone()
    }

    /// When the last look-up ended; `None` if there was none, or if one is under way.
    pub fn answered_at(&self) -> Option<Instant> {
        self.answered_at.get().filter(|_| !self.is_under_way.get())
    }

    /// Tells of every look-up that ends from now on.
    pub fn answers(&self) -> watch::Receiver<Answer> {
        self.answers.subscribe()
    }

    fn answer(&self, found: io::Result<Vec<IpAddr>>) {
        let answer = match found {
            Ok(addresses) if addresses.is_empty() => Err("the name has no address".into()),
            Ok(mut addresses) => {
                addresses.sort_unstable();
                addresses.dedup();
                self.known.replace(Some(addresses.into()));
                Ok(())
            }
            Err(error) => Err(error.to_string().into()),
        };
        self.is_under_way.set(false);
        self.answered_at.set(Some(clock::now()));
        self.answers.send_modify(|last| *last = answer);
    }
}
