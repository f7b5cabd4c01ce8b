//! A short run of each fuzz target on any toolchain: the corpus, every prefix of its small files, and mutations with a fixed
//! seed, which is printed. `trunk-scripts/fuzz.sh` is the long run, guided by coverage.
//!
//! | variable | meaning |
//! |---|---|
//! | `SRS_FUZZ_SECONDS=N` | duration of the mutations of each target (default 1) |
//! | `SRS_FUZZ_SEED=N` | another seed |
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation fails the test")]
#![allow(clippy::disallowed_methods, reason = "the tests measure real time")]

use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[path = "../../fuzz/targets.rs"]
mod targets;

use targets::{TARGETS, Target};

/// Size in bytes up to which every prefix of an input is tried.
const MAX_PREFIXED_SIZE: usize = 600;

/// Mutations that run however slow the machine is.
const MIN_MUTATIONS: u32 = 200;

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut files: Vec<_> = folder.read_dir().expect("a corpus").map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Generator of pseudorandom numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound.max(1)
    }

    /// Returns one of the values that often break decoders, or any other one, with equal probability.
    fn byte(&mut self) -> u8 {
        const ODD: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, 0xfe, 3, 9];
        if self.below(2) == 0 { ODD[self.below(ODD.len())] } else { self.below(256) as u8 }
    }

    fn mutate(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut out = input.to_vec();
        for _ in 0..=self.below(6) {
            let at = self.below(out.len());
            match self.below(6) {
                0 if !out.is_empty() => out[at] = self.byte(),
                1 if !out.is_empty() => out[at] ^= 1 << self.below(8),
                2 => out.truncate(at),
                3 => {
                    let byte = self.byte();
                    let times = 1 + self.below(8);
                    out.splice(at..at, std::iter::repeat_n(byte, times));
                }
                4 => {
                    let end = (at + 1 + self.below(16)).min(out.len());
                    out.drain(at.min(end)..end);
                }
                _ => {
                    let from = self.below(other.len());
                    let piece = &other[from..(from + self.below(64)).min(other.len())];
                    out.splice(at..at, piece.iter().copied());
                }
            }
        }
        out
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Runs one input. If it fails, prints its bytes, so that it can become a test.
fn run((name, target): Target, input: &[u8], what: &str) {
    if let Err(failure) = panic::catch_unwind(AssertUnwindSafe(|| target(input))) {
        let bytes: String = input.iter().take(4096).map(|byte| format!("{byte:02x}")).collect();
        eprintln!("{name}: {what} fails; {} bytes in hexadecimal:\n{bytes}", input.len());
        panic::resume_unwind(failure);
    }
}

fn smoke(name: &str) {
    let target = *TARGETS.iter().find(|(known, _)| *known == name).expect("a target");
    let corpus = corpus(name);
    for (path, input) in &corpus {
        run(target, input, &path.display().to_string());
        if input.len() <= MAX_PREFIXED_SIZE {
            for end in 0..input.len() {
                run(target, &input[..end], &format!("{}, cut at {end}", path.display()));
            }
        }
    }
    let seed = number("SRS_FUZZ_SEED", 1935);
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let deadline = Instant::now() + Duration::from_secs(number("SRS_FUZZ_SECONDS", 1));
    let mut done = 0;
    while done < MIN_MUTATIONS || Instant::now() < deadline {
        let input = &corpus[random.below(corpus.len())].1;
        let other = &corpus[random.below(corpus.len())].1;
        let mutated = random.mutate(input, other);
        run(target, &mutated, &format!("mutation {done} of seed {seed}"));
        done += 1;
    }
    println!("{name}: {} files and {done} mutations, seed {seed}", corpus.len());
}

macro_rules! smoke {
    ($($(#[$condition:meta])* $name:ident)*) => {
        $($(#[$condition])* #[test] fn $name() { smoke(stringify!($name)); })*

        #[test]
        fn each_target_has_its_driver_and_is_run_here() {
            let here: &[&str] = &[$($(#[$condition])* stringify!($name)),*];
            assert_eq!(TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>(), here);
            let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
            for name in here {
                assert!(fuzz.join("fuzz_targets").join(format!("{name}.rs")).is_file(), "{name}");
            }
        }
    };
}

smoke! {
    handshake chunk message session client request amf0 amf3 flv avc hevc aac mp3
    #[cfg(feature = "hls")] ts
    #[cfg(feature = "http")] http
    #[cfg(feature = "http")] http_body
    proxy directive callback_answer spool stream_keys
}
