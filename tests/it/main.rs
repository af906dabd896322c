//! End-to-end tests of the daemon: one binary, with a folder for each group of subjects.

/// The commands, as an operator runs them.
mod commands {
    mod analysis;
    mod ca;
    mod ca_crash;
    mod ca_fleet;
    mod ca_formats;
    mod demo;
    mod demo_page;
    mod error_messages;
    mod export;
    mod fields;
    mod files;
    mod first_device;
    mod forward_errors;
    mod hostile_text;
    mod nonblocking;
    mod parquet;
    mod read;
    pub(crate) mod recipes;
    mod replay;
    mod replay_peers;
    mod replay_round_trip;
    mod replay_session;
    mod scripts;
    mod security;
    mod selection;
    pub(crate) mod send;
    pub(crate) mod send_session;
    pub(crate) mod send_spool;
    mod sessions;
    mod tls_clients;
    mod tls_listener;
    mod tls_refusals;
    mod transcripts;
}

/// Options, the configuration file, `check-config`, reload, and the exit codes of a start.
mod config {
    mod check_config;
    mod devices;
    mod exit_codes;
    mod file;
    mod options;
    mod reload;
    mod reload_listeners;
    mod verdicts;
}

/// Devices and their connections: admission, limits, timeouts, replies, listeners, and third-party peers.
mod engine {
    pub(crate) mod admission;
    mod chaos;
    mod checked;
    mod ends;
    mod exhaustion;
    mod hostile;
    mod limits;
    mod lines;
    pub(crate) mod listeners;
    mod peers;
    mod replies;
    mod restart;
    mod sending_side;
    pub(crate) mod serve;
    mod session_simulation;
    mod simulation;
    mod timeouts;
}

/// The example firmware, in QEMU and on a desktop, against the real daemon.
mod firmware {
    mod application;
    mod board;
    mod defmt;
    mod links;
    mod os;
    mod outages;
    mod restarts;
    mod session_outages;
    mod sessions;
    mod tls;
    mod uart;
}

/// `--forward`: the recording in a stream of NATS JetStream, read by a client that nobody here wrote.
mod forward {
    mod changes;
    mod cluster;
    mod contents;
    mod copies;
    mod credentials;
    mod damage;
    mod deleted;
    mod documented_cluster;
    mod failing_fleet;
    mod fleet;
    mod gaps;
    mod gone_back;
    mod lag;
    mod log;
    mod login;
    mod missed;
    mod outages;
    mod read;
    mod read_codes;
    mod read_hostile;
    mod read_refusals;
    mod read_removed;
    mod reasons;
    mod recipes;
    mod servers;
    mod start;
    mod stopped;
    mod stream;
    mod watching;
}

/// Payloads: their decoding, and the bounds on hostile ones.
mod payload {
    mod alike;
    mod bounds;
    mod decode;
    pub(crate) mod defmt;
    mod defmt_alike;
    mod defmt_folder;
    mod served;
}

/// Recordings: their contents, crashes and failing disks, damage, `verify` and repair.
mod recording {
    mod acknowledged;
    mod attacks;
    mod bad_disk;
    mod bombs;
    pub(crate) mod budgets;
    mod channels;
    mod chunk_borders;
    mod clocks;
    mod connections;
    mod contents;
    mod crash;
    mod damaged;
    mod faults;
    mod foreign;
    mod golden;
    mod lifecycle;
    mod locks;
    mod mutations;
    mod names;
    mod nonces;
    mod notes;
    mod pieces;
    mod planted;
    mod power;
    mod record;
    mod repair;
    mod session_audit;
    mod session_crashes;
    mod sessions;
    mod small_payloads;
    mod specification;
    mod unreadable;
    mod verify;
}

/// The repository itself: documents, layout, imports, baselines and public names.
mod repository {
    mod baselines;
    mod documents;
    mod imports;
    mod packages;
    mod promises;
    mod public_api;
    pub(crate) mod public_names;
    mod readme;
    mod tidy;
    mod type_names;
}

/// The daemon as a service: signals, the log, metrics, health, packages and the install.
mod service {
    mod alerts;
    mod deb;
    mod descriptors;
    mod devices;
    mod health;
    mod http_api;
    mod http_attacks;
    mod install;
    mod journal;
    mod logging;
    mod metrics;
    mod notify;
    mod packaging;
    mod page;
    mod signals;
    mod tap;
    mod top;
    mod view;
    mod view_access;
    mod view_documents;
    mod view_follow;
    mod view_hostile;
    mod view_plot;
}

/// Acknowledged sessions, with the daemon and with a host that fails, from senders in three languages: nothing is lost, and
/// nothing is recorded twice.
mod sessions {
    mod any_calls;
    mod arduino;
    mod compiled;
    mod cuts;
    mod dialects;
    mod disk_full;
    mod failed_syncs;
    mod first_messages;
    mod flood;
    mod frames;
    mod go;
    mod hasten;
    mod hosts;
    mod kill;
    mod languages;
    mod link;
    mod many;
    mod microcontrollers;
    mod outages;
    mod peer_host;
    mod refusals;
    mod retention;
    mod senders;
    mod stop;
    mod tls_senders;
    mod vectors;
    mod wireshark;
}

/// TLS: who is refused and why, who a device is, revocation and new files, and the end of a stream.
mod tls {
    mod clients;
    mod ends;
    mod http;
    mod identity;
    mod proxy;
    mod refusals;
    mod renewal;
    mod scanners;
}
