//! The progress that ffmpeg reports with `-progress`: blocks of lines `key=value`, each block twice a second.

const MAX_LINE: usize = 256;

/// The figures of the last complete block.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Progress {
    pub(crate) reports: u64,
    pub(crate) frames: u64,
    pub(crate) fps: f64,
    pub(crate) out_ms: u64,
    pub(crate) bytes: u64,
    pub(crate) duplicated: u64,
    pub(crate) dropped: u64,
    /// Media time in a second of real time: below 1, ffmpeg is too slow.
    pub(crate) speed: f64,
}

#[derive(Debug, Default)]
pub(crate) struct ProgressReader {
    line: Vec<u8>,
    open: Progress,
    last: Progress,
}

impl ProgressReader {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    self.read_line(&String::from_utf8_lossy(&line));
                }
                _ if self.line.len() < MAX_LINE => self.line.push(byte),
                _ => {}
            }
        }
    }

    pub(super) fn last(&self) -> Progress {
        self.last
    }

    fn read_line(&mut self, line: &str) {
        let Some((key, value)) = line.trim().split_once('=') else { return };
        let value = value.trim();
        // Unknown values are N/A.
        let integer = |old: u64| value.parse::<u64>().unwrap_or(old);
        let float = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite()).unwrap_or(0.0);
        let open = &mut self.open;
        match key {
            "frame" => open.frames = integer(open.frames),
            "fps" => open.fps = float(value),
            // Microseconds, in spite of its name; negative before the first frame.
            "out_time_us" | "out_time_ms" => {
                open.out_ms = value.parse::<i64>().map_or(open.out_ms, |time| u64::try_from(time / 1000).unwrap_or(0));
            }
            "total_size" => open.bytes = integer(open.bytes),
            "dup_frames" => open.duplicated = integer(open.duplicated),
            "drop_frames" => open.dropped = integer(open.dropped),
            "speed" => open.speed = float(value.trim_end_matches('x').trim()),
            "progress" => {
                open.reports += 1;
                self.last = *open;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "frame=123\nfps=25.10\nstream_0_0_q=28.0\nbitrate= 512.3kbits/s\ntotal_size=N/A\nout_time_us=4920000\n\
        out_time_ms=4920000\nout_time=00:00:04.920000\ndup_frames=1\ndrop_frames=2\nspeed=1.01x\nprogress=continue\n";

    #[test]
    fn a_block_counts_when_it_is_complete_however_it_is_split() {
        for split in 0..BLOCK.len() {
            let mut reader = ProgressReader::default();
            reader.push(&BLOCK.as_bytes()[..split]);
            assert_eq!(reader.last().reports, 0);
            reader.push(&BLOCK.as_bytes()[split..]);
            let expected = Progress {
                reports: 1,
                frames: 123,
                fps: 25.1,
                out_ms: 4920,
                bytes: 0,
                duplicated: 1,
                dropped: 2,
                speed: 1.01,
            };
            assert_eq!(reader.last(), expected);
        }
    }

    #[test]
    fn any_bytes_are_read_in_bounds() {
        let mut reader = ProgressReader::default();
        reader.push(&[b'x'; 1_000_000]);
        assert_eq!(reader.line.len(), MAX_LINE);
        reader.push(
            b"\n=\nframe=-1\nframe=99999999999999999999\nspeed=N/A\nfps=inf\nout_time_us=-5\nprogress=end\n\xff\n",
        );
        assert_eq!(reader.last(), Progress { reports: 1, ..Progress::default() });
    }
}
