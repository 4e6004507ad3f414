//! HTTP/1.1 on both sides, on top of hyper's connections: hyper parses and frames, these rooms decide what may pass.
//!
//! `server` is the door (the app's connections), `client` the pool of connections to endpoints, `headers` makes one clear meaning of a head,
//! `body` streams and keeps, `io` watches bytes go by, `problem` writes the answers of our own.

pub mod body;
pub mod client;
mod drive;
pub mod headers;
pub mod io;
pub mod problem;
pub mod server;
