//! The server under test: the build of this test run, or the file that `SRS_TEST_BINARY` names.

use std::sync::OnceLock;

/// Returns its path.
pub(crate) fn path() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        std::env::var("SRS_TEST_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_simple_rtmp_server").to_owned())
    })
}
