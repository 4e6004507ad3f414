//! The side of the client: the listeners, the downstream connections, and what an exchange sees of them.
//!
//! `listeners` has the two sockets, and `h1` the life of an HTTP/1 connection. An exchange gets a `stream`, whose `progress` the worker watches. The request's
//! body becomes an `upload`, which keeps it for retries within the bounds of `memory`. `problem` writes the proxy's own responses.

pub mod h1;
pub mod listeners;
pub mod memory;
pub mod problem;
pub mod progress;
pub mod stream;
pub mod upload;
