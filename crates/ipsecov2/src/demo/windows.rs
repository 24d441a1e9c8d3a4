//! Clear text, cut into windows, to be looked for on the wire.

use std::collections::HashSet;

/// Length of a window, in bytes.
pub(super) const WINDOW: usize = 16;
/// A window with fewer different bytes than this says nothing: padding and runs of zeros are everywhere.
const DIFFERENT: u32 = 5;
/// How many windows are kept at most: 16 MB of them.
const MOST: usize = 1 << 20;
/// Bits of the filter in front of the set.
const FILTER_BITS: u32 = 23;

/// Windows of the clear text of all packets.
///
/// They are taken one after the other, so whatever piece of clear text of 31 bytes and more is somewhere has one of them in it (with captures beyond
/// 16 MB they are farther apart).
pub(super) struct Windows {
    stride: usize,
    set: HashSet<[u8; WINDOW]>,
    /// Says quickly of most windows that they are not in the set.
    filter: Vec<u64>,
}

impl Windows {
    /// No windows yet, of `total` bytes of clear text that there will be.
    pub(super) fn new(total: u64) -> Self {
        let stride = usize::try_from(total).unwrap_or(usize::MAX).div_ceil(MOST).next_multiple_of(WINDOW).max(WINDOW);
        Self { stride, set: HashSet::new(), filter: vec![0; 1 << (FILTER_BITS - 6)] }
    }

    /// Adds the windows of a clear text.
    pub(super) fn add(&mut self, text: &[u8]) {
        for at in (0..text.len()).step_by(self.stride) {
            let Some(&window) = text.get(at..).and_then(|rest| rest.first_chunk::<WINDOW>()) else { break };
            if different(&window) >= DIFFERENT && self.set.insert(window) {
                let (word, bit) = place(&window);
                self.filter[word] |= bit;
            }
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.set.len()
    }

    /// Where in `bytes` one of them is, at whatever offset.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<usize> {
        bytes.array_windows::<WINDOW>().position(|window| {
            let (word, bit) = place(window);
            self.filter[word] & bit != 0 && self.set.contains(window)
        })
    }
}

/// Where in the filter a window is: a word and a bit in it.
fn place(window: &[u8; WINDOW]) -> (usize, u64) {
    let number = u128::from_ne_bytes(*window);
    let mixed = (number as u64 ^ ((number >> 64) as u64).rotate_left(23)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - FILTER_BITS);
    ((mixed >> 6) as usize, 1 << (mixed & 63))
}

fn different(window: &[u8; WINDOW]) -> u32 {
    let mut seen = [0u64; 4];
    for byte in window {
        seen[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }
    seen.iter().map(|word| word.count_ones()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(seed: u8) -> Vec<u8> {
        (0..200u32).map(|i| (i.wrapping_mul(i + 7) ^ (u32::from(seed) << 3)) as u8).collect()
    }

    #[test]
    fn any_31_bytes_of_a_text_are_found_wherever_they_are() {
        let mut windows = Windows::new(200);
        windows.add(&text(1));
        for at in 0..192 - 31 {
            let mut wire = vec![0xee; 64];
            wire[at % 30..][..31].copy_from_slice(&text(1)[at..][..31]);
            assert!(windows.find(&wire).is_some(), "{at}");
        }
        assert_eq!(windows.find(&text(9)), None);
        assert_eq!(windows.find(&text(1)[..15]), None, "shorter than a window");
    }

    #[test]
    fn what_is_everywhere_is_not_looked_for() {
        let mut windows = Windows::new(100);
        windows.add(&[0; 100]);
        windows.add(&[1, 2, 3, 4].repeat(25));
        assert_eq!((windows.len(), windows.find(&[0; 100])), (0, None));
    }

    #[test]
    fn large_captures_have_fewer_windows() {
        let mut windows = Windows::new(64 << 20);
        windows.add(&text(1));
        assert_eq!(windows.len(), 3);
    }
}
