//! The control side of Bascule.

pub mod api;
