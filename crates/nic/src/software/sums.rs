//! Checksums: computed before encryption on send, verified after decryption on receive, where they are configured and may be combined with IPsec (OV2-SEND-9,
//! OV2-CAP-4). Whoever asks has put the sum over the pseudo-header into the field, so what is summed is the segment as it stands.

use core::ops::Range;

use ipsec::Provider;
use ndis::{ChecksumReport, ChecksumRequest, CryptoStatus, NetBufferList, TagOutOfBand};
use packet::{ChecksumVerdict, IPV4_HEADER_LEN, IPV4_MAX_HEADER_LEN, IpProtocol, IpVersion, Medium, checksum};

use super::counters::SendFailure;
use super::lookup::Hit;
use super::portion::{Portion, Position};
use super::receive::Receiver;
use super::sa::Sa;
use super::send::{Bundles, Sender};
use super::services::Way;
use super::upper::{self, Upper};

/// What is to be computed in a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sums {
    /// The outermost IPv4 header.
    ip_header: Option<Range<usize>>,
    segment: Option<(IpProtocol, Range<usize>)>,
}

impl<P: Provider> Sender<'_, P> {
    /// Checks what a list asks for beyond IPsec, which is checked already, and changes nothing. `bundles`: those whose headers its packets have.
    ///
    /// # Errors
    /// [`SendFailure`]: it asks for what is not offered, or what cannot be done.
    pub(super) fn check_tasks(&self, list: &NetBufferList, bundles: Option<&Bundles<'_, P>>) -> Result<(), SendFailure> {
        if list.oob.ieee8021q != 0 {
            self.check_tag(list, bundles.is_some())?;
        }
        let request = list.oob.checksum_request().map_err(|_| SendFailure::Malformed)?;
        if let Some(request) = request {
            for buffer in list.buffers() {
                self.sums(list, request, bundles, buffer.as_slice())?;
            }
        }
        Ok(())
    }

    fn check_tag(&self, list: &NetBufferList, protected: bool) -> Result<(), SendFailure> {
        self.tag_to_insert(list, protected)?;
        let room = list.buffers().all(|buffer| buffer.headroom() >= packet::VLAN_TAG_LEN && buffer.len() >= packet::ETHERNET_HEADER_LEN);
        if room { Ok(()) } else { Err(SendFailure::Lengths) }
    }

    /// The tag that a list asks to have put into its frames.
    ///
    /// # Errors
    /// [`SendFailure`]: there is none, or that is not offered.
    pub(super) fn tag_to_insert(&self, list: &NetBufferList, protected: bool) -> Result<TagOutOfBand, SendFailure> {
        // Reserved bits alone are no tag.
        let tag = list.oob.tag().ok_or(SendFailure::Malformed)?;
        let offered = self.services.tags_go_in() && self.medium == Medium::Ethernet && (!protected || self.word.takes_tags_out_of_band());
        if offered { Ok(tag) } else { Err(SendFailure::UnsupportedRequest) }
    }

    /// Computes the checksums that a list asks for. It was checked.
    pub(super) fn fill_sums(&self, list: &mut NetBufferList, bundles: Option<&Bundles<'_, P>>) {
        let Ok(Some(request)) = list.oob.checksum_request() else { return };
        for at in 0..list.buffers().count() {
            let Some(sums) = list.buffers().nth(at).and_then(|buffer| self.sums(list, request, bundles, buffer.as_slice()).ok()) else { continue };
            let Some(frame) = list.buffers_mut().nth(at).map(packet::Buffer::as_mut_slice) else { continue };
            if let Some(header) = sums.ip_header.and_then(|range| frame.get_mut(range)) {
                let value = checksum::ipv4_header_checksum(header).to_be_bytes();
                if let Some(field) = header.get_mut(10..12) {
                    field.copy_from_slice(&value);
                }
            }
            if let Some((protocol, range)) = sums.segment
                && let Some(segment) = frame.get_mut(range)
            {
                let finished = checksum::finish_segment(protocol, segment);
                debug_assert!(finished.is_ok(), "it was found by the same rules");
            }
        }
    }

    /// What a request means for a frame.
    fn sums(&self, list: &NetBufferList, request: ChecksumRequest, bundles: Option<&Bundles<'_, P>>, frame: &[u8]) -> Result<Sums, SendFailure> {
        let (l3, tag) = (usize::from(list.l3_offset), list.oob.tag().is_some());
        if !crate::link::announces_ip(self.medium, frame, l3) {
            return Err(SendFailure::Malformed);
        }
        let packet = frame.get(l3..).unwrap_or_default();
        if packet.first().and_then(|&first| IpVersion::of_first_byte(first)) != Some(request.version) {
            return Err(SendFailure::HeaderMismatch);
        }
        let mut sums = Sums::default();
        if request.ip_header {
            let header = ipv4_header(packet).ok_or(SendFailure::Malformed)?;
            let set = self.services.set(IpVersion::V4, Way::Send);
            if !set.ip_header(header != IPV4_HEADER_LEN) || !set.takes(self.medium, l3, tag) {
                return Err(SendFailure::UnsupportedRequest);
            }
            sums.ip_header = Some(l3..l3 + header);
        }
        if request.tcp || request.udp {
            let protocol = if request.tcp { IpProtocol::TCP } else { IpProtocol::UDP };
            let any = [IpVersion::V4, IpVersion::V6].iter().any(|&version| self.services.set(version, Way::Send).segment(protocol, false, false));
            if !any {
                return Err(SendFailure::UnsupportedRequest);
            }
            let upper = upper::find(frame, l3, |packet, position| own(bundles?, packet, position)).ok_or(SendFailure::Malformed)?;
            // What its IPsec headers carry is where the transport says, if it says so; of UDP it need not.
            let at = usize::from(request.tcp_header_offset);
            if upper.protocol != protocol || (at != upper.range.start && (request.tcp || at != 0)) {
                return Err(SendFailure::HeaderMismatch);
            }
            let set = self.services.set(upper.version, Way::Send);
            let offered = set.segment(protocol, upper.tcp_options, upper.ip_options) && set.takes(self.medium, l3, tag);
            if !offered || (upper.protected && !self.services.coexist(protocol)) {
                return Err(SendFailure::UnsupportedRequest);
            }
            sums.segment = Some((protocol, upper.range));
        }
        Ok(sums)
    }
}

/// The bundle of a list that has its headers in the packet of that position.
fn own<'a, P: Provider>(bundles: &Bundles<'a, P>, packet: &[u8], position: Position) -> Option<(&'a Sa<P>, Portion)> {
    let sa = match (position, bundles.tunnel) {
        (Position::Outer, Some(tunnel)) => tunnel,
        (Position::Outer, None) | (Position::Inner, Some(_)) => bundles.first,
        (Position::Inner, None) => return None,
    };
    Some((sa, Portion::parse(packet, |_| sa.in_udp(position))?))
}

impl<P: Provider> Receiver<'_, P> {
    /// Verifies the checksums of a packet that IPsec is done with, as far as that is configured, and reports them.
    pub(super) fn verify_sums(&self, list: &mut NetBufferList) {
        let frame = list.buffer.as_slice();
        let (l3, tag) = (usize::from(list.l3_offset), list.oob.tag().is_some());
        if !crate::link::announces_ip(self.medium, frame, l3) {
            return;
        }
        let packet = frame.get(l3..).unwrap_or_default();
        let mut report = ChecksumReport::default();
        if let Some(header) = ipv4_header(packet) {
            let set = self.services.set(IpVersion::V4, Way::Receive);
            if set.ip_header(header != IPV4_HEADER_LEN) && set.takes(self.medium, l3, tag) {
                report.ip_header = packet.get(..header).map(checksum::verify_ipv4_header);
            }
        }
        let receive = list.oob.ipsec_receive();
        let opened = receive.crypto_done && receive.crypto_status == CryptoStatus::Success;
        let bundle = |packet: &[u8], position| {
            // Without its own IPsec header opened, a packet is what it is.
            let done = opened && (position == Position::Outer || receive.next_crypto_done);
            if !done {
                return None;
            }
            let portion = self.finder.parse(packet)?;
            match self.finder.find(packet, portion.version(), portion.ipsec?, position) {
                Hit::Fit(sa) => Some((sa, portion)),
                Hit::Nobody | Hit::Outside | Hit::Unfit(..) => None,
            }
        };
        if let Some(upper) = upper::find(frame, l3, bundle) {
            let set = self.services.set(upper.version, Way::Receive);
            let offered = set.segment(upper.protocol, upper.tcp_options, upper.ip_options) && set.takes(self.medium, l3, tag);
            if offered && (!upper.protected || self.services.coexist(upper.protocol)) {
                let checked = verify(&upper, frame);
                match upper.protocol {
                    IpProtocol::TCP => report.tcp = checked,
                    _ => report.udp = checked,
                }
            }
        }
        list.oob.set_checksum_report(report);
    }
}

/// Whether the checksum of a segment is right; `None` if it cannot be told: UDP over IPv4 may have none, and a source route in options or extension headers
/// may name another destination.
fn verify(upper: &Upper, frame: &[u8]) -> Option<bool> {
    let segment = frame.get(upper.range.clone())?;
    match checksum::verify_segment(upper.source, upper.destination, upper.protocol, segment).ok()?? {
        ChecksumVerdict::Good => Some(true),
        ChecksumVerdict::Bad => (!upper.ip_options).then_some(false),
        ChecksumVerdict::Absent => None,
    }
}

/// Length of the IPv4 header at the start of `packet`, all of which is there.
fn ipv4_header(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let length = usize::from(first & 0xf) * 4;
    (first >> 4 == 4 && (IPV4_HEADER_LEN..=IPV4_MAX_HEADER_LEN).contains(&length) && packet.len() >= length).then_some(length)
}
