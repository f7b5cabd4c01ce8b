use std::time::{Duration, UNIX_EPOCH};

use super::*;

fn entry(number: u64, duration: u64) -> Entry {
    let started_at = Some(UNIX_EPOCH + Duration::from_millis(1_700_000_000_000 + number * 10_000));
    Entry { number, duration, discontinuity: false, is_first: false, started_at }
}

fn window(window: u64) -> Durations {
    Durations { window, fragment: 2000, target: 2000 }
}

#[test]
fn a_playlist_as_a_file() {
    let mut playlist = Playlist::new("live stream");
    playlist.push(Entry { discontinuity: true, ..entry(7, 10_000) }, &window(60_000));
    playlist.push(entry(8, 9_960), &window(60_000));
    playlist.finish();
    assert_eq!(
        playlist.render(),
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXT-X-MEDIA-SEQUENCE:7\n\
         #EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:14:30.000Z\n#EXTINF:10.000,\nlive%20stream-7.ts\n\
         #EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:14:40.000Z\n#EXTINF:9.960,\nlive%20stream-8.ts\n#EXT-X-ENDLIST\n"
    );
    assert_eq!(Playlist::parse("live stream", &playlist.render()), Some(playlist));
}

#[test]
fn the_window_slides_and_discontinuities_that_left_are_counted() {
    let mut playlist = Playlist::new("s");
    let mut gone = Vec::new();
    for number in 0..10 {
        gone.extend(playlist.push(Entry { discontinuity: number % 3 == 1, ..entry(number, 10_000) }, &window(40_000)));
    }
    assert_eq!(playlist.entries().map(|entry| entry.number).collect::<Vec<_>>(), [6, 7, 8, 9]);
    assert_eq!(gone.iter().map(|entry| entry.number).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    assert!(playlist.render().contains("SEQUENCE:6\n#EXT-X-DISCONTINUITY-SEQUENCE:2\n"), "{}", playlist.render());
    assert_eq!(playlist.next_number(), 10);
}

#[test]
fn it_never_spans_less_than_three_target_durations() {
    let mut playlist = Playlist::new("s");
    for number in 0..20 {
        playlist.push(Entry { started_at: None, ..entry(number, 2000) }, &window(1000));
    }
    assert_eq!(playlist.entries().count(), 3);
    playlist.push(Entry { started_at: None, ..entry(20, 9400) }, &window(1000));
    assert_eq!(playlist.target_duration(), 9);
    for number in 21..40 {
        playlist.push(Entry { started_at: None, ..entry(number, 2000) }, &window(1000));
    }
    assert_eq!(
        (playlist.target_duration(), playlist.entries().count()),
        (9, 14),
        "27 s, and the target never becomes less"
    );
}

#[test]
fn segments_that_take_no_time_are_not_kept_for_that() {
    let mut playlist = Playlist::new("s");
    for number in 0..1000 {
        playlist.push(Entry { started_at: None, ..entry(number, 1) }, &window(10_000));
    }
    assert_eq!(playlist.entries().count(), MIN_SEGMENT_LIMIT, "as many as there may be");
    let mut playlist = Playlist::new("s");
    // Ten seconds apart by the time of day, whatever they say.
    for number in 0..20 {
        playlist.push(entry(number, 1), &window(10_000));
    }
    assert_eq!(playlist.entries().count(), 16, "a few in any case");
    let mut playlist = Playlist::new("s");
    for number in (0..6).chain(100..104) {
        playlist.push(entry(number, 10_000), &window(60_000));
    }
    let left: Vec<_> = playlist.entries().map(|entry| entry.number).collect();
    assert_eq!(left, [100, 101, 102, 103], "after a long pause, what was before it has gone as soon as it may");
}

#[test]
fn a_segment_that_claims_to_be_long_makes_no_playlist_longer() {
    let mut playlist = Playlist::new("s");
    playlist.push(Entry { started_at: None, ..entry(0, 10_000_000) }, &window(10_000));
    for number in 1..1000 {
        playlist.push(Entry { started_at: None, ..entry(number, 1000) }, &window(10_000));
    }
    assert_eq!((playlist.target_duration(), playlist.entries().count()), (10_000, MIN_SEGMENT_LIMIT));
    for number in 1000..2000 {
        playlist.push(Entry { started_at: None, ..entry(number, 4000) }, &window(10_000));
    }
    assert_eq!(playlist.duration(), 3 * 122_000 + 2000, "three of the longest that a segment can be");
    // An hour of short segments is possible if it is configured.
    let hour = Durations { window: 3_600_000, fragment: 500, target: 750 };
    for number in 2000..10_000 {
        playlist.push(Entry { started_at: None, ..entry(number, 500) }, &hour);
    }
    assert_eq!(playlist.duration(), 3_600_000);
}

#[test]
fn the_target_duration_is_that_of_the_longest_segment_to_the_nearest_second() {
    for (duration, target) in [(9499, 9), (9500, 10), (10_499, 10), (10_500, 11)] {
        let mut playlist = Playlist::new("s");
        playlist.push(entry(0, duration), &window(0));
        assert_eq!(playlist.target_duration(), target, "{duration}");
    }
}

#[test]
fn what_is_not_there_any_more_is_taken_out() {
    let mut playlist = Playlist::new("s");
    for number in 3..9 {
        playlist.push(entry(number, 10_000), &window(60_000));
    }
    playlist.remove_through_last(|entry| entry.number == 5);
    assert_eq!(playlist.entries().map(|entry| entry.number).collect::<Vec<_>>(), [6, 7, 8]);
    playlist.skip_number(4);
    assert_eq!((playlist.next_number(), playlist.entries().count()), (9, 3));
    playlist.skip_number(12);
    assert_eq!((playlist.next_number(), playlist.entries().count()), (13, 0));
}

#[test]
fn what_is_no_playlist_of_the_stream_is_not_read() {
    let head = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n";
    for text in [
        String::new(),
        "nonsense".to_owned(),
        format!("{head}#EXTINF:10,\nother-1.ts\n"),
        format!("{head}#EXTINF:10,\n../s-1.ts\n"),
        format!("{head}#EXTINF:10,\ns-1.ts\n#EXTINF:10,\ns-1.ts\n"),
        format!("{head}#EXTINF:10,\ns-99999999999999999999.ts\n"),
        format!("{head}#EXTINF:-1,\ns-1.ts\n"),
        format!("{head}#EXTINF:nan,\ns-1.ts\n"),
        format!("{head}#EXT-X-MEDIA-SEQUENCE:18446744073709551615\n"),
        "#EXTM3U\n#EXT-X-TARGETDURATION:0\n".to_owned(),
    ] {
        assert_eq!(Playlist::parse("s", &text), None, "{text}");
    }
    let nginx = format!("{head}#EXT-X-MEDIA-SEQUENCE:3\n\n#EXT-X-OTHER:1\n#EXTINF:10,\ns-3.ts\n");
    assert_eq!(Playlist::parse("s", &nginx).unwrap().next_number(), 4, "what is unknown is passed over");
}

#[test]
fn names_of_segments() {
    assert_eq!(segment_number("s", "s-12.ts"), Some(12));
    for other in ["s-12.ts.tmp", "s-012.ts", "s-+1.ts", "s-1-2.ts", "s.ts", "t-1.ts", "s-.ts", "s-1.m3u8"] {
        assert_eq!(segment_number("s", other), None, "{other}");
    }
    assert_eq!(percent_encoded("a:b/ü?"), "a%3Ab%2F%C3%BC%3F");
}
