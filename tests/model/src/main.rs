//! Explores with larger bounds: `cargo run --release -p session-model`, with `short`, `long` (the default) or `mutants`.

use session_model::{Mutant, cases, explore};

/// Memory for the states: 32 bytes each, and the frontier.
const STATES_MAX: usize = 40_000_000;

fn main() {
    let what = std::env::args().nth(1).unwrap_or_else(|| "long".to_owned());
    if what == "mutants" {
        for mutant in Mutant::ALL {
            let outcome = explore(&cases::revealing(mutant), Some(mutant), STATES_MAX);
            println!("{mutant:?} {outcome}");
        }
        return;
    }
    let cases = if what == "short" {
        &cases::SHORT[..]
    } else {
        &cases::LONG
    };
    for (name, bounds) in cases {
        println!("{name}: {}", explore(bounds, None, STATES_MAX));
    }
}
