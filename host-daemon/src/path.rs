//! Parts of paths that more than one room needs. Start with [`parent`].

pub use blocksd_recording::parent;
