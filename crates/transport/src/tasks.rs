//! Checksums and tags that go along with packets: what the adapter takes of them beside IPsec, and what the transport does itself (OV2-SEND-9, OV2-CAP-4,
//! OV2-OOB-4).
//!
//! A frame that is handed in may have a checksum that is only seeded ([`ChecksumState::Partial`]). The NIC computes it where the configuration has it for such
//! packets, and, of those that it protects, where both may be combined; otherwise it is computed here, before anything is sealed. A tag that the adapter takes
//! out of band alone is taken out of the frame, and put back into those that come in.

use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};

use ndis::{ChecksumReport, ChecksumRequest, Encapsulation, NetBufferList, Offload, OffloadFlags, PackedChecksumSet, TagOutOfBand};
use packet::{BufferPool, ChecksumState, ETHERNET_HEADER_LEN, IpProtocol, IpVersion, Medium, ParsedIp, TCP_HEADER_LEN, VLAN_TAG_LEN, checksum};

use crate::mark::Mark;
use crate::traffic_flow::make_room;

/// What the adapter does of checksums of packets that are sent, and of tags, in one word that lanes read.
#[derive(Debug, Default)]
pub(crate) struct TaskCapabilities(AtomicU32);

/// A word of it.
///
/// ```text
/// bits 0-8, 9-17: sent IPv4, IPv6   18, 19: with IPsec, TCP and UDP   20: tags go out of band
/// ```
#[derive(Clone, Copy)]
struct Word(u32);

impl Word {
    const TCP_WITH_IPSEC: u32 = 1 << 18;
    const UDP_WITH_IPSEC: u32 = 1 << 19;
    const TAKE_TAGS_OUT: u32 = 1 << 20;

    const fn shift(version: IpVersion) -> u32 {
        match version {
            IpVersion::V4 => 0,
            IpVersion::V6 => PackedChecksumSet::BITS,
        }
    }

    const fn set(self, version: IpVersion) -> PackedChecksumSet {
        PackedChecksumSet::from_bits((self.0 >> Self::shift(version)) as u16)
    }

    const fn has(self, bit: u32) -> bool {
        self.0 & bit != 0
    }
}

/// Tags out of band.
const APART: Encapsulation = Encapsulation::IEEE_802_3_P_AND_Q_IN_OOB;

/// The encapsulations of all that is configured.
fn services(config: &Offload) -> impl Iterator<Item = Encapsulation> {
    let Offload { checksum, lso_v1, lso_v2, ipsec_v2, .. } = config;
    let sets = [checksum.ipv4_transmit, checksum.ipv4_receive, checksum.ipv6_transmit, checksum.ipv6_receive].map(|set| set.encapsulation);
    sets.into_iter().chain([lso_v1.encapsulation, lso_v2.ipv4.encapsulation, lso_v2.ipv6.encapsulation, ipsec_v2.encapsulation])
}

/// The encapsulation to activate for frames of `medium` under a configuration: with tags out of band where the adapter protects no frames with tags in the
/// data, and does so with tags apart.
pub(crate) fn encapsulation(medium: Medium, config: &Offload) -> Encapsulation {
    match medium {
        Medium::Ip => Encapsulation::NULL,
        Medium::Ethernet => {
            let offered = config.ipsec_v2.encapsulation;
            let apart = offered.contains(Encapsulation::IEEE_802_3 | APART) && !offered.contains(Encapsulation::IEEE_802_3_P_AND_Q);
            Encapsulation::IEEE_802_3 | if apart { APART } else { Encapsulation::empty() }
        }
    }
}

impl TaskCapabilities {
    /// A new configuration; `active`: what is activated, empty if nothing is.
    pub(crate) fn set(&self, config: &Offload, active: Encapsulation) {
        let mut bits = 0;
        for (version, set) in [(IpVersion::V4, &config.checksum.ipv4_transmit), (IpVersion::V6, &config.checksum.ipv6_transmit)] {
            // What does not work under what was activated is not active (OV2-CAP-9).
            if !active.is_empty() && set.encapsulation.contains(active) {
                bits |= u32::from(PackedChecksumSet::of(set).to_bits()) << Word::shift(version);
            }
        }
        for (on, bit) in [
            (config.flags.contains(OffloadFlags::IPSEC_V2_AND_TCP_CHECKSUM_COEXISTENCE), Word::TCP_WITH_IPSEC),
            (config.flags.contains(OffloadFlags::IPSEC_V2_AND_UDP_CHECKSUM_COEXISTENCE), Word::UDP_WITH_IPSEC),
            (active.contains(APART) && services(config).any(|encapsulation| encapsulation.contains(APART)), Word::TAKE_TAGS_OUT),
        ] {
            bits |= if on { bit } else { 0 };
        }
        self.0.store(bits, Ordering::Relaxed);
    }

    fn word(&self) -> Word {
        Word(self.0.load(Ordering::Relaxed))
    }

    /// Whether tags are taken out of frames.
    #[inline]
    pub(crate) fn takes_tags_out(&self) -> bool {
        self.word().has(Word::TAKE_TAGS_OUT)
    }

    /// Whether the NIC computes the checksum of the segment that a packet carries, which is sent as it is, or protected by the NIC.
    pub(crate) fn computes(&self, medium: Medium, nbl: &NetBufferList, parsed: &ParsedIp, protected: bool) -> bool {
        let (word, protocol, l3) = (self.word(), parsed.protocol(), usize::from(nbl.l3_offset));
        let set = word.set(parsed.version());
        let tcp = protocol == IpProtocol::TCP;
        let header = nbl.buffer.as_slice().get(l3 + parsed.header_len() + 12).map_or(0, |&byte| usize::from(byte >> 4) * 4);
        let with_ipsec = if tcp { Word::TCP_WITH_IPSEC } else { Word::UDP_WITH_IPSEC };
        set.segment(protocol, tcp && header != TCP_HEADER_LEN, parsed.has_options_or_extensions())
            && set.takes(medium, l3, nbl.oob.tag().is_some())
            && (!protected || word.has(with_ipsec))
    }
}

/// Takes the tag of a frame out of it, where that is its only one; where its IP header begins moves.
pub(crate) fn take_tag_out(nbl: &mut NetBufferList, l3: usize) -> usize {
    if l3 != ETHERNET_HEADER_LEN + VLAN_TAG_LEN {
        return l3;
    }
    match packet::strip_tag(&mut nbl.buffer).and_then(TagOutOfBand::new) {
        Some(tag) => {
            nbl.oob.set_tag(Some(tag));
            ETHERNET_HEADER_LEN
        }
        None => l3,
    }
}

/// Puts the tag of a list back into its frame; whether there was room.
pub(crate) fn put_tag_back(nbl: &mut NetBufferList, pool: &mut BufferPool) -> bool {
    let Some(tag) = nbl.oob.tag() else { return true };
    if nbl.buffer.headroom() < VLAN_TAG_LEN {
        make_room(pool, &mut nbl.buffer, 0);
    }
    let put = packet::insert_tag(&mut nbl.buffer, tag.tci()).is_ok();
    if put {
        nbl.oob.set_tag(None);
        nbl.l3_offset += VLAN_TAG_LEN as u16;
    }
    put
}

/// Finds the segment of a packet whose checksum is only seeded: notes in the list where it is, and returns the length of the headers in front of it. `None`: it
/// has no such segment.
pub(crate) fn place_sum(nbl: &mut NetBufferList, parsed: &ParsedIp) -> Option<u16> {
    let (tcp, udp) = (parsed.protocol() == IpProtocol::TCP, parsed.protocol() == IpProtocol::UDP);
    let shortest = if tcp { TCP_HEADER_LEN } else { packet::UDP_HEADER_LEN };
    if !(tcp || udp) || parsed.fragment().is_part() || parsed.payload_len() < shortest {
        return None;
    }
    let headers = parsed.header_len() as u16;
    let at = nbl.l3_offset + headers;
    if at > ChecksumRequest::MAX_OFFSET {
        // Nobody can be told.
        nbl.oob.checksum = 0;
        let segment = usize::from(at)..usize::from(nbl.l3_offset) + parsed.total_len();
        return finish(nbl, parsed.protocol(), segment).then_some(0);
    }
    nbl.oob.set_checksum_request(Some(ChecksumRequest { version: parsed.version(), ip_header: false, tcp, udp, tcp_header_offset: at }));
    Some(headers)
}

/// Computes the checksum that a list asks for, in clear text, `moved` bytes behind where it says. `mark` is the list's. Whether that went well; the list then
/// asks for none.
pub(crate) fn finish_sum(nbl: &mut NetBufferList, mark: Mark, moved: usize) -> bool {
    let request = nbl.oob.checksum_request();
    nbl.oob.checksum = 0;
    match request {
        Ok(None) => true,
        Ok(Some(request)) => {
            let at = usize::from(request.tcp_header_offset) + moved;
            let length = (mark.length as usize).saturating_sub(usize::from(mark.headers));
            finish(nbl, if request.tcp { IpProtocol::TCP } else { IpProtocol::UDP }, at..at + length)
        }
        Err(_) => false,
    }
}

fn finish(nbl: &mut NetBufferList, protocol: IpProtocol, segment: Range<usize>) -> bool {
    nbl.buffer.as_mut_slice().get_mut(segment).is_some_and(|segment| checksum::finish_segment(protocol, segment).is_ok())
}

/// Headers of `moved` bytes were put in front of a list's segment, and the outermost is now of that version. False if that can no longer be told.
pub(crate) fn move_sum(nbl: &mut NetBufferList, moved: usize, version: IpVersion) -> bool {
    let Ok(Some(request)) = nbl.oob.checksum_request() else { return true };
    let at = usize::from(request.tcp_header_offset) + moved;
    let Some(at) = u16::try_from(at).ok().filter(|&at| at <= ChecksumRequest::MAX_OFFSET) else { return false };
    nbl.oob.set_checksum_request(Some(ChecksumRequest { version, tcp_header_offset: at, ..request }));
    true
}

/// What the next reader of a received packet need not look at again: the NIC has verified the checksum of what all its headers were taken off from.
#[inline]
pub(crate) fn state(report: ChecksumReport) -> ChecksumState {
    if report.is_verified() { ChecksumState::Verified } else { ChecksumState::Unknown }
}
