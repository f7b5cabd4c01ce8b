use super::*;

mod messages;

const FULL: &str = include_str!("../../conf/full.conf");

fn refused(text: &str) -> String {
    Config::parse("a.conf", text).unwrap_err().to_string()
}

fn parse(text: &str) -> Config {
    Config::parse("a.conf", text).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn absent_directives_have_their_defaults() {
    let config = parse("listen 1935;\nvhost __defaultVhost__ {\n}\n");
    let read = &config.vhosts["__defaultVhost__"];
    let vhost = Vhost {
        transcode: vec![],
        ladder: read.ladder.clone(),
        exec: read.exec.clone(),
        name: "__defaultVhost__".to_owned(),
        enabled: true,
        chunk_size: 4096,
        gop_cache: true,
        queue_length: Duration::from_secs(30),
        queue_bytes: 32 << 20,
        mw_latency: Duration::from_millis(350),
        mw_adaptive: true,
        min_latency: false,
        tcp_nodelay: false,
        security: Security::default(),
        publish: Publish {
            stall_timeout: Duration::from_secs(5),
            max_bitrate: 0,
            reconnect_grace: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
        },
        forward: Forward { targets: vec![], tls_verify: true, backend: vec![] },
        hls: Hls {
            enabled: false,
            path: "./objs/nginx/html".into(),
            fragment: Duration::from_secs(10),
            window: Duration::from_secs(60),
            td_ratio: 1500,
            cleanup: true,
            dispose: Duration::from_secs(120),
            endlist_delay: Duration::from_secs(5),
            on_error: HlsOnError::Ignore,
            sessions: false,
        },
        http_hooks: HttpHooks {
            enabled: false,
            on_connect: vec![],
            on_close: vec![],
            on_publish: vec![],
            on_unpublish: vec![],
            on_play: vec![],
            on_stop: vec![],
            on_update: vec![],
            on_dvr: vec![],
            on_hls: vec![],
            on_hls_notify: vec![],
            on_server_start: vec![],
            on_bandwidth: vec![],
            timeout: Duration::from_secs(3),
            retry: 1,
            allow_on_failure: false,
            recheck: Duration::from_secs(30),
            format: HookFormat::Json,
            secret: None,
            spool: None,
        },
        dvr: Dvr {
            enabled: false,
            apply: vec![],
            plan: DvrPlan::Session,
            path: "./objs/nginx/html/[app]/[stream].[timestamp].flv".to_owned(),
            duration: Duration::from_secs(30),
            wait_keyframe: true,
            time_jitter: TimeJitter::Zero,
            max_age: Duration::ZERO,
            max_size: 0,
            min_free: 1 << 30,
        },
        http_remux: HttpRemux {
            enabled: false,
            mounts: vec![Mount::parse("[vhost]/[app]/[stream].flv").unwrap()],
            has_audio: true,
            has_video: true,
            wait: Duration::from_secs(5),
        },
        bandcheck: Bandcheck {
            enabled: false,
            key: "".into(),
            interval: Duration::from_secs(30),
            interval_per_address: Duration::from_secs(30),
            limit_kbps: 1000,
            max_tests: 1,
        },
        refer: vec![],
        refer_publish: vec![],
        refer_play: vec![],
    };
    let expected = Config {
        ff_log_dir: PathBuf::from("./objs"),
        ff_log_level: "info",
        max_processes: 64,
        listen: vec![Listen::plain("0.0.0.0:1935".parse().unwrap())],
        max_connections: 1000,
        max_connections_per_address: 0,
        max_memory: MemoryLimit::Percent(30),
        max_busy: 98,
        handshake_timeout: Duration::from_secs(10),
        command_timeout: Duration::from_secs(30),
        send_timeout: Duration::from_secs(30),
        default_app: "live".to_owned(),
        chunk_size: 4096,
        proxy_protocol: vec![],
        daemon: false,
        pid: None,
        pithy_print: PithyPrint {
            publish: Duration::from_millis(1100),
            play: Duration::from_millis(1300),
            forwarder: Duration::from_millis(2000),
        },
        rtmps: Rtmps {
            enabled: false,
            listen: vec![Listen::plain("0.0.0.0:1936".parse().unwrap())],
            cert: PathBuf::from("./conf/server.crt"),
            key: PathBuf::from("./conf/server.key"),
            plain: false,
        },
        http_server: HttpServer {
            enabled: false,
            listen: vec![Listen::plain("0.0.0.0:8080".parse().unwrap())],
            dir: PathBuf::from("./objs/nginx/html"),
            page: true,
            api: false,
            max_connections: 4000,
            max_connections_per_address: 0,
            request_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            send_timeout: Duration::from_secs(30),
            live_memory: 512 << 20,
        },
        http_api: HttpApi {
            enabled: false,
            listen: vec![Listen::plain("127.0.0.1:1985".parse().unwrap())],
            crossdomain: false,
            auth: ApiAuth::Loopback,
            raw_enabled: false,
            raw_reload: false,
            raw_query: false,
            https: ApiHttps {
                enabled: false,
                listen: vec![Listen::plain("127.0.0.1:1990".parse().unwrap())],
                cert: PathBuf::from("./conf/server.crt"),
                key: PathBuf::from("./conf/server.key"),
            },
        },
        exporter: Exporter {
            enabled: false,
            listen: vec![Listen::plain("127.0.0.1:9972".parse().unwrap())],
            max_streams: 1000,
        },
        log: Log { tank: LogTank::Console, level: LogLevel::Trace, file: PathBuf::from("./objs/srs.log") },
        vhosts: BTreeMap::from([("__defaultVhost__".to_owned(), Arc::new(vhost))]),
        warnings: vec![],
        settings: config.settings.clone(),
    };
    assert_eq!(config, expected);
}

fn rule(action: Action, network: &str) -> Rule {
    Rule { action, network: Network::parse(network).unwrap() }
}

#[test]
fn each_directive_reaches_its_field() {
    let config = parse(
        "listen 1935 127.0.0.1:1936 [::]:1937; max_connections 7; max_connections_per_address 3;
         max_memory 2g; max_busy 90;
         handshake_timeout 4; command_timeout 5; send_timeout 6; chunk_size 65000; default_app main; \
         daemon on; pid /run/srs.pid;
         proxy_protocol 10.0.0.1 ::1;
         srs_log_tank file; srs_log_level verbose; srs_log_file '/var/log/my srs.log';
         pithy_print { publish 100; play 200; forwarder 3600000; }
         http_server { enabled on; listen 80 [::]:80; dir /srv/www; page off; api on; max_connections 9; max_connections_per_address 4;
         request_timeout 1; idle_timeout 2; send_timeout 3; live_memory 1g; }
         http_api {
             auth none; raw_api { allow_query on; } https { listen 127.0.0.1:7; cert c; key k; }
         }
         exporter { enabled on; listen 9; max_streams 5; }
         vhost Live.Example.com {
             enabled off; gop_cache off; queue_length 600; queue_bytes 4g; mw_latency 0; mw_adaptive off; min_latency on;
             tcp_nodelay on; publish { stall_timeout 1; max_bitrate 8000; reconnect_grace 0; timeout 3600; }
             forward 10.0.0.2 rtmp://b.c/live; forward_tls_verify off;
             security { enabled on; allow publish 10.0.0.0/8; deny play 10.0.0.9; allow publish ::1; allow play all; secret hush; }
             hls {
                 enabled on; hls_path /a/b; hls_fragment 2.5; hls_window 12; hls_td_ratio 1; hls_cleanup off;
                 hls_dispose 0; hls_endlist_delay 7; hls_on_error disconnect; sessions on;
             }
             http_hooks {
                 enabled on; on_connect http://a:1/c; on_close http://a/d http://b/d; on_publish http://a/p?k=1;
                 on_unpublish http://a/u; on_play http://a/y; on_stop http://a/s; on_bandwidth http://a/b; hooks_timeout 0.5; hooks_retry 3;
                 on_hook_failure allow; on_update http://a/x; on_dvr http://a/r; on_hls http://a/h;
                 on_hls_notify http://a/[app]; on_server_start http://a/v; hooks_recheck 1m; hooks_format form;
                 hooks_secret hush; hooks_spool ./spool;
             }
             dvr {
                 enabled on; dvr_apply live/a b/c/d; dvr_plan segment; dvr_path /rec/; dvr_duration 1m; dvr_wait_keyframe off;
                 time_jitter off; dvr_max_age 86400; dvr_max_size 10g; dvr_min_free 0;
             }
             http_remux { enabled on; mount /flv/[app]/[stream].flv; has_audio off; has_video off; wait 7; }
             bandcheck {
                 enabled on; key secret; interval 0; interval_per_address 1m; limit_kbps 0; max_tests 3;
             }
             refer GitHub.com github.io; refer_publish a.b; refer_play c.d;
         }
         vhost b { chunk_size 128; }",
    );
    assert_eq!(
        config.listen,
        ["0.0.0.0:1935", "127.0.0.1:1936", "[::]:1937"].map(|a| Listen::plain(a.parse().unwrap()))
    );
    assert_eq!((config.max_connections, config.chunk_size), (7, 65000));
    assert_eq!(config.default_app, "main");
    assert_eq!(config.max_connections_per_address, 3);
    assert_eq!((config.max_memory, config.max_busy), (MemoryLimit::Bytes(2 << 30), 90));
    let times = [config.handshake_timeout, config.command_timeout, config.send_timeout];
    assert_eq!(times, [4, 5, 6].map(Duration::from_secs));
    assert_eq!(config.proxy_protocol, ["10.0.0.1", "::1"].map(|a| Network::parse(a).unwrap()));
    assert_eq!((config.daemon, config.pid.as_deref()), (true, Some(Path::new("/run/srs.pid"))));
    assert!(parse("listen 1; daemon on;").warnings.iter().any(|warning| warning.contains("srs_log_tank file")));
    assert_eq!(config.log, Log { tank: LogTank::File, level: LogLevel::Verbose, file: "/var/log/my srs.log".into() });
    assert_eq!(config.pithy_print.publish, Duration::from_millis(100));
    assert_eq!(config.pithy_print.play, Duration::from_millis(200));
    assert_eq!(config.pithy_print.forwarder, Duration::from_secs(3600));
    let http_server = HttpServer {
        enabled: true,
        listen: ["0.0.0.0:80", "[::]:80"].map(|a| Listen::plain(a.parse().unwrap())).to_vec(),
        dir: "/srv/www".into(),
        page: false,
        api: true,
        max_connections: 9,
        max_connections_per_address: 4,
        request_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(2),
        send_timeout: Duration::from_secs(3),
        live_memory: 1 << 30,
    };
    assert_eq!(config.http_server, http_server);
    let https = &config.http_api.https;
    assert_eq!((https.cert.as_path(), https.key.as_path(), https.listen.len()), (Path::new("c"), Path::new("k"), 1));
    assert!(config.http_api.raw_query);
    let exporter = &config.exporter;
    assert_eq!((exporter.max_streams, exporter.listen[0].address.port()), (5, 9));
    let read = &config.vhosts["live.example.com"];
    let expected = Vhost {
        transcode: vec![],
        ladder: read.ladder.clone(),
        exec: read.exec.clone(),
        name: "live.example.com".to_owned(),
        enabled: false,
        chunk_size: 65000,
        gop_cache: false,
        queue_length: Duration::from_secs(600),
        queue_bytes: 4 << 30,
        mw_latency: Duration::ZERO,
        mw_adaptive: false,
        min_latency: true,
        tcp_nodelay: true,
        security: Security {
            enabled: true,
            allow: vec![rule(Action::Publish, "10.0.0.0/8"), rule(Action::Publish, "::1"), rule(Action::Play, "all")],
            deny: vec![rule(Action::Play, "10.0.0.9")],
            stream_keys: None,
            secret: Some("hush".into()),
        },
        publish: Publish {
            stall_timeout: Duration::from_secs(1),
            max_bitrate: 8000,
            reconnect_grace: Duration::ZERO,
            timeout: Duration::from_secs(3600),
        },
        forward: Forward {
            targets: ["10.0.0.2", "rtmp://b.c/live"].map(|target| Target::parse(target).unwrap()).to_vec(),
            tls_verify: false,
            backend: vec![],
        },
        hls: Hls {
            enabled: true,
            path: "/a/b".into(),
            fragment: Duration::from_millis(2500),
            window: Duration::from_secs(12),
            td_ratio: 1000,
            cleanup: false,
            dispose: Duration::ZERO,
            endlist_delay: Duration::from_secs(7),
            on_error: HlsOnError::Disconnect,
            sessions: true,
        },
        http_hooks: HttpHooks {
            enabled: true,
            on_connect: urls(&["http://a:1/c"]),
            on_close: urls(&["http://a/d", "http://b/d"]),
            on_publish: urls(&["http://a/p?k=1"]),
            on_unpublish: urls(&["http://a/u"]),
            on_play: urls(&["http://a/y"]),
            on_stop: urls(&["http://a/s"]),
            on_update: urls(&["http://a/x"]),
            on_dvr: urls(&["http://a/r"]),
            on_hls: urls(&["http://a/h"]),
            on_hls_notify: urls(&["http://a/[app]"]),
            on_server_start: urls(&["http://a/v"]),
            on_bandwidth: urls(&["http://a/b"]),
            timeout: Duration::from_millis(500),
            retry: 3,
            allow_on_failure: true,
            recheck: Duration::from_secs(60),
            format: HookFormat::Form,
            secret: Some("hush".into()),
            spool: Some("./spool".into()),
        },
        dvr: Dvr {
            enabled: true,
            apply: vec!["live/a".to_owned(), "b/c/d".to_owned()],
            plan: DvrPlan::Segment,
            path: "/rec/[stream].[timestamp].flv".to_owned(),
            duration: Duration::from_secs(60),
            wait_keyframe: false,
            time_jitter: TimeJitter::Off,
            max_age: Duration::from_secs(86_400),
            max_size: 10 << 30,
            min_free: 0,
        },
        http_remux: HttpRemux {
            enabled: true,
            mounts: vec![Mount::parse("/flv/[app]/[stream].flv").unwrap()],
            has_audio: false,
            has_video: false,
            wait: Duration::from_secs(7),
        },
        bandcheck: Bandcheck {
            enabled: true,
            key: "secret".into(),
            interval: Duration::ZERO,
            interval_per_address: Duration::from_secs(60),
            limit_kbps: 0,
            max_tests: 3,
        },
        refer: vec!["github.com".to_owned(), "github.io".to_owned()],
        refer_publish: vec!["a.b".to_owned()],
        refer_play: vec!["c.d".to_owned()],
    };
    assert_eq!(**config.vhost("live.example.com").unwrap(), expected);
    assert_eq!(config.vhost("b").unwrap().chunk_size, 128);
    for (word, level) in [("info", LogLevel::Info), ("warn", LogLevel::Warn), ("error", LogLevel::Error)] {
        assert_eq!(parse(&format!("listen 1; srs_log_level {word};")).log.level, level);
    }
    assert!(LogLevel::Verbose < LogLevel::Info && LogLevel::Trace < LogLevel::Warn);
}

fn urls(all: &[&str]) -> Vec<HookUrl> {
    all.iter().map(|url| HookUrl::parse(url).unwrap()).collect()
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

#[test]
fn every_file_in_conf_is_right_and_without_warnings() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let mut count = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let is_ours = path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"nginx"));
        if is_ours && path.extension().is_some_and(|e| e == "conf") {
            let config = Config::load_with(&path, []).unwrap_or_else(|e| panic!("{e}"));
            let mut warnings = config.warnings;
            warnings.retain(|warning| cfg!(feature = "hls") || !warning.contains("--with-hls"));
            warnings.retain(|warning| cfg!(feature = "http") || !warning.contains("--with-http"));
            assert_eq!(warnings, Vec::<String>::new());
            count += 1;
        }
    }
    assert!(count >= 2);
}

/// `#` in front of the examples of full.conf removed.
fn uncommented(text: &str) -> String {
    let line = |line: &str| match line.trim_start().strip_prefix('#') {
        Some(example) if !example.is_empty() && !example.starts_with(' ') => example.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(|l| line(l) + "\n").collect()
}

#[test]
fn full_conf_is_the_reference() {
    assert!(FULL == reference(), "run: simple_rtmp_server --print-reference > conf/full.conf");
}

#[test]
fn full_conf_as_it_is_has_all_defaults() {
    let full = parse(FULL);
    let default = parse("listen 1935; vhost __defaultVhost__ { }");
    // Their settings differ in form: blocks are present in one and absent in the other.
    assert_eq!(full, Config { settings: full.settings.clone(), ..default });
}

#[test]
fn every_example_of_full_conf_is_accepted_and_is_the_default() {
    // The file of the keys is not there.
    let without_keys: Vec<&str> = FULL.lines().filter(|line| !line.contains("stream_keys ")).collect();
    let all = parse(&uncommented(&without_keys.join("\n")));
    let has_default = |line: &&str| {
        let name = line.trim_start().trim_start_matches('#').split(' ').next().unwrap_or_default();
        let without = [
            "proxy_protocol",
            "refer",
            "refer_publish",
            "refer_play",
            "destination",
            "allow",
            "deny",
            "username",
            "password",
            "token",
            "stream_keys",
            "secret",
            "backend",
            "hooks_secret",
            "hooks_spool",
            "key",
            "publish",
            "heights",
        ];
        line.ends_with('{') || !without.contains(&name) && !name.starts_with("on_")
    };
    let with_default: Vec<&str> = FULL.lines().filter(has_default).collect();
    let config = parse(&uncommented(&with_default.join("\n")));
    let default = parse("listen 1935; vhost __defaultVhost__ { }");
    assert_eq!(config, Config { settings: config.settings.clone(), ..default });
    let vhost = all.vhost(DEFAULT_VHOST).unwrap();
    assert!(!all.proxy_protocol.is_empty() && !vhost.refer_play.is_empty() && !vhost.forward.targets.is_empty());
    assert_eq!((vhost.security.allow.len(), vhost.security.deny.len()), (1, 1));
}

#[test]
fn every_configuration_in_the_document_is_valid() {
    let text = include_str!("../../docs/configuration.md");
    let blocks: Vec<&str> = text.split("\n```nginx\n").skip(1).collect();
    assert!(blocks.len() >= 5);
    for block in blocks {
        let (block, _) = block.split_once("\n```").unwrap();
        Config::parse("configuration.md", block).unwrap_or_else(|error| panic!("{error}\n{block}"));
    }
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
