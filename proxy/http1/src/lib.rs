//! Strict HTTP/1.1.

pub mod encode;
pub mod head;
pub mod parse;
pub mod traits;
pub mod tunnel;
