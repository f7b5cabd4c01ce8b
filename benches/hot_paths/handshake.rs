//! The server's side of the handshake, with a client in memory.

use std::io::{self, Read, Write};

use criterion::Criterion;
use srs::rtmp::handshake::{self, SIZE};

/// A client whose input is known in advance and whose output is discarded.
struct Client<'a>(&'a [u8]);

impl Read for Client<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Client<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A server that never answers and records what a client sends first.
struct SilentServer(Vec<u8>);

impl Read for SilentServer {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }
}

impl Write for SilentServer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn accept(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handshake");
    for (name, complex) in [("simple", false), ("complex", true)] {
        // C0 and C1, and any C2.
        let mut recorded = SilentServer(Vec::new());
        assert!(handshake::connect(&mut recorded, complex).is_err(), "the server never answers");
        recorded.0.resize(1 + 2 * SIZE, 0);
        group.bench_function(name, |bencher| {
            bencher.iter(|| handshake::accept(&mut Client(&recorded.0)).unwrap());
        });
    }
    group.finish();
}
