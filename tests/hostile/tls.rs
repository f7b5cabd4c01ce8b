//! Attacks on TLS itself, and through the port that takes both TLS and plain RTMP.

use std::time::{Duration, Instant};

use crate::attacker::{Attacker, End, Target};
use crate::bytes::each;
use crate::random::Random;
use crate::rig::tls::greeting;
use crate::rig::{Rig, times};
use crate::rtmp::playing;

#[test]
fn a_port_for_both() {
    let mut rig = Rig::either("", "");
    rig.attack("what is neither TLS nor RTMP", |rig| each(unencrypted(rig), openings(), End::Fin));
    rig.attack("TLS that is none, or breaks off", broken_tls);
    rig.attack("half a greeting of each kind, and silence", half_openings);
    rig.attack("greetings of TLS as fast as they go", greetings);
    rig.finish();
}

/// First bytes of either kind, and of none.
fn openings() -> Vec<Vec<u8>> {
    let hello = greeting();
    let mut all: Vec<Vec<u8>> = (0..=u8::MAX).map(|first| vec![first; 100]).collect();
    all.extend((0..hello.len()).step_by(7).map(|at| hello[..at].to_vec()));
    all.extend([[&[3][..], &hello].concat(), [&hello[..], &playing("healthy")].concat(), vec![0x16; 5000]]);
    all
}

fn half_openings(rig: &Rig) {
    let hello = greeting();
    let halves: [&[u8]; 4] = [&[], &[3], &[0x16], &hello[..100]];
    let target = unencrypted(rig);
    let mut all: Vec<_> = (0..400).filter_map(|_| Attacker::connect(target)).collect();
    for (n, attacker) in all.iter_mut().enumerate() {
        attacker.send(halves[n % halves.len()]);
    }
    std::thread::sleep(Duration::from_secs(1));
}

/// The port for TLS, without TLS.
fn unencrypted(rig: &Rig) -> Target {
    Target { tls: false, ..rig.target }
}

pub(crate) fn broken_tls(rig: &Rig) {
    let mut random = Random::new(5);
    let raw = unencrypted(rig);
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 506]].concat();
    let mut inputs = vec![vec![0x16], vec![0x16, 3, 3, 0xff, 0xff], [0x16, 3, 3, 0, 0].repeat(1000)];
    inputs.extend((0..times(100, 3000)).map(|_| random.mutate(&hello)));
    inputs.extend((0..50).map(|_| [&[0x16, 3, 1][..], &random.bytes(3000)].concat()));
    each(raw, inputs, End::Fin);
    // Half a greeting, and silence: the handshake's time is bounded under TLS too.
    let mut silent: Vec<_> = (0..100).filter_map(|_| Attacker::connect(raw)).collect();
    for attacker in &mut silent {
        attacker.send(&hello[..100]);
    }
    // Handshakes one after the other: their arithmetic is not to hold up the worker.
    for _ in 0..times(150, 3000) {
        drop(Attacker::connect(rig.target));
    }
}

/// Each has the server sign something, and costs who sends it nothing.
pub(crate) fn greetings(rig: &Rig) {
    let raw = unencrypted(rig);
    let hello = greeting();
    let time = Duration::from_secs(times(5, 60) as u64);
    let until = Instant::now() + time;
    let mut count = 0;
    while Instant::now() < until {
        let mut crowd: Vec<_> = (0..50).filter_map(|_| Attacker::connect(raw)).collect();
        count += crowd.iter_mut().filter_map(|attacker| attacker.send(&hello).then_some(())).count();
        for mut attacker in crowd {
            // Until it has been signed for, or is refused.
            attacker.hear_some(Duration::from_secs(5));
            attacker.leave(End::Rst);
        }
    }
    println!("    {count} greetings, {} a second", count / time.as_secs() as usize);
    assert!(count > 200, "that was no flood");
}
