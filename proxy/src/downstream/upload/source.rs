//! What all readers of one body share: the stream that it comes from, and what of it is kept.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;
use outrigger_policy::upload::{self, Look, Pace, State, TooSlow};

use crate::clock;
use crate::downstream::memory::ReplayMemory;
use crate::downstream::stream::Stream;

/// The memory that a kept piece costs besides its bytes. Without it, a body that arrives byte by byte would cost forty times what is counted.
const PIECE_OVERHEAD: usize = 64;

/// Length of the blocks that small pieces are kept in. Callers choose the sizes of pieces and how long they are kept, so with memory of its own for each, a few
/// callers that stay could keep the allocator from using the memory of many that have gone. A block is as long as a page, so nothing shares its page.
const BLOCK_BYTES: usize = 4 * 1024;

/// Why a reader gets no more of the body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UploadError {
    /// The downstream broke the body off or framed it wrongly.
    Broken,
    /// A retry has taken over.
    CutOff,
    /// The next piece for this reader was not kept.
    Lost,
}

pub(super) struct Source {
    /// The stream to read from, until the whole body has arrived.
    pub(super) incoming: Option<Stream>,
    pub(super) length: Option<u64>,
    pub(super) kept: Vec<Bytes>,
    /// What is free of the last block of `kept`.
    pub(super) block: BytesMut,
    pub(super) kept_bytes: usize,
    pub(super) kept_bytes_max: usize,
    pub(super) memory: Arc<ReplayMemory>,
    /// Whether everything read so far is in `kept`.
    pub(super) is_whole: bool,
    /// Whether anything has been read.
    pub(super) was_read: bool,
    pub(super) trailers: Option<HeaderMap>,
    /// How far reading has come. What was read may still be in a send buffer; [`Source::state`] takes that into account.
    pub(super) reading: State,
    /// How far sending had come, as the attempts since the last retry saw it; `None` if none has had to look.
    pub(super) look: Option<Look>,
    pub(super) pace: Pace,
    /// How many readers there have been, and how many of them are left.
    pub(super) readers: u32,
    pub(super) readers_left: u32,
    /// Readers up to this number are cut off.
    pub(super) cut_off: u32,
    /// Pieces read so far. A reader that waits has to poll again when another one has read a piece.
    pub(super) drawn: u64,
    /// Bytes of data in these pieces.
    pub(super) bytes: u64,
}

impl Source {
    pub(super) fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let Some(incoming) = &self.incoming else {
            return Poll::Ready(None);
        };
        let polled = incoming.poll_body(cx);
        let now = clock::now();
        if let (State::AwaitingDownstream(since), Poll::Ready(_)) = (self.reading, &polled) {
            self.pace.waited(now.saturating_duration_since(since));
        }
        match polled {
            Poll::Pending => {
                if !matches!(self.reading, State::AwaitingDownstream(_)) {
                    self.reading = State::AwaitingDownstream(now);
                }
                Poll::Pending
            }
            Poll::Ready(None) => {
                self.end(now);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(_))) => {
                self.incoming = None;
                self.reading = State::Broken;
                Poll::Ready(Some(Err(UploadError::Broken)))
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.reading = State::AwaitingEndpoint(now);
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
                // Nothing follows trailers, and no reader polls past them.
                if is_last || frame.is_trailers() {
                    self.end(now);
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    pub(super) fn standing(&self) -> upload::Upload {
        upload::Upload {
            state: self.state(),
            awaited: self.pace.awaited(),
            is_replayable: self.is_replayable(),
            too_slow: self.too_slow(),
            whole_by: self.is_coming().then(|| self.pace.whole_by()),
        }
    }

    /// The state of the body, as the policies see it.
    pub(super) fn state(&self) -> State {
        self.look.map_or(self.reading, |look| self.reading.seen(look))
    }

    pub(super) fn is_replayable(&self) -> bool {
        self.reading != State::Broken && (self.is_whole || !self.was_read)
    }

    pub(super) fn too_slow(&self) -> Option<TooSlow> {
        let awaited_since = match self.state() {
            State::Ended(_) | State::Broken => return None,
            State::AwaitingDownstream(since) => Some(since),
            State::AwaitingEndpoint(_) => None,
        };
        Some(self.pace.too_slow(awaited_since))
    }

    pub(super) fn is_coming(&self) -> bool {
        matches!(self.state(), State::AwaitingDownstream(_) | State::AwaitingEndpoint(_))
    }

    pub(super) fn end(&mut self, now: Instant) {
        self.incoming = None;
        self.reading = State::Ended(Some(now));
    }

    pub(super) fn keep(&mut self, data: &Bytes) {
        if !self.is_whole {
            return;
        }
        let cost = data.len() + PIECE_OVERHEAD;
        let fits = self.kept_bytes + cost <= self.kept_bytes_max + PIECE_OVERHEAD && self.memory.reserve(cost);
        if fits {
            self.kept_bytes += cost;
            // The first piece is often the whole body, and a long one is a part of a buffer of ours.
            if self.kept.is_empty() || data.len() >= BLOCK_BYTES {
                self.kept.push(data.clone());
            } else {
                self.keep_in_blocks(data);
            }
        } else {
            self.is_whole = false;
            self.forget();
        }
    }

    fn keep_in_blocks(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.block.capacity() == 0 {
                self.block = BytesMut::with_capacity(BLOCK_BYTES);
            }
            let (fitting, rest) = data.split_at(data.len().min(self.block.capacity()));
            self.block.extend_from_slice(fitting);
            self.kept.push(self.block.split().freeze());
            data = rest;
        }
    }

    pub(super) fn forget(&mut self) {
        self.memory.release(self.kept_bytes);
        self.kept_bytes = 0;
        self.kept = Vec::new();
        self.block = BytesMut::new();
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.forget();
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
