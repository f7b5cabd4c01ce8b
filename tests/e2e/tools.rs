//! Paths of the installed clients.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Returns the path of a client. If it is not installed, the test fails, or is skipped if `SRS_TEST_SKIP_MISSING` is 1.
macro_rules! need {
    ($tool:ident) => {
        match crate::tools::$tool() {
            Some(path) => path,
            None if crate::tools::skip_missing() => {
                eprintln!("skipped: {} is not installed", stringify!($tool));
                return;
            }
            None => panic!(
                "{} is not installed; trunk-scripts/test.sh installs it, and SRS_TEST_SKIP_MISSING=1 skips this test",
                stringify!($tool)
            ),
        }
    };
}
pub(crate) use need;

pub(crate) fn skip_missing() -> bool {
    std::env::var("SRS_TEST_SKIP_MISSING").is_ok_and(|value| value == "1")
}

pub(crate) fn ffprobe() -> Option<PathBuf> {
    in_path("ffprobe")
}

pub(crate) fn ffmpeg() -> Option<PathBuf> {
    in_path("ffmpeg")
}

#[cfg(feature = "http")]
pub(crate) fn curl() -> Option<PathBuf> {
    in_path("curl")
}

pub(crate) fn python() -> Option<PathBuf> {
    in_path("python3")
}

#[cfg(feature = "http")]
pub(crate) fn jq() -> Option<PathBuf> {
    in_path("jq")
}

#[cfg(feature = "http")]
pub(crate) fn prometheus() -> Option<PathBuf> {
    in_path("prometheus")
}

#[cfg(feature = "http")]
pub(crate) fn tmux() -> Option<PathBuf> {
    in_path("tmux")
}

/// Returns a Python with the parser of Prometheus' client library.
#[cfg(feature = "http")]
pub(crate) fn prometheus_parser() -> Option<PathBuf> {
    let has_parser = |python: &PathBuf| {
        let output = Command::new(python).args(["-c", "import prometheus_client.parser"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    ["/usr/bin/python3".into()].into_iter().chain(in_path("python3")).find(has_parser)
}

#[cfg(all(feature = "hls", feature = "http"))]
pub(crate) fn chromium() -> Option<PathBuf> {
    in_path("chromium").or_else(|| in_path("chromium-browser")).or_else(|| in_path("google-chrome"))
}

#[cfg(all(feature = "hls", feature = "http"))]
pub(crate) fn zbarimg() -> Option<PathBuf> {
    in_path("zbarimg")
}

/// Returns hls.js where trunk-scripts/web-players.sh puts it.
#[cfg(all(feature = "hls", feature = "http"))]
pub(crate) fn hls_js() -> Option<PathBuf> {
    Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("objs/hls.min.js")).filter(|path| path.is_file())
}

/// Returns mpegts.js where trunk-scripts/web-players.sh puts it.
#[cfg(all(feature = "hls", feature = "http"))]
pub(crate) fn mpegts_js() -> Option<PathBuf> {
    Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("objs/mpegts.js")).filter(|path| path.is_file())
}

/// Returns nginx, with or without its RTMP module.
pub(crate) fn plain_nginx() -> Option<PathBuf> {
    in_path("nginx")
}

/// Returns OBS Studio, if the screen that it needs is installed, too.
#[cfg(feature = "ssl")]
pub(crate) fn obs() -> Option<PathBuf> {
    in_path("Xvfb")?;
    in_path("obs")
}

pub(crate) fn rtmpdump() -> Option<PathBuf> {
    in_path("rtmpdump")
}

/// Returns `gst-launch-1.0` if the elements that the tests use are installed.
pub(crate) fn gstreamer() -> Option<PathBuf> {
    let inspect = in_path("gst-inspect-1.0")?;
    let has =
        |element| Command::new(&inspect).args(["--exists", element]).status().is_ok_and(|status| status.success());
    ["rtmp2src", "rtmp2sink", "flvmux", "flvdemux"].into_iter().all(has).then(|| in_path("gst-launch-1.0"))?
}

/// Returns `gst-launch-1.0` if it has a client of HTTP.
#[cfg(all(feature = "hls", feature = "http"))]
pub(crate) fn gstreamer_http() -> Option<PathBuf> {
    let inspect = in_path("gst-inspect-1.0")?;
    let has_http =
        Command::new(inspect).args(["--exists", "souphttpsrc"]).status().is_ok_and(|status| status.success());
    has_http.then(gstreamer)?
}

/// Returns `gst-launch-1.0` if it supports TLS.
#[cfg(feature = "ssl")]
pub(crate) fn gstreamer_tls() -> Option<PathBuf> {
    // glib's TLS is a plug-in: Debian's glib-networking.
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let has = |folder: &&str| Path::new(folder).join("gio/modules/libgiognutls.so").exists();
    folders.iter().any(has).then(gstreamer)?
}

/// Returns nginx and its RTMP module; the module is `None` if it is linked in.
pub(crate) fn nginx() -> Option<(PathBuf, Option<PathBuf>)> {
    let nginx = in_path("nginx")?;
    let built = Command::new(&nginx).arg("-V").output().ok()?.stderr;
    let built = String::from_utf8_lossy(&built).into_owned();
    let modules = built.split_whitespace().find_map(|option| option.strip_prefix("--modules-path="));
    let module = Path::new(modules.unwrap_or("/usr/lib/nginx/modules")).join("ngx_rtmp_module.so");
    if module.exists() {
        return Some((nginx, Some(module)));
    }
    let linked = built.split_whitespace().any(|option| option.starts_with("--add-module=") && option.contains("rtmp"));
    linked.then_some((nginx, None))
}

#[cfg(feature = "ssl")]
pub(crate) fn openssl() -> Option<PathBuf> {
    in_path("openssl")
}

/// Returns nginx and its stream module.
pub(crate) fn nginx_stream() -> Option<(PathBuf, PathBuf)> {
    let modules = ["/usr/lib/nginx/modules", "/usr/share/nginx/modules"].map(Path::new);
    let module =
        modules.map(|folder| folder.join("ngx_stream_module.so")).into_iter().find(|module| module.exists())?;
    Some((in_path("nginx")?, module))
}

pub(crate) fn prlimit() -> Option<PathBuf> {
    in_path("prlimit")
}

pub(crate) fn haproxy() -> Option<PathBuf> {
    in_path("haproxy")
}

/// Returns an ffmpeg that supports Enhanced RTMP: 6.1 or newer.
pub(crate) fn new_ffmpeg() -> Option<PathBuf> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(find_new_ffmpeg).clone()
}

fn find_new_ffmpeg() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("SRS_TEST_FFMPEG_NEW") {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "SRS_TEST_FFMPEG_NEW={}: no such file", path.display());
        return Some(path);
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("objs/tools/imageio_ffmpeg/binaries");
    let installed = installed.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let is_ffmpeg = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ffmpeg-"));
    installed.filter(is_ffmpeg).max().or_else(|| ffmpeg().filter(|path| is_new(path)))
}

/// Returns true if this ffmpeg is 6.1 or newer.
fn is_new(ffmpeg: &Path) -> bool {
    let Ok(output) = Command::new(ffmpeg).arg("-version").output() else { return false };
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().nth(2).unwrap_or_default().trim_start_matches('n');
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 1)
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Debian installs nginx in a folder that is in root's PATH only.
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}
