//! Reads as much HTTP/1.1 as origin and load need: the end of a head and the length of its body.
//!
//! It is not strict, because the proxies in between have been checked. Bytes that it cannot read count as an error.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// More than any head here; more is an error.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Where a head ends and how much body follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// With the empty line.
    pub(crate) bytes: usize,
    /// By `content-length`; 0 without.
    pub(crate) body_bytes: usize,
}

/// Reads until `bytes` begins with a whole head; `None` if the peer closes before the first byte of one.
pub(crate) async fn head(stream: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> io::Result<Option<Head>> {
    let mut seen = 0;
    loop {
        // The end may lie across two reads.
        if let Some(at) = end_of_head(&bytes[seen..]) {
            return Ok(Some(Head { bytes: seen + at, body_bytes: content_length(&bytes[..seen + at])? }));
        }
        seen = bytes.len().saturating_sub(3);
        if bytes.len() > HEAD_BYTES_MAX {
            return Err(invalid("a head of more than 64 KiB"));
        }
        if stream.read_buf(bytes).await? == 0 {
            return if bytes.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    }
}

/// The three digits of a status line.
pub(crate) fn status(head: &[u8]) -> Option<u16> {
    let digits = head.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Whether the peer closes after this message.
pub(crate) fn is_last(head: &[u8]) -> bool {
    field(head, b"connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"))
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

fn content_length(head: &[u8]) -> io::Result<usize> {
    if field(head, b"transfer-encoding").is_some() {
        return Err(invalid("a body in chunks, which the bench does not read"));
    }
    let Some(value) = field(head, b"content-length") else { return Ok(0) };
    let value = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
    value.ok_or_else(|| invalid("a content-length that is no number"))
}

fn field<'h>(head: &'h [u8], name: &[u8]) -> Option<&'h [u8]> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let is_it = line.get(name.len()) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name);
        is_it.then(|| line[name.len() + 1..].trim_ascii())
    })
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut pieces: &[u8]) -> io::Result<Option<Head>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(head(&mut pieces, &mut Vec::new()))
    }

    #[test]
    fn a_head_ends_with_its_empty_line_and_says_what_follows() {
        let check = |text: &str, expected: Option<(usize, usize)>| {
            let found = read(text.as_bytes()).expect(text).map(|head| (head.bytes, head.body_bytes));
            assert_eq!(found, expected, "{text:?}");
        };
        check("", None);
        check("GET / HTTP/1.1\r\n\r\n", Some((18, 0)));
        check("POST / HTTP/1.1\r\nContent-Length: 12\r\n\r\nhello", Some((39, 12)));
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for text in ["GET / HTTP/1.1\r\n", "a\r\ntransfer-encoding: chunked\r\n\r\n", "a\r\ncontent-length: x\r\n\r\n"]
        {
            assert!(read(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_status_and_a_farewell_are_found() {
        assert_eq!(status(b"HTTP/1.1 503 Service Unavailable\r\n"), Some(503));
        assert_eq!(status(b"nonsense"), None);
        assert!(is_last(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"));
        assert!(!is_last(b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n"));
    }
}
