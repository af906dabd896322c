//! `blocksd`: runs [`blocksd::program`].

fn main() -> std::process::ExitCode {
    blocksd::program::main()
}
