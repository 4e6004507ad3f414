//! Just enough HTTP/1.1 for both sides: heads, and bodies that are written and checked piece by piece.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use super::script::Body;

/// A body is written and read in pieces of this size.
const PIECE_BYTES: usize = 16 * 1024;

/// A connection with what was read and not used.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// A head, as far as it matters here.
#[derive(Debug)]
pub(super) struct Head {
    first_line: String,
    /// In lower case.
    fields: Vec<(String, String)>,
}

impl Head {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The status of a response; 0 if there is none.
    pub(super) fn status(&self) -> u16 {
        self.first_line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    fn length(&self) -> io::Result<Option<u64>> {
        if self.field("transfer-encoding").is_some() {
            return Ok(None);
        }
        let length = self.field("content-length").unwrap_or("0");
        length.parse().map(Some).map_err(|_| broken("no content-length"))
    }
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, unread: Vec::new() }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The next head; `None` if the peer has closed before its first byte.
    pub(super) fn head(&mut self) -> io::Result<Option<Head>> {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more()? {
                return if self.unread.is_empty() { Ok(None) } else { Err(cut_off()) };
            }
        };
        let text = String::from_utf8_lossy(&self.unread[..end]).into_owned();
        self.unread.drain(..end);
        let mut lines = text.lines();
        let first_line = lines.next().unwrap_or_default().to_owned();
        let fields = lines.filter_map(|line| line.split_once(':'));
        let fields = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
        Ok(Some(Head { first_line, fields }))
    }

    /// Reads the body behind `head`, and hands over each piece with the place of its first byte.
    pub(super) fn body(&mut self, head: &Head, mut each: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut at = 0;
        if let Some(length) = head.length()? {
            return self.run(length, &mut at, &mut each);
        }
        loop {
            let line = self.line()?;
            let size = u64::from_str_radix(line.trim(), 16).map_err(|_| broken("no size of a chunk"))?;
            self.run(size, &mut at, &mut each)?;
            self.line()?;
            if size == 0 {
                return Ok(());
            }
        }
    }

    fn run(
        &mut self,
        length: u64,
        at: &mut u64,
        each: &mut impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let end = *at + length;
        while *at < end {
            if self.unread.is_empty() && !self.more()? {
                return Err(cut_off());
            }
            let piece = self.unread.len().min(usize::try_from(end - *at).unwrap_or(usize::MAX));
            each(*at, &self.unread[..piece])?;
            self.unread.drain(..piece);
            *at += piece as u64;
        }
        Ok(())
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.unread.windows(2).position(|window| window == b"\r\n") {
                let line = String::from_utf8_lossy(&self.unread[..at]).into_owned();
                self.unread.drain(..at + 2);
                return Ok(line);
            }
            if !self.more()? {
                return Err(cut_off());
            }
        }
    }

    /// Reads more; false at the end.
    fn more(&mut self) -> io::Result<bool> {
        let mut piece = [0; PIECE_BYTES];
        let read = self.stream.read(&mut piece)?;
        self.unread.extend_from_slice(&piece[..read]);
        Ok(read > 0)
    }
}

/// Writes `start` (the first line and fields, without the end of the head) and `body` behind it.
pub(super) fn write(mut stream: &TcpStream, start: &str, body: &Body) -> io::Result<()> {
    let framing = match body.is_chunked {
        true => "transfer-encoding: chunked\r\n\r\n".to_owned(),
        false => format!("content-length: {}\r\n\r\n", body.length),
    };
    stream.write_all(format!("{start}{framing}").as_bytes())?;
    let mut at = 0;
    while at < body.length {
        pause(body.pause);
        let mut piece = [0; PIECE_BYTES];
        let length = piece.len().min(usize::try_from(body.length - at).unwrap_or(usize::MAX));
        body.fill(at, &mut piece[..length]);
        if body.is_chunked {
            stream.write_all(format!("{length:x}\r\n").as_bytes())?;
        }
        stream.write_all(&piece[..length])?;
        if body.is_chunked {
            stream.write_all(b"\r\n")?;
        }
        at += length as u64;
    }
    if body.is_chunked { stream.write_all(b"0\r\n\r\n") } else { Ok(()) }
}

/// Waits, if there is anything to wait.
pub(super) fn pause(time: Duration) {
    if !time.is_zero() {
        thread::sleep(time);
    }
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

fn cut_off() -> io::Error {
    io::Error::from(ErrorKind::UnexpectedEof)
}
