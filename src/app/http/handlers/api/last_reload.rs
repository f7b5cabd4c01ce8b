//! The outcome of the last reload that was asked for over the API, as `rpc=reload-fetch` of SRS tells it.

use super::json::Object;

/// Code of SRS for a configuration that cannot be loaded.
const RELOAD_FAILED: u32 = 1023;

/// States of SRS: no reload yet, and the end of one. Those in between do not exist, since a reload is answered when it is
/// complete.
const STATE_INIT: u32 = 0;
const STATE_FINISHED: u32 = 90;

#[derive(Default)]
pub(super) struct LastReload {
    count: u64,
    error: Option<String>,
}

impl LastReload {
    pub(super) fn record(&mut self, error: Option<String>) {
        self.count += 1;
        self.error = error;
    }

    pub(super) fn describe(&self) -> Object {
        Object::new()
            .with("err", if self.error.is_some() { RELOAD_FAILED } else { 0 })
            .with("msg", self.error.as_deref().unwrap_or("Success"))
            .with("state", if self.count == 0 { STATE_INIT } else { STATE_FINISHED })
            .with("rid", self.count.to_string())
    }
}
