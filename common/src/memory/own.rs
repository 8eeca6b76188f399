//! Values by themselves.

use std::ops::{Deref, DerefMut};

/// A value by itself, where the kernel has one in place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Own<T>(pub T);

impl<T> Deref for Own<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Own<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}
