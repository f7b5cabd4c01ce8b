//! Spellings of SRS, whose files this server reads: blocks that are written differently here, and directives that have another
//! counterpart here or none.

use std::sync::LazyLock;

use super::directive::Directive;
use super::schema::BlockKind::{self, Hls, Publish, Root, Vhost};
use super::schema::{Row, Shape};

/// Block of a vhost whose directives belong to the vhost here.
const PLAY: &str = "play";

/// Directives of SRS without effect here: block, hint that the warning gives, names.
type Group = (BlockKind, &'static str, &'static [&'static str]);

const SET_BY_MW_LATENCY: &str = "mw_latency sets the time for which messages are merged";
const NO_WEBRTC: &str = "WebRTC is not supported";
const NO_SRT: &str = "SRT is not supported";
const NOT_NEEDED: &str = "not needed";

#[rustfmt::skip]
const GROUPS: &[Group] = &[
    (Root, NOT_NEEDED, &[
        "asprocess", "empty_ip_ok", "first_wait_for_qlv", "in_docker", "query_latest_version", "srs_log_flush_on_level",
        "tcmalloc_release_rate", "tencentcloud_apm", "tencentcloud_cls", "threads", "utc_time",
    ]),
    (Root, "send SIGHUP for a reload", &["auto_reload_for_docker", "inotify_auto_reload"]),
    (Root, "SIGTERM always ends it gracefully", &["force_grace_quit", "grace_final_wait", "grace_start_wait"]),
    (Root, "max_busy sheds load", &["circuit_breaker"]),
    (Root, "use \"daemon off;\"", &["disable_daemon_for_docker"]),
    (Root, "max_connections is the limit", &["max_streams"]),
    (Root, NO_WEBRTC, &["rtc_server"]),
    (Root, NO_SRT, &["srt_server"]),
    (Root, "see /api/v1/summaries of http_api", &["stats"]),
    (Root, "only RTMP is received", &["stream_caster"]),
    (Root, "relative paths start at the working directory of the process", &["work_dir"]),

    (Vhost, NOT_NEEDED, &["in_ack_size", "out_ack_size", "reduce_sequence_header"]),
    (Vhost, "timestamps are always corrected", &["atc", "atc_auto", "mix_correct", "time_jitter"]),
    (Vhost, "forward on the origin sends the streams to this server", &[
        "cluster", "debug_srs_upnode", "mode", "origin", "token_traverse", "vhost",
    ]),
    (Vhost, "HLS is supported", &["dash", "hds"]),
    (Vhost, "http_server serves the files of its dir", &["http_static"]),
    (Vhost, SET_BY_MW_LATENCY, &["mw_msgs", "send_min_interval"]),
    (Vhost, "use publish { timeout }", &["publish_1stpkt_timeout", "publish_normal_timeout"]),
    (Vhost, NO_WEBRTC, &["rtc"]),
    (Vhost, NO_SRT, &["srt"]),

    (Publish, NOT_NEEDED, &["kickoff_for_idle", "parse_sps", "try_annexb_first"]),
    (Publish, "use stall_timeout and timeout", &["firstpkt_timeout", "normal_timeout"]),
    (Publish, "reads are merged while they need not be fast", &["mr", "mr_latency"]),

    (Hls, NOT_NEEDED, &["hls_dts_directly", "hls_nb_notify", "hls_ts_floor"]),
    (Hls, "use sessions", &["hls_ctx", "hls_ts_ctx"]),
    (Hls, "the codec is that of the stream", &["hls_acodec", "hls_vcodec"]),
    (Hls, "segments are cut at any length without video", &["hls_aof_ratio"]),
    (Hls, "segments are not encrypted", &["hls_keys"]),
    (Hls, "segments with video start with a keyframe", &["hls_wait_keyframe"]),
];

/// Rows of the groups, whose text is the hint.
static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let row = |block, name, hint| Row {
        block,
        name,
        shape: Shape::Unsupported,
        reload: None,
        summary: "a directive of SRS",
        text: hint,
    };
    GROUPS.iter().flat_map(|(block, hint, names)| names.iter().map(move |name| row(*block, *name, *hint))).collect()
});

/// Returns the rows of the directives of SRS without effect here.
pub(super) fn rows() -> impl Iterator<Item = &'static Row> {
    ROWS.iter()
}

/// Moves the directives of `play { … }` to their vhost.
pub(super) fn unfold_play(tree: &mut [Directive]) {
    for vhost in tree.iter_mut().filter(|directive| directive.name.text == "vhost") {
        let Some(block) = &mut vhost.block else { continue };
        let is_play = |directive: &Directive| {
            directive.name.text == PLAY && directive.args.is_empty() && directive.block.is_some()
        };
        for directive in std::mem::take(block) {
            if is_play(&directive) {
                block.extend(directive.block.unwrap_or_default());
            } else {
                block.push(directive);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Config;
    use super::super::table;
    use super::*;

    #[test]
    fn play_is_a_part_of_the_vhost() {
        let text = "listen 1;\nvhost v {\nplay {\ngop_cache off; queue_length 7;\nmw_latency 350; mw_msgs 8;\n}\n}";
        let config = Config::parse("t", text).unwrap();
        let vhost = config.vhost("v").unwrap();
        assert!(!vhost.gop_cache);
        assert_eq!((vhost.queue_length, vhost.mw_latency), (Duration::from_secs(7), Duration::from_millis(350)));
        let expected = format!("t:5: \"mw_msgs\" is not supported by this version: ignored; {SET_BY_MW_LATENCY}");
        assert_eq!(config.warnings, [expected]);
        let error = |text: &str| Config::parse("t", text).unwrap_err().to_string();
        assert!(error("listen 1;\nvhost v { play {\ngop_cach on; } }").starts_with("t:3: "));
        let twice = error("listen 1;\nvhost v { gop_cache on;\nplay { gop_cache off; } }");
        assert_eq!(twice, "t:3: \"gop_cache\" is already set on line 2; remove one of the two");
    }

    #[test]
    fn what_has_no_counterpart_is_answered_with_a_hint() {
        let text =
            "listen 1;\nsrt_server { enabled on; listen 10080; }\nvhost v { publish { mr off; } http_static { } }";
        let warnings = Config::parse("t", text).unwrap().warnings.join("\n");
        for (line, hint) in [(2, NO_SRT), (3, "reads are merged"), (3, "http_server serves the files")] {
            let has =
                warnings.lines().any(|warning| warning.starts_with(&format!("t:{line}:")) && warning.contains(hint));
            assert!(has, "{hint}: {warnings}");
        }
    }

    #[test]
    fn no_name_is_one_of_this_server() {
        for row in rows() {
            let is_ours = |own: &Row| own.block == row.block && own.name == row.name;
            assert!(!table::all().any(is_ours), "{}", row.name);
            assert!(!row.text.is_empty() && !row.text.ends_with('.'), "{}", row.name);
        }
    }
}
