//! What workers that are gone have left behind them: runs in lots that nobody is about to send.

use core::fmt;
use std::sync::PoisonError;

use crate::domain::Domain;
use crate::sync::{Arc, AtomicUsize, Mutex, MutexGuard, Ordering, seeded_bug};

/// What outlets that send under the same domains have in common: whoever comes next sends what waited for a worker that has given up.
///
/// In an `Arc`, which all of these outlets hold.
pub struct Estate<F> {
    /// Where the run whose turn it is lies in the lot, or has lain there, and whoever released the run before could not send it.
    domains: Mutex<Vec<Arc<Domain<F>>>>,
    /// How many these are. Written only under the lock.
    count: AtomicUsize,
}

impl<F> Estate<F> {
    /// An estate that nothing belongs to.
    pub fn new() -> Self {
        Self { domains: Mutex::new(Vec::new()), count: AtomicUsize::new(0) }
    }

    /// Whether there is nothing to be sent. One load; what is left at the same time is noticed the next time.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// A run of this domain is released by somebody who cannot send what waited for it.
    #[cold]
    pub(crate) fn leave(&self, domain: &Arc<Domain<F>>) {
        if domain.skip_empty() && !seeded_bug("no_heir") {
            let mut domains = self.domains();
            domains.push(Arc::clone(domain));
            self.count.store(domains.len(), Ordering::Relaxed);
        }
    }

    /// A domain where there may be something to be sent; whoever takes it sends that.
    #[cold]
    pub(crate) fn take(&self) -> Option<Arc<Domain<F>>> {
        let mut domains = self.domains();
        let domain = domains.pop();
        self.count.store(domains.len(), Ordering::Relaxed);
        domain
    }

    /// A thread that panicked under the lock leaves a list that is whole.
    fn domains(&self) -> MutexGuard<'_, Vec<Arc<Domain<F>>>> {
        self.domains.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> Default for Estate<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F> fmt::Debug for Estate<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Estate").field("domains", &self.count.load(Ordering::Relaxed)).finish()
    }
}
