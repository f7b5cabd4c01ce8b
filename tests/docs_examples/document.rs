//! Documents and their parts.

use std::path::{Path, PathBuf};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A fenced block.
pub(crate) struct Block {
    /// File and line, for the message of a failure.
    pub(crate) place: String,
    pub(crate) language: String,
    pub(crate) text: String,
}

/// A document, split into its parts.
pub(crate) struct Document {
    /// Relative to the root.
    pub(crate) path: PathBuf,
    pub(crate) blocks: Vec<Block>,
    /// Lines outside of blocks, each with its place.
    pub(crate) prose: Vec<(String, String)>,
}

impl Document {
    pub(crate) fn parse(path: PathBuf, text: &str) -> Self {
        let mut document = Self { path, blocks: Vec::new(), prose: Vec::new() };
        let mut open: Option<Block> = None;
        for (index, line) in text.lines().enumerate() {
            let place = format!("{}:{}", document.path.display(), index + 1);
            match (line.trim_start().strip_prefix("```"), &mut open) {
                (Some(_), Some(_)) => document.blocks.extend(open.take()),
                (Some(language), None) => {
                    open = Some(Block { place, language: language.to_owned(), text: String::new() });
                }
                (None, Some(block)) => block.text.extend([line, "\n"]),
                (None, None) => document.prose.push((place, line.to_owned())),
            }
        }
        assert!(open.is_none(), "{}: a block does not end", document.path.display());
        document
    }

    /// Returns the targets of links and images, outside of code.
    pub(crate) fn links(&self) -> impl Iterator<Item = (&str, &str)> {
        self.prose.iter().flat_map(|(place, line)| {
            let outside = line.split('`').step_by(2);
            let targets = outside.flat_map(|text| text.split("](").skip(1).filter_map(|rest| rest.split(')').next()));
            targets.map(move |target| (place.as_str(), target))
        })
    }

    /// Returns code within sentences and tables.
    pub(crate) fn inline_code(&self) -> impl Iterator<Item = (&str, &str)> {
        self.prose
            .iter()
            .flat_map(|(place, line)| line.split('`').skip(1).step_by(2).map(move |code| (place.as_str(), code)))
    }

    /// Returns the anchors of the headings, as GitHub makes them.
    pub(crate) fn anchors(&self) -> Vec<String> {
        let headings = self.prose.iter().filter(|(_, line)| line.starts_with('#'));
        headings.map(|(_, line)| anchor(line.trim_start_matches('#').trim())).collect()
    }
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

pub(crate) fn documents() -> Vec<Document> {
    let mut paths: Vec<_> = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(PathBuf::from).into();
    for entry in root().join("docs").read_dir().unwrap() {
        let path = Path::new("docs").join(entry.unwrap().file_name());
        if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path);
        }
    }
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(root().join(&path)).unwrap();
        Document::parse(path, &text)
    };
    paths.into_iter().map(read).collect()
}
