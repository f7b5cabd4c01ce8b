//! AMF0 as RTMP commands use it. Written for the tests alone, so that an error in the server's codec cannot hide.

/// An AMF0 value of a type that occurs in commands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Amf {
    Number(f64),
    Boolean(bool),
    String(String),
    Object(Vec<(String, Amf)>),
    Array(Vec<Amf>),
    Null,
}

impl Amf {
    /// Returns a string value.
    pub(crate) fn text(text: &str) -> Amf {
        Amf::String(text.to_owned())
    }

    /// Returns a property of an object.
    pub(crate) fn get(&self, name: &str) -> Option<&Amf> {
        let Amf::Object(properties) = self else { return None };
        properties.iter().find(|(property, _)| property == name).map(|(_, value)| value)
    }

    /// Returns a string property of an object; empty if there is none.
    pub(crate) fn get_text(&self, name: &str) -> &str {
        if let Some(Amf::String(text)) = self.get(name) { text } else { "" }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Amf::Number(number) => {
                out.push(0);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Amf::Boolean(value) => out.extend_from_slice(&[1, u8::from(*value)]),
            Amf::String(text) => {
                out.push(2);
                write_key(text, out);
            }
            Amf::Object(properties) => {
                out.push(3);
                for (name, value) in properties {
                    write_key(name, out);
                    value.write(out);
                }
                out.extend_from_slice(&[0, 0, 9]);
            }
            Amf::Array(values) => {
                out.push(10);
                out.extend_from_slice(&u32::try_from(values.len()).expect("small").to_be_bytes());
                values.iter().for_each(|value| value.write(out));
            }
            Amf::Null => out.push(5),
        }
    }

    fn read(input: &mut &[u8]) -> Option<Amf> {
        Some(match take(input, 1)?[0] {
            0 => Amf::Number(f64::from_be_bytes(take(input, 8)?.try_into().ok()?)),
            1 => Amf::Boolean(take(input, 1)?[0] != 0),
            2 => Amf::String(read_key(input)?),
            3 => Amf::Object(read_properties(input)?),
            5 | 6 => Amf::Null,
            8 => {
                take(input, 4)?;
                Amf::Object(read_properties(input)?)
            }
            10 => {
                let count = u32::from_be_bytes(take(input, 4)?.try_into().ok()?);
                Amf::Array((0..count).map(|_| Amf::read(input)).collect::<Option<_>>()?)
            }
            other => panic!("the server sent AMF0 type {other}"),
        })
    }
}

fn write_key(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&u16::try_from(text.len()).expect("small").to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn read_key(input: &mut &[u8]) -> Option<String> {
    let size = u16::from_be_bytes(take(input, 2)?.try_into().ok()?);
    Some(String::from_utf8_lossy(take(input, usize::from(size))?).into_owned())
}

fn read_properties(input: &mut &[u8]) -> Option<Vec<(String, Amf)>> {
    let mut properties = Vec::new();
    loop {
        let name = read_key(input)?;
        if name.is_empty() && input.first() == Some(&9) {
            take(input, 1)?;
            return Some(properties);
        }
        properties.push((name, Amf::read(input)?));
    }
}

/// Removes `count` bytes from the start of `input`; `None` if there are fewer.
pub(crate) fn take<'a>(input: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = input.split_at_checked(count)?;
    *input = rest;
    Some(taken)
}

/// Decodes an AMF0 payload.
pub(crate) fn amf_values(mut payload: &[u8]) -> Vec<Amf> {
    std::iter::from_fn(|| Amf::read(&mut payload)).collect()
}

/// Encodes values as an AMF0 payload.
pub(crate) fn amf_payload(values: &[Amf]) -> Vec<u8> {
    let mut payload = Vec::new();
    values.iter().for_each(|value| value.write(&mut payload));
    payload
}
