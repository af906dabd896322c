//! Explores the protocol of acknowledged sessions (`docs/sessions.md`): one device, up to two connections at a time, the
//! queue, the writer, the files, the syncer, and every interruption of these, breadth first, so a violation comes with a
//! shortest trace. Start with [`explore`].
//!
//! The device and the host's count of a session are the state machines of `framing_core::session`. This crate adds what
//! surrounds them: connections that deliver late, a disk that loses what was not synced, and a recording that is repaired.
//! Checked in every state: no message is recorded twice, each stands under its number, what the device lets go is on the
//! disk or refused, and where nothing can happen any more, everything is. [`Mutant`] breaks one rule at a time; each must be
//! found.
//!
//! Bounds: [`cases`]. `cargo run --release -p session-model` explores the larger ones in two minutes.

pub mod cases;
mod check;
mod device;
mod disk;
mod host;
mod interruptions;
mod mutant;
mod steps;

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

pub use self::mutant::Mutant;
use self::steps::State;

/// How often each event can happen, and how the device behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Messages that the device makes, at most 8.
    pub messages: u8,
    /// Which of them exceed the host's limit: a mask.
    pub oversize: u8,
    /// The device ends a connection.
    pub cuts: u8,
    /// The writer begins another file.
    pub rotations: u8,
    /// A sync fails.
    pub sync_failures: u8,
    /// The host's process is killed: the page cache survives.
    pub kills: u8,
    /// The host loses power: any part of what was not synced is lost.
    pub powers: u8,
    /// The host forgets a session.
    pub forgets: u8,
    /// The device resets and loses its ring.
    pub reboots: u8,
    /// The device drops its oldest message if the ring is full.
    pub drops: bool,
    /// The device does not wait for the WELCOME.
    pub eager: bool,
    /// The device's firmware is wrong: it keeps its session over a reset that loses the ring.
    pub keeps_session: bool,
}

/// The result of an exploration.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// No violation in any state.
    Holds {
        /// Number of states.
        states: usize,
        /// Number of steps between them.
        steps: u64,
    },
    /// No violation so far.
    Unfinished {
        /// Number of states.
        states: usize,
    },
    /// A rule is violated.
    Violated {
        /// Number of states until then.
        states: usize,
        /// Which rule, and how.
        what: String,
        /// A shortest sequence of steps to it.
        trace: Vec<&'static str>,
    },
}

/// Explores all states within the bounds, at most `states_max`. `mutant` breaks a rule.
#[must_use]
pub fn explore(bounds: &Bounds, mutant: Option<Mutant>, states_max: usize) -> Outcome {
    let begin = State::new(bounds);
    let mut seen = HashSet::new();
    seen.insert(hash(&begin));
    // The step to each state, and the state before it.
    let mut parents: Vec<(u32, &'static str)> = vec![(0, "")];
    let mut frontier = VecDeque::from([(begin, 0_u32)]);
    let (mut successors, mut steps) = (Vec::new(), 0);
    while let Some((state, id)) = frontier.pop_front() {
        successors.clear();
        let walked = state.steps(bounds, mutant, &mut successors);
        let checked = walked.and_then(|()| state.check(bounds, &successors));
        if let Err(what) = checked {
            let mut trace = Vec::new();
            let mut at = id;
            while at != 0 {
                let (parent, step) = parents[at as usize];
                trace.push(step);
                at = parent;
            }
            trace.reverse();
            let states = seen.len();
            return Outcome::Violated {
                states,
                what,
                trace,
            };
        }
        for (step, next) in successors.drain(..) {
            steps += 1;
            if seen.insert(hash(&next)) {
                let next_id = u32::try_from(parents.len()).expect("fewer than 2^32 states");
                parents.push((id, step));
                frontier.push_back((next, next_id));
            }
        }
        if states_max < seen.len() {
            let states = seen.len();
            return Outcome::Unfinished { states };
        }
    }
    let states = seen.len();
    Outcome::Holds { states, steps }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds { states, steps } => write!(f, "holds: {states} states, {steps} steps"),
            Self::Unfinished { states } => {
                write!(f, "no violation in {states} states, not finished")
            }
            Self::Violated {
                states,
                what,
                trace,
            } => write!(
                f,
                "violated after {states} states: {what}\n  {}",
                trace.join(" ")
            ),
        }
    }
}

/// 128 bits, so that no two states are taken for one.
fn hash(state: &State) -> u128 {
    let low = BuildHasherDefault::<DefaultHasher>::default().hash_one(state);
    let high = BuildHasherDefault::<DefaultHasher>::default().hash_one((1_u8, state));
    u128::from(high) << 64 | u128::from(low)
}
