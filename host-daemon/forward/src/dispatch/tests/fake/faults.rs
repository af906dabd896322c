//! What goes wrong with a stream: [`Faults`].

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::dispatch::tests) struct Faults {
    /// Requests and answers are lost or late.
    pub(in crate::dispatch::tests) is_faulty: bool,
    /// The newest messages of the stream are lost now and then, as in a power failure of all servers.
    pub(in crate::dispatch::tests) loses: bool,
    /// The first subject has a message of another program.
    pub(in crate::dispatch::tests) is_foreign: bool,
    /// The stream is deleted and made again now and then, which interrupts nothing.
    pub(in crate::dispatch::tests) is_remade: bool,
    /// Somebody deletes messages now and then: the newest one of a subject, or all of a subject.
    pub(in crate::dispatch::tests) is_purged: bool,
    /// A new leader answers before it has stored what the one before it had accepted.
    pub(in crate::dispatch::tests) is_behind: bool,
    /// Another server loses the newest messages now and then, which interrupts nothing. Messages in flight wait for it.
    pub(in crate::dispatch::tests) goes_back: bool,
    /// They are stored if they fit then, although nobody may wait for the answer any more.
    pub(in crate::dispatch::tests) is_late: bool,
}
