//! `include FILE…;`: replaced by the directives of other files.
//!
//! A path is relative to the including file. With `*`, `?` or `[…]` it names all matching files in alphabetical order,
//! possibly none; a wildcard does not match a leading dot.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::directive::{self, Directive, Word};
use super::error::{Error, Reason, position, quote};

/// The name of the directive.
pub(super) const INCLUDE: &str = "include";

/// Maximum nesting of includes. Two levels are in use.
const MAX_DEPTH: usize = 8;

/// Maximum number of included files, and maximum size of one: wildcards that match more are a mistake.
const MAX_FILES: usize = 1000;
const MAX_BYTES: u64 = 16 << 20;

/// Replaces the includes in `tree`, which was parsed from `file`, by the directives of the included files.
pub(super) fn expand(file: &str, tree: Vec<Directive>) -> Result<Vec<Directive>, Error> {
    // Empty for text that is no file, as in tests.
    let open = std::fs::canonicalize(file).into_iter().collect();
    Expansion { open, count: 0 }.block(tree)
}

struct Expansion {
    /// The files that are being expanded, outermost first.
    open: Vec<PathBuf>,
    /// Files included so far.
    count: usize,
}

impl Expansion {
    fn block(&mut self, tree: Vec<Directive>) -> Result<Vec<Directive>, Error> {
        let mut all = Vec::with_capacity(tree.len());
        for mut directive in tree {
            if directive.name.text == INCLUDE && !directive.name.quoted {
                self.include(&directive, &mut all)?;
            } else {
                directive.block = directive.block.map(|block| self.block(block)).transpose()?;
                all.push(directive);
            }
        }
        Ok(all)
    }

    fn include(&mut self, directive: &Directive, all: &mut Vec<Directive>) -> Result<(), Error> {
        let problem = |reason: Reason| Error::of_problem(directive.name.position(), reason);
        if directive.block.is_some() || directive.args.is_empty() {
            let text =
                "\"include\" takes the path of a file, or a pattern for several; e.g. \"include conf.d/*.conf;\"";
            return Err(problem(Reason::Other(text.to_owned())));
        }
        for word in &directive.args {
            for path in paths(word).map_err(|message| problem(cannot_include(word, &message)))? {
                self.count += 1;
                if self.count > MAX_FILES {
                    return Err(problem(Reason::Other(format!("more than {MAX_FILES} files are included"))));
                }
                let canonical =
                    std::fs::canonicalize(&path).map_err(|e| problem(cannot_include(word, &read_error(&e))))?;
                if self.open.contains(&canonical) {
                    let message = format!("{} would include itself", path.display());
                    return Err(problem(cannot_include(word, &message)));
                }
                if self.open.len() > MAX_DEPTH {
                    let message = format!("includes nest deeper than {MAX_DEPTH} levels");
                    return Err(problem(cannot_include(word, &message)));
                }
                let bytes = read(&path).map_err(|message| problem(cannot_include(word, &message)))?;
                let name = path.display().to_string();
                let tree = directive::parse(&name, text(&name, &bytes)?)?;
                self.open.push(canonical);
                all.extend(self.block(tree)?);
                self.open.pop();
            }
        }
        Ok(())
    }
}

/// Returns the text of a file. Fails if it is not UTF-8.
pub(super) fn text<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, Error> {
    std::str::from_utf8(bytes).map_err(|e| {
        let line = 1 + bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count();
        Error::of_problem(position(file, line), Reason::NotUtf8)
    })
}

fn cannot_include(word: &Word, message: &str) -> Reason {
    Reason::Other(format!("cannot include {}: {message}", quote(&word.text)))
}

/// Returns the files that a word of the directive names.
fn paths(word: &Word) -> Result<Vec<PathBuf>, String> {
    let folder = Path::new(&*word.file).parent().unwrap_or(Path::new(""));
    if !word.text.contains(['*', '?', '[']) {
        return Ok(vec![folder.join(&word.text)]);
    }
    // A wildcard character in the folder's name stands for itself.
    let pattern = if Path::new(&word.text).is_absolute() || folder.as_os_str().is_empty() {
        word.text.clone()
    } else {
        format!("{}/{}", glob::Pattern::escape(&folder.display().to_string()), word.text)
    };
    let options =
        glob::MatchOptions { require_literal_separator: true, require_literal_leading_dot: true, ..Default::default() };
    let found = glob::glob_with(&pattern, options).map_err(|e| format!("invalid pattern: {e}"))?;
    let mut paths = found.take(MAX_FILES + 1).collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    paths.retain(|path| !path.is_dir());
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|e| read_error(&e))?;
    let metadata = file.metadata().map_err(|e| read_error(&e))?;
    if !metadata.is_file() {
        return Err("this is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| read_error(&e))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("it is larger than {MAX_BYTES} bytes"));
    }
    Ok(bytes)
}

/// Returns the message for a file that cannot be read.
pub(super) fn read_error(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "no such file".to_owned(),
        ErrorKind::PermissionDenied => "permission denied; the user of the server must be able to read it".to_owned(),
        ErrorKind::IsADirectory => "this is a directory; name a file in it".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    /// Writes these files to a new folder and loads `main.conf`. Removes the folder's name from the error.
    fn load(files: &[(&str, &str)]) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        // A name with wildcard characters.
        let root = folder.path().join("a[b]");
        for (name, text) in files {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let loaded = Config::load_with(&root.join("main.conf"), []);
        loaded.map_err(|error| error.to_string().replace(&format!("{}/", root.display()), ""))
    }

    #[test]
    fn included_directives_stand_where_the_include_stands() {
        let config = load(&[
            ("main.conf", "include base.conf 'vhosts/*.conf';\nvhost own { include inc/cache.conf; }"),
            ("base.conf", "listen 1935;"),
            ("vhosts/b.conf", "vhost b { include ../inc/cache.conf; }"),
            ("vhosts/a.conf", "vhost a { }"),
            ("vhosts/.hidden.conf", "nonsense"),
            ("vhosts/c.conf.off", "nonsense"),
            ("inc/cache.conf", "gop_cache off;"),
        ])
        .unwrap();
        let caches: Vec<_> = config.vhosts.values().map(|vhost| (vhost.name.as_str(), vhost.gop_cache)).collect();
        assert_eq!(caches, [("a", true), ("b", false), ("own", false)]);
        assert!(
            load(&[("main.conf", "listen 1935; vhost a { } include none/*.conf;")]).is_ok(),
            "wildcards may match none"
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_file_and_line() {
        for (files, expected) in [
            (
                vec![("main.conf", "listen 1;\ninclude a.conf;"), ("a.conf", "\n\ngop_cach on;")],
                "a.conf:3: unknown directive \"gop_cach\" at the top of the file; did you mean \"gop_cache\" in vhost?",
            ),
            (
                vec![("main.conf", "listen 1;\ninclude a.conf;"), ("a.conf", "chunk_size 128;\nchunk_size 128")],
                "a.conf:2: missing \";\" after \"128\"",
            ),
            (
                vec![("main.conf", "listen 1;\nchunk_size 128;\ninclude a.conf;"), ("a.conf", "\nchunk_size 129;")],
                "a.conf:2: \"chunk_size\" is already set on line 2 of main.conf; remove one of the two",
            ),
            (
                vec![("main.conf", "listen 1;\nvhost v {\ninclude no/such.conf;\n}")],
                "main.conf:3: cannot include \"no/such.conf\": no such file",
            ),
            (
                vec![("main.conf", "listen 1;\ninclude a.conf;"), ("a.conf", "vhost v {\n include ./main.conf;\n}")],
                "a.conf:2: cannot include \"./main.conf\": ./main.conf would include itself",
            ),
            (
                vec![("main.conf", "include *.conf;")],
                "main.conf:1: cannot include \"*.conf\": main.conf would include itself",
            ),
            (
                vec![("main.conf", "listen 1;\ninclude;")],
                "main.conf:2: \"include\" takes the path of a file, or a pattern for several; e.g. \"include conf.d/*.conf;\"",
            ),
            (
                vec![("main.conf", "listen 1;\ninclude /dev/null;")],
                "main.conf:2: cannot include \"/dev/null\": this is not a regular file",
            ),
            (vec![("main.conf", "listen 1\ninclude a.conf;")], "main.conf:1: missing \";\" after \"1\""),
        ] {
            assert_eq!(load(&files).unwrap_err(), expected);
        }
    }

    #[test]
    fn depth_is_bounded() {
        let names: Vec<_> = (0..20).map(|n| (format!("{n}.conf"), format!("include {}.conf;", n + 1))).collect();
        let mut files: Vec<_> = names.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        files.push(("main.conf", "include 0.conf;"));
        let error = load(&files).unwrap_err();
        assert_eq!(error, "7.conf:1: cannot include \"8.conf\": includes nest deeper than 8 levels");
    }
}
