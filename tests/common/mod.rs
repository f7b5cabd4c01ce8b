//! Code that the end-to-end tests and the attack kit share: starting the server, and clients that share no code with it.
#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod amf;
pub(crate) mod chunks;
pub(crate) mod flv;
pub(crate) mod http_client;
pub(crate) mod process;
pub(crate) mod scratch;
pub(crate) mod server;
pub(crate) mod wire;
