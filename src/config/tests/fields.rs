//! Each directive with another value than its default.

use super::*;

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
         exporter { enabled on; listen 9; max_streams 5; label beijing; tag edge; }
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
             http_remux { enabled on; mount /flv/[app]/[stream].flv; has_audio off; has_video off; fast_cache 5; wait 7; }
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
    assert_eq!((&*exporter.label, &*exporter.tag), ("beijing", "edge"));
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
            fast_cache: Duration::from_secs(5),
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
