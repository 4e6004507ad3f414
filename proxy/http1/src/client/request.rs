//! A request to send, and what is known about it when no response comes.

use std::fmt;

use crate::encode::{BodyLength, RequestLines};
use crate::head::RequestHead;
use crate::parse::{Limits, Refusal};

/// A request to be sent, and how much of its response is accepted.
pub struct OutgoingRequest<'a, B> {
    /// Method, target and fields. The fields are sent as they are. None of them may frame the message or describe the connection, because this crate adds such
    /// fields.
    pub head: &'a RequestHead,
    /// Sent as `Host` in place of the head's own.
    pub host: Option<&'a [u8]>,
    /// What is known of the body's length. It decides the framing: `Content-Length` or chunks.
    pub length: BodyLength,
    /// The source of the body; not polled if the length is [`BodyLength::None`].
    pub body: B,
    /// Sends `Expect: 100-continue` and holds the body until it is released, if there is a body.
    pub expects_continue: bool,
    /// Sends `TE: trailers`.
    pub accepts_trailers: bool,
    /// Protocols to go on with, as the value of an `Upgrade` field. A 101 is accepted only if this is given.
    pub upgrade: Option<&'a [u8]>,
    /// How much of the response is accepted.
    pub limits: Limits,
}

/// No final response has come. The fields say what is proven about the request, so that its sender can decide whether to send it again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SendError {
    /// What went wrong, and on which side.
    pub kind: SendErrorKind,
    /// A byte of the request was handed to the stream. If not, the server cannot have seen it.
    pub wrote: bool,
    /// A byte of a response was read.
    pub read: bool,
    /// The connection had carried another request before: the server may have closed it while it was idle.
    pub reused: bool,
}

/// What went wrong with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendErrorKind {
    /// The source of the request's body failed, or gave more or less than was announced.
    Body,
    /// The server closed the connection, or it failed.
    Closed,
    /// The response has no single meaning, or exceeds a limit.
    Malformed(Refusal),
    /// There was no [room](crate::transport::Room::has_room) for the rest of a long head.
    NoRoom,
}

impl<'a, B> OutgoingRequest<'a, B> {
    pub(super) fn lines(&self) -> RequestLines<'a> {
        RequestLines {
            host: self.host,
            length: self.length,
            expects_continue: self.expects_continue,
            accepts_trailers: self.accepts_trailers,
            upgrade: self.upgrade,
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            SendErrorKind::Body => f.write_str("the request's body broke off or has another length than announced"),
            SendErrorKind::Closed if !self.wrote => f.write_str("the connection ended before the request was sent"),
            SendErrorKind::Closed => f.write_str("the connection ended before there was a response"),
            SendErrorKind::Malformed(why) => write!(f, "the response is malformed: {why}"),
            SendErrorKind::NoRoom => f.write_str("there is no memory for the rest of the response's head"),
        }
    }
}

impl std::error::Error for SendError {}
