use proptest::prelude::*;

use super::*;
use crate::codec::amf3;

fn read_one(bytes: &[u8]) -> Result<Value, Error> {
    let mut input = bytes;
    let result = read(&mut input);
    match &result {
        Ok(_) => assert!(input.is_empty(), "{} bytes were left", input.len()),
        Err(_) => assert_eq!(input.len(), bytes.len(), "an error consumed bytes"),
    }
    result
}

fn written(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, value);
    out
}

/// `connect` as ffmpeg 5.1 sends it (libavformat 59.27).
const FFMPEG_CONNECT: &[&[u8]] = &[
    b"\x02\x00\x07connect",                                              // string: command name
    b"\x00\x3f\xf0\x00\x00\x00\x00\x00\x00",                             // number: transaction id 1
    b"\x03",                                                             // object: command object
    b"\x00\x03app\x02\x00\x04live",                                      // app
    b"\x00\x04type\x02\x00\x0anonprivate",                               // type
    b"\x00\x08flashVer\x02\x00\x24FMLE/3.0 (compatible; Lavf59.27.100)", // flashVer
    b"\x00\x05tcUrl\x02\x00\x1brtmp://127.0.0.1:19399/live",             // tcUrl
    b"\x00\x00\x09",                                                     // object end
];

/// `onMetaData` with all types that an encoder can send.
const METADATA: &[&[u8]] = &[
    b"\x02\x00\x0aonMetaData",                                   // string: name of the event
    b"\x08\x00\x00\x00\x10",                                     // ECMA array, claims 16 members
    b"\x00\x05width\x00\x40\x94\x00\x00\x00\x00\x00\x00",        // number: 1280
    b"\x00\x06stereo\x01\x01",                                   // boolean: true
    b"\x00\x07encoder\x02\x00\x0dLavf59.27.100",                 // string
    b"\x00\x04date\x0b\x42\x79\x2c\xc0\x91\x40\x00\x00\xff\xc4", // date: time and time zone -60
    b"\x00\x05index\x0a\x00\x00\x00\x02\x05\x06",                // strict array: null, undefined
    b"\x00\x05cover\x10\x00\x01C\x00\x01x\x0d\x00\x00\x09",      // typed object C { x: unsupported }
    b"\x00\x03ref\x07\x00\x01",                                  // reference 1
    b"\x00\x03xml\x0f\x00\x00\x00\x04<a/>",                      // XML document
    b"\x00\x04long\x0c\x00\x00\x00\x02ok",                       // long string
    b"\x00\x00\x09",                                             // object end
];

#[test]
fn ffmpeg_connect() {
    let bytes = FFMPEG_CONNECT.concat();
    let command = Object::new()
        .with("app", "live")
        .with("type", "nonprivate")
        .with("flashVer", "FMLE/3.0 (compatible; Lavf59.27.100)")
        .with("tcUrl", "rtmp://127.0.0.1:19399/live");
    let values = read_all(&bytes).unwrap();
    assert_eq!(values, ["connect".into(), 1.0.into(), command.into()]);
    assert_eq!(values[2].as_object().unwrap().get("app").unwrap().as_str(), Some("live"));
    assert_eq!(values.iter().flat_map(written).collect::<Vec<_>>(), bytes);
}

#[test]
fn metadata_of_every_type() {
    let values = read_all(&METADATA.concat()).unwrap();
    assert_eq!(values[0], "onMetaData".into());
    let Value::EcmaArray(object) = &values[1] else { panic!("{values:?}") };
    assert_eq!(object.len(), 9);
    let names: Vec<&str> = object.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["width", "stereo", "encoder", "date", "index", "cover", "ref", "xml", "long"]);
    assert_eq!(object.get("width").unwrap().as_number(), Some(1280.0));
    assert_eq!(object.get("stereo").unwrap().as_bool(), Some(true));
    assert_eq!(object.get("date"), Some(&Value::Date { unix_ms: 1_730_000_000_000.0, timezone: -60 }));
    assert_eq!(object.get("index"), Some(&Value::StrictArray(vec![Value::Null, Value::Undefined])));
    let cover = object.get("cover").unwrap();
    assert_eq!(cover.as_object().unwrap().get("x"), Some(&Value::Unsupported));
    assert!(matches!(cover, Value::TypedObject { class, .. } if class == "C"));
    assert_eq!(object.get("ref"), Some(&Value::Reference(1)));
    assert_eq!(object.get("xml"), Some(&Value::XmlDocument("<a/>".to_owned())));
    assert_eq!(object.get("long").unwrap().as_str(), Some("ok"));
}

#[test]
fn one_value_at_a_time() {
    let bytes = FFMPEG_CONNECT.concat();
    let mut input = bytes.as_slice();
    assert_eq!(read(&mut input).unwrap().as_str(), Some("connect"));
    assert_eq!(read(&mut input).unwrap().as_number(), Some(1.0));
    assert_eq!(read(&mut input).unwrap().as_object().unwrap().len(), 4);
    assert_eq!(read(&mut input), Err(Error::Truncated { at: 0, marker: 0 }));
}

#[test]
fn truncated_at_every_byte() {
    for whole in [METADATA[1..].concat(), FFMPEG_CONNECT[2..].concat()] {
        read_one(&whole).unwrap();
        for end in 0..whole.len() {
            let error = read_one(&whole[..end]).unwrap_err();
            // The count of a dense array exceeds the remaining bytes before its first element.
            let (Error::Truncated { at, .. } | Error::Count { at, .. }) = error else { panic!("{end}: {error}") };
            assert!(at <= end, "{end}: {error}");
        }
    }
}

#[test]
fn errors_name_the_position_and_the_marker() {
    let bytes = [
        0x05, // null
        0x03, // object
        0x00, 0x01, b'a', // name
        0x02, // string
        0x00, 0x05, b'x', // five bytes, of which one is present
    ];
    let error = read_all(&bytes).unwrap_err();
    assert_eq!(error, Error::Truncated { at: 8, marker: 0x02 });
    assert_eq!(error.to_string(), "amf0 input ends at byte 8, inside the value with marker 0x02");
    for marker in [0x04, 0x09, 0x0e, 0x12, 0xff] {
        assert_eq!(read_all(&[0x05, marker]), Err(Error::Marker { at: 1, marker }));
    }
}

#[test]
fn ecma_array_without_end_marker() {
    let bytes = [
        0x08, 0, 0, 0, 1, // ECMA array of one member
        0x00, 0x01, b'a', 0x05, // a: null, and nothing else
    ];
    assert_eq!(read_one(&bytes).unwrap(), Value::EcmaArray(Object::new().with("a", Value::Null)));
    let two = [0x08, 0, 0, 0, 2, 0x00, 0x01, b'a', 0x05];
    assert_eq!(read_one(&two), Err(Error::Truncated { at: 9, marker: 0x08 }), "a member is missing");
    let none = [0x08, 0, 0, 0, 0, 0x00, 0x01, b'a', 0x05];
    assert_eq!(read_one(&none), Err(Error::Truncated { at: 9, marker: 0x08 }), "the count is wrong");
    let object = [0x03, 0x00, 0x01, b'a', 0x05];
    assert_eq!(read_one(&object), Err(Error::Truncated { at: 5, marker: 0x03 }), "an object has no count");
}

#[test]
fn ecma_array_count_is_a_hint() {
    for claimed in [0, 1, 2, u32::MAX] {
        let mut bytes = vec![0x08];
        bytes.extend_from_slice(&claimed.to_be_bytes());
        bytes.extend_from_slice(b"\x00\x01a\x05\x00\x00\x09");
        assert_eq!(read_one(&bytes).unwrap(), Value::EcmaArray(Object::new().with("a", Value::Null)), "{claimed}");
    }
}

#[test]
fn member_without_a_name() {
    let bytes = [
        0x03, // object
        0x00, 0x00, 0x05, // empty name: null, which is not an end
        0x00, 0x00, 0x09, // object end
    ];
    assert_eq!(read_one(&bytes).unwrap(), Object::new().with("", Value::Null).into());
}

#[test]
fn strict_array_that_claims_too_much() {
    let bytes = [0x0a, 0xff, 0xff, 0xff, 0xff, 0x05, 0x05];
    assert_eq!(read_one(&bytes), Err(Error::Count { at: 0, count: u32::MAX }));
    assert_eq!(read_one(&[0x0a, 0, 0, 0, 3, 0x05, 0x05]), Err(Error::Count { at: 0, count: 3 }));
    assert_eq!(read_one(&[0x0a, 0, 0, 0, 0]).unwrap(), Value::StrictArray(Vec::new()));
}

fn nested(levels: usize, open: &[u8], inner: &[u8], close: &[u8]) -> Vec<u8> {
    [open.repeat(levels), inner.to_vec(), close.repeat(levels)].concat()
}

#[test]
fn nesting_is_limited() {
    let cases: [(&[u8], &[u8], usize); 4] = [
        (b"\x03\x00\x01a", b"\x00\x00\x09", 0),                 // object, its member
        (b"\x08\x00\x00\x00\x01\x00\x01a", b"\x00\x00\x09", 0), // ECMA array
        (b"\x0a\x00\x00\x00\x01", b"", 0),                      // strict array
        (b"\x10\x00\x00\x00\x01a", b"\x00\x00\x09", 0),         // typed object
    ];
    for (open, close, at) in cases {
        let marker = open[0];
        read_one(&nested(MAX_NESTING, open, &[0x05], close)).unwrap();
        let expected = Error::Nesting { at: at + MAX_NESTING * open.len(), marker };
        assert_eq!(read_one(&nested(MAX_NESTING + 1, open, &[0x05], close)), Err(expected.clone()));
        assert_eq!(read_one(&nested(100_000, open, &[0x05], close)), Err(expected));
    }
}

#[test]
fn values_are_counted_over_the_whole_call() {
    let full = vec![0x05; MAX_VALUES];
    assert_eq!(read_all(&full).unwrap().len(), MAX_VALUES);
    let more = vec![0x05; MAX_VALUES + 1];
    assert_eq!(read_all(&more), Err(Error::TooManyValues { at: MAX_VALUES }));
    let mut array = vec![0x0a];
    array.extend_from_slice(&u32::try_from(MAX_VALUES).unwrap().to_be_bytes());
    array.extend_from_slice(&full);
    assert!(matches!(read_one(&array), Err(Error::TooManyValues { .. })), "the array itself is one more");
    assert!(2 * size_of::<(String, Value)>() <= 160, "the size given at MAX_VALUES");
}

#[test]
fn building_from_many_members_is_linear() {
    let mut bytes = vec![0x03];
    for index in 0..MAX_VALUES - 1 {
        let name = format!("{index:05}");
        bytes.extend_from_slice(&[0, 5]);
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0x05);
    }
    bytes.extend_from_slice(&[0, 0, 9]);
    assert_eq!(read_one(&bytes).unwrap().as_object().unwrap().len(), MAX_VALUES - 1);
}

#[test]
fn last_of_duplicate_members_wins() {
    let bytes = b"\x03\x00\x01a\x01\x00\x00\x01b\x05\x00\x01a\x01\x01\x00\x00\x09";
    let Value::Object(mut object) = read_one(bytes).unwrap() else { panic!("not an object") };
    assert_eq!(object.len(), 3);
    assert_eq!(object.get("a"), Some(&true.into()));
    object.insert("a", 7.0);
    assert_eq!((object.len(), object.get("a")), (3, Some(&7.0.into())));
    object.insert("c", "new");
    assert_eq!(object.iter().next_back(), Some(("c", &"new".into())));
}

#[test]
fn latin_1_strings_stay_distinct() {
    assert_eq!(read_one(b"\x02\x00\x04caf\xe9").unwrap(), "café".into());
    assert_ne!(read_one(b"\x02\x00\x01\xe8").unwrap(), read_one(b"\x02\x00\x01\xe9").unwrap());
    assert_eq!(read_one("\x02\x00\x05café".as_bytes()).unwrap(), "café".into());
}

#[test]
fn special_numbers_are_kept() {
    let nan = read_one(&[0x00, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0]).unwrap();
    assert!(nan.as_number().unwrap().is_nan());
    assert_eq!(read_one(&written(&f64::NEG_INFINITY.into())).unwrap(), f64::NEG_INFINITY.into());
    assert_eq!(read_one(&[0x01, 0x7f]).unwrap(), true.into());
}

#[test]
fn long_strings() {
    let short = Value::from("x".repeat(65_535));
    let long = Value::from("x".repeat(65_536));
    assert_eq!(written(&short)[..3], [0x02, 0xff, 0xff]);
    assert_eq!(written(&long)[..5], [0x0c, 0x00, 0x01, 0x00, 0x00]);
    assert_eq!(read_one(&written(&short)).unwrap(), short);
    assert_eq!(read_one(&written(&long)).unwrap(), long);
    assert_eq!(read_one(&[0x0c, 0xff, 0xff, 0xff, 0xff, b'x']), Err(Error::Truncated { at: 5, marker: 0x0c }));
}

#[test]
fn long_names_are_truncated_at_a_character() {
    let name = format!("{}é", "x".repeat(65_534));
    let bytes = written(&Object::new().with(name, true).into());
    let value = read_one(&bytes).unwrap();
    assert_eq!(value.as_object().unwrap().iter().next().unwrap().0.len(), 65_534);
}

#[test]
fn amf3_inside_amf0() {
    let bytes = [
        0x03, // object
        0x00, 0x01, b'a', // name
        0x11, // AMF3 from here
        0x04, 0x81, 0x00, // integer 128
        0x00, 0x00, 0x09, // object end
    ];
    assert_eq!(read_one(&bytes).unwrap(), Object::new().with("a", 128.0).into());
    let error = read_one(&[0x11, 0x0d]).unwrap_err();
    assert_eq!(error, Error::Amf3 { at: 1, source: amf3::Error::Marker { at: 0, marker: 0x0d } });
    assert_eq!(error.to_string(), "amf3 value at byte 1: amf3 marker 0x0d at byte 0 is not supported");
}

#[test]
fn amf3_inside_amf0_shares_the_limits() {
    // AMF0 array { AMF3 array { … } }: 16 levels in sum.
    let outer = |levels| [b"\x0a\x00\x00\x00\x01".repeat(levels), b"\x11\x09\x03\x01\x01".to_vec()].concat();
    read_one(&outer(MAX_NESTING - 1)).unwrap();
    assert!(matches!(read_one(&outer(MAX_NESTING)), Err(Error::Amf3 { source: amf3::Error::Nesting { .. }, .. })));
    // Each AMF3 value counts twice: once in AMF0 and once in AMF3.
    let many = b"\x11\x01".repeat(MAX_VALUES / 2 + 1);
    assert!(matches!(read_all(&many), Err(Error::TooManyValues { .. })));
}

fn any_value() -> impl Strategy<Value = Value> {
    let text = "\\PC{0,12}";
    let leaf = prop_oneof![
        any::<f64>().prop_map(Value::Number),
        any::<bool>().prop_map(Value::Boolean),
        text.prop_map(Value::String),
        Just(Value::Null),
        Just(Value::Undefined),
        Just(Value::Unsupported),
        any::<u16>().prop_map(Value::Reference),
        (any::<f64>(), any::<i16>()).prop_map(|(unix_ms, timezone)| Value::Date { unix_ms, timezone }),
        text.prop_map(Value::XmlDocument),
    ];
    leaf.prop_recursive(6, 48, 6, move |inner| {
        let members = prop::collection::vec((text, inner.clone()), 0..6).prop_map(Object::from_members);
        prop_oneof![
            members.clone().prop_map(Value::Object),
            members.clone().prop_map(Value::EcmaArray),
            (text, members).prop_map(|(class, object)| Value::TypedObject { class, object }),
            prop::collection::vec(inner, 0..6).prop_map(Value::StrictArray),
        ]
    })
}

/// Returns bytes that resemble AMF more often than random bytes.
fn near_amf() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => Just(0_u8), 4 => 0..0x13_u8, 1 => any::<u8>()];
    prop::collection::vec(byte, 0..256)
}

fn count(value: &Value) -> usize {
    match value {
        Value::StrictArray(elements) => 1 + elements.iter().map(count).sum::<usize>(),
        other => 1 + other.as_object().map_or(0, |object| object.iter().map(|(_, value)| count(value)).sum()),
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(value in any_value()) {
        let bytes = written(&value);
        // Equal bytes rather than equal values: not-a-number is not equal to itself.
        prop_assert_eq!(written(&read_one(&bytes).unwrap()), bytes);
    }

    #[test]
    fn arbitrary_bytes_give_bounded_values(bytes in prop_oneof![near_amf(), prop::collection::vec(any::<u8>(), 0..256)]) {
        let _ = read_one_loosely(&bytes);
        if let Ok(values) = read_all(&bytes) {
            prop_assert!(values.iter().map(count).sum::<usize>() <= bytes.len());
        }
    }

    #[test]
    fn damaged_values_do_not_panic(value in any_value(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = written(&value);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = read_one_loosely(&bytes);
        let _ = read_one_loosely(&bytes[..at]);
    }
}

/// Reads a value and checks only that an error consumes nothing.
fn read_one_loosely(bytes: &[u8]) -> Result<Value, Error> {
    let mut input = bytes;
    let result = read(&mut input);
    if result.is_err() {
        assert_eq!(input.len(), bytes.len());
    }
    result
}
