//! Outbound sequence numbers.

use core::sync::atomic::{AtomicU64, Ordering};

/// The numbers of an outbound SA: each is handed out once, to one of any number of threads (RFC 4303 section 3.3.3; OV2-SEND-7).
///
/// A number is spent when it is taken, whether or not its packet is ever sent. The first is 1, or the one after the number that was used
/// last; the last is 2^32 - 1, or with extended sequence numbers 2^64 - 1. Then the SA has ended: the counter never starts again.
///
/// ```
/// use ipsec::SequenceCounter;
///
/// let counter = SequenceCounter::new(false, u64::from(u32::MAX) - 3);
/// assert_eq!(counter.take(2), Ok(0xffff_fffd)); // this one and the next
/// assert_eq!(counter.take(2).unwrap_err().remaining, 1);
/// assert_eq!(counter.take(1), Ok(0xffff_ffff));
/// assert_eq!(counter.take(1).unwrap_err().remaining, 0);
/// ```
#[derive(Debug)]
pub struct SequenceCounter {
    last: AtomicU64,
    limit: u64,
}

/// Fewer numbers are left than were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sequence numbers are exhausted: {asked} asked for, {remaining} left")]
pub struct Exhausted {
    /// Numbers asked for.
    pub asked: u32,
    /// Numbers left at that time.
    pub remaining: u64,
}

impl SequenceCounter {
    /// A counter whose first number is `last` + 1; 0 for a new SA. With `extended` numbers have 64 bits, otherwise 32; a `last` beyond that
    /// leaves none.
    pub const fn new(extended: bool, last: u64) -> Self {
        Self { last: AtomicU64::new(last), limit: if extended { u64::MAX } else { u32::MAX as u64 } }
    }

    /// Takes `count` consecutive numbers for a batch and returns the first, in one atomic operation. A `count` of 0 takes nothing, and its
    /// result is the number that somebody will get next.
    ///
    /// # Errors
    /// [`Exhausted`] when fewer are left. Then none is taken: the caller may take what remains, so that the last numbers of an SA are of
    /// use.
    #[inline]
    pub fn take(&self, count: u32) -> Result<u64, Exhausted> {
        // Compare and exchange, and not an addition to be undone: the counter is never beyond its limit, not even for a moment, so
        // repeated attempts cannot wrap it. Nothing else is published with a number, so no ordering is needed.
        let limit = self.limit;
        self.last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| last.checked_add(u64::from(count)).filter(|&new| new <= limit))
            .map(|last| last.saturating_add(1))
            .map_err(|last| Exhausted { asked: count, remaining: limit.saturating_sub(last) })
    }

    /// The number taken last; 0, or what the counter was created with, before the first.
    #[inline]
    pub fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// How many are left.
    pub fn remaining(&self) -> u64 {
        self.limit.saturating_sub(self.last())
    }

    /// Whether numbers have 64 bits.
    pub const fn is_extended(&self) -> bool {
        self.limit == u64::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END32: u64 = u32::MAX as u64;

    #[test]
    fn begins_with_one() {
        for extended in [false, true] {
            let counter = SequenceCounter::new(extended, 0);
            assert_eq!(counter.is_extended(), extended);
            assert_eq!(counter.last(), 0);
            assert_eq!(counter.take(0), Ok(1));
            assert_eq!(counter.take(1), Ok(1));
            assert_eq!(counter.take(64), Ok(2));
            assert_eq!(counter.take(u32::MAX - 65), Ok(66));
            assert_eq!(counter.last(), END32);
            assert_eq!(counter.take(1).is_ok(), extended);
        }
    }

    #[test]
    fn crosses_into_the_high_half() {
        let counter = SequenceCounter::new(true, END32 - 1);
        assert_eq!(counter.take(3), Ok(END32));
        assert_eq!(counter.last(), END32 + 2);
    }

    #[test]
    fn ends_for_good() {
        for (extended, end) in [(false, END32), (true, u64::MAX)] {
            let counter = SequenceCounter::new(extended, end - 5);
            for _ in 0..3 {
                assert_eq!(counter.take(6), Err(Exhausted { asked: 6, remaining: 5 }));
                assert_eq!(counter.take(u32::MAX), Err(Exhausted { asked: u32::MAX, remaining: 5 }));
            }
            assert_eq!(counter.take(4), Ok(end - 4));
            assert_eq!(counter.take(1), Ok(end));
            for _ in 0..10_000 {
                assert_eq!(counter.take(u32::MAX), Err(Exhausted { asked: u32::MAX, remaining: 0 }));
                assert_eq!(counter.take(1), Err(Exhausted { asked: 1, remaining: 0 }));
            }
            assert_eq!((counter.last(), counter.remaining()), (end, 0));
        }
    }

    #[test]
    fn a_last_number_beyond_the_end_leaves_none() {
        let counter = SequenceCounter::new(false, END32 + 7);
        assert_eq!(counter.take(1), Err(Exhausted { asked: 1, remaining: 0 }));
    }

    #[test]
    fn threads_never_share_a_number_nor_pass_the_end() {
        const TOTAL: u64 = 20_000;
        for (extended, end) in [(false, END32), (true, u64::MAX)] {
            let counter = SequenceCounter::new(extended, end - TOTAL);
            let barrier = std::sync::Barrier::new(4);
            let mut taken: Vec<u64> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4_u32)
                    .map(|thread| {
                        let (counter, barrier) = (&counter, &barrier);
                        scope.spawn(move || {
                            let mut mine = Vec::new();
                            barrier.wait();
                            let mut count = thread % 3 + 1;
                            loop {
                                match counter.take(count) {
                                    Ok(first) => mine.extend((0..u64::from(count)).map(|offset| first + offset)),
                                    Err(_) if count > 1 => count = 1,
                                    Err(_) => break mine,
                                }
                            }
                        })
                    })
                    .collect();
                threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
            });
            taken.sort_unstable();
            assert_eq!(taken.len() as u64, TOTAL);
            assert!(taken.iter().zip(end - TOTAL + 1..=end).all(|(&taken, expected)| taken == expected));
        }
    }
}
