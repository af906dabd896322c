//! The numbers of messages before the chunks of a sealed file, as its summary states them: [`MessageCounts`].

use crate::read::summary::Summary;

/// Where each chunk of a file has its first message. Damage in the chunks does not change it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MessageCounts {
    /// Offset of each chunk, and the number of messages before it, in the order of the file.
    chunks: Vec<(u64, u64)>,
    /// Number of all messages.
    total: u64,
}

impl MessageCounts {
    /// Takes the lengths of the message indexes. Returns `None` unless they have as many messages as the statistics: other
    /// programs may write messages without an index, or outside of chunks.
    pub(super) fn of(summary: &Summary) -> Option<Self> {
        let statistics = summary.statistics.as_ref()?;
        if !summary.lists_all_chunks() {
            return None;
        }
        let mut chunks: Vec<_> = summary.chunks.iter().collect();
        chunks.sort_unstable_by_key(|chunk| chunk.offset);
        let mut counts = Self::default();
        for chunk in chunks {
            counts.chunks.push((chunk.offset, counts.total));
            counts.total = counts.total.checked_add(chunk.messages?)?;
        }
        (counts.total == statistics.message_count).then_some(counts)
    }

    /// Returns the number of messages before the chunk at an offset; `None` if no chunk begins there.
    pub(super) fn before_chunk(&self, offset: u64) -> Option<u64> {
        let found = self.chunks.binary_search_by_key(&offset, |(at, _)| *at);
        let (_, before) = self.chunks.get(found.ok()?)?;
        Some(*before)
    }

    /// Returns the number of messages in the chunks that begin before an offset.
    pub(super) fn before(&self, offset: u64) -> u64 {
        let index = self.chunks.partition_point(|(at, _)| *at < offset);
        let next = self.chunks.get(index);
        next.map_or(self.total, |(_, before)| *before)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::{self, File};
    use std::path::Path;

    use mcap::WriteOptions;
    use mcap::records::MessageHeader;

    use super::*;
    use crate::read::scan::{Found, Scan};
    use crate::read::window::WindowedFile;
    use crate::{Channel, ChannelSpec, Compression, Log, LogOptions, repair_dir};

    fn summary(path: &Path) -> Summary {
        let mut input = WindowedFile::open(path).unwrap();
        Summary::read(&mut input).unwrap().expect("a sealed file")
    }

    /// The offset of each chunk, and the number of messages before it, counted.
    fn counted(path: &Path) -> MessageCounts {
        let mut scan = Scan::open(path, false).unwrap();
        let mut counts = MessageCounts::default();
        while let Some(found) = scan.advance().unwrap() {
            if let Found::Chunk(chunk) = found {
                counts.chunks.push((chunk.offset, counts.total));
                let messages = chunk.records().filter(|(_, raw)| raw.message().is_some());
                counts.total += messages.count() as u64;
            }
            if scan.has_ended() {
                break;
            }
        }
        counts
    }

    fn check(path: &Path) {
        let counts = MessageCounts::of(&summary(path)).expect("counts");
        assert_eq!(counts, counted(path));
        for (offset, before) in &counts.chunks {
            assert_eq!(counts.before_chunk(*offset), Some(*before));
            assert_eq!(counts.before(*offset), *before);
            assert_eq!(counts.before_chunk(*offset + 1), None);
        }
        assert_eq!(counts.before(u64::MAX), counts.total);
    }

    /// Records messages of three devices, some of which a chunk does not have.
    fn record(folder: &Path) -> Log {
        let options = LogOptions {
            compression: Compression::Zstd,
            ..LogOptions::default()
        };
        let mut log = Log::open(folder, options).unwrap();
        let mut channels = [(); 3].map(|()| Channel::default());
        for round in 0..20_u32 {
            for (index, channel) in channels.iter_mut().enumerate() {
                let spec = || ChannelSpec {
                    topic: format!("/device/{index}/blocks"),
                    ..ChannelSpec::default()
                };
                for sequence in 0..round % (index as u32 + 2) {
                    let channel = log.channel(channel, spec).unwrap();
                    log.append(channel, sequence, 1, b"message").unwrap();
                }
            }
            log.commit().unwrap();
        }
        log
    }

    #[test]
    fn files_of_the_log_have_them_also_if_they_are_repaired() {
        let (folder, torn) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let log = record(folder.path());
        let part = fs::read_dir(folder.path()).unwrap().flatten();
        let part = part.map(|it| it.path());
        let part = part.filter(|it| it.extension().is_some_and(|it| it == "part"));
        for path in part {
            fs::copy(&path, torn.path().join(path.file_name().unwrap())).unwrap();
        }
        log.finish().unwrap();
        let repaired = repair_dir(torn.path()).unwrap();
        assert_eq!(repaired.map(Result::unwrap).count(), 1);
        for folder in [&folder, &torn] {
            let files = crate::catalog::list_directory(folder.path()).unwrap();
            assert_eq!(files.len(), 1);
            check(&files[0].path);
        }
    }

    #[test]
    fn files_of_other_programs_have_them_if_all_messages_have_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, options: WriteOptions| {
            let path = folder.path().join(name);
            let file = File::create(&path).unwrap();
            let mut writer = options.chunk_size(Some(100)).create(file).unwrap();
            let metadata = BTreeMap::new();
            let channels =
                ["/a", "/b"].map(|it| writer.add_channel(0, it, "raw", &metadata).unwrap());
            for sequence in 0..30 {
                for channel_id in channels {
                    let header = MessageHeader {
                        channel_id,
                        sequence,
                        log_time: 1,
                        publish_time: 1,
                    };
                    writer.write_to_known_channel(&header, &[b'.'; 20]).unwrap();
                }
            }
            writer.finish().unwrap();
            path
        };
        check(&write("indexed", WriteOptions::new()));
        let without = WriteOptions::new().emit_message_indexes(false);
        assert_eq!(
            MessageCounts::of(&summary(&write("without", without))),
            None
        );
        let loose = WriteOptions::new().use_chunks(false);
        assert_eq!(MessageCounts::of(&summary(&write("loose", loose))), None);
    }
}
