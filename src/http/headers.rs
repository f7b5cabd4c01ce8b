//! Header fields (RFC 9110, 5).

use std::ops::Range;

/// The header fields of a message, in their order. Names are compared without regard to case.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Headers {
    /// Names and values of all fields, so that a request takes two allocations however many fields it has.
    text: Vec<u8>,
    fields: Vec<Field>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    name: Range<usize>,
    value: Range<usize>,
}

impl Headers {
    /// Creates headers without fields, with room for `fields` fields of `bytes` bytes in all.
    pub fn with_capacity(fields: usize, bytes: usize) -> Self {
        Self { text: Vec::with_capacity(bytes), fields: Vec::with_capacity(fields) }
    }

    /// Appends a field.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        let start = self.text.len();
        self.text.extend_from_slice(name.as_bytes());
        let end = self.text.len();
        self.text.extend_from_slice(value);
        self.fields.push(Field { name: start..end, value: end..self.text.len() });
    }

    /// Returns the value of the first field with this name, if it is UTF-8.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.get_all(name).next().and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Returns the value of the only field with this name, if it is UTF-8. `None` if there are several.
    pub fn get_single(&self, name: &str) -> Option<&str> {
        let mut values = self.get_all(name);
        let value = values.next()?;
        if values.next().is_some() { None } else { std::str::from_utf8(value).ok() }
    }

    /// Returns the values of all fields with this name.
    pub fn get_all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// Returns whether one of the comma-separated lists with this name has `token`.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        let mut tokens = self.get_all(name).flat_map(|value| value.split(|&byte| byte == b','));
        tokens.any(|other| other.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Returns the names and values of all fields.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| (&self.text[field.name.clone()], &self.text[field.value.clone()]))
    }

    /// Returns the number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Returns whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name() {
        let mut headers = Headers::default();
        for (name, value) in
            [("Host", &b"h"[..]), ("X-A", b"1"), ("x-a", b"2"), ("Upgrade", b"a, WebSocket"), ("B", b"\xff")]
        {
            headers.push(name, value);
        }
        assert_eq!((headers.get("host"), headers.get_single("HOST")), (Some("h"), Some("h")));
        assert_eq!((headers.get("X-A"), headers.get_single("X-A")), (Some("1"), None));
        assert_eq!(headers.get_all("X-A").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!((headers.get("B"), headers.get("C")), (None, None));
        assert!(headers.has_token("upgrade", "websocket") && !headers.has_token("upgrade", "socket"));
        assert_eq!((headers.len(), headers.is_empty()), (5, false));
    }
}
