//! The daemon under fire: `cargo run -p blocksd-tests --example chaos -- [SEED] [SECONDS] [ATTACKERS]`.
//! Build the daemon first: `cargo build`.
//!
//! Attackers cut, reset, flood, lie about lengths, say nothing and come in crowds, in every framing, as the seed says;
//! beside them honest devices send numbered blocks into a recording. It ends well only if not one of these is missing,
//! twice or out of order, the daemon holds no more than before, and its totals balance. `docs/chaos.md` says what came
//! of ten minutes.

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
    };
    println!("{}", run(plan));
    let (echoed, closed) = replies::run(plan.seed, plan.time / 10, plan.attackers);
    println!("echoes: {echoed} of honest devices; {closed} connections of others closed");
}
