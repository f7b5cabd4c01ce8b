//! The connected clients: their state, their requests, and the reasons for closing them.

pub(crate) mod client;
pub(crate) mod clients;
pub(crate) mod close;
pub mod info;
pub(crate) mod operator;
pub(crate) mod per_ip;
pub mod request;
