//! What must hold whatever the bytes are.
//!
//! Each module is one property: `check` takes any bytes and panics if it does not hold for them. The fuzzer (`make fuzz`) looks for such bytes; the tests of this crate check the
//! seeds, among them every input that once broke something. Nothing here waits for real time or opens a socket.

pub mod answers;
pub mod authority;
pub mod config;
pub mod headers;
pub mod policies;
mod reference;
pub mod requests;
pub mod seeds;
pub mod times;
mod whole;
