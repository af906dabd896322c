//! The repository itself: documents, layout, imports, baselines and public names.

mod baselines;
mod documents;
mod imports;
pub(crate) mod public_names;
mod readme;
mod tidy;
mod type_names;
