//! The files of `conf/`, and the configurations in the documents.

use super::*;

#[test]
fn every_file_in_conf_is_right_and_without_warnings() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let mut count = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let is_ours = path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"nginx"));
        if is_ours && path.extension().is_some_and(|e| e == "conf") {
            let config = Config::load_with(&path, []).unwrap_or_else(|e| panic!("{e}"));
            let mut warnings = config.warnings;
            warnings.retain(|warning| cfg!(feature = "hls") || !warning.contains("--with-hls"));
            warnings.retain(|warning| cfg!(feature = "http") || !warning.contains("--with-http"));
            assert_eq!(warnings, Vec::<String>::new());
            count += 1;
        }
    }
    assert!(count >= 2);
}

/// Removes `#` in front of the examples of full.conf.
fn uncommented(text: &str) -> String {
    let line = |line: &str| match line.trim_start().strip_prefix('#') {
        Some(example) if !example.is_empty() && !example.starts_with(' ') => example.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(|l| line(l) + "\n").collect()
}

#[test]
fn full_conf_is_the_reference() {
    assert!(FULL == reference(), "run: simple_rtmp_server --print-reference > conf/full.conf");
}

#[test]
fn full_conf_as_it_is_has_all_defaults() {
    let full = parse(FULL);
    let default = parse("listen 1935; vhost __defaultVhost__ { }");
    // Their settings differ in form: blocks are present in one and absent in the other.
    assert_eq!(full, Config { settings: full.settings.clone(), ..default });
}

#[test]
fn every_example_of_full_conf_is_accepted_and_is_the_default() {
    // The file of the keys is not there.
    let without_keys: Vec<&str> = FULL.lines().filter(|line| !line.contains("stream_keys ")).collect();
    let all = parse(&uncommented(&without_keys.join("\n")));
    let has_default = |line: &&str| {
        let name = line.trim_start().trim_start_matches('#').split(' ').next().unwrap_or_default();
        let without = [
            "proxy_protocol",
            "refer",
            "refer_publish",
            "refer_play",
            "destination",
            "allow",
            "deny",
            "username",
            "label",
            "tag",
            "password",
            "token",
            "stream_keys",
            "secret",
            "backend",
            "hooks_secret",
            "hooks_spool",
            "key",
            "publish",
            "heights",
        ];
        line.ends_with('{') || !without.contains(&name) && !name.starts_with("on_")
    };
    let with_default: Vec<&str> = FULL.lines().filter(has_default).collect();
    let config = parse(&uncommented(&with_default.join("\n")));
    let default = parse("listen 1935; vhost __defaultVhost__ { }");
    assert_eq!(config, Config { settings: config.settings.clone(), ..default });
    let vhost = all.vhost(DEFAULT_VHOST).unwrap();
    assert!(!all.proxy_protocol.is_empty() && !vhost.refer_play.is_empty() && !vhost.forward.targets.is_empty());
    assert_eq!((vhost.security.allow.len(), vhost.security.deny.len()), (1, 1));
}

#[test]
fn every_configuration_in_the_document_is_valid() {
    let text = include_str!("../../../docs/configuration.md");
    let blocks: Vec<&str> = text.split("\n```nginx\n").skip(1).collect();
    assert!(blocks.len() >= 5);
    for block in blocks {
        let (block, _) = block.split_once("\n```").unwrap();
        Config::parse("configuration.md", block).unwrap_or_else(|error| panic!("{error}\n{block}"));
    }
}
