//! Macros that log through defmt where that feature is on, and cost nothing where it is not.

#[cfg(feature = "defmt")]
pub(crate) use defmt::{debug, info, warn as warning};

// The arguments are used all the same, or they would be reported as unused.
#[cfg(not(feature = "defmt"))]
macro_rules! nothing { ($text:literal $(, $argument:expr)* $(,)?) => {{ $(let _ = &$argument;)* }}; }

#[cfg(not(feature = "defmt"))]
pub(crate) use {nothing as debug, nothing as info, nothing as warning};
