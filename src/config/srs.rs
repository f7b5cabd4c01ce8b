//! Spellings of SRS, whose files this server reads: blocks that are written differently here, and directives that have another
//! counterpart here or none.

use super::directive::Directive;
use super::schema::BlockKind::{self, Hls, Publish, Root, Vhost};
use super::schema::{Row, Shape};

/// Block of a vhost whose directives belong to the vhost here.
const PLAY: &str = "play";

const fn other(block: BlockKind, name: &'static str, meant: &'static str) -> Row {
    Row { block, name, shape: Shape::Unsupported, reload: None, summary: "a directive of SRS", text: meant }
}

const MERGED: &str = "mw_latency sets the time for which messages are merged";
const CORRECTED: &str = "timestamps are always corrected";
const NO_WEBRTC: &str = "WebRTC is not supported";
const NO_SRT: &str = "SRT is not supported";
const EDGE: &str = "forward on the origin sends the streams to this server";
const TIMEOUTS: &str = "use stall_timeout and timeout";
const NEEDLESS: &str = "not needed";

/// Directives of SRS without effect here. The text is the hint that the warning gives.
#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    other(Root, "asprocess", NEEDLESS),
    other(Root, "auto_reload_for_docker", "send SIGHUP for a reload"),
    other(Root, "circuit_breaker", "max_busy sheds load"),
    other(Root, "disable_daemon_for_docker", "use \"daemon off;\""),
    other(Root, "empty_ip_ok", NEEDLESS),
    other(Root, "first_wait_for_qlv", NEEDLESS),
    other(Root, "force_grace_quit", "SIGTERM always ends it gracefully"),
    other(Root, "grace_final_wait", "SIGTERM always ends it gracefully"),
    other(Root, "grace_start_wait", "SIGTERM always ends it gracefully"),
    other(Root, "in_docker", NEEDLESS),
    other(Root, "inotify_auto_reload", "send SIGHUP for a reload"),
    other(Root, "max_streams", "max_connections is the limit"),
    other(Root, "query_latest_version", NEEDLESS),
    other(Root, "rtc_server", NO_WEBRTC),
    other(Root, "srs_log_flush_on_level", NEEDLESS),
    other(Root, "srt_server", NO_SRT),
    other(Root, "stats", "see /api/v1/summaries of http_api"),
    other(Root, "stream_caster", "only RTMP is received"),
    other(Root, "tcmalloc_release_rate", NEEDLESS),
    other(Root, "tencentcloud_apm", NEEDLESS),
    other(Root, "tencentcloud_cls", NEEDLESS),
    other(Root, "threads", NEEDLESS),
    other(Root, "utc_time", NEEDLESS),
    other(Root, "work_dir", "relative paths start at the working directory of the process"),

    other(Vhost, "atc", CORRECTED),
    other(Vhost, "atc_auto", CORRECTED),
    other(Vhost, "cluster", EDGE),
    other(Vhost, "dash", "HLS is supported"),
    other(Vhost, "debug_srs_upnode", EDGE),
    other(Vhost, "hds", "HLS is supported"),
    other(Vhost, "http_static", "http_server serves the files of its dir"),
    other(Vhost, "in_ack_size", NEEDLESS),
    other(Vhost, "mix_correct", CORRECTED),
    other(Vhost, "mode", EDGE),
    other(Vhost, "mw_msgs", MERGED),
    other(Vhost, "origin", EDGE),
    other(Vhost, "out_ack_size", NEEDLESS),
    other(Vhost, "publish_1stpkt_timeout", "use publish { timeout }"),
    other(Vhost, "publish_normal_timeout", "use publish { timeout }"),
    other(Vhost, "reduce_sequence_header", NEEDLESS),
    other(Vhost, "rtc", NO_WEBRTC),
    other(Vhost, "send_min_interval", MERGED),
    other(Vhost, "srt", NO_SRT),
    other(Vhost, "time_jitter", CORRECTED),
    other(Vhost, "token_traverse", EDGE),
    other(Vhost, "vhost", EDGE),

    other(Publish, "firstpkt_timeout", TIMEOUTS),
    other(Publish, "kickoff_for_idle", NEEDLESS),
    other(Publish, "mr", "reads are merged while they need not be fast"),
    other(Publish, "mr_latency", "reads are merged while they need not be fast"),
    other(Publish, "normal_timeout", TIMEOUTS),
    other(Publish, "parse_sps", NEEDLESS),
    other(Publish, "try_annexb_first", NEEDLESS),

    other(Hls, "hls_acodec", "the codec is that of the stream"),
    other(Hls, "hls_aof_ratio", "segments are cut at any length without video"),
    other(Hls, "hls_ctx", NEEDLESS),
    other(Hls, "hls_dts_directly", NEEDLESS),
    other(Hls, "hls_keys", "segments are not encrypted"),
    other(Hls, "hls_nb_notify", NEEDLESS),
    other(Hls, "hls_ts_ctx", NEEDLESS),
    other(Hls, "hls_ts_floor", NEEDLESS),
    other(Hls, "hls_vcodec", "the codec is that of the stream"),
    other(Hls, "hls_wait_keyframe", "segments with video start with a keyframe"),
];

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
        let expected = format!("t:5: \"mw_msgs\" is not supported by this version: ignored; {MERGED}");
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
        for row in ROWS {
            let is_ours = |own: &Row| own.block == row.block && own.name == row.name;
            assert!(!table::all().any(is_ours), "{}", row.name);
            assert!(!row.text.is_empty() && !row.text.ends_with('.'), "{}", row.name);
        }
    }
}
