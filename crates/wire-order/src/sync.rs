//! The primitives that the protocol is built from: the standard library's, or loom's under `--cfg loom`, so that the model checker runs the code that ships
//! and not a copy of it.

#[cfg(loom)]
mod imp {
    pub(crate) use loom::sync::atomic::{AtomicU64, AtomicUsize};
    pub(crate) use loom::sync::{Arc, Mutex, MutexGuard};
    use std::sync::atomic::Ordering;

    loom::lazy_static! {
        static ref FENCES: AtomicUsize = AtomicUsize::new(0);
    }

    /// A fence. loom changes threads at atomic accesses and not at fences, so a fence would always run in one step with the access in front of it; an access
    /// that orders nothing makes the order of fences something to be tried.
    pub(crate) fn fence(order: Ordering) {
        FENCES.fetch_add(1, Ordering::Relaxed);
        loom::sync::atomic::fence(order);
    }

    /// Whether the loom run seeds the bug `name`: set by the variable `WIRE_ORDER_SEEDED_BUG`, read in loom builds only.
    pub(crate) fn seeded_bug(name: &str) -> bool {
        static SEEDED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
        SEEDED.get_or_init(|| std::env::var("WIRE_ORDER_SEEDED_BUG").ok()).as_deref() == Some(name)
    }

    /// Lets others go on for a while.
    #[derive(Default)]
    pub(crate) struct Pause;

    impl Pause {
        pub(crate) fn wait(&mut self) {
            loom::thread::yield_now();
        }
    }
}

#[cfg(not(loom))]
mod imp {
    pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, fence};
    pub(crate) use std::sync::{Arc, Mutex, MutexGuard};
    use std::time::Duration;

    /// Bugs are seeded in loom builds only (`tests/seeded-bugs.sh`).
    #[inline(always)]
    pub(crate) const fn seeded_bug(_name: &str) -> bool {
        false
    }

    /// Lets others go on for a while: a short one at first, then longer.
    #[derive(Default)]
    pub(crate) struct Pause {
        rounds: u32,
    }

    impl Pause {
        /// Whom it waits for is being sent by a worker that runs, as a rule: that takes a microsecond or two.
        const SPINS: u32 = 6;
        /// Then it is one that does not run now.
        const YIELDS: u32 = 16;

        pub(crate) fn wait(&mut self) {
            match self.rounds {
                rounds if rounds < Self::SPINS => (0..1 << rounds).for_each(|_| core::hint::spin_loop()),
                rounds if rounds < Self::SPINS + Self::YIELDS => std::thread::yield_now(),
                _ => std::thread::sleep(Duration::from_micros(50)),
            }
            self.rounds = self.rounds.saturating_add(1);
        }
    }
}

pub(crate) use imp::*;
pub(crate) use std::sync::atomic::Ordering;
