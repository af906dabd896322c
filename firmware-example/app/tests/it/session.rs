//! The application over an acknowledged session: wherever a connection fails, the host has every sample once, or a gap.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use firmware_example::{Plan, run_session, tail};
use framing_core::session::Device;
use framing_core::session::wire::ClosingCode;
use framing_uplink::{Full, Ring, Session, SessionMemory, SessionReport, Stop};

use crate::application::{BOUNDS, PLAN};
use crate::host::{Course, Failure, HEARTBEAT_S, Host, START_MS};
use crate::support::{Bench, Time};

/// Room for a few dozen samples.
type Memory = SessionMemory<4096>;

/// Runs the application until it ends.
fn application<const R: usize>(
    time: &Time,
    plan: Plan,
    memory: &mut SessionMemory<R>,
    host: &Host<'_>,
) -> SessionReport {
    let polls = usize::MAX;
    let (report, asked) = application_until_reset(time, plan, memory, host, polls);
    let report = report.expect("it ends");
    assert_honest(report, asked, host);
    report
}

/// Runs the application until it ends, or until a reset at this number of polls. Returns its report, and the number of
/// samples that were made.
fn application_until_reset<const R: usize>(
    time: &Time,
    plan: Plan,
    memory: &mut SessionMemory<R>,
    mut host: &Host<'_>,
    polls: usize,
) -> (Option<SessionReport>, u32) {
    let (ring, stop, mut bench) = (
        Ring::<448>::new(Full::DropOldest),
        Stop::new(),
        Bench::default(),
    );
    let device = Device::new("boiler-7").unwrap();
    let mut session = Session::new(device, memory, Full::DropOldest, 7).with_tail(tail);
    let report = {
        let running = run_session(
            plan,
            &ring,
            &mut session,
            &stop,
            &mut bench,
            time,
            &mut host,
        );
        let mut running = pin!(running);
        let mut polled = 0;
        time.run(poll_fn(|context| {
            if polled == polls {
                return Poll::Ready(None);
            }
            polled += 1;
            running.as_mut().poll(context).map(Some)
        }))
    };
    (report, bench.asked)
}

/// Asserts that every sample is counted once, and that the host has what the report says.
#[track_caller]
fn assert_honest(report: SessionReport, made: u32, host: &Host<'_>) {
    let SessionReport {
        acknowledged,
        given_up,
        refused,
        left,
        restored,
        ..
    } = report;
    assert_eq!(
        acknowledged + given_up + refused + left,
        made + restored,
        "{report:?}"
    );
    assert_eq!(report.ended, left == 0, "{report:?}");
    let recorded = host.recorded().0.len() as u32;
    assert!(acknowledged <= recorded, "{recorded} recorded, {report:?}");
    assert!(
        recorded <= made + restored,
        "{recorded} recorded, {report:?}"
    );
}

/// The numbers of the samples that the host has.
fn numbers(host: &Host<'_>) -> Vec<u32> {
    let samples = host.recorded().0;
    samples.iter().map(|sample| sample["n"] as u32).collect()
}

#[test]
fn an_undisturbed_session_acknowledges_every_sample() {
    let time = Time::default();
    let host = Host::new(&time, &[], Course::Lives);
    let report = application(&time, PLAN, &mut Memory::new(), &host);
    let wanted = SessionReport {
        acknowledged: 8,
        connections: 1,
        ended: true,
        ..SessionReport::default()
    };
    assert_eq!(report, wanted);
    let (samples, gaps) = host.recorded();
    assert_eq!((numbers(&host), gaps), ((0..8).collect(), 0));
    assert_eq!(host.aborts.get(), 0);
    for (at, sample) in samples.iter().enumerate() {
        assert_eq!(sample["t"], 10.0 * at as f64);
        // The first one was made before the time of the host was known.
        let time = (at != 0).then(|| START_MS as f64 + sample["t"]);
        assert_eq!(sample.get("time").copied(), time, "{sample:?}");
    }
}

#[test]
fn samples_have_the_uptime_alone_until_the_time_of_the_host_is_known() {
    let time = Time::default();
    let host = Host::new(&time, &[Course::Refused; 2], Course::Lives);
    let plan = Plan {
        samples: Some(100),
        ..PLAN
    };
    application(&time, plan, &mut Memory::new(), &host);
    let known_ms = host.attempts_ms.borrow()[2];
    for sample in host.recorded().0 {
        let time_ms = START_MS as f64 + sample["t"];
        let time_ms = (known_ms as f64 <= sample["t"]).then_some(time_ms);
        assert_eq!(sample.get("time").copied(), time_ms, "{sample:?}");
    }
    assert!((100..600).contains(&known_ms), "{known_ms}");
}

#[test]
fn wherever_a_connection_fails_every_sample_is_recorded_once() {
    let time = Time::default();
    let whole = Host::new(&time, &[], Course::Lives);
    application(&time, PLAN, &mut Memory::new(), &whole);
    let (up, down) = whole.bytes.get();
    assert!(8 * 80 < up && 48 + 3 * 20 <= down, "{up} and {down} bytes");
    let failures = [
        Failure::Reset,
        Failure::Close,
        Failure::Silence,
        Failure::Deaf,
        Failure::Crash,
        Failure::Closing(ClosingCode::Again as u8),
        Failure::Closing(ClosingCode::Shutdown as u8),
        Failure::Closing(ClosingCode::Protocol as u8),
        Failure::Closing(99),
    ];
    let failures = failures.into_iter().flat_map(|failure| {
        // The queue has no room for the samples of ten seconds in which not even the HELLO is taken.
        let least = if failure == Failure::Silence {
            2 * 60
        } else {
            0
        };
        // Including twice in a row, where less is left to send.
        (least..up).map(move |at| [Course::Up(at, failure), Course::Up(at / 2, failure)])
    });
    let resets = (0..down).map(|at| [Course::Down(at), Course::Down(at / 2)]);
    let plan = Plan {
        stop_ms: 300_000,
        ..PLAN
    };
    for courses in failures.chain(resets) {
        let time = Time::default();
        let host = Host::new(&time, &courses, Course::Lives);
        let report = application(&time, plan, &mut Memory::new(), &host);
        let context = format!("{courses:?}: {report:?}");
        assert_eq!(numbers(&host), (0..8).collect::<Vec<_>>(), "{context}");
        assert_eq!((report.acknowledged, report.ended), (8, true), "{context}");
        assert_eq!(host.recorded().1, 0, "{context}");
        assert!((2..=3).contains(&report.connections), "{context}");
    }
}

#[test]
fn a_host_that_refuses_is_tried_after_its_delay() {
    const LONG: (u64, u64) = (BOUNDS.long_ms as u64 / 2, BOUNDS.long_ms as u64);
    const FIRST: (u64, u64) = (BOUNDS.first_ms as u64 / 2, BOUNDS.first_ms as u64);
    for (code, retry_s, (least_ms, most_ms)) in [
        (ClosingCode::Version as u8, 0, LONG),
        (ClosingCode::BadHello as u8, 0, LONG),
        (ClosingCode::Forbidden as u8, 100, (100_000, 100_000)),
        (ClosingCode::Full as u8, 7, (7_000, 7_000)),
        (ClosingCode::Full as u8, 0, FIRST),
        (ClosingCode::Superseded as u8, 60, (60_000, 60_000)),
        (ClosingCode::Unsupported as u8, 0, LONG),
        // Not at once without a WELCOME, or such a host would be tried at full speed.
        (ClosingCode::Again as u8, 0, FIRST),
        (ClosingCode::Shutdown as u8, 0, FIRST),
        (ClosingCode::Protocol as u8, 0, FIRST),
        (ClosingCode::NoSession as u8, 0, LONG),
        (77, 0, FIRST),
    ] {
        let time = Time::default();
        let host = Host::new(&time, &[Course::Refuses(code, retry_s)], Course::Lives);
        let plan = Plan {
            stop_ms: 200_000,
            ..PLAN
        };
        let report = application(&time, plan, &mut Memory::new(), &host);
        let [first_ms, second_ms] = host.attempts_ms.borrow()[..] else {
            panic!("two attempts");
        };
        let waited_ms = second_ms - first_ms;
        assert!(
            (least_ms..=most_ms).contains(&waited_ms),
            "code {code}: {waited_ms} ms"
        );
        assert_eq!(
            (report.acknowledged, report.unwelcome),
            (8, 1),
            "code {code}"
        );
    }
}

#[test]
fn a_host_whose_sync_failed_is_tried_at_once_unless_it_acknowledges_nothing() {
    let time = Time::default();
    let again = Failure::Closing(ClosingCode::Again as u8);
    // The fourth connection acknowledges messages before its sync fails.
    let courses = [300, 300, 300, 600].map(|len| Course::Up(len, again));
    let host = Host::new(&time, &courses, Course::Lives);
    let report = application(&time, PLAN, &mut Memory::new(), &host);
    assert_eq!((report.acknowledged, report.connections), (8, 5));
    let attempts_ms = host.attempts_ms.borrow();
    let waits_ms: Vec<_> = attempts_ms.windows(2).map(|it| it[1] - it[0]).collect();
    let [_, second_ms, third_ms, fourth_ms] = waits_ms[..] else {
        panic!("five attempts");
    };
    let least_ms = u64::from(BOUNDS.first_ms) / 2;
    assert!(least_ms <= second_ms, "{waits_ms:?}");
    assert!(least_ms <= third_ms, "{waits_ms:?}");
    assert!(fourth_ms <= 40, "{waits_ms:?}");
}

#[test]
fn a_short_connection_that_acknowledges_messages_resets_the_back_off() {
    let time = Time::default();
    let courses = [(); 6].map(|()| Course::Up(600, Failure::Close));
    let host = Host::new(&time, &courses, Course::Lives);
    let plan = Plan {
        period_ms: 100,
        samples: Some(60),
        ..PLAN
    };
    let report = application(&time, plan, &mut Memory::new(), &host);
    assert_eq!((report.acknowledged, report.connections), (60, 7));
    let attempts_ms = host.attempts_ms.borrow();
    // A connection, and the wait after it.
    let mut waits_ms = attempts_ms.windows(2).map(|it| it[1] - it[0]);
    let most_ms = u64::from(BOUNDS.first_ms) + 400;
    assert!(
        waits_ms.all(|wait_ms| wait_ms <= most_ms),
        "{attempts_ms:?}"
    );
}

#[test]
fn a_host_without_sessions_is_tried_less_often_and_the_samples_stay() {
    for (course, attempt_ms) in [
        (Course::Mute, 10_000),
        (Course::Refuses(ClosingCode::NoSession as u8, 0), 0),
    ] {
        let time = Time::default();
        let host = Host::new(&time, &[], course);
        let plan = Plan {
            period_ms: 10_000,
            samples: Some(30),
            ..PLAN
        };
        let mut memory = Memory::new();
        let report = application(&time, plan, &mut memory, &host);
        assert_eq!((report.acknowledged, report.ended), (0, false));
        assert_eq!(report.unwelcome, report.connections);
        assert_eq!((report.left, report.given_up), (30, 0), "{report:?}");
        let attempts_ms = host.attempts_ms.borrow();
        let waits_ms = attempts_ms.windows(2).map(|pair| pair[1] - pair[0]);
        // The answer to the first HELLO can have been lost.
        let long_ms: Vec<_> = waits_ms.skip(usize::from(attempt_ms != 0)).collect();
        let least_ms = attempt_ms + u64::from(BOUNDS.long_ms) / 2;
        assert!(long_ms.len() >= 3, "{attempts_ms:?}");
        assert!(
            long_ms.iter().all(|&wait_ms| least_ms <= wait_ms),
            "{attempts_ms:?}"
        );

        // The daemon is replaced by one with sessions: the next run in the same memory delivers them.
        let host = Host::new(&time, &[], Course::Lives);
        let report = application(&time, PLAN, &mut memory, &host);
        assert_eq!(
            (report.restored, report.acknowledged, report.ended),
            (30, 38, true)
        );
        let wanted: Vec<_> = (0..30).chain(0..8).collect();
        assert_eq!(numbers(&host), wanted);
    }
}

#[test]
fn a_silent_host_is_given_up_after_three_heartbeats() {
    let time = Time::default();
    let courses = [Course::Up(300, Failure::Silence)];
    let host = Host::new(&time, &courses, Course::Lives);
    let plan = Plan {
        period_ms: 1_000,
        samples: Some(60),
        ..PLAN
    };
    let report = application(&time, plan, &mut Memory::new(), &host);
    assert_eq!((report.acknowledged, report.connections), (60, 2));
    let second_ms = host.attempts_ms.borrow()[1];
    let silent_ms = 3 * u64::from(HEARTBEAT_S) * 1_000;
    assert!(
        (silent_ms..silent_ms + 4_000).contains(&second_ms),
        "{second_ms}"
    );
}

#[test]
fn a_full_ring_gives_up_its_oldest_messages_as_one_gap() {
    for refusals in 1..12 {
        let time = Time::default();
        let mut courses = vec![Course::Up(500, Failure::Crash)];
        courses.extend(vec![Course::Refused; refusals]);
        let host = Host::new(&time, &courses, Course::Lives);
        let plan = Plan {
            samples: Some(6_000),
            ..PLAN
        };
        let report = application(&time, plan, &mut SessionMemory::<512>::new(), &host);
        assert!(report.ended && 0 < report.given_up, "{report:?}");
        assert_eq!((report.gaps, report.refused), (1, 0), "{report:?}");
        let (samples, gaps) = host.recorded();
        assert_eq!(gaps, 1, "{report:?}");
        assert_eq!(samples.len() as u32, report.acknowledged);
        assert_eq!(samples.len() as u32, 6_000 - report.given_up);
        let last = samples.last().expect("many");
        assert_eq!(last["lost"], f64::from(report.given_up), "{last:?}");
    }
}

#[test]
fn a_ring_whose_oldest_message_is_half_sent_refuses_samples() {
    let time = Time::default();
    // In the middle of the second message.
    let host = Host::new(&time, &[Course::Up(230, Failure::Silence)], Course::Lives);
    let plan = Plan {
        period_ms: 1_000,
        samples: Some(100),
        ..PLAN
    };
    let report = application(&time, plan, &mut SessionMemory::<512>::new(), &host);
    assert!(0 < report.refused, "{report:?}");
    assert!(report.ended, "{report:?}");
    let samples = host.recorded().0;
    let missing = 100 - samples.len() as u32;
    // The host can have messages that were given up.
    let most = report.refused + report.given_up;
    assert!(
        (report.refused..=most).contains(&missing),
        "{missing} missing, {report:?}"
    );
}

#[test]
fn a_reset_at_any_moment_loses_and_repeats_nothing() {
    let plan = Plan {
        stop_ms: 100_000,
        ..PLAN
    };
    let mut is_over_for = [false; 3];
    for first in 1.. {
        let time = Time::default();
        // The connection fails, too, so that the session goes on over several. The samples are made before the first WELCOME,
        // or meanwhile.
        let refused = [Course::Refused; 2];
        let fails = [
            Course::Up(150, Failure::Reset),
            Course::Up(500, Failure::Crash),
        ];
        let courses = [&refused[..first % 3], &fails].concat();
        let host = Host::new(&time, &courses, Course::Lives);
        let mut memory = Memory::new();
        let mut wanted = Vec::new();
        let mut is_over = true;
        for polls in [first, first / 2 + 1] {
            let (ended, made) = application_until_reset(&time, plan, &mut memory, &host, polls);
            wanted.extend(0..made);
            is_over &= ended.is_some();
        }
        let report = application_until_reset(&time, plan, &mut memory, &host, usize::MAX).0;
        let report = report.expect("it ends");
        wanted.extend(0..8);
        assert!(report.ended, "{report:?}");
        assert_eq!(numbers(&host), wanted, "after {first} polls: {report:?}");
        assert_eq!(host.recorded().1, 0);
        is_over_for[first % 3] |= is_over;
        if is_over_for == [true; 3] {
            assert!(20 < first, "{first} polls");
            break;
        }
    }
}

#[test]
fn memory_whose_state_is_not_that_of_its_ring_begins_a_new_session() {
    let time = Time::default();
    let host = Host::new(&time, &[], Course::Refused);
    let mut memory = Memory::new();
    assert_eq!(application(&time, PLAN, &mut memory, &host).left, 8);
    let device = Device::new("boiler-7").unwrap();
    let restored = |memory: &mut Memory| {
        Session::new(device, memory, Full::DropOldest, 7)
            .with_tail(tail)
            .report()
            .restored
    };
    assert_eq!(restored(&mut memory), 8);
    assert_eq!(restored(&mut Memory::new()), 0);
}

#[test]
fn the_time_of_the_host_is_right_although_its_clock_is_slower() {
    let time = Time::default();
    let host = Host::new(&time, &[], Course::Lives);
    host.slower_ppm.set(100);
    let plan = Plan {
        period_ms: 60_000,
        samples: Some(60),
        ..PLAN
    };
    let report = application(&time, plan, &mut Memory::new(), &host);
    assert_eq!((report.acknowledged, report.connections), (60, 1));
    for sample in host.recorded().0.into_iter().skip(1) {
        let right_ms = host.at_ns(sample["t"] as u64 * 1_000) / 1_000_000;
        let wrong_ms = (sample["time"] as u64).abs_diff(right_ms);
        // 100 ppm of the age of an estimate: 10 minutes and a heartbeat.
        assert!(wrong_ms <= 62, "{wrong_ms} ms wrong: {sample:?}");
    }
}
