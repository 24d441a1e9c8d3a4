//! Limits of the large sends that are configured, as lanes read them: a word for each version and family, by nobody looked at but for a large send
//! (OV2-SEND-4, OV2-SEND-5).

use core::sync::atomic::{AtomicU64, Ordering};

use packet::{ETHERNET_HEADER_LEN, IpVersion, Medium};

use crate::large_send::LargeSend;
use crate::offload::{Encapsulation, LargeSendSet, Offload};

/// What large sends a configuration offers; changed by the control side, read by lanes, without a lock. The default offers none.
#[derive(Debug, Default)]
pub struct LargeSendLimits([AtomicU64; 3]);

/// Limits of one kind of large sends.
///
/// ```text
/// bits 0-31: most payload   32-51: fewest segments   above: flags
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LargeSendLimit(u64);

impl LargeSendLimits {
    /// Follows a configuration. `active`: whether offloads of a family, and with an encapsulation, are active (OV2-CAP-9).
    pub fn set(&self, current: &Offload, active: impl Fn(IpVersion, Encapsulation) -> bool) {
        let (v1, v2) = (current.lso_v1, current.lso_v2);
        // The ABI has no members for options in version 2 over IPv4: they go along.
        let v2_ipv4 = LargeSendSet { tcp_options: true, ip_options: true, ..v2.ipv4 };
        for (cell, (set, version)) in self.0.iter().zip([(v1, IpVersion::V4), (v2_ipv4, IpVersion::V4), (v2.ipv6, IpVersion::V6)]) {
            let limit = if set.is_supported() && active(version, set.encapsulation) { LargeSendLimit::of(&set) } else { LargeSendLimit(0) };
            cell.store(limit.0, Ordering::Relaxed);
        }
    }

    /// Limits of what is asked for; `None` if it is not offered.
    pub fn of(&self, request: LargeSend) -> Option<LargeSendLimit> {
        let [v1, v2_ipv4, v2_ipv6] = &self.0;
        let cell = match (request, request.version()) {
            (LargeSend::V1 { .. }, _) => v1,
            (_, IpVersion::V4) => v2_ipv4,
            (_, IpVersion::V6) => v2_ipv6,
        };
        let limit = LargeSendLimit(cell.load(Ordering::Relaxed));
        let udp = matches!(request, LargeSend::Udp { .. });
        (limit.has(LargeSendLimit::ON) && (!udp || limit.has(LargeSendLimit::UDP))).then_some(limit)
    }
}

impl LargeSendLimit {
    const FEWEST: u32 = 32;
    const FEWEST_MAX: u32 = (1 << 20) - 1;
    const ON: u64 = 1 << 52;
    const TCP_OPTIONS: u64 = 1 << 53;
    const IP_OPTIONS: u64 = 1 << 54;
    const UDP: u64 = 1 << 55;
    const BARE: u64 = 1 << 56;
    const UNTAGGED: u64 = 1 << 57;
    const TAGGED: u64 = 1 << 58;
    const TAG_OUT_OF_BAND: u64 = 1 << 59;

    fn of(set: &LargeSendSet) -> Self {
        let flags = [
            (true, Self::ON),
            (set.tcp_options, Self::TCP_OPTIONS),
            (set.ip_options, Self::IP_OPTIONS),
            (set.ext_udp, Self::UDP),
            (set.encapsulation.contains(Encapsulation::NULL), Self::BARE),
            (set.encapsulation.contains(Encapsulation::IEEE_802_3), Self::UNTAGGED),
            (set.encapsulation.contains(Encapsulation::IEEE_802_3_P_AND_Q), Self::TAGGED),
            (set.encapsulation.contains(Encapsulation::IEEE_802_3_P_AND_Q_IN_OOB), Self::TAG_OUT_OF_BAND),
        ];
        let word = u64::from(set.max_offload_size) | u64::from(set.min_segment_count.min(Self::FEWEST_MAX)) << Self::FEWEST;
        Self(flags.iter().filter(|(on, _)| *on).fold(word, |word, (_, bit)| word | bit))
    }

    const fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    /// Most bytes of payload.
    pub const fn most(self) -> usize {
        self.0 as u32 as usize
    }

    /// Fewest segments.
    pub const fn fewest(self) -> usize {
        (self.0 >> Self::FEWEST) as usize & Self::FEWEST_MAX as usize
    }

    /// Whether so many bytes of payload may be cut into so many segments.
    pub const fn admits(self, payload: usize, segments: usize) -> bool {
        payload <= self.most() && segments >= self.fewest()
    }

    /// Whether TCP options may be there.
    pub const fn tcp_options(self) -> bool {
        self.has(Self::TCP_OPTIONS)
    }

    /// Whether IPv4 options or IPv6 extension headers may be there.
    pub const fn ip_options(self) -> bool {
        self.has(Self::IP_OPTIONS)
    }

    /// Whether a tag that is out of band goes into every segment.
    pub const fn inserts_tags(self) -> bool {
        self.has(Self::TAG_OUT_OF_BAND)
    }

    /// Whether frames with a link header of `l3_offset` bytes are cut.
    pub const fn works_under(self, medium: Medium, l3_offset: usize) -> bool {
        match medium {
            Medium::Ip => self.has(Self::BARE),
            Medium::Ethernet if l3_offset == ETHERNET_HEADER_LEN => self.has(Self::UNTAGGED),
            Medium::Ethernet => self.has(Self::TAGGED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_hold_the_largest_numbers() {
        let set = LargeSendSet {
            encapsulation: Encapsulation::IEEE_802_3,
            max_offload_size: u32::MAX,
            min_segment_count: u32::MAX,
            tcp_options: true,
            ip_options: false,
            ext_udp: false,
        };
        let limit = LargeSendLimit::of(&set);
        assert_eq!((limit.most(), limit.fewest()), (u32::MAX as usize, LargeSendLimit::FEWEST_MAX as usize));
        assert!(limit.tcp_options() && !limit.ip_options() && !limit.has(LargeSendLimit::UDP));
        assert!(limit.works_under(Medium::Ethernet, 14) && !limit.works_under(Medium::Ethernet, 18) && !limit.works_under(Medium::Ip, 0));
        let limit = LargeSendLimit::of(&LargeSendSet { max_offload_size: 100, min_segment_count: 3, ..set });
        assert!(limit.admits(100, 3) && !limit.admits(101, 3) && !limit.admits(100, 2));
    }

    /// OV2-SEND-5: only what is configured and active is offered.
    #[test]
    fn each_kind_by_itself() {
        let set = LargeSendSet { encapsulation: Encapsulation::IEEE_802_3, max_offload_size: 9, ..LargeSendSet::default() };
        let requests = [
            LargeSend::V1 { mss: 1, header_offset: 1 },
            LargeSend::V2 { mss: 1, header_offset: 1, version: IpVersion::V4 },
            LargeSend::Udp { mss: 1, header_offset: 1, version: IpVersion::V4 },
            LargeSend::V2 { mss: 1, header_offset: 1, version: IpVersion::V6 },
            LargeSend::Udp { mss: 1, header_offset: 1, version: IpVersion::V6 },
        ];
        let limits = LargeSendLimits::default();
        let offered = || requests.map(|request| limits.of(request).is_some());
        assert_eq!(offered(), [false; 5]);
        let mut current = Offload { lso_v1: set, ..Offload::default() };
        limits.set(&current, |_, _| true);
        assert_eq!(offered(), [true, false, false, false, false]);
        current.lso_v2.ipv4 = LargeSendSet { ext_udp: true, ..set };
        current.lso_v2.ipv6 = set;
        limits.set(&current, |_, _| true);
        assert_eq!(offered(), [true, true, true, true, false]);
        limits.set(&current, |version, _| version == IpVersion::V6);
        assert_eq!(offered(), [false, false, false, true, false]);
        limits.set(&current, |_, encapsulation| encapsulation.contains(Encapsulation::NULL));
        assert_eq!(offered(), [false; 5]);
    }
}
