//! Decoded payloads: what they mean, and what hostile ones may cost.

mod alike;
mod bounds;
mod decode;
mod served;
