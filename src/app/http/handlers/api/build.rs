//! The build of the server, and the system that runs it.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Local};
use nix::sys::utsname::uname;

use super::json::Object;

pub(super) struct Build {
    time: SystemTime,
    /// The facts of uname(2), by the labels of Prometheus.
    system: Vec<(&'static str, String)>,
}

impl Build {
    pub(super) fn read() -> Self {
        // The kernel has the properties of a running program in memory.
        let time = fs::metadata("/proc/self/exe").and_then(|file| file.modified());
        let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
        let system = uname().map(|name| {
            vec![
                ("sysname", text(name.sysname())),
                ("nodename", text(name.nodename())),
                ("release", text(name.release())),
                ("version", text(name.version())),
                ("machine", text(name.machine())),
            ]
        });
        Self { time: time.unwrap_or(UNIX_EPOCH), system: system.unwrap_or_default() }
    }

    /// Returns the date in the form of SRS, in local time.
    pub(super) fn date(&self) -> String {
        DateTime::<Local>::from(self.time).format("%Y-%m-%d %H:%M:%S").to_string()
    }

    pub(super) fn system(&self) -> &[(&'static str, String)] {
        &self.system
    }

    /// Returns the features of SRS that this build has, and how it was built.
    pub(super) fn features(&self) -> Object {
        // The names of SRS. A feature that it has and this server has not is false.
        let all = [
            ("ssl", cfg!(feature = "ssl")),
            ("hls", cfg!(feature = "hls")),
            ("hds", false),
            ("callback", true),
            ("api", true),
            ("httpd", true),
            ("dvr", true),
            ("transcode", true),
            ("ingest", false),
            ("stat", true),
            ("caster", false),
            ("complex_send", true),
            ("tcp_nodelay", true),
            ("so_sendbuf", false),
            ("mr", true),
        ];
        let features = all.iter().fold(Object::new(), |features, (name, is_present)| features.with(name, is_present));
        let seconds = self.time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Object::new()
            .with("options", options())
            .with("options2", format!("{} {}", options(), profile()))
            .with("build", self.date())
            .with("build2", seconds.to_string())
            .with_object("features", features)
    }
}

fn options() -> String {
    let all = [("ssl", cfg!(feature = "ssl")), ("hls", cfg!(feature = "hls")), ("http", cfg!(feature = "http"))];
    all.map(|(name, is_present)| format!("--{}-{name}", if is_present { "with" } else { "without" })).join(" ")
}

fn profile() -> &'static str {
    if cfg!(debug_assertions) { "--debug" } else { "--release" }
}
