//! What a stream contains, without reading its messages: [`Nats::range`] and [`Nats::devices`].

use std::collections::BTreeSet;

use futures_util::TryStreamExt as _;

use crate::advice::text;
use crate::nats::Nats;
use crate::reader::ReadError;
use crate::subject::Subjects;

/// The sequence numbers of a stream. Numbers between them may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceRange {
    /// That of the first message.
    pub first: u64,
    /// That of the last message; less than the first if there is none.
    pub last: u64,
}

impl Nats {
    /// The sequence numbers that the stream has now.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn range(&self) -> Result<SequenceRange, ReadError> {
        let state = self.led().await?.state;
        Ok(SequenceRange {
            first: state.first_sequence,
            last: state.last_sequence,
        })
    }

    /// The devices of a site that have messages.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn devices(&self, subjects: &Subjects) -> Result<BTreeSet<String>, ReadError> {
        let failed = |error: &dyn std::error::Error| ReadError::NoAnswer(text(error));
        let listed = self.stream.info_with_subjects(subjects.devices());
        let listed = self.asked(listed).await?;
        let mut listed = listed.map_err(|error| failed(&error))?;
        let mut devices = BTreeSet::new();
        while let Some((subject, _)) = listed.try_next().await.map_err(|error| failed(&error))? {
            devices.extend(subjects.device_of(&subject));
        }
        Ok(devices)
    }
}
