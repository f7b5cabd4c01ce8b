//! The exact texts of the errors.

use super::*;

/// Returns the error of a file whose first line has what each file needs.
fn error(text: &str) -> String {
    Config::parse("a.conf", &format!("listen 1935; vhost __defaultVhost__ {{ }}\n{text}")).unwrap_err().to_string()
}

/// Returns the error of text in a vhost.
fn error_in_vhost(text: &str) -> String {
    error(&format!("vhost v {{ {text}\n}}"))
}

#[test]
fn unknown_directives_come_with_advice() {
    for (text, expected) in [
        ("gop_cach on;", "unknown directive \"gop_cach\" in vhost; did you mean \"gop_cache\"?"),
        ("gop_cache_ on;", "unknown directive \"gop_cache_\" in vhost; did you mean \"gop_cache\"?"),
        ("GOP_cache on;", "unknown directive \"GOP_cache\" in vhost; did you mean \"gop_cache\"?"),
        ("lisetn 1;", "unknown directive \"lisetn\" in vhost; did you mean \"listen\" at the top of the file?"),
        ("frobnicate;", "unknown directive \"frobnicate\" in vhost; conf/full.conf lists all directives"),
        (
            "listen 1936;",
            "\"listen\" belongs at the top of the file or in rtmps or in http_server or in http_api or in https of http_api or in \
             exporter, not in vhost",
        ),
        ("publish { chunk_size 1; }", "\"chunk_size\" belongs at the top of the file or in vhost, not in publish"),
        ("timeout 5;", "\"timeout\" belongs in publish or in exec, not in vhost"),
    ] {
        assert_eq!(error_in_vhost(text), format!("a.conf:2: {expected}"));
    }
    assert_eq!(
        error("vhots b { }"),
        "a.conf:2: unknown directive \"vhots\" at the top of the file; did you mean \"vhost\"?"
    );
    let long = format!(
        "a.conf:2: unknown directive \"{}…\" at the top of the file; conf/full.conf lists all directives",
        "x".repeat(60)
    );
    assert_eq!(error(&format!("{};", "x".repeat(1 << 20))), long);
}

#[test]
fn values_out_of_range_are_refused_with_the_range() {
    for (text, expected) in [
        ("gop_cache yes;", "\"gop_cache\" must be on or off, not \"yes\"; e.g. \"gop_cache on;\""),
        (
            "chunk_size 127;",
            "\"chunk_size\" must be a number of bytes from 128 to 64k, not \"127\"; e.g. \"chunk_size 4096;\"",
        ),
        (
            "queue_length 601;",
            "\"queue_length\" must be a time from 1s to 10m (a number without a unit means seconds), not \"601\"; e.g. \"queue_length 30s;\"",
        ),
        (
            "queue_bytes 5g;",
            "\"queue_bytes\" must be a number of bytes from 1m to 4g, not \"5g\"; e.g. \"queue_bytes 32m;\"",
        ),
        (
            "mw_latency -1;",
            "\"mw_latency\" must be a time from 0 to 10s (a number without a unit means milliseconds), not \"-1\"; e.g. \"mw_latency 350ms;\"",
        ),
        (
            "refer http://github.com;",
            "\"refer\" must be a host name, without scheme, port and path, not \"http://github.com\"; \
             e.g. \"refer github.com github.io;\"",
        ),
        (
            "forward http://a.b;",
            "\"forward\" must be a host, a host and a port, or rtmp://HOST[:PORT][/APP[/STREAM]][?PARAMETERS], not \
             \"http://a.b\"; e.g. \"forward 192.168.1.2:1935 rtmp://example.com/live;\"",
        ),
        ("forward a; forward { }", "\"forward\" is already set on line 2; remove one of the two"),
        ("forward a b a;", "\"forward\" contains a twice; remove one of the two"),
        (
            "security { deny watch all; }",
            "\"deny\" must be publish or play, then an address, a network such as 10.0.0.0/8, or all, not \"watch\"; \
             e.g. \"deny publish 127.0.0.1;\"",
        ),
        (
            "security { deny play all; allow play 10.0.0.0/33; }",
            "\"allow\" must be publish or play, then an address, a network such as 10.0.0.0/8, or all, not \"10.0.0.0/33\"; \
             e.g. \"allow publish 127.0.0.1;\"",
        ),
        (
            "publish { timeout '3\n0'; }",
            "\"timeout\" must be a time from 1s to 1h (a number without a unit means seconds), not \"3\\n0\"; e.g. \"timeout 30s;\"",
        ),
    ] {
        assert_eq!(error_in_vhost(text), format!("a.conf:2: {expected}"));
    }
    for (text, expected) in [
        (
            "max_connections 0;",
            "\"max_connections\" must be a whole number from 1 to 1000000, not \"0\"; e.g. \"max_connections 1000;\"",
        ),
        (
            "srs_log_level debug;",
            "\"srs_log_level\" must be verbose, info, trace, warn or error, not \"debug\"; e.g. \"srs_log_level trace;\"",
        ),
        (
            "srs_log_file '';",
            "\"srs_log_file\" must be the path of a file, not \"\"; e.g. \"srs_log_file ./objs/srs.log;\"",
        ),
        (
            "vhost a/b { }",
            "\"vhost\" must be a host name, without scheme, port and path, not \"a/b\"; e.g. \"vhost __defaultVhost__ { }\"",
        ),
    ] {
        assert_eq!(error(text), format!("a.conf:2: {expected}"));
    }
    let listen = |text: &str| Config::parse("a.conf", text).unwrap_err().to_string();
    let expected = "a port from 1 to 65535, or an address and a port, optionally followed by \"reuseport\", not \"0\"; e.g. \"listen 1935;\"";
    assert_eq!(listen("listen 0;"), format!("a.conf:1: \"listen\" must be {expected}"));
    assert_eq!(
        listen("listen 1935\n 1935;"),
        "a.conf:1: \"listen\" contains 0.0.0.0:1935 twice; remove one of the two"
    );
}

#[test]
fn keys_are_not_quoted() {
    for (text, quoted) in [
        ("forward rtmp://h:0/live2/secret?k=secret;", "rtmp://h:0/live2/…?…"),
        ("forward rtmp://user:secret@h/live/secret;", "rtmp://…@h/live/…"),
        ("forward rtmp:/h/live/secret;", "rtmp:/h/…"),
        ("forward h/live/secret;", "h/live/…"),
        ("forward rtmp://h/a/secret rtmp://h/a/secret;", "rtmp://h/a/…"),
        ("forward rtmp://h/a/secret", "rtmp://h/a/…"),
        ("gop_cache rtmp://h/a/secret?b;", "rtmp://h/a/…?…"),
    ] {
        let error = error_in_vhost(text);
        assert!(error.contains(quoted) && !error.contains("secret"), "{error}");
    }
}

#[test]
fn the_number_of_values_and_the_block_must_be_right() {
    for (text, expected) in [
        (
            "gop_cache;",
            "\"gop_cache\" takes one value, not 0; e.g. \"gop_cache on;\" (players start at the last keyframe)",
        ),
        (
            "gop_cache on off;",
            "\"gop_cache\" takes one value, not 2; e.g. \"gop_cache on;\" (players start at the last keyframe)",
        ),
        (
            "refer;",
            "\"refer\" takes one value or more, not 0; e.g. \"refer github.com github.io;\" (hosts whose pages may publish and play)",
        ),
        (
            "security { allow all; }",
            "\"allow\" takes two values, not 1; e.g. \"allow publish 127.0.0.1;\" (addresses that may publish or play)",
        ),
        ("gop_cache on { }", "\"gop_cache\" takes no block; end it with \";\", e.g. \"gop_cache on;\""),
        ("publish;", "\"publish\" needs a block, e.g. \"publish { }\""),
        ("publish on { }", "\"publish\" takes no value before its block; e.g. \"publish { }\""),
    ] {
        assert_eq!(error_in_vhost(text), format!("a.conf:2: {expected}"));
    }
    let example = "e.g. \"vhost __defaultVhost__ { }\"";
    assert_eq!(error("vhost a;"), format!("a.conf:2: \"vhost\" needs a block, {example}"));
    assert_eq!(
        error("vhost a b { }"),
        format!("a.conf:2: \"vhost\" takes one name, not 2; {example} (a virtual host)")
    );
    assert_eq!(error("vhost { }"), format!("a.conf:2: \"vhost\" takes one name, not 0; {example} (a virtual host)"));
}

#[test]
fn a_directive_stands_once_in_its_block() {
    assert_eq!(
        error("chunk_size 4096;\nchunk_size 4096;"),
        "a.conf:3: \"chunk_size\" is already set on line 2; remove one of the two"
    );
    // But there may be several lines of addresses.
    assert_eq!(parse("listen 1935;\nlisten 1936 reuseport;").listen.len(), 2);
    assert_eq!(error("\nlisten 1935;"), "a.conf:1: \"listen\" contains 0.0.0.0:1935 twice; remove one of the two");
    assert_eq!(
        error_in_vhost("gop_cache on;\ngop_cache on;"),
        "a.conf:3: \"gop_cache\" is already set on line 2; remove one of the two"
    );
    assert_eq!(
        error("vhost A.b { }\nvhost a.B { }"),
        "a.conf:3: vhost \"a.b\" is already set on line 2; remove one of the two"
    );
}

#[test]
fn a_forgotten_semicolon_is_found_though_the_grammar_allows_it() {
    for (text, expected) in [
        ("max_connections 1000\nchunk_size 4096;", "a.conf:2: missing \";\" after \"1000\""),
        ("max_connections 1000 # many\n\nvhost a { }", "a.conf:2: missing \";\" after \"1000\""),
        ("vhost a { refer github.com\n github.io\nrefer_play b.c; }", "a.conf:3: missing \";\" after \"github.io\""),
        ("vhost a { hls on\ngop_cache off; }", "a.conf:2: missing \";\" after \"on\""),
    ] {
        assert_eq!(error(text), expected);
    }
    assert_eq!(parse("listen 1; vhost a { refer github.com\n'refer_play'; }").vhost("a").unwrap().refer.len(), 2);
}

#[test]
fn all_problems_are_reported_in_the_order_of_the_file() {
    let text = "max_connections 0;\nfoo;\nvhost b { gop_cach on;\n enabled 1; }\nlisten x;";
    let lines: Vec<String> = error(text).lines().map(|l| l.chars().take(12).collect()).collect();
    assert_eq!(lines, ["a.conf:2: \"m", "a.conf:3: un", "a.conf:4: un", "a.conf:5: \"e", "a.conf:6: \"l"]);
    let many = error(&"foo;\n".repeat(25));
    assert_eq!(many.lines().count(), 21);
    assert!(many.ends_with("\nand 5 more"), "{many}");
}
