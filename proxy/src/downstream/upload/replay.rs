//! A reader of a request's body.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use outrigger_policy::upload::State;

use super::source::{Source, UploadError};

/// A reader of a body, for one attempt.
pub struct Replay {
    pub(super) source: Option<Rc<RefCell<Source>>>,
    pub(super) reading: u32,
    pub(super) at: usize,
    pub(super) sent: u64,
}

impl Body for Replay {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let this = &mut *self;
        let Some(source) = &this.source else {
            return Poll::Ready(None);
        };
        let mut source = source.borrow_mut();
        if this.reading <= source.cut_off {
            return Poll::Ready(Some(Err(UploadError::CutOff)));
        }
        if source.reading == State::Broken {
            return Poll::Ready(Some(Err(UploadError::Broken)));
        }
        if let Some(data) = source.kept.get(this.at) {
            this.at += 1;
            this.sent += data.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
        }
        if this.sent < source.bytes {
            return Poll::Ready(Some(Err(UploadError::Lost)));
        }
        if !source.is_whole && this.at == source.kept.len() {
            // It has caught up, so nobody needs what is kept.
            source.forget();
            this.at = 0;
        }
        if source.incoming.is_none() {
            let trailers = source.trailers.clone().filter(|_| this.at == source.kept.len());
            this.at += 1; // trailers are sent only once
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
        let Some(source) = &self.source else {
            return true;
        };
        let source = source.borrow();
        let trailers_due = source.trailers.is_some() && self.at <= source.kept.len();
        matches!(source.reading, State::Ended(_)) && self.at >= source.kept.len() && !trailers_due
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.source.as_ref().map_or(Some(0), |source| source.borrow().length);
        match length {
            Some(length) => SizeHint::with_exact(length.saturating_sub(self.sent)),
            None => SizeHint::default(),
        }
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        if let Some(source) = &self.source {
            let mut source = source.borrow_mut();
            source.readers_left -= 1;
            if source.readers_left == 0 && !source.is_whole {
                source.forget();
            }
        }
    }
}
