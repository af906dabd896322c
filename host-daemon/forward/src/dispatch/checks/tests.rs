//! What is pinned, and what a check proves.

use super::*;

fn message(sequence: u64) -> Newest {
    Newest { sequence, nonce: 7 }
}

fn numbers(checks: &Checks) -> Vec<u64> {
    let listed = checks.list().messages;
    listed.iter().map(|it| it.sequence).collect()
}

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_during_a_check_is_checked_again() {
    let [first, second] = [1, 2].map(message);
    let mut checks = Checks::new(Some(first), Vec::new());
    checks.pin();
    assert!(checks.begin(true, None));
    let checked = checks.list();
    assert!(!checks.begin(true, None));
    checks.pin();
    checks.note(second, Some(Instant::now()), true);
    checks.passed(&checked, true, Duration::ZERO);
    assert_eq!(numbers(&checks), [1, 2]);
    assert!(checks.begin(true, None));
    let checked = checks.list();
    checks.passed(&checked, true, Duration::ZERO);
    assert_eq!(numbers(&checks), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_check_ends_what_was_pinned_before_it_whatever_is_pinned_meanwhile() {
    let mut checks = Checks::new(None, Vec::new());
    checks.note(message(1), Some(Instant::now()), true);
    checks.pin();
    for number in 2..50 {
        let checked = checks.list();
        checks.note(message(number), Some(Instant::now()), true);
        checks.pin();
        checks.passed(&checked, true, Duration::ZERO);
        assert_eq!(numbers(&checks), [number]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_is_made_in_parts_that_prove_what_they_asked_for() {
    let mut checks = Checks::new(None, (1..=5).map(message).collect());
    assert!(checks.begin(true, None));
    let mut next = |has_more| {
        let (part, bytes) = checks.next_part(5000, 2000).expect("a part");
        assert!(checks.next_part(5000, 2000).is_none(), "one at a time");
        let asked: Vec<_> = part.messages.iter().map(|it| it.sequence).collect();
        assert_eq!(part.has_more, has_more);
        assert_eq!(bytes, asked.len() * ANSWER_MIN);
        // What is pinned during the check is of the next one.
        checks.pin();
        match has_more {
            true => checks.proved(&part, Duration::ZERO),
            false => assert!(checks.passed(&part, true, Duration::ZERO)),
        }
        (asked, numbers(&checks))
    };
    assert_eq!(next(true), (vec![1, 2], vec![3, 4, 5]));
    assert_eq!(next(true), (vec![3, 4], vec![5]));
    assert_eq!(next(false), (vec![5], vec![5]));
    assert!(checks.next_part(5000, 2000).is_none());
    // A failure ends it, and what was proved remains proved.
    let mut checks = Checks::new(None, (1..=5).map(message).collect());
    assert!(checks.begin(true, None));
    let (part, _) = checks.next_part(5000, 2000).expect("a part");
    checks.proved(&part, Duration::ZERO);
    checks.next_part(5000, 2000).expect("a part");
    checks.failed();
    assert!(checks.next_part(5000, 2000).is_none() && !checks.begin(true, None));
    assert_eq!(numbers(&checks), [3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_part_of_a_check_has_answers_of_some_length() {
    let mut checks = Checks::new(None, Vec::new());
    for (sequence, len) in [(1, 3000), (2, 90_000), (3, 3000), (4, 3000), (5, 4000)] {
        checks.note(message(sequence), Some(Instant::now()), false);
        checks.measure(sequence, len);
        checks.pin();
    }
    assert!(checks.begin(true, None));
    for wanted in [(vec![1], 3000), (vec![2], 90_000), (vec![3, 4, 5], 10_000)] {
        let (part, bytes) = checks.next_part(10_000, 0).expect("a part");
        let asked: Vec<_> = part.messages.iter().map(|it| it.sequence).collect();
        assert_eq!((asked, bytes), wanted);
        checks.proved(&part, Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn the_newest_before_each_quiet_time_is_pinned() {
    let mut checks = Checks::new(None, Vec::new());
    let mut note = async |sequence, wait_ms, call_ms| {
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        let begun = Instant::now() - Duration::from_millis(call_ms);
        checks.note(message(sequence), Some(begun), true);
        numbers(&checks)
    };
    assert_eq!(note(1, 0, 2).await, [1]);
    assert_eq!(note(3, 100, 2).await, [3]);
    assert_eq!(note(4, 200, 2).await, [3, 4]);
    assert_eq!(note(4, 200, 2).await, [3, 4]);
    assert_eq!(note(5, 20, 2).await, [3, 4, 5]);
    // Answers that take long: what they tell of may be older than the quiet time.
    assert_eq!(note(6, 2, 500).await, [3, 4, 6]);
    assert_eq!(note(7, 20, 500).await, [3, 4, 6, 7]);
    // There is one of them for each such time.
    assert_eq!(note(8, 20, 500).await, [3, 4, 7, 8]);
    assert_eq!(note(9, 140, 500).await, [3, 4, 7, 8, 9]);
    assert_eq!(note(10, 20, 500).await, [3, 4, 7, 9, 10]);
    assert_eq!(note(11, 500, 2).await, [3, 4, 7, 9, 10, 11]);
}

#[tokio::test(start_paused = true)]
async fn answers_that_were_held_on_the_way_pin_each_message_unless_all_are_of_one_recording() {
    let begun = Instant::now();
    let pinned = async |is_only, held_ms| {
        let mut checks = Checks::new(None, Vec::new());
        checks.note(message(1), Some(Instant::now()), is_only);
        let begun = Instant::now();
        tokio::time::sleep(Duration::from_millis(held_ms)).await;
        for sequence in 2..=5 {
            assert!(checks.note(message(sequence), Some(begun), is_only));
        }
        // One that began after that.
        checks.note(message(6), Some(Instant::now()), is_only);
        tokio::time::sleep(Duration::from_millis(200)).await;
        numbers(&checks)
    };
    assert_eq!(pinned(false, 1000).await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(pinned(true, 1000).await, [1, 5, 6]);
    assert_eq!(pinned(false, 20).await, [6]);
    // A number that was given twice shows a loss, whoever forwards to the stream.
    let mut checks = Checks::new(None, Vec::new());
    let of = |sequence, nonce| Newest { sequence, nonce };
    assert!(checks.note(of(1, 1), Some(begun), true) && checks.note(of(2, 2), Some(begun), true));
    assert!(checks.note(of(1, 1), None, true) && !checks.note(of(1, 3), Some(begun), true));
}

#[tokio::test(start_paused = true)]
async fn failures_pin_one_message_for_each_quiet_time() {
    let mut checks = Checks::new(None, Vec::new());
    for sequence in 1..=1000 {
        checks.note(message(sequence), Some(Instant::now()), true);
        checks.doubt();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let pinned = checks.pinned.len();
    assert!((6..=8).contains(&pinned), "{pinned} are pinned");
    assert!(!checks.is_full());
    // What interrupts the way does, each time.
    for sequence in 2000..2000 + PINNED_MAX as u64 {
        checks.note(message(sequence), Some(Instant::now()), true);
        checks.pin();
    }
    assert!(checks.is_full());
}

/// Makes a check that takes this long, and in which the way is interrupted after another time. Returns the time until the next one
/// while messages are stored.
async fn pause_after(
    checks: &mut Checks,
    took: Duration,
    interrupted: Option<Duration>,
) -> Duration {
    assert!(checks.begin(true, None));
    let (part, _) = checks.next_part(usize::MAX, 0).expect("a part");
    let before = interrupted.unwrap_or_default();
    tokio::time::sleep(before).await;
    if interrupted.is_some() {
        checks.pin();
    }
    tokio::time::sleep(took - before).await;
    checks.passed(&part, true, Duration::ZERO);
    let newest = checks.last();
    checks.note(message(newest + 1), Some(Instant::now()), true);
    checks.next_at().expect("no check in progress") - Instant::now()
}

#[tokio::test(start_paused = true)]
async fn the_pause_after_a_check_is_not_that_of_an_outage() {
    let [short, long] = [5, 4300].map(Duration::from_millis);
    let mut checks = Checks::new(Some(message(1)), Vec::new());
    for interrupted in [None, Some(long - short), Some(long - short)] {
        let pause = pause_after(&mut checks, long, interrupted).await;
        assert_eq!(pause, BUSY_INTERVAL, "{interrupted:?}");
    }
    // The servers stop for a while, which interrupts nothing.
    for took in [short, long, short, long] {
        assert_eq!(pause_after(&mut checks, took, None).await, BUSY_INTERVAL);
    }
    // Over a slow way, each check takes long.
    assert_eq!(pause_after(&mut checks, long, None).await, 9 * long);
}
