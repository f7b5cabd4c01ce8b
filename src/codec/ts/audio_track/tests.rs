use super::*;
use crate::codec::flv;

const HEADER_44100: &[u8] = &[0xaf, 0, 0x12, 0x10];
const HEADER_48000: &[u8] = &[0xaf, 0, 0x11, 0x90];
const HEADER_HE_22050: &[u8] = &[0xaf, 0, 0x2b, 0x92, 0x08, 0x00];

fn send(audio: &mut AudioTrack, ms: u64, payload: &[u8]) -> Result<Option<Frame>, AudioError> {
    audio.on_message(ms * 90, &flv::read_audio_header(payload).unwrap(), payload)
}

fn aac(audio: &mut AudioTrack, ms: u64) -> u64 {
    send(audio, ms, &[0xaf, 1, 0x21, 0x10]).unwrap().unwrap().pts
}

#[test]
fn ten_hours_at_each_rate_without_setting_the_clock() {
    for (header, rate) in [(HEADER_44100, 44_100u32), (HEADER_48000, 48_000), (HEADER_HE_22050, 22_050)] {
        let mut audio = AudioTrack::default();
        send(&mut audio, 0, header).unwrap();
        for n in 0..u64::from(rate) * 36_000 / 1024 {
            let exact = n * 1024 * CLOCK_HZ / u64::from(rate);
            assert_eq!(aac(&mut audio, n * 1024 * 1000 / u64::from(rate)), exact.max(1), "frame {n} at {rate} Hz");
        }
        assert_eq!(audio.resyncs(), 0);
    }
}

#[test]
fn jitter_is_smoothed_and_a_jump_is_followed() {
    let mut audio = AudioTrack::default();
    send(&mut audio, 0, HEADER_48000).unwrap();
    for n in 0..1000 {
        let jitter = [0, 29, 3, 0, 17, 25][n as usize % 6];
        assert_eq!(aac(&mut audio, n * 64 / 3 + jitter), (n * 1920).max(1));
    }
    let later = 1000 * 64 / 3 + 500;
    assert_eq!(aac(&mut audio, later), later * 90, "half a second is missing");
    assert_eq!(audio.resyncs(), 1);
}

#[test]
fn a_distance_that_stays_is_closed() {
    let mut audio = AudioTrack::default();
    send(&mut audio, 0, HEADER_48000).unwrap();
    let time = |n: u64| n * 64 / 3;
    for n in 0..10 {
        aac(&mut audio, time(n));
    }
    // Two frames were lost.
    let mut last = 0;
    for n in 12..112 {
        last = aac(&mut audio, time(n));
    }
    assert!(last.abs_diff(time(111) * 90) < 90, "{last}");
    assert_eq!(audio.resyncs(), 1);
}

#[test]
fn a_clock_that_is_set_back_keeps_the_order() {
    let mut audio = AudioTrack::default();
    send(&mut audio, 0, HEADER_48000).unwrap();
    // The first frame was stamped late.
    let mut last = aac(&mut audio, 100);
    for n in 1..200u64 {
        let pts = aac(&mut audio, 40 + n * 64 / 3);
        assert!(pts > last);
        last = pts;
    }
    assert!(last.abs_diff((40 + 199 * 64 / 3) * 90) < 90);
}

/// Found by fuzzing.
#[test]
fn another_rate_keeps_the_order() {
    let mut audio = AudioTrack::default();
    let mp3 = |audio: &mut AudioTrack, ms, rates| {
        let mut message = vec![0; 418];
        message[..5].copy_from_slice(&[0x2f, 0xff, 0xfb, rates, 0x64]);
        send(audio, ms, &message).unwrap().unwrap().pts
    };
    // Stamped closer together than they are long: the clock of 44100 Hz is ahead of the encoder's.
    let last = (0..4).map(|n| mp3(&mut audio, n * 10, 0x90)).last().unwrap();
    let of_48000 = mp3(&mut audio, 40, 0x94);
    assert!(last > 40 * 90 && of_48000 > last, "{of_48000} follows {last}");
}

#[test]
fn what_has_no_place_in_a_transport_stream() {
    let mut audio = AudioTrack::default();
    let unsupported = |result| matches!(result, Err(AudioError::Unsupported(_)));
    assert!(unsupported(send(&mut audio, 0, &[0xb6, 1, 2]).map(drop)), "Speex");
    assert!(unsupported(send(&mut audio, 0, &[0xaf, 0, 0x12, 0x00]).map(drop)), "channels that are described nowhere");
    for _ in 1..MAX_UNCONFIGURED_FRAMES {
        assert!(send(&mut audio, 0, &[0xaf, 1, 1]).unwrap().is_none(), "the header may follow");
    }
    let without_header = send(&mut audio, 0, &[0xaf, 1, 1]).map(drop);
    assert!(matches!(without_header, Err(AudioError::Malformed(why)) if why.contains("sequence header")));
    send(&mut audio, 0, HEADER_44100).unwrap();
    assert!(send(&mut audio, 0, &[0xaf, 1]).unwrap().is_none(), "silence");
    let mut huge = vec![0; 9000];
    huge[..2].copy_from_slice(&[0xaf, 1]);
    assert!(send(&mut audio, 0, &huge).unwrap().is_none(), "longer than ADTS can say");
    aac(&mut audio, 0);
}

#[test]
fn other_parameters_have_another_number() {
    let mut audio = AudioTrack::default();
    let mut parameters = |header: &[u8]| {
        send(&mut audio, 0, header).unwrap();
        send(&mut audio, 0, &[0xaf, 1, 0x21, 0x10]).unwrap().unwrap().parameters
    };
    let of = [HEADER_44100, HEADER_44100, HEADER_48000, HEADER_44100].map(&mut parameters);
    assert!(of[0] == of[1] && of[1] != of[2] && of[2] != of[3], "{of:?}");
    let mut mp3 = |rates| {
        let mut message = vec![0; 418];
        message[..5].copy_from_slice(&[0x2f, 0xff, 0xfb, rates, 0x64]);
        send(&mut audio, 0, &message).unwrap().unwrap().parameters
    };
    assert_ne!(mp3(0x90), mp3(0x94), "44100 and 48000 Hz");
}

#[test]
fn adts_inside_of_messages_is_taken_as_it_is() {
    let config = aac::read_config(&HEADER_48000[2..]).unwrap();
    let adts = [&config.adts_header(2).unwrap()[..], &[0x21, 0x10]].concat();
    let mut audio = AudioTrack::default();
    let two = [&[0xaf, 1][..], &adts, &adts].concat();
    let frame = send(&mut audio, 100, &two).unwrap().unwrap();
    assert_eq!((frame.header(), frame.pts, frame.duration), (&[][..], 9000, 2 * 1920), "without a sequence header");
    let next = send(&mut audio, 142, &[&[0xaf, 1][..], &adts].concat()).unwrap().unwrap();
    assert_eq!((next.parameters, next.pts), (frame.parameters, frame.end()));
    // The header of a frame as the configuration of frames without headers.
    let mut audio = AudioTrack::default();
    send(&mut audio, 0, &[&[0xaf, 0][..], &adts].concat()).unwrap();
    let frame = send(&mut audio, 0, &[0xaf, 1, 0x21, 0x10]).unwrap().unwrap();
    assert_eq!((frame.header(), frame.duration), (&adts[..7], 1920));
}

#[test]
fn silence_continues_the_last_frame() {
    let mut audio = AudioTrack::default();
    assert!(audio.silence(0, 90_000).is_none(), "of an unknown codec");
    send(&mut audio, 0, HEADER_48000).unwrap();
    let (first, _) = audio.silence(4500, 90_000).unwrap();
    assert_eq!((first.pts, first.duration), (4500, 1920), "from the start");
    let (second, data) = audio.silence(0, 90_000).unwrap();
    assert_eq!((second.pts, second.parameters, data.len()), (6420, first.parameters, 6));
    assert!(audio.silence(0, 8340 + 1919).is_none() && audio.silence(0, 8340 + 1920).is_some());
    assert_eq!(aac(&mut audio, 10_260 / 90), 10_260, "sound follows without a gap");
    let mut mp3 = vec![0; 418];
    mp3[..5].copy_from_slice(&[0x2f, 0xff, 0xfb, 0x90, 0x64]);
    send(&mut audio, 200, &mp3).unwrap();
    assert!(audio.silence(0, 90_000).is_none(), "MP3 has none here");
}

#[test]
fn mp3_has_its_own_rates() {
    let mut audio = AudioTrack::default();
    let mut message = vec![0; 418];
    message[..5].copy_from_slice(&[0x2f, 0xff, 0xfb, 0x90, 0x64]);
    let frame = send(&mut audio, 100, &message).unwrap().unwrap();
    assert_eq!((frame.codec, frame.pts, frame.duration), (AudioCodec::Mp3, 9000, 1152 * 90_000 / 44_100));
    assert!(frame.header().is_empty());
    assert!(send(&mut audio, 126, &[0x2f, 0, 0, 0, 0]).unwrap().is_none(), "no frame");
}
