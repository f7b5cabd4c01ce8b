//! Attacks on TLS itself, and on a port that takes both TLS and plain RTMP.

use std::time::{Duration, Instant};

use crate::attacker::{Attacker, Close, Endpoint};
use crate::bytes::send_each;
use crate::random::Random;
use crate::rig::{Port, Rig, Setup};
use crate::rtmp::play_session;
use crate::tls_client::client_hello;

#[test]
fn a_port_for_tls_and_plain_rtmp() {
    let mut rig = Rig::start(Setup { port: Port::Mixed, side_by_side: true, ..Setup::default() });
    rig.attack("neither TLS nor RTMP", |rig| send_each(without_tls(rig), first_bytes(), Close::Fin));
    rig.attack("malformed TLS", malformed_tls);
    rig.attack("half a greeting of each kind, and silence", half_greetings);
    rig.attack("TLS handshakes at full speed", handshake_flood);
    rig.finish();
}

/// Returns first bytes of TLS, of RTMP, and of neither.
fn first_bytes() -> Vec<Vec<u8>> {
    let hello = client_hello();
    let mut all: Vec<Vec<u8>> = (0..=u8::MAX).map(|first| vec![first; 100]).collect();
    all.extend((0..hello.len()).step_by(7).map(|at| hello[..at].to_vec()));
    all.extend([[&[3][..], &hello].concat(), [&hello[..], &play_session("healthy")].concat(), vec![0x16; 5000]]);
    all
}

fn half_greetings(rig: &Rig) {
    let hello = client_hello();
    let halves: [&[u8]; 4] = [&[], &[3], &[0x16], &hello[..100]];
    let mut clients = Attacker::connect_many(400, without_tls(rig));
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(halves[n % halves.len()]);
    }
    std::thread::sleep(Duration::from_secs(1));
}

/// Returns the port for TLS, to be used without TLS.
fn without_tls(rig: &Rig) -> Endpoint {
    Endpoint { tls: false, ..rig.rtmp }
}

pub(crate) fn malformed_tls(rig: &Rig) {
    let mut random = Random::new(5);
    let port = without_tls(rig);
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 506]].concat();
    let mut inputs = vec![vec![0x16], vec![0x16, 3, 3, 0xff, 0xff], [0x16, 3, 3, 0, 0].repeat(1000)];
    inputs.extend((0..rig.count(100, 3000, "mutated greetings")).map(|_| random.mutate(&hello)));
    inputs.extend((0..50).map(|_| [&[0x16, 3, 1][..], &random.bytes(3000)].concat()));
    send_each(port, inputs, Close::Fin);
    // Half a greeting, and silence: the time limit of handshakes covers TLS, too.
    let mut silent = Attacker::connect_many(100, port);
    for client in &mut silent {
        client.send(&hello[..100]);
    }
    // Complete handshakes, one after the other: their computations must not block the worker.
    for _ in 0..rig.count(150, 3000, "complete handshakes") {
        drop(Attacker::connect(rig.rtmp));
    }
}

/// Sends greetings that make the server compute a signature and cost the attacker nothing.
pub(crate) fn handshake_flood(rig: &Rig) {
    let port = without_tls(rig);
    let hello = client_hello();
    let time = rig.seconds(3, 60);
    let until = Instant::now() + time;
    let mut count = 0;
    while Instant::now() < until {
        let mut clients = Attacker::connect_many(50, port);
        count += clients.iter_mut().filter_map(|client| client.send(&hello).then_some(())).count();
        for mut client in clients {
            // Waits for the signature, or for the end of the connection.
            client.receive_some(Duration::from_secs(5));
            client.close(Close::Rst);
        }
    }
    let rate = count / time.as_secs() as usize;
    println!("    {rate} greetings a second");
    assert!(rate > 40, "the attack is too slow: {rate} greetings a second");
}
