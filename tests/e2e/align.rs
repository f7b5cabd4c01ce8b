//! Compares received frames with published frames: payloads and timestamps.
//!
//! Audio and video are compared separately, because clients may interleave them differently. Sequence headers and metadata are
//! not frames and are checked separately.

use std::ops::Range;

use crate::common::flv::{AUDIO, Tag, VIDEO};

/// Highest distance, in milliseconds, between the keyframe and the audio frame that a player starts with: two frames of AAC or
/// MP3.
const MAX_AUDIO_DISTANCE: u32 = 60;

/// Frames of one kind.
struct Run {
    published: Vec<Tag>,
    received: Vec<Tag>,
    /// The published frames that were received, in this order and no others.
    range: Range<usize>,
}

/// Received frames and their places among the published frames.
pub(crate) struct Aligned {
    runs: Vec<Run>,
}

impl Aligned {
    /// Locates the received frames among the published ones. Fails unless, for each published kind, they are an unbroken run
    /// after the same sequence header.
    pub(crate) fn new(published: &[Tag], received: &[Tag]) -> Aligned {
        let mut runs = Vec::new();
        for kind in [VIDEO, AUDIO] {
            let frames =
                |tags: &[Tag]| tags.iter().filter(|t| t.kind == kind && t.is_frame()).cloned().collect::<Vec<_>>();
            let header =
                |tags: &[Tag]| tags.iter().find(|t| t.kind == kind && t.is_header()).map(|t| t.payload.clone());
            let (published_frames, received_frames) = (frames(published), frames(received));
            if published_frames.is_empty() {
                assert!(received_frames.is_empty(), "type {kind} was received, but not published");
                continue;
            }
            assert!(!received_frames.is_empty(), "no frame of type {kind} was received, of {}", published_frames.len());
            assert_eq!(header(published), header(received), "the sequence header of type {kind}");
            let range =
                locate(&published_frames, &received_frames).unwrap_or_else(|error| panic!("type {kind}: {error}"));
            runs.push(Run { published: published_frames, received: received_frames, range });
        }
        Aligned { runs }
    }

    /// Forgets the last published frame of each kind if it was not received. At StreamEof, GStreamer's rtmp2src drops a frame
    /// that it has not handed on yet.
    pub(crate) fn without_lost_end(mut self) -> Aligned {
        for run in &mut self.runs {
            if run.range.end + 1 == run.published.len() {
                run.published.pop();
            }
        }
        self
    }

    /// Fails unless each published frame was received, with timestamps that differ by one constant for audio and video.
    pub(crate) fn assert_whole(&self) -> &Aligned {
        for run in &self.runs {
            assert_eq!(
                run.range,
                0..run.published.len(),
                "the frames of type {} that were received",
                run.published[0].kind
            );
        }
        self.assert_one_shift()
    }

    /// Fails unless each frame from a later keyframe to the end was received, with the audio of the same time, and with
    /// timestamps that differ by one constant for audio and video.
    pub(crate) fn assert_tail(&self) -> &Aligned {
        let mut keyframe = None;
        for run in &self.runs {
            let first = &run.published[run.range.start];
            assert_eq!(run.range.end, run.published.len(), "the end of the frames of type {} was received", first.kind);
            assert!(run.range.start > 0, "the player joined later, but got all frames of type {}", first.kind);
            match (first.kind, keyframe) {
                (VIDEO, _) => {
                    assert!(first.is_keyframe(), "the first video frame is not a keyframe: {first:?}");
                    keyframe = Some(first.timestamp);
                }
                (_, Some(keyframe)) => {
                    let apart = first.timestamp.abs_diff(keyframe);
                    assert!(
                        apart <= MAX_AUDIO_DISTANCE,
                        "the first audio, {first:?}, is {apart} ms from the keyframe at {keyframe} ms"
                    );
                }
                _ => {}
            }
        }
        self.assert_one_shift()
    }

    /// Fails unless the last published frames were received.
    pub(crate) fn assert_to_the_end(&self) -> &Aligned {
        for run in &self.runs {
            assert_eq!(run.range.end, run.published.len(), "the end of the frames of type {}", run.published[0].kind);
        }
        self
    }

    /// Fails unless the timestamps differ from the published ones by one constant for audio and video.
    pub(crate) fn assert_one_shift(&self) -> &Aligned {
        let mut shift = None;
        for run in &self.runs {
            for (published, received) in run.published[run.range.clone()].iter().zip(&run.received) {
                let this = received.timestamp.wrapping_sub(published.timestamp);
                let first = *shift.get_or_insert(this);
                assert!(
                    this == first,
                    "{published:?} was received at {} ms, {} ms off from the frames before",
                    received.timestamp,
                    this.wrapping_sub(first).cast_signed()
                );
            }
        }
        self
    }

    /// Fails unless each timestamp is within `bound` ms of its place after the first frame, and timestamps never decrease.
    pub(crate) fn assert_shift_within(&self, bound: u32) -> &Aligned {
        let mut shift = None;
        for run in &self.runs {
            for (published, received) in run.published[run.range.clone()].iter().zip(&run.received) {
                // Modulo 2^31: some clients drop the highest bit of their timestamps.
                let this = received.timestamp.wrapping_sub(published.timestamp) & 0x7fff_ffff;
                let first = *shift.get_or_insert(this);
                let off = this.wrapping_sub(first).cast_signed();
                assert!(
                    off.unsigned_abs() <= bound,
                    "{published:?} was received at {} ms, {off} ms off",
                    received.timestamp
                );
            }
        }
        for run in &self.runs {
            assert_monotone(&run.received);
        }
        self
    }

    /// Fails unless the first received frame is at the start of the timeline.
    pub(crate) fn assert_starts_at_zero(&self) -> &Aligned {
        let first = self.runs.iter().map(|run| run.received[0].timestamp).min();
        assert!(first.is_some_and(|first| first <= MAX_AUDIO_DISTANCE), "the timeline starts at {first:?} ms");
        self
    }
}

/// Fails if the timestamps of a kind decrease.
pub(crate) fn assert_monotone(tags: &[Tag]) {
    for kind in [VIDEO, AUDIO] {
        let frames: Vec<_> = tags.iter().filter(|tag| tag.kind == kind && tag.is_frame()).collect();
        for pair in frames.windows(2) {
            assert!(
                pair[0].timestamp <= pair[1].timestamp,
                "the timestamps decrease from {:?} to {:?}",
                pair[0],
                pair[1]
            );
        }
    }
}

/// Returns the range of `published` with the payloads of `received`.
fn locate(published: &[Tag], received: &[Tag]) -> Result<Range<usize>, String> {
    let same =
        |start: usize| published[start..].iter().zip(received).take_while(|(p, r)| p.payload == r.payload).count();
    let starts = (0..published.len()).filter(|&start| published[start].payload == received[0].payload);
    let Some((start, count)) = starts.map(|start| (start, same(start))).max_by_key(|&(_, count)| count) else {
        return Err(format!("the first frame received was never published: {:?}", received[0]));
    };
    if count < received.len() {
        let (due, got) = (published.get(start + count), &received[count]);
        let at = published.iter().position(|tag| tag.payload == got.payload);
        return Err(format!(
            "after {count} of {} frames, from the published number {start} on, due was {due:?}, but received was {got:?}, \
             which is the published number {at:?} of {}",
            received.len(),
            published.len()
        ));
    }
    Ok(start..start + count)
}

mod tests {
    use super::{Aligned, assert_monotone};
    use crate::common::flv::{AUDIO, Tag, VIDEO};

    /// Returns two GOPs of five frames, 40 ms apart, with audio.
    fn published() -> Vec<Tag> {
        let mut tags = vec![Tag { kind: VIDEO, timestamp: 0, payload: vec![0x17, 0, 9] }];
        for number in 0..10_u8 {
            let timestamp = u32::from(number) * 40;
            let first = if number % 5 == 0 { 0x17 } else { 0x27 };
            tags.push(Tag { kind: VIDEO, timestamp, payload: vec![first, 1, number] });
            tags.push(Tag { kind: AUDIO, timestamp, payload: vec![0x2f, number] });
        }
        tags
    }

    fn shifted(tags: &[Tag], shift: u32) -> Vec<Tag> {
        tags.iter().map(|tag| Tag { timestamp: tag.timestamp.wrapping_add(shift), ..tag.clone() }).collect()
    }

    /// Returns true if the check panics.
    fn fails(check: impl FnOnce() + std::panic::UnwindSafe) -> bool {
        std::panic::catch_unwind(check).is_err()
    }

    #[test]
    fn a_faithful_copy_passes() {
        let all = published();
        Aligned::new(&all, &shifted(&all, 1000)).assert_whole();
        let mut tail = vec![all[0].clone()];
        tail.extend(shifted(&all[11..], 0_u32.wrapping_sub(200)));
        Aligned::new(&all, &tail).assert_tail().assert_starts_at_zero();
    }

    #[test]
    fn each_kind_of_damage_fails() {
        let all = published();
        let changed = |change: fn(&mut Vec<Tag>)| {
            let mut tags = published();
            change(&mut tags);
            tags
        };
        for (what, received) in [
            ("a frame is lost", changed(|tags| drop(tags.remove(5)))),
            ("the last frame is lost", changed(|tags| drop(tags.pop()))),
            ("a byte is changed", changed(|tags| tags[7].payload[2] ^= 1)),
            ("a frame comes twice", changed(|tags| tags.insert(6, tags[5].clone()))),
            ("the header is lost", changed(|tags| drop(tags.remove(0)))),
            ("audio is late", changed(|tags| tags[8].timestamp += 1)),
        ] {
            let all = all.clone();
            let check = move || {
                Aligned::new(&all, &received).assert_whole();
            };
            assert!(fails(check), "{what}");
        }
        let mut middle = vec![all[0].clone()];
        middle.extend_from_slice(&all[3..]);
        let check = move || {
            Aligned::new(&all, &middle).assert_tail();
        };
        assert!(fails(check), "a tail that does not start with a keyframe");
        assert!(fails(|| assert_monotone(&changed(|tags| tags.swap(3, 5)))), "decreasing timestamps");
    }
}
