//! Pages of the API's lists: exact while clients come and go, and with parameters that nobody should send.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::api::{curl, jq, start};
use crate::common::scratch::Scratch;
use crate::common::wire::Wire;
use crate::tools::need;

/// Walks in pages, while others come and go.
const WALKS: usize = 3;

/// Guard that ends the churn, also when the test fails.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Returns the ids of a page of clients, and the total.
fn page(api: u16, query: &str) -> (Vec<u64>, u64) {
    let (status, body) = curl(api, &format!("/api/v1/clients?{query}"), &[]);
    assert_eq!(status, 200, "{query}: {body}");
    let ids = jq(&body, ".clients[].id").lines().map(|id| id.parse().expect("a number")).collect();
    (ids, jq(&body, ".total").parse().expect("a number"))
}

#[test]
fn who_stays_is_on_one_page_while_others_come_and_go() {
    need!(curl);
    need!(jq);
    let scratch = Scratch::new();
    let (mut server, api) = start(&scratch, "");
    let _publisher = Wire::publisher(server.port, "cam");
    let mut leaving: Vec<_> = (0..6).map(|_| Wire::player(server.port, "cam")).collect();
    let _lasting: Vec<_> = (0..8).map(|_| Wire::player(server.port, "cam")).collect();
    let (lasting, total) = page(api, "");
    assert_eq!((lasting.len(), total), (15, 15));
    assert!(lasting.is_sorted());
    let lasting = [&lasting[..1], &lasting[7..]].concat();

    let (port, is_over) = (server.port, AtomicBool::new(false));
    thread::scope(|scope| {
        let _end = EndOnDrop(&is_over);
        scope.spawn(|| {
            // Those of the first pages leave one after the other, so that a page by its start would miss others.
            while !is_over.load(Ordering::Relaxed) {
                leaving.pop();
                drop(Wire::player(port, "cam"));
            }
        });
        for walk in 0..WALKS {
            for filter in ["", "&stream=cam", "&vhost=__defaultVhost__&app=live&ip=127.0.0.1"] {
                let (mut listed, mut after) = (Vec::new(), 0);
                loop {
                    let (ids, total) = page(api, &format!("count=3&after={after}{filter}"));
                    assert!(ids.len() <= 3 && total >= lasting.len() as u64, "{ids:?} of {total}");
                    listed.extend(ids);
                    // Further pages have those who came during the walk.
                    let last = listed.last().filter(|last| **last > after && !lasting.ends_with(&[**last]));
                    let Some(last) = last else { break };
                    after = *last;
                }
                assert!(listed.is_sorted_by(|a, b| a < b), "{listed:?}");
                let missing: Vec<_> = lasting.iter().filter(|id| !listed.contains(id)).collect();
                assert!(missing.is_empty(), "walk {walk} {filter}: {missing:?} not in {listed:?}");
            }
        }
    });
    server.assert_healthy();
}

#[test]
fn odd_pages_and_filters_are_answered() {
    need!(curl);
    need!(jq);
    let scratch = Scratch::new();
    let (mut server, api) = start(&scratch, "");
    let _publishers: Vec<_> = ["a", "b", "c"].map(|name| Wire::publisher(server.port, name)).into();
    let all = page(api, "").0;
    for (query, expected) in [
        ("count=0", &all[..1]),
        ("count=-1&start=-1&after=-1", &all),
        ("count=99999999999", &all),
        ("count=99999999999999999999999", &all),
        ("start=2", &all[2..]),
        ("start=3", &[]),
        ("start=18446744073709551615&count=10000", &[]),
        ("start=1&start=0&count=1", &all[1..2]),
        ("after=18446744073709551615", &[]),
        ("after=99999999999999999999999&count=x", &all),
        ("ip=127.0.0.1&start=1&count=1", &all[1..2]),
        ("ip=::ffff:127.0.0.1&vhost=&app=", &all),
    ] {
        assert_eq!(page(api, query), (expected.to_vec(), 3), "{query}");
    }
    assert_eq!(page(api, &format!("type=fmle-publish&after={}", all[0])), (all[1..].to_vec(), 3));
    for list in ["clients", "streams"] {
        let long = "x".repeat(4000);
        for value in [
            "%00",
            "%ff%fe",
            "%22%3E%3Cscript%3E",
            "vid-",
            "vid-zzzzzzzzzzzzzzzz",
            "..%2F..%2Fetc",
            "%F0%9F%92%A9",
            "*",
            &long,
        ] {
            for name in ["vhost", "app", "stream"] {
                let (status, body) = curl(api, &format!("/api/v1/{list}?{name}={value}"), &[]);
                assert_eq!(
                    (status, jq(&body, &format!(".total, (.{list} | length)"))),
                    (200, "0\n0".to_owned()),
                    "{name}={value}"
                );
            }
        }
    }
    for query in ["ip=127.0.0.1/8", "ip=localhost", "ip=%00", "type=none", "type=%ff"] {
        assert_eq!(page(api, query), (vec![], 0), "{query}");
    }
    let streams = |query: &str| {
        let body = curl(api, &format!("/api/v1/streams?{query}"), &[]).1;
        jq(&body, "[.total, (.streams[].name)] | map(tostring) | join(\" \")")
    };
    for (query, expected) in [
        ("", "3 a b c"),
        ("count=1", "3 a"),
        ("start=1&count=1", "3 b"),
        ("start=3", "3"),
        ("start=18446744073709551615", "3"),
        ("stream=b&start=0", "1 b"),
        ("app=live&start=2&count=9", "3 c"),
    ] {
        assert_eq!(streams(query), expected, "{query}");
    }
    server.assert_healthy();
}
