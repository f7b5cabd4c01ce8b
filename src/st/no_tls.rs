//! What stands for a TLS session in a build without `ssl`: there is none.

use std::io::{self, IoSlice};

use super::net::Wire;
use crate::memory::Held;

/// There is no such thing.
pub(super) enum Session {}

impl Session {
    pub(super) fn count_unsent(&self, _: Held) {
        match *self {}
    }

    pub(super) fn try_read(&self, _: &mut Wire<'_>, _: &mut [u8]) -> io::Result<Option<usize>> {
        match *self {}
    }

    pub(super) fn overhead(&self) -> u64 {
        match *self {}
    }

    pub(super) fn take_more(&self) -> bool {
        match *self {}
    }

    pub(super) fn try_write(&self, _: &mut Wire<'_>, _: &[IoSlice<'_>]) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn flush(&self, _: &mut Wire<'_>) -> io::Result<bool> {
        match *self {}
    }

    pub(super) fn close(&self, _: &mut Wire<'_>) {
        match *self {}
    }
}
