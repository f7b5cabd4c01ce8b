//! Tests of outputs: they live side by side, and one that fails hurts nobody else.

use super::*;

/// Calls of an output.
type Calls = Arc<Mutex<Vec<String>>>;

/// An output that writes down its calls, and panics at a call that it is told to.
struct RecordingOutput {
    calls: Calls,
    panics_at: &'static str,
}

impl RecordingOutput {
    fn record(&self, call: &str) {
        self.calls.lock().unwrap().push(call.to_owned());
        assert!(!call.starts_with(self.panics_at), "the output fails on purpose");
    }
}

impl Output for RecordingOutput {
    fn packet(&mut self, packet: &Packet<'_>) {
        let tag = match packet.tag {
            Some(Tag::Video(_)) => "v",
            Some(Tag::Audio(_)) => "a",
            None => "-",
        };
        let last = packet.payload.last().map_or(0, |last| *last);
        self.record(&format!("{:?} {:?} {tag} {last}", packet.track, packet.kind));
    }

    fn reconfigure(&mut self, vhost: &Vhost) -> bool {
        self.record("reconfigure");
        vhost.gop_cache
    }

    fn end(self: Box<Self>, reason: EndReason) {
        self.record(&format!("end {reason:?}"));
    }
}

impl Drop for RecordingOutput {
    fn drop(&mut self) {
        self.record("drop");
    }
}

/// Attaches an output to the present publication. It never panics if `panics_at` is `never`.
fn attach(source: &Source, feature: &'static str, panics_at: &'static str) -> Calls {
    let calls = Calls::default();
    let vhost = source.with(|state| state.vhost.clone());
    source.attach_output(feature, &vhost, true, |publishing| {
        assert_eq!((publishing.stream.stream.as_str(), publishing.client.id), ("s", 1));
        Some(Box::new(RecordingOutput { calls: calls.clone(), panics_at }))
    });
    calls
}

fn taken(calls: &Calls) -> Vec<String> {
    std::mem::take(&mut calls.lock().unwrap())
}

#[test]
fn every_output_gets_every_packet_and_one_that_panics_is_dropped_alone() {
    let (source, publication) = live("");
    let good = attach(&source, "good", "never");
    let headers = ["Data Header - 1", "Video Header v 2", "Audio Header a 3"];
    assert_eq!(taken(&good), headers, "an output gets the headers that were there before it");
    let failing = attach(&source, "failing", "Video Regular");
    let last = attach(&source, "last", "never");
    taken(&failing);
    taken(&last);
    let mut player = TestPlayer::join(&source);
    player.got();
    let cue = message(MessageType::DATA, 40, b"\x02\x00\x0aonCuePoint\x07");
    let silence = message(MessageType::AUDIO, 40, &[]);
    send(&publication, &[key(0, 10), inter(40, 11), audio(45, 12), cue, silence, metadata(13)]);
    let expected = [
        "Video Keyframe v 10",
        "Video Regular v 11",
        "Audio Regular a 12",
        "Data Regular - 7",
        "Audio Regular - 0",
        "Data Header - 13",
    ];
    assert_eq!(
        (taken(&good), taken(&last)),
        (expected.map(str::to_owned).to_vec(), expected.map(str::to_owned).to_vec())
    );
    assert_eq!(taken(&failing), ["Video Keyframe v 10", "Video Regular v 11", "drop"]);
    player.run();
    assert_eq!(player.received().len(), 6, "players notice nothing");
    publication.unpublish();
    assert_eq!(
        (taken(&good), taken(&last)),
        (vec!["end Unpublished".to_owned(), "drop".to_owned()], vec!["end Unpublished".to_owned(), "drop".to_owned()])
    );
    assert!(taken(&failing).is_empty());
}

#[test]
fn an_output_that_panics_twice_or_at_its_end_hurts_nobody() {
    let (source, publication) = live("");
    // Each of its calls panics: the packet, and then the drop.
    let failing = attach(&source, "failing", "");
    assert_eq!(taken(&failing), ["Data Header - 1", "drop"]);
    let reconfigured = attach(&source, "reconfigured", "reconfigure");
    let vhost = source.with(|state| state.vhost.clone());
    source.attach_output("reconfigured", &vhost, true, |_| None);
    assert_eq!(taken(&reconfigured)[3..], ["reconfigure", "drop"]);
    let ending = attach(&source, "ending", "end");
    let good = attach(&source, "good", "never");
    drop(publication);
    assert_eq!(taken(&ending)[3..], ["end Lost", "drop"]);
    assert_eq!(taken(&good)[3..], ["end Lost", "drop"]);
    source.attach_output("late", &vhost, true, |_| panic!("nobody publishes"));
    let _publication = publish(&source);
    source.attach_output("late", &vhost, true, |_| panic!("this start fails on purpose"));
    assert!(source.is_live());
}

#[test]
fn an_output_is_told_why_it_ends() {
    let (source, publication) = live("publish { stall_timeout 1; }");
    let with = |directives: &str| {
        let text = format!("listen 1935; vhost __defaultVhost__ {{ {directives} }}");
        ServerConfig::parse("t", &text).unwrap().vhost("x").unwrap().clone()
    };
    let calls = attach(&source, "a", "never");
    source.attach_output("a", &with(""), true, |_| panic!("it stays"));
    assert_eq!(taken(&calls)[3..], ["reconfigure"], "headers are not repeated");
    let replaced = calls.clone();
    source.attach_output("a", &with("gop_cache off;"), true, |_| {
        replaced.lock().unwrap().push("start".to_owned());
        Some(Box::new(RecordingOutput { calls: replaced.clone(), panics_at: "never" }))
    });
    assert_eq!(taken(&calls)[..4], ["reconfigure", "end Reconfigured", "drop", "start"]);
    source.attach_output("a", &with(""), false, |_| panic!("it is disabled"));
    assert_eq!(taken(&calls), ["end Reconfigured", "drop"]);

    let calls = attach(&source, "a", "never");
    source.with(|state| state.publisher.as_mut().unwrap().last_activity -= Duration::from_secs(2));
    let second = acquire(&source, 1, Socket::new(0)).unwrap();
    assert_eq!(taken(&calls)[3..], ["end Replaced", "drop"]);
    drop(publication);
    let calls = attach(&source, "a", "never");
    source.shut_down();
    assert_eq!(taken(&calls), ["end Shutdown", "drop"], "the new publication has no headers yet");
    drop(second);
}
