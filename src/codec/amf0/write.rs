//! The writer of AMF0.

use super::marker;
use super::value::{Object, Value};

/// Appends a value.
///
/// Names and class names are truncated to 65,535 bytes, other texts to 4 GiB, at a character boundary. The function is
/// recursive; values are built by the server or bounded by [`read`](super::read).
pub fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Number(number) => {
            out.push(marker::NUMBER);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::Boolean(boolean) => out.extend_from_slice(&[marker::BOOLEAN, u8::from(*boolean)]),
        Value::String(text) if u16::try_from(text.len()).is_ok() => {
            out.push(marker::STRING);
            write_short_text(out, text);
        }
        Value::String(text) => {
            out.push(marker::LONG_STRING);
            write_long_text(out, text);
        }
        Value::Object(object) => {
            out.push(marker::OBJECT);
            write_members(out, object);
        }
        Value::Null => out.push(marker::NULL),
        Value::Undefined => out.push(marker::UNDEFINED),
        Value::Reference(index) => {
            out.push(marker::REFERENCE);
            out.extend_from_slice(&index.to_be_bytes());
        }
        Value::EcmaArray(object) => {
            out.push(marker::ECMA_ARRAY);
            // The count is only a hint, so it may saturate.
            out.extend_from_slice(&u32::try_from(object.len()).unwrap_or(u32::MAX).to_be_bytes());
            write_members(out, object);
        }
        Value::StrictArray(elements) => write_elements(out, elements),
        Value::Date { unix_ms, timezone } => {
            out.push(marker::DATE);
            out.extend_from_slice(&unix_ms.to_be_bytes());
            out.extend_from_slice(&timezone.to_be_bytes());
        }
        Value::Unsupported => out.push(marker::UNSUPPORTED),
        Value::XmlDocument(text) => {
            out.push(marker::XML_DOCUMENT);
            write_long_text(out, text);
        }
        Value::TypedObject { class, object } => {
            out.push(marker::TYPED_OBJECT);
            write_short_text(out, class);
            write_members(out, object);
        }
    }
}

fn write_elements(out: &mut Vec<u8>, elements: &[Value]) {
    let count = u32::try_from(elements.len()).unwrap_or(u32::MAX);
    out.push(marker::STRICT_ARRAY);
    out.extend_from_slice(&count.to_be_bytes());
    for (_, element) in (0..count).zip(elements) {
        write(out, element);
    }
}

fn write_members(out: &mut Vec<u8>, object: &Object) {
    for (key, value) in object.iter() {
        write_short_text(out, key);
        write(out, value);
    }
    // The end is an empty name and a marker (2.11).
    out.extend_from_slice(&[0, 0, marker::OBJECT_END]);
}

fn write_short_text(out: &mut Vec<u8>, text: &str) {
    let text = &text[..text.floor_char_boundary(usize::from(u16::MAX))];
    // Does not saturate: the text was truncated.
    out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn write_long_text(out: &mut Vec<u8>, text: &str) {
    let text = &text[..text.floor_char_boundary(usize::try_from(u32::MAX).unwrap_or(usize::MAX))];
    // Does not saturate: the text was truncated.
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}
