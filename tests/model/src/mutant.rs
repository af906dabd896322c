//! Rules broken on purpose: [`Mutant`].

/// One rule of the protocol, broken. The exploration must find each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// ACK names what is written, not what is durable.
    AckWritten,
    /// ACK names what is durable, although the connection has not sent it.
    AckUnsent,
    /// WELCOME acknowledges what was received, not what is durable.
    WelcomeAcksTaken,
    /// WELCOME resumes at what is durable, and counts from there.
    ResumeDurable,
    /// A connection that does not own the session goes on.
    OwnerUnchecked,
    /// The newest connection is that of the latest HELLO, not of the latest accept.
    LatestHelloWins,
    /// A late HELLO is compared with the host's numbers before its connection is.
    LateHelloCompared,
    /// A failed sync does not set the sessions back.
    SessionsNotReset,
    /// The syncer sets the sessions back, and reports the failed sync afterwards.
    SyncerResets,
    /// The syncer reports the failed sync, and sets the sessions back afterwards.
    SyncerResetsLate,
    /// A failed sync does not make the files void that were begun after it.
    LaterFilesKept,
    /// The writer writes what it is given, without a look at the number.
    WriterBelieves,
    /// A message is numbered before it has a place in the queue.
    NumberedEarly,
    /// A message is numbered by what the host has, not by its connection.
    NumberedByTaken,
    /// The host does not use the number in a CONT.
    ContIgnored,
    /// A refused message has no number.
    RefusedUncounted,
    /// A refused message is counted at its header.
    RefusedAtHeader,
    /// A file begins with what is written, not with what is durable.
    SnapshotWritten,
    /// The snapshot of a file replaces what was read before.
    SnapshotReplaces,
    /// Messages after a hole are kept in their place.
    HoleIgnored,
    /// Of a file whose sync failed, messages are left out if the next file's snapshot has them.
    VoidBySnapshot,
    /// A file whose sync failed is kept whole, although it was sent again.
    VoidKept,
    /// A second sync of a file whose sync failed is believed.
    SecondSyncBelieved,
    /// A session is forgotten although not all of it is durable.
    ForgottenEarly,
    /// Numbers are stored before their messages.
    NumbersFirst,
    /// The device keeps its session over a reset, and loses its ring; the host's check value is not compared.
    SessionWithoutRing,
    /// The host gives a new session to a device whose clock went back.
    ClockCompared,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 27] = [
        Self::AckWritten,
        Self::AckUnsent,
        Self::WelcomeAcksTaken,
        Self::ResumeDurable,
        Self::OwnerUnchecked,
        Self::LatestHelloWins,
        Self::LateHelloCompared,
        Self::SessionsNotReset,
        Self::SyncerResets,
        Self::SyncerResetsLate,
        Self::LaterFilesKept,
        Self::WriterBelieves,
        Self::NumberedEarly,
        Self::NumberedByTaken,
        Self::ContIgnored,
        Self::RefusedUncounted,
        Self::RefusedAtHeader,
        Self::SnapshotWritten,
        Self::SnapshotReplaces,
        Self::HoleIgnored,
        Self::VoidBySnapshot,
        Self::VoidKept,
        Self::SecondSyncBelieved,
        Self::ForgottenEarly,
        Self::NumbersFirst,
        Self::SessionWithoutRing,
        Self::ClockCompared,
    ];
}
