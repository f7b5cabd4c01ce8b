//! The commands of engines and ladders: options of ffmpeg in the order of SRS.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::names::{NameError, Names};
use crate::config::{Engine, FreeOption, Ladder};

/// The frames of a second, the size and the codecs of a stream, as far as a command depends on them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Picture {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) frame_rate: Option<f64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) args: Vec<String>,
    pub(super) directories: Vec<PathBuf>,
}

impl Command {
    fn new(log_level: &str) -> Self {
        let mut command = Self::default();
        // Before all others, which keep the order of SRS. The progress goes to us, and standard error is for what is wrong.
        command.add(&["-hide_banner", "-nostdin", "-nostats", "-loglevel", log_level, "-progress", "pipe:1"]);
        command
    }

    fn add(&mut self, words: &[&str]) {
        self.args.extend(words.iter().map(|word| (*word).to_owned()));
    }

    fn add_options(&mut self, options: &[FreeOption]) {
        for (name, value) in options {
            self.args.push(if name.starts_with('-') { name.clone() } else { format!("-{name}") });
            self.args.extend(value.clone());
        }
    }

    fn add_if(&mut self, condition: bool, option: &str, value: &str) {
        if condition {
            self.add(&[option, value]);
        }
    }

    fn add_output(&mut self, output: &str) {
        self.add(&["-y", output]);
        let is_file = !output.contains("://") && !output.starts_with("pipe:") && !output.contains('|');
        if let Some(parent) = Path::new(output).parent().filter(|parent| is_file && *parent != Path::new("")) {
            self.directories.push(parent.to_owned());
        }
    }
}

pub(super) fn engine(engine: &Engine, names: &Names, log_level: &str, time: SystemTime) -> Result<Command, NameError> {
    let mut command = Command::new(log_level);
    command.add_options(&engine.perfile);
    command.add_if(is_given(&engine.iformat), "-f", &engine.iformat);
    command.add(&["-i", &names.expand("[url]", "", time)?]);
    add_video(&mut command, engine);
    add_audio(&mut command, engine);
    command.add_if(is_given(&engine.oformat), "-f", &engine.oformat);
    command.add_output(&names.expand(&engine.output, &engine.name, time)?);
    Ok(command)
}

fn add_video(command: &mut Command, engine: &Engine) {
    command.add_options(&engine.vfilter);
    match engine.vcodec.as_str() {
        "vn" => command.add(&["-vn"]),
        "copy" => command.add(&["-vcodec", "copy"]),
        encoder => {
            command.add(&["-vcodec", encoder]);
            command.add_if(engine.vbitrate > 0, "-b:v", &(engine.vbitrate * 1000).to_string());
            command.add_if(engine.vfps > 0, "-r", &format!("{:.2}", engine.vfps as f64 / 1000.0));
            let (width, height) = (engine.vwidth, engine.vheight);
            if width > 0 && height > 0 {
                command.add(&["-s", &format!("{width}x{height}"), "-aspect", &format!("{width}:{height}")]);
            }
            command.add_if(engine.vthreads > 0, "-threads", &engine.vthreads.to_string());
            command.add_if(is_given(&engine.vprofile), "-profile:v", &engine.vprofile);
            command.add_if(is_given(&engine.vpreset), "-preset", &engine.vpreset);
            command.add_options(&engine.vparams);
        }
    }
}

fn add_audio(command: &mut Command, engine: &Engine) {
    match engine.acodec.as_str() {
        "an" => command.add(&["-an"]),
        "copy" => {
            command.add(&["-acodec", "copy"]);
            let bsf: Vec<_> =
                engine.aparams.iter().filter(|(name, _)| name.trim_start_matches('-') == "bsf:a").collect();
            bsf.into_iter().for_each(|option| command.add_options(std::slice::from_ref(option)));
        }
        encoder => {
            command.add(&["-acodec", encoder]);
            command.add_if(engine.abitrate > 0, "-b:a", &(engine.abitrate * 1000).to_string());
            command.add_if(engine.asample_rate > 0, "-ar", &engine.asample_rate.to_string());
            command.add_if(engine.achannels > 0, "-ac", &engine.achannels.to_string());
            command.add_options(&engine.aparams);
        }
    }
}

fn is_given(text: &str) -> bool {
    !matches!(text, "" | "off")
}

pub(super) fn rendition_name(stream: &str, height: u32) -> String {
    format!("{stream}_{height}p")
}

/// Returns the bit rate of a rendition's video in kbit/s: 2500 for 720p, and more or less with the power of 1.5 of the height,
/// as larger pictures need less for each pixel.
pub(super) fn rendition_kbps(height: u32) -> u64 {
    let kbps = 2500.0 * (f64::from(height) / 720.0).powf(1.5);
    // At most 100,000.
    ((kbps / 50.0).round() as u64 * 50).max(50)
}

/// Returns the heights of a ladder that are not larger than the picture. The height is that of the shorter side.
pub(super) fn rendition_heights(ladder: &Ladder, picture: Picture) -> Vec<u32> {
    let shorter = picture.width.min(picture.height);
    ladder.heights.iter().copied().filter(|height| *height <= shorter).collect()
}

/// Returns the command of a ladder: one decoder, and an encoder for each of `heights`.
pub(super) fn ladder(
    ladder: &Ladder,
    heights: &[u32],
    picture: Picture,
    names: &Names,
    log_level: &str,
    time: SystemTime,
) -> Result<Command, NameError> {
    let mut command = Command::new(log_level);
    command.add(&["-f", "flv", "-i", &names.expand("[url]", "", time)?, "-filter_complex"]);
    command.args.push(ladder_filter(ladder, heights, picture));
    let interval = format!("expr:gte(t,n_forced*{})", ladder.keyframe_interval.as_secs_f64());
    for (index, &height) in heights.iter().enumerate() {
        let kbps = rendition_kbps(height);
        command.add(&["-map", &format!("[v{index}]"), "-map", "0:a:0?", "-c:v", &ladder.vcodec]);
        command.add_if(is_given(&ladder.vpreset), "-preset", &ladder.vpreset);
        command.add(&["-b:v", &format!("{kbps}k"), "-maxrate", &format!("{}k", kbps * 6 / 5)]);
        command.add(&["-bufsize", &format!("{}k", kbps * 3 / 2), "-force_key_frames", &interval]);
        // Neither a new scene nor a count of frames makes a keyframe that only one rendition has.
        command.add(&["-sc_threshold", "0", "-g", "9999", "-c:a", &ladder.acodec]);
        command.add_if(ladder.acodec != "copy", "-b:a", &format!("{}k", ladder.abitrate));
        let output = names.url(&rendition_name(&names.stream, height));
        command.add(&["-flvflags", "no_duration_filesize", "-f", "flv", "-y", &output]);
    }
    Ok(command)
}

fn ladder_filter(ladder: &Ladder, heights: &[u32], picture: Picture) -> String {
    let max_fps = ladder.max_fps as f64 / 1000.0;
    let is_too_fast = max_fps > 0.0 && picture.frame_rate.is_none_or(|rate| rate > max_fps);
    let fps = if is_too_fast { format!("fps={max_fps},") } else { String::new() };
    let split: String = (0..heights.len()).map(|index| format!("[s{index}]")).collect();
    let mut filter = format!("[0:v:0]{fps}split={}{split}", heights.len());
    for (index, height) in heights.iter().enumerate() {
        let size = if picture.width < picture.height { format!("{height}:-2") } else { format!("-2:{height}") };
        // Browsers play no other chroma format.
        filter.push_str(&format!(";[s{index}]scale={size},format=yuv420p[v{index}]"));
    }
    filter
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::config::{Config, Vhost};

    fn vhost(text: &str) -> Vhost {
        let config = Config::parse("t", &format!("listen 1935; vhost v {{ {text} }}")).unwrap();
        (**config.vhost("v").unwrap()).clone()
    }

    fn names() -> Names {
        let text = str::to_owned;
        let address = text("127.0.0.1:1935");
        Names {
            vhost: text("v"),
            app: text("live"),
            stream: text("s"),
            params: String::new(),
            file: None,
            address,
            port: 1935,
        }
    }

    fn line(text: &str) -> String {
        let vhost = vhost(&format!("transcode {{ engine ff {{ enabled on; {text} }} }}"));
        let command = engine(&vhost.transcode[0].engines[0], &names(), "info", UNIX_EPOCH).unwrap();
        let line = command.args.join(" ");
        let own = "-hide_banner -nostdin -nostats -loglevel info -progress pipe:1 ";
        line.strip_prefix(own).unwrap_or_else(|| panic!("{line}")).to_owned()
    }

    const INPUT: &str = "-i rtmp://127.0.0.1:1935/live/s?vhost=v";

    #[test]
    fn the_order_is_that_of_srs() {
        let text = "perfile { re; -rtmp_live live; } iformat flv; vfilter { vf 'drawtext=text=a b'; } vcodec libx264;
            vbitrate 1500; vfps 25; vwidth 768; vheight 320; vthreads 12; vprofile main; vpreset medium;
            vparams { t 100; coder 1; } acodec libfdk_aac; abitrate 70; asample_rate 44100; achannels 2;
            aparams { profile:a aac_low; } oformat flv;
            output rtmp://127.0.0.1:[port]/[app]/[stream]_[engine]?vhost=[vhost];";
        assert_eq!(
            line(text),
            format!(
                "-re -rtmp_live live -f flv {INPUT} -vf drawtext=text=a b -vcodec libx264 -b:v 1500000 -r 25.00 -s 768x320 \
                 -aspect 768:320 -threads 12 -profile:v main -preset medium -t 100 -coder 1 -acodec libfdk_aac -b:a 70000 \
                 -ar 44100 -ac 2 -profile:a aac_low -f flv -y rtmp://127.0.0.1:1935/live/s_ff?vhost=v"
            )
        );
    }

    #[test]
    fn what_is_left_out_is_left_out() {
        let output = "output rtmp://h/[app]/[stream];";
        let end = "-y rtmp://h/live/s";
        for (text, expected) in [
            (
                "vcodec copy; acodec copy; vbitrate 5; vparams { a b; } aparams { c d; bsf:a aac_adtstoasc; }",
                "-f flv INPUT -vcodec copy -acodec copy -bsf:a aac_adtstoasc -f flv",
            ),
            ("vcodec vn; acodec aac; abitrate 64; iformat off; oformat off;", "INPUT -vn -acodec aac -b:a 64000"),
            ("vcodec libx265; acodec an; vthreads 0; vfps 29.97;", "-f flv INPUT -vcodec libx265 -r 29.97 -an -f flv"),
            ("vcodec h264_nvenc; acodec libopus;", "-f flv INPUT -vcodec h264_nvenc -threads 1 -acodec libopus -f flv"),
        ] {
            assert_eq!(
                line(&format!("{text} {output}")),
                format!("{} {end}", expected.replace("INPUT", INPUT)),
                "{text}"
            );
        }
    }

    #[test]
    fn files_need_their_directory() {
        let directories = |output: &str| {
            let text = format!("transcode {{ engine x {{ enabled on; vcodec png; acodec an; output {output}; }} }}");
            let vhost = vhost(&text);
            engine(&vhost.transcode[0].engines[0], &names(), "info", UNIX_EPOCH).unwrap().directories
        };
        assert_eq!(directories("./html/[app]/[stream]-%3d.png"), [PathBuf::from("./html/live")]);
        assert_eq!(directories("a.png"), [] as [PathBuf; 0]);
        assert_eq!(directories("rtmp://a/b/c"), [] as [PathBuf; 0]);
    }

    #[test]
    fn a_ladder_is_never_larger_than_the_source() {
        let vhost = vhost("ladder 1080p 720p 480p 360p;");
        let heights = |width, height| rendition_heights(&vhost.ladder, Picture { width, height, frame_rate: None });
        assert_eq!(heights(1280, 720), [720, 480, 360]);
        assert_eq!(heights(1920, 1088), [1080, 720, 480, 360]);
        assert_eq!(heights(720, 1280), [720, 480, 360], "upright");
        assert_eq!(heights(320, 240), [] as [u32; 0]);
        assert_eq!((rendition_kbps(720), rendition_kbps(360), rendition_kbps(1080)), (2500, 900, 4600));
    }

    #[test]
    fn a_ladder_is_one_command() {
        let vhost = vhost("ladder { enabled on; heights 480p 240p; max_fps 30; keyframe_interval 1500ms; }");
        let picture = Picture { width: 854, height: 480, frame_rate: Some(60.0) };
        let command =
            ladder(&vhost.ladder, &[480, 240], picture, &names(), "error", UNIX_EPOCH).unwrap().args.join(" ");
        let rendition = |index: usize, kbps: u64, name: &str| {
            format!(
                " -map [v{index}] -map 0:a:0? -c:v libx264 -preset veryfast -b:v {kbps}k -maxrate {}k -bufsize {}k \
                 -force_key_frames expr:gte(t,n_forced*1.5) -sc_threshold 0 -g 9999 -c:a copy -flvflags \
                 no_duration_filesize -f flv -y rtmp://127.0.0.1:1935/live/{name}?vhost=v",
                kbps * 6 / 5,
                kbps * 3 / 2
            )
        };
        let expected = format!(
            "-hide_banner -nostdin -nostats -loglevel error -progress pipe:1 -f flv {INPUT} -filter_complex \
             [0:v:0]fps=30,split=2[s0][s1];[s0]scale=-2:480,format=yuv420p[v0];[s1]scale=-2:240,format=yuv420p[v1]{}{}",
            rendition(0, 1350, "s_480p"),
            rendition(1, 500, "s_240p"),
        );
        assert_eq!(command, expected);
        let slow = Picture { width: 480, height: 854, frame_rate: Some(25.0) };
        assert_eq!(
            ladder_filter(&vhost.ladder, &[240], slow),
            "[0:v:0]split=1[s0];[s0]scale=240:-2,format=yuv420p[v0]"
        );
    }
}
