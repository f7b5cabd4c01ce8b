//! The grammar as a format of the `config` crate: maps the tree of directives to its values.

use ::config::{FileStoredFormat, Format, Map, Value, ValueKind};

use super::check::check;
use super::directive::{self, Directive};
use super::error::Error;
use super::names::canonical;
use super::schema::{BlockKind, Shape};
use super::{include, srs, table};

/// The grammar as a format of the `config` crate. Checks the text against the schema.
///
/// The mapping lets other sources (the environment) override it key by key:
///
/// | directive | value |
/// |---|---|
/// | `name a b;` | `name`: array of strings, origin `FILE:LINE` |
/// | `name a b;` with a value per line | `name`: array of such arrays |
/// | `name { … }` | `name`: table |
/// | `engine NAME { … }` | `engine`: table of tables, by name |
/// | `vparams { a b; … }` | `vparams`: array of arrays |
/// | `vhost NAME { … }` | `vhost`: table of tables, by [`canonical`] name |
/// | unsupported | `name`: array with one string per occurrence, with its origin |
///
/// The crate interprets only top-level keys as path expressions (`a.b`, `a[3]`); those are plain names of the schema,
/// while vhost names, with their dots, are one level below. It loses the origin of tables when it merges, so only
/// leaves have positions.
#[derive(Debug, Clone)]
pub(super) struct Directives {
    /// The name of the file, for positions: the crate passes none for text from memory.
    pub(super) file: String,
}

impl Format for Directives {
    fn parse(
        &self,
        uri: Option<&String>,
        text: &str,
    ) -> Result<Map<String, Value>, Box<dyn std::error::Error + Send + Sync>> {
        let file = uri.unwrap_or(&self.file);
        let mut tree = include::expand(file, directive::parse(file, text)?)?;
        for directive in &mut tree {
            if let Some((_, name)) = table::ALIASES.iter().find(|(alias, _)| *alias == directive.name.text) {
                directive.name.text = (*name).to_owned();
            }
        }
        srs::unfold_play(&mut tree);
        Error::of_problems(check(&tree))?;
        Ok(map_block(BlockKind::Root, tree))
    }
}

impl FileStoredFormat for Directives {
    fn file_extensions(&self) -> &'static [&'static str] {
        &["conf"]
    }
}

/// Maps a block that has been checked.
fn map_block(kind: BlockKind, block: Vec<Directive>) -> Map<String, Value> {
    let mut table = Map::new();
    for Directive { name, args, block } in block {
        let Some(row) = table::find(kind, &name.text) else { continue };
        let origin = name.position();
        let string = |text: String| Value::new(Some(&origin), text);
        let slot = table.entry(name.text.clone()).or_insert_with(|| Value::new(Some(&origin), ValueKind::Nil));
        let is_block = block.is_some();
        let block = block.unwrap_or_default();
        match row.shape {
            Shape::Either { block: inner, .. } if is_block => slot.kind = map_block(inner, block).into(),
            Shape::Setting { kind, .. } if kind.is_value_per_line() => {
                let words = args.into_iter().map(|word| string(word.text)).collect::<Vec<_>>();
                let one = Value::new(Some(&origin), words);
                match &mut slot.kind {
                    ValueKind::Array(all) => all.push(one),
                    kind => *kind = vec![one].into(),
                }
            }
            Shape::Setting { .. } | Shape::Either { .. } => {
                let words = args.into_iter().map(|word| string(word.text));
                match &mut slot.kind {
                    ValueKind::Array(all) if row.may_repeat() => all.extend(words),
                    kind => *kind = words.collect::<Vec<_>>().into(),
                }
            }
            Shape::Labelled(inner) => {
                let key = args.first().map(|word| word.text.trim_matches('/').to_owned()).unwrap_or_default();
                let value = Value::new(Some(&origin), map_block(inner, block));
                match &mut slot.kind {
                    ValueKind::Table(all) => drop(all.insert(key, value)),
                    kind => *kind = Map::from([(key, value)]).into(),
                }
            }
            Shape::Free => {
                let option = |option: Directive| {
                    let words = std::iter::once(option.name).chain(option.args);
                    Value::new(Some(&origin), words.map(|word| string(word.text)).collect::<Vec<_>>())
                };
                slot.kind = block.into_iter().map(option).collect::<Vec<_>>().into();
            }
            Shape::Block(inner) => slot.kind = map_block(inner, block).into(),
            Shape::Named(inner) => {
                let key = args.first().map(|word| canonical(&word.text)).unwrap_or_default();
                let value = Value::new(Some(&origin), map_block(inner, block));
                match &mut slot.kind {
                    ValueKind::Table(all) => drop(all.insert(key, value)),
                    kind => *kind = Map::from([(key, value)]).into(),
                }
            }
            Shape::Unsupported => match &mut slot.kind {
                ValueKind::Array(all) => all.push(string(name.text)),
                kind => *kind = vec![string(name.text)].into(),
            },
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_know_where_they_stand() {
        let text = "\nlisten 1935\n1936;\nvhost A.b { refer c; }\nvhost d { ingest on; ingest off; }";
        let table = Format::parse(&Directives { file: "a.conf".to_owned() }, None, text).unwrap();
        assert_eq!(table["listen"].origin(), Some("a.conf:2"));
        assert_eq!(table["listen"].clone().into_array().unwrap().len(), 2);
        let vhosts = table["vhost"].clone().into_table().unwrap();
        let refer = vhosts["a.b"].clone().into_table().unwrap()["refer"].clone();
        assert_eq!(refer.origin(), Some("a.conf:4"));
        assert_eq!(vhosts["d"].clone().into_table().unwrap()["ingest"].clone().into_array().unwrap().len(), 2);
    }
}
