//! An answer's head as it goes down.

use http::StatusCode;

use super::super::head::{AnswerHead, Name, Names, write_field, write_length};
use super::super::headers::{BodyLength, Manner};
use super::super::staged::Framing;

/// Room for what this side adds to a head, and for a small body behind it.
const ADDED_BYTES: usize = 256;
const LENGTH: Names = Names::new(&[Name::ContentLength]);

/// Status line and fields, without framing and without the end.
pub(super) fn write_head(out: &mut Vec<u8>, head: &AnswerHead) {
    out.reserve(head.fields.capacity() + ADDED_BYTES);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.phrase());
    out.extend_from_slice(b"\r\n");
    head.fields.write_to(out, LENGTH);
}

/// What says where the body ends (RFC 9112 §6.3): from what is known of it, never from a copied field, but for lengths that describe no body here.
pub(super) fn write_framing(
    out: &mut Vec<u8>,
    head: &AnswerHead,
    length: BodyLength,
    manner: Manner,
) -> Option<Framing> {
    let may_have_no_length = head.status.is_informational() || head.status == StatusCode::NO_CONTENT;
    if may_have_no_length {
        return None;
    }
    if manner.is_head || head.status == StatusCode::NOT_MODIFIED {
        match (head.fields.get(Name::ContentLength), length) {
            (Some(described), _) => write_field(out, b"content-length", described),
            (None, BodyLength::Known(length)) if length > 0 => write_length(out, length),
            (None, _) => {}
        }
        return None;
    }
    match length {
        BodyLength::None => {
            write_length(out, 0);
            None
        }
        BodyLength::Known(length) => {
            write_length(out, length);
            Some(Framing::Length(length))
        }
        BodyLength::Unknown if manner.is_old => Some(Framing::UntilClose),
        BodyLength::Unknown => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Some(Framing::Chunked)
        }
    }
}
