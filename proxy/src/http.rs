//! HTTP/1.1 on both sides: these rooms read and write it, and decide what may pass.
//!
//! `server` is the door (the life of the app's connections), `wire` the bytes of one of them; `client` is the pool of connections to endpoints, `conn` one of them, `outgoing` the request written to it.
//! Both sides read with `strict` (one meaning or a refusal) into `head` (a head as it came), and write through `staged`. `headers` says what of a head goes on, `body` streams and
//! keeps, `io` watches bytes go by, `tunnel` lets them through both ways, `problem` writes the answers of our own.

pub mod body;
pub mod client;
pub mod conn;
pub mod headers;
pub mod io;
pub mod problem;
pub mod server;
