//! The limit of open files: how many the configuration needs.

use crate::app::session::clients::MAX_REJECTING;
use crate::config::Config;
use crate::log::quoted;
use crate::os::{self, FileLimit};

/// Open files beside those of clients: the log, the listeners, HLS files being written.
const OTHER_FILES: usize = 64;

fn files_needed(config: &Config) -> usize {
    let vhosts = config.vhosts.values().filter(|vhost| vhost.enabled);
    let targets = vhosts.map(|vhost| vhost.forward.targets.len()).max().unwrap_or(0);
    let clients = config.max_connections * (1 + targets) + MAX_REJECTING + OTHER_FILES;
    if config.http_server.enabled {
        // A connection, and the file that is sent over it.
        return clients + 2 * config.http_server.max_connections;
    }
    clients
}

pub(crate) fn check_limit(config: &Config) {
    let needed = files_needed(config);
    match os::raise_file_limit(needed as u64) {
        FileLimit::Enough => {}
        FileLimit::Raised { before, after } => log::info!("open file limit raised: before={before} after={after}"),
        FileLimit::TooFew(limit) => log::warn!(
            "open file limit too low for max_connections, http_server and forward: needed={needed} limit={limit} \
             max_clients={} advice={}",
            (limit as usize).saturating_sub(MAX_REJECTING + OTHER_FILES),
            quoted("raise the limit (ulimit -n, or LimitNOFILE of systemd), or lower max_connections"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_needed_for_clients_for_targets_and_twice_for_http() {
        let needed = |text: &str| files_needed(&Config::parse("a.conf", text).unwrap()) - MAX_REJECTING - OTHER_FILES;
        assert_eq!(needed("listen 1935; max_connections 10; vhost a { }"), 10);
        let targets = "vhost a { forward b c; } vhost b { forward b; } vhost c { enabled off; forward b c d; }";
        assert_eq!(needed(&format!("listen 1935; max_connections 10; {targets}")), 30, "to as many as one vhost has");
        {
            let http = "http_server { enabled on; listen 8080; max_connections 100; }";
            assert_eq!(needed(&format!("listen 1935; max_connections 10; {http} vhost a {{ }}")), 210);
        }
    }
}
