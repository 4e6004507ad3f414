//! Heads as they came: their bytes, and where in them each field stands.
//!
//! A proxy looks at a dozen fields, changes a few, and sends the others on as they are. So a head is one copy of its bytes with a list of places, not a map of
//! values, and sending it on copies its lines. Names keep the case in which they came. Only [`crate::parse`] makes heads from bytes; a server makes its own
//! responses with [`ResponseHead::from_status`]. [`Fields`] convert to and from [`http::HeaderMap`] for code that speaks another version of HTTP.

mod fields;
mod map;
#[cfg(test)]
mod tests;

use std::ops::Range;

use http::{Method, StatusCode};

pub(crate) use self::fields::short;
pub use self::fields::{Fields, Name, Names, Place, write_field, write_length};
pub use self::map::InvalidField;

/// The target of a request, in one of its four forms (RFC 9112 §3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target<'a> {
    /// `/path?query`.
    Origin(&'a str),
    /// `http://host:port/path?query`.
    Absolute {
        /// What stands before `://`: `http` or `https`, in any case.
        scheme: &'a str,
        /// Host and perhaps port.
        authority: &'a str,
        /// What follows; may be empty, or begin with the query.
        rest: &'a str,
    },
    /// `host:port`, of a CONNECT.
    Authority(&'a str),
    /// `*`, of an OPTIONS.
    Asterisk,
}

/// The head of a request.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The method, known or not.
    pub method: Method,
    /// It is HTTP/1.0; otherwise it is HTTP/1.1.
    pub is_http10: bool,
    target: Range<usize>,
    /// The fields, in the order in which they came.
    pub fields: Fields,
}

impl RequestHead {
    /// A head whose target stands at `target` in the bytes that `fields` were made of.
    pub fn new(method: Method, is_http10: bool, target: Range<usize>, fields: Fields) -> RequestHead {
        RequestHead { method, is_http10, target, fields }
    }

    /// A head of HTTP/1.1 without fields, as a client makes it. `None` if `target` is empty or has a byte that would end it early; the caller makes sure that
    /// `method` may have this form of target.
    pub fn to(method: Method, target: &str) -> Option<RequestHead> {
        let is_one = !target.is_empty() && target.bytes().all(|byte| byte.is_ascii_graphic());
        let fields = || Fields::new(target.as_bytes(), Vec::new());
        is_one.then(|| RequestHead::new(method, false, 0..target.len(), fields()))
    }

    /// Whether the target is `/path?query`, as in nearly all requests. It costs a fraction of [`RequestHead::target`].
    #[inline]
    pub fn is_origin_form(&self) -> bool {
        self.fields.text(&self.target).starts_with(b"/")
    }

    /// The target, split into its parts.
    #[inline]
    pub fn target(&self) -> Target<'_> {
        // The parser has seen that it is ASCII.
        let text = std::str::from_utf8(self.fields.text(&self.target)).unwrap_or("/");
        if text.starts_with('/') {
            return Target::Origin(text);
        }
        match text.split_once("://") {
            _ if self.method == Method::CONNECT => Target::Authority(text),
            None => Target::Asterisk,
            Some((scheme, rest)) => {
                let end = rest.find(['/', '?']).unwrap_or(rest.len());
                Target::Absolute { scheme, authority: &rest[..end], rest: &rest[end..] }
            }
        }
    }

    /// The path without its query; `/` where there is none, `*` for a server as a whole.
    pub fn path(&self) -> &str {
        let whole = match self.target() {
            Target::Origin(whole) | Target::Absolute { rest: whole, .. } => whole,
            Target::Asterisk => "*",
            Target::Authority(_) => "",
        };
        let path = memchr::memchr(b'?', whole.as_bytes()).map_or(whole, |at| &whole[..at]);
        if path.is_empty() { "/" } else { path }
    }

    /// Writes the target in the form that an origin server expects (RFC 9112 §3.2.1, §3.2.4).
    pub fn write_target(&self, out: &mut Vec<u8>) {
        if self.is_origin_form() {
            return out.extend_from_slice(self.fields.text(&self.target));
        }
        let rest = match self.target() {
            Target::Origin(whole) | Target::Authority(whole) => whole,
            Target::Asterisk => "*",
            Target::Absolute { rest: "", .. } if self.method == Method::OPTIONS => "*",
            Target::Absolute { rest, .. } => {
                if !rest.starts_with('/') {
                    out.push(b'/');
                }
                rest
            }
        };
        out.extend_from_slice(rest.as_bytes());
    }
}

/// The head of a response.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// The status code.
    pub status: StatusCode,
    /// It is HTTP/1.0; otherwise it is HTTP/1.1.
    pub is_http10: bool,
    phrase: Option<Range<usize>>,
    /// The fields, in the order in which they came.
    pub fields: Fields,
}

impl ResponseHead {
    /// A head whose reason phrase stands at `phrase` in the bytes that `fields` were made of.
    pub fn new(status: StatusCode, is_http10: bool, phrase: Range<usize>, fields: Fields) -> ResponseHead {
        ResponseHead { status, is_http10, phrase: Some(phrase), fields }
    }

    /// A head without fields, with the usual phrase of its status.
    pub fn from_status(status: StatusCode) -> ResponseHead {
        ResponseHead { status, is_http10: false, phrase: None, fields: Fields::default() }
    }

    /// The reason phrase; may be empty.
    pub fn phrase(&self) -> &[u8] {
        match &self.phrase {
            Some(phrase) => self.fields.text(phrase),
            None => self.status.canonical_reason().unwrap_or("").as_bytes(),
        }
    }
}
