//! Repair of a folder: each file separately, interrupted anywhere, and what happens to the originals.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use blocksd::recorded::ranges::CHECKER;
use blocksd_recording::Compression;
use blocksd_tests::process::{DEADLINE, Ended, Server, run};
use blocksd_tests::recorded::{payload, planted, record};
use blocksd_tests::recording::{Sample, name, put};
use blocksd_tests::scrape;
use tempfile::TempDir;

fn on(command: &str, path: &Path, args: &[&str]) -> Ended {
    run(&[&[command, path.to_str().unwrap()], args].concat(), b"")
}

/// The file names in a folder, except that of the lock.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name != "blocksd.lock").collect();
    names.sort();
    names
}

/// Three torn files. The second cannot be repaired, since a folder has its sealed name.
fn three_torn(folder: &Path) -> [PathBuf; 3] {
    let (torn, _) = Sample::default().torn();
    fs::create_dir(name(folder, 2, "mcap")).unwrap();
    [1, 2, 3].map(|number| put(folder, number, "mcap.part", &torn))
}

#[test]
fn an_unrepairable_file_does_not_stop_the_repair_of_others_by_hand() {
    let folder = TempDir::new().unwrap();
    let torn = three_torn(folder.path());
    let before = fs::read(&torn[1]).unwrap();
    let ended = on("recover", folder.path(), &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let output = ended.stdout_text();
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines.len(), 2, "{output}");
    for (line, number) in lines.iter().zip([1, 3]) {
        let to = name(folder.path(), number, "mcap");
        let want = format!("-> {}: kept 16 blocks", to.display());
        assert!(line.contains(&want), "{line}");
        assert!(CHECKER.check(&to).unwrap().is_some());
    }
    let why = format!("blocksd: {}: cannot ", torn[1].display());
    assert!(ended.stderr.starts_with(&why), "{ended:?}");
    assert!(
        ended
            .stderr
            .ends_with("1 of 3 torn files could not be repaired; they were not changed\n"),
        "{ended:?}"
    );
    assert_eq!(fs::read(&torn[1]).unwrap(), before);
    assert!(!name(folder.path(), 2, "mcap.new").exists());
}

#[test]
fn an_entry_that_is_not_a_file_is_reported_and_does_not_stop_the_repair() {
    let make = |folder: &Path| {
        let (torn, _) = Sample::default().torn();
        put(folder, 1, "mcap.part", &torn);
        put(folder, 5, "mcap.part", &torn);
        let pipe = name(folder, 2, "mcap.part");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let folder_of_this_name = name(folder, 3, "mcap.part");
        fs::create_dir(&folder_of_this_name).unwrap();
        let link = name(folder, 4, "mcap.part");
        std::os::unix::fs::symlink(&link, &link).unwrap();
        [pipe, folder_of_this_name, link]
    };
    let by_hand = TempDir::new().unwrap();
    let others = make(by_hand.path());
    let ended = on("recover", by_hand.path(), &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stdout_text().matches("kept 16 blocks").count(), 2);
    for other in &others {
        let line = format!("cannot read {}", other.display());
        assert!(ended.stderr.contains(&line), "{ended:?}");
    }
    assert!(ended.stderr.contains("3 of 5 torn files"), "{ended:?}");

    let at_the_start = TempDir::new().unwrap();
    let others = make(at_the_start.path());
    let server = Server::start(&["--record", at_the_start.path().to_str().unwrap()]);
    let log_text = server.process.error_text();
    assert_eq!(
        log_text.matches("16 blocks recovered").count(),
        2,
        "{log_text}"
    );
    for other in &others {
        let line = format!("cannot read {}", other.display());
        assert!(log_text.contains(&line), "{log_text}");
    }
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn a_folder_without_a_complete_chunk_is_a_failure() {
    let folder = TempDir::new().unwrap();
    let (mut torn, _) = Sample {
        chunks: 1,
        ..Sample::default()
    }
    .torn();
    let middle = torn.len() / 2;
    torn[middle] ^= 1;
    let part = put(folder.path(), 1, "mcap.part", &torn);
    let ended = on("recover", folder.path(), &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("1 of 1 torn files"), "{ended:?}");
    let lost = part.with_extension("lost");
    assert_eq!(fs::read(lost).unwrap(), torn);
}

#[test]
fn an_unrepairable_file_does_not_stop_the_repair_of_others_at_the_start() {
    let folder = TempDir::new().unwrap();
    let torn = three_torn(folder.path());
    let record = folder.path().to_str().unwrap();
    let server = Server::start(&["--record", record, "--metrics", "127.0.0.1:0"]);
    let log_text = server.process.error_text();
    let repaired = log_text.matches("a torn file was repaired: 16 blocks recovered");
    assert_eq!(repaired.count(), 2, "{log_text}");
    let failed = log_text
        .lines()
        .filter(|line| line.contains("cannot repair a torn file"));
    let failed: Vec<_> = failed.collect();
    assert_eq!(failed.len(), 1, "{log_text}");
    assert!(failed[0].contains(torn[1].to_str().unwrap()), "{log_text}");
    let ready = scrape::get(scrape::addr(&server), "/readyz").body;
    let refused = "warning: devices that open a session are refused: at the start, a torn file could not be repaired";
    assert!(ready.contains(refused), "{ready}");
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(torn[1].exists());
}

#[test]
fn recordings_sent_as_payload_never_enter_a_damaged_recording() {
    // The first 64 bytes; or a bit of the magic and one of the first chunk's checksum.
    let damages: [fn(&mut [u8]); 2] = [
        |bytes| bytes[..64].fill(0),
        |bytes| {
            bytes[3] ^= 1;
            bytes[88] ^= 1;
        },
    ];
    for damage in damages {
        let folder = TempDir::new().unwrap();
        let record = folder.path().to_str().unwrap();
        let args = ["--record", record, "--record-sync", "100"];
        let server = Server::start(&args);
        let mut stream = server.connect();
        let mut sent = 0;
        let mut send = |block: &[u8]| {
            let len = u32::try_from(block.len()).unwrap().to_be_bytes();
            stream.write_all(&[&len[..], block].concat()).unwrap();
            sent += block.len();
            // Waits for each, so that the first is in the first chunk, and others in later ones.
            let begin = Instant::now();
            while on("read", folder.path(), &["--output", "raw"]).stdout.len() < sent {
                assert!(begin.elapsed() < DEADLINE, "{sent} bytes");
            }
        };
        send(&planted()[0]);
        (0..5).for_each(|n| send(&payload(n)));
        server.process.signal("KILL");
        drop(server.process.end());

        let mut files = names(folder.path());
        let part = folder.path().join(files.pop().unwrap());
        let mut bytes = fs::read(&part).unwrap();
        damage(&mut bytes);
        fs::write(&part, &bytes).unwrap();
        Server::start(&args).stop();
        assert!(fs::read(part.with_extension("lost")).unwrap() == bytes);
        assert!(CHECKER.check(&part.with_extension("")).unwrap().is_some());
        let read = on("read", &part.with_extension(""), &["--output", "raw"]).stdout;
        // On a busy machine the first chunk may have been written before its block arrived.
        let read = read.strip_prefix(&planted()[0][..]).unwrap_or(&read);
        let want: Vec<u8> = (0..5).flat_map(payload).collect();
        assert!(read == want, "{} of {} bytes", read.len(), want.len());
    }
}

/// A folder with a torn file of three chunks, the second of them damaged.
fn damaged(folder: &Path) -> (PathBuf, Vec<u8>) {
    let inner = TempDir::new().unwrap();
    let chunks: Vec<_> = (0..3).map(|n| vec![payload(n)]).collect();
    let sealed = record(inner.path(), "10.0.0.1", Compression::None, &chunks);
    let mut bytes = fs::read(&sealed).unwrap();
    let summary = mcap::Summary::read(&bytes).unwrap().unwrap();
    let mut begins: Vec<_> = summary.chunk_indexes.iter().collect();
    begins.sort_by_key(|chunk| chunk.chunk_start_offset);
    bytes.truncate((begins[2].chunk_start_offset + begins[2].chunk_length) as usize);
    bytes[begins[1].chunk_start_offset as usize + 60] ^= 1;
    let path = folder.join(sealed.file_name().unwrap());
    (path, bytes)
}

fn with(path: &Path, ending: &str) -> PathBuf {
    path.with_extension(format!("mcap.{ending}"))
}

#[test]
fn an_interrupted_repair_is_repeated_with_the_same_result() {
    let folder = TempDir::new().unwrap();
    let (sealed, torn) = damaged(folder.path());
    fs::write(with(&sealed, "part"), &torn).unwrap();
    assert_eq!(CHECKER.repair_dir(folder.path()).unwrap().count(), 1);
    let repaired = fs::read(&sealed).unwrap();
    let done = names(folder.path());
    assert_eq!(done.len(), 2, "{done:?}");
    // The files after each step: the copy is being written, is complete, and has its name; the original is renamed.
    let half = &repaired[..repaired.len() / 2];
    let states: [&[(&str, &[u8])]; 7] = [
        &[("part", &torn), ("new", b"")],
        &[("part", &torn), ("new", half)],
        &[("part", &torn), ("new", &repaired)],
        &[("part", &torn), ("", &repaired)],
        // Both names of the original, if the file system has made one durable before the other.
        &[("part", &torn), ("", &repaired), ("lost", &torn)],
        &[("part", &torn), ("lost", &torn)],
        &[("", &repaired), ("lost", &torn)],
    ];
    for (number, state) in states.iter().enumerate() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join(sealed.file_name().unwrap());
        for (ending, bytes) in *state {
            let path = match *ending {
                "" => path.clone(),
                ending => with(&path, ending),
            };
            fs::write(path, bytes).unwrap();
        }
        for again in 0..2 {
            let outcomes: Vec<_> = CHECKER.repair_dir(folder.path()).unwrap().collect();
            assert!(outcomes.iter().all(Result::is_ok), "{number}: {outcomes:?}");
            assert_eq!(names(folder.path()), done, "state {number}, {again}");
            assert!(fs::read(&path).unwrap() == repaired, "state {number}");
            assert!(
                fs::read(with(&path, "lost")).unwrap() == torn,
                "state {number}"
            );
        }
    }
}

#[test]
fn a_repair_does_not_replace_a_link() {
    let (torn, _) = Sample::default().torn();
    let folder = TempDir::new().unwrap();
    let part = put(folder.path(), 1, "mcap.part", &torn);
    let sealed = name(folder.path(), 1, "mcap");
    std::os::unix::fs::symlink("nowhere", &sealed).unwrap();
    let ended = on("recover", folder.path(), &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(sealed.is_symlink() && part.is_file());
}

#[test]
fn a_repair_never_replaces_another_file() {
    let folder = TempDir::new().unwrap();
    let (sealed, torn) = damaged(folder.path());
    for ending in ["", "lost"] {
        let taken = match ending {
            "" => sealed.clone(),
            ending => with(&sealed, ending),
        };
        fs::write(with(&sealed, "part"), &torn).unwrap();
        fs::write(&taken, b"another file").unwrap();
        let ended = on("recover", folder.path(), &[]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(
            ended.stderr.contains("another file with this name"),
            "{ended:?}"
        );
        assert_eq!(fs::read(&taken).unwrap(), b"another file");
        assert!(fs::read(with(&sealed, "part")).unwrap() == torn);
        assert!(!with(&sealed, "new").exists());
        fs::remove_file(&taken).unwrap();
    }
}

#[test]
fn a_repair_never_takes_another_recording_of_the_same_size_for_its_own() {
    let folder = TempDir::new().unwrap();
    let names = ["mcap", "mcap.part"].map(|ending| name(folder.path(), 1, ending));
    for (number, path) in (0..).zip(&names) {
        let blocks = vec![payload(2 * number), payload(2 * number + 1)];
        let other = TempDir::new().unwrap();
        let recorded = record(other.path(), "device", Compression::None, &[blocks]);
        fs::copy(recorded, path).unwrap();
    }
    let before = names.each_ref().map(|path| fs::read(path).unwrap());
    let ended = on("recover", folder.path(), &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("another file with this name"),
        "{ended:?}"
    );
    assert_eq!(names.each_ref().map(|path| fs::read(path).unwrap()), before);
}

#[test]
fn a_repair_reports_its_result_and_no_command_reads_the_original() {
    let folder = TempDir::new().unwrap();
    let (sealed, torn) = damaged(folder.path());
    fs::write(with(&sealed, "part"), &torn).unwrap();
    let ended = on("recover", folder.path(), &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let original = with(&sealed, "lost");
    let want = format!("; original kept as {}\n", original.display());
    assert!(ended.stdout_text().contains(&want), "{ended:?}");
    assert!(ended.stdout_text().contains("kept 2 blocks"), "{ended:?}");
    // The gap in the sequence numbers is known, and is not an error of the file.
    let ended = on("verify", folder.path(), &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout_text().lines().count(), 1, "{ended:?}");
    let ended = on("recordings", folder.path(), &["--json"]);
    assert_eq!(ended.stdout_text().lines().count(), 1, "{ended:?}");
    // The original can still be read and recovered by hand, and stays.
    let ended = on("recover", &original, &[]);
    assert!(ended.stdout_text().contains("kept 2 blocks"), "{ended:?}");
    assert!(fs::read(&original).unwrap() == torn);
    assert_eq!(on("read", &original, &["--output", "raw"]).stdout.len(), {
        payload(0).len() + payload(2).len()
    });
}

#[test]
fn a_file_without_a_known_nonce_is_kept_and_its_nonces_are_reported() {
    let folder = TempDir::new().unwrap();
    let (sealed, mut torn) = damaged(folder.path());
    let nonce = sealed
        .file_stem()
        .unwrap()
        .to_str()
        .unwrap()
        .rsplit('-')
        .next();
    let nonce = nonce.unwrap().to_owned();
    torn[..140].fill(0);
    let unnamed = put(folder.path(), 7, "mcap.part", &torn);
    let ended = on("recover", folder.path(), &[]);
    assert_eq!(ended.code, Some(1), "nothing was kept: {ended:?}");
    let report = format!("1 chunks with nonce {nonce} were skipped");
    assert!(ended.stdout_text().contains(&report), "{ended:?}");
    let lost = name(folder.path(), 7, "mcap.lost");
    assert!(fs::read(&lost).unwrap() == torn);
    assert_eq!(names(folder.path()).len(), 1);
    // Follows the instruction in that report.
    let named = folder
        .path()
        .join(format!("00000007-20260101T000000Z-{nonce}.mcap.part"));
    fs::rename(&lost, &named).unwrap();
    let ended = on("recover", folder.path(), &[]);
    assert!(
        ended.stdout_text().contains("kept 0 blocks, 0 events"),
        "{ended:?}"
    );
    assert!(
        ended
            .stdout_text()
            .contains("1 messages of unknown channels"),
        "{ended:?}"
    );
    assert!(!unnamed.exists());
}

#[test]
fn files_of_others_in_the_folder_are_left_alone() {
    let folder = TempDir::new().unwrap();
    let (torn, _) = Sample::default().torn();
    for name in [
        "flight.mcap.part",
        "other.mcap.new",
        "00000001-backup.mcap.part",
    ] {
        fs::write(folder.path().join(name), &torn).unwrap();
    }
    let before = names(folder.path());
    let ended = on("recover", folder.path(), &[]);
    assert_eq!((ended.code, ended.stdout_text().as_str()), (Some(0), ""));
    assert_eq!(names(folder.path()), before);
}

#[test]
fn recordings_of_the_previous_version_are_read_checked_and_repaired() {
    let folder = TempDir::new().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let (sealed, torn) = (
        "00000001-20261127T072643Z.mcap",
        "00000002-20261127T072645Z.mcap",
    );
    let part = format!("{torn}.part");
    for name in [sealed, &part] {
        fs::copy(golden.join(name), folder.path().join(name)).unwrap();
    }
    let read = on("read", folder.path(), &["--output", "raw"]);
    let want = (1..=4).map(|n| format!("temp={n}hum={n}"));
    let want = want.collect::<String>().repeat(2);
    assert_eq!((read.code, read.stdout_text()), (Some(0), want.clone()));
    assert_eq!(on("verify", &folder.path().join(sealed), &[]).code, Some(0));
    let ended = on("recover", folder.path(), &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout_text().contains("kept 8 blocks"), "{ended:?}");
    assert_eq!(names(folder.path()), [sealed, torn]);
    assert_eq!(on("verify", folder.path(), &[]).code, Some(0));
    let read = on("read", folder.path(), &["--output", "raw"]);
    assert_eq!((read.code, read.stdout_text()), (Some(0), want));
}
