//! Heads as they came: their bytes, and where in them each field stands.
//!
//! A proxy looks at a dozen fields, changes a few, and sends the others on as they are. So a head is one copy of its bytes with a list of places, not a map of
//! values: to send it on is to copy its lines. Names keep the case in which they came. Only [`super::strict`] makes heads from bytes; the others
//! are answers of our own.

mod fields;
#[cfg(test)]
mod tests;

use std::ops::Range;

use http::{Method, StatusCode};

pub(crate) use self::fields::short;
pub use self::fields::{Fields, Name, Names, Place, write_field, write_length};

/// Whom a target is for, and what of it (RFC 9112 §3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target<'a> {
    /// `/path?query`.
    Origin(&'a str),
    /// `http://host:port/path?query`.
    Absolute {
        /// Before `://`.
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

/// A request's head.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// What is to be done.
    pub method: Method,
    /// HTTP/1.0.
    pub is_old: bool,
    target: Range<usize>,
    /// The fields.
    pub fields: Fields,
}

impl RequestHead {
    /// With a target that stands at `target` in the bytes of `fields`.
    pub fn new(method: Method, is_old: bool, target: Range<usize>, fields: Fields) -> RequestHead {
        RequestHead { method, is_old, target, fields }
    }

    /// What it is for.
    pub fn target(&self) -> Target<'_> {
        // A strict reader has seen that it is ASCII.
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

    /// The path, without its query.
    pub fn path(&self) -> &str {
        let whole = match self.target() {
            Target::Origin(whole) | Target::Absolute { rest: whole, .. } => whole,
            Target::Asterisk => "*",
            Target::Authority(_) => "",
        };
        let path = whole.find('?').map_or(whole, |at| &whole[..at]);
        if path.is_empty() { "/" } else { path }
    }

    /// Writes the target as an origin expects it (RFC 9112 §3.2.1, §3.2.4).
    pub fn write_target(&self, out: &mut Vec<u8>) {
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

/// An answer's head.
#[derive(Clone, Debug)]
pub struct AnswerHead {
    /// The status.
    pub status: StatusCode,
    /// HTTP/1.0.
    pub is_old: bool,
    phrase: Option<Range<usize>>,
    /// The fields.
    pub fields: Fields,
}

impl AnswerHead {
    /// As it came, with a phrase that stands at `phrase` in the bytes of `fields`.
    pub fn new(status: StatusCode, is_old: bool, phrase: Range<usize>, fields: Fields) -> AnswerHead {
        AnswerHead { status, is_old, phrase: Some(phrase), fields }
    }

    /// One of our own, without fields.
    pub fn ours(status: StatusCode) -> AnswerHead {
        AnswerHead { status, is_old: false, phrase: None, fields: Fields::default() }
    }

    /// The reason phrase.
    pub fn phrase(&self) -> &[u8] {
        match &self.phrase {
            Some(phrase) => self.fields.text(phrase),
            None => self.status.canonical_reason().unwrap_or("").as_bytes(),
        }
    }
}
