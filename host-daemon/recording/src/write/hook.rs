//! A function that another part of the program registers with the log: [`Hook`].

use std::fmt;
use std::sync::OnceLock;

/// A function that is called with a `T`, once it is registered.
pub(super) struct Hook<T: ?Sized>(OnceLock<Box<Function<T>>>);

type Function<T> = dyn Fn(&T) + Send + Sync;

impl<T: ?Sized> Hook<T> {
    /// Registers the function. Only the first registration has an effect.
    pub(super) fn set(&self, function: impl Fn(&T) + Send + Sync + 'static) {
        let _ = self.0.set(Box::new(function));
    }

    /// Calls the function, if one is registered.
    pub(super) fn call(&self, value: &T) {
        if let Some(function) = self.0.get() {
            function(value);
        }
    }
}

impl<T: ?Sized> Default for Hook<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T: ?Sized> fmt::Debug for Hook<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hook")
            .field(&self.0.get().is_some())
            .finish()
    }
}
