//! Finding the headers of a framed packet again, by reading it with its SAs at hand: what comes back from the NIC is as it was handed over.

use ipsec::Provider;
use packet::{AhPacket, IpProtocol, ParsedIp, UDP_HEADER_LEN};

use crate::framing::Framed;
use crate::sa::Sa;

/// The headers that `sa` put around the IP packet at `ip` of `frame`; `None` if they are not there.
pub(crate) fn locate<P: Provider>(frame: &[u8], ip: usize, sa: &Sa<P>) -> Option<Framed> {
    let parsed = ParsedIp::parse(frame.get(ip..)?).ok()?;
    let end = ip + parsed.total_len();
    let (mut at, mut protocol) = (ip + parsed.header_len(), parsed.protocol());
    let mut framed = Framed { ip: ip as u32, end: end as u32, ..Framed::default() };
    if sa.in_udp() {
        (protocol == IpProtocol::UDP).then_some(())?;
        at += UDP_HEADER_LEN;
        protocol = IpProtocol::ESP;
    }
    if sa.ah.is_some() {
        (protocol == IpProtocol::AH).then_some(())?;
        let ah = AhPacket::new(frame.get(at..end)?).ok()?;
        framed.ah = at as u32;
        at += ah.header_len();
        protocol = ah.next_header();
    }
    if sa.esp.is_some() {
        (protocol == IpProtocol::ESP).then_some(())?;
        framed.esp = at as u32;
    }
    (at <= end).then_some(framed)
}

/// Where the packet begins that `sa`, a tunnel, goes around.
pub(crate) fn inner<P: Provider>(frame: &[u8], sa: &Sa<P>, framed: Framed) -> Option<usize> {
    match &sa.esp {
        Some(esp) => Some(framed.esp as usize + esp.transform.prefix_length()),
        None => Some(framed.ah as usize + AhPacket::new(frame.get(framed.ah as usize..)?).ok()?.header_len()),
    }
}
