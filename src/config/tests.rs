use super::*;

mod defaults;
mod fields;
mod messages;
mod reference;

const FULL: &str = include_str!("../../conf/full.conf");

fn refused(text: &str) -> String {
    Config::parse("a.conf", text).unwrap_err().to_string()
}

fn parse(text: &str) -> Config {
    Config::parse("a.conf", text).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn hls_is_a_switch_with_directives_beside_it_or_a_block() {
    let hls = |text: &str| parse(&format!("listen 1; vhost v {{ {text} }}")).vhost("v").unwrap().hls.clone();
    let flat = hls("hls on; hls_path ./html; hls_fragment 5; hls_window 30;");
    let block = hls("hls { enabled on; hls_path ./html; hls_fragment 5; hls_window 30; }");
    assert_eq!(flat, block);
    assert!(flat.enabled && flat.path == Path::new("./html") && flat.window == Duration::from_secs(30));
    let both = hls("hls_fragment 5; hls_window 30; hls { enabled on; hls_fragment 2; }");
    assert_eq!(
        (both.fragment, both.window),
        (Duration::from_secs(2), Duration::from_secs(30)),
        "the block counts more"
    );
    assert!(!hls("hls { }").enabled && !hls("hls off;").enabled && !hls("hls_path a;").enabled);
    let wrong =
        |text: &str| Config::parse("a.conf", &format!("listen 1; vhost v {{ {text} }}")).unwrap_err().to_string();
    assert_eq!(wrong("hls yes;"), "a.conf:1: \"hls\" must be on or off, not \"yes\"; e.g. \"hls off;\"");
    assert_eq!(wrong("hls on; hls { }"), "a.conf:1: \"hls\" is already set on line 1; remove one of the two");
    assert!(wrong("hls_fragment 0;").starts_with("a.conf:1: \"hls_fragment\" must be a time from 500ms to 10m"));
}

#[test]
fn a_vhost_is_found_in_any_case_and_the_default_one_is_the_rest() {
    let config = parse("listen 1935; vhost A.b { } vhost __DEFAULTVHOST__ { } vhost [0:0::1] { }");
    assert_eq!(config.vhost("a.B").unwrap().name, "a.b");
    assert_eq!(config.vhost("other").unwrap().name, DEFAULT_VHOST);
    assert_eq!(config.vhost("__defaultvhost__").unwrap().name, DEFAULT_VHOST);
    assert_eq!(config.vhost("::1").unwrap().name, "::1");
    assert_eq!(parse("listen 1935; vhost a.b { }").vhost("other"), None);
}

#[test]
fn what_is_missing_as_a_whole_is_said() {
    let error = Config::parse("a.conf", "# nothing\n").unwrap_err().to_string();
    assert_eq!(error, "a.conf:1: no \"listen\" in the file; add the port to serve RTMP on, e.g. \"listen 1935;\"");
    let warning = "no vhost: all hosts are served with the default settings, as by \"vhost __defaultVhost__ { }\"";
    let config = parse("listen 1935; chunk_size 60000;");
    assert_eq!(config.warnings, [format!("a.conf:1: {warning}")]);
    assert_eq!(config.vhost("any"), parse("listen 1935; chunk_size 60000; vhost __defaultVhost__ { }").vhost("any"));
}

#[test]
fn directives_of_other_versions_are_ignored_with_a_warning() {
    let config = parse(
        "listen 1935;\nheartbeat on;\nvhost __defaultVhost__ {\ningest on;\ningest x { enabled on;\ninput x; }\n\
         transcode live/a { ffmpeg x; }\ngop_cache off; }\nheartbeat ./objs/srs.pid;\n",
    );
    let warning = |(line, name)| format!("a.conf:{line}: \"{name}\" is not supported by this version: ignored");
    assert_eq!(config.warnings, [(2, "heartbeat"), (4, "ingest"), (5, "ingest"), (9, "heartbeat")].map(warning));
    assert!(!config.vhost("a").unwrap().gop_cache);
}

#[test]
fn forward_has_two_forms() {
    let targets = |text: &str| {
        let vhost = parse(&format!("listen 1935; vhost v {{ {text} }}")).vhost("v").unwrap().clone();
        vhost.forward.targets.iter().map(Target::to_string).collect::<Vec<_>>()
    };
    assert_eq!(targets("forward a:1936 b;"), ["a:1936", "b"]);
    assert_eq!(targets("forward { destination a:1936 b; }"), ["a:1936", "b"]);
    assert_eq!(targets("forward { enabled on; destination rtmp://h/live/[stream]; }"), ["rtmp://h/live/[stream]"]);
    assert_eq!(targets("forward { enabled off; destination a; }"), [""; 0]);
    assert_eq!(targets("forward { }"), [""; 0]);
    let backend =
        |text: &str| parse(&format!("listen 1; vhost v {{ {text} }}")).vhost("v").unwrap().forward.backend.len();
    assert_eq!(backend("forward { backend http://a/f http://b/f; }"), 2);
    assert_eq!(backend("forward { enabled off; backend http://a/f; }"), 0);
}

#[cfg(feature = "ssl")]
#[test]
fn rtmps_has_ports_of_its_own_that_may_be_for_both() {
    let text = "listen 1935;\nrtmps { enabled on; listen 1936 [::]:1936; cert c; key k; plain on; }";
    let config = parse(text);
    assert_eq!((&config.rtmps.cert, &config.rtmps.key), (&PathBuf::from("c"), &PathBuf::from("k")));
    let kinds: Vec<_> = config.listeners().iter().map(|listen| listen.kind).collect();
    assert_eq!(kinds, [ListenKind::Rtmp, ListenKind::Rtmps { plain: true }, ListenKind::Rtmps { plain: true }]);
    assert_eq!(
        refused("listen 1935;\nrtmps { enabled on;\nlisten 1936 1935; }"),
        "a.conf:3: 0.0.0.0:1935 is already used for RTMP without TLS; give rtmps another port, e.g. \"listen 1936;\", or, to serve \
         both on one port, remove it from the \"listen\" at the top of the file and add \"plain on;\" here"
    );
    let with_http = refused("listen 1;\nrtmps { enabled on; listen 2; }\nhttp_server { enabled on; listen 2; }");
    assert!(with_http.contains("is already used for RTMP"), "{with_http}");
    assert!(parse("listen 1936; rtmps { }").listeners().len() == 1, "off by default");
}

#[cfg(not(feature = "ssl"))]
#[test]
fn rtmps_without_ssl_is_refused_with_how_to_build_it() {
    assert_eq!(
        refused("listen 1935;\nrtmps {\nenabled on; }"),
        "a.conf:3: this server was built without TLS; build it with ./configure --with-ssl, or write \"enabled off;\" in rtmps"
    );
    assert!(!parse("listen 1935; rtmps { enabled off; }").rtmps.enabled);
}

#[cfg(not(feature = "hls"))]
#[test]
fn hls_without_hls_is_ignored_with_how_to_build_it() {
    let config = parse("listen 1935;\nvhost a {\nhls on; }\nvhost b { hls {\nenabled on; } }");
    let why = "this server was built without HLS: ignored; build it with ./configure --with-hls";
    assert_eq!(config.warnings, [3, 5].map(|line| format!("a.conf:{line}: {why}")));
    assert!(config.vhosts.values().all(|vhost| !vhost.hls.enabled));
    assert!(parse("listen 1935; vhost a { hls off; hls_fragment 5; }").warnings.is_empty());
}

#[cfg(not(feature = "http"))]
#[test]
fn http_server_without_http_is_ignored_with_how_to_build_it() {
    let config = parse("listen 1935;\nhttp_server {\nenabled on; }\nvhost a { }");
    let why = "this server was built without its HTTP server: ignored; build it with ./configure --with-http";
    assert_eq!(config.warnings, [format!("a.conf:3: {why}")]);
    assert_eq!((config.listeners().len(), config.http_server.live_limit()), (1, 0));
    assert!(parse("listen 1935; http_server { } vhost a { }").warnings.is_empty());
}

#[test]
fn http_server_has_another_name_and_ports_of_its_own() {
    let config = parse("listen 1935; http_stream { enabled on; dir x; } vhost a { }");
    assert_eq!(config.http_server.enabled, cfg!(feature = "http"));
    assert_eq!(config.http_server.dir, Path::new("x"));
    assert_eq!(
        refused("listen 1935 8080;\nhttp_server { enabled on;\nlisten 8081 8080; }"),
        "a.conf:3: 0.0.0.0:8080 is already used for RTMP; give http_server another port, e.g. \"listen 8080;\""
    );
    assert!(
        refused("listen 1;\nhttp_server { }\nhttp_stream { }").starts_with("a.conf:3: \"http_server\" is already set")
    );
    // One that is off takes no port.
    assert!(!parse("listen 8080; http_server { enabled off; }").http_server.enabled);
}

#[test]
fn a_file_that_cannot_be_read_is_one_line() {
    let load = |path: &Path| Config::load(path).unwrap_err().to_string();
    let cannot = "cannot read the configuration";
    assert_eq!(load(Path::new("no/such.conf")), format!("no/such.conf: {cannot}: no such file; name one with -c FILE"));
    assert_eq!(load(Path::new("/")), format!("/: {cannot}: this is a directory; name a file in it"));

    let path = std::env::temp_dir().join(format!("srs-config-{}.conf", std::process::id()));
    std::fs::write(&path, b"listen 1935;\n# caf\xe9\n").unwrap();
    let text = load(&path);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(text, format!("{}:2: this is not UTF-8 text; save it as UTF-8", path.display()));
}

/// Values of other sources are not checked with the file.
#[test]
fn a_value_of_another_source_overrides_and_is_checked() {
    let merged = |key: &str, value: &str| {
        let file = ::config::File::from_str("listen 1935; vhost a.b { }", Directives { file: "a.conf".to_owned() });
        let builder = ::config::Config::builder().add_source(file).set_override(key, value).unwrap();
        let table = builder.build().unwrap().cache.into_table().unwrap();
        let mut reader = Reader::default();
        let config = Config::read(&mut reader, Section::root(&table), "a.conf");
        reader.finish().map(|()| config)
    };
    assert_eq!(merged("pithy_print.play", "500").unwrap().pithy_print.play, Duration::from_millis(500));
    assert_eq!(merged("listen", "1936 1937").unwrap().listen.len(), 2);
    assert_eq!(merged("vhost.c.gop_cache", "off").unwrap().vhosts.len(), 2);
    assert_eq!(
        merged("max_connections", "0").unwrap_err().to_string(),
        "the configuration: \"max_connections\" must be a whole number from 1 to 1000000, not \"0\"; e.g. \"max_connections 1000;\""
    );
}

/// Any text is parsed or refused with a position, without a panic.
#[test]
fn no_text_panics() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let words: Vec<&str> = FULL.split_inclusive([' ', '\n', ';']).collect();
    let marks = [
        "{",
        "}",
        ";",
        "\"",
        "'",
        "\\",
        "#",
        "\n",
        "\0",
        "é",
        "\u{feff}",
        "-1",
        "99999999999999999999",
        "vhost ",
        "hls ",
        "a[9].b ",
    ];
    for round in 0..3000 {
        let mut bytes = FULL.as_bytes().to_vec();
        if round % 3 == 0 {
            let begin = random(words.len());
            bytes = words[begin..words.len().min(begin + random(40))].concat().into_bytes();
        }
        for _ in 0..=random(6) {
            let at = random(bytes.len() + 1);
            match random(4) {
                0 => bytes.truncate(at),
                1 => drop(bytes.splice(at..at, marks[random(marks.len())].bytes())),
                2 => drop(bytes.splice(at..at, words[random(words.len())].bytes())),
                _ => drop(bytes.splice(at..at, [random(256) as u8])),
            }
        }
        if let Err(error) = Config::parse("f", &String::from_utf8_lossy(&bytes)) {
            assert!(error.to_string().starts_with("f:"), "{error}");
        }
    }
}
