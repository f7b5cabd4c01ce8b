use super::*;

/// Formats a tree as one line: words joined by a blank, blocks in braces.
fn flat(tree: &[Directive]) -> String {
    let one = |d: &Directive| {
        let words: Vec<&str> = std::iter::once(&d.name).chain(&d.args).map(|w| w.text.as_str()).collect();
        match &d.block {
            Some(block) => format!("{}{{{}}}", words.join(" "), flat(block)),
            None => format!("{};", words.join(" ")),
        }
    };
    tree.iter().map(one).collect()
}

fn read(text: &str) -> String {
    flat(&parse("a.conf", text).unwrap_or_else(|e| panic!("{e}")))
}

fn error(text: &str) -> String {
    parse("a.conf", text).unwrap_err().to_string()
}

#[test]
fn blanks_tabs_and_line_ends_separate() {
    assert_eq!(
        read("listen 1935\t1936\r\n  1937 ;\nvhost a.b{enabled on;}"),
        "listen 1935 1936 1937;vhost a.b{enabled on;}"
    );
    assert_eq!(read(""), "");
    assert_eq!(read("\u{feff}a;"), "a;");
    assert_eq!(read("a { b { } c { d; } }"), "a{b{}c{d;}}");
}

#[test]
fn comments_begin_at_a_word_only() {
    assert_eq!(read("# a\nb 1;# c; {\n#"), "b 1;");
    assert_eq!(read("url http://host/#part;"), "url http://host/#part;");
}

#[test]
fn quotes_hold_blanks_marks_and_escapes() {
    assert_eq!(
        read(r##"a "b ; { } # c" 'd "e"' "f \"g\" \\ \n" 'it\'s' "";"##),
        r##"a b ; { } # c d "e" f "g" \ \n it's ;"##
    );
    assert_eq!(read(r#"a b"c\;"#), r#"a b"c\;"#);
    let tree = parse("a.conf", "a 'b\nc' d\n 'e';").unwrap();
    let lines: Vec<_> = tree[0].args.iter().map(|w| (w.line, w.quoted)).collect();
    assert_eq!(lines, [(1, true), (2, false), (3, true)]);
}

#[test]
fn each_error_of_the_grammar_names_its_line() {
    for (text, expected) in [
        ("a;\nb 1", "a.conf:2: missing \";\" after \"1\""),
        ("a {\n b on\n}", "a.conf:2: missing \";\" after \"on\""),
        ("a;\nb {\n c;\n", "a.conf:2: missing \"}\": the block of \"b\" that begins here is not closed"),
        ("a;\n}\n", "a.conf:2: unexpected \"}\": no block is open; remove it, or add the \"{\" that it should close"),
        (
            "a;\nb \"c;\n\n",
            "a.conf:2: the \" quote that begins here is not closed; close it, or write \\\" for a quote inside a quoted word",
        ),
        (
            "a 'b\\'",
            "a.conf:1: the ' quote that begins here is not closed; close it, or write \\' for a quote inside a quoted word",
        ),
        ("\na 'b'c;", "a.conf:2: \"c\" follows a closing quote; put a blank or \";\" between them"),
        ("\n\0", "a.conf:2: control character '\\0'; only text, tabs and line ends belong in a configuration"),
        ("# \u{1b}", "a.conf:1: control character '\\u{1b}'; only text, tabs and line ends belong in a configuration"),
        (
            "a 'b'\u{7};",
            "a.conf:1: control character '\\u{7}'; only text, tabs and line ends belong in a configuration",
        ),
        ("a;\n;", "a.conf:2: there is no directive before this \";\"; add one, or remove it"),
        ("a {\n { } }", "a.conf:2: there is no directive before this \"{\"; add one, or remove it"),
    ] {
        assert_eq!(error(text), expected);
    }
}

#[test]
fn nesting_has_a_bound() {
    let nested = |depth: usize| format!("{}{}", "a {\n".repeat(depth), "}".repeat(depth));
    assert!(parse("a.conf", &nested(MAX_DEPTH)).is_ok());
    assert_eq!(error(&nested(MAX_DEPTH + 1)), "a.conf:17: blocks nest deeper than 16 levels; close some with \"}\"");
    assert!(error(&"a{".repeat(1 << 20)).starts_with("a.conf:1: blocks nest deeper"));
}

#[test]
fn a_large_file_is_read_in_linear_time() {
    let text = "vhost a { refer b c d; }\n".repeat(100_000);
    assert_eq!(parse("a.conf", &text).unwrap().len(), 100_000);
}
