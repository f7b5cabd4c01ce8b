//! The server's side of a handshake, the client being in memory.

use std::io::{self, Read, Write};

use criterion::Criterion;
use srs::rtmp::handshake::{self, SIZE};

/// Has all that the client sends, and forgets what it is sent.
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

/// Keeps what a client says first, and never answers.
struct Silence(Vec<u8>);

impl Read for Silence {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }
}

impl Write for Silence {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn accepting(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handshake");
    for (name, complex) in [("simple", false), ("complex", true)] {
        // C0 and C1, and any C2.
        let mut said = Silence(Vec::new());
        assert!(handshake::connect(&mut said, complex).is_err(), "nobody answers");
        said.0.resize(1 + 2 * SIZE, 0);
        group.bench_function(name, |bencher| {
            bencher.iter(|| handshake::accept(&mut Client(&said.0)).unwrap());
        });
    }
    group.finish();
}
