//! Protection of clients from each other: memory, load shedding, fairness, batching.
//!
//! | module | bounds | by |
//! |---|---|---|
//! | `memory`, `reclaim` | memory held for clients | freeing caches, refusing, disconnecting |
//! | `overload` | time of the worker | refusing newcomers, disconnecting the newest players |
//! | `fairness` | work that one client causes | low priority |
//! | `batching`, `pacer` | cost of messages, rate of bytes | waiting |
//! | `admission` | | what the first two decide, for whoever asks |

pub(crate) mod admission;
pub(crate) mod bandwidth_tests;
pub(crate) mod batching;
pub(crate) mod fairness;
pub(crate) mod files;
pub(crate) mod memory;
pub(crate) mod overload;
pub(crate) mod pacer;
pub(crate) mod reclaim;
