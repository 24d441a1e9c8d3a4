//! Arithmetic of extended sequence numbers (RFC 4304; RFC 4303 appendix A): packets carry the low half, both ends know the high one.

/// The 64-bit number that a receiver takes a packet to have, from the `low` half that the packet carries, the `highest` number
/// verified so far, and the size of the replay window in packets (RFC 4303 appendix A2.2).
///
/// Of the numbers with that low half it is the one in the 2^32 that begin at the window's left edge, `highest - window + 1`. The
/// appendix's two cases, a window within one subspace of the low half and one that spans two, are the same rule here. The result
/// stays a number: a window that would begin below zero begins at zero, and where the rule would give 2^64 or more the result is 2^32
/// less, which lies behind the window. Only authentication tells whether the guess was right.
///
/// `window` 0, replay protection off, is the same as [`nearest`].
#[inline]
pub const fn infer(low: u32, highest: u64, window: u32) -> u64 {
    first_at_or_after(highest.saturating_sub(behind(window)), low)
}

/// The number nearest to `last` of those with this `low` half: at most 2^31 - 1 below it or 2^31 above (OV2-SA-6).
///
/// Near zero, where the nearest would be negative, the next one above; near 2^64, where the nearest would not be a 64-bit number, the
/// next one below.
#[inline]
pub const fn nearest(low: u32, last: u64) -> u64 {
    first_at_or_after(last.saturating_sub(HALF - 1), low)
}

/// What to take for the highest verified number before there is one, so that [`infer`] with the same window, or [`nearest`] with
/// window 0, gives the first packet this high half as it stands.
///
/// Whoever keeps the larger of this and each number that is verified never infers a number below this high half; the look ahead
/// is shorter by less than the window, or by 2^31 with `nearest`, until the numbers have come that far.
///
/// ```
/// use ipsec::esn::{infer, initial};
///
/// assert_eq!(infer(0xffff_ffff, initial(5, 64), 64), 0x5_ffff_ffff);
/// assert_eq!(infer(0xffff_ffff, 5 << 32, 64), 0x4_ffff_ffff);
/// ```
#[inline]
pub const fn initial(high: u32, window: u32) -> u64 {
    ((high as u64) << 32) + behind(window)
}

/// How far behind the highest number the numbers begin that are inferred.
const fn behind(window: u32) -> u64 {
    if window == 0 { HALF - 1 } else { window as u64 - 1 }
}

const HALF: u64 = 1 << 31;

/// The first number from `start` on that has this low half, or 2^32 less if there is none.
const fn first_at_or_after(start: u64, low: u32) -> u64 {
    let ahead = low.wrapping_sub(start as u32) as u64;
    match start.checked_add(ahead) {
        Some(number) => number,
        // `start` has the highest high half there is, and `low` is below `start`'s: same high half.
        None => start & !(u32::MAX as u64) | low as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn number(high: u32, low: u32) -> u64 {
        (high as u64) << 32 | low as u64
    }

    /// RFC 4303 appendix A2.2 as it is written, where it does not wrap below zero or beyond 2^64.
    fn appendix(low: u32, highest: u64, window: u32) -> Option<u64> {
        let (th, tl) = ((highest >> 32) as u32, highest as u32);
        let bl = tl.wrapping_sub(window - 1);
        let high = if tl >= window - 1 {
            if low >= bl { Some(th) } else { th.checked_add(1) }
        } else if low >= bl {
            th.checked_sub(1)
        } else {
            Some(th)
        };
        high.map(|high| number(high, low))
    }

    #[test]
    fn infers_at_the_boundaries() {
        let max = u32::MAX;
        for (low, highest, window, expected) in [
            // Case A, Tl >= W - 1: the window lies in one subspace.
            (100, number(5, 100), 64, number(5, 100)),
            (101, number(5, 100), 64, number(5, 101)),
            (37, number(5, 100), 64, number(5, 37)),
            (36, number(5, 100), 64, number(6, 36)),
            (0, number(5, 100), 64, number(6, 0)),
            (max, number(5, 100), 64, number(5, max)),
            (0, number(5, 63), 64, number(5, 0)),
            (max, number(5, 63), 64, number(5, max)),
            (0, number(5, max), 64, number(6, 0)),
            // Case B, Tl < W - 1: the window begins in the subspace before.
            (0, number(5, 62), 64, number(5, 0)),
            (max, number(5, 62), 64, number(4, max)),
            (max - 1, number(5, 62), 64, number(5, max - 1)),
            (max - 62, number(5, 0), 64, number(4, max - 62)),
            (max - 63, number(5, 0), 64, number(5, max - 63)),
            // The widest window, and one of a single packet.
            (max - 65_534, number(1, 0), 65_536, max as u64 - 65_534),
            (max - 65_535, number(1, 0), 65_536, number(1, max - 65_535)),
            (7, number(3, 7), 1, number(3, 7)),
            (6, number(3, 7), 1, number(4, 6)),
            // The bottom: nothing lies before zero.
            (1, 0, 64, 1),
            (max, 0, 64, max as u64),
            (max, 10, 64, max as u64),
            (0, 10, 64, 0),
            // The top: nothing lies beyond 2^64 - 1.
            (max, u64::MAX, 64, u64::MAX),
            (max - 63, u64::MAX, 64, u64::MAX - 63),
            (max - 64, u64::MAX, 64, u64::MAX - 64),
            (0, u64::MAX, 64, number(max, 0)),
            (5, number(max, 100), 64, number(max, 5)),
            (5, number(max, 10), 64, number(max, 5)),
            (max, number(max, 10), 64, number(max - 1, max)),
        ] {
            assert_eq!(infer(low, highest, window), expected, "low {low:#x} highest {highest:#x} window {window}");
        }
    }

    #[test]
    fn finds_the_nearest_at_the_boundaries() {
        let (max, half) = (u32::MAX, 1 << 31);
        for (low, last, expected) in [
            (7, number(5, 7), number(5, 7)),
            (0, number(5, max), number(6, 0)),
            (max, number(5, 0), number(4, max)),
            (half, number(5, 0), number(5, half)),
            (half + 1, number(5, 0), number(4, half + 1)),
            (0, number(5, half), number(6, 0)),
            (1, number(5, half), number(5, 1)),
            (max, 0, max as u64),
            (max, half as u64 - 1, max as u64),
            (0, 0, 0),
            (0, u64::MAX, number(max, 0)),
            (max, u64::MAX, u64::MAX),
            (half - 1, u64::MAX, number(max, half - 1)),
            (half, u64::MAX, number(max, half)),
        ] {
            assert_eq!(nearest(low, last), expected, "low {low:#x} last {last:#x}");
        }
    }

    /// Highest numbers, often near the edges of subspaces and of the whole range.
    fn highest() -> impl Strategy<Value = u64> {
        let near = (any::<u32>(), -70_000_i64..70_000).prop_map(|(high, offset)| (u64::from(high) << 32).wrapping_add_signed(offset));
        prop_oneof![any::<u64>(), near, 0..200_000_u64, u64::MAX - 200_000..=u64::MAX]
    }

    proptest! {
        #[test]
        fn infers_every_number_in_the_window_and_ahead(highest in highest(), window in prop_oneof![1..200_u32, 1..=65_536_u32], behind in any::<u32>(), ahead in 0..=1_u64 << 31) {
            for sequence in [highest.checked_sub(u64::from(behind % window)), highest.checked_add(ahead)].into_iter().flatten() {
                prop_assert_eq!(infer(sequence as u32, highest, window), sequence);
            }
        }

        #[test]
        fn infers_as_the_appendix_does(low in any::<u32>(), highest in highest(), window in 1..=65_536_u32) {
            let inferred = infer(low, highest, window);
            prop_assert_eq!(inferred as u32, low);
            if let Some(expected) = appendix(low, highest, window) {
                prop_assert_eq!(inferred, expected);
            }
        }

        #[test]
        fn finds_every_number_within_reach(last in highest(), distance in 0..1_u64 << 31) {
            for sequence in [last.checked_sub(distance), last.checked_add(distance + 1)].into_iter().flatten() {
                prop_assert_eq!(nearest(sequence as u32, last), sequence);
                prop_assert_eq!(infer(sequence as u32, last, 0), sequence);
            }
        }

        #[test]
        fn the_first_number_has_the_high_half_given(low: u32, high: u32, window in prop_oneof![Just(0), 1..=65_536_u32]) {
            prop_assert_eq!(infer(low, initial(high, window), window), number(high, low));
            prop_assert_eq!(nearest(low, initial(high, 0)), number(high, low));
        }

        #[test]
        fn keeps_the_low_half(low in any::<u32>(), last in highest()) {
            prop_assert_eq!(nearest(low, last) as u32, low);
        }
    }
}
