//! The daemon under attack: `cargo run -p blocksd-tests --example chaos -- [SEED] [SECONDS] [ATTACKERS] [tls]`.
//! Build the daemon first: `cargo build`.
//!
//! The seed chooses the attacks: connections that are cut, reset, silent or too many, floods, and false lengths, in every
//! framing. Beside them, honest devices send numbered blocks into a recording. The run succeeds only if none of these
//! blocks is missing, duplicated or out of order, the daemon holds no more resources than before, and its totals
//! balance. `docs/chaos.md` has the results of a run of ten minutes.

use std::time::Duration;

use blocksd_tests::chaos::{Plan, replies, run};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| {
        let word = words.get(at);
        word.map_or(default, |word| word.parse().expect("a number"))
    };
    let plan = Plan {
        seed: number(0, 1),
        time: Duration::from_secs(number(1, 600)),
        attackers: number(2, 24),
        tls: words.get(3).is_some_and(|word| word == "tls"),
    };
    println!("{}", run(plan));
    let (echoed, closed) = replies::run(plan.seed, plan.time / 10, plan.attackers);
    println!("echoes: {echoed} of honest devices; {closed} connections of attackers closed");
}
