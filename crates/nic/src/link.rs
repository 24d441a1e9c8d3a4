//! Where IP begins in a frame.

use packet::{ETHERNET_HEADER_LEN, EthernetFrame, EthernetKind, IpVersion, Medium};

/// Where what the link header announces begins, in bytes: for [`NetBufferList::l3_offset`](ndis::NetBufferList). A frame without a readable header
/// is taken to have one of the usual length.
#[inline]
pub fn ip_offset(medium: Medium, frame: &[u8]) -> u16 {
    match medium {
        Medium::Ip => 0,
        Medium::Ethernet => EthernetFrame::new(frame).map_or_else(|_| ETHERNET_HEADER_LEN.min(frame.len()), |frame| frame.l3_offset()) as u16,
    }
}

/// Whether the frame's link header announces IP at `offset`, in an encapsulation that an engine does (OV2-CAP-2): none, or Ethernet II with tags in
/// the data.
#[inline]
pub(crate) fn announces_ip(medium: Medium, frame: &[u8], offset: usize) -> bool {
    match medium {
        Medium::Ip => offset == 0,
        Medium::Ethernet => EthernetFrame::new(frame).is_ok_and(|frame| {
            frame.l3_offset() == offset && matches!(frame.kind(), EthernetKind::Type(ethertype) if ethertype.ip_version() == version(frame.payload()))
        }),
    }
}

fn version(packet: &[u8]) -> Option<IpVersion> {
    packet.first().and_then(|&byte| IpVersion::of_first_byte(byte))
}
