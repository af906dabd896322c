//! Bounds: those of the test, the larger ones, and those within which each mutant is found.

use crate::{Bounds, Mutant};

const NONE: Bounds = Bounds {
    messages: 3,
    oversize: 0,
    cuts: 0,
    rotations: 0,
    sync_failures: 0,
    kills: 0,
    powers: 0,
    forgets: 0,
    reboots: 0,
    drops: false,
    eager: false,
    keeps_session: false,
};

/// Explored by the test, in seconds.
pub const SHORT: [(&str, Bounds); 6] = [
    (
        "cuts",
        Bounds {
            messages: 3,
            cuts: 2,
            drops: true,
            ..NONE
        },
    ),
    (
        "eager, cuts",
        Bounds {
            messages: 2,
            cuts: 2,
            eager: true,
            drops: true,
            ..NONE
        },
    ),
    (
        "kill, cut",
        Bounds {
            messages: 2,
            cuts: 1,
            kills: 1,
            rotations: 1,
            ..NONE
        },
    ),
    (
        "power, rotation",
        Bounds {
            messages: 2,
            powers: 1,
            rotations: 1,
            ..NONE
        },
    ),
    (
        "failed sync",
        Bounds {
            messages: 2,
            sync_failures: 1,
            kills: 1,
            ..NONE
        },
    ),
    (
        "refused, reset",
        Bounds {
            messages: 2,
            oversize: 1,
            cuts: 1,
            reboots: 1,
            ..NONE
        },
    ),
];

/// Explored by the program, in minutes.
pub const LONG: [(&str, Bounds); 13] = [
    (
        "cuts, drops",
        Bounds {
            messages: 4,
            cuts: 2,
            drops: true,
            ..NONE
        },
    ),
    (
        "eager, cuts, kill, drops",
        Bounds {
            cuts: 2,
            kills: 1,
            eager: true,
            drops: true,
            ..NONE
        },
    ),
    (
        "eager, power, failed sync",
        Bounds {
            cuts: 1,
            powers: 1,
            sync_failures: 1,
            eager: true,
            ..NONE
        },
    ),
    (
        "kill, rotation, drops",
        Bounds {
            cuts: 1,
            kills: 1,
            rotations: 1,
            drops: true,
            ..NONE
        },
    ),
    (
        "power, rotations",
        Bounds {
            powers: 1,
            rotations: 2,
            cuts: 1,
            ..NONE
        },
    ),
    (
        "two powers",
        Bounds {
            powers: 2,
            rotations: 1,
            ..NONE
        },
    ),
    (
        "failed sync, rotation, power",
        Bounds {
            sync_failures: 1,
            rotations: 1,
            powers: 1,
            ..NONE
        },
    ),
    (
        "two failed syncs, kill",
        Bounds {
            sync_failures: 2,
            kills: 1,
            rotations: 1,
            ..NONE
        },
    ),
    (
        "forgotten, failed sync, kill",
        Bounds {
            messages: 2,
            cuts: 1,
            forgets: 1,
            sync_failures: 1,
            kills: 1,
            ..NONE
        },
    ),
    (
        "refused, reset, power",
        Bounds {
            oversize: 2,
            cuts: 1,
            reboots: 1,
            powers: 1,
            ..NONE
        },
    ),
    (
        "reset, cuts, drops, failed sync",
        Bounds {
            cuts: 2,
            reboots: 1,
            sync_failures: 1,
            drops: true,
            ..NONE
        },
    ),
    (
        "wrong firmware",
        Bounds {
            messages: 4,
            cuts: 1,
            reboots: 1,
            keeps_session: true,
            ..NONE
        },
    ),
    (
        "wrong firmware, kill",
        Bounds {
            reboots: 2,
            kills: 1,
            keeps_session: true,
            ..NONE
        },
    ),
];

/// Bounds within which a mutant is found.
#[must_use]
pub const fn revealing(mutant: Mutant) -> Bounds {
    let all = Bounds {
        cuts: 1,
        rotations: 1,
        kills: 1,
        ..NONE
    };
    match mutant {
        Mutant::AckWritten => Bounds {
            messages: 1,
            powers: 1,
            ..NONE
        },
        Mutant::AckUnsent => Bounds {
            messages: 2,
            cuts: 1,
            sync_failures: 1,
            reboots: 1,
            ..NONE
        },
        Mutant::WelcomeAcksTaken => Bounds {
            messages: 2,
            cuts: 1,
            powers: 1,
            ..NONE
        },
        Mutant::ResumeDurable => Bounds {
            messages: 2,
            cuts: 1,
            ..NONE
        },
        Mutant::OwnerUnchecked => Bounds {
            messages: 2,
            cuts: 2,
            sync_failures: 1,
            ..NONE
        },
        Mutant::LatestHelloWins => Bounds {
            messages: 2,
            cuts: 2,
            ..NONE
        },
        Mutant::LateHelloCompared => Bounds {
            messages: 3,
            cuts: 2,
            eager: true,
            ..NONE
        },
        Mutant::SessionsNotReset | Mutant::SyncerResets => Bounds {
            messages: 2,
            cuts: 1,
            sync_failures: 1,
            kills: 1,
            ..NONE
        },
        Mutant::SyncerResetsLate => Bounds {
            messages: 3,
            sync_failures: 1,
            kills: 1,
            ..NONE
        },
        Mutant::LaterFilesKept => Bounds {
            messages: 3,
            sync_failures: 1,
            rotations: 1,
            kills: 1,
            ..NONE
        },
        Mutant::WriterBelieves => Bounds {
            messages: 3,
            sync_failures: 1,
            kills: 1,
            ..NONE
        },
        Mutant::NumberedEarly => Bounds {
            messages: 3,
            cuts: 1,
            ..NONE
        },
        Mutant::NumberedByTaken => Bounds {
            messages: 3,
            cuts: 2,
            eager: true,
            ..NONE
        },
        Mutant::ContIgnored => Bounds {
            messages: 3,
            cuts: 2,
            eager: true,
            drops: true,
            ..NONE
        },
        Mutant::RefusedUncounted => Bounds {
            messages: 3,
            oversize: 1,
            ..NONE
        },
        Mutant::RefusedAtHeader => Bounds {
            messages: 2,
            oversize: 1,
            cuts: 1,
            ..NONE
        },
        Mutant::SnapshotWritten => Bounds {
            messages: 3,
            rotations: 1,
            powers: 1,
            ..NONE
        },
        Mutant::SnapshotReplaces => Bounds {
            messages: 3,
            rotations: 1,
            powers: 1,
            kills: 1,
            ..NONE
        },
        Mutant::HoleIgnored => Bounds {
            messages: 3,
            powers: 1,
            rotations: 1,
            ..NONE
        },
        Mutant::VoidBySnapshot => Bounds {
            messages: 2,
            cuts: 2,
            sync_failures: 1,
            kills: 1,
            forgets: 1,
            ..NONE
        },
        Mutant::VoidKept => Bounds {
            messages: 3,
            sync_failures: 1,
            kills: 1,
            ..NONE
        },
        Mutant::SecondSyncBelieved => Bounds {
            messages: 2,
            sync_failures: 1,
            kills: 1,
            powers: 1,
            ..NONE
        },
        Mutant::ForgottenEarly => Bounds {
            messages: 2,
            cuts: 1,
            forgets: 1,
            ..NONE
        },
        Mutant::NumbersFirst => Bounds {
            messages: 2,
            kills: 1,
            ..NONE
        },
        Mutant::SessionWithoutRing => Bounds {
            messages: 4,
            cuts: 1,
            reboots: 1,
            ..NONE
        },
        Mutant::ClockCompared => Bounds {
            messages: 2,
            cuts: 1,
            ..all
        },
    }
}
