//! The connected clients: their state, their requests, and the reasons for closing them.

pub mod bandwidth_report;
pub(crate) mod client;
pub(crate) mod clients;
pub(crate) mod close;
pub mod engines;
pub mod info;
pub(crate) mod operator;
pub(crate) mod per_ip;
pub(crate) mod recordings;
pub mod request;
pub mod signed_url;
#[cfg(feature = "http")]
pub(crate) mod viewers;
pub(crate) mod write_queue;
