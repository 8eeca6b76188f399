//! The control side of Bascule.
