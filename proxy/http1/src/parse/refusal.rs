//! Why a message is refused: one variant, one word, one sentence, one status for each reason.

use std::fmt;

use http::StatusCode;

macro_rules! refusals {
    ($($(#[doc = $doc:literal])+ $name:ident: $status:literal, $reason:literal, $sentence:literal;)+) => {
        /// Why a message is refused: it has no single meaning, or it exceeds a limit.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Refusal {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Refusal {
            /// All reasons.
            pub const ALL: &'static [Refusal] = &[$(Refusal::$name,)+];

            /// The status to respond with when a request is refused for this. It means nothing for a malformed response, which a proxy turns into a 502.
            pub fn status(self) -> StatusCode {
                let status = match self { $(Refusal::$name => $status,)+ };
                StatusCode::from_u16(status).expect("the table holds valid codes")
            }

            /// One word, unique among all reasons.
            pub fn reason(self) -> &'static str {
                match self { $(Refusal::$name => $reason,)+ }
            }

            /// One sentence for a person: lower case, without a full stop.
            pub fn sentence(self) -> &'static str {
                match self { $(Refusal::$name => $sentence,)+ }
            }
        }
    };
}

refusals! {
    /// More than one empty line before a request line (RFC 9112 §2.2 allows "at least one").
    EmptyLines: 400, "empty_lines", "more than one empty line stands before the request line";
    /// A line that does not end in CR LF.
    BareLf: 400, "bare_lf", "a line of the head ends in a line feed without a carriage return";
    /// The first line is no request line.
    BadRequestLine: 400, "bad_request_line", "the request line is not a method, a target and a version with one blank between them";
    /// The method is not a token.
    BadMethod: 400, "bad_method", "the method is not a token";
    /// `HTTP/x.y` with other numbers than 1.1 and 1.0.
    BadVersion: 505, "version_not_supported", "the version is neither HTTP/1.1 nor HTTP/1.0";
    /// The target has a byte that it may not have, a fragment, or a form that its method does not have (RFC 9112 §3.2).
    BadTarget: 400, "bad_target", "the target has a byte or a form that this request may not have";
    /// `user@host` in a target (RFC 9110 §4.2.4).
    UserInformation: 400, "user_information", "the target carries user information";
    /// The authority has no host, or its host or port is malformed.
    BadAuthority: 400, "bad_authority", "the target's host or port is not valid";
    /// Longer than the limit.
    RequestLineTooLong: 414, "request_line_too_long", "the request line is longer than the limit";
    /// One field is longer than the limit.
    FieldTooLong: 431, "field_too_long", "a header field is longer than the limit";
    /// The head is longer than the limit.
    HeadTooLarge: 431, "head_too_large", "the head is longer than the limit";
    /// More fields than the limit.
    TooManyFields: 431, "too_many_fields", "the head has more fields than the limit";
    /// A byte of a field's name is none of a token, or there is no name, or no colon.
    BadFieldName: 400, "bad_field_name", "a field's name is not a token that ends in a colon";
    /// `Name : value` (RFC 9112 §5.1).
    BlankBeforeColon: 400, "blank_before_colon", "a blank stands between a field's name and its colon";
    /// A line that begins with a blank: folding is obsolete (RFC 9112 §5.2).
    FoldedLine: 400, "folded_line", "a line of the head begins with a blank, as if it continued the one before";
    /// NUL, CR or another control byte.
    ControlInValue: 400, "control_in_value", "a field's value has a control byte";
    /// HTTP/1.1 without `Host`.
    NoHost: 400, "no_host", "the request has no Host";
    /// More than one `Host` (RFC 9112 §3.2).
    SeveralHosts: 400, "several_hosts", "the request has more than one Host";
    /// `Host` is not a host with or without a port.
    BadHost: 400, "bad_host", "the request's Host is not valid";
    /// `Content-Length` is not only digits, or is more than can be counted.
    BadLength: 400, "bad_length", "Content-Length is not one number";
    /// More than one `Content-Length`, even if they say the same.
    SeveralLengths: 400, "several_lengths", "the message has more than one Content-Length";
    /// `Transfer-Encoding` beside `Content-Length` (RFC 9112 §6.1).
    LengthBesideEncoding: 400, "length_beside_encoding", "the message has both Transfer-Encoding and Content-Length";
    /// `Transfer-Encoding` is anything but one `chunked`.
    BadEncoding: 400, "bad_encoding", "Transfer-Encoding is not exactly \"chunked\"";
    /// `Transfer-Encoding` in HTTP/1.0.
    EncodingInOldVersion: 400, "encoding_in_http_1_0", "HTTP/1.0 has no Transfer-Encoding";
    /// A body is announced where the method or the status has none.
    UnexpectedBody: 400, "unexpected_body", "the message announces a body that its method or status cannot have";
    /// A chunk size that is not a hexadecimal number.
    BadChunkSize: 400, "bad_chunk_size", "a chunk's size is not a hexadecimal number";
    /// A chunk size that is more than can be counted.
    ChunkTooLarge: 400, "chunk_too_large", "a chunk's size is more than can be counted";
    /// A chunk extension that is not `;name`, `;name=token` or `;name="text"`.
    BadChunkExtension: 400, "bad_chunk_extension", "a chunk's extension is malformed";
    /// All chunk extensions of a message together exceed the limit.
    ChunkExtensionsTooLong: 400, "chunk_extensions_too_long", "the extensions of the body's chunks are longer than the limit";
    /// Chunk data that does not end where its size says.
    BadChunkEnd: 400, "bad_chunk_end", "a chunk does not end where its size says";
    /// A trailer field that is malformed, or that says how or to whom the message goes (RFC 9110 §6.5.1).
    BadTrailer: 400, "bad_trailer", "a trailer field is malformed or may not be one";
    /// The trailer fields together exceed a limit.
    TrailersTooLarge: 400, "trailers_too_large", "the trailer fields are longer or more than the limit";
    /// The first line is no status line, or it is longer than the limit.
    BadStatusLine: 400, "bad_status_line", "the status line is not a version, a status of three digits and a phrase";
    /// A response without a request.
    UnexpectedResponse: 400, "unexpected_response", "there is a response without a request";
    /// A 101 that nobody asked for.
    UnexpectedUpgrade: 400, "unexpected_upgrade", "the server switched protocols without being asked";
    /// A status below 200 that means nothing, or more informational responses than the limit.
    BadInformational: 400, "bad_informational", "an unknown informational response precedes the final one, or too many do";
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_word_of_its_own_and_a_refusing_status() {
        let mut reasons: Vec<_> = Refusal::ALL.iter().map(|refusal| refusal.reason()).collect();
        reasons.sort_unstable();
        reasons.dedup();
        assert_eq!(reasons.len(), Refusal::ALL.len());
        assert!(Refusal::ALL.iter().all(|refusal| matches!(refusal.status().as_u16(), 400 | 414 | 431 | 505)));
    }
}
