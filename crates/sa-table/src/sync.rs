//! The primitives that the protocol is built from: the standard library's, or loom's under `--cfg loom`, so that the
//! model checker runs the code that ships and not a copy of it.

#[cfg(loom)]
mod imp {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::sync::atomic::{AtomicU64, AtomicUsize};
    pub(crate) use loom::sync::{Arc, Mutex, MutexGuard};
    use std::sync::atomic::Ordering;

    loom::lazy_static! {
        static ref FENCES: AtomicUsize = AtomicUsize::new(0);
    }

    /// A fence. loom changes threads at atomic accesses and not at fences, so a fence would always run in one step with
    /// the access in front of it; an access that orders nothing makes the order of fences something to be tried.
    pub(crate) fn fence(order: Ordering) {
        FENCES.fetch_add(1, Ordering::Relaxed);
        loom::sync::atomic::fence(order);
    }

    /// Whether the loom run seeds the bug `name`: set by the variable `SA_TABLE_SEEDED_BUG`, read in loom builds only.
    pub(crate) fn seeded_bug(name: &str) -> bool {
        static SEEDED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
        SEEDED.get_or_init(|| std::env::var("SA_TABLE_SEEDED_BUG").ok()).as_deref() == Some(name)
    }
}

#[cfg(not(loom))]
mod imp {
    pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, fence};
    pub(crate) use std::sync::{Arc, Mutex, MutexGuard};

    /// loom's interface to a cell, over the standard one.
    #[repr(transparent)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        #[inline(always)]
        pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }

        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }

    /// Bugs are seeded in loom builds only (`tests/seeded-bugs.sh`).
    #[inline(always)]
    pub(crate) const fn seeded_bug(_name: &str) -> bool {
        false
    }
}

pub(crate) use imp::*;
pub(crate) use std::sync::atomic::Ordering;
