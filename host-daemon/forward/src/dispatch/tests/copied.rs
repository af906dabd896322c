//! A recording and its copy, which begins with the same files and the same identity: what either has recorded after the copy was made is in
//! the stream once, and nothing is missing.

use super::*;

impl Recording {
    /// A copy of the first messages, which goes on by itself.
    fn copy(&self, len: usize, name: u64, chance: &mut Chance) -> Self {
        let mut messages = self.messages.get(..len).unwrap_or_default().to_vec();
        let later = Self::new(name, 20, chance);
        let last = messages.last().map_or(0, |it| it.file.0);
        messages.extend(later.messages.into_iter().map(|it| Recorded {
            file: (it.file.0 + last, it.file.1),
            // Another run of the daemon.
            connection: it.connection + 10 * name,
            ..it
        }));
        Self {
            instance: self.instance,
            messages,
        }
    }
}

/// Forwards, and takes a new identity when there is a copy. Returns how often.
async fn forward(
    recording: &mut Recording,
    stream: &Arc<FakeStream>,
    mut chance: Chance,
    file: &mut Saved,
) -> u64 {
    let (mut copies, mut known) = (0, Reached::default());
    while let End::Copied(reached) = recording
        .forward_as(stream, chance.clone(), file, None, known)
        .await
    {
        known = reached;
        recording.instance = Instance::random();
        copies += 1;
        chance.below(2);
    }
    copies
}

/// Whose messages are in the stream: how often each is there, by its payload.
fn counts(stream: &FakeStream) -> HashMap<Vec<u8>, usize> {
    let mut counts = HashMap::new();
    for device in 0..DEVICES {
        let mut joined: HashMap<Instance, Vec<u8>> = HashMap::new();
        for outgoing in stream.stored(&format!("device.{device}")) {
            let head = &outgoing.head;
            let joined = joined.entry(head.instance).or_default();
            // The first part of a message that is sent again as a whole may be there, too.
            joined.truncate(head.part.map_or(0, |(offset, _)| offset as usize));
            for message in Messages::new(head, &outgoing.body) {
                joined.extend_from_slice(message.expect("well-formed").data);
                let is_part = head
                    .part
                    .is_some_and(|(_, len)| (joined.len() as u64) < len);
                if !is_part {
                    *counts.entry(std::mem::take(joined)).or_default() += 1;
                }
            }
        }
    }
    counts
}

#[test]
fn a_copy_of_a_recording_loses_nothing() {
    let mut renewed = 0;
    for seed in 0..seeds() {
        renewed += runtime().block_on(async {
            let mut chance = Chance(seed);
            let mut original = Recording::new(1, 20 + chance.below(20) as usize, &mut chance);
            let fork = original.messages.len();
            let is_faulty = chance.is(2);
            let faults = Faults {
                is_faulty,
                ..Faults::default()
            };
            let stream = Arc::new(FakeStream::new(seed, faults));
            // The copy has the file of the place, too.
            let mut file = Saved::default();
            let is_forwarded = chance.is(2);
            if is_forwarded {
                let first = chance.clone();
                forward(&mut original, &stream, first, &mut file).await;
            }
            let mut copy = original.copy(fork, 2, &mut chance);
            let mut copied_file = file.clone();
            let mut original = original.copy(fork, 3, &mut chance);
            let [one, other] = [1, 2].map(|name| Chance(seed ^ name));
            let (renewed, again) = match chance.is(2) {
                true => tokio::join!(
                    forward(&mut original, &stream, one, &mut file),
                    forward(&mut copy, &stream, other, &mut copied_file)
                ),
                false => {
                    let renewed = forward(&mut original, &stream, one, &mut file).await;
                    let again = forward(&mut copy, &stream, other, &mut copied_file).await;
                    (renewed, again)
                }
            };
            let counts = counts(&stream);
            for recording in [&original, &copy] {
                for (index, message) in recording.messages.iter().enumerate() {
                    let count = counts.get(&message.data).copied().unwrap_or(0);
                    let text = String::from_utf8_lossy(&message.data);
                    assert!(
                        0 < count,
                        "seed {seed}: {} is missing",
                        text.trim_end_matches('.')
                    );
                    // What a daemon has published before a crash, or without an answer, it does not know any more.
                    if fork <= index && !is_faulty {
                        assert_eq!(count, 1, "seed {seed}: {}", text.trim_end_matches('.'));
                    }
                    if is_forwarded && index < fork && !is_faulty {
                        assert_eq!(count, 1, "seed {seed}: {}", text.trim_end_matches('.'));
                    }
                }
            }
            renewed + again
        });
    }
    assert!(0 < renewed);
}

#[test]
fn a_place_says_nothing_of_another_file_with_its_number() {
    let recording = Recording::new(1, 1, &mut Chance(1));
    let [mut batch]: [Batch; 1] = recording
        .batches(None, &mut Chance(1))
        .try_into()
        .expect("one batch");
    let len = batch.len();
    let end = batch.end();
    let other = Place {
        nonce: FileNonce::new(),
        ..end
    };
    assert!(batch.trim(other));
    assert_eq!(batch.len(), len);
    assert!(!batch.trim(end));
}
