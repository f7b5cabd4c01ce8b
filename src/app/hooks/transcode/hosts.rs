//! The hosts of URLs that are this machine. Names are looked up on another thread, and the results kept for a while.

use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::outputs::forward::route::is_local;
use crate::st::{self, Shared};

/// Time for which the result of a look-up counts.
const LIFETIME: Duration = Duration::from_secs(60);

/// Names that are kept at most. There are as many as the configuration has, or more if they contain variables.
const MAX_NAMES: usize = 1000;

/// The hosts by name. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Hosts(Shared<HashMap<String, Lookup>>);

#[derive(Clone, Copy)]
enum Lookup {
    Pending,
    Done { own: bool, since: Instant },
}

impl Hosts {
    /// Returns whether a host is this machine; `None` while that is looked up. `on_known` is called when it is.
    pub(super) fn is_local_host(
        &self,
        host: &str,
        now: Instant,
        on_known: &Arc<dyn Fn() + Send + Sync>,
    ) -> Option<bool> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some(is_own_address(address));
        }
        if host.eq_ignore_ascii_case("localhost") {
            return Some(true);
        }
        let known = self.0.with(|hosts| hosts.get(host).copied());
        match known {
            Some(Lookup::Done { own, since }) if now.saturating_duration_since(since) < LIFETIME => return Some(own),
            Some(Lookup::Pending) => return None,
            _ => {}
        }
        self.0.with(|hosts| {
            if hosts.len() >= MAX_NAMES {
                hosts.clear();
            }
            hosts.insert(host.to_owned(), Lookup::Pending);
        });
        let (hosts, name, on_known) = (self.clone(), host.to_owned(), on_known.clone());
        let look_up = move || {
            let asked = name.clone();
            // A name without an address is that of no one; ffmpeg will say so.
            let own = st::look_up(move || resolve(&asked)).unwrap_or(false);
            hosts.0.with(|hosts| hosts.insert(name, Lookup::Done { own, since: st::now() }));
            on_known();
        };
        if st::spawn("look-up", 0, look_up).is_err() {
            self.0.with(|hosts| hosts.remove(host));
        }
        None
    }
}

fn resolve(name: &str) -> bool {
    let addresses = (name, 0).to_socket_addrs();
    addresses.is_ok_and(|mut addresses| addresses.any(|address| is_own_address(address.ip())))
}

fn is_own_address(address: IpAddr) -> bool {
    address.to_canonical().is_loopback() || is_local(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_by_its_addresses_and_names() {
        st::run(|| {
            let hosts = Hosts::default();
            let (sender, known) = std::sync::mpsc::channel();
            let on_known: Arc<dyn Fn() + Send + Sync> = Arc::new(move || _ = sender.send(()));
            let ask = |host: &str| hosts.is_local_host(host, st::now(), &on_known);
            for (host, own) in [
                ("127.0.0.1", true),
                ("127.8.9.1", true),
                ("::1", true),
                ("0.0.0.0", true),
                ("localhost", true),
                ("LOCALHOST", true),
                ("192.0.2.7", false),
                ("2001:db8::7", false),
            ] {
                assert_eq!(ask(host), Some(own), "{host}");
            }
            let name = "no-such-name.invalid";
            assert_eq!((ask(name), ask(name)), (None, None), "it is asked for once");
            while known.try_recv().is_err() {
                st::sleep(Duration::from_millis(1));
            }
            assert_eq!(ask(name), Some(false));
        })
        .unwrap();
    }
}
