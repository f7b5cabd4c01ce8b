//! Media files to publish. ffmpeg creates each when a test first needs it.
//!
//! The sound is noise, so that no two audio frames are equal.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::common::flv::{self, DATA, Tag, VIDEO};

/// Duration of a file, in seconds.
const SECONDS: u32 = 6;

const PICTURE: &str = "testsrc2=size=320x180:rate=25";
const SOUND: &str = "anoisesrc=sample_rate=44100:amplitude=0.1:seed=7";

/// A file to publish, and its tags.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) tags: Vec<Tag>,
}

/// Returns H.264 with B-frames and one keyframe a second, and AAC.
pub(crate) fn h264_aac(ffmpeg: &Path) -> &'static Source {
    static SOURCE: OnceLock<Source> = OnceLock::new();
    SOURCE.get_or_init(|| {
        let video =
            "-c:v libx264 -preset veryfast -g 25 -keyint_min 25 -sc_threshold 0 -bf 2 -b:v 300k -pix_fmt yuv420p";
        encode(ffmpeg, "h264_aac.flv", Some(video), Some("-c:a aac -ar 44100 -ac 2 -b:a 64k"))
    })
}

/// Returns H.264 and AAC, long enough for a server to restart meanwhile.
pub(crate) fn long_h264_aac(ffmpeg: &Path) -> &'static Source {
    static SOURCE: OnceLock<Source> = OnceLock::new();
    SOURCE.get_or_init(|| {
        let video =
            "-t 12 -c:v libx264 -preset veryfast -g 25 -keyint_min 25 -sc_threshold 0 -bf 2 -b:v 300k -pix_fmt yuv420p";
        encode(ffmpeg, "long_h264_aac.flv", Some(video), Some("-c:a aac -ar 44100 -ac 2 -b:a 64k"))
    })
}

/// Returns H.264 and AAC, long enough for encoders to start meanwhile beside many other programs.
#[cfg(feature = "http")]
pub(crate) fn longest_h264_aac(ffmpeg: &Path) -> &'static Source {
    static SOURCE: OnceLock<Source> = OnceLock::new();
    SOURCE.get_or_init(|| {
        let video =
            "-t 24 -c:v libx264 -preset veryfast -g 25 -keyint_min 25 -sc_threshold 0 -bf 2 -b:v 300k -pix_fmt yuv420p";
        encode(ffmpeg, "longest_h264_aac.flv", Some(video), Some("-c:a aac -ar 44100 -ac 2 -b:a 64k"))
    })
}

/// Returns H.264 without audio.
pub(crate) fn video_only(ffmpeg: &Path) -> &'static Source {
    static SOURCE: OnceLock<Source> = OnceLock::new();
    SOURCE.get_or_init(|| {
        let video =
            "-c:v libx264 -preset veryfast -g 25 -keyint_min 25 -sc_threshold 0 -bf 0 -b:v 300k -pix_fmt yuv420p";
        encode(ffmpeg, "video_only.flv", Some(video), None)
    })
}

/// Returns AAC without video.
pub(crate) fn audio_only(ffmpeg: &Path) -> &'static Source {
    static SOURCE: OnceLock<Source> = OnceLock::new();
    SOURCE.get_or_init(|| encode(ffmpeg, "audio_only.flv", None, Some("-c:a aac -ar 44100 -ac 2 -b:a 64k")))
}

/// Returns HEVC and AAC in the format of Enhanced RTMP.
pub(crate) fn hevc_aac(new_ffmpeg: &Path) -> &'static Source {
    static SOURCE: OnceLock<Source> = OnceLock::new();
    SOURCE.get_or_init(|| {
        let video = "-c:v libx265 -preset ultrafast -pix_fmt yuv420p \
                     -x265-params log-level=error:keyint=25:min-keyint=25:scenecut=0:bframes=2";
        encode(new_ffmpeg, "hevc_aac.flv", Some(video), Some("-c:a aac -ar 44100 -ac 2 -b:a 64k"))
    })
}

/// Returns AV1 and Opus in the format of Enhanced RTMP.
pub(crate) fn av1_opus(new_ffmpeg: &Path) -> &'static Source {
    static SOURCE: OnceLock<Source> = OnceLock::new();
    SOURCE.get_or_init(|| {
        let video = "-c:v libsvtav1 -preset 12 -g 25 -pix_fmt yuv420p -svtav1-params lp=1";
        encode(new_ffmpeg, "av1_opus.flv", Some(video), Some("-c:a libopus -ar 48000 -ac 2 -b:a 64k"))
    })
}

/// Returns VP9 and FLAC in the format of Enhanced RTMP.
pub(crate) fn vp9_flac(new_ffmpeg: &Path) -> &'static Source {
    static SOURCE: OnceLock<Source> = OnceLock::new();
    SOURCE.get_or_init(|| {
        let video = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25 -b:v 300k -pix_fmt yuv420p";
        encode(new_ffmpeg, "vp9_flac.flv", Some(video), Some("-c:a flac -ar 48000 -ac 2"))
    })
}

/// Returns VP6, as the first encoders sent it, and MP3.
///
/// No free encoder writes VP6, so these frames have a valid header with the size of the picture, and noise after it. The server
/// must not look at the noise.
pub(crate) fn vp6_mp3(ffmpeg: &Path) -> &'static Source {
    static SOURCE: OnceLock<Source> = OnceLock::new();
    SOURCE.get_or_init(|| {
        let mp3 = encode(ffmpeg, "mp3.flv", None, Some("-c:a libmp3lame -ac 2 -b:a 64k"));
        let mut tags: Vec<Tag> = mp3.tags.into_iter().filter(|tag| tag.kind != DATA).collect();
        let mut noise = 1_u32;
        for number in 0..SECONDS * 25 {
            let is_key = number % 25 == 0;
            // Frame type and codec 4; no cropping.
            let mut payload = vec![if is_key { 0x14 } else { 0x24 }, 0x00];
            if is_key {
                // Bit 7 clear: a keyframe. Then version 8, profile 3, and 12 by 20 macroblocks, coded and shown.
                payload.extend_from_slice(&[0x20, 0x46, 12, 20, 12, 20]);
            } else {
                payload.push(0xa0);
            }
            for _ in 0..200 {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                payload.push(noise.to_be_bytes()[0]);
            }
            tags.push(Tag { kind: VIDEO, timestamp: number * 40, payload });
        }
        tags.sort_by_key(|tag| tag.timestamp);
        let path = folder().join("vp6_mp3.flv");
        flv::write(&path, &tags);
        Source { path, tags }
    })
}

/// Returns the folder of the files. Each run of the tests has its own, so that two runs do not disturb each other. Folders of
/// finished runs are removed.
fn folder() -> &'static Path {
    const PREFIX: &str = "media-";
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR"));
        for entry in all.read_dir().into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_left = |pid| !Path::new("/proc").join(pid).exists();
            if name.strip_prefix(PREFIX).is_some_and(is_left) {
                // Another run may remove it at the same time.
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        let folder = all.join(format!("{PREFIX}{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the build's tmp folder can be written");
        folder
    })
}

/// Creates an FLV file with these options for the encoders of video and audio.
pub(crate) fn encode(ffmpeg: &Path, name: &str, video: Option<&str>, audio: Option<&str>) -> Source {
    let path = folder().join(name);
    let mut command = Command::new(ffmpeg);
    command.args(["-y", "-nostdin", "-hide_banner", "-loglevel", "error"]);
    for (input, _) in [(PICTURE, video), (SOUND, audio)].into_iter().filter(|(_, codec)| codec.is_some()) {
        command.args(["-f", "lavfi", "-i", input]);
    }
    command.args(["-t", &SECONDS.to_string()]);
    command.args([video, audio].into_iter().flatten().flat_map(str::split_whitespace));
    let output = command.args(["-f", "flv"]).arg(&path).output().expect("ffmpeg can be started");
    assert!(output.status.success(), "ffmpeg cannot create {name}:\n{}", String::from_utf8_lossy(&output.stderr));
    let tags = flv::read(&path);
    assert!(tags.len() > 100, "ffmpeg wrote {} tags to {name}", tags.len());
    Source { path, tags }
}
