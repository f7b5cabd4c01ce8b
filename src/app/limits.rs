//! Protection of clients from each other: memory, load shedding, fairness, batching.

pub(crate) mod admission;
pub(crate) mod bandwidth_tests;
pub(crate) mod batching;
pub(crate) mod fairness;
pub(crate) mod files;
pub(crate) mod memory;
pub(crate) mod overload;
pub(crate) mod pacer;
pub(crate) mod reclaim;
