//! Directives of what becomes of a stream: HLS, recordings, HTTP-FLV and forwarding.

use super::super::kind::Kind;
use super::super::schema::BlockKind::{Dvr, Forward, Hls, HttpRemux};
use super::super::schema::Row;
use super::row::{
    DIRECTORY, DISPOSE, ENDLIST_DELAY, FILE, FRAGMENT, HOOKS, HTTP_REQUESTS, ON_ERROR, STREAMS, TD_RATIO, WINDOW,
    optional, seconds, setting, unsupported,
};

#[rustfmt::skip]
pub(super) static ROWS: &[Row] = &[
    setting(Forward, "enabled", Kind::Switch, "on", STREAMS,
        "forwarding is on", "Forwards the streams. With off, none of the destinations is used."),
    optional(Forward, "destination", Kind::Targets, STREAMS,
        "targets that get each published stream",
        "Targets: HOST[:PORT] for a server of the same cluster, or an rtmp:// or rtmps:// URL in which [vhost], [app], \
         [stream] and [param] stand for those of the stream. Each target has its own connection with automatic \
         reconnection, and a slow one delays nobody. See docs/forwarding.md."),
    optional(Forward, "backend", Kind::Urls, HOOKS,
        "backends that are asked for further targets",
        "Asked for further targets when a stream is published, with the request on_forward of SRS; the answer is \
         {\"code\":0,\"data\":{\"urls\":[URL, ...]}}. See docs/callbacks.md."),

    setting(Hls, "enabled", Kind::Switch, "off", STREAMS,
        "HLS is on",
        "Writes the streams of the vhost as HLS. A stream for which a reload turns it off, or changes hls_path, ends \
         its playlist with the next keyframe, after 10 s at the latest."),
    setting(Hls, "hls_path", DIRECTORY, "./objs/nginx/html", STREAMS,
        "root directory of the HLS files",
        "Root directory of the files APP/STREAM.m3u8 and APP/STREAM-N.ts, below a directory of the vhost's name except \
         for __defaultVhost__. N continues after a restart, and no name is used twice. See docs/hls.md for stream \
         names that cannot have HLS."),
    setting(Hls, "hls_fragment", FRAGMENT, "10s", STREAMS,
        "minimum length of a segment",
        "Minimum length of a segment: it ends at the first keyframe after this time, or without video after this time \
         alone. Set the keyframe interval of the encoder to this time or to a part of it."),
    setting(Hls, "hls_window", WINDOW, "60s", STREAMS,
        "time that a playlist spans",
        "Time that a playlist spans, at least three target durations. See docs/hls.md for the number of segments."),
    setting(Hls, "hls_td_ratio", TD_RATIO, "1.5", STREAMS,
        "target duration as a multiple of hls_fragment",
        "Target duration of a playlist as a multiple of hls_fragment, or the longest segment if that is longer. \
         Players reload the playlist about once in this time and do not like it to change, so leave room for late \
         keyframes."),
    setting(Hls, "hls_cleanup", Kind::Switch, "on", STREAMS,
        "removal of segments that left the playlist",
        "Removes segments that left the playlist once no player can be loading them any more. With off, they stay."),
    setting(Hls, "hls_dispose", DISPOSE, "120s", STREAMS,
        "time after which an ended stream is removed",
        "Time after its end after which the files of a stream are removed; 0 means never. Its playlist stays without \
         segments, since it keeps the number of the next one. See docs/hls.md for what bounds the number of files."),
    setting(Hls, "hls_endlist_delay", ENDLIST_DELAY, "5s", STREAMS,
        "time after which a stopped stream is marked as over",
        "Time after its publisher has stopped after which the playlist says that the stream is over (EXT-X-ENDLIST); \
         players then stop at its end. An encoder that publishes again sooner continues the playlist. After a lost \
         connection the playlist says so after hls_dispose."),
    setting(Hls, "hls_on_error", ON_ERROR, "ignore", STREAMS,
        "reaction to a failing disk",
        "Reaction when the files of a stream cannot be written: ignore, or disconnect its publisher."),
    setting(Hls, "sessions", Kind::Switch, "off", HTTP_REQUESTS,
        "viewers are clients",
        "Gives each viewer of the HTTP server a session (the parameter hls_ctx), so that it is a client: security and \
         callbacks decide about it, and it is in the API. Only for playlists and segments that this HTTP server serves. See \
         docs/hls.md."),

    setting(Dvr, "enabled", Kind::Switch, "off", STREAMS,
        "recording is on",
        "Records the streams that dvr_apply names. After a reload that turns it on, a recording begins at the next keyframe."),
    setting(Dvr, "dvr_apply", Kind::Streams, "all", STREAMS,
        "streams that are recorded", "Streams that are recorded: all, or some by application and name."),
    setting(Dvr, "dvr_plan", Kind::Choice(&["session", "segment"]), "session", STREAMS,
        "where a file ends",
        "End of a file: session is that of the publisher, segment is also after dvr_duration."),
    setting(Dvr, "dvr_path", FILE, "./objs/nginx/html/[app]/[stream].[timestamp].flv", STREAMS,
        "names of the files",
        "Name of a file, which is FLV or fragmented MP4 by its extension, .flv or .mp4, and in which [vhost], [app], \
         [stream], [2006], [01], [02], [15], [04], [05], [999] and [timestamp] stand for the stream and the time of its \
         start. Until its end it has .tmp behind it; a name that is taken gets a number. After a reload, a running \
         recording goes on in a new file."),
    setting(Dvr, "dvr_duration", seconds(1, 604_800), "30s", STREAMS,
        "length of a file of dvr_plan segment",
        "Length of a file of dvr_plan segment, which ends at the next keyframe."),
    setting(Dvr, "dvr_wait_keyframe", Kind::Switch, "on", STREAMS,
        "files begin with a keyframe",
        "Waits for a keyframe before dvr_plan segment begins the next file. With off, files have their exact length, and \
         players show no picture until the first keyframe."),
    setting(Dvr, "time_jitter", Kind::Choice(&["full", "zero", "off"]), "full", STREAMS,
        "start of the timestamps",
        "Timestamps of a file start at 0; with off, they are those of the stream. They are corrected in any case, so full \
         and zero mean the same."),
    setting(Dvr, "dvr_max_age", seconds(0, 315_360_000), "0", STREAMS,
        "age after which a recording is removed",
        "Age after which a recording is removed; 0 means never. Only files that this server has recorded are removed."),
    setting(Dvr, "dvr_max_size", Kind::Size { min: 0, max: 1 << 50 }, "0", STREAMS,
        "size of all recordings",
        "Size of all recordings of the vhost, above which the oldest are removed; 0 means no limit."),
    setting(Dvr, "dvr_min_free", Kind::Size { min: 0, max: 1 << 50 }, "1g", STREAMS,
        "free space that recordings leave",
        "Free space that recordings leave on the file system: below it they end, which is logged, and go on when there is \
         more; 0 means that they fill it."),

    setting(HttpRemux, "enabled", Kind::Switch, "off", HTTP_REQUESTS,
        "HTTP-FLV is on", "Turns live streams over HTTP on. Needs http_server."),
    setting(HttpRemux, "mount", Kind::Mounts, "[vhost]/[app]/[stream].flv", HTTP_REQUESTS,
        "paths of the streams",
        "Paths of the streams, with or without a directory before [app]; the extension .flv, .ts, .mp3 or .aac is the \
         format. The vhost is no part of the path: it is the host of the request, or the parameter vhost, as for RTMP."),
    setting(HttpRemux, "has_audio", Kind::Switch, "on", HTTP_REQUESTS,
        "viewers get audio", "Sends audio. With off, viewers get video only."),
    setting(HttpRemux, "has_video", Kind::Switch, "on", HTTP_REQUESTS,
        "viewers get video", "Sends video. With off, viewers get audio only."),
    setting(HttpRemux, "wait", seconds(0, 300), "5s", HTTP_REQUESTS,
        "time that a viewer waits for a publisher",
        "Time that a viewer waits for a stream that nobody publishes, before it is answered 404."),
    setting(HttpRemux, "fast_cache", seconds(0, 60), "0", STREAMS,
        "sound that viewers of sound alone start with",
        "Sound that viewers of .mp3 and .aac get at once when they join a stream without video, so that their buffers are \
         full. Values up to a second have no effect, and queue_length is the limit. A stream with video starts at its last \
         keyframe."),
    Row {
        text: "the file names the tracks that the stream has, as far as is known when a viewer joins",
        ..unsupported(HttpRemux, "guess_has_av")
    },
    Row {
        text: "a track that the head of the file does not name is sent nevertheless; has_audio off and has_video off leave \
               one out",
        ..unsupported(HttpRemux, "drop_if_not_match")
    },
];
