//! What keeps one client from harming the others: memory, overload, fairness, batching.

pub(crate) mod batching;
pub(crate) mod fairness;
pub(crate) mod heap;
pub(crate) mod memory;
pub(crate) mod overload;
