//! Log macros: log through defmt if that feature is on, and compile to nothing otherwise.

#[cfg(feature = "defmt")]
pub(crate) use defmt::{info, warn as warning};

// Takes references to the arguments, because the compiler would report them as unused.
#[cfg(not(feature = "defmt"))]
macro_rules! nothing { ($text:literal $(, $argument:expr)* $(,)?) => {{ $(let _ = &$argument;)* }}; }

#[cfg(not(feature = "defmt"))]
pub(crate) use {nothing as info, nothing as warning};
