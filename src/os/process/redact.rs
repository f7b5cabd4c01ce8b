//! A word that is left out of a stream of bytes, also where a read ends within it.

/// Text in its place.
const REDACTED: &str = "…";

/// Filter that leaves a word out.
#[derive(Debug, Default)]
pub(super) struct Redactor {
    /// The word; empty if there is none.
    word: Vec<u8>,
    /// The end of what was read, which may be the begin of the word.
    held: Vec<u8>,
}

impl Redactor {
    /// Creates a redactor of `word`.
    pub(super) fn new(word: Option<&str>) -> Self {
        Self { word: word.unwrap_or_default().as_bytes().to_vec(), held: Vec::new() }
    }

    /// Returns what may be shown after another read.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some(&first) = self.word.first() else { return bytes.to_vec() };
        let mut input = std::mem::take(&mut self.held);
        input.extend_from_slice(bytes);
        let mut shown = Vec::with_capacity(input.len());
        let mut rest = input.as_slice();
        while let Some(at) = rest.iter().position(|byte| *byte == first) {
            shown.extend_from_slice(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix(self.word.as_slice()) {
                shown.extend_from_slice(REDACTED.as_bytes());
                rest = after;
            } else if self.word.starts_with(rest) {
                self.held = rest.to_vec();
                return shown;
            } else {
                shown.push(first);
                rest = &rest[1..];
            }
        }
        shown.extend_from_slice(rest);
        shown
    }

    /// Returns what is left when nothing more comes.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(word: Option<&str>, pieces: &[&[u8]]) -> String {
        let mut redactor = Redactor::new(word);
        let mut all: Vec<u8> = pieces.iter().flat_map(|piece| redactor.push(piece)).collect();
        all.extend(redactor.finish());
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn a_word_is_found_however_the_bytes_are_split() {
        let text = b"srs_engine=12, srs_engine=1 srs_srs_engine=12s srs_engine=12".as_slice();
        let expected = "…, srs_engine=1 srs_…s …";
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(shown(Some("srs_engine=12"), &pieces), expected, "{first} {second}");
            }
        }
    }

    #[test]
    fn without_a_word_all_is_shown() {
        assert_eq!(shown(None, &[b"a", b"b"]), "ab");
        assert_eq!(shown(Some(""), &[b"a", b"b"]), "ab");
        assert_eq!(shown(Some("ab"), &[b"a"]), "a", "what was held is shown at the end");
    }
}
