//! The array `NetBufferListInfo` of a net buffer list: 27 slots of pointer width (OV2-OOB-1 to OV2-OOB-4).

use ndis_abi::{NDIS_NET_BUFFER_LIST_INFO, NET_BUFFER_LIST, PVOID};

use crate::oob::OutOfBand;

/// Number of slots.
pub const SLOTS: usize = slots_of(|list| &list.NetBufferListInfo);

/// The array.
pub type Slots = [u64; SLOTS];

const fn slots_of<const N: usize>(_array: fn(&NET_BUFFER_LIST) -> &[PVOID; N]) -> usize {
    N
}

const IPSEC: usize = NDIS_NET_BUFFER_LIST_INFO::IPsecOffloadV2NetBufferListInfo.0 as usize;
const TUNNEL: usize = NDIS_NET_BUFFER_LIST_INFO::IPsecOffloadV2TunnelNetBufferListInfo.0 as usize;
const HEADER: usize = NDIS_NET_BUFFER_LIST_INFO::IPsecOffloadV2HeaderNetBufferListInfo.0 as usize;
const LARGE_SEND: usize = NDIS_NET_BUFFER_LIST_INFO::TcpLargeSendNetBufferListInfo.0 as usize;
const CHECKSUM: usize = NDIS_NET_BUFFER_LIST_INFO::TcpIpChecksumNetBufferListInfo.0 as usize;
const UDP_SEGMENTATION: usize = NDIS_NET_BUFFER_LIST_INFO::UdpSegmentationOffloadInfo.0 as usize;
const IEEE8021Q: usize = NDIS_NET_BUFFER_LIST_INFO::Ieee8021QNetBufferListInfo.0 as usize;

/// Reads the slots that concern offloads; of those that hold a word, the low 32 bits.
pub fn decode(slots: &Slots) -> OutOfBand {
    let mut oob = OutOfBand::default();
    oob.set_bits(slots[IPSEC], slots[TUNNEL], slots[HEADER] as u32);
    oob.large_send = slots[LARGE_SEND] as u32;
    oob.checksum = slots[CHECKSUM] as u32;
    oob.ieee8021q = slots[IEEE8021Q] as u32;
    oob.udp_segmentation = slots[UDP_SEGMENTATION] as u32;
    oob
}

/// Writes the slots that concern offloads; the others stay as they are.
pub fn encode(oob: &OutOfBand, slots: &mut Slots) {
    slots[IPSEC] = oob.ipsec_bits();
    slots[TUNNEL] = oob.tunnel_bits();
    slots[HEADER] = u64::from(oob.header_bits());
    slots[LARGE_SEND] = u64::from(oob.large_send);
    slots[CHECKSUM] = u64::from(oob.checksum);
    slots[IEEE8021Q] = u64::from(oob.ieee8021q);
    slots[UDP_SEGMENTATION] = u64::from(oob.udp_segmentation);
}
