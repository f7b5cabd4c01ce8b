//! Tests of the events of a stream: they are paired and in order, whatever happens.

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};

use proptest::prelude::*;

use super::*;

/// An observer that writes down events, and checks their order.
#[derive(Default)]
struct Recorder {
    events: Mutex<Vec<StreamEvent>>,
    /// Attaches an output that panics at its first frame to each publication.
    attaches: AtomicBool,
}

/// An output that panics at the first keyframe.
struct FailingOutput;

impl Output for FailingOutput {
    fn packet(&mut self, packet: &Packet<'_>) {
        assert!(packet.kind != PacketKind::Keyframe, "the output fails on purpose");
    }

    fn reconfigure(&mut self, _: &Vhost) -> bool {
        true
    }

    fn end(self: Box<Self>, _: EndReason) {}
}

impl StreamObserver for Recorder {
    fn on_stream_event(&self, event: StreamEvent) {
        if let StreamEvent::Published { source, .. } = &event
            && self.attaches.load(Ordering::Relaxed)
        {
            // The stream is free: an observer may use it.
            let vhost = source.with(|state| state.vhost.clone());
            source.attach_output("failing", &vhost, true, |_| Some(Box::new(FailingOutput)));
        }
        self.events.lock().unwrap().push(event);
    }
}

impl Recorder {
    fn names(&self) -> Vec<String> {
        std::mem::take(&mut *self.events.lock().unwrap()).iter().map(name).collect()
    }
}

fn name(event: &StreamEvent) -> String {
    match event {
        StreamEvent::Published { client, resumed: false, .. } => format!("published {}", client.id),
        StreamEvent::Published { client, resumed: true, .. } => format!("resumed {}", client.id),
        StreamEvent::PublisherLost { client, .. } => format!("lost {}", client.id),
        StreamEvent::Unpublished { .. } => "unpublished".to_owned(),
        StreamEvent::Played { client, .. } => format!("played {}", client.id),
        StreamEvent::Stopped { client, .. } => format!("stopped {}", client.id),
        StreamEvent::CodecsKnown { codecs, .. } => {
            let name = |codec: Option<String>| codec.unwrap_or_else(|| "none".to_owned());
            let video = name(codecs.video.map(|codec| codec.to_string()));
            format!("codecs {video} {}", name(codecs.audio.map(|codec| codec.to_string())))
        }
    }
}

fn observed(directives: &str) -> (StreamRegistry, Source, Arc<Recorder>) {
    let observer = Arc::new(Recorder::default());
    let registry = StreamRegistry::new(MemoryTracker::default(), observer.clone());
    let text = format!("listen 1935; vhost __defaultVhost__ {{ min_latency on; {directives} }}");
    let config = ServerConfig::parse("t", &text).unwrap();
    let source = registry.get_or_create("v/live/s", config.vhost("x").unwrap());
    (registry, source, observer)
}

#[test]
fn a_stream_tells_of_its_publishers_players_and_codecs() {
    let (_registry, source, observer) = observed("publish { reconnect_grace 10; }");
    let reservation = source.reserve(1).unwrap();
    assert!(observer.names().is_empty(), "a reservation is no publication");
    let publication = reservation.publish(Socket::new(0), stream_info(), client_info(1)).unwrap();
    send_headers(&publication);
    send(&publication, &[key(0, 1), audio(5, 2)]);
    let consumer = source.join(Socket::new(0), 1, stream_info(), client_info(7));
    drop(source.join_forwarder(Socket::new(0)));
    drop(publication);
    let publication = publish(&source);
    drop(consumer);
    publication.unpublish();
    drop(publication);
    let expected = [
        "published 1",
        "codecs H.264 none",
        "codecs H.264 AAC",
        "played 7",
        "lost 1",
        "resumed 1",
        "stopped 7",
        "lost 1",
        "unpublished",
    ];
    assert_eq!(observer.names(), expected);
}

#[test]
fn a_replaced_publisher_is_lost_before_the_next_one_publishes() {
    let (_registry, source, observer) = observed("publish { stall_timeout 1; }");
    let _first = acquire(&source, 1, Socket::new(0)).unwrap();
    source.with(|state| state.publisher.as_mut().unwrap().last_activity -= Duration::from_secs(2));
    let _second = acquire(&source, 2, Socket::new(0)).unwrap();
    assert_eq!(observer.names(), ["published 1", "lost 1", "resumed 2"]);
}

#[test]
fn a_stream_that_is_removed_within_its_grace_has_ended() {
    let (registry, source, observer) = observed("publish { reconnect_grace 3600; }");
    drop(publish(&source));
    drop(source);
    observer.names();
    registry.remove_idle(Duration::ZERO);
    assert!(registry.is_empty());
    assert_eq!(observer.names(), ["unpublished"]);
}

#[test]
fn a_publisher_that_changes_codecs_with_each_message_causes_few_events() {
    let (_registry, source, observer) = observed("");
    let publication = publish(&source);
    for n in 0..100 {
        send(&publication, &[message(MessageType::AUDIO, n, &[if n % 2 == 0 { 0x2f } else { 0xbf }, 1])]);
    }
    assert_eq!(observer.names().len(), 1 + 16);
}

#[test]
fn events_are_told_while_a_panic_unwinds() {
    let (_registry, source, observer) = observed("");
    let publication = publish(&source);
    let consumer = join(&source, Socket::new(0));
    observer.names();
    let result = panic::catch_unwind(AssertUnwindSafe(|| {
        let _handles = (publication, consumer);
        source.with(|_| panic!("a fault of a coroutine, on purpose"));
    }));
    assert!(result.is_err());
    assert_eq!(observer.names(), ["lost 1", "stopped 100"]);
}

#[test]
fn what_an_observer_causes_is_told_after_the_event_that_it_handles() {
    struct Unpublishing(Mutex<Vec<String>>);
    impl StreamObserver for Unpublishing {
        fn on_stream_event(&self, event: StreamEvent) {
            self.0.lock().unwrap().push(name(&event));
            match event {
                StreamEvent::Published { source, .. } => source.shut_down(),
                StreamEvent::PublisherLost { .. } => panic!("an observer fails on purpose"),
                _ => {}
            }
            self.0.lock().unwrap().push("end".to_owned());
        }
    }
    let observer = Arc::new(Unpublishing(Mutex::default()));
    let registry = StreamRegistry::new(MemoryTracker::default(), observer.clone());
    let config = ServerConfig::parse("t", "listen 1935; vhost __defaultVhost__ { }").unwrap();
    drop(publish(&registry.get_or_create("v/live/s", config.vhost("x").unwrap())));
    assert_eq!(*observer.0.lock().unwrap(), ["published 1", "end", "lost 1", "unpublished", "end"]);
}

/// The grammar of a stream's events, checked one by one.
#[derive(Default)]
struct Grammar {
    publisher: Option<u64>,
    announced: bool,
    /// Present players by client number.
    players: BTreeMap<u64, u32>,
}

impl Grammar {
    fn check(&mut self, event: &StreamEvent) -> Result<(), String> {
        let is_valid = match event {
            StreamEvent::Published { client, resumed, .. } => {
                let was_announced = std::mem::replace(&mut self.announced, true);
                self.publisher.replace(client.id).is_none() && was_announced == *resumed
            }
            StreamEvent::PublisherLost { client, .. } => self.publisher.take() == Some(client.id),
            StreamEvent::Unpublished { .. } => self.publisher.is_none() && std::mem::take(&mut self.announced),
            StreamEvent::Played { client, .. } => {
                *self.players.entry(client.id).or_default() += 1;
                true
            }
            StreamEvent::Stopped { client, .. } => {
                let count = self.players.entry(client.id).or_default();
                *count = count.wrapping_sub(1);
                *count != u32::MAX
            }
            StreamEvent::CodecsKnown { .. } => self.publisher.is_some(),
        };
        if is_valid { Ok(()) } else { Err(name(event)) }
    }
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Reserve,
    ReleaseReservation,
    Publish,
    Lose,
    Unpublish,
    /// The publisher falls silent for longer than `stall_timeout`.
    Stall,
    Media(u8),
    Play,
    StopPlay(u8),
    EvictPlayers,
    EvictPublisher,
    /// The grace of a lost publisher is over.
    GraceOver,
    UnpublishAll,
    /// A coroutine that has all handles panics within the stream.
    Panic,
    /// The registry removes the stream if it is idle.
    RemoveIdle,
    /// The next publications have an output that panics, or none.
    Output(bool),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        1 => Just(Action::Reserve),
        1 => Just(Action::ReleaseReservation),
        3 => Just(Action::Publish),
        2 => Just(Action::Lose),
        1 => Just(Action::Unpublish),
        1 => Just(Action::Stall),
        4 => any::<u8>().prop_map(Action::Media),
        3 => Just(Action::Play),
        2 => any::<u8>().prop_map(Action::StopPlay),
        1 => Just(Action::EvictPlayers),
        1 => Just(Action::EvictPublisher),
        2 => Just(Action::GraceOver),
        1 => Just(Action::UnpublishAll),
        1 => Just(Action::Panic),
        1 => Just(Action::RemoveIdle),
        1 => any::<bool>().prop_map(Action::Output),
    ]
}

#[derive(Default)]
struct Handles {
    reservation: Option<Reservation>,
    publication: Option<Publication>,
    players: Vec<Consumer>,
    next_client: u64,
}

impl Handles {
    fn client(&mut self) -> Arc<ClientInfo> {
        self.next_client += 1;
        client_info(self.next_client)
    }

    fn act(&mut self, action: Action, registry: &StreamRegistry, source: &Source, observer: &Recorder) {
        let now = Instant::now();
        match action {
            Action::Reserve => self.reservation = self.reservation.take().or_else(|| source.reserve(99).ok()),
            Action::ReleaseReservation => self.reservation = None,
            Action::Publish => {
                let client = self.client();
                let reservation = self.reservation.take().or_else(|| source.reserve(client.id).ok());
                // The publication that was replaced is dropped after the new one has begun.
                if let Some(publication) =
                    reservation.and_then(|it| it.publish(Socket::new(0), stream_info(), client).ok())
                {
                    self.publication = Some(publication);
                }
            }
            Action::Lose => self.publication = None,
            Action::Unpublish => self.publication.iter().for_each(Publication::unpublish),
            Action::Stall => source.with(|state| {
                if let Some(publisher) = &mut state.publisher {
                    publisher.last_activity -= Duration::from_secs(2);
                }
            }),
            Action::Media(n) => {
                if let Some(publication) = &self.publication {
                    let time = u32::from(n) * 40;
                    let messages = [metadata(n), video_header(n % 3), key(time, n), audio(time, n)];
                    publication.on_message(&messages[usize::from(n) % 4], now);
                    publication.finish_round(now, |_| 0.0);
                }
            }
            Action::Play => {
                let client = self.client();
                self.players.push(source.join(Socket::new(0), 1, stream_info(), client));
            }
            Action::StopPlay(n) if !self.players.is_empty() => {
                let index = usize::from(n) % self.players.len();
                self.players.swap_remove(index);
            }
            Action::StopPlay(_) => {}
            Action::EvictPlayers => drop(source.evict_players(1, &CloseReason::Memory(String::new()))),
            Action::EvictPublisher => drop(source.evict_publisher(&CloseReason::Memory(String::new()))),
            Action::GraceOver => source.notify_unpublished_if_due(now + Duration::from_secs(3601)),
            Action::UnpublishAll => registry.unpublish_all(),
            Action::Panic => {
                let handles = std::mem::take(self);
                self.next_client = handles.next_client;
                let _ = panic::catch_unwind(AssertUnwindSafe(|| {
                    let _handles = handles;
                    source.with(|_| panic!("a fault of a coroutine, on purpose"));
                }));
            }
            Action::RemoveIdle => {}
            Action::Output(attaches) => observer.attaches.store(attaches, Ordering::Relaxed),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn events_are_paired_and_in_order_whatever_happens(actions in prop::collection::vec(action(), 1..80)) {
        let (registry, mut source, observer) = observed("publish { reconnect_grace 3600; stall_timeout 1; }");
        let vhost = source.with(|state| state.vhost.clone());
        let mut handles = Handles::default();
        let mut grammar = Grammar::default();
        for action in actions {
            if matches!(action, Action::RemoveIdle) {
                drop(source);
                registry.remove_idle(Duration::ZERO);
                source = registry.get_or_create("v/live/s", &vhost);
            } else {
                handles.act(action, &registry, &source, &observer);
            }
            for event in observer.events.lock().unwrap().drain(..) {
                prop_assert_eq!(grammar.check(&event), Ok(()), "after {:?}", action);
            }
            let is_published = source.with(|state| state.publisher.is_some());
            prop_assert_eq!(is_published, grammar.publisher.is_some(), "after {:?}", action);
            prop_assert_eq!(source.is_live(), grammar.announced, "after {:?}", action);
            let players = source.with(|state| state.subscriber_count());
            prop_assert_eq!(players as u32, grammar.players.values().sum::<u32>(), "after {:?}", action);
        }
        drop(handles);
        drop(source);
        registry.remove_idle(Duration::ZERO);
        for event in observer.events.lock().unwrap().drain(..) {
            prop_assert_eq!(grammar.check(&event), Ok(()), "at the end");
        }
        prop_assert!(grammar.publisher.is_none() && !grammar.announced);
        prop_assert!(grammar.players.values().all(|count| *count == 0));
    }
}
