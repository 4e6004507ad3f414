//! Request bodies: streamed to the endpoint, kept for another attempt as long as they fit.
//!
//! An [`Upload`] owns the caller's body. Each attempt gets a [`Replay`] of it, which first repeats what is kept and then goes on with what still
//! comes in. Only the newest reader may draw on the caller's body; an older one, left over in a connection that is being torn down, is cut off. What
//! is kept is bounded twice: by the route for one body, and by [`ReplayMemory`] for all of them. Past either bound the body goes on streaming,
//! is no longer kept, and the request can no longer be repeated.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};

use super::io::AppConn;
use crate::clock;

mod pace;

use outrigger_http1::encode::BodyLength;
pub use pace::{Pace, TooSlow};

/// What a kept piece costs beside its bytes; a body that comes byte by byte must not cost forty times what is counted.
const PIECE_OVERHEAD: usize = 64;

/// Bytes that all replay buffers together may keep.
#[derive(Debug)]
pub struct ReplayMemory {
    kept: AtomicUsize,
    max: AtomicUsize,
}

/// A caller's body; `None` for the many requests that have none.
#[derive(Clone)]
pub struct Upload(Option<Rc<RefCell<Source>>>);

/// One reading of an [`Upload`], for one attempt.
pub struct Replay {
    upload: Upload,
    reader: u32,
    at: usize,
    sent: u64,
}

/// Why a body cannot be read on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UploadError {
    /// The caller's side broke off or sent no valid framing.
    Broken,
    /// A later attempt has taken over.
    Detached,
    /// Its beginning was not kept.
    Lost,
}

/// How an upload stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Upstate {
    /// Everything has been read, at this moment; there was no body if it is `None`.
    Ended(Option<Instant>),
    /// The caller is awaited; it last sent something at this moment.
    AwaitingCaller(Instant),
    /// The endpoint is not taking more; it last did at this moment.
    AwaitingEndpoint(Instant),
    /// The caller's side broke.
    Broken,
}

struct Source {
    /// Until all has come.
    incoming: Option<Rc<AppConn>>,
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
    state: Upstate,
    pace: Pace,
    reader: u32,
}

impl ReplayMemory {
    /// Room for `max` bytes.
    pub fn new(max: usize) -> ReplayMemory {
        ReplayMemory { kept: AtomicUsize::new(0), max: AtomicUsize::new(max) }
    }

    /// Changes the bound; what is kept beyond it stays until its request ends.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Relaxed);
    }

    /// Bytes kept now.
    pub fn kept(&self) -> usize {
        self.kept.load(Relaxed)
    }

    fn reserve(&self, bytes: usize) -> bool {
        let after = self.kept.fetch_add(bytes, Relaxed).saturating_add(bytes);
        let fits = after <= self.max.load(Relaxed);
        if !fits {
            self.release(bytes);
        }
        fits
    }

    fn release(&self, bytes: usize) {
        self.kept.fetch_sub(bytes, Relaxed);
    }
}

impl Upload {
    /// Keeps up to `kept_bytes_max` of the body of the request under way over `incoming` for repetitions; `pace` says how fast it must come.
    pub fn new(incoming: &Rc<AppConn>, kept_bytes_max: usize, memory: &Arc<ReplayMemory>, pace: Pace) -> Upload {
        let length = match incoming.borrow().body_length() {
            BodyLength::None => return Upload(None),
            BodyLength::Known(length) => Some(length),
            BodyLength::Unknown => None,
        };
        // A body that announces more than fits is not kept at all: copying its first part would help nobody.
        let fits = length.is_none_or(|length| length <= kept_bytes_max as u64);
        Upload(Some(Rc::new(RefCell::new(Source {
            incoming: Some(Rc::clone(incoming)),
            length,
            kept: Vec::new(),
            kept_bytes: 0,
            kept_bytes_max: if fits { kept_bytes_max } else { 0 },
            memory: Arc::clone(memory),
            is_whole: true,
            was_read: false,
            trailers: None,
            state: Upstate::AwaitingEndpoint(pace.began()),
            pace,
            reader: 0,
        }))))
    }

    /// A reading from the beginning; the former one is cut off. Without [`Upload::is_replayable`] it ends in an error, never in a part of the body.
    pub fn read(&self) -> Replay {
        let reader = self.0.as_ref().map_or(0, |source| {
            let mut source = source.borrow_mut();
            source.reader += 1;
            source.reader
        });
        Replay { upload: self.clone(), reader, at: 0, sent: 0 }
    }

    /// Whether a further reading would be the whole body.
    pub fn is_replayable(&self) -> bool {
        self.0.as_ref().is_none_or(|source| {
            let source = source.borrow();
            source.state != Upstate::Broken && (source.is_whole || !source.was_read)
        })
    }

    /// Whether nothing of it has been read.
    pub fn is_untouched(&self) -> bool {
        self.0.as_ref().is_some_and(|source| !source.borrow().was_read)
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

    /// How it stands.
    pub fn state(&self) -> Upstate {
        self.0.as_ref().map_or(Upstate::Ended(None), |source| source.borrow().state)
    }

    /// Nobody reads on before an endpoint takes more: if the caller was awaited, it is no longer.
    pub fn await_endpoint(&self, now: Instant) {
        if let Some(source) = &self.0 {
            let mut source = source.borrow_mut();
            if matches!(source.state, Upstate::AwaitingCaller(_)) {
                source.state = Upstate::AwaitingEndpoint(now);
            }
        }
    }

    /// When it must have come whole; `None` if it has, or broke. `absent` is how long the worker has been absent by now.
    pub fn whole_by(&self, absent: Duration) -> Option<Instant> {
        self.0.as_ref().filter(|source| source.borrow().is_coming()).map(|source| source.borrow().pace.whole_by(absent))
    }

    /// When it is too slow if nothing more comes; `None` if it has come whole, or broke.
    pub fn too_slow(&self, absent: Duration) -> Option<TooSlow> {
        let source = self.0.as_ref()?.borrow();
        let awaited_since = match source.state {
            Upstate::Ended(_) | Upstate::Broken => return None,
            Upstate::AwaitingCaller(since) => Some(since),
            Upstate::AwaitingEndpoint(_) => None,
        };
        Some(source.pace.too_slow(awaited_since, absent))
    }
}

impl Source {
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let Some(incoming) = &self.incoming else {
            return Poll::Ready(None);
        };
        let polled = incoming.borrow_mut().poll_body(cx);
        let now = clock::now();
        if let (Upstate::AwaitingCaller(since), Poll::Ready(_)) = (self.state, &polled) {
            self.pace.waited(now.saturating_duration_since(since));
        }
        match polled {
            Poll::Pending => {
                if !matches!(self.state, Upstate::AwaitingCaller(_)) {
                    self.state = Upstate::AwaitingCaller(now);
                }
                Poll::Pending
            }
            Poll::Ready(None) => {
                self.end(now);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(_))) => {
                self.incoming = None;
                self.state = Upstate::Broken;
                Poll::Ready(Some(Err(UploadError::Broken)))
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.state = Upstate::AwaitingEndpoint(now);
                self.was_read = true;
                let is_last = incoming.borrow().has_body_ended();
                if let Some(data) = frame.data_ref() {
                    self.pace.came(data.len());
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

    fn is_coming(&self) -> bool {
        matches!(self.state, Upstate::AwaitingCaller(_) | Upstate::AwaitingEndpoint(_))
    }

    fn end(&mut self, now: Instant) {
        self.incoming = None;
        self.state = Upstate::Ended(Some(now));
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
        if source.reader != this.reader {
            return Poll::Ready(Some(Err(UploadError::Detached)));
        }
        if source.state == Upstate::Broken {
            return Poll::Ready(Some(Err(UploadError::Broken)));
        }
        if this.sent == 0 && source.was_read && !source.is_whole {
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
        matches!(source.state, Upstate::Ended(_)) && self.at >= source.kept.len() && !trailers_due
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
            UploadError::Broken => "the caller's body broke off",
            UploadError::Detached => "another attempt has taken the body over",
            UploadError::Lost => "the beginning of the body was not kept",
        })
    }
}

impl std::error::Error for UploadError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_buffers_share_one_bound() {
        let memory = ReplayMemory::new(100);
        assert!(memory.reserve(60) && !memory.reserve(41) && memory.reserve(40));
        memory.release(60);
        assert_eq!(memory.kept(), 40);
    }
}
