//! One binary, a module for each thing that is tried.

mod abandon;
#[cfg(feature = "daemon")]
mod admission;
#[cfg(feature = "daemon")]
mod attacks;
#[cfg(feature = "daemon")]
mod baselines;
#[cfg(feature = "daemon")]
mod board;
#[cfg(feature = "daemon")]
mod board_application;
#[cfg(feature = "daemon")]
mod board_links;
#[cfg(feature = "daemon")]
mod board_restarts;
mod boundaries;
#[cfg(feature = "daemon")]
mod budgets;
mod cancel;
#[cfg(feature = "daemon")]
mod channels;
#[cfg(feature = "daemon")]
mod chaos;
#[cfg(feature = "daemon")]
mod check_config;
#[cfg(feature = "daemon")]
mod chunk_borders;
#[cfg(feature = "daemon")]
mod config;
mod corpus;
#[cfg(feature = "daemon")]
mod crash;
#[cfg(feature = "daemon")]
mod decode;
#[cfg(feature = "daemon")]
mod demo;
#[cfg(feature = "daemon")]
mod descriptors;
#[cfg(feature = "daemon")]
mod devices;
mod differential;
#[cfg(feature = "daemon")]
mod documents;
mod duplex;
#[cfg(feature = "daemon")]
mod exhaustion;
mod exhaustive;
#[cfg(feature = "daemon")]
mod exit_codes;
#[cfg(feature = "daemon")]
mod faults;
#[cfg(feature = "daemon")]
mod foreign;
#[cfg(feature = "daemon")]
mod golden;
#[cfg(feature = "daemon")]
mod health;
#[cfg(feature = "daemon")]
mod hostile;
#[cfg(feature = "daemon")]
mod imports;
#[cfg(feature = "daemon")]
mod install;
#[cfg(feature = "daemon")]
mod limits;
#[cfg(feature = "daemon")]
mod listeners;
#[cfg(feature = "daemon")]
mod logging;
#[cfg(feature = "daemon")]
#[cfg(feature = "daemon")]
mod metrics;
mod mistakes;
mod mixing;
mod names;
#[cfg(feature = "daemon")]
mod nonces;
mod notes;
#[cfg(feature = "daemon")]
mod options;
#[cfg(feature = "daemon")]
mod own_framing;
#[cfg(feature = "daemon")]
mod packaging;
#[cfg(feature = "daemon")]
mod payloads;
#[cfg(feature = "daemon")]
mod payloads_alike;
#[cfg(feature = "daemon")]
mod payloads_served;
mod peers;
mod pieces;
#[cfg(feature = "daemon")]
mod planted;
#[cfg(feature = "daemon")]
mod power;
#[cfg(feature = "daemon")]
mod public_names;
#[cfg(feature = "daemon")]
mod read;
#[cfg(feature = "daemon")]
mod readme;
#[cfg(feature = "daemon")]
mod recording;
#[cfg(feature = "daemon")]
mod recordings;
mod refusals;
#[cfg(feature = "daemon")]
mod reload;
#[cfg(feature = "daemon")]
mod repair;
#[cfg(feature = "daemon")]
mod replay;
#[cfg(feature = "daemon")]
mod replies;
#[cfg(feature = "daemon")]
mod scripts;
#[cfg(feature = "daemon")]
mod send;
#[cfg(feature = "daemon")]
mod sending_side;
#[cfg(feature = "daemon")]
mod serve;
#[cfg(feature = "daemon")]
mod signals;
#[cfg(feature = "daemon")]
mod simulation;
#[cfg(feature = "daemon")]
mod small_payloads;
mod splits;
#[cfg(feature = "daemon")]
mod tidy;
#[cfg(feature = "daemon")]
mod timeouts;
mod transport;
#[cfg(feature = "daemon")]
mod type_names;
#[cfg(feature = "daemon")]
mod verdicts;
#[cfg(feature = "daemon")]
mod verify;
mod writing;
