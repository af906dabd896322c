//! The program `blocksd`, as a binary of this package: cargo builds it whenever it builds the tests that run it.

fn main() -> std::process::ExitCode {
    blocksd::program::main()
}
