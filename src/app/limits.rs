//! Protection of clients from each other: memory, load shedding, fairness, batching, heap trimming.

pub(crate) mod batching;
pub(crate) mod fairness;
pub(crate) mod heap;
pub(crate) mod memory;
pub(crate) mod overload;
