//! Processor time of the recorder's thread for a message: [`measure`].
//!
//! 16 devices send batches of 256 KiB; the recorder writes real files, and commits every 100 ms. The floor writes as many bytes
//! with `pwrite`, in pieces of 512 KiB, and syncs as often: the part that every recorder has through the page cache.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use blocksd::recorded::to_log::EventWriter;
use blocksd_recording::{Compression, Log, LogContext, LogOptions, Retention};
use clap::Args;

use crate::fleet::{self, Content, Fleet, Messages};
use blocksd_tests::measure::{Spread, settle};

const DEVICES: usize = 16;
/// Length of a batch in bytes: a full read buffer of the daemon.
const BATCH_LEN: usize = 256 << 10;
/// Number of different batches. Together they do not fit into the processor's cache, as in the daemon.
const BATCHES: usize = 32;
/// Bytes that a message takes beside its payload: its header and its index entry.
const OVERHEAD: usize = 47;
const CHUNK_LEN: usize = 512 << 10;
const SYNC_AFTER: Duration = Duration::from_millis(100);
/// Length at which the floor begins its file again.
const FILE_LEN: u64 = 1 << 40;

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Rounds; each runs everything once
    #[arg(long, value_name = "N", default_value_t = 9)]
    rounds: usize,
    /// Seconds of each run
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    seconds: f64,
    /// Message lengths
    #[arg(long = "len", value_name = "BYTES", default_values_t = [64, 128, 1024])]
    lens: Vec<usize>,
    /// Content of the messages
    #[arg(long, value_name = "CONTENT", default_value = "samples")]
    content: Content,
    /// Only the floor and these: none, auto, lz4, zstd
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
}

/// Prints a table.
///
/// # Errors
/// If the disk cannot be written to.
pub(crate) fn measure(scratch: &Path, arguments: &Arguments) -> io::Result<()> {
    let all = [
        ("none", Compression::None),
        ("auto", Compression::Auto),
        ("lz4", Compression::Lz4),
        ("zstd", Compression::Zstd),
    ];
    let wanted =
        |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|it| it == name);
    let compressions: Vec<_> = all.into_iter().filter(|(name, _)| wanted(name)).collect();
    println!(
        "| messages | recorder | ns/message of its thread (spread) | × floor (spread) |\n|---|---|---:|---:|"
    );
    for &len in &arguments.lens {
        let batches: Vec<_> = (0..BATCHES)
            .map(|device| {
                fleet::full(
                    &mut Messages::new(arguments.content, device),
                    len,
                    BATCH_LEN,
                )
            })
            .collect();
        let time = Duration::from_secs_f64(arguments.seconds);
        let mut floors = Vec::new();
        let mut times = vec![Vec::new(); compressions.len()];
        // The first round only warms up.
        for round in 0..=arguments.rounds {
            let folder = scratch.join("run");
            let run = |work: &dyn Fn(&Path) -> io::Result<f64>| {
                fs::create_dir(&folder)?;
                let ns = work(&folder);
                fs::remove_dir_all(&folder)?;
                settle(scratch);
                ns
            };
            let ns = run(&|folder| floor(folder, len, time))?;
            if round != 0 {
                floors.push(ns);
            }
            for ((_, compression), times) in compressions.iter().zip(&mut times) {
                let ns = run(&|folder| record(folder, *compression, &batches, time))?;
                if round != 0 {
                    times.push(ns);
                }
            }
        }
        println!(
            "| {len} B | floor: `pwrite` | {:.1} | 1 |",
            Spread::of(floors.iter().copied())
        );
        for ((name, _), times) in compressions.iter().zip(&times) {
            let ratios = times.iter().zip(&floors).map(|(ours, floor)| ours / floor);
            println!(
                "| {len} B | {name} | {:.1} | {:.2} |",
                Spread::of(times.iter().copied()),
                Spread::of(ratios)
            );
        }
    }
    Ok(())
}

/// Records batches. Returns the nanoseconds of this thread for a message.
fn record(
    folder: &Path,
    compression: Compression,
    batches: &[Arc<blocksd_engine::batch::Batch>],
    time: Duration,
) -> io::Result<f64> {
    let options = LogOptions {
        compression,
        sync_after: SYNC_AFTER,
        ..LogOptions::default()
    };
    let context = LogContext::open(folder, Arc::default(), Retention::new(None));
    let context = Arc::new(context.map_err(io::Error::other)?);
    let mut writer = EventWriter::new(Log::new(options, context, 1));
    let now = SystemTime::now();
    let mut fleet = Fleet::connect(&mut writer, DEVICES, now).map_err(io::Error::other)?;
    let (until, before) = (Instant::now() + time, processor()?);
    for (number, batch) in batches.iter().cycle().enumerate() {
        if until <= Instant::now() {
            break;
        }
        let event = fleet.event(number, SystemTime::now(), Arc::clone(batch));
        let written = writer.tick().and_then(|()| writer.event(&event));
        written.map_err(io::Error::other)?;
    }
    let took = processor()? - before;
    let messages = writer.given();
    writer.finish().map_err(io::Error::other)?;
    Ok(took / messages as f64)
}

/// Writes as many bytes as the recorder without compression. Returns the nanoseconds of this thread for a message.
fn floor(folder: &Path, len: usize, time: Duration) -> io::Result<f64> {
    let file = Arc::new(File::create_new(folder.join("floor"))?);
    let per_write = (CHUNK_LEN / (len + OVERHEAD)).max(1);
    let bytes = vec![7; per_write * (len + OVERHEAD)];
    let stop = Arc::<AtomicBool>::default();
    let sync = {
        let (file, stop) = (Arc::clone(&file), Arc::clone(&stop));
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(SYNC_AFTER);
                file.sync_data()?;
            }
            Ok::<_, io::Error>(())
        })
    };
    let (until, before) = (Instant::now() + time, processor()?);
    let (mut at, mut messages) = (0, 0);
    while Instant::now() < until {
        file.write_all_at(&bytes, at)?;
        at += bytes.len() as u64;
        messages += per_write;
        if FILE_LEN < at {
            at = 0;
            file.set_len(0)?;
        }
    }
    let took = processor()? - before;
    stop.store(true, Ordering::Relaxed);
    sync.join().expect("it does not panic")?;
    Ok(took / messages as f64)
}

/// Processor time of this thread in nanoseconds.
fn processor() -> io::Result<f64> {
    let stat = fs::read_to_string("/proc/thread-self/schedstat")?;
    let first = stat.split(' ').next().and_then(|it| it.parse().ok());
    first.ok_or_else(|| io::Error::other("the kernel does not count the processor time of threads"))
}
