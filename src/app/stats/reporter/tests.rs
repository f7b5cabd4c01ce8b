use super::rates::kbps;
use super::*;

/// Source whose message count is its number.
struct Numbered(u64);

impl StatsSource for Numbered {
    fn number(&self) -> u64 {
        self.0
    }

    fn bytes(&self) -> ByteCounts {
        ByteCounts::default()
    }

    fn messages(&self) -> MessageCounts {
        MessageCounts { passed: self.0, dropped: 0 }
    }
}

/// Returns the registered numbers in print order, and checks the index.
fn print_order(group: &StatsGroup) -> Vec<u64> {
    group.state.with(|state| {
        let numbers: Vec<_> = state.entries.iter().map(|entry| entry.source.number()).collect();
        assert_eq!(state.indices, numbers.iter().copied().zip(0..).collect());
        numbers
    })
}

#[test]
fn who_leaves_is_found_and_the_last_takes_the_turn() {
    crate::st::run(|| {
        let group = StatsGroup::new("->", "clients", Duration::from_secs(10));
        let mut all: Vec<_> = (1..=6).map(|number| group.register(Arc::new(Numbered(number)))).collect();
        drop(all.remove(1));
        assert_eq!(print_order(&group), [1, 6, 3, 4, 5]);
        drop(all.pop());
        assert_eq!(print_order(&group), [1, 5, 3, 4]);
        drop(all.pop());
        assert_eq!(print_order(&group), [1, 4, 3]);
        let again = group.register(Arc::new(Numbered(1)));
        assert_eq!(print_order(&group), [3, 4, 1], "nobody is there twice");
        drop((all, again));
        assert!(print_order(&group).is_empty());
        assert_eq!(group.state.with(|state| state.former.messages.passed), 1 + 2 + 3 + 4 + 5 + 6 + 1);
    })
    .unwrap();
}

#[test]
fn kilobits_a_second() {
    assert_eq!(kbps(125_000, Duration::from_secs(2)), 500);
    assert_eq!(kbps(100, Duration::ZERO), 800);
    assert_eq!(kbps(u64::MAX, Duration::from_secs(1)), u64::MAX / 1000);
}

#[test]
fn rates_are_those_of_the_last_whole_window() {
    let start = Instant::now();
    let second = |seconds: u64| start + Duration::from_secs(seconds);
    let bytes = |kilobytes: u64| ByteCounts { sent: kilobytes * 1000, received: kilobytes * 2000 };
    let mut rates = Rates::new(start, bytes(7));
    let own = |rates: &Rates, now, all| rates.kbps(now, all).map(|(sent, _)| sent);
    // 10 kilobytes a second for 30 seconds: at first, the time since the beginning.
    assert_eq!(own(&rates, second(5), bytes(57)), [80, 80]);
    for tick in 1..=3 {
        rates.sample(second(10 * tick), bytes(7 + 100 * tick));
    }
    // Nothing for 20 seconds: the short window shows the last whole one, the long one has not passed yet.
    assert_eq!(own(&rates, second(50), bytes(307)), [80, 48]);
    for tick in 4..=6 {
        rates.sample(second(10 * tick), bytes(307));
    }
    assert_eq!(own(&rates, second(60), bytes(307)), [0, 40]);
    for tick in 7..=30 {
        rates.sample(second(10 * tick), bytes(307));
    }
    assert_eq!(rates.kbps(second(310), bytes(999)), [(0, 0), (8, 16)]);
}

/// Source that has sent and received a byte for each message, whose number is changed from outside.
struct Growing(u64, Shared<u64>);

impl StatsSource for Growing {
    fn number(&self) -> u64 {
        self.0
    }

    fn bytes(&self) -> ByteCounts {
        let count = self.1.with(|count| *count);
        ByteCounts { sent: count, received: count }
    }

    fn messages(&self) -> MessageCounts {
        MessageCounts { passed: self.1.with(|count| *count), dropped: self.0 }
    }
}

#[test]
fn the_sum_never_falls_while_sources_come_and_go_between_its_parts() {
    crate::st::run(|| {
        const COUNT: u64 = 3 * CHUNK as u64 + 10;
        let group = StatsGroup::new("->", "clients", Duration::from_secs(10));
        let counter = Shared::new(0);
        let mut all: Vec<_> =
            (0..COUNT).map(|number| group.register(Arc::new(Growing(number, counter.clone())))).collect();
        let (mut last, mut expected) = (0, 0);
        for round in 0..20 {
            counter.with(|count| *count += 5);
            expected += 5 * all.len() as u64;
            let mut range = 0..CHUNK;
            while group.state.with(|state| state.count(range.clone(), None)) {
                range = range.end..range.end + CHUNK;
                // The last source takes its place, and is not counted in this round.
                drop(all.swap_remove(round % all.len()));
                let passed = group.state.with(|state| state.traffic().messages.passed);
                assert!(passed >= last, "{passed} after {last}");
                last = passed;
            }
            let SourceStats { messages, bytes, .. } = group.total();
            assert_eq!((messages.passed, bytes.sent, bytes.received), (expected, expected, expected));
        }
        drop(all);
        assert_eq!(group.total().messages.passed, expected);
        assert_eq!(group.state.with(|state| state.present.messages.dropped), 0);
    })
    .unwrap();
}
