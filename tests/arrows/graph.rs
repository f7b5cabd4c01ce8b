//! The arrows between files: a file uses another one if it names an item that is defined there.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Role, Source};

/// The arrows from one file: the files it uses, and the names of each.
pub(crate) type Arrows = BTreeMap<String, BTreeSet<String>>;

/// The modules of a library, by path: `crate::a::b`.
pub(crate) struct Modules {
    sources: BTreeMap<String, Source>,
    files: BTreeMap<String, String>,
}

/// The meaning of a path.
#[derive(Debug, PartialEq)]
enum Meaning {
    Module(String),
    /// An item, and the module where it is defined.
    Item(String),
}

/// Longest chain of re-exports that is followed. Imports can name each other in a ring.
const MAX_CHAIN: usize = 10;

impl Modules {
    /// Reads the modules in these files, given by their path below `src` and their text.
    pub(crate) fn parse(files: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut modules = Modules { sources: BTreeMap::new(), files: BTreeMap::new() };
        for (file, text) in files {
            let path = file.strip_suffix(".rs").unwrap_or(&file);
            let module = if path == "lib" { "crate".to_owned() } else { format!("crate::{}", path.replace('/', "::")) };
            modules.sources.insert(module.clone(), Source::parse(&text));
            modules.files.insert(module, file);
        }
        modules
    }

    /// Returns the arrows from each file. `mod a;` and `pub use` alone are none.
    pub(crate) fn arrows(&self) -> BTreeMap<String, Arrows> {
        self.sources
            .iter()
            .map(|(module, source)| (self.files[module].clone(), self.arrows_from(module, source)))
            .collect()
    }

    fn arrows_from(&self, module: &str, source: &Source) -> Arrows {
        let mut arrows = Arrows::new();
        let is_item =
            |alias: &&str| !matches!(self.meaning(module, &[(*alias).to_owned()], 0), Some(Meaning::Module(_)));
        let items: BTreeSet<&str> = source.paths.iter().filter_map(|path| path.alias()).filter(is_item).collect();
        for path in &source.paths {
            let is_use = match &path.role {
                Role::Import { alias, is_public: true } => source.names.contains(alias),
                Role::Import { is_public: false, .. } => true,
                Role::Visibility => false,
                // `Item::new` is counted by its import.
                Role::Body => !items.contains(path.segments[0].as_str()),
            };
            let target = match self.meaning(module, &path.segments, 0) {
                Some(Meaning::Item(target)) if is_use && target != module => target,
                _ => continue,
            };
            arrows.entry(self.files[&target].clone()).or_default().insert(path.segments.join("::"));
        }
        arrows
    }

    /// Returns what a path in `module` means, if it is something of this library.
    fn meaning(&self, module: &str, path: &[String], chain: usize) -> Option<Meaning> {
        let mut base = module.to_owned();
        let mut rest = path;
        match rest.first()?.as_str() {
            "crate" => {
                base = "crate".to_owned();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|name| name == "super") {
                    base.truncate(base.rfind("::")?);
                    rest = &rest[1..];
                }
            }
            name if self.sources.contains_key(&format!("{base}::{name}")) => {}
            name => return self.imported(module, name, &rest[1..], chain),
        }
        self.member(base, rest, chain)
    }

    /// Returns what `path` means within `module`.
    fn member(&self, mut module: String, mut path: &[String], chain: usize) -> Option<Meaning> {
        while let Some(name) = path.first() {
            let child = format!("{module}::{name}");
            if !self.sources.contains_key(&child) {
                break;
            }
            module = child;
            path = &path[1..];
        }
        let Some(name) = path.first() else { return Some(Meaning::Module(module)) };
        let source = self.sources.get(&module)?;
        if !source.definitions.contains(name) {
            if name == "*" {
                return Some(Meaning::Item(module));
            }
            if let Some(meaning) = self.imported(&module, name, &path[1..], chain) {
                return Some(meaning);
            }
        }
        // Else it is defined by a macro.
        Some(Meaning::Item(module))
    }

    /// Returns what `name` followed by `rest` means in a module that imports or re-exports `name`.
    fn imported(&self, module: &str, name: &str, rest: &[String], chain: usize) -> Option<Meaning> {
        if chain == MAX_CHAIN {
            return None;
        }
        let paths = self.sources.get(module)?.paths.iter();
        for (alias, path) in paths.filter_map(|path| Some((path.alias()?, path))) {
            let mut segments = path.segments.clone();
            if alias == "*" {
                segments.pop();
                let Some(Meaning::Module(target)) = self.meaning(module, &segments, chain + 1) else { continue };
                if self.sources[&target].definitions.contains(name) {
                    return Some(Meaning::Item(target));
                }
            } else if alias == name {
                segments.extend(rest.iter().cloned());
                return self.meaning(module, &segments, chain + 1);
            }
        }
        None
    }
}

/// Returns the groups of files that use each other, directly or through others of the group.
pub(crate) fn circles(arrows: &BTreeMap<String, Arrows>) -> Vec<BTreeSet<String>> {
    let reached: BTreeMap<&String, BTreeSet<String>> =
        arrows.keys().map(|file| (file, reachable(arrows, file))).collect();
    let mut circles: Vec<BTreeSet<String>> = Vec::new();
    for (file, targets) in &reached {
        if targets.contains(*file) && !circles.iter().any(|circle| circle.contains(*file)) {
            circles.push(targets.iter().filter(|target| reached[target].contains(*file)).cloned().collect());
        }
    }
    circles
}

/// Returns the files that a file uses, directly or through others.
fn reachable(arrows: &BTreeMap<String, Arrows>, file: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut open = vec![file];
    while let Some(file) = open.pop() {
        for target in arrows[file].keys() {
            if reached.insert(target.clone()) {
                open.push(target);
            }
        }
    }
    reached
}

/// Describes a circle: each arrow in it with the names that make it.
pub(crate) fn describe(circle: &BTreeSet<String>, arrows: &BTreeMap<String, Arrows>) -> String {
    let mut text = String::from("circle:\n");
    for file in circle {
        for (target, names) in arrows[file].iter().filter(|(target, _)| circle.contains(*target)) {
            let names = names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            text.push_str(&format!("    {file} -> {target}: {names}\n"));
        }
    }
    text
}

fn parse(files: &[(&str, &str)]) -> BTreeMap<String, Arrows> {
    Modules::parse(files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned()))).arrows()
}

#[test]
fn names_lead_to_the_file_that_defines_them() {
    let arrows = parse(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "mod child; mod other; pub use child::Item; use crate::b; use b::outer; fn f() { Item::new() }"),
        ("a/child.rs", "pub struct Item; use super::helper; use crate::b::status::CODE;"),
        ("a/other.rs", "use super::Item; use super::super::b; fn f() { b::call(); b::deep::Deep; other::x(); }"),
        (
            "b.rs",
            "pub mod deep; pub mod status { pub const CODE: u8 = 0; } pub fn call() {} pub use crate::a::Item as Again;",
        ),
        ("b/deep.rs", "pub struct Deep; fn f(_: crate::b::Again) {} pub(in crate::a) fn g() {}"),
    ]);
    type Due = (&'static str, &'static [(&'static str, &'static [&'static str])]);
    let expected: &[Due] = &[
        ("a.rs", &[("a/child.rs", &["child::Item"]), ("b.rs", &["b::outer"])]),
        ("a/child.rs", &[("a.rs", &["super::helper"]), ("b.rs", &["crate::b::status::CODE"])]),
        ("a/other.rs", &[("a/child.rs", &["super::Item"]), ("b.rs", &["b::call"]), ("b/deep.rs", &["b::deep::Deep"])]),
        ("b.rs", &[]),
        ("b/deep.rs", &[("a/child.rs", &["crate::b::Again"])]),
        ("lib.rs", &[]),
    ];
    for (file, due) in expected {
        let due = due.iter().map(|(to, names)| {
            ((*to).to_owned(), names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>())
        });
        assert_eq!(arrows[*file], due.collect::<Arrows>(), "{file}");
    }
}

#[test]
fn a_deliberate_circle_is_found_and_described() {
    let arrows = parse(&[
        ("lib.rs", "mod a; mod b; mod c; mod d;"),
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "use crate::c; pub struct B; fn f() { c::make(); }"),
        ("c.rs", "pub fn make() -> crate::a::A {}"),
        ("d.rs", "use crate::{a::A, b::B};"),
    ]);
    let circles = circles(&arrows);
    assert_eq!(circles.len(), 1, "{circles:?}");
    assert_eq!(
        describe(&circles[0], &arrows),
        "circle:\n    a.rs -> b.rs: crate::b::B\n    b.rs -> c.rs: c::make\n    c.rs -> a.rs: crate::a::A\n"
    );
}

#[test]
fn tests_and_reexports_make_no_circle() {
    let arrows = parse(&[
        ("lib.rs", "mod a;"),
        (
            "a.rs",
            "mod b; pub use b::B; pub struct A; #[cfg(test)] mod tests { use super::*; fn f() { super::b::f() } }",
        ),
        ("a/b.rs", "use super::A; pub struct B;"),
    ]);
    assert_eq!(circles(&arrows), Vec::<BTreeSet<String>>::new());
}
