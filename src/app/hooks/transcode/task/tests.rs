use super::super::names::Names;
use super::super::spec::{Media, ProgramKind};
use super::*;
use crate::config::Supervision;

fn spec(word: &str) -> Arc<Spec> {
    let text = str::to_owned;
    Arc::new(Spec {
        program: text("ffmpeg"),
        kind: ProgramKind::Exec(vec![text(word)]),
        names: Names {
            vhost: text("v"),
            app: text("a"),
            stream: text("s"),
            params: String::new(),
            file: None,
            address: text("h"),
            port: 1,
        },
        log_level: "info",
        supervision: Supervision {
            nice: 0,
            max_memory: 0,
            max_cpus: 0,
            stall_timeout: Duration::from_secs(10),
            max_lag: Duration::from_secs(20),
        },
        log: None,
        media: Media::default(),
        timeout: None,
        picture: None,
    })
}

fn engine() -> Arc<Spec> {
    let text = "listen 1; vhost v { transcode { engine a { enabled on; vcodec copy; acodec copy; output x; } } }";
    let config = crate::config::Config::parse("t", text).unwrap();
    let engine = config.vhost("v").unwrap().transcode[0].engines[0].clone();
    Arc::new(Spec { kind: ProgramKind::Engine(engine), ..(*spec("x")).clone() })
}

struct Rig {
    task: Task,
    now: Instant,
    progress: Progress,
    stream_ms: u64,
}

impl Rig {
    fn new(spec: &Arc<Spec>) -> Self {
        let now = Instant::now();
        Self { task: Task::new(spec.clone(), false, now), now, progress: Progress::default(), stream_ms: 0 }
    }

    fn started(spec: &Arc<Spec>) -> Self {
        let mut rig = Self::new(spec);
        assert_eq!(rig.step(0), Action::Start);
        rig.task.on_start(1, spec.clone(), rig.now);
        rig
    }

    fn step(&mut self, after_ms: u64) -> Action {
        self.now += Duration::from_millis(after_ms);
        self.stream_ms += after_ms;
        self.task.step(self.now, self.progress, self.stream_ms)
    }

    fn exit(&mut self, status: i32) -> RunEnd {
        self.task.on_exit(&ProcessEnd::Status(status), vec!["first".to_owned(), "why".to_owned()], 25, self.now)
    }
}

#[test]
fn a_program_that_fails_is_started_again_with_growing_pauses() {
    let spec = spec("a");
    let mut rig = Rig::started(&spec);
    for pause in [1, 2, 4, 8, 16, 30, 30] {
        rig.now += Duration::from_secs(5);
        let end = rig.exit(1);
        assert_eq!((end.pause.as_secs(), end.stopped), (pause, None));
        assert_eq!(rig.task.last_error.as_deref(), Some("exit status 1: why"));
        let lines = vec!["first".to_owned(), "why".to_owned()];
        assert_eq!(rig.task.last_end, Some(LastEnd { end: ProcessEnd::Status(1), lines }));
        assert_eq!((rig.step(0), rig.task.state_name(rig.now)), (Action::Nothing, "pause"));
        assert_eq!(rig.step(pause * 1000), Action::Start);
        rig.task.on_start(2, spec.clone(), rig.now);
    }
    rig.now += Duration::from_secs(60);
    assert_eq!(rig.exit(1).pause, Duration::from_secs(1), "a good minute");
    assert_eq!(rig.task.starts, 8);
}

#[test]
fn who_is_not_wanted_is_asked_then_told_then_killed() {
    let spec = spec("a");
    let mut rig = Rig::started(&spec);
    rig.task.wanted = None;
    assert_eq!(rig.step(0), Action::Signal(StopSignal::Interrupt, Some(StopReason::NotWanted)));
    assert_eq!((rig.step(2999), rig.task.state_name(rig.now)), (Action::Nothing, "stopping"));
    assert_eq!(rig.step(1), Action::Signal(StopSignal::Terminate, None));
    assert_eq!(rig.step(1999), Action::Nothing);
    assert_eq!(rig.step(1), Action::Signal(StopSignal::Kill, None));
    assert_eq!(rig.step(4999), Action::Nothing);
    assert_eq!(rig.step(1), Action::Signal(StopSignal::Kill, None), "it may have been in the kernel");
    assert_eq!(rig.exit(0).stopped, Some(StopReason::NotWanted));
    assert_eq!(rig.step(0), Action::Remove);
    assert_eq!(rig.task.last_error, None);
}

#[test]
fn a_stream_that_is_back_does_not_wait() {
    let spec = spec("a");
    let mut rig = Rig::started(&spec);
    rig.task.wanted = None;
    rig.step(0);
    rig.task.wanted = Some(spec.clone());
    assert_eq!(rig.step(10), Action::Signal(StopSignal::Kill, None));
    assert_eq!(rig.step(10), Action::Nothing);
    rig.exit(0);
    assert_eq!(rig.step(0), Action::Start, "at once");
}

#[test]
fn a_change_takes_the_place_at_once_and_the_same_goes_on() {
    let mut rig = Rig::started(&spec("a"));
    rig.task.wanted = Some(spec("a"));
    assert_eq!(rig.step(0), Action::Nothing);
    rig.task.wanted = Some(spec("b"));
    assert_eq!(rig.step(0), Action::Signal(StopSignal::Interrupt, Some(StopReason::Changed)));
    assert_eq!(rig.exit(255).pause, Duration::ZERO);
    assert_eq!((rig.step(0), rig.task.last_error.clone()), (Action::Start, None));
}

#[test]
fn silence_and_delay_are_failures_but_not_without_a_publisher() {
    let mut rig = Rig::started(&engine());
    for _ in 0..30 {
        rig.progress.out_ms += 1000;
        assert_eq!(rig.step(1000), Action::Nothing);
    }
    rig.task.has_input = false;
    assert_eq!(rig.step(60_000), Action::Nothing, "the publisher may come back");
    rig.task.has_input = true;
    rig.stream_ms -= 60_000;
    assert_eq!(rig.step(9999), Action::Nothing);
    assert_eq!(rig.step(1), Action::Signal(StopSignal::Terminate, Some(StopReason::Stalled)));
    assert_eq!(rig.step(2000), Action::Signal(StopSignal::Kill, None));
    let end = rig.task.on_exit(&ProcessEnd::Signal(9), Vec::new(), 25, rig.now);
    assert_eq!((end.stopped, end.pause), (Some(StopReason::Stalled), Duration::from_secs(1)));
    assert_eq!(rig.task.last_error.as_deref(), Some("no output for stall_timeout"));

    let mut rig = Rig::started(&engine());
    let (mut steps, mut late_from) = (0, None);
    let action = loop {
        // Half as fast as the stream.
        rig.progress.out_ms += 500;
        steps += 1;
        if rig.task.is_late() {
            late_from.get_or_insert(steps);
        }
        match rig.step(1000) {
            Action::Nothing => {}
            action => break action,
        }
    };
    assert_eq!((action, steps), (Action::Signal(StopSignal::Terminate, Some(StopReason::Lagging)), 41));
    assert_eq!(late_from, Some(7), "2.5 s behind after the sixth step");
}

#[test]
fn without_input_nothing_starts() {
    let mut rig = Rig::new(&spec("a"));
    rig.task.has_input = false;
    assert_eq!((rig.step(0), rig.task.state_name(rig.now)), (Action::Nothing, "no_input"));
    assert_eq!(rig.task.queue_time(rig.now + Duration::from_secs(9)), Duration::ZERO);
    rig.task.has_input = true;
    assert_eq!((rig.step(0), rig.task.state_name(rig.now)), (Action::Start, "queued"));
    assert_eq!(rig.task.queue_time(rig.now + Duration::from_secs(9)), Duration::from_secs(9));
    rig.task.wanted = None;
    assert_eq!(rig.step(0), Action::Remove);
}

#[test]
fn a_command_that_runs_once_is_not_started_again() {
    let spec = Arc::new(Spec { timeout: Some(Duration::from_secs(5)), ..(*spec("a")).clone() });
    let mut rig = Rig::started(&spec);
    rig.task.once = true;
    assert_eq!(rig.step(4999), Action::Nothing);
    assert_eq!(rig.step(1), Action::Signal(StopSignal::Terminate, Some(StopReason::TimedOut)));
    rig.exit(1);
    assert_eq!(rig.step(0), Action::Remove);
}
