//! Tests of the [`Window`], on ways of several lengths and rates.

use super::*;
use crate::message::Head;
use crate::stream::Last;

/// The first of the timeouts.
const LIMIT: Duration = TIMEOUTS[0];

/// An answer, or none.
fn outcome(is_timely: bool) -> Outcome {
    Outcome::Published(match is_timely {
        true => Ok(1),
        false => Err(StreamError::Timeout(5000).into()),
    })
}

/// A way to a stream.
struct Way {
    window: Window,
    /// How long the shortest answer takes.
    trip: Duration,
    /// Bytes a second.
    rate: usize,
    /// Calls on the way, with when they began and when their answers come.
    flying: VecDeque<(Flight, Instant, Instant)>,
    free_at: Instant,
}

impl Way {
    fn new(trip_ms: u64, rate: usize) -> Self {
        Self {
            window: Window::default(),
            trip: Duration::from_millis(trip_ms),
            rate,
            flying: VecDeque::new(),
            free_at: Instant::now(),
        }
    }

    /// Sends messages of this length for a time. Returns the longest time to an answer, and the rate of what arrived.
    async fn send(&mut self, len: usize, time_s: u64) -> (Duration, usize) {
        let bytes = Window::of_body(len);
        let (mut longest, mut carried) = (Duration::ZERO, 0);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(time_s) {
            while self.window.has_room() {
                let begun = Instant::now();
                let takes = Duration::from_secs_f64(bytes as f64 / self.rate as f64);
                self.free_at = self.free_at.max(begun) + takes;
                let flight = self.window.begin(bytes);
                self.flying
                    .push_back((flight, begun, self.free_at + self.trip));
            }
            let Some((flight, begun, end)) = self.flying.pop_front() else {
                // What has timed out is still on the way.
                tokio::time::sleep_until(self.free_at + self.trip).await;
                let probe = self.window.begin(0);
                self.window
                    .end(probe, self.trip, &Outcome::Probed(Ok(true)));
                continue;
            };
            let limit = self.window.timeout();
            tokio::time::sleep_until(end.min(begun + limit)).await;
            let is_timely = end <= begun + limit;
            self.window
                .end(flight, begun.elapsed(), &outcome(is_timely));
            longest = longest.max(end - begun);
            carried += if is_timely { bytes } else { 0 };
        }
        (longest, carried / time_s as usize)
    }

    /// Nothing has an answer for a time.
    async fn stall(&mut self, time_s: u64) {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(time_s) {
            while self.window.has_room() {
                let flight = self.window.begin(MIN);
                self.flying.push_back((flight, start, start));
            }
            tokio::time::sleep(self.window.timeout()).await;
            for (flight, ..) in std::mem::take(&mut self.flying) {
                self.window.end(flight, LIMIT, &outcome(false));
            }
            self.window.interrupted();
        }
        self.free_at = Instant::now();
    }
}

#[tokio::test(start_paused = true)]
async fn it_fits_itself_to_the_way() {
    for (len, trip_ms, rate) in [
        (256 << 10, 1, 125_000),
        (256 << 10, 1, 150_000),
        (256 << 10, 600, 150_000),
        (256 << 10, 1, 1_000_000),
        (256 << 10, 1, 100_000_000),
        (64 << 10, 1, 30_000),
        (100, 1, 30_000),
        (100, 1, 1_000_000),
        (100, 600, 250_000),
        (16 << 10, 600, 1_000_000),
        (16 << 10, 1500, 1_000_000),
    ] {
        let mut way = Way::new(trip_ms, rate);
        way.send(len, 60).await;
        let (longest, carried) = way.send(len, 60).await;
        assert!(longest < LIMIT, "{len} {trip_ms} {rate}: {longest:?}");
        assert!(rate * 8 / 10 < carried, "{len} {trip_ms} {rate}: {carried}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_grows_again_after_the_way_was_interrupted() {
    for (trip_ms, rate) in [(1, 1_000_000), (600, 250_000), (1500, 250_000)] {
        let mut way = Way::new(trip_ms, rate);
        way.send(200, 20).await;
        way.stall(30).await;
        assert_eq!(way.window.all.max, MIN);
        way.send(200, 20).await;
        let (_, carried) = way.send(200, 20).await;
        assert!(rate / 2 < carried, "{trip_ms} {rate}: {carried}");
    }
}

/// The way has become longer, so the fastest answers of before are none any more.
#[tokio::test(start_paused = true)]
async fn it_fits_itself_to_a_way_that_becomes_longer() {
    let mut way = Way::new(1, 250_000);
    way.send(200, 60).await;
    way.trip = Duration::from_millis(900);
    way.stall(30).await;
    way.send(200, 80).await;
    let (_, carried) = way.send(200, 20).await;
    assert!(125_000 < carried, "{carried}");
}

/// A message takes longer than the first of the timeouts.
#[tokio::test(start_paused = true)]
async fn it_waits_longer_once_it_is_smallest() {
    let mut way = Way::new(100, 30_000);
    way.send(256 << 10, 120).await;
    assert!(LIMIT < way.window.timeout(), "{:?}", way.window.timeout());
    assert!(!way.window.has_room() || way.window.open == 0);
    let (longest, carried) = way.send(256 << 10, 60).await;
    assert!(
        longest < TIMEOUTS[2] && 20_000 < carried,
        "{longest:?} {carried}"
    );
    // The way is fast again.
    way.rate = 10_000_000;
    way.send(1000, 10).await;
    assert_eq!((way.window.timeout(), way.window.all.patience), (LIMIT, 0));
}

#[test]
fn requests_take_what_their_answers_had() {
    let found = |answer_len| {
        let head = Head::parse(|name| match name {
            "Blocksd-Kind" => Some("messages"),
            "Blocksd-Instance" => Some("00000000000000a7"),
            "Blocksd-Place" => Some("1.00f3a5c7711d2e4b.2"),
            "Blocksd-Count" => Some("1"),
            "Blocksd-First" => Some("0"),
            "Blocksd-Time" => Some("1700000000000000000"),
            "Blocksd-Conn" => Some("7"),
            _ => None,
        });
        let last = Last {
            sequence: 1,
            head: head.unwrap(),
            expected: None,
            answer_len,
        };
        Outcome::Found(Ok(crate::dispatch::call::Found {
            seen: crate::dispatch::call::Looked::Last(Box::new(crate::lane::LastSeen {
                last: Some(last),
                ..Default::default()
            })),
            is_intact: true,
            is_proved: true,
        }))
    };
    let mut window = Window::default();
    assert_eq!((window.found, window.requests()), (FOUND, 8));
    let mut end = |outcome: &Outcome| {
        let flight = window.begin(1);
        window.end(flight, Duration::ZERO, outcome);
        window.found
    };
    let short = [(); 40].map(|()| end(&found(900)));
    assert!(short[0] < FOUND && short[39] == FOUND_MIN, "{short:?}");
    assert_eq!(end(&found(200_000)), 200_000);
    let len = Window::of_body(250_000);
    let flight = window.begin(len);
    window.end(flight, Duration::ZERO, &outcome(true));
    assert_eq!(window.found, len / 3 * 4);
}

/// The way back is slow, and the other one is not.
#[test]
fn requests_that_time_out_do_not_lower_the_limit_of_messages() {
    let mut window = Window::default();
    for _ in 0..2 {
        while window.has_room_to_ask() {
            window.begin_request();
        }
        let flights = window.requests.clone();
        for flight in flights {
            let timed_out = Outcome::Found(Err(StreamError::Timeout(5000)));
            window.end(flight, LIMIT, &timed_out);
        }
        assert!(!window.has_room_to_ask());
        let probe = window.begin(0);
        window.end(probe, Duration::ZERO, &Outcome::Probed(Ok(true)));
    }
    assert_eq!((window.all.max, window.answers.max), (INITIAL, INITIAL / 4));
    assert_eq!((window.asked, window.held, window.open), (0, 0, 0));
    // Each has the whole message. That a message is acknowledged says nothing of it.
    let asked = window.begin_request();
    assert!(!window.has_room_to_ask());
    let sent = window.begin(1);
    window.end(sent, Duration::ZERO, &outcome(true));
    assert!(!window.has_room_to_ask());
    window.end(
        asked,
        LIMIT,
        &Outcome::Found(Err(StreamError::Timeout(5000))),
    );
    assert_eq!(window.answers.max, INITIAL / 8);
}

/// Over a slow way, it takes longer than the others, whatever else there is.
#[test]
fn a_long_message_alone_gets_more_time() {
    let time_out = |window: &mut Window, bytes, count| {
        let part = window.begin_part(bytes, count);
        let timed_out = Outcome::Checked(Err(StreamError::Timeout(5000)));
        window.end(part, LIMIT, &timed_out);
        window.interrupted();
        (window.timeout(), window.answers.max)
    };
    let mut window = Window::default();
    let limits = TIMEOUTS.map(|it| (it, INITIAL));
    assert_eq!(time_out(&mut window, 300_000, 1), limits[1]);
    assert_eq!(time_out(&mut window, 300_000, 1), limits[2]);
    // Several can be fewer.
    let mut window = Window::default();
    let fewer = time_out(&mut window, 300_000, 100);
    assert_eq!(fewer, (TIMEOUTS[0], INITIAL / 2));
}

#[test]
fn what_times_out_together_lowers_it_once_and_stays_on_the_way() {
    let mut window = Window::default();
    let show = |window: &mut Window| {
        let probe = window.begin(0);
        window.end(probe, Duration::ZERO, &Outcome::Probed(Ok(true)));
    };
    let together = [(); 10].map(|()| window.begin(MIN));
    for flight in together {
        window.end(flight, LIMIT, &outcome(false));
    }
    assert_eq!((window.all.max, window.held), (INITIAL / 2, 0));
    assert!(!window.has_room() && window.stalled_at().is_some());
    show(&mut window);
    assert!(window.has_room() && window.flying == 0);
    for _ in 0..3 {
        let flight = window.begin(MIN);
        window.end(flight, LIMIT, &outcome(false));
        show(&mut window);
    }
    assert_eq!((window.all.max, window.all.patience), (MIN, 0));
    // Answers that come fast prove nothing while little is on the way.
    let flight = window.begin(1);
    window.end(flight, Duration::ZERO, &outcome(true));
    assert_eq!(window.all.max, MIN);
    window.begin(MIN);
    assert!(!window.has_room());
    window.interrupted();
    assert!(window.flying == 0 && window.all.max == MIN);
}

#[test]
fn calls_that_others_overtake_are_not_on_the_way() {
    let mut window = Window::default();
    let overtaken = [(); 15].map(|()| window.begin(MIN));
    let last = window.begin(MIN);
    assert!(!window.has_room() && window.stalled_at().is_some());
    window.end(last, Duration::ZERO, &outcome(true));
    assert!(window.has_room());
    for flight in overtaken {
        window.end(flight, LIMIT, &outcome(false));
    }
    assert_eq!(
        (window.all.max, window.flying, window.held),
        (INITIAL + INITIAL / 4, 0, 0)
    );
    assert_eq!(window.stalled_at(), None);
    // But they take memory.
    for _ in 0..MAX / MIN / 8 {
        for _ in 0..8 {
            assert!(window.has_room());
            window.begin(MIN);
        }
        let probe = window.begin(0);
        window.end(probe, Duration::ZERO, &outcome(true));
    }
    assert!(!window.has_room());
}
