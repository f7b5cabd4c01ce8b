//! The limit of open files: how many the configuration needs.

use crate::app::session::clients::MAX_REJECTING;
use crate::config::Config;
use crate::log::quoted;
use crate::os::{self, FileLimit};
use crate::st::net::MAX_PAGE_FILE_DESCRIPTORS;

/// Open files beside those of clients and of segments in memory: the log, the listeners, HLS files being written.
const OTHER_FILES: usize = 64;

fn files_needed(config: &Config) -> usize {
    let vhosts = config.vhosts.values().filter(|vhost| vhost.enabled);
    // A publisher needs a connection for each target, and a file if it is recorded.
    let outputs = vhosts.map(|vhost| vhost.forward.targets.len() + usize::from(vhost.dvr.enabled)).max().unwrap_or(0);
    let clients = config.max_connections * (1 + outputs) + reserved(config);
    if config.http_server.enabled {
        // A connection, and the file that is sent over it.
        return clients + 2 * config.http_server.max_connections;
    }
    clients
}

/// Returns the open files that are not those of clients.
fn reserved(config: &Config) -> usize {
    let has_hls = config.vhosts.values().any(|vhost| vhost.enabled && vhost.hls.enabled);
    let has_segments = has_hls && config.http_server.live_limit() > 0;
    MAX_REJECTING + OTHER_FILES + if has_segments { MAX_PAGE_FILE_DESCRIPTORS } else { 0 }
}

pub(crate) fn check_limit(config: &Config) {
    let needed = files_needed(config);
    match os::raise_file_limit(needed as u64) {
        FileLimit::Enough => {}
        FileLimit::Raised { before, after } => log::info!("open file limit raised: before={before} after={after}"),
        FileLimit::TooFew(limit) => log::warn!(
            "open file limit too low for max_connections, http_server, forward and dvr: needed={needed} limit={limit} \
             max_clients={} advice={}",
            (limit as usize).saturating_sub(reserved(config)),
            quoted("raise the limit (ulimit -n, or LimitNOFILE of systemd), or lower max_connections"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_needed_for_clients_for_outputs_and_twice_for_http() {
        let needed = |text: &str| files_needed(&Config::parse("a.conf", text).unwrap()) - MAX_REJECTING - OTHER_FILES;
        assert_eq!(needed("listen 1935; max_connections 10; vhost a { }"), 10);
        let targets = "vhost a { forward b c; } vhost b { forward b; } vhost c { enabled off; forward b c d; }";
        assert_eq!(needed(&format!("listen 1935; max_connections 10; {targets}")), 30, "to as many as one vhost has");
        let recorded =
            "vhost a { forward b; } vhost b { dvr { enabled on; } } vhost c { forward b; dvr { enabled on; } }";
        assert_eq!(needed(&format!("listen 1935; max_connections 10; {recorded}")), 30, "one target and one file");
        {
            let http = "http_server { enabled on; listen 8080; max_connections 100; }";
            assert_eq!(needed(&format!("listen 1935; max_connections 10; {http} vhost a {{ }}")), 210);
        }
    }

    #[cfg(all(feature = "hls", feature = "http"))]
    #[test]
    fn files_are_needed_for_segments_that_http_sends_from_memory() {
        let segments = |http: &str, vhost: &str| {
            let text = format!("listen 1935; http_server {{ enabled {http}; listen 8080; }} vhost a {{ {vhost} }}");
            reserved(&Config::parse("a.conf", &text).unwrap()) - MAX_REJECTING - OTHER_FILES
        };
        assert_eq!(segments("on", "hls { enabled on; }"), MAX_PAGE_FILE_DESCRIPTORS);
        for (http, vhost) in [("off", "hls { enabled on; }"), ("on", ""), ("on", "enabled off; hls { enabled on; }")] {
            assert_eq!(segments(http, vhost), 0, "{http}, {vhost}");
        }
    }
}
