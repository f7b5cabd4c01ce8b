//! Empty playlists of ended streams. Each keeps the number of the stream's next segment on disk.
//!
//! A cache may still have segments of the stream and must not take those of its next publisher for them, so numbers are not
//! used twice. A client that publishes name after name must not fill the disk either: of too many playlists the oldest are
//! removed, and from then on new streams start with a number that no removed one has used.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

/// Maximum number of tombstones. Each takes one block of the file system, usually 4 KB.
const MAX_TOMBSTONES: usize = 1000;

#[derive(Default)]
pub(super) struct Tombstones {
    playlists: VecDeque<Tombstone>,
    /// Greater than each segment number of the removed tombstones.
    next_number: u64,
}

pub(super) struct Tombstone {
    pub(super) root: PathBuf,
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) next_number: u64,
}

impl Tombstones {
    pub(super) fn add(&mut self, tombstone: Tombstone) {
        self.playlists.push_back(tombstone);
        while self.playlists.len() > MAX_TOMBSTONES
            && let Some(oldest) = self.playlists.pop_front()
        {
            self.next_number = self.next_number.max(oldest.next_number);
            oldest.remove_file();
        }
    }

    /// Removes the tombstone of a stream that is published again. Its file stays.
    pub(super) fn remove(&mut self, playlist: &Path) {
        self.playlists.retain(|tombstone| tombstone.path != playlist);
    }

    pub(super) fn next_number(&self) -> u64 {
        self.next_number
    }
}

impl Tombstone {
    fn remove_file(self) {
        // Another server with the same hls_path may have continued the playlist.
        let is_unchanged = fs::read_to_string(&self.path).is_ok_and(|text| text == self.text);
        if is_unchanged && fs::remove_file(&self.path).is_ok() {
            remove_empty_dirs(&self.path, &self.root);
        }
    }
}

pub(super) fn remove_empty_dirs(path: &Path, root: &Path) {
    let parents = path.ancestors().skip(1).take_while(|dir| *dir != root);
    // Fails at the first directory that is not empty.
    let _ = parents.map(fs::remove_dir).take_while(Result::is_ok).count();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_the_earliest_go_with_their_directories() {
        let root = tempfile::tempdir().unwrap();
        let mut tombstones = Tombstones::default();
        let path = |n: usize| root.path().join(format!("app{}/{}/s{n}.m3u8", n / 2, n % 2));
        let mut add = |n: usize| {
            fs::create_dir_all(path(n).parent().unwrap()).unwrap();
            fs::write(path(n), "empty").unwrap();
            let (root, next_number) = (root.path().to_owned(), 10 - n.min(9) as u64);
            tombstones.add(Tombstone { root, path: path(n), text: "empty".into(), next_number });
            if n == 2 {
                tombstones.remove(&path(2));
            }
            tombstones.next_number()
        };
        assert_eq!((0..=MAX_TOMBSTONES).map(&mut add).max(), Some(0), "one of them is published again");
        fs::write(path(4), "of somebody else").unwrap();
        assert_eq!(add(MAX_TOMBSTONES + 1), 10);
        assert!(!path(0).exists() && path(0).ancestors().nth(2).unwrap().exists(), "the next one is in there");
        add(MAX_TOMBSTONES + 2);
        assert!(!path(0).ancestors().nth(2).unwrap().exists());
        (3..6).for_each(|n| assert_eq!(add(MAX_TOMBSTONES + n), 10, "the greatest counts"));
        assert_eq!([2, 3, 4, 5, 6].map(|n| path(n).exists()), [true, false, true, false, true]);
        assert!(root.path().exists());
    }
}
