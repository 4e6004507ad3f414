//! HTTP/1.1 on both sides: towards the app on hyper's server, towards endpoints on a client of our own; these rooms decide what may pass.
//!
//! `server` is the door (the app's connections), `client` the pool of connections to endpoints, `conn` one of them, `outgoing` what is written to it, `answer` what is read from it, `headers`
//! makes one clear meaning of a head, `body` streams and keeps, `io` watches bytes go by, `strict` refuses bytes with two meanings before hyper sees them, `inspected` is where it stands, `problem` writes the answers of our own.

pub mod answer;
pub mod body;
pub mod client;
pub mod conn;
pub mod headers;
pub mod inspected;
pub mod io;
pub mod outgoing;
pub mod problem;
pub mod server;
pub mod strict;
