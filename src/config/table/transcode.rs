//! Directives of processes: transcoding, renditions and commands.

use super::super::kind::Kind;
use super::super::reload::Reload::{self, Next, Now};
use super::super::schema::BlockKind::{Engine, Exec, Ladder, Root, Transcode, Vhost};
use super::super::schema::{Row, Shape};
use super::row::{STREAMS, block, millis_of_seconds, number, optional, seconds, setting, text};

const LADDER_SHAPE: Shape = Shape::Either { kind: Kind::Heights, default: None, block: Ladder };
const FF_LOG_LEVELS: Kind =
    Kind::Choice(&["quiet", "panic", "fatal", "error", "warning", "info", "verbose", "debug", "trace"]);
const PROGRAM: Kind = Kind::Path("PROGRAM");
const FPS: Kind = Kind::Ratio { min: 0, max: 1_000_000 };
const STALL: Kind = seconds(0, 86_400);
const NICE: Kind = number(0, 19, "");
const CPUS: Kind = number(0, 1024, "");
const PROCESS_MEMORY: Kind = Kind::Size { min: 0, max: 1 << 40 };
const COMMANDS: Reload = Next("events after the reload");
const FFMPEG_SUMMARY: &str = "the program";
const FFMPEG_TEXT: &str = "The program: a path, which may be relative to the working directory, or a name that is looked up in \
    PATH.";
const STALL_SUMMARY: &str = "time without output after which ffmpeg is started again";
const STALL_TEXT: &str =
    "Time without progress of the output after which ffmpeg is ended and started again; 0 means never.";
const LAG_SUMMARY: &str = "delay at which ffmpeg is started again";
const LAG_TEXT: &str =
    "Delay of the output against the stream at which ffmpeg is ended and started again; 0 means never.";
const NICE_SUMMARY: &str = "nice value of the process";
const NICE_TEXT: &str = "Nice value of the process: with a higher one it leaves more of a busy processor to others.";
const CPUS_SUMMARY: &str = "processors that a process may use";
const CPUS_TEXT: &str = "Processors that a process may use; 0 means all.";
const MEMORY_SUMMARY: &str = "address space of a process";
const MEMORY_TEXT: &str = "Address space of a process, which is more than its memory; 0 means no limit. ffmpeg takes some \
    hundred megabytes.";

#[rustfmt::skip]
pub(super) static ROWS: &[Row] = &[
    setting(Root, "ff_log_dir", Kind::Path("DIRECTORY | /dev/null"), "./objs", Next("processes started after the reload"),
        "directory of the log files of ffmpeg and of commands",
        "Directory of the log files ffmpeg-encoder-VHOST-APP-STREAM-ENGINE.log and exec-….log; /dev/null turns them off. A \
         file of 1 MB becomes FILE.log.1, and of more than 256 files the oldest are removed."),
    setting(Root, "ff_log_level", FF_LOG_LEVELS, "info", Now("running engines, which are started again"),
        "level of ffmpeg's own log", "Level of ffmpeg's own log (its option -loglevel)."),
    setting(Root, "max_processes", number(0, 10_000, ""), "64", Next("processes started after the reload"),
        "engines and commands that run at a time",
        "Engines and commands that run at a time; further ones wait until one has ended."),

    block(Vhost, "transcode", Shape::Labelled(Transcode), Some(STREAMS),
        "engines of ffmpeg for published streams",
        "Runs ffmpeg for each published stream, once for each engine: for all streams of the vhost, those of an application \
         (transcode APP), or one stream (transcode APP/STREAM). All blocks that fit a stream apply. See docs/transcoding.md."),
    block(Vhost, "ladder", LADDER_SHAPE, Some(STREAMS),
        "renditions of published streams",
        "Makes renditions STREAM_720p and so on of each published stream, with aligned keyframes and never larger than the \
         stream, by one ffmpeg for all of them; the embedded HTTP server then answers STREAM.m3u8 with a master playlist. \
         The form with heights and without a block has the defaults of the block. See docs/transcoding.md."),
    block(Vhost, "exec", Shape::Block(Exec), None,
        "commands that run at events of streams",
        "Runs commands at events, without a shell. In their arguments, [vhost], [app], [stream], [param], [port], [url] and \
         [engine] stand for those of the stream, [file] for a recording. See docs/transcoding.md."),

    setting(Transcode, "enabled", Kind::Switch, "off", STREAMS,
        "the engines of the block are on", "Turns the engines of the block on."),
    setting(Transcode, "ffmpeg", PROGRAM, "ffmpeg", STREAMS, FFMPEG_SUMMARY, FFMPEG_TEXT),
    block(Transcode, "engine", Shape::Labelled(Engine), Some(STREAMS),
        "an engine", "An ffmpeg with its options; [engine] in its output stands for its name."),
    setting(Transcode, "stall_timeout", STALL, "30s", STREAMS, STALL_SUMMARY, STALL_TEXT),
    setting(Transcode, "max_lag", STALL, "60s", STREAMS, LAG_SUMMARY, LAG_TEXT),
    setting(Transcode, "nice", NICE, "5", STREAMS, NICE_SUMMARY, NICE_TEXT),
    setting(Transcode, "max_cpus", CPUS, "0", STREAMS, CPUS_SUMMARY, CPUS_TEXT),
    setting(Transcode, "max_process_memory", PROCESS_MEMORY, "0", STREAMS, MEMORY_SUMMARY, MEMORY_TEXT),

    setting(Engine, "enabled", Kind::Switch, "off", STREAMS, "the engine is on", "Turns the engine on."),
    block(Engine, "perfile", Shape::Free, Some(STREAMS),
        "options in front of the input",
        "Options of ffmpeg in front of its input, such as re; for -re. Each has at most one value, in quotes if it contains \
         blanks."),
    setting(Engine, "iformat", text("FORMAT"), "flv", STREAMS,
        "format of the input", "Format of the input (-f); off leaves it out."),
    block(Engine, "vfilter", Shape::Free, Some(STREAMS),
        "filters", "Options between input and video, such as filter_complex or vf."),
    optional(Engine, "vcodec", text("ENCODER"), STREAMS,
        "encoder of video",
        "Encoder of video: any that this ffmpeg has, copy to keep the video as it is, or vn for none. Required."),
    setting(Engine, "vbitrate", number(0, 1_000_000, "kbit/s"), "0", STREAMS,
        "bit rate of video", "Bit rate of video (-b:v); 0 leaves it to the encoder."),
    setting(Engine, "vfps", FPS, "0", STREAMS,
        "frames in a second", "Frames in a second (-r); 0 keeps those of the input."),
    setting(Engine, "vwidth", number(0, 16_384, "pixels"), "0", STREAMS,
        "width of the picture",
        "Width of the picture, with vheight (-s and -aspect). Odd numbers are rounded down; 0 keeps the size."),
    setting(Engine, "vheight", number(0, 16_384, "pixels"), "0", STREAMS,
        "height of the picture", "Height of the picture, see vwidth."),
    setting(Engine, "vthreads", number(0, 1024, ""), "1", STREAMS,
        "threads of the encoder", "Threads of the encoder (-threads); 0 leaves that to ffmpeg."),
    optional(Engine, "vprofile", text("PROFILE"), STREAMS,
        "profile of the encoder", "Profile of the encoder (-profile:v), such as main."),
    optional(Engine, "vpreset", text("PRESET"), STREAMS,
        "preset of the encoder", "Preset of the encoder (-preset), such as veryfast."),
    block(Engine, "vparams", Shape::Free, Some(STREAMS),
        "further options of video", "Further options of video, such as g 50; for -g 50."),
    optional(Engine, "acodec", text("ENCODER"), STREAMS,
        "encoder of audio",
        "Encoder of audio: any that this ffmpeg has, copy to keep the audio as it is, or an for none. Required."),
    setting(Engine, "abitrate", number(0, 100_000, "kbit/s"), "0", STREAMS,
        "bit rate of audio", "Bit rate of audio (-b:a); 0 leaves it to the encoder."),
    setting(Engine, "asample_rate", number(0, 384_000, "Hz"), "0", STREAMS,
        "sample rate of audio", "Sample rate of audio (-ar); 0 keeps that of the input."),
    setting(Engine, "achannels", number(0, 16, ""), "0", STREAMS,
        "channels of audio", "Channels of audio (-ac); 0 keeps those of the input."),
    block(Engine, "aparams", Shape::Free, Some(STREAMS),
        "further options of audio",
        "Further options of audio. With acodec copy only bsf:a is used, as in SRS."),
    setting(Engine, "oformat", text("FORMAT"), "flv", STREAMS,
        "format of the output", "Format of the output (-f); off leaves it out."),
    optional(Engine, "output", Kind::Text { name: "URL", is_secret: true }, STREAMS,
        "output of ffmpeg",
        "The output, with the variables [vhost], [port], [app], [stream], [param], [engine], [timestamp] and those of times. \
         A stream of this server that an engine has made is never transcoded again. Required."),

    setting(Ladder, "enabled", Kind::Switch, "off", STREAMS, "the ladder is on", "Turns the ladder on."),
    optional(Ladder, "heights", Kind::Heights, STREAMS,
        "heights of the renditions",
        "Heights of the renditions; those above the height of the stream are left out."),
    setting(Ladder, "ffmpeg", PROGRAM, "ffmpeg", STREAMS, FFMPEG_SUMMARY, FFMPEG_TEXT),
    setting(Ladder, "vcodec", text("ENCODER"), "libx264", STREAMS,
        "encoder of video", "Encoder of video, such as libx264, or that of a GPU."),
    setting(Ladder, "vpreset", text("PRESET"), "veryfast", STREAMS,
        "preset of the encoder", "Preset of the encoder (-preset); off leaves it out."),
    setting(Ladder, "acodec", text("ENCODER"), "copy", STREAMS,
        "encoder of audio", "Encoder of audio; copy keeps the audio of the stream in all renditions."),
    setting(Ladder, "abitrate", number(8, 100_000, "kbit/s"), "128", STREAMS,
        "bit rate of audio", "Bit rate of audio, unless acodec is copy."),
    setting(Ladder, "keyframe_interval", millis_of_seconds(200, 60_000), "2s", STREAMS,
        "time between keyframes",
        "Time between keyframes, which all renditions have at the same times. Make hls_fragment a multiple of it."),
    setting(Ladder, "max_fps", FPS, "0", STREAMS,
        "most frames in a second", "Frames in a second of all renditions; 0 keeps those of the stream."),
    setting(Ladder, "stall_timeout", STALL, "30s", STREAMS, STALL_SUMMARY, STALL_TEXT),
    setting(Ladder, "max_lag", STALL, "60s", STREAMS, LAG_SUMMARY, LAG_TEXT),
    setting(Ladder, "nice", NICE, "5", STREAMS, NICE_SUMMARY, NICE_TEXT),
    setting(Ladder, "max_cpus", CPUS, "0", STREAMS, CPUS_SUMMARY, CPUS_TEXT),
    setting(Ladder, "max_process_memory", PROCESS_MEMORY, "0", STREAMS, MEMORY_SUMMARY, MEMORY_TEXT),

    setting(Exec, "enabled", Kind::Switch, "off", STREAMS, "commands are on", "Turns the commands on."),
    optional(Exec, "publish", Kind::Command, STREAMS,
        "a command that runs while a stream is published",
        "A command that is started when a stream is published, started again when it ends, and stopped with the stream, as \
         exec_push of nginx-rtmp. As many lines as needed."),
    optional(Exec, "on_publish", Kind::Command, COMMANDS,
        "a command that runs when a stream is published", "A command that runs once when a stream is published."),
    optional(Exec, "on_unpublish", Kind::Command, COMMANDS,
        "a command that runs when a stream has ended", "A command that runs once when a stream has ended."),
    optional(Exec, "on_play", Kind::Command, COMMANDS,
        "a command that runs when a client plays", "A command that runs once when a client plays: over RTMP, over HTTP-FLV, or with a session of HLS."),
    optional(Exec, "on_stop", Kind::Command, COMMANDS,
        "a command that runs when a client has stopped", "A command that runs once when such a client has stopped."),
    optional(Exec, "on_dvr", Kind::Command, COMMANDS,
        "a command that runs when a recording is complete",
        "A command that runs once when a file of dvr is complete, whose path is [file], as exec_record_done of nginx-rtmp."),
    setting(Exec, "timeout", seconds(0, 86_400), "60s", COMMANDS,
        "time for a command that runs once",
        "Time after which a command that runs once is ended; 0 means never."),
    setting(Exec, "nice", NICE, "5", COMMANDS, NICE_SUMMARY, NICE_TEXT),
    setting(Exec, "max_cpus", CPUS, "0", COMMANDS, CPUS_SUMMARY, CPUS_TEXT),
    setting(Exec, "max_process_memory", PROCESS_MEMORY, "0", COMMANDS, MEMORY_SUMMARY, MEMORY_TEXT),
];
