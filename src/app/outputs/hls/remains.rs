//! What is left of streams that are over: a playlist with nothing in it, which says what number comes next.
//!
//! Whoever still has segments of the stream, a cache for instance, is not to take those of its next publisher for the old ones. But
//! who publishes name after name is not to fill the disk either. So of many names the earliest go, and from then on no stream begins
//! with a number that a stream of such a name has had.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

/// So many playlists stay. One takes a block of the file system, mostly 4 KB.
const MAX_KEPT: usize = 1000;

/// The playlists, those that were emptied first in front.
#[derive(Default)]
pub(super) struct Remains {
    playlists: VecDeque<Remnant>,
    /// No segment of those that are not here any more had this number or a greater one.
    next_number: u64,
}

/// A playlist without segments.
pub(super) struct Remnant {
    /// `hls_path`.
    pub(super) root: PathBuf,
    pub(super) path: PathBuf,
    /// What is in the file.
    pub(super) text: String,
    pub(super) next_number: u64,
}

impl Remains {
    /// Keeps a playlist, and removes the earliest if they are too many.
    pub(super) fn keep(&mut self, remnant: Remnant) {
        self.playlists.push_back(remnant);
        while self.playlists.len() > MAX_KEPT
            && let Some(first) = self.playlists.pop_front()
        {
            self.next_number = self.next_number.max(first.next_number);
            first.remove();
        }
    }

    /// The stream of this playlist is published again.
    pub(super) fn release(&mut self, path: &Path) {
        self.playlists.retain(|remnant| remnant.path != path);
    }

    /// What a stream may begin with of which nothing is there.
    pub(super) fn next_number(&self) -> u64 {
        self.next_number
    }
}

impl Remnant {
    /// With the directories that have nothing else in them.
    fn remove(self) {
        // Another server with the same hls_path may have gone on with it.
        let is_ours = fs::read_to_string(&self.path).is_ok_and(|text| text == self.text);
        if !is_ours || fs::remove_file(&self.path).is_err() {
            return;
        }
        remove_empty(&self.path, &self.root);
    }
}

/// Removes the directories that `path` is in, below `root`, if they have nothing else in them.
pub(super) fn remove_empty(path: &Path, root: &Path) {
    let above = path.ancestors().skip(1).take_while(|folder| *folder != root);
    // One that is not empty is not removed.
    let _ = above.map(fs::remove_dir).take_while(Result::is_ok).count();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_the_earliest_go_with_their_directories() {
        let root = tempfile::tempdir().unwrap();
        let mut remains = Remains::default();
        let path = |n: usize| root.path().join(format!("app{}/{}/s{n}.m3u8", n / 2, n % 2));
        let mut keep = |n: usize| {
            fs::create_dir_all(path(n).parent().unwrap()).unwrap();
            fs::write(path(n), "empty").unwrap();
            let root = root.path().to_owned();
            remains.keep(Remnant { root, path: path(n), text: "empty".into(), next_number: 10 - n.min(9) as u64 });
            if n == 2 {
                remains.release(&path(2));
            }
            remains.next_number()
        };
        assert_eq!((0..=MAX_KEPT).map(&mut keep).max(), Some(0), "one of them is published again");
        fs::write(path(4), "of somebody else").unwrap();
        assert_eq!(keep(MAX_KEPT + 1), 10);
        assert!(!path(0).exists() && path(0).ancestors().nth(2).unwrap().exists(), "the next one is in there");
        keep(MAX_KEPT + 2);
        assert!(!path(0).ancestors().nth(2).unwrap().exists());
        (3..6).for_each(|n| assert_eq!(keep(MAX_KEPT + n), 10, "the greatest counts"));
        assert_eq!([2, 3, 4, 5, 6].map(|n| path(n).exists()), [true, false, true, false, true]);
        assert!(root.path().exists());
    }
}
