//! What is read of a file is what was saved, or nothing.

use blocksd_recording::{Channel, ChannelSpec, Log, LogOptions};

use super::*;

fn record(folder: &Path) {
    let mut log = Log::open(folder, LogOptions::default()).expect("a log");
    let channel = log.channel(&mut Channel::default(), ChannelSpec::default);
    log.append(channel.expect("a channel"), 0, 0, b"message")
        .expect("it is appended");
    log.finish().expect("it is sealed");
}

#[test]
fn a_cursor_goes_on_after_the_newest_file_that_is_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    for _ in 0..3 {
        record(folder);
    }
    let mut here = files::list(folder).expect("files");
    here.sort_unstable();
    let (number, nonce) = here[2];
    let cursor = Cursor {
        created: -7,
        place: Place {
            number,
            nonce,
            messages: 1,
            bytes: 2,
        },
        newest: Newest {
            sequence: 9,
            nonce: 10,
        },
    };
    let mut file = CursorFile::new(folder, "cursor", &Subjects::new("main"));
    for has_lost in [true, false] {
        assert_eq!(file.save(&cursor, has_lost), None);
        let saved = file.load().expect("a cursor");
        assert_eq!(saved, file.saved);
        assert_eq!(saved.cursors[0].cursor, cursor);
        assert_eq!(saved.has_lost, has_lost);
    }
    let remove = |number: u64| {
        let paths = folder.read_dir().expect("a folder").flatten();
        let of = |it: &PathBuf| blocksd_recording::catalog::number(it) == number;
        let path = paths.map(|it| it.path()).find(of);
        std::fs::remove_file(path.expect("a file")).expect("it is removed");
    };
    let place_of = |file: &CursorFile| {
        let place = file.load().expect("a cursor").place().expect("a place");
        (place.number, place.nonce, place.messages)
    };
    remove(number);
    assert_eq!(place_of(&file), (here[1].0, here[1].1, u64::MAX));
    // Another recording has gone on with that number.
    record(folder);
    assert_eq!(place_of(&file), (here[1].0, here[1].1, u64::MAX));
    // The oldest ones were deleted, too: nothing is known of the new file.
    remove(here[0].0);
    remove(here[1].0);
    assert_eq!(place_of(&file), (number, nonce, 1));
    // The limits of the recording have deleted the file.
    remove(number);
    let text = sealed("\n1 1.0000000000000001.5 9 0a 100");
    std::fs::write(folder.join("cursor"), text).expect("a file");
    record(folder);
    record(folder);
    assert_eq!(place_of(&file).2, 5);
}

#[test]
fn a_place_that_is_not_saved_is_named_once_with_what_follows() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().join("kept");
    let text = sealed("\n1 1.0000000000000001.5 9 0a 100");
    let make = || std::fs::create_dir(&folder).expect("a folder");
    make();
    std::fs::write(folder.join("cursor"), &text).expect("a file");
    let mut file = CursorFile::new(&folder, "cursor", &Subjects::new("main"));
    let saved = file.load().expect("a cursor");
    let cursor = &saved.cursors[0].cursor;
    for _ in 0..2 {
        std::fs::remove_dir_all(&folder).expect("it is removed");
        let said = file.save(cursor, false).expect("a failure");
        let path = folder.join("cursor").display().to_string();
        let named = format!(
            "the place is not saved in {path}: No such file or directory (os error 2); until"
        );
        assert!(said.starts_with(&named), "{said}");
        assert_eq!(file.save(cursor, false), None);
        make();
        assert_eq!(file.save(cursor, false), None);
    }
}

#[test]
fn a_place_is_found_whatever_the_servers_were_called() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let file = |name: &str, site: &str| {
        let name = format!("{CURSOR_FILES}{name}");
        CursorFile::new(folder, &name, &Subjects::new(site))
    };
    let save = |name, site, created, messages| {
        let text = sealed(&format!(
            "\n{created} 1.0000000000000001.{messages} 9 0a 100"
        ));
        let mut file = file(name, site);
        std::fs::write(&file.path, text).expect("a file");
        let saved = file.load().expect("a cursor");
        let cursor = &saved.cursors[0].cursor;
        assert_eq!(file.save(cursor, false), None);
    };
    save("old", "main", 7, 30);
    save("older", "main", 7, 10);
    save("site", "other", 7, 40);
    save("stream", "main", 8, 50);
    let places = |name, created| -> Vec<u64> {
        let (all, _) = file(name, "main").load_all(created);
        let cursors = all.cursors.iter();
        cursors.map(|it| it.cursor.place.messages).collect()
    };
    assert_eq!(places("new", 7), [30, 10]);
    save("new", "main", 7, 20);
    assert_eq!(places("new", 7), [30, 20, 10]);
    assert_eq!((places("new", 8), places("new", 9)), (vec![50], vec![]));
    assert!(file("site", "other").load().is_some());
}

#[test]
fn a_repair_is_that_of_the_file_and_of_its_stream() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let write = |name: &str, text: &str| {
        let path = folder.join(format!("{CURSOR_FILES}{name}"));
        std::fs::write(path, sealed(&format!("a.main.> {text}"))).expect("a file");
    };
    let subjects = Subjects::new("main");
    let file = CursorFile::new(folder, &format!("{CURSOR_FILES}own"), &subjects);
    let has_gone_back = |created| file.load_all(created).0.has_gone_back;
    let saved = "1 1.0000000000000001.5 9 0a 100";
    // Before the first place is saved under this name, the repair of another name goes on.
    let wildcard = subjects.all();
    let of_other = format!("{GONE_BACK}\n{saved}");
    let path = folder.join(format!("{CURSOR_FILES}other"));
    std::fs::write(path, sealed(&format!("{wildcard} {of_other}"))).expect("a file");
    assert_eq!([1, 2].map(has_gone_back), [true, false]);
    write("own", "");
    assert_eq!([1, 2].map(has_gone_back), [false, false]);
    write("own", &of_other);
    assert_eq!([1, 2].map(has_gone_back), [true, false]);
    write("own", GONE_BACK);
    assert_eq!([1, 2].map(has_gone_back), [true, true]);
}

#[test]
fn a_file_of_another_version_is_no_cursor() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = CursorFile::new(folder.path(), "cursor", &Subjects::new("main"));
    for (text, is_one) in [
        ("\n1 1.0000000000000001.5 9 0a 100", true),
        ("0.0000000000000002\n1 1.0000000000000001.5 9 0a 100", true),
        (
            "0.0000000000000002 more\n1 1.0000000000000001.5 9 0a 100",
            false,
        ),
        (
            "lost 0.0000000000000002\n1 1.0000000000000001.5 9 0a 100",
            true,
        ),
        (
            "a.main.> lost gone-back 0.0000000000000002\n1 1.0000000000000001.5 9 0a 100",
            true,
        ),
        ("a.main.> gone-back", true),
        ("a.main.> b.main.>\n1 1.0000000000000001.5 9 0a 100", false),
        ("a.main.>\n1 1.0000000000000001.5 9", false),
        ("a.main.>\n1 1.0000000000000001.5 9 0a 100 more", false),
        ("1 1.0000000000000001.5 9 0a 100 a.main.>", false),
        ("", false),
    ] {
        std::fs::write(folder.path().join("cursor"), sealed(text)).expect("a file");
        assert_eq!(file.load().is_some(), is_one, "{text}");
    }
}

#[test]
fn a_damaged_file_is_no_cursor() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cursor");
    let mut file = CursorFile::new(folder.path(), "cursor", &Subjects::new("main"));
    std::fs::write(&path, sealed("\n1 1.0000000000000001.5 9 0a 100")).expect("a file");
    let cursor = file.load().expect("a cursor").cursors.remove(0).cursor;
    for _ in 0..2 {
        file.saved.cursors.iter_mut().for_each(|it| it.at_s -= 10);
        assert_eq!(file.save(&cursor, true), None);
    }
    let saved = file.load().expect("a cursor");
    assert_eq!(saved.cursors.len(), 2);
    let intact = std::fs::read(&path).expect("the file");
    for at in 0..intact.len() {
        let cut = intact[..at].to_vec();
        let (mut changed, mut longer) = (intact.clone(), intact.clone());
        changed[at] ^= 1;
        longer.insert(at, b'0');
        for damaged in [cut, changed, longer] {
            std::fs::write(&path, &damaged).expect("the file");
            let text = String::from_utf8_lossy(&damaged);
            assert_eq!(file.load(), None, "{text}");
            let (all, note) = file.load_all(1);
            assert!(all.cursors.is_empty() && all.has_lost, "{text}");
            assert!(note.is_some_and(|it| it.contains("damaged")), "{text}");
        }
    }
    std::fs::write(&path, &intact).expect("the file");
    assert_eq!(file.load_all(1), (saved, None));
    let (of_another, note) = file.load_all(2);
    assert!(of_another.cursors.is_empty());
    assert!(note.is_some_and(|it| it.contains("another stream")));
    std::fs::remove_file(&path).expect("it is removed");
    assert_eq!(file.load_all(1), (Saved::default(), None));
}

#[test]
fn cursors_of_each_age_are_left() {
    let mut saved = Saved::default();
    let cursor = |sequence| Cursor {
        created: 7,
        place: Place {
            number: sequence,
            nonce: FileNonce::of_digits("0000000000000001").expect("digits"),
            messages: 0,
            bytes: 0,
        },
        newest: Newest { sequence, nonce: 1 },
    };
    let mut most = 0;
    for now_s in (1_000..200_000_u64).step_by(10) {
        saved.add(cursor(now_s), now_s);
        most = most.max(saved.cursors.len());
        assert!(
            saved
                .cursors
                .is_sorted_by_key(|it| Reverse(it.cursor.place))
        );
        // Whatever the age of the state that the stream goes back to, one is not much older.
        for age_s in [0, 10, 100, 1_000, 10_000] {
            let then_s = now_s.saturating_sub(age_s);
            let left = saved.cursors.iter().find(|it| it.at_s <= then_s);
            let is_left = left.is_some_and(|it| now_s - it.at_s <= 4 * age_s.max(10));
            assert!(
                is_left || then_s < 1_000,
                "{age_s} s before {now_s}: {left:?}"
            );
        }
    }
    assert!(most <= 20, "{most}");
    // The clock was changed.
    for now_s in [5, 300_000, 100] {
        saved.add(cursor(300_001), now_s);
        assert_eq!(saved.cursors[0].at_s, now_s);
    }
    // Another stream.
    let other = Cursor {
        created: 8,
        ..cursor(1)
    };
    saved.add(other, 300_000);
    assert_eq!(saved.cursors.len(), 1);
}
