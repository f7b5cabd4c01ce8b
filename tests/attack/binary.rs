//! The server under attack: the release build, as operators run it. The tests' own build is many times slower under some
//! attacks, and the kit would measure the build instead of the server.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Returns its path: that in `SRS_TEST_BINARY`, or else that of the release build, which is brought up to date first.
pub(crate) fn path() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| match std::env::var("SRS_TEST_BINARY") {
        Ok(path) => {
            assert!(std::path::Path::new(&path).is_file(), "SRS_TEST_BINARY={path}: no such file");
            path
        }
        Err(_) => build(),
    })
}

/// Builds the server with this program's features and returns the path that cargo reports.
fn build() -> String {
    let all = [("ssl", cfg!(feature = "ssl")), ("hls", cfg!(feature = "hls")), ("http", cfg!(feature = "http"))];
    let features: Vec<_> = all.into_iter().filter(|(_, is_on)| *is_on).map(|(name, _)| name).collect();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--locked", "--bin", "simple_rtmp_server"]);
    cargo.args(["--message-format", "json-render-diagnostics"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    // With all features the command is the one that operators use, and so is what cargo caches.
    if features.len() < all.len() {
        cargo.arg("--no-default-features").arg("--features").arg(features.join(","));
    }
    // Variables that cargo sets for this program would make some dependencies be built anew.
    for (name, _) in std::env::vars_os() {
        let of_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
        if of_package.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    let output = cargo.stderr(Stdio::inherit()).output().expect("cargo is installed");
    assert!(output.status.success(), "the server does not build: cargo build --release --locked --bins");
    let messages = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let mut paths = messages.lines().filter_map(|line| line.split("\"executable\":\"").nth(1)?.split('"').next());
    paths.next_back().expect("cargo reports the program").to_owned()
}
