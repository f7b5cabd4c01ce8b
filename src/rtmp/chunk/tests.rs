use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::rtmp::message::{Message, MessageType};

/// Decodes in one piece, split at every byte, and byte by byte, and checks that the results are equal.
fn decode(bytes: &[u8]) -> Result<Vec<Message>, Error> {
    let whole = decode_pieces([bytes]);
    for at in 0..=bytes.len() {
        assert_eq!(decode_pieces([&bytes[..at], &bytes[at..]]), whole, "split at {at}");
    }
    assert_eq!(decode_pieces(bytes.chunks(1)), whole, "byte by byte");
    whole
}

fn decode_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Message>, Error> {
    let mut decoder = ChunkDecoder::new();
    let mut messages = Vec::new();
    for mut piece in pieces {
        while let Some(message) = decoder.decode(&mut piece)? {
            messages.push(message);
        }
        assert!(piece.is_empty());
    }
    Ok(messages)
}

fn message(kind: u8, timestamp: u32, stream_id: u32, payload: &[u8]) -> Message {
    Message { kind: MessageType(kind), timestamp, stream_id, payload: Bytes::copy_from_slice(payload) }
}

#[test]
fn the_four_chunk_types() {
    let bytes = [
        0x03, 0, 0, 100, 0, 0, 2, 9, 1, 0, 0,
        0, // type 0, csid 3, at 100 ms, 2 bytes, video, stream 1 (little-endian)
        0xaa, 0xbb, //
        0x43, 0, 0, 40, 0, 0, 1, 8,    // type 1: 40 ms later, 1 byte, audio
        0xcc, //
        0x83, 0, 0, 10,   // type 2: 10 ms later
        0xdd, //
        0xc3, // type 3 that starts a message: 10 ms later again
        0xee,
    ];
    let expected = [
        message(9, 100, 1, &[0xaa, 0xbb]),
        message(8, 140, 1, &[0xcc]),
        message(8, 150, 1, &[0xdd]),
        message(8, 160, 1, &[0xee]),
    ];
    assert_eq!(decode(&bytes).unwrap(), expected);
}

#[test]
fn a_type_3_chunk_that_starts_a_message_after_type_0_repeats_its_time_as_the_delta() {
    // ffmpeg writes the second message like this when it is 23 ms, the time stamp of the first, later.
    let bytes = [0x04, 0, 0, 23, 0, 0, 1, 8, 1, 0, 0, 0, 0xaf, 0xc4, 0xaf];
    assert_eq!(decode(&bytes).unwrap(), [message(8, 23, 1, &[0xaf]), message(8, 46, 1, &[0xaf])]);
}

#[test]
fn basic_headers_of_two_and_three_bytes() {
    let bytes = [
        0x00, 0, 0, 0, 0, 0, 0, 1, 8, 1, 0, 0, 0, 0x11, // csid 64
        0x40, 255, 0, 0, 5, 0, 0, 1, 8, 0x22, // csid 319, first by type 1
        0x01, 0, 1, 0, 0, 7, 0, 0, 1, 8, 1, 0, 0, 0, 0x33, // csid 320
        0x01, 255, 255, 0, 0, 9, 0, 0, 1, 8, 1, 0, 0, 0, 0x44, // csid 65599
    ];
    let expected =
        [message(8, 0, 1, &[0x11]), message(8, 5, 0, &[0x22]), message(8, 7, 1, &[0x33]), message(8, 9, 1, &[0x44])];
    assert_eq!(decode(&bytes).unwrap(), expected);
}

#[test]
fn messages_interleave_by_chunk_stream() {
    let mut bytes = vec![0x06, 0, 0, 0, 0, 0, 200, 9, 1, 0, 0, 0]; // video of 200 bytes: 128 and 72
    bytes.extend([1; 128]);
    bytes.extend([0x04, 0, 0, 3, 0, 0, 2, 8, 1, 0, 0, 0, 2, 2]); // audio in between
    bytes.push(0xc6);
    bytes.extend([1; 72]);
    assert_eq!(decode(&bytes).unwrap(), [message(8, 3, 1, &[2; 2]), message(9, 0, 1, &[1; 200])]);
}

#[test]
fn set_chunk_size_at_any_time_even_inside_a_message() {
    let mut bytes = vec![0x06, 0, 0, 0, 0, 1, 44, 9, 1, 0, 0, 0]; // video of 300 bytes
    bytes.extend([1; 128]);
    bytes.extend([0x02, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 1, 0]); // chunk size 256
    bytes.push(0xc6);
    bytes.extend([1; 172]);
    assert_eq!(decode(&bytes).unwrap(), [message(9, 0, 1, &[1; 300])]);
}

#[test]
fn bad_chunk_sizes_are_errors() {
    for (size, value) in [([0, 0, 0, 0], 0), ([0x80, 0, 0, 0], 0x8000_0000), ([0xff; 4], 0xffff_ffff)] {
        let mut bytes = vec![0x02, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0];
        bytes.extend(size);
        assert_eq!(decode(&bytes), Err(Error::BadChunkSize(Some(value))));
    }
    assert_eq!(decode(&[0x02, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 9]), Err(Error::BadChunkSize(None)));
}

#[test]
fn the_maximum_chunk_size_is_accepted() {
    let mut bytes = vec![0x02, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff];
    bytes.extend([0x06, 0, 0, 0, 0, 1, 44, 9, 1, 0, 0, 0]);
    bytes.extend([1; 300]);
    assert_eq!(decode(&bytes).unwrap(), [message(9, 0, 1, &[1; 300])]);
}

#[test]
fn abort_drops_the_message_in_progress() {
    let mut bytes = vec![0x06, 0, 0, 5, 0, 0, 200, 9, 1, 0, 0, 0];
    bytes.extend([1; 128]);
    bytes.extend([0x02, 0, 0, 0, 0, 0, 4, 2, 0, 0, 0, 0, 0, 0, 0, 6]); // abort chunk stream 6
    bytes.extend([0x06, 0, 0, 9, 0, 0, 1, 9, 1, 0, 0, 0, 7]);
    bytes.extend([0x02, 0, 0, 0, 0, 0, 4, 2, 0, 0, 0, 0, 0, 0, 0, 99]); // abort one that does not exist
    bytes.extend([0x02, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]); // abort without an id
    assert_eq!(decode(&bytes).unwrap(), [message(9, 9, 1, &[7])]);
}

#[test]
fn extended_timestamps_with_the_field_on_type_3_chunks() {
    let mut bytes = vec![0x06, 0xff, 0xff, 0xff, 0, 0, 200, 9, 1, 0, 0, 0, 0x01, 0, 0, 0]; // at 2^24 ms
    bytes.extend([1; 128]);
    bytes.extend([0xc6, 0x01, 0, 0, 0]);
    bytes.extend([2; 72]);
    let mut payload = vec![1; 128];
    payload.extend([2; 72]);
    assert_eq!(decode(&bytes).unwrap(), [message(9, 1 << 24, 1, &payload)]);
}

#[test]
fn extended_timestamps_without_the_field_on_type_3_chunks() {
    // librtmp before 2.4 sends chunks like this (0xCX without the four bytes).
    let mut bytes = vec![0x06, 0xff, 0xff, 0xff, 0, 0, 200, 9, 1, 0, 0, 0, 0x01, 0, 0, 0];
    bytes.extend([1; 128]);
    bytes.push(0xc6);
    bytes.extend([2; 72]);
    // A second message with payload that looks like the time stamp: it is known by now that the client omits the field.
    bytes.extend([0x06, 0xff, 0xff, 0xff, 0, 0, 132, 9, 1, 0, 0, 0, 0x01, 0, 0, 1]);
    bytes.extend([1; 128]);
    bytes.extend([0xc6, 0x01, 0, 0, 1]);
    let messages = decode(&bytes).unwrap();
    assert_eq!(messages.len(), 2);
    assert_eq!((messages[0].timestamp, messages[0].payload.len()), (1 << 24, 200));
    assert_eq!(&messages[1].payload[128..], [0x01, 0, 0, 1]);
}

#[test]
fn a_type_3_chunk_of_fewer_than_four_bytes_without_the_field_is_decoded_at_once() {
    let mut bytes = vec![0x06, 0xff, 0xff, 0xff, 0, 0, 130, 9, 1, 0, 0, 0, 0x01, 0, 0, 0];
    bytes.extend([1; 128]);
    bytes.extend([0xc6, 2, 2]);
    assert_eq!(decode(&bytes).unwrap().len(), 1);
}

#[test]
fn extended_deltas_repeat_the_delta_or_the_time_on_type_3_chunks() {
    for repeated in [[0x01, 0, 0, 0], [0x01, 0, 0, 10]] {
        let mut bytes = vec![0x06, 0, 0, 10, 0, 0, 1, 9, 1, 0, 0, 0, 7];
        bytes.extend([0x46, 0xff, 0xff, 0xff, 0, 0, 129, 9, 0x01, 0, 0, 0]); // 2^24 ms later
        bytes.extend([1; 128]);
        bytes.push(0xc6);
        bytes.extend(repeated);
        bytes.push(1);
        assert_eq!(decode(&bytes).unwrap()[1], message(9, (1 << 24) + 10, 1, &[1; 129]));
    }
}

#[test]
fn a_delta_above_half_its_range_is_negative() {
    let bytes = [
        0x04, 0, 0, 100, 0, 0, 1, 8, 1, 0, 0, 0, 0xaf, // at 100
        0x84, 0xff, 0xff, 0xf6, 0xaf, // 10 back
    ];
    assert_eq!(decode(&bytes).unwrap()[1].timestamp, 90);
}

#[test]
fn timestamps_wrap_at_32_bits() {
    let bytes = [
        0x04, 0xff, 0xff, 0xff, 0, 0, 1, 8, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xf0, 0xaf, //
        0x84, 0, 0, 0x20, 0xaf,
    ];
    let times: Vec<_> = decode(&bytes).unwrap().iter().map(|message| message.timestamp).collect();
    assert_eq!(times, [0xffff_fff0, 0x10]);
}

#[test]
fn a_first_chunk_without_length_is_an_error() {
    assert_eq!(decode(&[0xc5, 1, 2, 3]), Err(Error::NoHeader { csid: 5, fmt: 3 }));
    assert_eq!(decode(&[0x85, 0, 0, 0, 3]), Err(Error::NoHeader { csid: 5, fmt: 2 }));
}

#[test]
fn librtmp_begins_chunk_stream_2_with_type_1() {
    // SetBufferLength of rtmpdump 2.4: type 1 on a chunk stream without an earlier message.
    let bytes = [0x42, 0, 0, 0, 0, 0, 10, 4, 0, 3, 0, 0, 0, 1, 0, 0, 0x0b, 0xb8];
    assert_eq!(decode(&bytes).unwrap(), [message(4, 0, 0, &bytes[8..])]);
}

#[test]
fn a_header_that_changes_the_length_inside_a_message_is_an_error() {
    let mut start = vec![0x06, 0, 0, 0, 0, 0, 200, 9, 1, 0, 0, 0];
    start.extend([1; 128]);
    let other_length = [&start[..], &[0x46, 0, 0, 0, 0, 0, 10, 9]].concat();
    assert_eq!(
        decode(&other_length),
        Err(Error::HeaderInMessage { csid: 6, length: 10, received: 128, expected: 200 })
    );
    let new_message = [&start[..], &[0x06, 0, 0, 0, 0, 0, 200, 9, 1, 0, 0, 0]].concat();
    assert!(matches!(decode(&new_message), Err(Error::HeaderInMessage { .. })));
}

#[test]
fn a_header_that_repeats_length_and_type_continues_the_message() {
    let mut bytes = vec![0x06, 0, 0, 5, 0, 0, 200, 9, 1, 0, 0, 0];
    bytes.extend([1; 128]);
    bytes.extend([0x46, 0, 0, 0, 0, 0, 200, 9]);
    bytes.extend([1; 72]);
    assert_eq!(decode(&bytes).unwrap(), [message(9, 5, 1, &[1; 200])]);
}

#[test]
fn empty_messages() {
    let bytes = [0x04, 0, 0, 1, 0, 0, 0, 8, 1, 0, 0, 0, 0xc4, 0xc4];
    let times: Vec<_> = decode(&bytes).unwrap().iter().map(|message| message.timestamp).collect();
    assert_eq!(times, [1, 2, 3]);
}

#[test]
fn chunk_streams_are_bounded() {
    let mut decoder = ChunkDecoder::new();
    let mut result = Ok(None);
    for csid in 0..=MAX_CHUNK_STREAMS {
        // Empty messages on chunk streams 64 and up.
        let header = [0x00, csid as u8, 0, 0, 0, 0, 0, 0, 8, 1, 0, 0, 0];
        result = decoder.decode(&mut &header[..]);
    }
    assert_eq!(result, Err(Error::TooManyStreams));
}

#[test]
fn incomplete_messages_are_bounded() {
    let mut decoder = ChunkDecoder::new();
    // The chunk size is one byte less than the message length, so that each message stays incomplete.
    let set_chunk_size = [0x02, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0x00, 0xff, 0xff, 0xfe];
    assert_eq!(decoder.decode(&mut &set_chunk_size[..]), Ok(None));
    let piece = vec![0; 0xff_fffe];
    for csid in 3..6u8 {
        let header = [csid, 0, 0, 0, 0xff, 0xff, 0xff, 9, 1, 0, 0, 0];
        assert_eq!(decoder.decode(&mut &header[..]), Ok(None));
        assert!(decoder.incomplete() <= MAX_INCOMPLETE);
        let result = decoder.decode(&mut &piece[..]);
        assert_eq!(result, if csid < 5 { Ok(None) } else { Err(Error::TooMuchIncomplete(MAX_INCOMPLETE)) });
    }
}

#[test]
fn encoding_with_an_extended_timestamp() {
    let mut out = BytesMut::new();
    let header =
        ChunkHeader { csid: ChunkStreamId::VIDEO, kind: MessageType::VIDEO, timestamp: 0x0102_0304, stream_id: 1 };
    assert_eq!(encode(&mut out, &header, &[7; 3], 2), 16);
    let expected = [
        0x06, 0xff, 0xff, 0xff, 0, 0, 3, 9, 1, 0, 0, 0, 1, 2, 3, 4, 7, 7, // type 0 and its extended time stamp
        0xc6, 1, 2, 3, 4, 7, // type 3 repeats it
    ];
    assert_eq!(out[..], expected);
}

fn any_message() -> impl Strategy<Value = (u32, Message)> {
    // Without the types that the decoder does not return.
    let kind = prop_oneof![Just(8u8), Just(9), Just(18), Just(20), Just(200)];
    let payload = proptest::collection::vec(any::<u8>(), 0..700);
    let time = prop_oneof![0u32..100_000, 0xff_fff0u32..0x100_0010, any::<u32>()];
    (prop_oneof![2u32..20, 310u32..330, Just(65599)], kind, time, any::<u32>(), payload)
        .prop_map(|(csid, kind, time, stream_id, payload)| (csid, message(kind, time, stream_id, &payload)))
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(messages in proptest::collection::vec(any_message(), 1..20), step in 1usize..900) {
        let mut out = BytesMut::new();
        for (csid, message) in &messages {
            let header = ChunkHeader {
                csid: ChunkStreamId(*csid),
                kind: message.kind,
                timestamp: message.timestamp,
                stream_id: message.stream_id,
            };
            encode(&mut out, &header, &message.payload, DEFAULT_CHUNK_SIZE);
        }
        let decoded = decode_pieces(out.chunks(step)).unwrap();
        prop_assert_eq!(decoded, messages.into_iter().map(|(_, message)| message).collect::<Vec<_>>());
    }

    #[test]
    fn deltas_are_decoded_to_absolute_times(start in any::<u32>(), deltas in proptest::collection::vec(0..=MAX_DELTA, 1..20)) {
        let mut out = BytesMut::new();
        let mut header =
            ChunkHeader { csid: ChunkStreamId::AUDIO, kind: MessageType::AUDIO, timestamp: start, stream_id: 1 };
        encode(&mut out, &header, &[1; 200], 128);
        let mut expected = vec![start];
        for delta in deltas {
            header.timestamp = header.timestamp.wrapping_add(delta);
            encode_delta(&mut out, &header, delta, &[1; 200], 128);
            expected.push(header.timestamp);
        }
        let times: Vec<_> = decode_pieces([&out[..]]).unwrap().iter().map(|message| message.timestamp).collect();
        prop_assert_eq!(times, expected);
    }

    #[test]
    fn any_bytes_are_harmless_and_may_be_split_anywhere(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn a_claimed_length_allocates_nothing(csids in proptest::collection::vec(3u8..60, 1..40)) {
        let mut decoder = ChunkDecoder::new();
        let mut bytes = vec![0x02, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 1]; // chunk size 1
        for csid in &csids {
            // A claimed length of 16 MB, or one more byte of that message.
            bytes.push(if bytes.len() > 16 && csids[0] == *csid { 0xc0 | csid } else { *csid });
            if bytes[bytes.len() - 1] < 0x40 {
                bytes.extend([0, 0, 0, 0xff, 0xff, 0xff, 9, 1, 0, 0, 0]);
            }
            bytes.push(7);
        }
        let _ = decoder.decode(&mut &bytes[..]);
        prop_assert!(decoder.capacity() <= 60 * 4096, "{}", decoder.capacity());
    }
}

/// Found by fuzzing: the decoder took the first bytes of such a payload for the start of a repeated field, and lost them if
/// the read ended there.
#[test]
fn payload_that_begins_like_an_omitted_extended_timestamp() {
    // Type 0, csid 3, extended time stamp 0x01020304, 130 bytes of video on stream 1: two chunks.
    let mut bytes = vec![0x03, 0xff, 0xff, 0xff, 0, 0, 130, 9, 1, 0, 0, 0, 1, 2, 3, 4];
    bytes.extend([7; 128]);
    bytes.extend([0xc3, 1, 2]); // type 3 without the field, and payload that is its first half
    bytes.extend([0xc3, 1, 2, 9]); // type 3 that starts a message of the same length and beginning
    bytes.extend([8; 125]);
    bytes.extend([0xc3, 1, 2]);
    let payload = [&[7; 128][..], &[1, 2]].concat();
    let next = [&[1, 2, 9][..], &[8; 125], &[1, 2]].concat();
    let whole = decode(&bytes).unwrap();
    assert_eq!(whole.iter().map(|message| &message.payload[..]).collect::<Vec<_>>(), [&payload[..], &next]);
}
