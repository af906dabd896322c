//! The supertrait of traits that only this crate implements: [`Sealed`].

/// Cannot be named outside this crate, so the traits that require it can get new methods in a minor version.
pub trait Sealed {}
