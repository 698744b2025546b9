//! Counting without SQL, everything on; the budget itself is measured by `clamor-bench counting`.

#![allow(missing_docs, reason = "a bench")]

use clamor_bench::counting::{count, shard, stream};
use clamor_chat::wire::decode_batch;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

fn benches(criterion: &mut Criterion) {
    let stream = stream();
    let mut group = criterion.benchmark_group("aggregate");
    group.sample_size(10).throughput(Throughput::Elements(100 * stream.len() as u64));
    group.bench_function("decode and count", |bencher| {
        bencher.iter_batched(shard, |shard| count(shard, &stream), BatchSize::PerIteration);
    });
    group.bench_function("decode alone", |bencher| {
        bencher.iter(|| stream.iter().filter(|payload| black_box(decode_batch(payload)).is_ok()).count());
    });
    group.finish();
}

criterion_group!(aggregate, benches);
criterion_main!(aggregate);
