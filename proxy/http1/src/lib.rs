//! Strict HTTP/1.1.

pub mod client;
pub mod encode;
pub mod head;
pub mod parse;
pub mod server;
pub mod traits;
pub mod transport;
pub mod tunnel;
