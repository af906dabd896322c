//! Every option of `serve`, once: key, type, default, parser, help, group, and what a reload does with it.
//!
//! The command line, the config file, `--help`, `check-config --print` and a reload all follow this table. To add an
//! option, add its entry here and use its field of [`Config`](crate::config::Config).

/// Calls a macro with the table.
macro_rules! for_each_option {
    ($define:ident) => {
        $define! {
            /// What identifies a device.
            device_by: DeviceBy = "ip", value::word, Spec { key: "device-by",
                value: "DEVICE_BY", group: HelpGroup::Listening, choices: DeviceBy::choices, kind: Kind::Word, ..Spec::BASE };

            /// Exit after the first connection.
            once: bool = "false", value::flag, Spec { key: "once",
                value: "", group: HelpGroup::Listening, kind: Kind::Flag, ..Spec::BASE };

            /// Shut down gracefully after this time, such as 60s, 10m or 2h, counted from when all listeners are open.
            run_for: Duration, value::duration, Spec { key: "for",
                value: "TIME", group: HelpGroup::Listening, ..Spec::BASE };

            /// How messages are framed.
            framing: AnyFraming = "blocks", value::framing, Spec { key: "framing",
                value: "SPEC", group: HelpGroup::Framing, scope: Scope::Listener, reload: Reload::Policies,
                choices: value::framings, kind: Kind::Text, ..Spec::BASE };

            /// What to do with a message longer than --max-block.
            oversize: Oversize = "skip", value::word, Spec { key: "oversize",
                value: "OVERSIZE", group: HelpGroup::Framing, scope: Scope::Listener, reload: Reload::Policies,
                choices: Oversize::choices, kind: Kind::Word, ..Spec::BASE };

            /// What to do when a device sends the mark that ends a series.
            after_end: AfterEnd = "close", value::word, Spec { key: "after-end",
                value: "AFTER_END", group: HelpGroup::Framing, scope: Scope::Listener, reload: Reload::Policies,
                choices: AfterEnd::choices, kind: Kind::Word, ..Spec::BASE };

            /// How payloads are decoded.
            decode: Decoding = "raw", value::decoding, Spec { key: "decode",
                value: "raw|text|json|cbor|msgpack|kv|defmt:ELF|defmt:DIR", group: HelpGroup::Decoding, scope: Scope::Listener,
                reload: Reload::Policies, choices: value::decodings, kind: Kind::Text, ..Spec::BASE };

            /// Longest message that is accepted.
            max_block: u32 = "1MiB", value::block_max, Spec { key: "max-block",
                value: "BYTES", group: HelpGroup::Limits, scope: Scope::Listener, reload: Reload::Policies, ..Spec::BASE };

            /// Longest message that is skipped; a longer one closes the connection. Not used with --oversize pieces, nor in a
            /// session, which skips any length.
            max_skip: u32 = "16MiB", value::small_size, Spec { key: "max-skip",
                value: "BYTES", group: HelpGroup::Limits, scope: Scope::Listener, reload: Reload::Policies, ..Spec::BASE };

            /// Maximum number of connections. At the limit, a new connection replaces the longest-silent one of the origin
            /// (an IPv4 address, an IPv6 /64 network or a local listener) with the most connections, and within it of the
            /// device with the most, if its own origin or device has fewer; otherwise it is closed at once and counted.
            max_connections: usize = "10000", value::at_least_one, Spec { key: "max-connections",
                value: "N", group: HelpGroup::Limits, reload: Reload::Bounds, ..Spec::BASE };

            /// Maximum number of connections of one device; more are closed at once and counted. Unlimited if not set.
            max_connections_per_device: usize, value::at_least_one, Spec { key: "max-connections-per-device",
                value: "N", group: HelpGroup::Limits, reload: Reload::Bounds, ..Spec::BASE };

            /// Maximum number of TLS handshakes at once. Others wait, and the origins take turns.
            max_handshakes: usize = "256", value::at_least_one, Spec { key: "max-handshakes",
                value: "N", group: HelpGroup::Limits, reload: Reload::Bounds, ..Spec::BASE };

            /// Memory for the unfinished messages of all connections; at least four times the largest --max-block.
            /// Default: 64 MiB, or four times the largest --max-block if that is more.
            max_unfinished: u64, value::unfinished, Spec { key: "max-unfinished",
                value: "BYTES", group: HelpGroup::Limits, reload: Reload::Bounds, ..Spec::BASE };

            /// Length of the kernel's receive buffer of a connection; a warning is logged if the kernel allows less.
            /// If it is not set, the kernel chooses.
            receive_buffer: u32, value::small_size, Spec { key: "receive-buffer",
                value: "BYTES", group: HelpGroup::Limits, ..Spec::BASE };

            /// Close a connection that has sent nothing within this time after it was accepted.
            first_byte_timeout: Timeout = "off", value::timeout, Spec { key: "first-byte-timeout",
                value: "TIME|off", group: HelpGroup::Timeouts, scope: Scope::Device, reload: Reload::Policies, ..Spec::BASE };

            /// Close a connection after this time of silence.
            idle_timeout: Timeout = "off", value::timeout, Spec { key: "idle-timeout",
                value: "TIME|off", group: HelpGroup::Timeouts, scope: Scope::Device, reload: Reload::Policies, ..Spec::BASE };

            /// Close a connection when the header of a message is still incomplete this time after its first byte.
            header_timeout: Timeout = "30s", value::timeout, Spec { key: "header-timeout",
                value: "TIME|off", group: HelpGroup::Timeouts, scope: Scope::Device, reload: Reload::Policies, ..Spec::BASE };

            /// Close a connection when a message is still incomplete this time after its first byte.
            block_timeout: Timeout = "5m", value::timeout, Spec { key: "block-timeout",
                value: "TIME|off", group: HelpGroup::Timeouts, scope: Scope::Device, reload: Reload::Policies, ..Spec::BASE };

            /// TCP keepalive: probe a peer after this time of silence, in whole seconds. A dead peer is detected about
            /// 30 s later.
            keepalive: Timeout = "60s", value::keepalive, Spec { key: "keepalive",
                value: "TIME|off", group: HelpGroup::Timeouts, ..Spec::BASE };

            /// Record everything to MCAP files in this folder.
            record: PathBuf, value::path, Spec { key: "record",
                value: "DIR", group: HelpGroup::Recording, kind: Kind::Text, ..Spec::BASE };

            /// Compression of the recorded files.
            record_compression: Compression = "auto", value::word, Spec { key: "record-compression",
                value: "auto|none|lz4|zstd", group: HelpGroup::Recording, choices: Compression::choices, kind: Kind::Word,
                needs_record: true, ..Spec::BASE };

            /// Longest time that a received message waits to be made durable (fdatasync), together with others. A bare
            /// number is milliseconds.
            record_sync: Duration = "100ms", value::sync, Spec { key: "record-sync",
                old: Some("record-sync-ms"), value: "TIME", group: HelpGroup::Recording, needs_record: true, ..Spec::BASE };

            /// Start a new file when the current one is this old.
            record_rotate_after: Duration = "1h", value::rotate_after, Spec { key: "record-rotate-after",
                old: Some("record-rotate-seconds"), value: "TIME", group: HelpGroup::Recording, needs_record: true,
                ..Spec::BASE };

            /// Start a new file when the current one has this size; at most a quarter of --record-max-bytes. Default:
            /// 1 GiB, or a quarter of --record-max-bytes if that is less.
            record_rotate_size: u64, value::size_from::<ROTATE_SIZE_MIN>, Spec { key: "record-rotate-size",
                old: Some("record-rotate-bytes"), value: "BYTES", group: HelpGroup::Recording, needs_record: true,
                ..Spec::BASE };

            /// Maximum size of all files together; the oldest files are deleted before it is exceeded. Unlimited if not
            /// set.
            record_max_bytes: u64, value::size_from::<RECORD_MAX_MIN>, Spec { key: "record-max-bytes",
                value: "BYTES", group: HelpGroup::Recording, reload: Reload::Retention, needs_record: true, ..Spec::BASE };

            /// Keep at least this much space free in the file system: the oldest files are deleted before less is free,
            /// even if another program fills it. If no file is left to delete, devices are held back. Off if not set.
            record_min_free: u64, value::size_from::<MIN_FREE_MIN>, Spec { key: "record-min-free",
                value: "BYTES", group: HelpGroup::Recording, reload: Reload::Retention, needs_record: true, ..Spec::BASE };

            /// Whether a device may open an acknowledged session, in which each message is recorded once. Default: auto on
            /// listeners with --framing blocks and --record, without --reply and with --oversize skip; otherwise off.
            session: SessionMode, value::word, Spec { key: "session",
                value: "SESSION", group: HelpGroup::Sessions, scope: Scope::Listener, reload: Reload::Policies,
                choices: SessionMode::choices, kind: Kind::Word, needs_record: true, ..Spec::BASE };

            /// Longest time that an acknowledgement waits after the sync, so that one stands for many messages. A ring that is
            /// half full is acknowledged at once.
            ack_interval: Duration = "1s", value::seconds, Spec { key: "ack-interval",
                value: "TIME", group: HelpGroup::Sessions, reload: Reload::Policies, needs_record: true, ..Spec::BASE };

            /// Longest silence of the daemon in a session, unless the device wishes another.
            heartbeat: Timeout = "30s", value::heartbeat, Spec { key: "heartbeat",
                value: "TIME|off", group: HelpGroup::Sessions, reload: Reload::Policies, needs_record: true, ..Spec::BASE };

            /// Maximum number of sessions that are remembered. Beyond it, the daemon forgets those that were not continued for
            /// the longest time, if all their messages are acknowledged.
            max_sessions: usize = "100000", value::at_least_one, Spec { key: "max-sessions",
                value: "N", group: HelpGroup::Sessions, reload: Reload::Bounds, needs_record: true, ..Spec::BASE };

            /// What to write to standard output.
            output: OutputKind = "text", value::word, Spec { key: "output",
                value: "OUTPUT", group: HelpGroup::Output, choices: OutputKind::choices, kind: Kind::Word, ..Spec::BASE };

            /// Address of the HTTP server with /metrics for Prometheus, /healthz and /readyz.
            metrics: String, value::text, Spec { key: "metrics",
                value: "ADDR", group: HelpGroup::Monitoring, kind: Kind::Text, ..Spec::BASE };

            /// Serve N devices, silent ones first, as series of metrics, with their name as a label. None if not set.
            metrics_per_device: usize, value::at_least_one, Spec { key: "metrics-per-device",
                value: "N", group: HelpGroup::Monitoring, ..Spec::BASE };

            /// Address of the HTTP server with the API under /api/v1/, and with the pages of --metrics. Other than on a
            /// loopback address, it needs --http-token.
            http: String, value::text, Spec { key: "http",
                value: "ADDR", group: HelpGroup::Monitoring, kind: Kind::Text, ..Spec::BASE };

            /// File with the token that requests to --http must have, as `Authorization: Bearer TOKEN`; all but /healthz,
            /// /readyz and the files of the page.
            http_token: PathBuf, value::path, Spec { key: "http-token",
                value: "FILE", group: HelpGroup::Monitoring, kind: Kind::Text, ..Spec::BASE };

            /// More names of this host that requests to --http may use, separated by commas. Its address and localhost are
            /// known.
            http_host: String, value::hosts, Spec { key: "http-host",
                value: "NAME", group: HelpGroup::Monitoring, kind: Kind::Text, ..Spec::BASE };

            /// Certificate of --http, as PEM: it speaks HTTPS then.
            http_tls_cert: PathBuf, value::path, Spec { key: "http-tls-cert",
                value: "FILE", group: HelpGroup::Monitoring, kind: Kind::Text, ..Spec::BASE };

            /// Key of --http-tls-cert, as PEM.
            http_tls_key: PathBuf, value::path, Spec { key: "http-tls-key",
                value: "FILE", group: HelpGroup::Monitoring, kind: Kind::Text, ..Spec::BASE };

            /// Authority of the certificates that clients of --http need; they need none if this is not set.
            http_tls_ca: PathBuf, value::path, Spec { key: "http-tls-ca",
                value: "FILE", group: HelpGroup::Monitoring, kind: Kind::Text, ..Spec::BASE };

            /// Maximum number of devices that are remembered after their last connection was closed. Beyond it, the daemon
            /// forgets those that are gone for the longest time.
            max_gone_devices: usize = "1000", value::at_least_one, Spec { key: "max-gone-devices",
                value: "N", group: HelpGroup::Monitoring, reload: Reload::Bounds, ..Spec::BASE };

            /// Log level: off, error, warn, info, debug, trace, or TARGET=LEVEL; several are separated by commas.
            /// RUST_LOG overrides it.
            log: String = "info", value::directives, Spec { key: "log",
                value: "LEVEL", group: HelpGroup::Monitoring, reload: Reload::Log, kind: Kind::Text, ..Spec::BASE };

            /// Reply to a device at the end of its series.
            reply: String, value::text, Spec { key: "reply",
                value: "receipt|echo|FILE", group: HelpGroup::Reply, reload: Reload::Policies, choices: value::replies,
                kind: Kind::Text, ..Spec::BASE };

            /// Close a connection whose peer does not accept the next 64 KiB of a reply, or the rest of it, within this
            /// time.
            reply_timeout: Timeout = "30s", value::timeout, Spec { key: "reply-timeout",
                value: "TIME|off", group: HelpGroup::Reply, reload: Reload::Policies, ..Spec::BASE };

            /// Maximum number of bytes kept for the echo of one connection; a connection that sends more is closed.
            reply_max_bytes: u64 = "64MiB", value::size, Spec { key: "reply-max-bytes",
                value: "BYTES", group: HelpGroup::Reply, ..Spec::BASE };

            /// Maximum number of bytes kept for the echoes of all connections, in memory and in temporary files.
            reply_max_total_bytes: u64 = "1GiB", value::size, Spec { key: "reply-max-total-bytes",
                value: "BYTES", group: HelpGroup::Reply, ..Spec::BASE };
        }
    };
}

pub(super) use for_each_option;
