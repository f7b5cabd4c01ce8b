//! Attacks by media of HLS: input of little size that the segmenter must fill, shift, split or leave out at each frame.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::attacker::Attacker;
use crate::disk_use::two_headers;
use crate::rig::Rig;
use crate::rtmp::{AUDIO, VIDEO, keyframe, publish_session, set_max_chunk_size, single_chunk, video_header};

/// Sequence header of AAC at 44100 Hz in stereo.
const AAC_HEADER: [u8; 4] = [0xaf, 0, 0x12, 0x10];

const AAC_FRAME: [u8; 8] = [0xaf, 1, 0x21, 0x10, 0x04, 0x60, 0x8c, 0x1c];

/// Maximum number of files of one stream: 256 in the playlist, and those that stay for viewers with an older one.
const MAX_FILES: usize = 320;

/// Returns an H.264 keyframe that a decoder can begin with, so that it may be repeated.
fn picture(size: usize) -> Vec<u8> {
    let mut payload = keyframe(size);
    payload[9] = 0x65;
    payload
}

fn publishers(name: &str, count: usize, rig: &Rig) -> Vec<Attacker> {
    let mut all = Attacker::connect_many(count, rig.rtmp);
    for (n, attacker) in all.iter_mut().enumerate() {
        attacker.send(&[publish_session(format!("{name}{n}")), set_max_chunk_size()].concat());
        attacker.send(&single_chunk(6, 0, VIDEO, &video_header()));
        attacker.send(&single_chunk(4, 0, AUDIO, &AAC_HEADER));
    }
    all
}

/// Sends what `burst` returns for each time in milliseconds, until `limit` has passed. The time of each burst is `step` later.
fn send_bursts(all: &mut [Attacker], limit: Duration, step: u32, mut burst: impl FnMut(u32) -> Vec<u8>) {
    let until = Instant::now() + limit;
    let mut time = 0;
    while Instant::now() < until {
        let bytes = burst(time);
        all.iter_mut().for_each(|attacker| {
            attacker.send(&bytes);
        });
        all.iter_mut().for_each(|attacker| {
            attacker.drain();
        });
        time += step;
        // Media a hundred times as fast as it plays, and not as fast as the machine can.
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn assert_few_files(rig: &Rig, name: &str) {
    let files = rig.count_hls_files(&format!("{name}0-"));
    println!("    {files} files of one stream");
    assert!((1..MAX_FILES).contains(&files), "{files} files of one stream");
}

/// Lets large pictures stand while sound goes on in small messages, and then sound be silent while pictures go on: each gap is filled.
pub(crate) fn gaps(rig: &Rig) {
    let name = rig.unique_name("gap") + "-";
    let mut all = publishers(&name, 2, rig);
    let large = picture(100_000);
    send_bursts(&mut all, rig.seconds(2, 60), 2000, |time| {
        let pictures = |count: u32| {
            (0..count).flat_map(|n| single_chunk(6, time + 400 * n, VIDEO, &picture(40))).collect::<Vec<_>>()
        };
        let sounds = |count: u32| {
            (0..count).flat_map(|n| single_chunk(4, time + 400 * n, AUDIO, &AAC_FRAME)).collect::<Vec<_>>()
        };
        match time / 2000 % 120 {
            0 => single_chunk(6, time, VIDEO, &large),
            // Four minutes of sound, and of pictures.
            1..60 => sounds(5),
            _ => pictures(5),
        }
    });
    assert_few_files(rig, &name);
}

/// Describes the sound anew with each frame: all that the fuzz corpus has, MP3, ADTS where none belongs, and nothing.
pub(crate) fn changing_sound(rig: &Rig) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/aac");
    let mut headers: Vec<Vec<u8>> = std::fs::read_dir(corpus)
        .expect("the corpus")
        .map(|entry| [&[0xaf, 0][..], &std::fs::read(entry.expect("an entry").path()).expect("a file")].concat())
        .collect();
    headers.sort();
    headers.extend([vec![0xaf, 0], vec![0x2f, 0xff, 0xfb, 0x90, 0x64], AAC_HEADER.to_vec()]);
    let adts = [&[0xaf, 1, 0xff, 0xf1, 0x50, 0x80, 0x01, 0x9f, 0xfc][..], &[0; 5]].concat();
    let name = rig.unique_name("sound") + "-";
    let mut all = publishers(&name, 4, rig);
    send_bursts(&mut all, rig.seconds(1, 60), 1000, |time| {
        let mut bytes = single_chunk(6, time, VIDEO, &picture(40));
        for (n, header) in (0..).zip(&headers) {
            let at = time + 20 * n;
            bytes.extend(single_chunk(4, at, AUDIO, header));
            bytes.extend(single_chunk(4, at, AUDIO, if n % 3 == 0 { &adts } else { &AAC_FRAME }));
        }
        bytes
    });
    assert_few_files(rig, &name);
}

/// Sends frames that are shown hours before and after they are decoded, times that jump back, and parameters that change each time.
pub(crate) fn odd_pictures(rig: &Rig) {
    let headers = two_headers();
    let name = rig.unique_name("odd") + "-";
    let mut all = publishers(&name, 4, rig);
    let compositions = [0x7f_ffff_u32, 0x80_0000, 0, 0xff_ffff, 5, 0x80_0001];
    send_bursts(&mut all, rig.seconds(1, 60), 500, |time| {
        let mut bytes = Vec::new();
        for (n, composition) in (0..).zip(compositions) {
            let mut frame = picture(40);
            frame[2..5].copy_from_slice(&composition.to_be_bytes()[1..]);
            let at = if n % 2 == 0 { time + 40 * n } else { time.saturating_sub(3000) };
            bytes.extend(single_chunk(6, at, VIDEO, &frame));
            bytes.extend(single_chunk(4, time, AUDIO, &AAC_FRAME));
        }
        let index = usize::from(time / 500 % 2 == 1);
        [&headers[index][..], &bytes].concat()
    });
    assert_few_files(rig, &name);
}
