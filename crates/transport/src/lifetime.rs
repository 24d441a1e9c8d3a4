//! Lifetimes: what an SA has carried, and whether that was enough.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use packet::Time;

use crate::parameters::Limits;

/// What a packet finds an SA's lifetime to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Within all limits.
    Good,
    /// This packet is the one that reached a soft limit; it is carried. Said once in an SA's life.
    SoftReached,
    /// This packet is the one that would pass a hard limit; neither it nor any later one is carried. Said once in an SA's life.
    HardReached,
    /// A hard limit was reached earlier.
    Over,
}

/// What an SA has carried, with its limits; shared by lanes. Counts are 64 bit and do not wrap.
#[derive(Debug)]
pub(crate) struct Lifetime {
    soft: Limits,
    hard: Limits,
    /// When time limits end; `u64::MAX` = never.
    soft_end: u64,
    hard_end: u64,
    /// Whether the limits need every packet to be counted one by one.
    counted: bool,
    packets: AtomicU64,
    bytes: AtomicU64,
    soft_told: AtomicBool,
    over: AtomicBool,
}

impl Lifetime {
    /// A life that begins `now`.
    pub(crate) fn new(soft: Limits, hard: Limits, now: Time) -> Self {
        let end = |limit: Option<core::time::Duration>| limit.map_or(u64::MAX, |time| (now + time).as_nanos());
        let limits = [soft.bytes, soft.packets, hard.bytes, hard.packets];
        Self {
            soft,
            hard,
            soft_end: end(soft.time),
            hard_end: end(hard.time),
            counted: limits.iter().any(Option::is_some),
            packets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            soft_told: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    /// Packets carried.
    pub(crate) fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }

    /// Bytes carried.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether a hard limit was reached.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Asks to carry one packet of `bytes` bytes. An SA with limits of packets or bytes counts it here; of others the lane counts whole runs with
    /// [`Lifetime::account`], which saves two atomic additions a packet.
    #[inline]
    pub(crate) fn admit(&self, bytes: u64, now: Time) -> Life {
        if self.counted { self.admit_counted(bytes, now) } else { self.check_time(now) }
    }

    /// Asks to carry packets of `bytes` bytes together, at once: the same as [`Lifetime::admit`] for each of them, as long as there is nothing to tell. False,
    /// and nothing is counted, if one of them may reach a limit: then they are to be asked for one by one.
    #[inline]
    pub(crate) fn admit_run(&self, packets: u64, bytes: u64, now: Time) -> bool {
        let within = self.left(now).is_some_and(|(most_packets, most_bytes)| packets <= most_packets && bytes <= most_bytes);
        within && (!self.counted || self.admit_counted_run(packets, bytes))
    }

    #[inline(never)]
    fn admit_counted_run(&self, packets: u64, bytes: u64) -> bool {
        let (most_packets, most_bytes) = self.most();
        // Other lanes may have been quicker.
        take(&self.packets, packets, most_packets).is_some() && {
            let taken = take(&self.bytes, bytes, most_bytes).is_some();
            if !taken {
                self.packets.fetch_sub(packets, Ordering::Relaxed);
            }
            taken
        }
    }

    /// Counts packets that were carried, unless [`Lifetime::admit`] has counted them.
    #[inline]
    pub(crate) fn account(&self, packets: u64, bytes: u64) {
        if !self.counted {
            self.packets.fetch_add(packets, Ordering::Relaxed);
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// How many packets and bytes can be carried `now` before there is anything to tell; `None` if there is already. Together with [`Lifetime::carried`] the
    /// same as [`Lifetime::admit`] for each packet, as long as nobody else counts in between.
    #[inline]
    pub(crate) fn left(&self, now: Time) -> Option<(u64, u64)> {
        let told = self.soft_told.load(Ordering::Relaxed);
        if self.is_over() || now.as_nanos() >= self.hard_end || (now.as_nanos() >= self.soft_end && !told) {
            return None;
        }
        if !self.counted {
            return Some((u64::MAX, u64::MAX));
        }
        let (most_packets, most_bytes) = self.most();
        Some((most_packets.checked_sub(self.packets())?, most_bytes.checked_sub(self.bytes())?))
    }

    /// Most packets and bytes in all before there is anything to tell: the hard limit itself is within, the soft one is told of when it is reached.
    fn most(&self) -> (u64, u64) {
        let told = self.soft_told.load(Ordering::Relaxed);
        let within = |hard: Option<u64>, soft: Option<u64>| {
            let soft = soft.filter(|_| !told).map_or(u64::MAX, |limit| limit.saturating_sub(1));
            hard.unwrap_or(u64::MAX).min(soft)
        };
        (within(self.hard.packets, self.soft.packets), within(self.hard.bytes, self.soft.bytes))
    }

    /// Counts packets that were carried within what [`Lifetime::left`] said.
    #[inline]
    pub(crate) fn carried(&self, packets: u64, bytes: u64) {
        self.packets.fetch_add(packets, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes back what [`Lifetime::admit`] has counted of a packet that was not carried after all.
    pub(crate) fn release(&self, bytes: u64) {
        self.release_run(1, bytes);
    }

    /// The same of packets that [`Lifetime::admit_run`] has counted.
    pub(crate) fn release_run(&self, packets: u64, bytes: u64) {
        if self.counted {
            self.packets.fetch_sub(packets, Ordering::Relaxed);
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    fn admit_counted(&self, bytes: u64, now: Time) -> Life {
        let life = self.check_time(now);
        if matches!(life, Life::HardReached | Life::Over) {
            return life;
        }
        let Some(packets) = take(&self.packets, 1, self.hard.packets.unwrap_or(u64::MAX)) else { return self.end() };
        let Some(total) = take(&self.bytes, bytes, self.hard.bytes.unwrap_or(u64::MAX)) else {
            self.packets.fetch_sub(1, Ordering::Relaxed);
            return self.end();
        };
        let soft = self.soft.packets.is_some_and(|limit| packets >= limit) || self.soft.bytes.is_some_and(|limit| total >= limit);
        if soft && !self.soft_told.swap(true, Ordering::Relaxed) { Life::SoftReached } else { life }
    }

    /// Looks at the time limits alone.
    #[inline]
    pub(crate) fn check_time(&self, now: Time) -> Life {
        if self.is_over() {
            Life::Over
        } else if now.as_nanos() >= self.hard_end {
            self.end()
        } else if now.as_nanos() >= self.soft_end && !self.soft_told.swap(true, Ordering::Relaxed) {
            Life::SoftReached
        } else {
            Life::Good
        }
    }

    /// Ends the life, for a reason other than its limits (the sequence numbers are used up).
    pub(crate) fn end(&self) -> Life {
        if self.over.swap(true, Ordering::Relaxed) { Life::Over } else { Life::HardReached }
    }
}

/// Adds to a counter, unless that would be more than `most`: what is added and taken back again could end the life for another lane. Returns the sum.
fn take(counter: &AtomicU64, count: u64, most: u64) -> Option<u64> {
    let add = |before: u64| before.checked_add(count).filter(|&sum| sum <= most);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok().map(|before| before + count)
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_packet_limit_carries_exactly_that_many() {
        let soft = Limits { packets: Some(2), ..Limits::NONE };
        let hard = Limits { packets: Some(3), ..Limits::NONE };
        let lifetime = Lifetime::new(soft, hard, at(0));
        let lives: Vec<_> = (0..6).map(|_| lifetime.admit(100, at(1))).collect();
        assert_eq!(lives, [Life::Good, Life::SoftReached, Life::Good, Life::HardReached, Life::Over, Life::Over]);
        assert_eq!((lifetime.packets(), lifetime.bytes()), (3, 300));
    }

    #[test]
    fn a_byte_limit_is_not_passed() {
        let hard = Limits { bytes: Some(250), ..Limits::NONE };
        let lifetime = Lifetime::new(Limits::NONE, hard, at(0));
        assert_eq!(lifetime.admit(200, at(0)), Life::Good);
        assert_eq!(lifetime.admit(51, at(0)), Life::HardReached);
        assert_eq!(lifetime.admit(50, at(0)), Life::Over, "an ended life stays ended");
        assert_eq!(lifetime.bytes(), 200);
    }

    #[test]
    fn what_is_left_is_what_would_be_admitted_without_a_word() {
        let limits = |bytes, packets| Limits { bytes, packets, ..Limits::NONE };
        for (soft, hard) in [
            (Limits::NONE, Limits::NONE),
            (limits(None, Some(3)), limits(None, Some(5))),
            (limits(Some(250), None), limits(Some(420), None)),
            (limits(None, Some(1)), limits(None, Some(1))),
            (limits(None, Some(0)), Limits::NONE),
            (limits(Some(300), Some(4)), limits(Some(300), None)),
        ] {
            let (one, runs) = (Lifetime::new(soft, hard, at(0)), Lifetime::new(soft, hard, at(0)));
            for packet in 0..12 {
                let left = runs.left(at(1)).filter(|&(packets, bytes)| packets >= 1 && bytes >= 100);
                let life = one.admit(100, at(1));
                one.account(1, 100);
                assert_eq!(left.is_some(), life == Life::Good, "{soft:?} {hard:?} packet {packet}");
                if left.is_some() {
                    runs.carried(1, 100);
                } else {
                    assert_eq!(runs.admit(100, at(1)), life);
                }
                assert_eq!((one.packets(), one.is_over()), (runs.packets(), runs.is_over()));
            }
        }
    }

    #[test]
    fn nothing_is_left_when_its_time_has_come() {
        let limits = |seconds| Limits { time: Some(Duration::from_secs(seconds)), ..Limits::NONE };
        let lifetime = Lifetime::new(limits(10), limits(20), at(100));
        assert!(lifetime.left(at(109)).is_some());
        assert_eq!(lifetime.left(at(110)), None);
        assert_eq!(lifetime.check_time(at(110)), Life::SoftReached);
        assert!(lifetime.left(at(119)).is_some(), "it has been told");
        assert_eq!(lifetime.left(at(120)), None);
        assert_eq!(lifetime.check_time(at(120)), Life::HardReached);
        assert_eq!(lifetime.left(at(0)), None);
    }

    #[test]
    fn runs_are_admitted_where_each_of_their_packets_would_be_without_a_word() {
        let limits = |packets, bytes| Limits { bytes, packets, ..Limits::NONE };
        for (soft, hard) in [
            (Limits::NONE, Limits::NONE),
            (limits(Some(3), None), limits(Some(8), None)),
            (limits(None, Some(250)), limits(None, Some(820))),
            (limits(Some(1), None), limits(Some(1), None)),
            (limits(Some(0), None), Limits::NONE),
            (limits(Some(4), Some(300)), limits(None, Some(300))),
        ] {
            for run in 1..6 {
                let (one, runs) = (Lifetime::new(soft, hard, at(0)), Lifetime::new(soft, hard, at(0)));
                for round in 0..6 {
                    let lives: Vec<_> = (0..run).map(|_| one.admit(100, at(1))).collect();
                    let admitted = runs.admit_run(run, run * 100, at(1));
                    assert_eq!(admitted, lives.iter().all(|&life| life == Life::Good), "{soft:?} {hard:?} run {round} of {run}");
                    if !admitted {
                        assert_eq!((0..run).map(|_| runs.admit(100, at(1))).collect::<Vec<_>>(), lives);
                    }
                    assert_eq!((one.packets(), one.bytes(), one.is_over()), (runs.packets(), runs.bytes(), runs.is_over()));
                }
            }
        }
    }

    #[test]
    fn no_run_is_admitted_when_a_time_limit_is_to_be_told() {
        let limits = |seconds| Limits { time: Some(Duration::from_secs(seconds)), ..Limits::NONE };
        let lifetime = Lifetime::new(limits(10), limits(20), at(100));
        assert!(lifetime.admit_run(64, 64, at(109)));
        assert!(!lifetime.admit_run(64, 64, at(110)));
        assert_eq!(lifetime.admit(1, at(110)), Life::SoftReached);
        assert!(lifetime.admit_run(64, 64, at(119)), "it has been told");
        assert!(!lifetime.admit_run(64, 64, at(120)));
        assert_eq!(lifetime.admit(1, at(120)), Life::HardReached);
        assert!(!lifetime.admit_run(1, 1, at(0)));
    }

    #[test]
    fn time_ends_a_life_with_and_without_traffic() {
        let limits = |seconds| Limits { time: Some(Duration::from_secs(seconds)), ..Limits::NONE };
        let lifetime = Lifetime::new(limits(10), limits(20), at(100));
        assert_eq!(lifetime.check_time(at(109)), Life::Good);
        assert_eq!(lifetime.check_time(at(110)), Life::SoftReached);
        assert_eq!(lifetime.admit(1, at(119)), Life::Good);
        assert_eq!(lifetime.check_time(at(120)), Life::HardReached);
        assert_eq!(lifetime.admit(1, at(119)), Life::Over);
    }

    #[test]
    fn counts_go_beyond_32_bits() {
        let lifetime = Lifetime::new(Limits::NONE, Limits::NONE, at(0));
        lifetime.packets.store(u64::from(u32::MAX), Ordering::Relaxed);
        lifetime.account(2, 1 << 40);
        assert_eq!((lifetime.packets(), lifetime.bytes()), ((1 << 32) + 1, 1 << 40));
    }

    #[test]
    fn threads_share_one_limit() {
        let lifetime = Lifetime::new(Limits::NONE, Limits { packets: Some(1000), ..Limits::NONE }, at(0));
        let carried: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| (0..1000).filter(|_| lifetime.admit(1, at(0)) == Life::Good).count())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((carried, lifetime.packets()), (1000, 1000));
    }

    #[test]
    fn runs_that_find_no_room_end_no_life() {
        for limits in [Limits { packets: Some(1000), ..Limits::NONE }, Limits { bytes: Some(100_000), ..Limits::NONE }] {
            for _ in 0..20 {
                let lifetime = Lifetime::new(Limits::NONE, limits, at(0));
                let lane = || {
                    let mut carried = 0;
                    loop {
                        if lifetime.admit_run(7, 700, at(0)) {
                            carried += 7;
                        } else if lifetime.admit(100, at(0)) == Life::Good {
                            carried += 1;
                        } else {
                            break carried;
                        }
                    }
                };
                let carried: u64 = std::thread::scope(|scope| [0; 4].map(|_| scope.spawn(lane)).into_iter().map(|thread| thread.join().unwrap()).sum());
                assert_eq!((carried, lifetime.packets(), lifetime.bytes()), (1000, 1000, 100_000));
            }
        }
    }
}
