//! The whole application on a simulated network, where connections are refused, stall, and fail at any byte.

use std::collections::BTreeMap;

use crate::delivery::assert_honest;
use crate::support::{Bench, Ending, Fate, Server, Time, blocks, decode, push, whole};
use firmware_example::{
    BLOCK_MAX, KEYS, Plan, Sample, pressure_simulated_hpa, run, sample, tail,
    temperature_simulated_c,
};
use framing_uplink::{
    Backoff, BackoffBounds, Clock, Full, Ring, RingSource, SeriesReport, Source, Stop,
};

pub(crate) const BOUNDS: BackoffBounds = BackoffBounds::new();

pub(crate) const PLAN: Plan = Plan {
    period_ms: 10,
    samples: Some(8),
    stop_ms: 5_000,
    answer_ms: 500,
};

pub(crate) fn application<const N: usize>(
    time: &Time,
    plan: Plan,
    mut server: &Server<'_>,
) -> SeriesReport {
    let (ring, stop) = (Ring::<N>::new(Full::DropOldest), Stop::new());
    let mut bench = Bench::default();
    time.run(run(plan, &ring, &stop, &mut bench, time, &mut server, 7))
}

/// Asserts for every sample that all earlier samples arrived or are counted in it as lost.
fn assert_accounted(samples: &[BTreeMap<String, f64>]) {
    for (before, sample) in samples.iter().enumerate() {
        assert_eq!(sample["n"], before as f64 + sample["lost"], "{sample:?}");
    }
}

#[test]
fn a_full_ring_drops_its_oldest_sample_and_the_next_one_reports_the_count() {
    // Room for four.
    let ring = Ring::<400>::new(Full::DropOldest);
    let mut samples = RingSource::<_, BLOCK_MAX>::new(&ring).with_tail(tail);
    let mut sent = Vec::new();
    for number in 0..10 {
        push(&ring, number);
        if number == 6 {
            sent.push(decode(samples.peek().unwrap()));
            samples.sent();
        }
    }
    ring.close();
    assert_eq!((ring.len(), ring.lost()), (4, 5));
    while let Some(block) = samples.peek() {
        sent.push(decode(block));
        samples.sent();
    }
    let seen: Vec<_> = sent
        .iter()
        .map(|sample| (sample["n"], sample["lost"]))
        .collect();
    assert_eq!(
        seen,
        [(3.0, 3.0), (6.0, 5.0), (7.0, 5.0), (8.0, 5.0), (9.0, 5.0)]
    );
    assert_accounted(&sent);
    assert!(samples.is_ended());
}

#[test]
fn a_block_is_a_map_of_the_documented_keys() {
    let sample = Sample {
        uptime_ms: 12_345,
        number: 7,
        loop_us: 21,
        loop_max_us: 300,
        stack_bytes: 2_000,
        frames_received: 70_000,
        frames_sent: 80_000,
        queued: 3,
        time_ms: None,
        temperature_simulated_c: temperature_simulated_c(7),
        pressure_simulated_hpa: pressure_simulated_hpa(7),
    };
    let block = whole(&sample, 5);
    assert_eq!(block[..6], *b"\xbf\x61t\x19\x30\x39");
    let values = [
        12_345.0, 7.0, 21.0, 300.0, 2_000.0, 70_000.0, 80_000.0, 3.0, 20.4375, 1_000.875, 5.0,
    ];
    let keys = KEYS.map(str::to_owned);
    assert_eq!(decode(&block), keys.into_iter().zip(values).collect());
}

#[test]
fn the_longest_sample_fits_and_the_simulated_sensors_are_periodic() {
    let most = Sample {
        uptime_ms: u64::MAX,
        number: u32::MAX,
        loop_us: u32::MAX,
        loop_max_us: u32::MAX,
        stack_bytes: u32::MAX,
        frames_received: u32::MAX,
        frames_sent: u32::MAX,
        queued: u32::MAX,
        time_ms: Some(u64::MAX),
        temperature_simulated_c: 1.0,
        pressure_simulated_hpa: 1.0,
    };
    let block = whole(&most, u32::MAX);
    assert!(block.len() <= BLOCK_MAX);
    assert_eq!(decode(&block).len(), KEYS.len() + 1);
    assert_eq!(
        [0, 64, 128].map(temperature_simulated_c),
        [20.0, 24.0, 20.0]
    );
    assert_eq!(
        [0, 256, 512].map(pressure_simulated_hpa),
        [1_000.0, 1_032.0, 1_000.0]
    );
}

#[test]
fn back_off_doubles_up_to_its_bound_and_differs_by_seed() {
    let mut firsts = std::collections::BTreeSet::new();
    for seed in 0..1_000 {
        let mut backoff = Backoff::new(BOUNDS, seed);
        for round in 0..2 {
            let mut most_ms = BOUNDS.first_ms;
            for _ in 0..12 {
                let wait_ms = backoff.wait_ms();
                assert!(
                    (most_ms / 2..=most_ms).contains(&wait_ms),
                    "{wait_ms} of {most_ms}"
                );
                if round == 0 && most_ms == BOUNDS.last_ms {
                    firsts.insert(wait_ms);
                }
                most_ms = (most_ms * 2).min(BOUNDS.last_ms);
            }
            backoff.reset();
        }
    }
    assert!(firsts.len() > 500, "only {} different delays", firsts.len());
}

#[test]
fn an_undisturbed_series_arrives_at_its_pace_and_ends() {
    let time = Time::default();
    let server = Server::new(&time, &[], Fate::Lives).with_receipts();
    let report = application::<448>(&time, PLAN, &server);
    let (samples, endings) = server.received();
    assert_eq!(
        report,
        SeriesReport {
            delivered: 8,
            in_doubt: 0,
            lost: 0,
            connections: 1,
            ended: true,
            answered: true
        }
    );
    assert_eq!(endings, [Ending::Mark]);
    assert_eq!((server.closes.get(), server.aborts.get()), (1, 0));
    let times: Vec<_> = samples.iter().map(|sample| sample["t"]).collect();
    assert_eq!(times, [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0]);
    assert_eq!(
        (samples[7]["stack"], samples[7]["rx"], samples[7]["tx"]),
        (1_234.0, 80.0, 160.0)
    );
    assert_accounted(&samples);
}

#[test]
fn stopping_sends_all_samples_and_ends_the_series() {
    let time = Time::default();
    let server = Server::new(&time, &[Fate::Refused; 3], Fate::Lives);
    let (ring, stop) = (Ring::<7168>::new(Full::DropOldest), Stop::new());
    let plan = Plan {
        period_ms: 60_000,
        samples: None,
        ..PLAN
    };
    let mut bench = Bench::default();
    let report = time.run(async {
        let (report, ()) = embassy_futures::join::join(
            run(plan, &ring, &stop, &mut bench, &time, &mut &server, 7),
            async {
                time.sleep_ms(150_000).await;
                stop.request();
            },
        )
        .await;
        report
    });
    // It does not wait until the next sample is due.
    assert_eq!(time.now_ms(), 150_000);
    assert_eq!(
        report,
        SeriesReport {
            delivered: 0,
            in_doubt: 3,
            lost: 0,
            connections: 1,
            ended: true,
            answered: false
        }
    );
    let (samples, endings) = server.received();
    assert_eq!((samples.len(), endings), (3, vec![Ending::Mark]));
}

#[test]
fn every_sample_arrives_once_wherever_a_connection_fails() {
    let time = Time::default();
    let whole = Server::new(&time, &[], Fate::Lives);
    application::<896>(&time, PLAN, &whole);
    let wire_len = whole.wires.borrow()[0].len();
    for at in 0..wire_len - 4 {
        let time = Time::default();
        let server = Server::new(&time, &[Fate::Dies(at), Fate::Dies(at / 2)], Fate::Lives);
        let server = server.with_receipts();
        let report = application::<7168>(&time, PLAN, &server);
        let (samples, endings) = server.received();
        assert_eq!((report.lost, report.ended), (0, true), "fails at {at}");
        assert_eq!(samples.len(), 8, "fails at {at}");
        assert_honest(report, 8, samples.len());
        let (last, _) = blocks(server.wires.borrow().last().unwrap());
        assert_eq!(report.delivered as usize, last.len(), "fails at {at}");
        assert_accounted(&samples);
        assert_eq!(endings.last(), Some(&Ending::Mark));
        assert_eq!(server.aborts.get() + 1, endings.len());
    }
}

#[test]
fn a_connection_that_fails_within_the_end_mark_is_not_reported_as_ended() {
    let time = Time::default();
    let whole = Server::new(&time, &[], Fate::Lives);
    application::<896>(&time, PLAN, &whole);
    let wire_len = whole.wires.borrow()[0].len();
    for at in wire_len - 4..wire_len {
        let time = Time::default();
        let server = Server::new(&time, &[Fate::Dies(at)], Fate::Lives);
        let report = application::<896>(&time, PLAN, &server);
        assert_eq!(
            report,
            SeriesReport {
                delivered: 0,
                in_doubt: 8,
                lost: 0,
                connections: 1,
                ended: false,
                answered: false
            }
        );
        assert_eq!(server.received().1, [Ending::Truncated]);
    }
}

#[test]
fn samples_that_a_small_queue_drops_in_an_outage_are_counted_in_the_next_ones() {
    for refusals in 1..12 {
        let time = Time::default();
        let mut fates = vec![Fate::Dies(500)];
        fates.extend([Fate::Refused].repeat(refusals));
        let server = Server::new(&time, &fates, Fate::Lives);
        let plan = Plan {
            samples: Some(6_000),
            ..PLAN
        };
        let report = application::<448>(&time, plan, &server);
        let (samples, _) = server.received();
        assert!(report.lost > 0 && report.ended, "{report:?}");
        assert_honest(report, 6_000, samples.len());
        assert_eq!(samples.len() as u32, report.in_doubt);
        assert_accounted(&samples);
        assert_eq!(samples.last().unwrap()["lost"], f64::from(report.lost));
    }
}

#[test]
fn sampling_continues_while_a_connection_stalls() {
    let time = Time::default();
    let server = Server::new(&time, &[], Fate::Stalls(350));
    let (ring, stop, mut bench) = (
        Ring::<448>::new(Full::DropOldest),
        Stop::new(),
        Bench::default(),
    );
    let plan = Plan {
        samples: Some(100),
        ..PLAN
    };
    let report = time.run(run(plan, &ring, &stop, &mut bench, &time, &mut &server, 7));
    assert_eq!(bench.asked, 100);
    // The last sample, and the time limit for the rest of the series.
    assert_eq!(time.now_ms(), 990 + u64::from(PLAN.stop_ms));
    assert_eq!((report.delivered, report.in_doubt, report.lost), (0, 3, 97));
    assert!(!report.ended);
    assert_eq!(server.aborts.get(), 1);
}

#[test]
fn without_a_server_the_retries_and_the_stop_are_bounded() {
    let time = Time::default();
    let server = Server::new(&time, &[], Fate::Refused);
    let plan = Plan {
        period_ms: 1_000,
        samples: Some(120),
        ..PLAN
    };
    let report = application::<448>(&time, plan, &server);
    assert_eq!(
        report,
        SeriesReport {
            lost: 120,
            ..SeriesReport::default()
        }
    );
    assert_eq!(time.now_ms(), 119_000 + u64::from(PLAN.stop_ms));
    let attempts_ms = server.attempts_ms.borrow();
    let mut most_ms = u64::from(BOUNDS.first_ms);
    for pair in attempts_ms.windows(2) {
        let wait_ms = pair[1] - pair[0];
        assert!(
            (most_ms / 2..=most_ms).contains(&wait_ms),
            "{wait_ms} of {most_ms}"
        );
        most_ms = (most_ms * 2).min(u64::from(BOUNDS.last_ms));
    }
    assert!(attempts_ms.len() > 15);
}

#[test]
fn connections_that_fail_at_once_do_not_reset_the_back_off() {
    let time = Time::default();
    let server = Server::new(&time, &[], Fate::Dies(200));
    let plan = Plan {
        period_ms: 1_000,
        samples: Some(60),
        ..PLAN
    };
    application::<7168>(&time, plan, &server);
    let attempts_ms = server.attempts_ms.borrow();
    let last_ms = attempts_ms.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(
        last_ms >= Some(u64::from(BOUNDS.last_ms) / 2),
        "{attempts_ms:?}"
    );
}

#[test]
fn a_server_that_never_answers_is_tried_less_and_less_often() {
    for fate in [Fate::Unanswered, Fate::Deaf(300)] {
        let time = Time::default();
        let server = Server::new(&time, &[], fate);
        let plan = Plan {
            period_ms: 1_000,
            samples: Some(300),
            ..PLAN
        };
        let report = application::<448>(&time, plan, &server);
        assert_eq!((report.delivered, report.ended), (0, false));
        let attempts_ms = server.attempts_ms.borrow();
        // An attempt lasts 10 s, and a connection the time until its buffer is full too; the rest is the back-off.
        let last = attempts_ms.windows(2).rev().take(5);
        let waits: Vec<_> = last.map(|pair| pair[1] - pair[0]).collect();
        let least_ms = 10_000 + u64::from(BOUNDS.last_ms) / 2;
        assert!(
            waits.iter().all(|&wait_ms| least_ms <= wait_ms),
            "{waits:?}"
        );
    }
}

#[test]
fn a_connection_that_lasted_resets_the_back_off() {
    let time = Time::default();
    let mut fates = vec![Fate::Refused; 8];
    fates.push(Fate::Dies(2_000));
    let server = Server::new(&time, &fates, Fate::Lives);
    let plan = Plan {
        period_ms: 1_000,
        samples: Some(120),
        ..PLAN
    };
    // A short queue, so that the connection must wait for samples.
    application::<448>(&time, plan, &server);
    let attempts_ms = server.attempts_ms.borrow();
    assert_eq!(attempts_ms.len(), 10);
    let (samples, _) = server.received();
    let died_ms = samples.iter().map(|sample| sample["t"] as u64);
    let died_ms = died_ms.filter(|&at_ms| at_ms <= attempts_ms[9]).max();
    let wait_ms = attempts_ms[9] - died_ms.unwrap();
    assert!(wait_ms <= u64::from(BOUNDS.first_ms), "{wait_ms}");
}

#[test]
fn a_reply_that_is_not_a_series_does_not_count() {
    for answer in [&b""[..], b"\0\0\0\x02ok", b"\0\0\0\x09trunc", &[0xff; 8]] {
        let time = Time::default();
        let server = Server::new(&time, &[], Fate::Lives).answering(answer);
        let report = application::<448>(&time, PLAN, &server);
        assert!(report.ended && !report.answered, "{answer:?}");
        assert_eq!((report.delivered, report.in_doubt + report.lost), (0, 8));
    }
}

#[test]
fn a_late_loop_is_measured_and_the_missed_periods_are_skipped() {
    struct Slow<'a>(&'a Time);
    impl Clock for Slow<'_> {
        fn now_us(&self) -> u64 {
            self.0.now_us()
        }
        async fn sleep_until_us(&self, at_us: u64) {
            // Delays the loop once, by 35 ms.
            let late_us = if at_us == 30_000 { 35_000 } else { 0 };
            self.0.sleep_until_us(at_us + late_us).await;
        }
    }
    let time = Time::default();
    let ring = Ring::<896>::new(Full::DropOldest);
    time.run(sample(PLAN, &ring, &mut Bench::default(), &Slow(&time)));
    let mut samples = RingSource::<_, BLOCK_MAX>::new(&ring).with_tail(tail);
    let mut seen = Vec::new();
    while let Some(block) = samples.peek() {
        let sample = decode(block);
        seen.push((sample["t"], sample["loop_us"], sample["loop_max_us"]));
        // Nothing was sent meanwhile: each sample found all earlier ones in the queue, and not itself.
        assert_eq!(sample["queue"], sample["n"]);
        samples.sent();
    }
    assert_eq!(seen[3], (65.0, 0.0, 0.0));
    assert_eq!(seen[4], (65.0, 35_000.0, 35_000.0));
    assert_eq!(seen[5], (75.0, 0.0, 35_000.0));
}
