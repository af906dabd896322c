//! Prints how many messages arrive over a noisy line in each framing, as in `docs/which-framing.md`.
//!
//! `cargo run --release -p framing-core-testing --example noisy_line`

fn main() {
    print!("{}", framing_core_testing::noise::table());
}
