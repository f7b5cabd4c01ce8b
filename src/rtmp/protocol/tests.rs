use bytes::Bytes;

use super::*;
use crate::rtmp::chunk::ChunkStreamId;

/// Takes and decodes the queued messages.
fn take_sent(protocol: &mut Protocol<()>) -> Vec<Message> {
    let bytes = protocol.take_output();
    let (mut rest, mut decoder, mut messages) = (&bytes[..], ChunkDecoder::new(), Vec::new());
    while let Some(message) = decoder.decode(&mut rest).unwrap() {
        messages.push(message);
    }
    messages
}

fn control(kind: MessageType, payload: &[u8]) -> Bytes {
    let mut peer = Protocol::new(());
    peer.send_control(kind, payload);
    peer.take_output()
}

#[test]
fn a_ping_is_answered_with_its_time() {
    let mut protocol = Protocol::new(());
    protocol.feed(&control(MessageType::USER_CONTROL, &[0, 6, 0, 0, 1, 2])).unwrap();
    assert_eq!(protocol.next_message().unwrap(), None);
    let reply = take_sent(&mut protocol).remove(0);
    assert_eq!((reply.kind, &reply.payload[..]), (MessageType::USER_CONTROL, &[0, 7, 0, 0, 1, 2][..]));
}

#[test]
fn bytes_are_acknowledged_by_the_window_that_the_peer_set() {
    let mut protocol = Protocol::new(());
    let window = control(MessageType::WINDOW_ACKNOWLEDGEMENT_SIZE, &100u32.to_be_bytes());
    protocol.feed(&window).unwrap();
    assert_eq!(protocol.next_message().unwrap(), None);
    assert_eq!(take_sent(&mut protocol), []);
    // Messages without effect, to increase the number of received bytes.
    let filler = control(MessageType::ACKNOWLEDGEMENT, &[0; 4]);
    let mut total = window.len();
    let mut acknowledged = Vec::new();
    for _ in 0..20 {
        protocol.feed(&filler).unwrap();
        total += filler.len();
        acknowledged.extend(take_sent(&mut protocol).iter().map(|ack| first_u32(&ack.payload).unwrap() as usize));
    }
    assert_eq!(acknowledged.len(), total / 112, "one after at least 100 bytes, in steps of 16");
    assert!(acknowledged.is_sorted() && acknowledged[0] >= 100);
}

#[test]
fn windows_of_zero_and_one_byte_do_no_harm() {
    for (window, acks) in [(0u32, 0), (1, 1)] {
        let mut protocol = Protocol::new(());
        protocol.feed(&control(MessageType::WINDOW_ACKNOWLEDGEMENT_SIZE, &window.to_be_bytes())).unwrap();
        assert_eq!(protocol.next_message().unwrap(), None);
        protocol.feed(&control(MessageType::ACKNOWLEDGEMENT, &[0; 4])).unwrap();
        assert_eq!(take_sent(&mut protocol).len(), acks, "one per input, not one per byte");
    }
}

#[test]
fn set_peer_bandwidth_is_answered_with_the_window() {
    let mut protocol = Protocol::new(());
    protocol.set_window(2_500_000);
    take_sent(&mut protocol);
    protocol.feed(&control(MessageType::SET_PEER_BANDWIDTH, &[0, 0, 0, 9, 2])).unwrap();
    assert_eq!(protocol.next_message().unwrap(), None);
    let reply = take_sent(&mut protocol).remove(0);
    assert_eq!(first_u32(&reply.payload), Some(2_500_000));
}

#[test]
fn consecutive_empty_aggregates_are_skipped() {
    let mut peer = Protocol::new(());
    let empty = Message { kind: MessageType::AGGREGATE, timestamp: 0, stream_id: 0, payload: Bytes::new() };
    (0..1000).for_each(|_| peer.send(ChunkStreamId::VIDEO, &empty));
    peer.send(ChunkStreamId::AUDIO, &Message { kind: MessageType(8), payload: Bytes::from_static(&[1]), ..empty });
    let mut protocol = Protocol::new(());
    protocol.feed(&peer.take_output()).unwrap();
    // A small stack, because a recursive implementation would overflow it. The allocator takes some for itself.
    let kind = std::thread::Builder::new()
        .stack_size(256 * 1024)
        .spawn(move || protocol.next_message().unwrap().map(|message| message.kind.0));
    assert_eq!(kind.unwrap().join().unwrap(), Some(8));
}

#[test]
fn unprocessed_input_is_charged() {
    let memory = crate::memory::MemoryTracker::default();
    let charge = Arc::new(memory.charge(crate::memory::Category::Incoming));
    let mut protocol = Protocol::new(());
    protocol.track_input(charge.clone());
    let mut peer = Protocol::new(());
    peer.set_chunk_size(65_536);
    let payload = Bytes::from(vec![0; 50_000]);
    let aggregate = [&[9, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0][..], &[0; 0x8000], &[0; 4]].concat();
    for (kind, payload) in [(9, payload.clone()), (22, Bytes::from(aggregate)), (9, payload)] {
        peer.send(ChunkStreamId::VIDEO, &Message { kind: MessageType(kind), timestamp: 0, stream_id: 1, payload });
    }
    protocol.feed(&peer.take_output()).unwrap();
    assert!(charge.get() >= 132_000, "{}", charge.get());
    while protocol.next_message().unwrap().is_some() {
        assert!(charge.get() >= 132_000, "until all of it is processed");
    }
    assert_eq!(charge.get(), 0);
    protocol.set_in_flight_replies(700);
    assert_eq!(charge.get(), 700);
    protocol.set_in_flight_replies(0);
    assert_eq!(memory.total(), 0);
}

#[test]
fn small_chunks_count_as_work() {
    let mut peer = Protocol::new(());
    peer.set_chunk_size(1);
    let payload = Bytes::from(vec![0; 8000]);
    peer.send(ChunkStreamId::VIDEO, &Message { kind: MessageType(9), timestamp: 0, stream_id: 1, payload });
    let mut protocol = Protocol::new(());
    let before = protocol.work_units();
    protocol.feed(&peer.take_output()).unwrap();
    assert!((1000..1010).contains(&(protocol.work_units() - before)));
    let before = protocol.work_units();
    protocol.discard_input();
    assert_eq!(protocol.work_units(), before, "it never decreases");
}

#[test]
fn an_aggregate_is_split_before_the_next_message() {
    let mut peer = Protocol::new(());
    let aggregate = [8, 0, 0, 1, 0, 0, 10, 0, 0, 0, 0, 0xaf, 0, 0, 0, 12, 9, 0, 0, 1, 0, 0, 20, 0, 0, 0, 0, 0x17];
    for (kind, payload) in [(22, &aggregate[..]), (8, &[1])] {
        let payload = Bytes::copy_from_slice(payload);
        peer.send(ChunkStreamId::AUDIO, &Message { kind: MessageType(kind), timestamp: 50, stream_id: 1, payload });
    }
    let mut protocol = Protocol::new(());
    protocol.feed(&peer.take_output()).unwrap();
    let kinds: Vec<_> =
        std::iter::from_fn(|| protocol.next_message().unwrap()).map(|m| (m.kind.0, m.timestamp)).collect();
    assert_eq!(kinds, [(8, 50), (9, 60), (8, 50)]);
}
