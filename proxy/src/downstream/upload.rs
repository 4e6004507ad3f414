//! Request bodies: streamed to the endpoint, kept for another attempt as long as they fit.
//!
//! An [`Upload`] owns the body of one request. Each attempt gets a [`Replay`] of it with a place of its own, which first repeats what is kept and then goes on with what still
//! comes in. Two attempts in flight may read side by side. A retry cuts off the attempts before it: one that is left over in a connection that is being torn down must not draw
//! from the downstream any more. What is kept is bounded twice: by the route for one body, and by [`ReplayMemory`] for all of them. Past either bound the body goes on streaming,
//! is no longer kept, and the request can no longer be repeated.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use outrigger_http1::encode::BodyLength;
use outrigger_policy::upload::{self, Pace, State, TooSlow};

use super::memory::ReplayMemory;
use super::stream::Stream;
use crate::clock;

/// What a kept piece costs beside its bytes; a body that comes byte by byte must not cost forty times what is counted.
const PIECE_OVERHEAD: usize = 64;

/// The body of a request; `None` for the many that have none.
#[derive(Clone, Default)]
pub struct Upload(Option<Rc<RefCell<Source>>>);

/// One reading of an [`Upload`], for one attempt.
pub struct Replay {
    upload: Upload,
    reading: u32,
    at: usize,
    sent: u64,
}

/// Why a body cannot be read on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UploadError {
    /// The downstream broke it off, or sent no valid framing.
    Broken,
    /// A retry has taken over.
    CutOff,
    /// What this reading has not sent yet was not kept.
    Lost,
}

struct Source {
    /// Until all has come.
    incoming: Option<Stream>,
    length: Option<u64>,
    kept: Vec<Bytes>,
    kept_bytes: usize,
    kept_bytes_max: usize,
    memory: Arc<ReplayMemory>,
    /// Everything read so far is in `kept`.
    is_whole: bool,
    /// Something has been read.
    was_read: bool,
    trailers: Option<HeaderMap>,
    state: State,
    pace: Pace,
    /// Readings that have been begun.
    readings: u32,
    /// Those up to this one are cut off.
    cut_off: u32,
    /// Pieces drawn so far: a reading that waits has to look again when another one has drawn.
    drawn: u64,
    /// Bytes of data in them.
    bytes: u64,
}

impl Upload {
    /// Keeps up to `kept_bytes_max` of the body of the request on `incoming` for repetitions; `pace` says how fast it must come.
    pub fn new(incoming: &Stream, kept_bytes_max: usize, memory: &Arc<ReplayMemory>, pace: Pace) -> Upload {
        let length = match incoming.body_length() {
            BodyLength::None => return Upload(None),
            BodyLength::Known(length) => Some(length),
            BodyLength::Unknown => None,
        };
        // A body that announces more than fits is not kept at all: copying its first part would help nobody.
        let fits = length.is_none_or(|length| length <= kept_bytes_max as u64);
        Upload(Some(Rc::new(RefCell::new(Source {
            incoming: Some(incoming.clone()),
            length,
            kept: Vec::new(),
            kept_bytes: 0,
            kept_bytes_max: if fits { kept_bytes_max } else { 0 },
            memory: Arc::clone(memory),
            is_whole: true,
            was_read: false,
            trailers: None,
            state: State::AwaitingEndpoint(pace.began()),
            pace,
            readings: 0,
            cut_off: 0,
            drawn: 0,
            bytes: 0,
        }))))
    }

    /// A reading from the beginning. Without [`Upload::is_replayable`] it ends in an error, never in a part of the body.
    pub fn read(&self) -> Replay {
        let reading = self.0.as_ref().map_or(0, |source| {
            let mut source = source.borrow_mut();
            source.readings += 1;
            source.readings
        });
        Replay { upload: self.clone(), reading, at: 0, sent: 0 }
    }

    /// A retry takes over: the readings so far draw nothing more, and nobody reads on before an endpoint takes more.
    pub fn cut_off_readings(&self, now: Instant) {
        if let Some(source) = &self.0 {
            let mut source = source.borrow_mut();
            source.cut_off = source.readings;
            if matches!(source.state, State::AwaitingDownstream(_)) {
                source.state = State::AwaitingEndpoint(now);
            }
        }
    }

    /// Whether nothing of it has been read.
    pub fn is_untouched(&self) -> bool {
        self.0.as_ref().is_some_and(|source| !source.borrow().was_read)
    }

    /// Pieces drawn from the downstream so far, by all readings.
    pub fn drawn(&self) -> u64 {
        self.0.as_ref().map_or(0, |source| source.borrow().drawn)
    }

    /// What is known of it before it is read.
    pub fn length(&self) -> BodyLength {
        match self.0.as_ref().map(|source| source.borrow().length) {
            None => BodyLength::None,
            Some(Some(length)) => BodyLength::Known(length),
            Some(None) => BodyLength::Unknown,
        }
    }

    /// Keeps nothing any more: no further reading will be asked for.
    pub fn stop_keeping(&self) {
        if let Some(source) = &self.0 {
            let mut source = source.borrow_mut();
            source.is_whole = false;
            source.forget();
        }
    }

    /// How it stands, as the policies see it. `lag` is the worker's scheduling lag by now, in all.
    pub fn standing(&self, lag: Duration) -> upload::Upload {
        let Some(source) = &self.0 else { return upload::Upload::NONE };
        let source = source.borrow();
        upload::Upload {
            state: source.state,
            is_replayable: source.is_replayable(),
            too_slow: source.too_slow(lag),
            whole_by: source.is_coming().then(|| source.pace.whole_by(lag)),
        }
    }

    /// Whether a further reading would be the whole body.
    pub fn is_replayable(&self) -> bool {
        self.0.as_ref().is_none_or(|source| source.borrow().is_replayable())
    }
}

impl Source {
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let Some(incoming) = &self.incoming else {
            return Poll::Ready(None);
        };
        let polled = incoming.poll_body(cx);
        let now = clock::now();
        if let (State::AwaitingDownstream(since), Poll::Ready(_)) = (self.state, &polled) {
            self.pace.waited(now.saturating_duration_since(since));
        }
        match polled {
            Poll::Pending => {
                if !matches!(self.state, State::AwaitingDownstream(_)) {
                    self.state = State::AwaitingDownstream(now);
                }
                Poll::Pending
            }
            Poll::Ready(None) => {
                self.end(now);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(_))) => {
                self.incoming = None;
                self.state = State::Broken;
                Poll::Ready(Some(Err(UploadError::Broken)))
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.state = State::AwaitingEndpoint(now);
                self.was_read = true;
                self.drawn += 1;
                let is_last = incoming.has_body_ended();
                if let Some(data) = frame.data_ref() {
                    self.pace.came(data.len());
                    self.bytes += data.len() as u64;
                    self.keep(data);
                } else if let Some(trailers) = frame.trailers_ref() {
                    self.trailers = Some(trailers.clone());
                }
                // Nothing follows trailers, and nobody asks past them.
                if is_last || frame.is_trailers() {
                    self.end(now);
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_replayable(&self) -> bool {
        self.state != State::Broken && (self.is_whole || !self.was_read)
    }

    fn too_slow(&self, lag: Duration) -> Option<TooSlow> {
        let awaited_since = match self.state {
            State::Ended(_) | State::Broken => return None,
            State::AwaitingDownstream(since) => Some(since),
            State::AwaitingEndpoint(_) => None,
        };
        Some(self.pace.too_slow(awaited_since, lag))
    }

    fn is_coming(&self) -> bool {
        matches!(self.state, State::AwaitingDownstream(_) | State::AwaitingEndpoint(_))
    }

    fn end(&mut self, now: Instant) {
        self.incoming = None;
        self.state = State::Ended(Some(now));
    }

    fn keep(&mut self, data: &Bytes) {
        if !self.is_whole {
            return;
        }
        let cost = data.len() + PIECE_OVERHEAD;
        let fits = self.kept_bytes + cost <= self.kept_bytes_max + PIECE_OVERHEAD && self.memory.reserve(cost);
        if fits {
            self.kept_bytes += cost;
            // A small piece is a copy already, and holds no more than its bytes.
            self.kept.push(data.clone());
        } else {
            self.is_whole = false;
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.memory.release(self.kept_bytes);
        self.kept_bytes = 0;
        self.kept = Vec::new();
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.forget();
    }
}

impl Body for Replay {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let this = &mut *self;
        let Some(source) = &this.upload.0 else {
            return Poll::Ready(None);
        };
        let mut source = source.borrow_mut();
        if this.reading <= source.cut_off {
            return Poll::Ready(Some(Err(UploadError::CutOff)));
        }
        if source.state == State::Broken {
            return Poll::Ready(Some(Err(UploadError::Broken)));
        }
        if this.sent < source.bytes && !source.is_whole {
            return Poll::Ready(Some(Err(UploadError::Lost)));
        }
        if let Some(data) = source.kept.get(this.at) {
            this.at += 1;
            this.sent += data.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
        }
        if source.incoming.is_none() {
            let trailers = source.trailers.clone().filter(|_| this.at == source.kept.len());
            this.at += 1; // trailers go out once
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let polled = source.poll_incoming(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            this.at = if frame.is_trailers() { source.kept.len() + 1 } else { source.kept.len() };
            this.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let Some(source) = &self.upload.0 else {
            return true;
        };
        let source = source.borrow();
        let trailers_due = source.trailers.is_some() && self.at <= source.kept.len();
        matches!(source.state, State::Ended(_)) && self.at >= source.kept.len() && !trailers_due
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.upload.0.as_ref().map_or(Some(0), |source| source.borrow().length);
        match length {
            Some(length) => SizeHint::with_exact(length.saturating_sub(self.sent)),
            None => SizeHint::default(),
        }
    }
}

impl std::fmt::Display for UploadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            UploadError::Broken => "the request's body broke off",
            UploadError::CutOff => "a retry has taken the body over",
            UploadError::Lost => "a part of the body was not kept",
        })
    }
}

impl std::error::Error for UploadError {}
