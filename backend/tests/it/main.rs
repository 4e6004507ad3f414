//! The backend as its clients see it: real sockets on loopback, requests written by hand.

mod control;
mod data;
mod program;
mod wire;
