//! What a large list is checked against, and how it is laid out in trains (OV2-SEND-4, OV2-OOB-3). Nothing here changes a byte of the list.

use ipsec::{Provider, write_trailer};
use ndis::{LargeSend, LargeSendLimit, NetBufferList, Operation, OutOfBand};
use packet::{
    AhPacket, BufferPool, Cutter, EspPacket, FragmentState, IpProtocol, IpVersion, LengthRule, ParsedIp, Segments, TCP_HEADER_LEN, TRAIN_BYTES, TRAIN_PACKETS,
    Template, UDP_HEADER_LEN,
};
use sa_table::Handle;

use super::counters::SendFailure;
use super::large::{Large, Piece};
use super::portion::Position;
use super::sa::Sa;
use super::send::Sender;
use super::vlan;
use crate::link::announces_ip;

/// Where the headers of a large list are, in bytes from the start of the frame; the same in all segments.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Headers {
    /// The outermost IP header.
    pub(super) ip: usize,
    /// The UDP header that ESP is in.
    pub(super) udp: Option<usize>,
    pub(super) ah: Option<usize>,
    pub(super) esp: Option<usize>,
    /// Where ESP begins to encrypt.
    text: usize,
    /// What follows the last IPsec header.
    next_header: u8,
    /// Bytes at the end of the data that belong to no segment.
    padding: usize,
    /// Numbers in the template.
    ah_low: u32,
    esp_low: u32,
}

/// Lengths of what ESP puts behind a segment.
#[derive(Clone, Copy, Debug)]
struct Tail {
    alignment: usize,
    icv: usize,
}

impl Tail {
    /// That behind `text` bytes from where ESP begins to encrypt.
    const fn len(self, text: usize) -> usize {
        ipsec::padding_for(text, self.alignment) as usize + ipsec::TRAILER_LENGTH + self.icv
    }

    /// The longest.
    const fn most(self) -> usize {
        self.alignment + ipsec::TRAILER_LENGTH + self.icv
    }
}

impl<'a, P: Provider> Sender<'a, P> {
    /// Checks a large list, and lays its segments out in `pieces`, all but IV, ciphertext and ICVs. Its place is `index` in the chunk, which is at `base` in the
    /// batch.
    pub(super) fn cut(
        &self,
        list: &NetBufferList,
        index: usize,
        base: usize,
        pieces: &mut Vec<Piece>,
        pool: &mut BufferPool,
    ) -> Result<Large<'a, P>, SendFailure> {
        let (oob, ip) = (&list.oob, usize::from(list.l3_offset));
        let request = oob.large_send().ok().flatten().ok_or(SendFailure::LargeSend)?;
        // A large send has its checksums computed without being asked for it.
        if oob.checksum != 0 || !list.more.is_empty() {
            return Err(SendFailure::UnsupportedRequest);
        }
        let limit = self.limits.of(request).filter(|limit| limit.works_under(self.medium, ip)).ok_or(SendFailure::LargeSendOff)?;
        let sa = match Handle::from_bits(oob.ipsec_bits()) {
            None if oob.tunnel_bits() != 0 => return Err(SendFailure::TunnelHandle),
            None => None,
            Some(_) if !self.word.large_sends() => return Err(SendFailure::LargeSendOff),
            // Both portions of one packet: not offered.
            Some(_) if oob.tunnel_bits() != 0 => return Err(SendFailure::OutsideCapabilities),
            Some(handle) => Some(self.bundle(handle)?),
        };
        let tag = match oob.ieee8021q {
            0 => None,
            _ if !limit.inserts_tags() => return Err(SendFailure::UnsupportedRequest),
            _ => Some(self.tag_to_insert(list, sa.is_some())?),
        };
        let frame = list.buffer.as_slice();
        if !announces_ip(self.medium, frame, ip) {
            return Err(SendFailure::Malformed);
        }
        let parsed = frame.get(ip..).and_then(|packet| ParsedIp::parse_whole(packet).ok()).ok_or(SendFailure::Malformed)?;
        if parsed.fragment() != FragmentState::None {
            return Err(SendFailure::Fragment);
        }
        let upper = usize::from(request.header_offset());
        let headers = match sa {
            Some(sa) => self.large_headers(sa, oob, &parsed, ip, frame)?,
            None => Headers { ip, text: upper, next_header: parsed.protocol().0, ..Headers::default() },
        };
        let inner = self.inner(&headers, request, &parsed, upper, frame)?;
        let tail = sa.and_then(|sa| sa.transforms.esp()).map(|esp| Tail { alignment: esp.alignment(), icv: esp.icv_length() });
        let template = Template {
            inner,
            upper,
            secured: sa.is_some(),
            padding: headers.padding,
            tail: tail.map_or(0, Tail::most),
            lengths: if matches!(request, LargeSend::V1 { .. }) { LengthRule::True } else { LengthRule::Zero },
            short_identifications: !matches!(request, LargeSend::V1 { .. }),
            ..Template::new(frame, ip, request.segments(), request.mss())
        };
        let cutter = Cutter::new(&template).map_err(|_| SendFailure::LargeSend)?;
        check_limits(limit, &cutter, request, &parsed, inner, upper)?;
        // All of it is good: from here on numbers count as sent.
        let count = cutter.count();
        let first = |operation, low| match sa {
            Some(sa) => numbers(sa, operation, low, count).ok_or(SendFailure::Numbers),
            None => Ok(0),
        };
        let first_esp = if headers.esp.is_some() { first(Operation::Esp, headers.esp_low)? } else { 0 };
        let first_ah = if headers.ah.is_some() { first(Operation::Ah, headers.ah_low)? } else { 0 };
        let large = Large { index, sa, headers, tag, first_esp, first_ah, pieces: 0, segments: count, payload: cutter.payload_len() };
        lay_out(large, &cutter, tail, base, pieces, pool)
    }

    /// The headers of a bundle in the template: where they are, and that they are the bundle's and where out-of-band data says (OV2-OOB-3).
    fn large_headers(&self, sa: &Sa<P>, oob: &OutOfBand, parsed: &ParsedIp, ip: usize, frame: &[u8]) -> Result<Headers, SendFailure> {
        if parsed.has_options_or_extensions() && !self.word.extras(parsed.version()) {
            return Err(SendFailure::OutsideCapabilities);
        }
        let header = oob.header_transmit();
        let mut headers = Headers { ip, ..Headers::default() };
        let (mut at, mut protocol) = (ip + parsed.header_len(), parsed.protocol());
        let mut fits = sa.ipv6 == (parsed.version() == IpVersion::V6);
        if sa.in_udp(Position::Outer) {
            fits &= protocol == IpProtocol::UDP;
            headers.udp = Some(at);
            (at, protocol) = (at + UDP_HEADER_LEN, IpProtocol::ESP);
        }
        if let Some(transform) = sa.transforms.ah() {
            fits &= protocol == IpProtocol::AH;
            let view = frame.get(at..).and_then(|bytes| AhPacket::new(bytes).ok()).ok_or(SendFailure::Lengths)?;
            fits &= view.spi() == sa.spi(Operation::Ah) && transform.accepts_header_length(view.header_len());
            (headers.ah, headers.ah_low) = (Some(at), view.sequence());
            (at, protocol) = (at + view.header_len(), view.next_header());
        }
        headers.next_header = protocol.0;
        if let Some(transform) = sa.transforms.esp() {
            fits &= protocol == IpProtocol::ESP;
            let view = frame.get(at..).and_then(|bytes| EspPacket::new(bytes).ok()).ok_or(SendFailure::Lengths)?;
            fits &= view.spi() == sa.spi(Operation::Esp);
            (headers.esp, headers.esp_low) = (Some(at), view.sequence());
            (headers.next_header, headers.padding) = (header.next_header, header.pad_length.into());
            at += transform.prefix_length();
        }
        headers.text = at;
        let is_at = |units: u8, place: Option<usize>| place.map_or(0, |place| place - ip) == usize::from(units) * 4;
        if fits && is_at(header.ah_header_offset, headers.ah) && is_at(header.esp_header_offset, headers.esp) {
            Ok(headers)
        } else {
            Err(SendFailure::HeaderMismatch)
        }
    }

    /// Where the IP header inside of a tunnel is, if there is one; and whether what follows the IPsec headers is what is asked to be cut.
    fn inner(&self, headers: &Headers, request: LargeSend, parsed: &ParsedIp, upper: usize, frame: &[u8]) -> Result<Option<usize>, SendFailure> {
        let next_header = IpProtocol(headers.next_header);
        let inner = frame.get(headers.text).and_then(|&first| IpVersion::of_first_byte(first));
        let secured = headers.esp.or(headers.ah).is_some();
        if secured && matches!(next_header, IpProtocol::IPV4 | IpProtocol::IPV6) {
            if !self.word.large_tunnels() {
                return Err(SendFailure::LargeSendOff);
            }
            let good = inner.is_some_and(|inner| inner.protocol() == next_header && inner == request.version());
            return if good { Ok(Some(headers.text)) } else { Err(SendFailure::HeaderMismatch) };
        }
        let expected = match request.segments() {
            Segments::Tcp => IpProtocol::TCP,
            Segments::Udp => IpProtocol::UDP,
        };
        if next_header == expected && headers.text == upper && request.version() == parsed.version() { Ok(None) } else { Err(SendFailure::HeaderMismatch) }
    }
}

fn check_limits(
    limit: LargeSendLimit,
    cutter: &Cutter<'_>,
    request: LargeSend,
    parsed: &ParsedIp,
    inner: Option<usize>,
    upper: usize,
) -> Result<(), SendFailure> {
    // What stands between the fixed header and TCP inside of a tunnel is options or extension headers.
    let inner_options = inner.is_some_and(|inner| upper - inner != request.version().header_len());
    let tcp_options = request.segments() == Segments::Tcp && cutter.upper_len() != TCP_HEADER_LEN;
    if (parsed.has_options_or_extensions() || inner_options) && !limit.ip_options() || tcp_options && !limit.tcp_options() {
        return Err(SendFailure::OutsideCapabilities);
    }
    if limit.admits(cutter.payload_len(), cutter.count()) { Ok(()) } else { Err(SendFailure::LargeSendLimits) }
}

/// The 64-bit number of the first of `count` segments whose template has this low half; they count as sent (OV2-SEND-4: consecutive, carrying into the high
/// half). `None` if there are not so many left.
fn numbers<P: Provider>(sa: &Sa<P>, operation: Operation, low: u32, count: usize) -> Option<u64> {
    let first = sa.outbound_sequence(operation, low);
    let last = first.checked_add(count as u64 - 1)?;
    // Without extended numbers there is nothing to carry into.
    (sa.outbound_sequence(operation, last as u32) == last).then_some(first)
}

fn lay_out<'a, P: Provider>(
    mut large: Large<'a, P>,
    cutter: &Cutter<'_>,
    tail: Option<Tail>,
    base: usize,
    pieces: &mut Vec<Piece>,
    pool: &mut BufferPool,
) -> Result<Large<'a, P>, SendFailure> {
    let text = |number: usize| cutter.frame_len(number) - large.headers.text;
    let length = |number: usize| large.shift() + cutter.frame_len(number) + tail.map_or(0, |tail| tail.len(text(number)));
    let stride = length(0);
    let per_piece = (TRAIN_BYTES / stride).clamp(1, TRAIN_PACKETS);
    let before = pieces.len();
    let mut good = true;
    for first in (0..large.segments).step_by(per_piece) {
        let count = per_piece.min(large.segments - first);
        let mut buffer = pool.take((count - 1) * stride + length(first + count - 1));
        for (number, out) in (first..).zip(buffer.as_mut_slice().chunks_mut(stride)) {
            good &= out.get_mut(large.shift()..).and_then(|out| fill(&large, cutter, number, tail, out)).is_some();
            if let Some(tag) = large.tag {
                vlan::insert_into(out, tag);
            }
        }
        pieces.push(Piece { list: base + large.index, buffer, stride });
    }
    if !good {
        pieces.drain(before..).for_each(|piece| pool.give(piece.buffer));
        return Err(SendFailure::LargeSend);
    }
    large.pieces = pieces.len() - before;
    Ok(large)
}

/// Writes a segment, without the tag: everything but IV, ciphertext and ICVs. `None` if `out` is not as long as it.
fn fill<P: Provider>(large: &Large<'_, P>, cutter: &Cutter<'_>, number: usize, tail: Option<Tail>, out: &mut [u8]) -> Option<()> {
    let (headers, end) = (&large.headers, out.len());
    cutter.write(number, out).then_some(())?;
    if let Some(udp) = headers.udp {
        let length = (end - udp) as u16;
        out.get_mut(udp + 4..udp + 6)?.copy_from_slice(&length.to_be_bytes());
    }
    for (header, field, first) in [(headers.ah, 8, large.first_ah), (headers.esp, 4, large.first_esp)] {
        if let Some(at) = header {
            let low = first.wrapping_add(number as u64) as u32;
            out.get_mut(at + field..at + field + 4)?.copy_from_slice(&low.to_be_bytes());
        }
    }
    if let Some(tail) = tail {
        let text = out.get_mut(headers.text..end.checked_sub(tail.icv)?)?;
        write_trailer(text, cutter.frame_len(number) - headers.text, headers.next_header).ok()?;
    }
    Some(())
}
