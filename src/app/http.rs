//! HTTP: the files of live streams, and what else is in a directory, for browsers and players.

#![allow(dead_code, reason = "what sends them comes with the next change")]

mod conditions;
mod entity;
pub mod live;
mod request;
mod status;
