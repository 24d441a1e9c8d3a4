//! What a frame to be sent is checked against: its SA bundles, out-of-band data, and lengths (OV2-OOB-3, OV2-SEND-8). Nothing here changes a byte.

use core::ops::Range;

use ipsec::{EspSa, Provider, Trailer, read_trailer};
use ndis::{HeaderTransmit, NetBufferList, Operation};
use packet::{AhPacket, EspPacket, IpProtocol, IpVersion, Ipv4Packet};

use super::counters::SendFailure;
use super::portion::{IpsecHeader, Portion, Position};
use super::sa::Sa;
use super::send::{Bundles, Layers, Sender};
use super::v1;
use crate::link::announces_ip;

/// What one bundle does to one frame. Offsets are in bytes from the start of the frame.
pub(super) struct Layer<'a, P: Provider> {
    pub(super) sa: &'a Sa<P>,
    /// The bundle's IP packet.
    pub(super) ip: Range<usize>,
    /// Where its AH is, if it has one.
    pub(super) ah: Option<usize>,
    /// Its ESP packet, if it has one.
    pub(super) esp: Option<Range<usize>>,
}

/// What a bundle protects in a frame.
struct Protected {
    /// Protocol of what follows its last header.
    next_header: u8,
    /// Bytes of ESP padding; 0 without ESP.
    pad_length: u8,
    /// Where what follows is, without ESP padding and trailer.
    payload: Range<usize>,
}

/// Checks a frame under ESP alone, and returns where its ESP packet is.
#[inline]
pub(super) fn check_esp_frame<P: Provider>(
    sender: &Sender<'_, P>,
    sa: &Sa<P>,
    header: HeaderTransmit,
    l3_offset: usize,
    frame: &[u8],
) -> Result<Range<usize>, SendFailure> {
    let (packet, portion) = sender.outer(sa, l3_offset, frame)?;
    let ipsec = sender.ipsec_header(sa, &portion, Position::Outer)?;
    if usize::from(header.esp_header_offset) * 4 != ipsec.offset() || header.ah_header_offset != 0 {
        return Err(SendFailure::HeaderMismatch);
    }
    let transform = sa.transforms.esp().ok_or(SendFailure::HeaderMismatch)?;
    let (_, trailer) = check_esp(sa, transform, packet.get(ipsec.offset()..).ok_or(SendFailure::Malformed)?)?;
    if (trailer.next_header, trailer.pad_length) != (header.next_header, header.pad_length) {
        return Err(SendFailure::TrailerMismatch);
    }
    Ok(l3_offset + ipsec.offset()..frame.len())
}

/// Checks an ESP packet that is to be sealed; returns where its payload is, and its trailer.
#[inline(always)]
fn check_esp<P: Provider>(sa: &Sa<P>, transform: &EspSa<P>, esp: &[u8]) -> Result<(Range<usize>, Trailer), SendFailure> {
    let view = EspPacket::new(esp).map_err(|_| SendFailure::Lengths)?;
    if view.spi() != sa.spi(Operation::Esp) {
        return Err(SendFailure::HeaderMismatch);
    }
    let range = transform.text(esp.len()).map_err(|_| SendFailure::Lengths)?;
    let text = esp.get(range.clone()).ok_or(SendFailure::Lengths)?;
    if text.len() % transform.alignment() != 0 {
        return Err(SendFailure::Lengths);
    }
    let (length, trailer) = read_trailer(text).map_err(|_| SendFailure::Lengths)?;
    Ok((range.start..range.start + length, trailer))
}

impl<'a, P: Provider> Sender<'a, P> {
    /// The packet of a frame, and what it looks like to a bundle.
    #[inline(always)]
    fn outer<'f>(&self, sa: &Sa<P>, l3_offset: usize, frame: &'f [u8]) -> Result<(&'f [u8], Portion), SendFailure> {
        if !announces_ip(self.medium, frame, l3_offset) {
            return Err(SendFailure::Malformed);
        }
        if !self.word.takes_link(l3_offset) {
            return Err(SendFailure::OutsideCapabilities);
        }
        let packet = frame.get(l3_offset..).ok_or(SendFailure::Malformed)?;
        let portion = Portion::parse(packet, |_| sa.in_udp(Position::Outer)).ok_or(SendFailure::Malformed)?;
        // The frame has its final length (OV2-SEND-8): what stood behind the packet would leave in clear.
        if portion.total_len() == packet.len() { Ok((packet, portion)) } else { Err(SendFailure::Lengths) }
    }

    /// The header that the bundle's packets begin with, where that portion has it.
    #[inline(always)]
    fn ipsec_header(&self, sa: &Sa<P>, portion: &Portion, position: Position) -> Result<IpsecHeader, SendFailure> {
        if portion.fragment() {
            return Err(SendFailure::Fragment);
        }
        if portion.extras() && !self.word.extras(portion.version()) {
            return Err(SendFailure::OutsideCapabilities);
        }
        let version_fits = sa.ipv6 == (portion.version() == IpVersion::V6);
        let ipsec = portion.ipsec.filter(|ipsec| version_fits && ipsec.operation() == sa.operation()).ok_or(SendFailure::HeaderMismatch)?;
        if ipsec.udp_port().is_some() != sa.in_udp(position) {
            return Err(SendFailure::HeaderMismatch);
        }
        // The datagram has its final length, too.
        if ipsec.end() == portion.total_len() { Ok(ipsec) } else { Err(SendFailure::Lengths) }
    }

    /// What is to be done with a frame, after all checks.
    pub(super) fn layers(&self, bundles: &Bundles<'a, P>, list: &NetBufferList, frame: &[u8], masked: &mut Vec<u8>) -> Result<Layers<'a, P>, SendFailure> {
        let (header, l3_offset) = (list.oob.header_transmit(), usize::from(list.l3_offset));
        let mut layers = Layers::new();
        let Some(tunnel) = bundles.tunnel else {
            let (_, portion) = self.outer(bundles.first, l3_offset, frame)?;
            let (layer, protected) = self.layer(bundles.first, &portion, l3_offset, Position::Outer, frame, masked)?;
            if bundles.first.is_v1 {
                check_scope(&layer, &protected, frame)?;
            } else {
                check_offsets(&layer, &protected, header, l3_offset)?;
            }
            layers.push(layer);
            return Ok(layers);
        };
        let (_, portion) = self.outer(tunnel, l3_offset, frame)?;
        let (outer, protected) = self.layer(tunnel, &portion, l3_offset, Position::Outer, frame, masked)?;
        // What the tunnel carries is found by parsing (OV2-OOB-3).
        let inside = frame.get(protected.payload.clone()).ok_or(SendFailure::Lengths)?;
        let portion = Portion::parse(inside, |_| bundles.first.in_udp(Position::Inner)).ok_or(SendFailure::Malformed)?;
        if IpProtocol(protected.next_header) != portion.version().protocol() {
            return Err(SendFailure::HeaderMismatch);
        }
        // Only ESP can hide how long the packet in it is (RFC 4303 section 2.7).
        if portion.total_len() != inside.len() && outer.esp.is_none() {
            return Err(SendFailure::Lengths);
        }
        // No UDP over UDP (OV2-RECV-7).
        if tunnel.in_udp(Position::Outer) && bundles.first.in_udp(Position::Inner) {
            return Err(SendFailure::HeaderMismatch);
        }
        let (inner, protected) = self.layer(bundles.first, &portion, protected.payload.start, Position::Inner, frame, masked)?;
        check_offsets(&inner, &protected, header, l3_offset)?;
        layers.extend([inner, outer]);
        Ok(layers)
    }

    /// Checks the headers of one bundle in the portion that begins at `ip` of the frame.
    fn layer(
        &self,
        sa: &'a Sa<P>,
        portion: &Portion,
        ip: usize,
        position: Position,
        frame: &[u8],
        masked: &mut Vec<u8>,
    ) -> Result<(Layer<'a, P>, Protected), SendFailure> {
        let first = self.ipsec_header(sa, portion, position)?;
        let packet = frame.get(ip..ip + portion.total_len()).ok_or(SendFailure::Malformed)?;
        let (mut at, mut ah) = (first.offset(), None);
        let mut next_header = IpProtocol::ESP;
        if let Some(transform) = sa.transforms.ah() {
            let view = packet.get(at..).and_then(|bytes| AhPacket::new(bytes).ok()).ok_or(SendFailure::Lengths)?;
            if view.spi() != sa.spi(Operation::Ah) {
                return Err(SendFailure::HeaderMismatch);
            }
            if !transform.accepts_header_length(view.header_len()) {
                return Err(SendFailure::Lengths);
            }
            // Whether all headers can be authenticated is seen by making them ready; the number's high half does not matter for that.
            transform.prepare_open(packet, at, u64::from(view.sequence()), masked).map_err(|_| SendFailure::Malformed)?;
            masked.clear();
            ah = Some(ip + at);
            at += view.header_len();
            next_header = view.next_header();
        }
        let Some(transform) = sa.transforms.esp() else {
            let protected = Protected { next_header: next_header.0, pad_length: 0, payload: ip + at..ip + packet.len() };
            return Ok((Layer { sa, ip: ip..ip + packet.len(), ah, esp: None }, protected));
        };
        if next_header != IpProtocol::ESP {
            return Err(SendFailure::HeaderMismatch);
        }
        let (payload, trailer) = check_esp(sa, transform, packet.get(at..).ok_or(SendFailure::Lengths)?)?;
        let start = ip + at;
        let protected = Protected { next_header: trailer.next_header, pad_length: trailer.pad_length, payload: start + payload.start..start + payload.end };
        Ok((Layer { sa, ip: ip..ip + packet.len(), ah, esp: Some(start..ip + packet.len()) }, protected))
    }
}

/// Whether a bundle of IPsecOV1 is for this packet (OV1-2).
#[cold]
fn check_scope<P: Provider>(layer: &Layer<'_, P>, protected: &Protected, frame: &[u8]) -> Result<(), SendFailure> {
    let packet = frame.get(layer.ip.clone()).and_then(|packet| Ipv4Packet::new(packet).ok()).ok_or(SendFailure::Malformed)?;
    let payload = frame.get(protected.payload.clone()).ok_or(SendFailure::Lengths)?;
    let fits = v1::admits(layer.sa, packet.src().into(), Some(packet.dst())) && v1::carries(layer.sa, IpProtocol(protected.next_header), payload);
    if fits { Ok(()) } else { Err(SendFailure::OutsideFilter) }
}

/// Compares the headers of the first slot's bundle with what the out-of-band data says of them (OV2-OOB-3).
fn check_offsets<P: Provider>(layer: &Layer<'_, P>, protected: &Protected, header: HeaderTransmit, l3_offset: usize) -> Result<(), SendFailure> {
    let is_at = |units: u8, place: Option<usize>| match place {
        Some(place) => l3_offset + usize::from(units) * 4 == place,
        None => units == 0,
    };
    if !is_at(header.ah_header_offset, layer.ah) || !is_at(header.esp_header_offset, layer.esp.as_ref().map(|esp| esp.start)) {
        return Err(SendFailure::HeaderMismatch);
    }
    // Next header and padding are those of ESP.
    if layer.esp.is_some() && (protected.next_header, protected.pad_length) != (header.next_header, header.pad_length) {
        return Err(SendFailure::TrailerMismatch);
    }
    Ok(())
}
