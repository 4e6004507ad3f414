//! How a piece of a body leaves the buffer that it was read into: handed over, split off, or copied.

use bytes::{Buf, Bytes, BytesMut};

/// Pieces below this are copied out of the buffer, in bytes: so they keep no more memory alive than they need, and the buffer can be used again.
pub(crate) const COPIED_BELOW: usize = 4 * 1024;

/// Up to `most` bytes from the beginning of `buffer`.
pub(super) fn take(buffer: &mut BytesMut, most: u64) -> Bytes {
    let count = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
    if count == buffer.len() && buffer.capacity() <= 2 * count {
        return std::mem::take(buffer).freeze();
    }
    if count >= COPIED_BELOW {
        return buffer.split_to(count).freeze();
    }
    let data = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
    buffer.advance(count);
    data
}
