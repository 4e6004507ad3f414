//! Writing messages: heads, framing, and bodies piece by piece.
//!
//! Framing is made from what is known of the body and never from a copied field, so a message that is sent on ends where this side says it ends (RFC 9112 §6.3).

mod framing;
mod heads;
mod write_buf;

pub use self::framing::{BodyLength, Framing, WrongLength};
pub(crate) use self::heads::{RequestLines, write_framing, write_request, write_response};
pub use self::write_buf::WriteBuf;
