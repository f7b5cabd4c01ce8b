//! Publishers and players that are other programs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::common::flv::{self, AUDIO, Tag, VIDEO};
use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::media::Source;

/// Time limit of a client beyond the duration of what it plays.
pub(crate) const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);

/// MediaKinds of packets that a player writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediaKinds {
    Both,
    Audio,
    Video,
}

/// Publishes a file in real time with ffmpeg. `options` are output options.
pub(crate) fn publish(
    scratch: &Scratch,
    name: &str,
    ffmpeg: &Path,
    source: &Source,
    url: &str,
    options: &[&str],
) -> Process {
    let mut arguments =
        vec!["-nostdin", "-hide_banner", "-re", "-i", source.path.to_str().expect("a path of ours"), "-c", "copy"];
    arguments.extend_from_slice(options);
    arguments.extend_from_slice(&["-f", "flv", "-flvflags", "no_duration_filesize", url]);
    Process::start(scratch, name, ffmpeg, arguments)
}

/// Stops a publisher while others join: programs start slowly on a busy machine, and the stream must not be over before. ffmpeg
/// and GStreamer send at once what they have missed.
pub(crate) fn while_stopped<T>(publisher: &mut Process, join: impl FnOnce() -> T) -> T {
    publisher.signal(Signal::SIGSTOP);
    let joined = join();
    publisher.signal(Signal::SIGCONT);
    joined
}

/// A player program and the FLV files that it writes.
pub(crate) struct Player {
    process: Process,
    files: Vec<PathBuf>,
}

impl Player {
    /// Starts ffmpeg. It writes audio and video to separate files, since in one file it would hold back the last packets in
    /// order to interleave them. Timestamps are kept.
    pub(crate) fn ffmpeg(scratch: &Scratch, name: &str, ffmpeg: &Path, url: &str, kinds: MediaKinds) -> Player {
        let mut arguments: Vec<String> = ["-nostdin", "-hide_banner", "-y", "-copyts"].map(str::to_owned).to_vec();
        if kinds != MediaKinds::Both {
            // Without this, ffmpeg waits five seconds for the other kind before it writes anything.
            arguments.extend(["-analyzeduration", "1000000"].map(str::to_owned));
        }
        arguments.extend(["-i", url].map(str::to_owned));
        let mut files = Vec::new();
        for (kind, unwanted) in [("v", MediaKinds::Audio), ("a", MediaKinds::Video)] {
            if kinds == unwanted {
                continue;
            }
            let file = scratch.file(&format!("{name}.{kind}.flv"));
            let map = format!("0:{kind}");
            arguments.extend(["-map", &map, "-c", "copy", "-flush_packets", "1", "-f", "flv"].map(str::to_owned));
            arguments.push(file.to_str().expect("a path of ours").to_owned());
            files.push(file);
        }
        Player { process: Process::start(scratch, name, ffmpeg, arguments), files }
    }

    /// Starts rtmpdump, which writes the received messages unchanged.
    pub(crate) fn rtmpdump(scratch: &Scratch, name: &str, rtmpdump: &Path, url: &str, options: &[&str]) -> Player {
        let file = scratch.file(&format!("{name}.flv"));
        let mut arguments = vec!["--live", "--rtmp", url, "--flv", file.to_str().expect("a path of ours")];
        arguments.extend_from_slice(options);
        Player { process: Process::start(scratch, name, rtmpdump, arguments), files: vec![file] }
    }

    /// Starts GStreamer's `rtmp2src`, which writes the received messages unchanged.
    pub(crate) fn gstreamer(scratch: &Scratch, name: &str, gst_launch: &Path, url: &str) -> Player {
        let file = scratch.file(&format!("{name}.flv"));
        let (source, sink) = (format!("location={url}"), format!("location={}", file.display()));
        let arguments = ["-e", "rtmp2src", &source, "!", "filesink", "buffer-mode=unbuffered", &sink];
        Player { process: Process::start(scratch, name, gst_launch, arguments), files: vec![file] }
    }

    /// Returns the tags written so far, each kind in order.
    pub(crate) fn tags(&self) -> Vec<Tag> {
        self.files.iter().flat_map(|file| flv::read(file)).collect()
    }

    /// Waits until the player has written a frame that is later than `time`, in milliseconds.
    pub(crate) fn wait_time(&self, time: u32) {
        let is_later = |tag: &Tag| tag.is_frame() && tag.timestamp > time;
        eventually(&format!("a player has {time} ms"), CLIENT_TIMEOUT, || {
            self.tags().iter().any(is_later).then_some(())
        });
    }

    /// Returns the number of frames written so far.
    pub(crate) fn frames(&self) -> usize {
        self.tags().iter().filter(|tag| tag.is_frame()).count()
    }

    /// Waits until the player has written the last published frames, has ended, or receives no more; then ends it and returns
    /// what it has written. Players with a buffer write its content at their end.
    pub(crate) fn finish(mut self, published: &[Tag]) -> Vec<Tag> {
        const SILENCE: Duration = Duration::from_secs(5);
        let last = |tags: &[Tag], kind| {
            tags.iter().rfind(|tag| tag.kind == kind && tag.is_frame()).map(|tag| tag.payload.clone())
        };
        let due = [VIDEO, AUDIO].map(|kind| last(published, kind));
        let deadline = Instant::now() + CLIENT_TIMEOUT;
        let (mut count, mut since) = (0, Instant::now());
        while self.process.ended().is_none() && Instant::now() < deadline {
            let tags = self.tags();
            if [VIDEO, AUDIO].map(|kind| last(&tags, kind)) == due {
                break;
            }
            if tags.len() != count {
                (count, since) = (tags.len(), Instant::now());
            } else if since.elapsed() > SILENCE {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        // After the first interrupt ffmpeg waits for the next packet, which may never arrive.
        let mut interrupted = Instant::now();
        self.process.interrupt();
        eventually("an interrupted player ends", CLIENT_TIMEOUT, || {
            if interrupted.elapsed() > Duration::from_secs(1) {
                interrupted = Instant::now();
                self.process.interrupt();
            }
            self.process.ended()
        });
        self.tags()
    }

    /// Returns the process.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
