//! Who is connected: the clients, what they asked for, and why they leave.

pub(crate) mod client;
pub(crate) mod clients;
pub(crate) mod close;
pub(crate) mod per_ip;
pub mod request;
