//! State of the library OS. There is one vCPU and no interrupt while the library OS runs, so a checked cell is all the locking there is.

use core::cell::{RefCell, RefMut};

/// A global that is borrowed for short, never over a wait.
pub struct Global<T>(RefCell<T>);

// SAFETY: one vCPU runs the library OS, and a kick is deferred while it does.
unsafe impl<T> Sync for Global<T> {}

impl<T> Global<T> {
    /// A global with its first value.
    pub const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    /// The value. A second borrow while the first lives is a bug and ends the VM.
    pub fn get(&self) -> RefMut<'_, T> {
        self.0.borrow_mut()
    }

    /// The value, if nobody holds it.
    pub fn try_get(&self) -> Option<RefMut<'_, T>> {
        self.0.try_borrow_mut().ok()
    }

    /// Where the value is.
    pub fn as_ptr(&self) -> *mut T {
        self.0.as_ptr()
    }
}
