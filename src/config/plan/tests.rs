use super::*;
use crate::config::Config;

fn plan(old: &str, new: &str) -> Vec<String> {
    let [old, new] = [old, new].map(|text| Config::parse("a.conf", text).unwrap_or_else(|error| panic!("{error}")));
    old.changes_to(&new).iter().map(Change::to_string).collect()
}

#[test]
fn the_same_in_other_words_is_no_difference() {
    let old = "listen 1935; vhost a.b { queue_bytes 33554432; publish { timeout 0.5m; } }";
    let new = "# other\nlisten 0.0.0.0:1935;\nmax_connections 1000;\nvhost A.B { gop_cache on; }";
    assert_eq!(plan(old, new), Vec::<String>::new());
}

#[test]
fn a_line_says_what_changes_and_for_whom() {
    assert_eq!(
        plan(
            "listen 1935; vhost a.b { gop_cache on; refer x.y; publish { timeout 5; } } vhost gone { gop_cache off; }",
            "listen 1935 1936; vhost a.b { gop_cache off; } vhost here { gop_cache off; }"
        ),
        [
            "vhost gone: removed; takes effect at once for its clients, which are disconnected",
            "vhost here: added; takes effect for new connections to this host",
            "gop_cache in vhost a.b: on -> off; takes effect at once for running streams of the vhost",
            "listen: 1935 -> 1935 1936; takes effect at once for new connections; clients of a removed address stay connected",
            "refer in vhost a.b: x.y -> (absent); takes effect for new requests to connect, publish or play; running streams continue",
            "timeout in publish in vhost a.b: 5 -> 30s; takes effect at once for running publishers of the vhost",
        ]
    );
    let allow = |from: &str| format!("listen 1; vhost a {{ security {{ allow publish {from}; deny play all; }} }}");
    assert_eq!(
        plan(&allow("10.0.0.1"), &allow("10.0.0.2")),
        [
            "allow in security in vhost a: publish 10.0.0.1 -> publish 10.0.0.2; takes effect for new requests to connect, \
             publish or play; running streams continue"
        ]
    );
}

#[test]
fn reuseport_of_an_address_that_stays_waits_for_a_start() {
    let now = "takes effect at once for new connections; ";
    assert_eq!(
        plan("listen 1935 1936;", "listen 1936 1935 reuseport;"),
        ["listen: 1935 1936 -> 1936 1935 reuseport; takes effect after a restart: \"reuseport\" of an open socket \
             cannot be changed"]
    );
    assert_eq!(
        plan("listen 1935 reuseport;", "listen 1935 1936;"),
        [format!(
            "listen: 1935 reuseport -> 1935 1936; {now}\"reuseport\" of an address that stays takes effect after a \
             restart"
        )]
    );
    assert_eq!(
        plan("listen 1935;", "listen 1936 reuseport;"),
        [format!("listen: 1935 -> 1936 reuseport; {now}clients of a removed address stay connected")]
    );
}

#[test]
fn effective_values_have_an_origin_and_one_form() {
    let text =
        "listen 1935;\nvhost a.b {\nhls { enabled on; hls_window 9; }\nhls_path /x;\nhls_window 8;\n}\nvhost c { }";
    let config = Config::parse("a.conf", text).unwrap();
    let values = config.effective();
    let find = |block: &str, name: &str| {
        let of = |value: &&EffectiveValue| value.block == block && value.directive == name;
        let found: Vec<_> = values.iter().filter(of).collect();
        assert!(found.len() < 2, "{found:?}");
        found.first().map(|value| (value.value.as_deref().unwrap_or("-"), value.origin.as_deref().unwrap_or("-")))
    };
    assert_eq!(find("", "listen"), Some(("1935", "a.conf:1")));
    assert_eq!(find("", "max_connections"), Some(("1000", "-")));
    assert_eq!(find("hls in vhost a.b", "enabled"), Some(("on", "a.conf:3")));
    assert_eq!(find("vhost a.b", "hls_path"), Some(("/x", "a.conf:4")), "the flat one counts");
    assert_eq!(find("hls in vhost a.b", "hls_path"), None);
    assert_eq!(find("hls in vhost a.b", "hls_window"), Some(("9", "a.conf:3")), "the block takes precedence");
    assert_eq!(find("vhost a.b", "hls_window"), None);
    assert_eq!(find("hls in vhost a.b", "hls_fragment"), Some(("10s", "-")));
    assert_eq!(find("vhost a.b", "hls_fragment"), None);
    assert_eq!(find("vhost c", "hls_fragment"), Some(("10s", "-")));
}

#[test]
fn keys_of_targets_are_not_shown() {
    let config = |targets: &str| format!("listen 1; vhost a {{ forward {targets}; }}");
    let block = |targets: &str| format!("listen 1; vhost a {{ forward {{ destination {targets}; }} }}");
    let effect = "takes effect at once for running streams of the vhost";
    assert_eq!(
        plan(&config("slave:1936"), &config("slave:1936 rtmp://h/live2/secret?k=secret rtmp://h/a/[stream]")),
        [format!("forward in vhost a: slave:1936 -> slave:1936 rtmp://h/live2/…?… rtmp://h/a/[stream]; {effect}")]
    );
    assert_eq!(
        plan(&block("rtmp://h:1/a/b/secret"), &block("rtmp://h:1/a/b/other")),
        [format!("destination in forward in vhost a: rtmp://h:1/a/b/…, changed in a hidden part; {effect}")]
    );
    assert_eq!(
        plan(&config("rtmp://h/a/secret"), &config("rtmp://h/a?[param]")),
        [format!("forward in vhost a: rtmp://h/a/… -> rtmp://h/a?…; {effect}")]
    );
}
