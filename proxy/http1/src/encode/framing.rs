//! What is known of a body before it is sent, and how the peer learns of its end.

use std::fmt;

/// What is known of a message's body before it is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyLength {
    /// There is no body.
    None,
    /// It has this many bytes.
    Known(u64),
    /// It goes on until it ends.
    Unknown,
}

/// How the peer learns of the end of a body (RFC 9112 §6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// By `Content-Length`: this many bytes are still to come.
    Length(u64),
    /// By the chunked coding.
    Chunked,
    /// By the end of the connection, for HTTP/1.0.
    UntilClose,
}

/// A body has more or fewer bytes than its head announced. Its connection cannot be used any further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WrongLength;

impl fmt::Display for WrongLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body is not as long as its head says")
    }
}

impl std::error::Error for WrongLength {}
