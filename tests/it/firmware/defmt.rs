//! The log of the example firmware, beside that of defmt's library.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blocksd_tests::board::{Board, image, ports};
use blocksd_tests::process::{Server, run};
use serde_json::{Value, json};

#[test]
fn the_log_is_that_of_the_defmt_library() {
    let name = "the_log_is_that_of_the_defmt_library";
    let Some(image) = image(name, "mps2-an386") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let elves = folder.path().join("elves");
    fs::create_dir(&elves).unwrap();
    fs::copy(&image, elves.join("firmware")).unwrap();
    let recording = folder.path().join("recording");
    let recording = recording.to_str().unwrap();
    let log = format!("127.0.0.1:0,decode=defmt:{}", elves.display());
    let listen = ["--listen", "127.0.0.1:0", "--listen", &log];
    let server = Server::start(&[&listen[..], &["--record", recording]].concat());
    let [telemetry, logs] = ports(&server)[..] else {
        panic!("two listeners");
    };
    let words = ["samples=3", "period_ms=50"].map(str::to_owned);
    let ports = [format!("telemetry={telemetry}"), format!("logs={logs}")];
    Board::start(&image, &[ports, words].concat()).report();
    let (_, events) = server.stop();
    let shown: Vec<_> = events
        .iter()
        .filter(|it| it["message"].is_string())
        .collect();

    let elf = fs::read(&image).unwrap();
    let table = defmt_decoder::Table::parse(&elf).unwrap().expect("formats");
    let locations = table.get_locations(&elf).unwrap();
    let mut stream = table.new_stream_decoder();
    let ended = run(&["read", recording, "--output", "json"], b"");
    let conn = &shown[0]["conn"];
    let text = ended.stdout_text();
    let recorded = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let frames = recorded.filter(|it: &Value| it["event"] == "block" && it["conn"] == *conn);
    // The first is the build id.
    for frame in frames.skip(1) {
        let bytes = match frame["text"].as_str() {
            Some(text) => text.as_bytes().to_vec(),
            None => STANDARD.decode(frame["base64"].as_str().unwrap()).unwrap(),
        };
        stream.received(&bytes);
    }
    for line in &shown {
        let frame = stream.decode().expect("a frame");
        let place = &locations[&frame.index()];
        assert_eq!(line["message"], frame.display_message().to_string());
        assert_eq!(
            line["timestamp"],
            json!(frame.display_timestamp().map(|it| it.to_string()))
        );
        assert_eq!(line["level"], json!(frame.level().map(|it| it.as_str())));
        let location = line["location"].as_str().unwrap();
        assert!(location.ends_with(&format!(":{}", place.line)), "{line}");
        let path = location.split(':').next().unwrap();
        assert!(place.file.ends_with(path), "{line}");
    }
    assert!(stream.decode().is_err(), "the library shows more");
    assert!(3 <= shown.len(), "{shown:?}");
}

#[test]
fn dropped_frames_are_reported_at_every_level() {
    let name = "dropped_frames_are_reported_at_every_level";
    let Some(image) = image(name, "mps2-an386") else {
        return;
    };
    // Names of symbols describe the formats. `DEFMT_LOG` filters levels, and not `println`.
    let elf = fs::read(&image).unwrap();
    let wanted = br#""tag":"defmt_println","data":"{=u32} log frames dropped since the start""#;
    let mut windows = elf.windows(wanted.len());
    assert!(windows.any(|bytes| bytes == wanted), "no unfiltered report");
}
