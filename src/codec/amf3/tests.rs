use proptest::prelude::*;

use super::*;
use crate::codec::amf0::{MAX_NESTING, MAX_VALUES, Object};

fn read_one(bytes: &[u8]) -> Result<Value, Error> {
    let mut input = bytes;
    let result = read(&mut input);
    match &result {
        Ok(_) => assert!(input.is_empty(), "{} bytes were left", input.len()),
        Err(_) => assert_eq!(input.len(), bytes.len(), "an error consumed bytes"),
    }
    result
}

/// Encodes a number of 29 bits in its shortest form.
fn u29(number: u32) -> Vec<u8> {
    let byte = |shift: u32, mask: u32, more: u32| u8::try_from(number >> shift & mask | more).unwrap();
    match number {
        0..0x80 => vec![byte(0, 0x7f, 0)],
        0x80..0x4000 => vec![byte(7, 0x7f, 0x80), byte(0, 0x7f, 0)],
        0x4000..0x20_0000 => vec![byte(14, 0x7f, 0x80), byte(7, 0x7f, 0x80), byte(0, 0x7f, 0)],
        _ => vec![byte(22, 0x7f, 0x80), byte(15, 0x7f, 0x80), byte(8, 0x7f, 0x80), byte(0, 0xff, 0)],
    }
}

#[test]
fn simple_values() {
    let cases: [(&[u8], Value); 9] = [
        (b"\x00", Value::Undefined),
        (b"\x01", Value::Null),
        (b"\x02", false.into()),
        (b"\x03", true.into()),
        (b"\x05\x3f\xf0\x00\x00\x00\x00\x00\x00", 1.0.into()),
        (b"\x06\x09live", "live".into()),
        (b"\x08\x01\x3f\xf0\x00\x00\x00\x00\x00\x00", Value::Date { unix_ms: 1.0, timezone: 0 }),
        (b"\x0b\x09<a/>", Value::XmlDocument("<a/>".to_owned())),
        (b"\x0c\x07\x01\x02\x03", Value::Unsupported),
    ];
    for (bytes, value) in cases {
        assert_eq!(read_one(bytes).unwrap(), value);
        for end in 0..bytes.len() {
            assert!(matches!(read_one(&bytes[..end]), Err(Error::Truncated { .. })), "{bytes:02x?} to {end}");
        }
    }
}

#[test]
fn integers_have_29_bits_and_a_sign() {
    let cases: [(&[u8], f64); 8] = [
        (b"\x04\x00", 0.0),
        (b"\x04\x7f", 127.0),
        (b"\x04\x81\x00", 128.0),
        (b"\x04\xff\x7f", 16_383.0),
        (b"\x04\x81\x80\x00", 16_384.0),
        (b"\x04\xbf\xff\xff\xff", 268_435_455.0),
        (b"\x04\xc0\x80\x80\x00", -268_435_456.0),
        (b"\x04\xff\xff\xff\xff", -1.0),
    ];
    for (bytes, number) in cases {
        assert_eq!(read_one(bytes).unwrap(), number.into(), "{bytes:02x?}");
    }
}

#[test]
fn arrays() {
    let dense = [
        0x09, // array
        0x05, // two elements
        0x01, // no names
        0x03, 0x01, // true, null
    ];
    assert_eq!(read_one(&dense).unwrap(), Value::StrictArray(vec![true.into(), Value::Null]));
    let mixed = [
        0x09, // array
        0x03, // one element
        0x03, b'a', 0x02, // a: false
        0x01, // end of names
        0x01, // null
    ];
    assert_eq!(read_one(&mixed).unwrap(), Value::EcmaArray(Object::new().with("a", false).with("0", Value::Null)));
}

#[test]
fn strings_by_reference() {
    let bytes = [
        0x09, 0x09, 0x01, // array of four elements, no names
        0x06, 0x05, b'h', b'i', // string 0
        0x06, 0x01, // the empty string, not in the table
        0x06, 0x05, b'y', b'o', // string 1
        0x06, 0x02, // reference to string 1
    ];
    let strings = ["hi", "", "yo", "yo"].map(Value::from).to_vec();
    assert_eq!(read_one(&bytes).unwrap(), Value::StrictArray(strings));
    assert_eq!(read_one(&[0x06, 0x02]), Err(Error::Reference { at: 1, index: 1 }));
}

#[test]
fn objects_and_their_classes() {
    let bytes = [
        0x09, 0x09, 0x01, // array of four elements, no names
        0x0a, // object
        0x2b, // class follows, dynamic, two names
        0x07, b'c', b'a', b't', // class "cat": string 0
        0x03, b'x', // name x: string 1
        0x03, b'y', // name y: string 2
        0x04, 0x01, // x: 1
        0x04, 0x02, // y: 2
        0x03, b'z', 0x03, // z: true
        0x01, // end of names
        0x0a, 0x01, // object of class 0
        0x01, 0x01, // x: null, y: null
        0x01, // end of names
        0x0a, 0x0b, 0x01, // object, dynamic class without name and without names
        0x02, 0x06, 0x00, // string 1 by reference, "x": string 0 by reference
        0x01, // end of names
        0x0a, 0x02, // reference to object 1
    ];
    let cat = |object| Value::TypedObject { class: "cat".to_owned(), object };
    assert_eq!(
        read_one(&bytes).unwrap(),
        Value::StrictArray(vec![
            cat(Object::new().with("x", 1.0).with("y", 2.0).with("z", true)),
            cat(Object::new().with("x", Value::Null).with("y", Value::Null)),
            Object::new().with("x", "cat").into(),
            Value::Unsupported,
        ])
    );
    for end in 0..bytes.len() {
        read_one(&bytes[..end]).unwrap_err();
    }
}

#[test]
fn bad_references() {
    assert_eq!(read_one(&[0x0a, 0x00]), Err(Error::Reference { at: 1, index: 0 }), "object");
    assert_eq!(read_one(&[0x0a, 0x01]), Err(Error::Reference { at: 1, index: 0 }), "class");
    assert_eq!(read_one(&[0x09, 0x06]), Err(Error::Reference { at: 1, index: 3 }), "array");
    assert_eq!(read_one(&[0x08, 0xff, 0xff, 0xff, 0xfe]), Err(Error::Reference { at: 1, index: 0x0fff_ffff }), "date");
}

#[test]
fn unsupported_values_are_errors() {
    assert_eq!(read_one(&[0x0a, 0x07, 0x03, b'c']), Err(Error::Externalizable { at: 1 }));
    for marker in 0x0d..=0xff {
        assert_eq!(read_one(&[marker, 0x01]), Err(Error::Marker { at: 0, marker }));
    }
}

#[test]
fn counts_are_checked_against_the_bytes() {
    let array = [&[0x09][..], &u29(0x1fff_ffff), &[0x01]].concat();
    assert_eq!(read_one(&array), Err(Error::Count { at: 1, count: 0x0fff_ffff }));
    let class = [&[0x0a][..], &u29(0x1fff_fff3), &[0x01]].concat();
    assert_eq!(read_one(&class), Err(Error::Count { at: 1, count: 0x01ff_ffff }));
    let string = [&[0x06][..], &u29(0x1fff_ffff), b"x"].concat();
    assert_eq!(read_one(&string), Err(Error::Truncated { at: 5, marker: 0x06 }));
}

#[test]
fn nesting_is_limited() {
    let object = [0x0a, 0x0b, 0x01, 0x03, b'a']; // dynamic object, its member
    let array = [0x09, 0x03, 0x01]; // array of one element
    for (open, close) in [(&object[..], &[0x01][..]), (&array, &[])] {
        let nested = |levels: usize| [open.repeat(levels), vec![0x01], close.repeat(levels)].concat();
        read_one(&nested(MAX_NESTING)).unwrap();
        let expected = Error::Nesting { at: MAX_NESTING * open.len(), marker: open[0] };
        assert_eq!(read_one(&nested(MAX_NESTING + 1)), Err(expected.clone()));
        assert_eq!(read_one(&nested(100_000)), Err(expected));
    }
}

#[test]
fn values_are_counted() {
    let count = MAX_VALUES;
    let array = [&[0x09][..], &u29(u32::try_from(count << 1 | 1).unwrap()), &[0x01], &vec![0x01; count]].concat();
    assert!(matches!(read_one(&array), Err(Error::TooManyValues { .. })));
    let class = [&[0x0a][..], &u29(u32::try_from(count << 4 | 3).unwrap()), &[0x01], &vec![0x01; count]].concat();
    assert!(matches!(read_one(&class), Err(Error::TooManyValues { .. })), "names count too");
}

#[test]
fn references_cannot_multiply_a_large_string() {
    let length = MAX_COPIED / 4;
    let array = |count: u32| {
        let head = [&[0x09][..], &u29(count << 1 | 1), &[0x01, 0x06]].concat();
        let string = [u29(u32::try_from(length << 1 | 1).unwrap()), vec![b'x'; length]].concat();
        [head, string, b"\x06\x00".repeat(usize::try_from(count - 1).unwrap())].concat()
    };
    read_one(&array(5)).unwrap();
    assert!(matches!(read_one(&array(6)), Err(Error::TooManyCopies { .. })));
}

#[test]
fn references_cannot_multiply_a_large_class() {
    let length = MAX_COPIED / 4;
    let name = [u29(u32::try_from(length << 1 | 1).unwrap()), vec![b'x'; length]].concat();
    let array = |count: u32| {
        let head = [&[0x09][..], &u29(count << 1 | 1), &[0x01]].concat();
        let first = [b"\x0a\x13\x01", &name[..], &[0x01]].concat(); // sealed class of one name; null
        [head, first, b"\x0a\x01\x01".repeat(usize::try_from(count - 1).unwrap())].concat()
    };
    read_one(&array(5)).unwrap();
    assert!(matches!(read_one(&array(6)), Err(Error::TooManyCopies { .. })));
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(
        bytes in prop::collection::vec(prop_oneof![4 => 0..0x12_u8, 1 => any::<u8>()], 0..256)
    ) {
        let mut input = bytes.as_slice();
        if read(&mut input).is_err() {
            prop_assert_eq!(input.len(), bytes.len());
        }
    }

    #[test]
    fn numbers_of_29_bits(number in 0..0x2000_0000_u32) {
        let value = if number < 0x1000_0000 { f64::from(number) } else { f64::from(number) - 536_870_912.0 };
        prop_assert_eq!(read_one(&[&[0x04][..], &u29(number)].concat()).unwrap(), value.into());
    }
}
