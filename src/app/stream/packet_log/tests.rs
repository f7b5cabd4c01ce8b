use super::*;
use crate::app::stream::encode::rtmp::extended_timestamp::ExtendedTimestampEncoder;
use crate::rtmp::chunk::{ChunkDecoder, ChunkHeader, MAX_DELTA};
use crate::rtmp::message::Message;

const CHUNK_SIZE: usize = 128;

fn packet_log() -> PacketLog {
    PacketLog::new(CHUNK_SIZE, &MemoryTracker::default())
}

fn decode(pieces: &[Bytes]) -> Vec<Message> {
    let mut decoder = ChunkDecoder::new();
    let mut messages = Vec::new();
    for piece in pieces {
        let mut rest = &piece[..];
        while let Some(message) = decoder.decode(&mut rest).unwrap() {
            messages.push(message);
        }
    }
    messages
}

#[test]
fn an_entry_with_a_full_header_decodes_to_its_message_at_any_size_and_time() {
    for size in [0, 1, 127, 128, 129, 255, 256, 257, 1000, 128 * 1024, 128 * 1024 + 1, 300_000] {
        for time in [0, 5, 0xff_fffe, 0xff_ffff, 0x1234_5678] {
            let payload: Vec<u8> = (0..size).map(|n| n as u8).collect();
            let mut log = packet_log();
            let now = Instant::now();
            log.append(Track::Video, 40, PacketKind::Regular, b"before", now);
            log.append(Track::Video, 80, PacketKind::Regular, &payload, now);
            log.close_batch().unwrap();
            for seq in [0, 1] {
                let mut out = Vec::new();
                let message = log.share(seq).unwrap();
                let header = ChunkHeader {
                    csid: Track::Video.csid(),
                    kind: Track::Video.message_type(),
                    timestamp: time,
                    stream_id: 7,
                };
                if !message.with_full_header(&header, &mut out) {
                    let mut encoder = ExtendedTimestampEncoder::new(message, header);
                    while out.is_empty() || !encoder.is_done() {
                        out.push(encoder.next_piece(&MemoryTracker::default()));
                        assert!(out[out.len() - 1].len() < 140_000);
                    }
                }
                let messages = decode(&out);
                assert_eq!(messages.len(), 1);
                let expected = if seq == 0 { b"before" } else { &payload[..] };
                assert_eq!((messages[0].timestamp, messages[0].stream_id), (time, 7));
                assert_eq!(&messages[0].payload[..], expected);
            }
        }
    }
}

#[test]
fn spare_capacity_that_is_not_charged_is_not_kept() {
    let mut log = packet_log();
    for time in 0..10_000 {
        log.append(Track::Audio, time, PacketKind::Regular, &[1], Instant::now());
        if log.is_batch_full(true) {
            log.close_batch();
        }
    }
    log.close_batch();
    for keep in (0..=10_000).step_by(100) {
        log.trim(keep, 0, usize::MAX);
        assert!(log.entries.capacity() <= MIN_CAPACITY.max(4 * log.entries.len()), "at {keep}");
    }
    assert_eq!((log.first_seq(), log.end_seq()), (10_000, 10_000));
}

#[test]
fn the_buffer_of_a_large_message_goes_with_it() {
    let mut log = packet_log();
    log.append(Track::Video, 0, PacketKind::Keyframe, &vec![7; 16_000_000], Instant::now());
    log.close_batch();
    log.trim(u64::MAX, 0, 0);
    assert_eq!((log.open.capacity(), log.held()), (0, 0));
    log.append(Track::Video, 0, PacketKind::Keyframe, &[7; 100_000], Instant::now());
    log.close_batch();
    log.trim(u64::MAX, 0, 0);
    assert_eq!((log.open.capacity(), log.held()), (0, 0));
}

#[test]
fn batches_that_nobody_waits_for_fill_their_allocations() {
    let mut log = packet_log();
    let mut sizes = Vec::new();
    for n in 0..500 {
        let payload = vec![1; 200 + n % 700];
        if !log.has_room(payload.len()) {
            log.close_batch().unwrap();
            sizes.push(log.last_batch().len());
        }
        log.append(Track::Video, 40 * n as u64, PacketKind::Regular, &payload, Instant::now());
    }
    let unused = MessageLayout::max_len(900, CHUNK_SIZE as u32);
    assert!(sizes.len() > 10 && sizes.iter().all(|size| (BATCH_ALLOCATION - unused..=BATCH_ALLOCATION).contains(size)));
    assert!(!log.has_room(BATCH_ALLOCATION));
    log.close_batch();
    assert!(log.has_room(BATCH_ALLOCATION), "it gets an allocation of its own");
}

#[test]
fn a_batch_is_its_entries_in_a_row() {
    let mut log = packet_log();
    let now = Instant::now();
    for time in 0..10u64 {
        log.append(Track::Audio, time * 23, PacketKind::Regular, &[1; 50], now);
        log.append(Track::Video, time * 40, PacketKind::Regular, &[2; 500], now);
    }
    assert_eq!((log.end_seq(), log.next_seq()), (0, 20));
    let batch = log.close_batch().unwrap();
    assert!(log.close_batch().is_none() && log.batch_opened_at().is_none());
    assert_eq!(
        (batch.tracks, batch.all_delta, batch.message_count),
        (0b11, false, 20),
        "the first of each track has no delta"
    );
    let entries: Vec<u8> = (0..20).flat_map(|seq| log.share(seq).unwrap().bytes.to_vec()).collect();
    assert_eq!(entries, log.last_batch());
    assert_eq!(log.share_last_batch(), entries);
    assert_eq!(log.bytes(), entries.len() + 20 * size_of::<LogEntry>());
}

#[test]
fn a_delta_that_cannot_be_written_is_not_shared() {
    let mut log = packet_log();
    let now = Instant::now();
    for time in [1000, 1040, 1000, 1_000 + u64::from(MAX_DELTA), 2_001 + 2 * u64::from(MAX_DELTA)] {
        log.append(Track::Video, time, PacketKind::Regular, &[1], now);
    }
    log.close_batch();
    let has_delta: Vec<_> = (0..5).map(|seq| log.get(seq).unwrap().layout.has_delta).collect();
    assert_eq!(has_delta, [false, true, false, true, false], "the first, a step back, a step too far");
}

#[test]
fn trimming_keeps_what_is_needed_within_its_bounds() {
    let mut log = packet_log();
    for time in 0..10 {
        log.append(Track::Video, time * 100, PacketKind::Regular, &[1; 92], Instant::now());
    }
    log.close_batch();
    let entry = log.get(9).unwrap().layout.encoded_len as usize + size_of::<LogEntry>();
    log.trim(3, 0, usize::MAX);
    assert_eq!((log.first_seq(), log.get(2).is_none()), (3, true));
    log.trim(3, 450, usize::MAX);
    assert_eq!(log.first_seq(), 5, "what is too old goes though it is needed");
    log.trim(3, 0, 2 * entry);
    assert_eq!((log.first_seq(), log.bytes()), (8, 2 * entry), "and what is too much");
    assert_eq!(log.first_since(850, 10), 9);
    assert_eq!(log.first_since(0, 1), 9, "no more than it may look at");
    log.trim(u64::MAX, 0, 0);
    assert_eq!((log.first_seq(), log.end_seq(), log.bytes()), (10, 10, 0));
}

#[test]
fn many_blocks_are_evicted_in_bulk_and_few_are_not() {
    let filled = || {
        let mut log = packet_log();
        for time in 0..10 * MIN_BULK_EVICTION as u64 {
            log.append(Track::Video, time, PacketKind::Regular, &[1; BATCH_ALLOCATION / 4], Instant::now());
            log.close_batch();
        }
        log
    };
    let (mut log, mut other) = (filled(), filled());
    let all = log.entries.len() as u64;
    log.evict_bulk(100);
    assert_eq!((log.first_seq(), log.end_seq()), (0, all));
    for keep in [all - 10, u64::MAX] {
        log.evict_bulk(keep);
        assert!(log.first_seq() > all / 2);
        log.trim(keep, 0, usize::MAX);
        other.trim(keep, 0, usize::MAX);
        assert_eq!((log.first_seq(), log.end_seq(), log.bytes()), (other.first_seq(), all, other.bytes()));
        assert_eq!(log.held(), other.held());
        let message = |log: &mut PacketLog| log.share(all - 10).map(|message| message.bytes);
        assert_eq!(message(&mut log), message(&mut other));
    }
    assert_eq!((log.bytes(), log.held()), (0, 0));
}

#[test]
fn handles_stay_valid_whenever_they_are_made() {
    let payload = |n: usize| vec![n as u8; 1 + n * 37 % 5000];
    let mut log = packet_log();
    let mut handles = Vec::new();
    for n in 0..2000 {
        log.append(Track::Video, n as u64, PacketKind::Regular, &payload(n), Instant::now());
        // Batches of one to four messages, and handles to some of them while another is open.
        if n % 7 < 4 {
            log.close_batch();
        }
        if n % 11 == 3 {
            handles.push(log.share_last_batch());
        }
        if n % 5 == 2 && log.end_seq() > log.first_seq() {
            let seq = log.first_seq() + n as u64 * 31 % (log.end_seq() - log.first_seq());
            let message = log.share(seq).unwrap();
            assert_eq!(message.payload(), payload(seq as usize));
            handles.push(message.bytes);
        }
        if n % 13 == 5 {
            log.trim(log.end_seq().saturating_sub(20), 0, usize::MAX);
        }
    }
    log.close_batch();
    for seq in log.first_seq()..log.end_seq() {
        assert_eq!(log.share(seq).unwrap().payload(), payload(seq as usize));
    }
    let charged = log.memory().total();
    assert!(charged >= log.held() && log.held() >= log.bytes());
    log.trim(u64::MAX, 0, 0);
    assert!(log.held() == 0 && (1..=charged).contains(&log.memory().total()));
    drop(handles);
    assert_eq!(log.memory().total(), 0);
}

#[test]
fn the_charge_changes_with_allocations_and_not_with_messages() {
    let mut log = packet_log();
    let mut charges = Vec::new();
    for time in 0..1000 {
        log.append(Track::Audio, time, PacketKind::Regular, &[1; 500], Instant::now());
        log.close_batch();
        log.update_charge();
        let held = log.held();
        assert_eq!(log.memory().total(), held);
        assert!(held >= log.bytes());
        let entries = ENTRIES_PER_CHARGE * size_of::<LogEntry>();
        assert!(held <= log.bytes() + BATCH_ALLOCATION + entries, "{held} for {}", log.bytes());
        charges.push(held);
    }
    charges.dedup();
    assert!(charges.len() < 60, "{}", charges.len());
}
