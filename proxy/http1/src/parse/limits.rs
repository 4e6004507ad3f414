//! How much of a message is accepted. A parser without these can be made to hold as much as its peer likes to send.

/// The largest length or chunk size that is accepted, in bytes: readers sum them up in signed numbers too, and nobody sends eight exbibytes.
pub(super) const LENGTH_MAX: u64 = i64::MAX as u64;

/// How much of one direction's messages is accepted. What is more is refused with the [`super::Refusal`] named here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of a request line or status line, its line end included (`RequestLineTooLong`, `BadStatusLine`).
    pub first_line_bytes: usize,
    /// Bytes of one field line, its line end included (`FieldTooLong`).
    pub field_bytes: usize,
    /// Bytes of a whole head, all line ends included (`HeadTooLarge`).
    pub head_bytes: usize,
    /// Fields of a head (`TooManyFields`).
    pub fields: u32,
    /// Bytes of all trailer fields of a message (`TrailersTooLarge`).
    pub trailer_bytes: u32,
    /// Trailer fields of a message (`TrailersTooLarge`).
    pub trailer_fields: u32,
    /// Bytes of all chunk extensions of a message (`ChunkExtensionsTooLong`).
    pub extension_bytes: u32,
    /// Informational responses before the final one (`BadInformational`).
    pub informational_responses: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            first_line_bytes: 16 * 1024,
            field_bytes: 16 * 1024,
            head_bytes: 32 * 1024,
            fields: 100,
            trailer_bytes: 8 * 1024,
            trailer_fields: 32,
            extension_bytes: 4 * 1024,
            informational_responses: 8,
        }
    }
}
