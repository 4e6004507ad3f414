//! Writes heads: the first line, the fields of the head, and those that this side adds.

use http::{Method, StatusCode};

use super::framing::{BodyLength, Framing};
use crate::head::{Fields, Name, Names, RequestHead, ResponseHead, write_field, write_length};
use crate::traits::RequestTraits;

/// Room for what this side adds to a head, and for a small body behind it.
const ADDED_BYTES: usize = 256;
const HOST: Names = Names::new(&[Name::Host]);
const LENGTH: Names = Names::new(&[Name::ContentLength]);
const CHUNKED: &[u8] = b"transfer-encoding: chunked\r\n";

/// What a request's lines say beside its head.
pub(crate) struct RequestLines<'a> {
    /// Sent in place of the head's own `Host`.
    pub(crate) host: Option<&'a [u8]>,
    pub(crate) length: BodyLength,
    pub(crate) expects_continue: bool,
    pub(crate) accepts_trailers: bool,
    pub(crate) upgrade: Option<&'a [u8]>,
}

/// Writes a whole request head, framing included.
pub(crate) fn write_request(out: &mut Vec<u8>, head: &RequestHead, lines: &RequestLines<'_>) {
    make_room(out, &head.fields);
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    head.write_target(out);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(host) = lines.host {
        write_field(out, b"host", host);
    }
    head.fields.write_to(out, if lines.host.is_some() { HOST } else { Names::NONE });
    match lines.length {
        BodyLength::None if matches!(head.method, Method::POST | Method::PUT | Method::PATCH) => write_length(out, 0),
        BodyLength::None => {}
        BodyLength::Known(length) => write_length(out, length),
        BodyLength::Unknown => out.extend_from_slice(CHUNKED),
    }
    if lines.expects_continue && lines.length != BodyLength::None {
        out.extend_from_slice(b"expect: 100-continue\r\n");
    }
    if lines.accepts_trailers {
        out.extend_from_slice(b"connection: te\r\nte: trailers\r\n");
    }
    if let Some(protocols) = lines.upgrade {
        out.extend_from_slice(b"connection: upgrade\r\n");
        write_field(out, b"upgrade", protocols);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes status line and fields of a response, without framing and without the empty line at the end.
pub(crate) fn write_response(out: &mut Vec<u8>, head: &ResponseHead) {
    make_room(out, &head.fields);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.phrase());
    out.extend_from_slice(b"\r\n");
    head.fields.write_to(out, LENGTH);
}

/// Makes room for a head with `fields`. Most buffers are empty, and a new vector costs a third of one that grows.
fn make_room(out: &mut Vec<u8>, fields: &Fields) {
    let bytes = fields.capacity() + ADDED_BYTES;
    if out.capacity() == 0 {
        *out = Vec::with_capacity(bytes);
    } else {
        out.reserve(bytes);
    }
}

/// Writes the field that says where the response's body ends (RFC 9112 §6.3); returns how the body is framed, `None` if there is none.
///
/// A `Content-Length` of the head itself is written only where it describes a body that is not sent: in the response to a HEAD, and in a 304.
pub(crate) fn write_framing(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    length: BodyLength,
    request: RequestTraits,
) -> Option<Framing> {
    let may_have_no_length = head.status.is_informational() || head.status == StatusCode::NO_CONTENT;
    if may_have_no_length {
        return None;
    }
    if request.is_head || head.status == StatusCode::NOT_MODIFIED {
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
        BodyLength::Unknown if request.is_http10 => Some(Framing::UntilClose),
        BodyLength::Unknown => {
            out.extend_from_slice(CHUNKED);
            Some(Framing::Chunked)
        }
    }
}
