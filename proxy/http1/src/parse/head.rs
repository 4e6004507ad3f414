//! One line of a head at a time: what it says about the message's framing, or why it is refused (RFC 9112 §2 to §6).

use std::ops::Range;

use super::class::{self, TOKEN};
use super::limits::LENGTH_MAX;
use super::refusal::Refusal;
use super::target;
use crate::head::{Name, Place, short};

/// Status codes below 200 that mean something (RFC 9110 §15.2, RFC 8297, RFC 2518, and the resumption of uploads).
const INFORMATIONAL: [u16; 5] = [100, 101, 102, 103, 104];

/// What has been read of a head. Places count from its first byte.
#[derive(Clone, Default, Debug)]
pub(super) struct Head {
    /// Of a request.
    pub(super) method: Range<usize>,
    /// Of a request.
    pub(super) target: Range<usize>,
    /// Of a response.
    pub(super) status: u16,
    /// Of a response.
    pub(super) phrase: Range<usize>,
    pub(super) fields: Vec<Place>,
    pub(super) length: Option<u64>,
    pub(super) is_chunked: bool,
    /// Of a request.
    pub(super) is_connect: bool,
    pub(super) is_http10: bool,
    has_host: bool,
}

/// Why a line cannot be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    /// It does not end in what has come.
    Short,
    /// It is wrong.
    Bad(Refusal),
    /// It is wrong whatever the rest of it is.
    Now(Refusal),
}

/// How many bytes a line has, its end included.
type LineBytes = Result<usize, Stop>;

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Bad(refusal)
    }
}

impl Head {
    /// Reads `method SP target SP version CR LF` at the beginning of `bytes`, which is `at` in the head; how long it is.
    pub(super) fn request_line(&mut self, bytes: &[u8], at: usize) -> LineBytes {
        let method_end = class::end_of(bytes, 0, TOKEN);
        let method = bytes.get(..method_end).unwrap_or_default();
        match bytes.get(method_end) {
            Some(b' ') if method_end > 0 => {}
            None => return Err(Stop::Short),
            Some(b'\r' | b'\n') => return Err(Refusal::BadRequestLine.into()),
            _ => return Err(Refusal::BadMethod.into()),
        }
        self.is_connect = method == b"CONNECT";
        let rest = bytes.get(method_end + 1..).unwrap_or_default();
        let target_end = target::end(method, rest).map_err(|refusal| refusal.map_or(Stop::Short, Stop::Bad))?;
        let rest = rest.get(target_end + 1..).unwrap_or_default();
        let version = match rest.first_chunk() {
            Some(b"HTTP/1.1\r\n") => 8,
            _ => {
                let version = self.version(rest)?;
                line_end(rest, version).map_err(|stop| stop.instead(Refusal::BadRequestLine))?;
                version
            }
        };
        let target_at = method_end + 1;
        (self.method, self.target) = (at..at + method_end, at + target_at..at + target_at + target_end);
        Ok(target_at + target_end + 1 + version + 2)
    }

    /// Reads `version SP status SP phrase CR LF` at the beginning of `bytes`, which is `at` in the head; how long it is.
    pub(super) fn status_line(&mut self, bytes: &[u8], at: usize) -> LineBytes {
        let version = self.version(bytes).map_err(|stop| stop.instead(Refusal::BadStatusLine))?;
        let rest = bytes.get(version..).unwrap_or_default();
        let [blank, hundreds, tens, ones, after] = rest.first_chunk::<5>().ok_or(Stop::Short)?;
        let digits = [hundreds, tens, ones];
        if *blank != b' ' || !digits.iter().all(|digit| digit.is_ascii_digit()) {
            return Err(Refusal::BadStatusLine.into());
        }
        self.status = digits.iter().fold(0, |status, digit| status * 10 + u16::from(**digit - b'0'));
        if self.status < 200 && !INFORMATIONAL.contains(&self.status) {
            return Err(if self.status < 100 { Refusal::BadStatusLine } else { Refusal::BadInformational }.into());
        }
        // Old servers leave out the blank after the status when there is no phrase; nothing hangs on it.
        let phrase = match after {
            b' ' => 5,
            b'\r' => 4,
            _ => return Err(Refusal::BadStatusLine.into()),
        };
        let rest = rest.get(phrase..).unwrap_or_default();
        let end = text_end(rest);
        line_end(rest, end).map_err(|stop| stop.instead(Refusal::BadStatusLine))?;
        let phrase_at = at + version + phrase;
        self.phrase = phrase_at..phrase_at + end;
        Ok(version + phrase + end + 2)
    }

    /// Reads `name: value CR LF` at the beginning of `bytes`, which is `at` in the head; how long it is.
    #[inline(always)]
    pub(super) fn field(&mut self, bytes: &[u8], at: usize) -> LineBytes {
        let name_end = class::name_end(bytes);
        if bytes.get(name_end) != Some(&b':') || name_end == 0 {
            return Err(if name_end == bytes.len() { Stop::Short } else { bad_name(bytes, name_end).into() });
        }
        let value_end = name_end + 1 + text_end(bytes.get(name_end + 1..).unwrap_or_default());
        if bytes.get(value_end..).and_then(<[u8]>::first_chunk) != Some(b"\r\n") {
            line_end(bytes, value_end)?;
        }
        let name = Name::of(bytes.get(..name_end).unwrap_or_default());
        let value = bytes.get(name_end + 1..value_end).unwrap_or_default();
        let blanks = value.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let value = class::trimmed(value.get(blanks..).unwrap_or_default());
        self.note(name, value)?;
        let value_at = at + name_end + 1 + blanks;
        self.fields.push(Place {
            name,
            name_at: short(at),
            name_bytes: short(name_end),
            value_at: short(value_at),
            value_bytes: short(value.len()),
        });
        Ok(value_end + 2)
    }

    /// Notes a field that matters. What is refused leaves no note: the line may be looked at again.
    fn note(&mut self, name: Name, value: &[u8]) -> Result<(), Refusal> {
        match name {
            Name::Host if self.has_host => return Err(Refusal::SeveralHosts),
            // A response may say what it likes under this name.
            Name::Host if self.status == 0 && target::authority(value).is_none() => return Err(Refusal::BadHost),
            Name::Host => self.has_host = true,
            Name::ContentLength if self.length.is_some() => return Err(Refusal::SeveralLengths),
            Name::ContentLength => self.length = Some(number(value).ok_or(Refusal::BadLength)?),
            Name::TransferEncoding if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") => {
                return Err(Refusal::BadEncoding);
            }
            Name::TransferEncoding => self.is_chunked = true,
            _ => {}
        }
        Ok(())
    }

    /// What only the whole head of a request shows.
    pub(super) fn check_request(&self) -> Result<(), Refusal> {
        if !self.has_host && !self.is_http10 {
            return Err(Refusal::NoHost);
        }
        if self.is_connect && (self.is_chunked || self.length.is_some_and(|length| length > 0)) {
            return Err(Refusal::UnexpectedBody);
        }
        self.check_framing()
    }

    /// What only the whole head of a response shows.
    pub(super) fn check_response(&self) -> Result<(), Refusal> {
        // A length of 0 beside a 204 is a common redundancy that everybody reads alike.
        let is_bodiless = self.status < 200 || self.status == 204;
        if is_bodiless && (self.is_chunked || self.length.is_some_and(|length| length > 0)) {
            return Err(Refusal::UnexpectedBody);
        }
        self.check_framing()
    }

    fn check_framing(&self) -> Result<(), Refusal> {
        if self.is_chunked && self.length.is_some() {
            return Err(Refusal::LengthBesideEncoding);
        }
        if self.is_chunked && self.is_http10 {
            return Err(Refusal::EncodingInOldVersion);
        }
        Ok(())
    }

    /// Reads a version at the beginning of `bytes`; how long it is.
    fn version(&mut self, bytes: &[u8]) -> LineBytes {
        let Some(version) = bytes.first_chunk::<8>() else {
            return Err(Stop::Short);
        };
        match version {
            b"HTTP/1.1" => self.is_http10 = false,
            b"HTTP/1.0" => self.is_http10 = true,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
                return Err(Refusal::BadVersion.into());
            }
            _ => return Err(Refusal::BadRequestLine.into()),
        }
        Ok(version.len())
    }
}

impl Stop {
    /// The same at a place where whatever is wrong has another name.
    pub(super) fn instead(self, refusal: Refusal) -> Stop {
        match self {
            Stop::Bad(Refusal::BareLf) => self,
            Stop::Bad(_) => Stop::Bad(refusal),
            Stop::Short | Stop::Now(_) => self,
        }
    }
}

/// Where the text of a value or a phrase ends: at the first control byte that is no tab.
#[inline(always)]
fn text_end(bytes: &[u8]) -> usize {
    let end = class::first_control(bytes);
    if bytes.get(end) == Some(&b'\t') { text_with_tabs_end(bytes, end) } else { end }
}

#[cold]
fn text_with_tabs_end(bytes: &[u8], mut end: usize) -> usize {
    while bytes.get(end) == Some(&b'\t') {
        end += 1 + class::first_control(bytes.get(end + 1..).unwrap_or_default());
    }
    end
}

/// That the line ends at `end`, and as it should.
#[cold]
pub(super) fn line_end(bytes: &[u8], end: usize) -> Result<(), Stop> {
    match (bytes.get(end), bytes.get(end + 1)) {
        (Some(b'\r'), Some(b'\n')) => Ok(()),
        (None, _) | (Some(b'\r'), None) => Err(Stop::Short),
        (Some(b'\n'), _) => Err(Stop::Bad(Refusal::BareLf)),
        (Some(_), _) => Err(Stop::Bad(Refusal::ControlInValue)),
    }
}

/// What is wrong with a field's name that does not end in its colon.
#[cold]
fn bad_name(bytes: &[u8], name_end: usize) -> Refusal {
    let rest = bytes.get(name_end..).unwrap_or_default();
    let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    match rest.first() {
        Some(b'\n') => Refusal::BareLf,
        Some(b' ' | b'\t') if name_end == 0 => Refusal::FoldedLine,
        Some(b' ' | b'\t') if rest.get(blanks) == Some(&b':') => Refusal::BlankBeforeColon,
        _ => Refusal::BadFieldName,
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    let sum = digits.iter().try_fold(0u64, |sum, byte| sum.checked_mul(10)?.checked_add(digit(byte)?));
    sum.filter(|sum| *sum <= LENGTH_MAX)
}
