//! Packing makes the sealed files of slow senders smaller, and keeps all messages.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use blocksd_recording::{
    Channel, ChannelSpec, Checker, Compression, Error, Log, LogContext, LogOptions, LostRange,
    Message, MessageOrigin, Packer, Reader, Retention, Stats, Visitor, Wanted, WindowedFile,
};
use tempfile::TempDir;

const DEVICES: usize = 200;

/// Topic, sequence number, origin, time and payload of a message.
type StoredMessage = (String, u32, Option<MessageOrigin>, u64, Vec<u8>);

/// All messages of a recording.
#[derive(Debug, Default, PartialEq, Eq)]
struct Messages(Vec<StoredMessage>);

impl Visitor for Messages {
    type Error = Error;

    fn message(&mut self, message: &Message<'_>) -> Result<(), Error> {
        let topic = message.channel.record.topic.clone();
        let data = message.data.to_vec();
        self.0
            .push((topic, message.sequence, message.origin, message.time, data));
        Ok(())
    }

    fn lost(&mut self, path: &Path, range: &LostRange) -> Result<(), Error> {
        panic!("{}: {range}", path.display());
    }

    fn idle(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

fn messages(path: &Path) -> Messages {
    let mut messages = Messages::default();
    let reader = Reader::new(vec![path.into()], Wanted::default());
    reader.visit(&mut messages).unwrap();
    messages
}

fn context(folder: &Path, stats: &Arc<Stats>) -> Arc<LogContext> {
    let context = LogContext::open(folder, Arc::clone(stats), Retention::new(None));
    Arc::new(context.unwrap())
}

/// Records one reading of 32 bytes a second from each of 200 devices, and commits after every 20 readings. Returns the path
/// of the file and the total length of the payload.
fn slow_fleet(folder: &Path, compression: Compression, seconds: u64) -> (PathBuf, u64) {
    let options = LogOptions {
        compression,
        ..LogOptions::default()
    };
    let mut log = Log::after_others(options, context(folder, &Arc::default())).unwrap();
    let mut channels = vec![Channel::default(); DEVICES];
    let (mut state, mut len) = (1_u64, 0);
    for n in 0..seconds * DEVICES as u64 {
        let device = n as usize % DEVICES;
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let text = format!(
            r#"{{"t":{}.{},"h":{},"n":{}}}"#,
            20 + (state >> 60),
            (state >> 40) % 10,
            40 + (state >> 50) % 8,
            n / DEVICES as u64
        );
        let payload = format!("{text:32}");
        let spec = || ChannelSpec {
            topic: format!("/device/10.0.0.{device}/blocks"),
            encoding: "json".to_owned(),
            ..ChannelSpec::default()
        };
        let channel = log.channel(&mut channels[device], spec).unwrap();
        let time_ns = 1_700_000_000_000_000_000 + n * 5_000_000;
        let sequence = u32::try_from(n / DEVICES as u64).unwrap();
        // Each device has a connection of its own.
        let origin = MessageOrigin::new(device as u64 + 1, sequence.into());
        let reading = std::iter::once(payload.as_bytes());
        log.append_all(channel, origin, sequence, time_ns, reading)
            .unwrap();
        len += payload.len() as u64;
        if n % 20 == 19 {
            log.commit().unwrap();
        }
    }
    log.finish().unwrap();
    let files = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    let mut sealed = files.filter(|it| it.extension().is_some_and(|it| it == "mcap"));
    (sealed.next().unwrap(), len)
}

fn pack_all(folder: &Path, compression: Compression) -> Arc<Stats> {
    let stats = Arc::default();
    let packer = Packer::start(&context(folder, &stats), compression);
    packer.finish(Duration::from_secs(60));
    stats
}

fn is_sound(path: &Path) -> bool {
    let mut findings = 0;
    let input = WindowedFile::open(path).unwrap();
    let verified = Checker::default().verify(input, false, &mut |finding| {
        println!("{finding}");
        findings += 1;
    });
    verified.unwrap();
    findings == 0
}

#[test]
fn a_slow_fleet_takes_at_most_1_3_times_its_payload() {
    let folder = TempDir::new().unwrap();
    let (path, payload) = slow_fleet(folder.path(), Compression::None, 120);
    let len = fs::metadata(path).unwrap().len();
    println!("None: {:.2}", len as f64 / payload as f64);
    for compression in [Compression::Auto, Compression::Zstd, Compression::Lz4] {
        let folder = TempDir::new().unwrap();
        let (path, payload) = slow_fleet(folder.path(), compression, 120);
        let before = messages(&path);
        let len = fs::metadata(&path).unwrap().len();
        let stats = pack_all(folder.path(), compression).read();
        let packed = fs::metadata(&path).unwrap().len();
        let ratio = |len: u64| len as f64 / payload as f64;
        println!(
            "{compression:?}: {:.2}, packed {:.2}",
            ratio(len),
            ratio(packed)
        );
        assert_eq!(
            (stats.files_packed, stats.bytes_packed_away),
            (1, len - packed)
        );
        assert!(is_sound(&path));
        assert!(before == messages(&path), "{compression:?}");
        let most = if compression == Compression::Lz4 {
            1.6
        } else {
            1.3
        };
        assert!(
            ratio(packed) < most,
            "{compression:?}: {:.2}",
            ratio(packed)
        );
        let names = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names, 1, "no file is left");
        // A packed file is not packed again.
        assert_eq!(pack_all(folder.path(), compression).read().files_packed, 0);
    }
}

#[test]
fn a_log_without_compression_packs_nothing() {
    let folder = TempDir::new().unwrap();
    let (path, _) = slow_fleet(folder.path(), Compression::None, 2);
    let before = fs::read(&path).unwrap();
    let stats = pack_all(folder.path(), Compression::None);
    assert_eq!(stats.read().files_packed, 0);
    assert!(before == fs::read(&path).unwrap());
}

#[test]
fn each_sealed_file_is_packed_while_the_log_continues() {
    let folder = TempDir::new().unwrap();
    let stats = Arc::<Stats>::default();
    let context = context(folder.path(), &stats);
    let packer = Packer::start(&context, Compression::Auto);
    let options = LogOptions {
        rotate_bytes: 20_000,
        ..LogOptions::default()
    };
    let mut log = Log::after_others(options, context).unwrap();
    let mut channel = Channel::default();
    for sequence in 0..3_000_u32 {
        let channel = log.channel(&mut channel, ChannelSpec::default).unwrap();
        let payload = format!("reading {sequence:08} of a sensor");
        log.append(channel, sequence, sequence.into(), payload.as_bytes())
            .unwrap();
        log.commit().unwrap();
        log.rotate_if_due().unwrap();
    }
    log.finish().unwrap();
    packer.finish(Duration::from_secs(60));
    let read = stats.read();
    assert!(5 < read.files_sealed, "{read:?}");
    // The last file may have too few chunks.
    assert!(read.files_sealed <= read.files_packed + 1, "{read:?}");
    let sequences: Vec<u32> = messages(folder.path()).0.iter().map(|it| it.1).collect();
    assert!(sequences.into_iter().eq(0..3_000));
}

#[test]
fn numbered_messages_are_packed_with_their_numbers() {
    let folder = TempDir::new().unwrap();
    let mut log = Log::open(folder.path(), LogOptions::default()).unwrap();
    let mut channel = Channel::default();
    for number in 0..200 {
        let spec = || ChannelSpec {
            metadata: [("session".to_owned(), "9f3a5c7711d2e4b6".to_owned())].into(),
            ..ChannelSpec::default()
        };
        let of_file = log.channel(&mut channel, spec).unwrap();
        let origin = MessageOrigin::new(1, number);
        let messages = std::iter::once(b"reading".as_slice());
        log.append_all(of_file, origin, number as u32, 1, messages)
            .unwrap();
        log.commit().unwrap();
    }
    log.finish().unwrap();
    let before = messages(folder.path());
    let stats = pack_all(folder.path(), Compression::Auto).read();
    assert_eq!(stats.files_packed, 1);
    assert!(messages(folder.path()) == before && before.0.len() == 200);
    let file = blocksd_recording::catalog::list_directory(folder.path()).unwrap();
    assert!(is_sound(&file[0].path));
}

#[test]
fn a_damaged_file_stays_unchanged() {
    let folder = TempDir::new().unwrap();
    let (path, _) = slow_fleet(folder.path(), Compression::Auto, 5);
    let sound = fs::read(&path).unwrap();
    // The damage hits every chunk, every index, and the channels in the summary.
    for at in (100..sound.len()).step_by(sound.len() / 97) {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        let stats = pack_all(folder.path(), Compression::Auto);
        let now = fs::read(&path).unwrap();
        assert!(
            now == bytes || (stats.read().files_packed == 1 && is_sound(&path)),
            "byte {at}"
        );
        let names = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names, 1, "byte {at}");
    }
}

#[test]
fn only_the_remains_of_an_interrupted_packing_are_removed() {
    let folder = TempDir::new().unwrap();
    let (path, _) = slow_fleet(folder.path(), Compression::None, 1);
    let of_packing = path.with_extension("mcap.new");
    let others = [
        "x.mcap.new",
        "00000009-20261127T000000Z.mcap.new",
        "notes.new",
    ];
    fs::write(&of_packing, "half").unwrap();
    for name in others {
        fs::write(folder.path().join(name), "another program's").unwrap();
    }
    pack_all(folder.path(), Compression::Auto);
    assert!(!of_packing.exists());
    for name in others {
        assert!(folder.path().join(name).exists(), "{name}");
    }
}
