//! What one message costs on its way: parse, encode, decode, phrase match. Over the recorded sample.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench fails by panicking")]

use clamor_bench::phrases::{POPULAR, SAMPLE, events, patterns, texts};
use clamor_chat::event::parse;
use clamor_chat::phrase::{ActiveSet, Matcher, Scratch, Spec};
use clamor_chat::wire::{self, Batch, Event};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

fn batches() -> Vec<Batch> {
    let batch = |chunk: &[Event]| Batch { slot: "slot".to_owned(), instance: 7, number: 1, events: chunk.to_vec() };
    events().chunks(wire::MAX_EVENTS).map(batch).collect()
}

fn lines(criterion: &mut Criterion) {
    let lines: Vec<&[u8]> = SAMPLE.lines().map(str::as_bytes).collect();
    let batches = batches();
    let encoded: Vec<Vec<u8>> = batches.iter().map(wire::encode_batch).collect();
    let mut group = criterion.benchmark_group("messages");
    group.throughput(Throughput::Elements(lines.len() as u64));
    group.bench_function("parse", |bencher| {
        bencher.iter(|| {
            for line in &lines {
                let _ = black_box(parse(line, 1));
            }
        });
    });
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            for batch in &batches {
                black_box(wire::encode_batch(batch));
            }
        });
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            for bytes in &encoded {
                let _ = black_box(wire::decode_batch(bytes));
            }
        });
    });
    group.finish();
}

fn phrases(criterion: &mut Criterion) {
    let texts = texts();
    let mut group = criterion.benchmark_group("phrases");
    group.throughput(Throughput::Elements(texts.len() as u64));
    for (name, count, popular) in [("match", 10, true), ("match", 10_000, true), ("scan", 10_000, false)] {
        let mut specs = patterns(count);
        if popular {
            // What the sample is full of, so that matches are paid for, too.
            for pattern in POPULAR {
                specs.push(Spec { pattern: pattern.to_owned(), case_sensitive: false });
            }
        }
        let matcher = Matcher::build(&specs).unwrap();
        let active = ActiveSet::all(specs.len());
        let mut scratch = Scratch::default();
        group.bench_function(format!("{name}/{count}"), |bencher| {
            bencher.iter(|| {
                let mut matches = 0;
                for text in &texts {
                    matcher.count(text, &active, &mut scratch, |_, found| matches += found);
                }
                black_box(matches)
            });
        });
    }
    group.finish();

    let specs = patterns(10_000);
    let mut group = criterion.benchmark_group("build");
    group.sample_size(10);
    group.bench_function("10000", |bencher| bencher.iter(|| Matcher::build(&specs)));
    group.finish();
}

criterion_group!(benches, lines, phrases);
criterion_main!(benches);
