//! Replay detection on inbound SAs (RFC 4303 section 3.4.3; RFC 6479).

use crate::esn;

/// The sliding window of numbers that an inbound SA has seen.
///
/// A ring of 64-bit words without shifting, as in RFC 6479: sliding forward clears the words that the window enters, one for each 64
/// numbers at most, and never more than the ring has. The window is as large as asked for, whatever the words hold. Numbers are 64-bit;
/// with 32-bit
/// numbering the high half is zero, with extended sequence numbers [`ReplayWindow::infer`] makes them.
///
/// Use: [`check`](Self::check) before the packet is opened, to spare the work; [`update`](Self::update) after it proved authentic, and
/// only then; deliver the packet only if
/// that says [`Replay::New`] (two copies in one batch both pass the check).
///
/// ```
/// use ipsec::{Replay, ReplayWindow};
///
/// let mut window = ReplayWindow::new(64)?;
/// assert_eq!(window.check(100), Replay::New);
/// assert_eq!(window.update(100), Replay::New);
/// assert_eq!(window.update(100), Replay::Duplicate);
/// assert_eq!(window.check(37), Replay::New);
/// assert_eq!(window.check(36), Replay::TooOld);
/// # Ok::<(), ipsec::WindowError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    /// Power of two of words, at least one more than the window spans; none when it is off.
    ring: Box<[u64]>,
    size: u32,
    /// Before the first update: the high half, in its place.
    highest: u64,
    used: bool,
}

/// What the window says of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Replay {
    /// Not seen yet, and within or ahead of the window.
    New,
    /// Seen.
    Duplicate,
    /// Behind the window: it cannot be known whether it was seen.
    TooOld,
    /// Zero, which no sender uses while its peer looks (RFC 4303 section 3.3.3).
    Invalid,
}

impl Replay {
    /// Whether the packet may go on.
    #[inline]
    pub const fn is_new(self) -> bool {
        matches!(self, Self::New)
    }
}

/// A size that no window can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a replay window of {found} packets: 0 (off) to {} are possible", ReplayWindow::MAX_SIZE)]
pub struct WindowError {
    /// The size asked for.
    pub found: u32,
}

impl ReplayWindow {
    /// Largest size, in packets.
    pub const MAX_SIZE: u32 = 65_536;

    /// Size where nothing else is said, in packets (RFC 4303 section 3.4.3).
    pub const DEFAULT_SIZE: u32 = 64;

    /// A window of `size` packets for an SA that begins: the number 1 is the first that it accepts. 0 turns detection off; then every
    /// number but zero is new, and the highest is still noted.
    ///
    /// # Errors
    /// [`WindowError`] when `size` exceeds [`ReplayWindow::MAX_SIZE`].
    pub fn new(size: u32) -> Result<Self, WindowError> {
        Self::with_high(size, 0)
    }

    /// The same for an SA with extended sequence numbers whose first packet's number has this high half.
    ///
    /// # Errors
    /// As [`ReplayWindow::new`].
    pub fn with_high(size: u32, high: u32) -> Result<Self, WindowError> {
        if size > Self::MAX_SIZE {
            return Err(WindowError { found: size });
        }
        // `size` numbers that begin anywhere in a word touch this many words at most.
        let words = if size == 0 { 0 } else { ((size as usize + 62) / 64 + 1).next_power_of_two() };
        Ok(Self { ring: vec![0; words].into_boxed_slice(), size, highest: u64::from(high) << 32, used: false })
    }

    /// Size in packets; 0 is off.
    pub const fn size(&self) -> u32 {
        self.size
    }

    /// Highest number that was verified; `None` before the first.
    #[inline]
    pub const fn highest(&self) -> Option<u64> {
        if self.used { Some(self.highest) } else { None }
    }

    /// The number that follows the highest: before the first update the first one of a sender; `None` at the end of the numbers.
    #[inline]
    pub const fn next(&self) -> Option<u64> {
        self.highest.checked_add(1)
    }

    /// The 64-bit number that a packet with this low half has, by [`esn::infer`]; that of the first packet has the high half that the
    /// window was created with.
    #[inline]
    pub const fn infer(&self, low: u32) -> u64 {
        if self.used { esn::infer(low, self.highest, self.size) } else { self.highest | low as u64 }
    }

    /// Whether a packet with this number may be opened. Changes nothing: the number may be forged.
    #[inline]
    pub fn check(&self, sequence: u64) -> Replay {
        // Off is off: a sender whose peer does not look may let its numbers wrap (RFC 4303 section 3.3.3), and zero comes then.
        if self.size == 0 {
            return Replay::New;
        }
        if sequence == 0 {
            return Replay::Invalid;
        }
        if sequence > self.highest {
            return Replay::New;
        }
        if self.highest - sequence >= u64::from(self.size) {
            return Replay::TooOld;
        }
        if self.ring[self.word(sequence)] & bit(sequence) != 0 { Replay::Duplicate } else { Replay::New }
    }

    /// Notes the number of a packet that proved authentic, and says whether it is new. A packet for which it is not must be dropped.
    #[inline]
    pub fn update(&mut self, sequence: u64) -> Replay {
        let verdict = self.check(sequence);
        if verdict.is_new() {
            if sequence > self.highest {
                self.slide(sequence);
            }
            self.used = true;
            if self.size != 0 {
                let word = self.word(sequence);
                self.ring[word] |= bit(sequence);
            }
        }
        verdict
    }

    /// Notes `count` numbers that follow the highest one: the same as an [`update`](Self::update) of each of them, all of which are new. (At the end of the
    /// numbers there are fewer.)
    #[inline]
    pub fn advance(&mut self, count: u64) {
        let before = self.highest;
        let last = before.saturating_add(count);
        if last == before {
            return;
        }
        self.slide(last);
        self.used = true;
        if self.size == 0 {
            return;
        }
        // What is behind the window is known without being noted.
        let first = (before + 1).max(last.saturating_sub(u64::from(self.size) - 1));
        for word in first >> 6..=last >> 6 {
            let from = if word == first >> 6 { first & 63 } else { 0 };
            let to = if word == last >> 6 { last & 63 } else { 63 };
            let place = self.word(word << 6);
            self.ring[place] |= u64::MAX << from & u64::MAX >> (63 - to);
        }
    }

    /// Moves the window's right edge, and clears the words that it comes to.
    fn slide(&mut self, sequence: u64) {
        let steps = (sequence >> 6) - (self.highest >> 6);
        self.highest = sequence;
        if steps >= self.ring.len() as u64 {
            self.ring.fill(0);
            return;
        }
        for back in 0..steps {
            let word = self.word(sequence - (back << 6));
            self.ring[word] = 0;
        }
    }

    /// Which word holds a number; only where the window is on.
    #[inline]
    fn word(&self, sequence: u64) -> usize {
        (sequence >> 6) as usize & (self.ring.len() - 1)
    }
}

#[inline]
const fn bit(sequence: u64) -> u64 {
    1 << (sequence & 63)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const SIZES: [u32; 13] = [0, 1, 2, 31, 32, 63, 64, 65, 128, 1000, 4096, 4097, 65_536];

    /// The definition: a set of the numbers seen and the highest of them.
    struct Model {
        size: u64,
        seen: BTreeSet<u64>,
        highest: u64,
    }

    impl Model {
        fn check(&self, sequence: u64) -> Replay {
            if self.size == 0 {
                Replay::New
            } else if sequence == 0 {
                Replay::Invalid
            } else if sequence > self.highest {
                Replay::New
            } else if self.highest - sequence >= self.size {
                Replay::TooOld
            } else if self.seen.contains(&sequence) {
                Replay::Duplicate
            } else {
                Replay::New
            }
        }

        fn update(&mut self, sequence: u64) {
            if self.check(sequence) == Replay::New {
                self.seen.insert(sequence);
                self.highest = self.highest.max(sequence);
            }
        }
    }

    /// Where the next packet's number lies.
    #[derive(Clone, Debug)]
    enum Step {
        /// From the highest on.
        Ahead(u64),
        /// From the highest back.
        Behind(u64),
        /// From the window's left edge, in either direction.
        Edge(i64),
        At(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..4_u64).prop_map(Step::Ahead),
            2 => (0..200_u64).prop_map(Step::Ahead),
            1 => (0..140_000_u64).prop_map(Step::Ahead),
            1 => (0..u64::MAX >> 8).prop_map(Step::Ahead),
            4 => (0..70_u64).prop_map(Step::Behind),
            1 => (0..140_000_u64).prop_map(Step::Behind),
            3 => (-3..4_i64).prop_map(Step::Edge),
            1 => prop_oneof![Just(0), Just(1), Just(u64::from(u32::MAX)), Just(1 << 32), Just(u64::MAX)].prop_map(Step::At),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// R-12: against the definition, a set, for sizes off, small and large, with and without ESN, packets that do not prove authentic included.
        #[test]
        fn r_12_agrees_with_a_set(size in prop_oneof![proptest::sample::select(SIZES.to_vec()), 1..=5000_u32], start in prop_oneof![Just(0), Just(u64::from(u32::MAX) - 300), Just(u64::MAX - 3000), any::<u64>()], extended: bool, steps in proptest::collection::vec((step(), any::<bool>()), 1..300)) {
            let limit = if extended { u64::MAX } else { u64::from(u32::MAX) };
            let start = start.min(limit);
            let mut window = ReplayWindow::new(size).unwrap();
            let mut model = Model { size: u64::from(size), seen: BTreeSet::new(), highest: 0 };
            model.update(start);
            window.update(start);
            for (step, authentic) in steps {
                let left = model.highest.saturating_sub(u64::from(size).saturating_sub(1));
                let sequence = match step {
                    Step::Ahead(distance) => model.highest.saturating_add(distance),
                    Step::Behind(distance) => model.highest.saturating_sub(distance),
                    Step::Edge(offset) => left.saturating_add_signed(offset),
                    Step::At(sequence) => sequence,
                }.min(limit);
                let expected = model.check(sequence);
                let before = window.clone();
                prop_assert_eq!(window.check(sequence), expected, "{} of highest {}", sequence, model.highest);
                prop_assert_eq!(&window.ring, &before.ring);
                prop_assert_eq!((window.highest, window.used), (before.highest, before.used));
                if authentic {
                    prop_assert_eq!(window.update(sequence), expected);
                    model.update(sequence);
                    prop_assert_eq!(window.highest().unwrap_or(0), model.highest);
                    if size != 0 && sequence != 0 {
                        prop_assert!(!window.check(sequence).is_new());
                    }
                }
            }
        }

        /// R-12: a run at once is its numbers one by one.
        #[test]
        fn r_12_a_run_is_its_numbers(size in prop_oneof![proptest::sample::select(SIZES.to_vec()), 1..=300_u32], high in prop_oneof![Just(0), Just(u32::MAX), any::<u32>()], start in prop::option::of(any::<u64>()), runs in proptest::collection::vec((prop_oneof![0..200_u64, 0..5000_u64], 0..100_u64, any::<bool>()), 1..12)) {
            let (mut at_once, mut one_by_one) = (ReplayWindow::with_high(size, high).unwrap(), ReplayWindow::with_high(size, high).unwrap());
            if let Some(start) = start {
                // Also where the numbers end.
                let start = if start % 3 == 0 { u64::MAX - start % 1000 } else { start };
                at_once.update(start);
                one_by_one.update(start);
            }
            for (count, other, ahead) in runs {
                at_once.advance(count);
                let first = one_by_one.highest;
                for offset in 1..=count {
                    let Some(number) = first.checked_add(offset) else { break };
                    prop_assert_eq!(one_by_one.update(number), Replay::New);
                }
                prop_assert_eq!((at_once.highest, at_once.used), (one_by_one.highest, one_by_one.used));
                for back in 0..u64::from(size).min(6000) + 130 {
                    let number = at_once.highest.saturating_sub(back);
                    prop_assert_eq!(at_once.check(number), one_by_one.check(number), "{} of highest {}", number, at_once.highest);
                }
                let number = if ahead { at_once.highest.saturating_add(other) } else { at_once.highest.saturating_sub(other) };
                prop_assert_eq!(at_once.update(number), one_by_one.update(number));
            }
        }

        /// R-12 with extended sequence numbers around the wrap of the half that packets carry.
        #[test]
        fn r_12_a_wrap_of_the_low_half_is_no_gap(size in 1..=5000_u32, high in 0..u32::MAX, order in proptest::collection::vec(0..400_u64, 50..300)) {
            // Packets around a wrap, each with the number that its low half gives, in disorder: every number is accepted once at most.
            let base = (u64::from(high) << 32) + u64::from(u32::MAX) - 200;
            let mut window = ReplayWindow::with_high(size, high).unwrap();
            window.update(base);
            let mut accepted = BTreeSet::from([base]);
            for offset in order {
                let sequence = base + offset;
                let highest = window.highest().unwrap();
                let inferred = window.infer(sequence as u32);
                if highest < sequence + u64::from(size) {
                    prop_assert_eq!(inferred, sequence);
                }
                if window.update(inferred).is_new() && inferred == sequence {
                    prop_assert!(accepted.insert(sequence));
                } else if inferred != sequence {
                    // A packet behind the window is taken for one 2^32 ahead, and cannot be authentic as that.
                    prop_assert_eq!(inferred, sequence + (1 << 32));
                    break;
                }
            }
        }
    }

    /// R-12: what lies at and beside the edges.
    #[test]
    fn r_12_edges_of_every_size() {
        for size in SIZES.into_iter().filter(|&size| size != 0) {
            let width = u64::from(size);
            for top in [width, width + 1, 200_000, u64::from(u32::MAX), 1 << 32, u64::MAX] {
                let mut window = ReplayWindow::new(size).unwrap();
                assert_eq!(window.highest(), None);
                assert_eq!(window.update(top), Replay::New);
                assert_eq!(window.highest(), Some(top));
                assert_eq!(window.check(top), Replay::Duplicate);
                assert_eq!(window.check(0), Replay::Invalid);
                assert_eq!(window.update(0), Replay::Invalid);
                let left = top - (width - 1);
                if size > 1 {
                    assert_eq!(window.check(left), Replay::New, "size {size} top {top}");
                    assert_eq!(window.update(left), Replay::New);
                }
                assert_eq!(window.check(left), Replay::Duplicate);
                if left > 1 {
                    assert_eq!(window.check(left - 1), Replay::TooOld, "size {size} top {top}");
                    assert_eq!(window.update(left - 1), Replay::TooOld);
                }
                assert_eq!(window.highest(), Some(top));
                if let Some(next) = top.checked_add(1) {
                    // One forward: the number at the left edge leaves the window, seen or not.
                    assert_eq!(window.update(next), Replay::New);
                    assert_eq!(window.check(left), Replay::TooOld);
                }
            }
        }
    }

    #[test]
    fn every_number_once_in_order_and_in_reverse() {
        for size in [1, 32, 64, 100, 1000] {
            let mut window = ReplayWindow::new(size).unwrap();
            for sequence in 1..3000 {
                assert_eq!(window.update(sequence), Replay::New);
                assert_eq!(window.update(sequence), Replay::Duplicate);
            }
            let mut window = ReplayWindow::new(size).unwrap();
            for (index, sequence) in (1..=u64::from(size)).rev().enumerate() {
                assert_eq!(window.update(sequence), Replay::New, "{index}");
            }
            for sequence in 1..=u64::from(size) {
                assert_eq!(window.check(sequence), Replay::Duplicate);
            }
        }
    }

    #[test]
    fn nothing_old_shows_through_after_a_jump() {
        for size in [32, 64, 100, 4096, 65_536] {
            for jump in [1, 63, 64, 65, u64::from(size) - 1, u64::from(size), u64::from(size) + 64, 131_072, 1 << 40] {
                let mut window = ReplayWindow::new(size).unwrap();
                for sequence in 1..=2 * u64::from(size) {
                    window.update(sequence);
                }
                let (old, top) = (2 * u64::from(size), 2 * u64::from(size) + jump);
                assert_eq!(window.update(top), Replay::New);
                for sequence in top - u64::from(size) + 1..top {
                    let expected = if sequence <= old { Replay::Duplicate } else { Replay::New };
                    assert_eq!(window.check(sequence), expected, "size {size} jump {jump} sequence {sequence}");
                }
            }
        }
    }

    #[test]
    fn off_accepts_all_and_notes_the_highest() {
        let mut window = ReplayWindow::new(0).unwrap();
        for sequence in [5, 5, 1, u64::MAX, 5] {
            assert_eq!(window.update(sequence), Replay::New);
        }
        assert_eq!(window.update(0), Replay::New);
        assert_eq!(window.highest(), Some(u64::MAX));
    }

    #[test]
    fn sizes_are_bounded() {
        assert_eq!(ReplayWindow::new(65_537).unwrap_err(), WindowError { found: 65_537 });
        assert_eq!(ReplayWindow::new(u32::MAX).unwrap_err().to_string(), "a replay window of 4294967295 packets: 0 (off) to 65536 are possible");
        for size in SIZES {
            let window = ReplayWindow::new(size).unwrap();
            assert_eq!(window.size(), size);
            assert!(window.ring.len() * 64 < 2 * size as usize + 256, "size {size}");
        }
    }

    #[test]
    fn the_first_packet_has_the_high_half_given() {
        let mut window = ReplayWindow::with_high(64, 5).unwrap();
        assert_eq!(window.highest(), None);
        for low in [0, 1, 100, u32::MAX] {
            assert_eq!(window.infer(low), 5 << 32 | u64::from(low));
            assert_eq!(window.check(window.infer(low)), Replay::New);
        }
        assert_eq!(window.update(5 << 32), Replay::New);
        assert_eq!(window.update(5 << 32), Replay::Duplicate);
        // From here on by inference.
        assert_eq!(window.infer(u32::MAX), 4 << 32 | u64::from(u32::MAX));
        assert_eq!(window.infer(u32::MAX - 63), 5 << 32 | u64::from(u32::MAX - 63));
    }
}
