//! Mutates recordings: flipped bits, cuts, records that are inserted, repeated, exchanged or given hostile lengths, and
//! chunks that expand. Start with [`mutate`].

use std::ops::Range;

use mcap::records::op;

use crate::foreign::{chunk, message, record};
use crate::hostile::Chance;

/// Bytes before the body of a record.
const HEAD_LEN: usize = 9;

/// Mutates a file. `donor` is another one, whose records may be inserted. Returns the names of the mutations.
pub fn mutate(bytes: &mut Vec<u8>, donor: &[u8], chance: &mut Chance) -> Vec<&'static str> {
    (0..=chance.below(3))
        .map(|_| mutate_once(bytes, donor, chance))
        .collect()
}

fn mutate_once(bytes: &mut Vec<u8>, donor: &[u8], chance: &mut Chance) -> &'static str {
    let records = records(bytes);
    let of_donor = self::records(donor);
    if bytes.is_empty() || records.is_empty() || of_donor.is_empty() {
        bytes.extend_from_slice(donor);
        return "replaced";
    }
    let one = records[chance.below(records.len())].clone();
    let other = records[chance.below(records.len())].clone();
    let foreign = match chance.below(4) {
        0 => {
            let odd = odd_records();
            odd[chance.below(odd.len())].clone()
        }
        _ => donor[of_donor[chance.below(of_donor.len())].clone()].to_vec(),
    };
    let at = chance.below(bytes.len());
    match chance.below(15) {
        0 => {
            for _ in 0..=chance.below(8) {
                let at = chance.below(bytes.len());
                bytes[at] ^= 1 << chance.below(8);
            }
            "bits flipped"
        }
        1 => {
            let end = (at + 1 + chance.len(4096)).min(bytes.len());
            let any = chance.number() as u8;
            let value = chance.of(&[0, 0xff, 0x06, any]);
            bytes[at..end].fill(value);
            "range filled"
        }
        2 => {
            bytes.truncate(at);
            "end cut"
        }
        3 => {
            bytes.drain(..at);
            "beginning cut"
        }
        4 => {
            let end = (at + 1 + chance.len(4096)).min(bytes.len());
            bytes.drain(at..end);
            "range removed"
        }
        5 => {
            let len = chance.len(300);
            bytes.splice(at..at, random(len, chance));
            "bytes inserted"
        }
        6 => {
            bytes.drain(one);
            "record removed"
        }
        7 => {
            let copy = bytes[one].to_vec();
            bytes.splice(other.start..other.start, copy);
            "record repeated"
        }
        8 => {
            let (first, second) = if one.start < other.start {
                (one, other)
            } else {
                (other, one)
            };
            if first.end <= second.start {
                let moved = bytes[second.clone()].to_vec();
                let before = bytes
                    .splice(second, bytes[first.clone()].to_vec())
                    .collect::<Vec<_>>();
                debug_assert_eq!(before, moved);
                bytes.splice(first, moved);
            }
            "records exchanged"
        }
        9 => {
            bytes.splice(one.start..one.start, foreign);
            "record of another file inserted"
        }
        10 => {
            bytes.splice(one, foreign);
            "record of another file in place of one"
        }
        11 => {
            let room = (bytes.len() - one.start) as u64;
            set_long(bytes, one.start + 1, hostile(room, chance));
            "length of a record changed"
        }
        12 => {
            let room = (bytes.len() - one.start) as u64;
            let at = one.start + HEAD_LEN + chance.below(60);
            let value = hostile(room, chance);
            match chance.below(2) {
                0 => set_long(bytes, at, value),
                _ => set_short(bytes, at, value as u32),
            }
            "length inside a record changed"
        }
        13 => {
            let bomb = bomb(chance);
            bytes.splice(one.start..one.start, bomb);
            "chunk that expands inserted"
        }
        _ => {
            let opcode = chance.of(&[
                0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xf, 0x20, 0x86, 0xb5, 0xb6, 0xb7, 0xb9, 0xba,
            ]);
            bytes[one.start] = opcode;
            "type of a record changed"
        }
    }
}

/// The records outside of chunks, as far as they can be told apart.
pub fn records(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut records = Vec::new();
    let mut at = mcap::MAGIC.len();
    while let Some(len) = bytes.get(at + 1..at + HEAD_LEN) {
        let len = u64::from_le_bytes(len.try_into().expect("8 bytes"));
        let end = usize::try_from(len)
            .ok()
            .and_then(|len| (at + HEAD_LEN).checked_add(len));
        let Some(end) = end.filter(|end| *end <= bytes.len()) else {
            break;
        };
        records.push(at..end);
        at = end;
    }
    records
}

fn hostile(room: u64, chance: &mut Chance) -> u64 {
    let small = chance.number() % 300;
    chance.of(&[
        0,
        1,
        small,
        room,
        room - HEAD_LEN as u64,
        room.wrapping_sub(HEAD_LEN as u64 + 1),
        room + 1,
        1 << 20,
        1 << 30,
        (1 << 30) + (64 << 20),
        u64::from(u32::MAX),
        1 << 32,
        1 << 63,
        u64::MAX - 8,
        u64::MAX,
    ])
}

fn set_long(bytes: &mut [u8], at: usize, value: u64) {
    if let Some(place) = bytes.get_mut(at..at + 8) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

fn set_short(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

fn random(len: usize, chance: &mut Chance) -> Vec<u8> {
    (0..len).map(|_| chance.number() as u8).collect()
}

/// A chunk of a few kilobytes that expands to 4 MiB. Its CRC may be wrong, or missing.
fn bomb(chance: &mut Chance) -> Vec<u8> {
    const BLOCK: usize = 128 << 10;
    const BLOCKS: usize = 32;
    // Each block repeats one byte.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    frame.extend(((BLOCK * BLOCKS) as u32).to_le_bytes());
    for block in 0..BLOCKS {
        let is_last = u32::from(block + 1 == BLOCKS);
        let head = ((BLOCK as u32) << 3) | 2 | is_last;
        frame.extend(&head.to_le_bytes()[..3]);
        frame.push(0);
    }
    let mut bytes = chunk("zstd", b"", &frame);
    let claimed = chance.of(&[BLOCK * BLOCKS, 1 << 30, 100, 0]) as u64;
    set_long(&mut bytes, HEAD_LEN + 16, claimed);
    bytes
}

/// Records that contradict themselves, or have no place where they are inserted.
fn odd_records() -> Vec<Vec<u8>> {
    vec![
        record(op::CHANNEL, b"\x01\0\0\0\xff\xff\xff\xff"),
        record(op::ATTACHMENT, b""),
        message(u16::MAX, u32::MAX, u64::MAX, b""),
        record(0xb7, &[0xff; 18]),
        record(0xb6, &[0xff; 16]),
        record(0xb9, &[0xff; 16]),
        record(0xba, &[0xff; 8]),
        record(op::DATA_END, &[0; 4]),
        record(op::FOOTER, &[0xff; 20]),
    ]
}
