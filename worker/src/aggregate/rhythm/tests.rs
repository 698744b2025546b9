//! What begins when, without a clock.

use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A shard that reads on and has no rows: marks move its position.
const AT_REST: Waiting = Waiting { fast_rows: 0, slow_rows: [0; 4], behind: [true; 4], has_late: false, unread: 0 };

/// What begins up to then, where every commit takes no time: after how long, and what.
fn begun(rhythm: &mut Rhythm, began: Instant, until: Duration, waiting: &Waiting) -> Vec<(Duration, Due)> {
    let mut begun = Vec::new();
    loop {
        let now = rhythm.next(waiting);
        if now > began + until {
            return begun;
        }
        while let Some(due) = rhythm.due(now, waiting) {
            begun.push((now - began, due));
            end(rhythm, due);
        }
    }
}

fn end(rhythm: &mut Rhythm, due: Due) {
    let kind = match due {
        Due::Fast => CommitKind::Fast,
        Due::Whole => CommitKind::All,
        Due::Slice(_) => CommitKind::Slow,
        Due::RollUp => CommitKind::RollUp,
        Due::Purge => return,
    };
    rhythm.ended(kind, Duration::ZERO);
}

fn commits(begun: Vec<(Duration, Due)>) -> Vec<(Duration, Due)> {
    begun.into_iter().filter(|(_, due)| !matches!(due, Due::RollUp | Due::Purge)).collect()
}

#[test]
fn at_rest_there_is_one_commit_in_five_seconds_and_now_and_then_it_moves_the_slices_on() {
    let began = Instant::now();
    let begun = commits(begun(&mut Rhythm::begin(began), began, seconds(600), &AT_REST));
    let expected: Vec<_> =
        (1..=120).map(|five| (seconds(5 * five), if five % 24 == 0 { Due::Whole } else { Due::Fast })).collect();
    assert_eq!(begun, expected);
}

#[test]
fn slices_that_stand_where_the_shard_does_are_not_moved() {
    let began = Instant::now();
    let waiting = Waiting { behind: [false; 4], ..AT_REST };
    let begun = commits(begun(&mut Rhythm::begin(began), began, seconds(600), &waiting));
    assert!(begun.len() == 120 && begun.iter().all(|(_, due)| *due == Due::Fast), "{begun:?}");
}

#[test]
fn beside_fast_traffic_a_slice_without_rows_moves_on_with_the_others() {
    let began = Instant::now();
    let mut rhythm = Rhythm::begin(began);
    let waiting = Waiting { fast_rows: 30, slow_rows: [9, 9, 9, 0], ..AT_REST };
    let (mut slices, mut wholes) = (0, Vec::new());
    let mut now = began;
    while now <= began + seconds(600) {
        rhythm.pending(now);
        now = rhythm.next(&waiting);
        while let Some(due) = rhythm.due(now, &waiting) {
            match due {
                Due::Slice(slice) => {
                    assert_ne!(slice, 3, "it has nothing to commit");
                    slices += 1;
                }
                Due::Whole => wholes.push((now - began).as_secs()),
                Due::Fast | Due::RollUp | Due::Purge => {}
            }
            end(&mut rhythm, due);
        }
    }
    assert_eq!(slices, 60, "three slices every thirty seconds");
    assert_eq!(wholes, [120, 240, 360, 480, 600]);
}

#[test]
fn slices_take_turns_within_thirty_seconds() {
    let began = Instant::now();
    let waiting = Waiting { slow_rows: [1; 4], ..AT_REST };
    let mut begun = commits(begun(&mut Rhythm::begin(began), began, seconds(60), &waiting));
    begun.retain(|(_, due)| *due != Due::Fast);
    let expected: Vec<_> = (1..=8_u8)
        .map(|turn| (Duration::from_millis(7_500 * u64::from(turn)), Due::Slice((turn - 1) % SLICES)))
        .collect();
    assert_eq!(begun, expected);
}

#[test]
fn a_slice_with_rows_enough_does_not_wait_for_its_turn() {
    let began = Instant::now();
    let waiting = Waiting { slow_rows: [0, 0, SLOW_ROWS_ENOUGH, 0], ..AT_REST };
    assert_eq!(Rhythm::begin(began).due(began, &waiting), Some(Due::Slice(2)));
}

#[test]
fn while_late_lines_wait_nothing_begins_but_a_commit_of_all_groups() {
    let began = Instant::now();
    let mut rhythm = Rhythm::begin(began);
    let waiting = Waiting { slow_rows: [1; 4], ..AT_REST };
    let turn = began + SLOW / 4;
    rhythm.pending(turn - SOON / 2);
    assert_eq!(rhythm.due(turn, &waiting), Some(Due::Slice(0)));
    let late = Waiting { has_late: true, slow_rows: [SLOW_ROWS_ENOUGH; 4], ..waiting };
    assert_eq!(rhythm.due(turn + SOON, &late), None, "a slice's commit is under way");
    assert!(rhythm.next(&late) > turn + SOON, "nothing is looked for before it ends");
    rhythm.ended(CommitKind::Slow, SOON);
    assert_eq!(rhythm.next(&late), turn + SOON / 2);
    assert_eq!(rhythm.due(turn + SOON, &late), Some(Due::Whole));
    assert_eq!(rhythm.due(turn + SOON, &late), None);
}

#[test]
fn what_is_under_way_does_not_begin_again() {
    let began = Instant::now();
    let mut rhythm = Rhythm::begin(began);
    let waiting = Waiting { fast_rows: 1, slow_rows: [1; 4], ..AT_REST };
    rhythm.pending(began);
    let later = began + seconds(100);
    let due = |rhythm: &mut Rhythm| std::iter::from_fn(|| rhythm.due(later, &waiting)).collect::<Vec<_>>();
    assert_eq!(due(&mut rhythm), [Due::Fast, Due::Slice(0), Due::RollUp, Due::Purge]);
    assert_eq!(rhythm.next(&waiting), later + LOOK);
    rhythm.ended(CommitKind::Slow, SOON);
    assert_eq!(due(&mut rhythm), [Due::Slice(1)]);
    rhythm.ended(CommitKind::Fast, seconds(1));
    rhythm.pending(later);
    assert_eq!(rhythm.next(&waiting), later + seconds(2), "a slow commit makes a larger one");
}

#[test]
fn at_low_load_a_commit_begins_soon() {
    assert_eq!(fast_interval(Duration::from_millis(8), 0, 300), SOON);
}

#[test]
fn slow_commits_make_larger_ones() {
    assert_eq!(fast_interval(Duration::from_millis(400), 0, 300), Duration::from_millis(800));
    assert_eq!(fast_interval(Duration::from_secs(9), 0, 300), LATE);
}

#[test]
fn a_backlog_makes_the_largest_ones_until_there_are_enough_rows() {
    assert_eq!(fast_interval(Duration::ZERO, BACKLOG + 1, 300), LATE);
    assert_eq!(fast_interval(Duration::ZERO, BACKLOG + 1, ROWS_ENOUGH), Duration::ZERO);
}
