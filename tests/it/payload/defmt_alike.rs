//! Valid logs: the decoder agrees with the library of defmt.

use blocksd::payload::{DecodeError, Decoder, Decoding, Meaning};
use blocksd_tests::elf::{BUILD, Image, elf, rzcobs};
use blocksd_tests::hostile::{self, Chance};

/// An argument of a log statement: its text in the format string, and its bytes in a frame.
type Argument = (String, Vec<u8>);

/// The format strings of a random firmware image.
#[derive(Default)]
struct Firmware {
    formats: Vec<(&'static str, String)>,
}

impl Firmware {
    fn add(&mut self, tag: &'static str, text: String) -> [u8; 2] {
        self.formats.push((tag, text));
        (self.formats.len() as u16).to_le_bytes()
    }

    /// A random format string with the bytes of its arguments.
    fn text(&mut self, chance: &mut Chance, depth: usize) -> Argument {
        let mut made = (String::new(), Vec::new());
        for _ in 0..chance.below(4) {
            made.0 += chance.of(&["", "a ", "{{x}} ", "\n", "é"]);
            let (place, bytes) = self.argument(chance, depth);
            made.0 += &place;
            made.1.extend(bytes);
        }
        made
    }

    fn argument(&mut self, chance: &mut Chance, depth: usize) -> Argument {
        let hint = chance.of(&[
            "", "", ":?", ":x", ":#010X", ":b", ":#06b", ":o", ":#o", ":a", ":05", ":us", ":ms",
            ":tms", ":tus", ":ts", ":unknown",
        ]);
        let mut number = |len: usize| chance.number().to_le_bytes().repeat(2)[..len].to_vec();
        let len = 1_usize << ((hint.len() + depth) % 5);
        let word = number(4);
        let (ty, bytes) = match chance.below(if depth < 4 { 18 } else { 13 }) {
            0 => (
                [("u8"), ("u16"), ("u32"), ("u64"), ("u128")][len.ilog2() as usize].to_owned(),
                chance_bytes(chance, len),
            ),
            1 => (
                [("i8"), ("i16"), ("i32"), ("i64"), ("i128")][len.ilog2() as usize].to_owned(),
                chance_bytes(chance, len),
            ),
            2 => ("bool".to_owned(), vec![(chance.below(2)) as u8]),
            3 => ("f32".to_owned(), word),
            4 => ("f64".to_owned(), chance_bytes(chance, 8)),
            5 => ("char".to_owned(), vec![chance.below(0x80) as u8, 0, 0, 0]),
            6 => (
                "str".to_owned(),
                sized(chance.of(&["", "text", "\u{1b}\"é\n"]).into()),
            ),
            7 => ("[u8]".to_owned(), sized(chance_bytes(chance, len))),
            8 => (format!("[u8; {len}]"), chance_bytes(chance, len)),
            9 => ("__internal_Debug".to_owned(), b"Some(\"x\")\xff".to_vec()),
            10 => {
                let name = format!("interned {}", self.formats.len());
                ("istr".to_owned(), self.add("str", name).to_vec())
            }
            11 => (
                chance
                    .of(&["0..3", "5..12", "8..70", "0..128", "120..128"])
                    .to_owned(),
                vec![],
            ),
            12 => ("isize".to_owned(), chance_bytes(chance, 4)),
            13 | 14 => {
                let (text, bytes) = self.text(chance, depth + 1);
                (
                    "?".to_owned(),
                    [&self.add("derived", text)[..], &bytes].concat(),
                )
            }
            15 => {
                let (text, bytes) = self.text(chance, depth + 1);
                let index = self.add("derived", format!("A|B {text}|C({{=u8}})"));
                ("?".to_owned(), [&index[..], &[1], &bytes].concat())
            }
            16 => {
                let index = self.add(
                    "prim",
                    chance.of(&["{=u8}", "<{=u8:x}>", "{=u8:?}"]).to_owned(),
                );
                let elements = chance_bytes(chance, len);
                match chance.below(2) {
                    0 => (
                        "[?]".to_owned(),
                        [&(len as u32).to_le_bytes()[..], &index, &elements].concat(),
                    ),
                    _ => (format!("[?; {len}]"), [&index[..], &elements].concat()),
                }
            }
            _ => {
                let mut bytes = Vec::new();
                for _ in 0..chance.below(3) {
                    let (text, arguments) = self.text(chance, depth + 1);
                    bytes.extend(self.add("write", text));
                    bytes.extend(arguments);
                }
                (
                    "__internal_FormatSequence".to_owned(),
                    [bytes, vec![0, 0]].concat(),
                )
            }
        };
        let bytes = match ty.split_once("..") {
            Some((start, end)) => {
                let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
                let len = ((end - 1) / 8 - start / 8 + 1).next_power_of_two();
                chance_bytes(chance, len)
            }
            None => bytes,
        };
        (format!("{{={ty}{hint}}}"), bytes)
    }
}

fn chance_bytes(chance: &mut Chance, len: usize) -> Vec<u8> {
    (0..len).map(|_| chance.number() as u8).collect()
}

fn sized(bytes: Vec<u8>) -> Vec<u8> {
    [&(bytes.len() as u32).to_le_bytes()[..], &bytes].concat()
}

/// Timestamp and message of a frame, or the reason why it is undecodable.
fn shown(decoder: &Decoder, frame: &[u8]) -> Result<(String, String), String> {
    let log = match decoder.read(frame) {
        Ok(Meaning::Log(log)) => log,
        Ok(other) => panic!("{other:?}"),
        Err(undecodable) => return Err(undecodable.reason),
    };
    let (mut time, mut message) = (String::new(), String::new());
    let written = log
        .write_time(&mut time)
        .and_then(|()| log.write_message(&mut message));
    match written {
        Ok(()) => Ok((time, message)),
        Err(DecodeError::TooLong) => panic!("a string is never full"),
        Err(DecodeError::Invalid(reason)) => Err(reason),
        Err(DecodeError::Repeated) => panic!("its formats are known"),
    }
}

#[test]
fn a_log_is_decoded_like_the_defmt_library() {
    let folder = tempfile::tempdir().unwrap();
    let mut compared = 0;
    for seed in 0..60 {
        let mut chance = Chance::new(seed);
        let mut firmware = Firmware::default();
        firmware.add(
            "timestamp",
            chance.of(&["{=u64:us}", "{=u64:tms}", "{=u64}"]).to_owned(),
        );
        let mut frames = Vec::new();
        for _ in 0..40 {
            let (text, bytes) = firmware.text(&mut chance, 0);
            let index = firmware.add(chance.of(&["info", "error", "println"]), text);
            let time = (chance.number() >> chance.below(64)).to_le_bytes();
            frames.push([&index[..], &time, &bytes].concat());
        }
        // Arguments shown out of order, twice, or as bit fields.
        let mixed = [
            "{1=u8:x}{0=u16}{1=u8}",
            "{0=0..4} {0=4..8:b} {1=?} {0=2..7:?}",
            "{2=str}{1=[u8]:a}{0=bool}",
        ];
        let prim = firmware.add("prim", "{=u8}".to_owned());
        for (text, bytes) in mixed.iter().zip([
            vec![1, 2, 3],
            [&[0xa5][..], &prim, &[9]].concat(),
            b"\x01\x02\0\0\0\x07z\x01\0\0\0y".to_vec(),
        ]) {
            let index = firmware.add("debug", (*text).to_owned());
            frames.push([&index[..], &[0; 8], &bytes].concat());
        }
        let formats: Vec<_> = firmware
            .formats
            .iter()
            .map(|(tag, text)| (*tag, &**text))
            .collect();
        let is_encoded = seed % 2 == 1;
        let file = Image {
            formats: &formats,
            encoding: if is_encoded { "rzcobs" } else { "raw" },
            build: Some(BUILD),
        };
        let file = file.elf();
        let path = folder.path().join(format!("{seed}.elf"));
        std::fs::write(&path, &file).unwrap();
        let table = defmt_decoder::Table::parse(&file)
            .unwrap()
            .expect("formats");
        let decoding: Decoding = format!("defmt:{}", path.display())
            .parse()
            .expect("formats");
        let decoder = Decoder::new(decoding);
        let mut stream = table.new_stream_decoder();
        for frame in frames {
            let sent = if is_encoded {
                rzcobs(&frame)
            } else {
                frame.clone()
            };
            stream.received(&sent);
            let want = stream.decode().unwrap_or_else(|error| {
                panic!(
                    "seed {seed}: {error}: {frame:x?} of {:#?}",
                    firmware.formats
                )
            });
            // The library panics at some display hints.
            let want = std::panic::catch_unwind(|| {
                let time = want.display_timestamp().expect("a time").to_string();
                (time, want.display_message().to_string())
            });
            let decoded =
                shown(&decoder, &sent).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            if let Ok(want) = want {
                assert_eq!(decoded, want, "seed {seed}: {frame:x?}");
                compared += 1;
            }
            if is_encoded {
                let separated = [&[0, 0][..], &sent, &[0]].concat();
                for same in [&sent[..sent.len() - 1], &separated] {
                    assert_eq!(shown(&decoder, same).as_ref(), Ok(&decoded));
                }
                let two = [&sent[..], &sent].concat();
                assert!(shown(&decoder, &two).is_err());
                continue;
            }
            for end in 0..frame.len() {
                assert!(
                    shown(&decoder, &frame[..end]).is_err(),
                    "seed {seed}: {end} of {frame:x?}"
                );
            }
            assert!(shown(&decoder, &[&frame[..], &[0]].concat()).is_err());
        }
    }
    assert!(2_000 < compared, "{compared}");
}

#[test]
fn flags_are_shown_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flags.elf");
    let formats = [
        ("timestamp", "{=u64:us}"),
        ("bitflags_value", "Flags::0::ONE"),
        (
            "info",
            "{=u8:__internal_bitflags_Flags@p@0@c} {=u8:__internal_bitflags_Other@p@0@c}",
        ),
    ];
    std::fs::write(&path, elf(&formats)).unwrap();
    let decoding: Decoding = format!("defmt:{}", path.display())
        .parse()
        .expect("formats");
    let decoded = shown(&Decoder::new(decoding), b"\x03\0\0\0\0\0\0\0\0\0\0\x07");
    // The section is zeroed, so the flag has the value 0 and is set in the number 0.
    assert_eq!(decoded.unwrap().1, "ONE 7");
}

#[test]
fn a_damaged_elf_file_is_refused_or_read_without_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.elf");
    let good = elf(hostile::FORMATS);
    let (mut read, mut refused) = (0, 0);
    for seed in 0..2_000 {
        let mut chance = Chance::new(seed);
        let mut file = good.clone();
        for _ in 0..=chance.below(4) {
            let at = chance.below(file.len());
            file[at] = chance.number() as u8;
        }
        if chance.below(4) == 0 {
            file.truncate(chance.below(file.len()));
        }
        std::fs::write(&path, &file).unwrap();
        match format!("defmt:{}", path.display()).parse::<Decoding>() {
            Ok(decoding) => {
                let frame = hostile::defmt(&mut chance, 1 << 8);
                drop(shown(&Decoder::new(decoding), &frame));
                read += 1;
            }
            Err(_) => refused += 1,
        }
        // In a directory it is ignored, or found by its build id.
        let decoding = format!("defmt:{}", folder.path().display());
        let decoder = Decoder::new(decoding.parse().expect("a directory"));
        for message in [BUILD.to_vec(), hostile::defmt(&mut chance, 1 << 8)] {
            drop(decoder.read(&message));
        }
    }
    assert!(
        100 < read && 100 < refused,
        "{read} read, {refused} refused"
    );
}
