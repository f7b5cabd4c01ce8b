//! Pseudorandom numbers, the same in each run.

/// Generator of pseudorandom numbers (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    /// Creates a generator from `SRS_TEST_ATTACK_SEED`, or else from `seed`. Prints the seed.
    pub(crate) fn new(seed: u64) -> Random {
        let seed = std::env::var("SRS_TEST_ATTACK_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(seed);
        println!("    seed {seed}");
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns a number from 0 to `bound` - 1.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).expect("31 bits") % bound.max(1)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[5]
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }

    /// Returns a copy of `input` with one to six changes: bytes replaced, bits flipped, pieces removed, repeated or copied.
    pub(crate) fn mutate(&mut self, input: &[u8]) -> Vec<u8> {
        let mut out = input.to_vec();
        for _ in 0..=self.below(6) {
            let at = self.below(out.len());
            match self.below(5) {
                0 if !out.is_empty() => out[at] = self.byte(),
                1 if !out.is_empty() => out[at] ^= 1 << self.below(8),
                2 => {
                    let end = (at + 1 + self.below(16)).min(out.len());
                    out.drain(at.min(end)..end);
                }
                3 => {
                    let (byte, times) = ([0, 0xff, 0x7f, self.byte()][self.below(4)], 1 + self.below(8));
                    out.splice(at..at, std::iter::repeat_n(byte, times));
                }
                _ => {
                    let from = self.below(out.len());
                    let piece = out[from..(from + self.below(64)).min(out.len())].to_vec();
                    out.splice(at..at, piece);
                }
            }
        }
        out
    }
}
