//! The faulty service of the Outrigger lab. So far: the faults, and the draw that deals them out.

pub mod faults;
pub mod plan;

pub use crate::faults::Faults;
pub use crate::plan::Plan;
