//! One image: it receives or sends messages in one way (see the features), and reports its instructions and its stack to
//! the emulator. The measured result is its difference to the image with the feature `empty`.

#![no_std]
#![no_main]
// Each image uses only a part of this.
#![allow(dead_code, unused_imports, unused_macros)]

#[cfg(feature = "empty")]
mod empty;
#[cfg(feature = "core")]
mod ours;
#[cfg(not(any(feature = "empty", feature = "core", feature = "sessions")))]
mod peers;
mod port;
#[cfg(feature = "sessions")]
mod session;
mod start;

#[cfg(feature = "empty")]
use empty as case;
#[cfg(feature = "core")]
use ours as case;
#[cfg(not(any(feature = "empty", feature = "core", feature = "sessions")))]
use peers as case;
#[cfg(feature = "sessions")]
use session as case;

/// The measured code: everything from the first message to the last.
#[inline(never)]
fn measured() {
    #[cfg(all(feature = "receive", not(feature = "async")))]
    case::receive();
    #[cfg(all(feature = "send", not(feature = "async")))]
    case::send();
    #[cfg(all(feature = "receive", feature = "async"))]
    block_on(case::receive());
    #[cfg(all(feature = "send", feature = "async"))]
    block_on(case::send());
}

/// A minimal executor, which polls continuously.
#[cfg(feature = "async")]
fn block_on(future: impl Future<Output = ()>) {
    let mut future = core::pin::pin!(future);
    let mut context = core::task::Context::from_waker(core::task::Waker::noop());
    while future.as_mut().poll(&mut context).is_pending() {}
}
