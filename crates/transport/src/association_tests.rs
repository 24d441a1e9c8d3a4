//! Where the NIC is in an SA's extended numbers, and what it may therefore be handed.

use ipsec::esn;

use crate::association::NicNumbers;

const WRAP: u64 = 1 << 32;

/// As the data path does it.
fn hand_over(numbers: &NicNumbers, sequence: u64) -> bool {
    let certain = numbers.is_certain(sequence);
    if certain {
        numbers.handed_over(sequence);
    }
    certain
}

fn begun(next: u64) -> NicNumbers {
    let numbers = NicNumbers::default();
    numbers.begin(next);
    numbers
}

#[test]
fn a_nic_that_has_just_begun_gets_the_numbers_of_its_high_half() {
    for next in [1, WRAP - 1, WRAP, 5 * WRAP + 7] {
        let half = next >> 32 << 32;
        for number in [half + 1, half + 7, half + WRAP / 2, half + WRAP - 1] {
            assert!(hand_over(&begun(next), number), "{number:#x} after {next:#x}");
        }
        assert!(!hand_over(&begun(next), half + WRAP));
        assert!(half == 0 || !hand_over(&begun(next), half - 1));
    }
}

#[test]
fn after_that_what_is_near_the_last_one() {
    const FAR: u64 = 1 << 30;
    let numbers = begun(1);
    assert!(hand_over(&numbers, 5));
    assert!(!hand_over(&numbers, 6 + FAR));
    assert!(hand_over(&numbers, 5 + FAR));
    assert!(hand_over(&numbers, 6), "another lane is behind");
    assert!(hand_over(&numbers, 5 + 2 * FAR), "the highest counts, not the latest");
    assert!(!hand_over(&numbers, 6));
}

#[test]
fn the_next_half_needs_an_update() {
    let numbers = begun(WRAP - 2);
    assert!(hand_over(&numbers, WRAP - 1));
    assert!(!numbers.must_tell(0));
    assert!(!hand_over(&numbers, WRAP));
    assert!(numbers.must_tell(1));
    assert!(!numbers.must_tell(1), "once");
    assert!(!hand_over(&numbers, WRAP + 1), "asked for is not done");
    numbers.updated(1);
    assert!(hand_over(&numbers, WRAP + 2));
    assert!(!hand_over(&numbers, WRAP - 1), "of before the update: in software");
    numbers.updated(0);
    assert_eq!(numbers.high(), 1, "halves do not go back");
}

#[test]
fn a_nic_that_was_not_asked_for_long_begins_anew() {
    const FAR: u64 = 1 << 30;
    let numbers = begun(100);
    assert!(!numbers.must_renew(100 + FAR, false));
    assert!(hand_over(&numbers, 100 + FAR));
    assert!(!numbers.must_renew(100 + 2 * FAR, false), "counted from the last one");
    assert!(numbers.must_renew(101 + FAR, true), "one that came back says nothing: counted from the first");
    assert!(!numbers.must_renew(101 + FAR, true), "once");
    assert!(!hand_over(&numbers, 102 + FAR), "until then it gets none");
    numbers.begin(3 * FAR);
    assert!(!numbers.must_renew(4 * FAR, true));
    assert!(numbers.must_renew(4 * FAR + 1, true));
}

/// A NIC as the contract has it: the number nearest to the last one that it sent, at first to the middle of its half (OV2-SA-6). Whatever it is handed it
/// takes for what it is, also when some of it fails and never gets to the engine.
#[test]
fn whatever_is_handed_over_is_understood() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |limit: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % limit
    };
    for _ in 0..300 {
        let mut number = next(WRAP) + next(3) * WRAP;
        let (numbers, mut handed) = (begun(number), 0);
        let mut reference = number >> 32 << 32 | 0x7fff_ffff;
        for _ in 0..200 {
            number += 1 + match next(4) {
                0 => next(1 << 31),
                1 => next(1 << 29),
                _ => next(100),
            };
            let high = (number >> 32) as u32;
            if numbers.must_tell(high) && next(3) != 0 {
                // UPDATE_SA: a boundary, unless the reference is close to it already.
                let before_wrap = (reference >> 32) + 1 == u64::from(high) && reference as u32 > 0x7fff_ffff;
                if reference >> 32 < u64::from(high) && !before_wrap {
                    reference = u64::from(high) << 32;
                }
                numbers.updated(high);
            } else if numbers.high() < high && next(2) == 0 {
                numbers.begin(number);
                reference = u64::from(high) << 32 | 0x7fff_ffff;
            }
            if hand_over(&numbers, number) {
                let fails = next(5) == 0;
                if !fails {
                    assert_eq!(esn::nearest(number as u32, reference), number, "reference {reference:#x}");
                    reference = reference.max(number);
                    handed += 1;
                } else if numbers.must_renew(number, true) {
                    numbers.begin(number + 1);
                    reference = (number + 1) >> 32 << 32 | 0x7fff_ffff;
                }
            }
        }
        assert!(handed > 0);
    }
}
