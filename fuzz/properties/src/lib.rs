//! Properties that must hold for any bytes.
//!
//! Each module is one property: its `check` takes any bytes and panics if the property does not hold for them. The fuzzer (`make fuzz`) looks for such bytes.
//! The tests of this crate check the seeds, which include every input that once broke something. Nothing here waits for real time or opens a socket.

pub mod authority;
pub mod config;
pub mod headers;
pub mod paths;
pub mod policies;
mod reference;
pub mod requests;
pub mod responses;
pub mod seeds;
pub mod times;
mod whole;
