//! Options, the configuration file, `check-config`, reload, and the exit codes of a start.

mod check_config;
mod devices;
mod exit_codes;
mod file;
mod options;
mod reload;
mod verdicts;
