//! Taking protection off again: headers and trailer go, lengths and checksums become those of what is left.

use packet::checksum::{self, ChecksumVerdict};
use packet::{Buffer, IpProtocol, ParsedIp};

use crate::framing::{move_link_header, set_ethertype, set_total};

/// What is left of a received packet when headers are taken out, in bytes from the start of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    /// Where the headers that go begin.
    pub(crate) from: usize,
    /// Where the payload begins.
    pub(crate) start: usize,
    /// Its length, without padding.
    pub(crate) length: usize,
    pub(crate) next_header: u8,
}

/// Takes headers out behind an IP header: that, with its options or extension headers, moves up to the payload.
///
/// `pointer`: offset from the start of the IP header of the byte that names the first header which goes.
pub(crate) fn strip_transport(buffer: &mut Buffer, l3: usize, pointer: usize, payload: Payload) {
    let removed = payload.start - payload.from;
    buffer.truncate(payload.start + payload.length);
    let bytes = buffer.as_mut_slice();
    bytes.copy_within(..payload.from, removed);
    buffer.trim_front(removed);
    let bytes = &mut buffer.as_mut_slice()[l3..];
    bytes[pointer] = payload.next_header;
    let total = bytes.len();
    set_total(bytes, payload.from - l3, total);
}

/// Takes a tunnel's headers off: the link header moves up to the inner packet and names its version. The inner packet keeps `length` bytes.
#[inline(always)]
pub(crate) fn strip_tunnel(buffer: &mut Buffer, l3: usize, start: usize, length: usize, v4: bool) {
    let removed = start - l3;
    if l3 != 0 {
        let bytes = &mut buffer.as_mut_slice()[..start];
        move_link_header(bytes, 0, removed, l3);
        set_ethertype(bytes, start, v4);
    }
    // It lies within what there was.
    let _ = buffer.reset(buffer.headroom() + removed, l3 + length);
}

/// Makes the checksum of a TCP or UDP segment that came in transport mode through a NAT fit the addresses that it has now (RFC 3948 section 3.1.2). The
/// packet is authentic, so a checksum that does not fit can only be the NAT's doing; UDP without one stays without.
pub(crate) fn fit_checksum(ip: &mut [u8], parsed: &ParsedIp) {
    let (source, destination, protocol) = (parsed.src(), parsed.dst(), parsed.protocol());
    if parsed.fragment().is_part() || !matches!(protocol, IpProtocol::TCP | IpProtocol::UDP) {
        return;
    }
    let Some(segment) = ip.get_mut(parsed.header_len()..parsed.total_len()) else { return };
    if checksum::verify_segment(source, destination, protocol, segment) == Ok(Some(ChecksumVerdict::Bad)) {
        // It was read just now, so it can be filled in.
        let _ = checksum::fill_segment(source, destination, protocol, segment);
    }
}
