//! Request bodies: streamed to the endpoint, and kept for a retry as long as they fit.
//!
//! An [`Upload`] owns the body of one request. Each attempt gets a [`Replay`] of it with a position of its own. It first repeats what is kept and then reads
//! what still arrives. Two attempts in flight may read side by side. A retry cuts off the attempts before it, because one that is left over in a connection
//! that is being closed must not read from the downstream any more. The route limits what is kept of one body, and [`ReplayMemory`] limits what is kept of all
//! of them. Past either limit the body goes on streaming but is no longer kept, and the request cannot be repeated. Once the response is settled nothing more is
//! kept either, but what its attempt has not sent yet stays until it is sent.

mod replay;
mod source;

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use outrigger_http1::encode::BodyLength;
use outrigger_policy::lag::Lag;
use outrigger_policy::upload::{self, Look, Pace, State};

pub use self::replay::Replay;
use self::source::Source;
pub use self::source::UploadError;
use super::memory::ReplayMemory;
use super::stream::Stream;
use crate::clock;

/// The body of a request; `None` for the many that have none.
#[derive(Clone, Default)]
pub struct Upload(Option<Rc<RefCell<Source>>>);

impl Upload {
    /// The body of the request on `incoming`. Up to `kept_bytes_max` of it is kept for retries; `pace` says how fast it must arrive.
    pub fn new(
        incoming: &Stream,
        kept_bytes_max: usize,
        memory: &Arc<ReplayMemory>,
        pace: impl FnOnce() -> Pace,
    ) -> Upload {
        let length = match incoming.body_length() {
            BodyLength::None => return Upload(None),
            BodyLength::Known(length) => Some(length),
            BodyLength::Unknown => None,
        };
        let pace = pace();
        // A body that announces more than fits is not kept at all, because its first part alone is of no use.
        let fits = length.is_none_or(|length| length <= kept_bytes_max as u64);
        Upload(Some(Rc::new(RefCell::new(Source {
            incoming: Some(incoming.clone()),
            length,
            kept: Vec::new(),
            block: BytesMut::new(),
            kept_bytes: 0,
            kept_bytes_max: if fits { kept_bytes_max } else { 0 },
            memory: Arc::clone(memory),
            is_whole: true,
            was_read: false,
            trailers: None,
            reading: State::AwaitingEndpoint(pace.began()),
            look: None,
            pace,
            readers: 0,
            readers_left: 0,
            cut_off: 0,
            drawn: 0,
            bytes: 0,
        }))))
    }

    /// A reader from the beginning. If not [`Upload::is_replayable`], it ends with an error, never with a part of the body.
    pub fn read(&self) -> Replay {
        let reading = self.0.as_ref().map_or(0, |source| {
            let mut source = source.borrow_mut();
            source.readers += 1;
            source.readers_left += 1;
            source.readers
        });
        Replay { source: self.0.clone(), reading, at: 0, sent: 0 }
    }

    /// Cuts off the readers so far, because a retry takes over. Until the new reader polls, no time counts against the downstream.
    pub fn cut_off_readers(&self, now: Instant) {
        if let Some(source) = &self.0 {
            let mut source = source.borrow_mut();
            source.cut_off = source.readers;
            source.look = None;
            if matches!(source.reading, State::AwaitingDownstream(_)) {
                source.reading = State::AwaitingEndpoint(now);
            }
        }
    }

    /// Notes how far the bytes of the attempt that began at `started` have come.
    pub fn note(&self, look: Look, started: Instant) {
        let Some(source) = &self.0 else { return };
        let mut source = source.borrow_mut();
        // A retry that sends only what was kept does not make the request any longer.
        let is_replay = matches!(source.reading, State::Ended(Some(read_at)) if read_at < started);
        // Of two attempts, the one whose bytes left last counts.
        if !is_replay && source.look.is_none_or(|known| known.left_at <= look.left_at) {
            source.look = Some(look);
        }
    }

    /// Whether nothing of the body has been read.
    pub fn is_untouched(&self) -> bool {
        self.0.as_ref().is_some_and(|source| !source.borrow().was_read)
    }

    /// Pieces read from the downstream so far, by all readers.
    pub fn drawn(&self) -> u64 {
        self.0.as_ref().map_or(0, |source| source.borrow().drawn)
    }

    /// The length of the body, as far as the request's head says.
    pub fn length(&self) -> BodyLength {
        match self.0.as_ref().map(|source| source.borrow().length) {
            None => BodyLength::None,
            Some(Some(length)) => BodyLength::Known(length),
            Some(None) => BodyLength::Unknown,
        }
    }

    /// Keeps nothing more, because there will be no further reader. The reader that is left still gets what it has not read of what is kept.
    pub fn stop_keeping(&self) {
        if let Some(source) = &self.0 {
            let mut source = source.borrow_mut();
            source.is_whole = false;
            if source.readers_left == 0 {
                source.forget();
            }
            // The attempt that waited may not be the one that is left.
            if let State::AwaitingDownstream(since) = source.reading {
                let now = clock::now();
                source.pace.waited(now.saturating_duration_since(since));
                source.reading = State::AwaitingEndpoint(now);
            }
        }
    }

    /// The state of the upload for the policies. `lag` is the worker's scheduling lag.
    pub fn standing(&self, lag: Lag) -> Cow<'static, upload::Upload> {
        let Some(source) = &self.0 else { return Cow::Borrowed(&upload::Upload::NONE) };
        let mut source = source.borrow_mut();
        source.pace.notice(lag);
        Cow::Owned(source.standing())
    }

    /// Whether the endpoint may have tired of the body through no fault of its own. `stood_still`: this process did, for long, while it sent the body.
    pub fn is_delayed(&self, stood_still: bool) -> bool {
        self.0.as_ref().is_some_and(|source| source.borrow().standing().is_delayed(clock::now(), stood_still))
    }

    /// Whether the downstream has broken the body off.
    pub fn is_broken(&self) -> bool {
        self.0.as_ref().is_some_and(|source| source.borrow().reading == State::Broken)
    }

    /// Whether the proxy waits for the downstream to send more.
    pub fn awaits_downstream(&self) -> bool {
        self.0.as_ref().is_some_and(|source| matches!(source.borrow().reading, State::AwaitingDownstream(_)))
    }

    /// When the whole body must have arrived, whether it has or not.
    pub fn whole_by(&self) -> Option<Instant> {
        self.0.as_ref().map(|source| source.borrow().pace.whole_by())
    }

    /// Whether a new reader would get the whole body.
    pub fn is_replayable(&self) -> bool {
        self.0.as_ref().is_none_or(|source| source.borrow().is_replayable())
    }
}
