//! Who calls us: the listeners, the connections of the app, and what an exchange sees of them.
//!
//! `listeners` has the two sockets, `h1` the life of an HTTP/1 connection. An exchange is given a `stream`, watched by its `progress`; the request's body becomes an `upload`, which
//! keeps what may be sent again within the bounds of `memory`; `problem` writes the responses of our own.

pub mod h1;
pub mod listeners;
pub mod memory;
pub mod problem;
pub mod progress;
pub mod stream;
pub mod upload;
