//! Matching at scale: events per second against 100 to 100,000 subscriptions on one thread,
//! reading of the JSON payload included.
//!
//! All subscriptions take one event type, so nothing but their filters tells them apart:
//!
//! - `A` an amount above K, half of which the event passes, and a currency of its own each;
//! - `B` as A with 100 currencies in all; the event passes the lowest thresholds only;
//! - `E` a currency of its own each;
//! - `N` an amount above K alone; the event passes the lowest thresholds only;
//! - `prefix` a beginning of the SKU of its own each;
//! - `between` two bounds on the amount, about five of which hold the event's.

use std::{fmt::Write, hint::black_box, time::Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tripline::{
    domain::{DataEncoding, Envelope, Event, EventId, Lineage, Millis, Seq, TypePattern},
    filter::{Filter, Index, Scratch, View},
};

const SHAPES: [&str; 6] = ["A", "B", "E", "N", "prefix", "between"];
const SIZES: [usize; 3] = [100, 10_000, 100_000];
const EVENTS: usize = 2_000;
const TYPE: &str = "finance.PaymentCreated";

fn filter_text(shape: &str, i: usize) -> String {
    let threshold = 1_000 + i / 2;
    match shape {
        "A" => format!("$.amount > {threshold} && $.currency == \"CUR{i}\""),
        "B" => format!("$.amount > {threshold} && $.currency == \"CUR{}\"", i % 100),
        "E" => format!("$.currency == \"CUR{i}\""),
        "N" => format!("$.amount > {threshold}"),
        "prefix" => format!("starts_with($.sku, \"SKU{i}-\")"),
        "between" => format!("$.amount >= {} && $.amount < {}", i * 10, i * 10 + 50),
        other => unreachable!("no shape {other}"),
    }
}

fn index(shape: &str, size: usize) -> Index<u32> {
    let mut index = Index::new();
    for i in 0..size {
        let pattern = TypePattern::parse(TYPE).expect("a type");
        let filter = Filter::parse(&filter_text(shape, i)).expect("a filter");
        index.insert(u32::try_from(i).expect("small"), pattern, Some(filter));
    }
    index
}

/// A number that looks random and is the same in every run.
fn scatter(i: usize) -> usize {
    (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) & 0x7fff_ffff
}

fn event(shape: &str, size: usize, number: usize) -> Event {
    let drawn = scatter(number + 1);
    let i = drawn % size;
    let (amount, currency) = match shape {
        "A" => (1_000 + scatter(drawn) % (size / 2), i),
        "B" => (1_001 + drawn % 5, i % 100),
        "N" => (1_001 + drawn % 5, i),
        "between" => (drawn % (size * 10), i),
        _ => (5_000, i),
    };
    let mut data = format!(
        "{{\"type\":\"{TYPE}\",\"id\":\"pay_{number:08}\",\"amount\":{amount}.5,\"currency\":\"CUR{currency}\",\
         \"customer\":{{\"id\":{drawn},\"tier\":\"gold\",\"country\":\"NL\"}},\"sku\":\"SKU{i}-{number}\",\
         \"quantity\":3,\"paid\":true,\"method\":\"card\",\"at\":\"2026-01-31T12:00:00Z\",\"note\":\""
    );
    while data.len() < 286 {
        data.push('x');
    }
    write!(data, "\"}}").expect("writing into a string");
    Event {
        seq: Seq(number as u64),
        uid: EventId::numbered(Millis(0), Seq(number as u64), 0),
        accepted_at: Millis(0),
        envelope: Envelope {
            id: None,
            source: "/bench".into(),
            event_type: TYPE.into(),
            subject: None,
            time: None,
            datacontenttype: None,
            dataschema: None,
            extensions: None,
            encoding: DataEncoding::Json,
        },
        data: Bytes::from(data),
        lineage: Lineage::default(),
    }
}

fn matching(criterion: &mut Criterion) {
    for shape in SHAPES {
        let mut group = criterion.benchmark_group(format!("match {shape}"));
        group.throughput(Throughput::Elements(EVENTS as u64));
        for size in SIZES {
            let index = index(shape, size);
            let events: Vec<Event> = (0..EVENTS).map(|number| event(shape, size, number)).collect();
            let mut scratch = Scratch::default();
            let mut matched = Vec::new();
            group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
                bencher.iter(|| {
                    matched.clear();
                    for event in &events {
                        index.matches(&View::new(event), &mut scratch, &mut matched);
                    }
                    black_box(matched.len())
                });
            });
            eprintln!(
                "match {shape} {size}: {:.2} matches an event",
                matched.len() as f64 / EVENTS as f64
            );
        }
        group.finish();
    }
}

/// Adding 100,000 one by one, and one change with 100,000 in place.
fn changing(criterion: &mut Criterion) {
    for shape in SHAPES {
        let filters: Vec<Filter> = (0..100_000)
            .map(|i| Filter::parse(&filter_text(shape, i)).expect("a filter"))
            .collect();
        let pattern = TypePattern::parse(TYPE).expect("a type");
        let before = resident_bytes();
        let (start, mut longest) = (Instant::now(), 0);
        let mut index = Index::new();
        for (i, filter) in filters.iter().enumerate() {
            let one = Instant::now();
            index.insert(i, pattern.clone(), Some(filter.clone()));
            longest = longest.max(one.elapsed().as_micros());
        }
        eprintln!(
            "add {shape}: 100,000 in {:.3} s, the longest in {longest} us, {:.0} MB without the filters",
            start.elapsed().as_secs_f64(),
            resident_bytes().saturating_sub(before) as f64 / 1e6,
        );
        let mut next = 0;
        criterion.bench_function(&format!("change {shape}"), |bencher| {
            bencher.iter(|| {
                next = (next + 7_919) % filters.len();
                index.insert(next, pattern.clone(), Some(filters[next].clone()));
            });
        });
    }
}

/// What the process holds in memory; 0 where the system does not say.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0) * 4_096
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(2));
    targets = changing, matching
}
criterion_main!(benches);
