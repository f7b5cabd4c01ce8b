//! Media playlists (RFC 8216): which segments a player may load, and how they follow each other.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};

use super::segmenter::MAX_GOP;

/// The fewest target durations that a playlist spans (RFC 8216, section 6.2.2).
const LEAST_TARGETS: u64 = 3;

/// What part of `hls_fragment` segments may be, on the average, for a playlist to have all of what it is to span.
const SHORT_PART: u64 = 2;

/// So many segments a playlist may have, whatever it is to span.
const MANY: usize = 256;

/// So many segments are not too old, whatever the time of day is.
const FEW: usize = 16;

/// Segments of an old playlist that are taken from it, the last ones.
const MAX_READ: usize = 10_000;

/// A segment in a playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// What its file's name ends with: `<stream>-<number>.ts`.
    pub(super) number: u64,
    /// In milliseconds.
    pub(super) duration: u64,
    /// It does not go on where the one before it ended.
    pub(super) discontinuity: bool,
    /// The time of day at its start.
    pub(super) at: Option<SystemTime>,
}

/// What the configuration says of a playlist, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lengths {
    /// `hls_window`.
    pub(super) window: u64,
    /// `hls_fragment`.
    pub(super) fragment: u64,
    /// `hls_fragment` times `hls_td_ratio`.
    pub(super) target: u64,
}

impl Lengths {
    /// The most segments. It is not for the stream to say: each is a line of a text that is made again for each segment.
    fn most(&self) -> usize {
        let span = self.window.max(LEAST_TARGETS.saturating_mul(self.target));
        usize::try_from(span / (self.fragment / SHORT_PART).max(1)).unwrap_or(usize::MAX).max(MANY)
    }
}

/// A sliding window over the segments of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Playlist {
    /// The stream's name without its directories.
    name: String,
    entries: VecDeque<Entry>,
    /// The sequence number of the first entry, or of the next one if there is none.
    sequence: u64,
    discontinuity_sequence: u64,
    /// In seconds. It never becomes less.
    target: u64,
    is_ended: bool,
}

impl Playlist {
    /// An empty playlist of the stream of this name.
    pub(super) fn new(name: &str) -> Self {
        let entries = VecDeque::new();
        Self { name: name.to_owned(), entries, sequence: 0, discontinuity_sequence: 0, target: 1, is_ended: false }
    }

    pub(super) fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The number that no segment has had yet.
    pub(super) fn next_number(&self) -> u64 {
        // They differ where a segment could not be written.
        self.entries.back().map_or(0, |entry| entry.number + 1).max(self.sequence + self.entries.len() as u64)
    }

    /// In seconds.
    pub(super) fn target(&self) -> u64 {
        self.target
    }

    /// All that it spans, in milliseconds.
    pub(super) fn duration(&self) -> u64 {
        self.entries.iter().map(|entry| entry.duration).sum()
    }

    /// From the start of the first segment to that of the last, by the time of day: what a stream says of its durations need not be so.
    pub(super) fn span(&self) -> Duration {
        let at = |entry: Option<&Entry>| entry.and_then(|entry| entry.at);
        let (first, last) = (at(self.entries.front()), at(self.entries.back()));
        first.zip(last).and_then(|(first, last)| last.duration_since(first).ok()).unwrap_or_default()
    }

    /// Appends a segment and takes out those at the front which leave the window and three target durations behind them, a target
    /// duration being no longer here than a segment can be; and those that are too many, or too old by the time of day: a stream may
    /// say that its segments take no time at all, or hours. Gives back what was taken out.
    pub(super) fn push(&mut self, entry: Entry, lengths: &Lengths) -> Vec<Entry> {
        self.is_ended = false;
        self.target = self.target.max(lengths.target.div_ceil(1000));
        // To the nearest second, as the target duration is compared (section 4.3.3.1).
        self.target = self.target.max((entry.duration + 500) / 1000);
        if self.entries.is_empty() {
            // Nothing can have been numbered since.
            self.sequence = self.sequence.max(entry.number);
        }
        self.entries.push_back(entry);
        let longest = lengths.target.max(lengths.fragment.saturating_add(MAX_GOP));
        let targets = LEAST_TARGETS * (self.target * 1000).min(longest);
        let least = lengths.window.max(targets);
        let mut left = self.duration();
        let mut gone = Vec::new();
        let most = lengths.most();
        let oldest = Duration::from_millis(2 * least);
        while let Some(first) = self.entries.front()
            && (left - first.duration >= least
                || self.entries.len() > most
                || self.span() > oldest && (self.entries.len() > FEW || left - first.duration >= targets))
        {
            left -= first.duration;
            gone.extend(self.remove_first());
        }
        gone
    }

    fn remove_first(&mut self) -> Option<Entry> {
        let first = self.entries.pop_front()?;
        self.sequence += 1;
        // It counts those that are no longer in the playlist (section 6.2.2).
        self.discontinuity_sequence += u64::from(first.discontinuity);
        Some(first)
    }

    /// Takes all segments out; what comes next is not what came before.
    pub(super) fn clear(&mut self) -> Vec<Entry> {
        std::iter::from_fn(|| self.remove_first()).collect()
    }

    /// Takes out the first segments, up to and with the last one for which `is_gone`: a playlist has no holes.
    pub(super) fn retain_from_last(&mut self, is_gone: impl Fn(&Entry) -> bool) {
        let keep = self.entries.iter().rposition(is_gone).map_or(0, |at| at + 1);
        for _ in 0..keep {
            self.remove_first();
        }
    }

    /// Has the next number be greater than this one, whose name is taken.
    pub(super) fn skip_number(&mut self, taken: u64) {
        if taken >= self.next_number() {
            self.clear();
            self.sequence = taken + 1;
        }
    }

    /// Nothing follows.
    pub(super) fn end(&mut self) {
        self.is_ended = true;
    }

    /// The name of a segment's file.
    pub(super) fn file_name(&self, number: u64) -> String {
        format!("{}-{number}.ts", self.name)
    }

    /// As a file.
    pub(super) fn text(&self) -> String {
        let mut text = String::with_capacity(160 + self.entries.len() * (100 + self.name.len()));
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{}\n",
            self.target, self.sequence
        );
        if self.discontinuity_sequence > 0 {
            let _ = writeln!(text, "#EXT-X-DISCONTINUITY-SEQUENCE:{}", self.discontinuity_sequence);
        }
        let name = encoded(&self.name);
        for Entry { number, duration, discontinuity, at } in &self.entries {
            if *discontinuity {
                text.push_str("#EXT-X-DISCONTINUITY\n");
            }
            if let Some(at) = at {
                let at = DateTime::<Utc>::from(*at).to_rfc3339_opts(SecondsFormat::Millis, true);
                let _ = writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:{at}");
            }
            let _ = writeln!(text, "#EXTINF:{}.{:03},\n{name}-{number}.ts", duration / 1000, duration % 1000);
        }
        if self.is_ended {
            text.push_str("#EXT-X-ENDLIST\n");
        }
        text
    }

    /// Reads a playlist of ours, for the stream to go on. `None` if the text is none: nothing of it is to be relied on.
    pub(super) fn read(name: &str, text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != "#EXTM3U" {
            return None;
        }
        let mut playlist = Self::new(name);
        let mut next = Entry { number: 0, duration: 0, discontinuity: false, at: None };
        let prefix = format!("{}-", encoded(name));
        for line in lines {
            if let Some(target) = line.strip_prefix("#EXT-X-TARGETDURATION:") {
                playlist.target = target.parse().ok().filter(|target| (1..=86_400).contains(target))?;
            } else if let Some(sequence) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
                // With room for all that is to come.
                playlist.sequence = sequence.parse().ok().filter(|&sequence| sequence < u64::MAX / 2)?;
            } else if let Some(sequence) = line.strip_prefix("#EXT-X-DISCONTINUITY-SEQUENCE:") {
                playlist.discontinuity_sequence = sequence.parse().ok().filter(|&sequence| sequence < u64::MAX / 2)?;
            } else if line == "#EXT-X-DISCONTINUITY" {
                next.discontinuity = true;
            } else if line == "#EXT-X-ENDLIST" {
                playlist.is_ended = true;
            } else if let Some(at) = line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:") {
                next.at = DateTime::parse_from_rfc3339(at).ok().map(SystemTime::from);
            } else if let Some(duration) = line.strip_prefix("#EXTINF:") {
                next.duration = milliseconds(duration.split(',').next()?)?;
            } else if !line.starts_with('#') && !line.is_empty() {
                let number = line.strip_prefix(&prefix)?.strip_suffix(".ts")?;
                next.number = number.parse().ok().filter(|&number| number < u64::MAX / 2)?;
                let ascends = playlist.entries.back().is_none_or(|last| last.number < next.number);
                if !ascends {
                    return None;
                }
                if playlist.entries.len() >= MAX_READ {
                    playlist.remove_first();
                }
                let empty = Entry { number: 0, duration: 0, discontinuity: false, at: None };
                playlist.entries.push_back(std::mem::replace(&mut next, empty));
            }
        }
        Some(playlist)
    }
}

/// The number in the name of a segment's file of this stream.
pub(super) fn number_of(name: &str, file: &str) -> Option<u64> {
    let digits = file.strip_prefix(name)?.strip_prefix('-')?.strip_suffix(".ts")?;
    // As we write them: no sign, no zeros in front.
    digits.parse().ok().filter(|number: &u64| number.to_string() == digits)
}

/// `12.345` or `12`, at most a day.
fn milliseconds(text: &str) -> Option<u64> {
    let seconds: f64 = text.parse().ok()?;
    (0.0..=86_400.0).contains(&seconds).then_some((seconds * 1000.0).round() as u64)
}

/// A name as a part of a URI: whatever could be taken for something else is percent-encoded (RFC 3986, section 2.3).
fn encoded(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn entry(number: u64, duration: u64) -> Entry {
        let at = Some(UNIX_EPOCH + Duration::from_millis(1_700_000_000_000 + number * 10_000));
        Entry { number, duration, discontinuity: false, at }
    }

    /// Of a window of so many milliseconds, with segments of 2 s.
    fn window(window: u64) -> Lengths {
        Lengths { window, fragment: 2000, target: 2000 }
    }

    #[test]
    fn a_playlist_as_a_file() {
        let mut playlist = Playlist::new("live stream");
        playlist.push(Entry { discontinuity: true, ..entry(7, 10_000) }, &window(60_000));
        playlist.push(entry(8, 9_960), &window(60_000));
        playlist.end();
        assert_eq!(
            playlist.text(),
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXT-X-MEDIA-SEQUENCE:7\n\
             #EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:14:30.000Z\n#EXTINF:10.000,\nlive%20stream-7.ts\n\
             #EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:14:40.000Z\n#EXTINF:9.960,\nlive%20stream-8.ts\n#EXT-X-ENDLIST\n"
        );
        assert_eq!(Playlist::read("live stream", &playlist.text()), Some(playlist));
    }

    #[test]
    fn the_window_slides_and_discontinuities_that_left_are_counted() {
        let mut playlist = Playlist::new("s");
        let mut gone = Vec::new();
        for number in 0..10 {
            gone.extend(
                playlist.push(Entry { discontinuity: number % 3 == 1, ..entry(number, 10_000) }, &window(40_000)),
            );
        }
        assert_eq!(playlist.entries().map(|entry| entry.number).collect::<Vec<_>>(), [6, 7, 8, 9]);
        assert_eq!(gone.iter().map(|entry| entry.number).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
        assert!(playlist.text().contains("SEQUENCE:6\n#EXT-X-DISCONTINUITY-SEQUENCE:2\n"), "{}", playlist.text());
        assert_eq!(playlist.next_number(), 10);
    }

    #[test]
    fn it_never_spans_less_than_three_target_durations() {
        let mut playlist = Playlist::new("s");
        for number in 0..20 {
            playlist.push(Entry { at: None, ..entry(number, 2000) }, &window(1000));
        }
        assert_eq!(playlist.entries().count(), 3);
        playlist.push(Entry { at: None, ..entry(20, 9400) }, &window(1000));
        assert_eq!(playlist.target(), 9);
        for number in 21..40 {
            playlist.push(Entry { at: None, ..entry(number, 2000) }, &window(1000));
        }
        assert_eq!((playlist.target(), playlist.entries().count()), (9, 14), "27 s, and the target never becomes less");
    }

    #[test]
    fn segments_that_take_no_time_are_not_kept_for_that() {
        let mut playlist = Playlist::new("s");
        for number in 0..1000 {
            playlist.push(Entry { at: None, ..entry(number, 1) }, &window(10_000));
        }
        assert_eq!(playlist.entries().count(), MANY, "as many as there may be");
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
        playlist.push(Entry { at: None, ..entry(0, 10_000_000) }, &window(10_000));
        for number in 1..1000 {
            playlist.push(Entry { at: None, ..entry(number, 1000) }, &window(10_000));
        }
        assert_eq!((playlist.target(), playlist.entries().count()), (10_000, MANY));
        for number in 1000..2000 {
            playlist.push(Entry { at: None, ..entry(number, 4000) }, &window(10_000));
        }
        assert_eq!(playlist.duration(), 3 * 122_000 + 2000, "three of the longest that a segment can be");
        // Whoever wants an hour of short segments has it.
        let hour = Lengths { window: 3_600_000, fragment: 500, target: 750 };
        for number in 2000..10_000 {
            playlist.push(Entry { at: None, ..entry(number, 500) }, &hour);
        }
        assert_eq!(playlist.duration(), 3_600_000);
    }

    #[test]
    fn the_target_duration_is_that_of_the_longest_segment_to_the_nearest_second() {
        for (duration, target) in [(9499, 9), (9500, 10), (10_499, 10), (10_500, 11)] {
            let mut playlist = Playlist::new("s");
            playlist.push(entry(0, duration), &window(0));
            assert_eq!(playlist.target(), target, "{duration}");
        }
    }

    #[test]
    fn what_is_not_there_any_more_is_taken_out() {
        let mut playlist = Playlist::new("s");
        for number in 3..9 {
            playlist.push(entry(number, 10_000), &window(60_000));
        }
        playlist.retain_from_last(|entry| entry.number == 5);
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
            assert_eq!(Playlist::read("s", &text), None, "{text}");
        }
        let nginx = format!("{head}#EXT-X-MEDIA-SEQUENCE:3\n\n#EXT-X-OTHER:1\n#EXTINF:10,\ns-3.ts\n");
        assert_eq!(Playlist::read("s", &nginx).unwrap().next_number(), 4, "what is unknown is passed over");
    }

    #[test]
    fn names_of_segments() {
        assert_eq!(number_of("s", "s-12.ts"), Some(12));
        for other in ["s-12.ts.tmp", "s-012.ts", "s-+1.ts", "s-1-2.ts", "s.ts", "t-1.ts", "s-.ts", "s-1.m3u8"] {
            assert_eq!(number_of("s", other), None, "{other}");
        }
        assert_eq!(encoded("a:b/ü?"), "a%3Ab%2F%C3%BC%3F");
    }
}
