//! After any take-over, at whatever positions of the groups, the sums are those of an undisturbed run.

#![allow(clippy::cast_possible_truncation, reason = "small numbers of a test")]

use super::stored::*;
use super::*;
use crate::aggregate::dedupe::GENERATION_MS;
use proptest::prelude::*;

/// Chat of two redundant workers with repeated batches, dropped ones, late lines, joins and directives.
fn streams() -> impl Strategy<Value = Stream> {
    let entry = (0u64..90_000, 0u8..20, 0u64..2, 1u64..4, 1u64..8, 0u128..60, 0u64..900_000);
    proptest::collection::vec(entry, 1..120).prop_map(|entries| {
        let plans = [plan("plan-1", &[1, 2], &["hello"]), plan("plan-2", &[2, 3], &["ell", "a"])];
        let mut last: [Batch; 2] = std::array::from_fn(|instance| batch(instance as u64 + 1, 0, vec![]));
        let mut now = T0;
        let mut stream = Stream::new();
        let mut lines: BTreeMap<u128, Event> = BTreeMap::new();
        for (step, act, instance, channel, person, key, age) in entries {
            now += step;
            let late = if act % 5 == 0 { age } else { age % 1_500 };
            let sent = now.saturating_sub(late).max(T0 - 600_000);
            // Copies of a line agree, and come within three minutes: late ones have tests of their own.
            let id = key + 1 + 1_000 * u128::from((now - T0) / 180_000);
            let line = lines.entry(id).or_insert_with(|| {
                let line = message(id, channel, sent, person, "hello a");
                Event { received_at_ms: now, ..with_emote(line, &format!("{}", key % 3), 1) }
            });
            let coverage = match act {
                1 => Some(Kind::Joined(wire::Joined {})),
                2 => Some(Kind::Parted(wire::Parted {})),
                3 => Some(Kind::ConnectionEnded(wire::ConnectionEnded {})),
                4 => Some(Kind::Snapshot(wire::Snapshot { channel_ids: vec![channel, 3] })),
                _ => None,
            };
            let last = &mut last[instance as usize];
            match act {
                5 => {
                    stream.push((now, Published::Plan(Arc::clone(&plans[instance as usize]))));
                    continue;
                }
                // Sent again after its acknowledgement was lost.
                7 if last.number > 0 => {
                    stream.push((now, Published::Batch(last.clone())));
                    continue;
                }
                // One was dropped.
                6 => last.number += 2,
                _ => last.number += 1,
            }
            last.events = vec![line.clone()];
            last.events.extend(coverage.map(|kind| coverage_event(channel, now, kind)));
            stream.push((now, Published::Batch(last.clone())));
        }
        stream
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_is_stored_is_a_function_of_the_stream_alone(stream in streams(), acts in acts()) {
        prop_assert_eq!(disturbed(&stream, &acts), undisturbed(&stream));
    }
}

#[test]
fn a_copy_that_comes_after_a_take_over_is_still_a_copy() {
    let line =
        |seq: u64, instance| (T0 + seq * 1_000, Published::Batch(batch(instance, 1, vec![message(1, 5, T0, 9, "a")])));
    let stream: Stream = vec![line(0, 1), line(200, 2)];
    let sums = disturbed(&stream, &[Act::Fast, Act::Nothing]);
    assert_eq!(disturbed(&stream, &[Act::Die, Act::Nothing]), sums);
    assert_eq!(sums.channels.values().map(|counts| counts[0]).sum::<u64>(), 1);
}

#[test]
fn a_minute_s_chatters_are_whole_after_a_take_over_across_generations() {
    let line = |key: u128, at_ms: Millis, person| {
        let number = key as u64;
        (at_ms, Published::Batch(batch(1, number, vec![message(key, 5, T0 + 240_000, person, "a")])))
    };
    let stream: Stream = vec![
        line(1, T0 + 240_000, 1),
        line(2, T0 + 250_000, 2),
        line(3, T0 + GENERATION_MS + 1_000, 3),
        line(4, T0 + 3 * GENERATION_MS, 4),
    ];
    let acts = [Act::Fast, Act::Nothing, Act::Die, Act::Nothing, Act::Fast, Act::Die];
    let sums = disturbed(&stream, &acts);
    assert_eq!(sums.uniques[&(5, window::minute(T0 + 240_000))], 4);
}
