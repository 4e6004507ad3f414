//! HTTP/1.1 on both sides, as the proxy uses it. What it means, and how it is read and written, is the crate `outrigger_http1`.
//!
//! `server` is the life of the app's connections, `client` the pool of connections to endpoints, `conn` one of them. `headers` says what of a head is sent on, `body` streams and
//! keeps, `io` watches bytes pass, `problem` writes the answers of our own.

pub mod body;
pub mod client;
pub mod conn;
pub mod headers;
pub mod io;
pub mod problem;
pub mod server;
