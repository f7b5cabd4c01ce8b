//! The configuration reference: the table of directives as a configuration file, `conf/full.conf`.

use super::names::DEFAULT_VHOST;
use super::schema::{BlockKind, Row, Shape};
use super::table::{self, rows};

/// Maximum width of a line.
const WIDTH: usize = 100;

const HEAD: &str = "\
# The configuration reference: every directive, printed by simple_rtmp_server --print-reference.
#
# Every example shows the default and is commented out, so this file can be used as it is: remove the \"#\"
# in front of a directive to change its value. \"Reload\" says when a changed value takes effect.
#
# TIME takes the units ms, s, m, h, d (500ms, 30s, 2m); BYTES takes k, m, g (64k, 32m).
# Grammar, include, environment variables and reload: docs/configuration.md
# Test a file with: objs/simple_rtmp_server -t -c FILE

";

/// Returns the reference of all directives, in the form of a valid configuration with all defaults.
///
/// Blocks are present but empty. The examples in them are commented out, except for `listen`, which is required.
pub fn reference() -> String {
    let mut text = HEAD.to_owned();
    write_block(&mut text, BlockKind::Root, 0);
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// Writes the directives of a block: first the settings, then the inner blocks.
fn write_block(text: &mut String, block: BlockKind, depth: usize) {
    let (settings, blocks): (Vec<&Row>, Vec<&Row>) =
        rows(block).partition(|row| matches!(row.shape, Shape::Setting { .. } | Shape::Free));
    let indent = "    ".repeat(depth);
    for row in settings {
        write_comment(text, row, &indent);
        // Without `listen`, the file would be no valid configuration.
        let mark = if block == BlockKind::Root && row.name == "listen" { "" } else { "#" };
        text.push_str(&format!("{indent}{mark}{}\n\n", row.example()));
    }
    for row in blocks {
        let (name, inner) = match row.shape {
            Shape::Block(inner) | Shape::Either { block: inner, .. } => (row.name.to_owned(), inner),
            Shape::Named(inner) => (format!("{} {}", row.name, DEFAULT_VHOST), inner),
            Shape::Labelled(inner) => (row.name.to_owned(), inner),
            Shape::Setting { .. } | Shape::Free | Shape::Unsupported => continue,
        };
        write_comment(text, row, &indent);
        let start = text.len();
        text.push_str(&format!("{indent}{name} {{\n"));
        write_block(text, inner, depth + 1);
        // The last directive needs no empty line after it.
        text.truncate(text.trim_end().len());
        text.push_str(&format!("\n{indent}}}\n\n"));
        if matches!(row.shape, Shape::Labelled(_)) {
            let block = text.split_off(start);
            text.push_str(&commented(&block));
        }
    }
}

/// Returns a block as a comment: without it there is none, which an empty one would not say.
fn commented(block: &str) -> String {
    let line = |line: &str| {
        let text = line.trim_start();
        let indent = &line[..line.len() - text.len()];
        let mark = match text.strip_prefix('#') {
            // An example in the block is a part of the comment.
            Some(example) if !example.starts_with(' ') => return format!("{indent}# {example}\n"),
            Some(_) => "",
            None if text.is_empty() => "",
            None => "# ",
        };
        format!("{indent}{mark}{text}\n")
    };
    block.lines().map(line).collect()
}

/// Writes the description of a directive as comments.
fn write_comment(text: &mut String, row: &Row, indent: &str) {
    let mut line = |content: String| text.push_str(&format!("{indent}#{content}\n"));
    line(format!(" {}", row.name));
    let name = row.name;
    let syntax = match row.shape {
        Shape::Setting { kind, .. } => format!("{name} {};", kind.syntax()),
        Shape::Block(_) => format!("{name} {{ ... }}"),
        Shape::Named(_) => format!("{name} HOST {{ ... }}"),
        Shape::Labelled(_) => format!("{name} [NAME] {{ ... }}"),
        Shape::Free => format!("{name} {{ OPTION [VALUE]; ... }}"),
        Shape::Either { kind, .. } => format!("{name} {{ ... }} or {name} {};", kind.syntax()),
        Shape::Unsupported => return,
    };
    line(format!("   Syntax:  {syntax}"));
    if let Shape::Setting { kind, default } | Shape::Either { kind, default, .. } = row.shape {
        if let Some(range) = kind.range() {
            line(format!("   Range:   {range}"));
        }
        let at_the_top = contexts(row).any(|block| block == BlockKind::Root) && row.block != BlockKind::Root;
        line(format!(
            "   Default: {}",
            match default {
                Some(default) => format!("{name} {default};"),
                None if at_the_top => "the value at the top of the file".to_owned(),
                None => "none".to_owned(),
            }
        ));
    }
    line(format!("   Context: {}", contexts(row).map(BlockKind::name).collect::<Vec<_>>().join(", ")));
    if let Some(reload) = row.reload {
        line(format!("   Reload:  {reload}"));
    }
    for wrapped in wrap(row.text, WIDTH - indent.len() - 4) {
        line(format!("   {wrapped}"));
    }
}

/// Returns the blocks in which a directive has the same meaning.
fn contexts(row: &Row) -> impl Iterator<Item = BlockKind> {
    table::all().filter(move |other| other.name == row.name && other.text == row.text).map(|other| other.block)
}

/// Wraps a text to lines of at most `width` characters, where words allow it.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directive_has_the_form_of_nginx() {
        let text = reference();
        let chunk_size = "
# chunk_size
#   Syntax:  chunk_size BYTES;
#   Range:   128 to 64k
#   Default: chunk_size 4096;
#   Context: root, vhost
#   Reload:  at once for running streams of all vhosts without their own chunk_size
#   Size of the RTMP chunks that are sent.";
        assert!(text.contains(chunk_size), "{text}");
        assert!(text.contains("\n#chunk_size 4096;\n") && text.contains("\n    #chunk_size 4096;\n"), "{text}");
    }

    #[test]
    fn lines_are_short_and_every_supported_directive_is_there() {
        let text = reference();
        for line in text.lines() {
            assert!(line.len() <= 110 && line.trim_end() == line, "{line:?}");
        }
        for row in table::all().filter(|row| !matches!(row.shape, Shape::Unsupported)) {
            assert!(text.contains(&format!("# {}\n", row.name)), "{}", row.name);
        }
    }

    #[test]
    fn text_is_wrapped_at_words() {
        assert_eq!(wrap("a bb ccc dddddddd e", 6), ["a bb", "ccc", "dddddddd", "e"]);
    }
}
