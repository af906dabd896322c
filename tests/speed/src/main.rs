//! Measures the framings in memory: times as ratios to others in the same run, or instructions under callgrind.

#[cfg(test)]
mod allocations;
mod cases;
mod count;
mod others;
mod ours;
mod time;

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => time::measure(31),
        ["--rounds", rounds] if rounds.parse::<usize>().is_ok_and(|it| it != 0) => {
            time::measure(rounds.parse().unwrap_or(1));
        }
        ["--counted"] => count::run(),
        ["--figures", folder] => return count::print(folder),
        _ => {
            eprintln!("usage: tests/speed/run [--rounds N | --counts | --counts --accept]");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
