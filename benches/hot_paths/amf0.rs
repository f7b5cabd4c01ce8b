//! AMF0: reading and writing the `connect` command of a client.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use srs::codec::amf0::{self, Object, Value};

pub(crate) fn read_and_write(criterion: &mut Criterion) {
    let connect = Object::new()
        .with("app", "live")
        .with("type", "nonprivate")
        .with("flashVer", "FMLE/3.0 (compatible; FMSc/1.0)")
        .with("swfUrl", "rtmp://127.0.0.1/live")
        .with("tcUrl", "rtmp://127.0.0.1/live")
        .with("fpad", false)
        .with("capabilities", 239.0)
        .with("audioCodecs", 3575.0)
        .with("videoCodecs", 252.0);
    let values: [Value; 3] = ["connect".into(), 1.0.into(), connect.into()];
    let write = |values: &[Value]| {
        let mut out = Vec::new();
        values.iter().for_each(|value| amf0::write(&mut out, value));
        out
    };
    let bytes = write(&values);
    let mut group = criterion.benchmark_group("AMF0 connect");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("read", |bencher| bencher.iter(|| amf0::read_all(black_box(&bytes)).unwrap()));
    group.bench_function("write", |bencher| bencher.iter(|| write(black_box(&values))));
    group.finish();
}
