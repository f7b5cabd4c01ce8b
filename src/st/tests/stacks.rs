//! Stack overflows and trimmed stacks.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::st::task::with_current;
use crate::st::{Handle, Shared, run, sleep, spawn, trim_stack};

/// Recurses in a way that no optimizer turns into a loop.
#[inline(never)]
fn exhaust(depth: usize) -> usize {
    let frame = std::hint::black_box([depth as u8; 300]);
    if depth == usize::MAX { 0 } else { exhaust(depth + 1) + frame[depth % 300] as usize }
}

/// Runs itself in another process, which is to die of it.
#[test]
fn a_stack_overflow_ends_the_process_with_a_message() {
    const VICTIM: &str = "SRS_TEST_OVERFLOW";
    if std::env::var_os(VICTIM).is_some() {
        let _ = run(|| std::hint::black_box(exhaust(0)));
        return;
    }
    let name = "st::tests::stacks::a_stack_overflow_ends_the_process_with_a_message";
    let mut process = Command::new(std::env::current_exe().unwrap());
    let output = process.args(["--exact", name, "--nocapture"]).env(VICTIM, "1").output().unwrap();
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("overflowed its stack"), "{output:?}");
}

/// Uses what is shared at each depth, until there is no stack for it.
#[inline(never)]
fn exhaust_within(shared: &Shared<usize>, depth: usize) -> usize {
    let frame = std::hint::black_box([depth as u8; 300]);
    shared.with(|deepest| *deepest = depth);
    if depth == usize::MAX { 0 } else { exhaust_within(shared, depth + 1) + frame[depth % 300] as usize }
}

#[test]
fn a_stack_does_not_overflow_while_it_has_what_is_shared() {
    run(|| {
        for _ in 0..20 {
            let shared = Shared::new(0);
            let theirs = shared.clone();
            let victim = spawn("victim", 7, move || {
                std::hint::black_box(exhaust_within(&theirs, 0));
            });
            victim.unwrap().join();
            assert!(shared.with(|deepest| *deepest) > 10);
            assert_eq!(shared.handle_count(), 1, "and its frames were dropped");
        }
    })
    .unwrap();
}

#[test]
fn a_stack_that_was_trimmed_is_as_good_as_before() {
    /// Touches a good part of the stack, then returns.
    #[inline(never)]
    fn deep(depth: usize) -> usize {
        let frame = std::hint::black_box([depth as u8; 1000]);
        if depth == 0 { usize::from(frame[0]) } else { deep(depth - 1) + usize::from(frame[999] == depth as u8) }
    }
    run(|| {
        let handles: Vec<_> = (0..4)
            .map(|_| {
                spawn("deep", 0, || {
                    let kept = std::hint::black_box([7u8; 2000]);
                    for _ in 0..3 {
                        assert_eq!(deep(20), 20);
                        trim_stack();
                        // `may` ends the process at the coroutine's end, if it does not find the mark there.
                        assert_ne!(with_current(|task| task.stack_mark.load(Ordering::Relaxed)), Some(0));
                        sleep(Duration::from_millis(1));
                        trim_stack();
                    }
                    assert!(kept.iter().all(|&byte| byte == 7));
                })
                .unwrap()
            })
            .collect();
        handles.iter().for_each(Handle::join);
    })
    .unwrap();
    // Outside of coroutines it does nothing.
    trim_stack();
}
