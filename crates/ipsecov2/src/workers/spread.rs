//! Which worker gets a packet: a number that is the same for all packets that belong together, and else as good as random.

use packet::{EthernetFrame, EthernetKind, IpAddress, IpProtocol, Medium, ParsedIp, UDP_ESP_PORT, UdpEncapsulated};

/// Length of a UDP header.
const UDP_HEADER: usize = 8;
/// Where the SPI is in an AH header.
const AH_SPI: usize = 4;

/// Places packets by what stands in their headers, and by a secret, so that nobody outside can choose flows that all meet at one worker.
pub(crate) struct Spread {
    medium: Medium,
    secret: u64,
    /// Ports of UDP-ESP besides 4500.
    ports: Vec<u16>,
}

impl Spread {
    /// Those who share workers share the secret, too: what belongs together is one worker's, whoever places it.
    pub(super) const fn new(medium: Medium, secret: u64) -> Self {
        Self { medium, secret, ports: Vec::new() }
    }

    /// A new secret. Without random numbers packets are spread all the same.
    pub(super) fn secret() -> u64 {
        getrandom::u64().unwrap_or(0x9e37_79b9_7f4a_7c15)
    }

    /// The number of the flow of a packet that is to be sent, for whoever checks that flows keep their order.
    pub(crate) fn flow_of(medium: Medium, frame: &[u8]) -> u64 {
        Self { medium, secret: 0, ports: Vec::new() }.outbound(frame)
    }

    pub(super) fn set_udp_esp_ports(&mut self, ports: Vec<u16>) {
        self.ports = ports;
    }

    /// The number of a packet that is to be sent: that of its flow.
    pub(super) fn outbound(&self, frame: &[u8]) -> u64 {
        match self.parse(frame) {
            Some((ip, parsed)) => self.flow(ip, &parsed),
            None => self.other(frame),
        }
    }

    /// The number of a large packet that is to be sent: that of its flow, which its segments are of, too.
    pub(super) fn large(&self, frame: &[u8]) -> u64 {
        let parsed = self.ip(frame).and_then(|ip| Some((ip, ParsedIp::parse_whole(ip).ok()?)));
        parsed.map_or_else(|| self.other(frame), |(ip, parsed)| self.flow(ip, &parsed))
    }

    /// The number of a received packet: that of its SA, or else of its flow.
    pub(super) fn inbound(&self, frame: &[u8]) -> u64 {
        let Some((ip, parsed)) = self.parse(frame) else { return self.other(frame) };
        match self.spi(ip, &parsed) {
            Some(spi) => Hash(self.secret).address(parsed.dst()).word(u64::from(spi)).end(),
            None => self.flow(ip, &parsed),
        }
    }

    /// Addresses, protocol and ports. Fragments have no ports but in the first, and go by addresses, all of them.
    fn flow(&self, ip: &[u8], parsed: &ParsedIp) -> u64 {
        let hash = Hash(self.secret).address(parsed.src()).address(parsed.dst());
        if parsed.fragment().is_part() {
            return hash.end();
        }
        let hash = hash.word(u64::from(parsed.protocol().0));
        match parsed.ports() {
            Some((source, destination)) => hash.word(u64::from(source) << 16 | u64::from(destination)).end(),
            // Of one SA, if it is IPsec that is to be sent on.
            None => hash.word(self.spi(ip, parsed).map_or(0, u64::from)).end(),
        }
    }

    /// The SPI of the first IPsec header, if there is one.
    fn spi(&self, ip: &[u8], parsed: &ParsedIp) -> Option<u32> {
        if parsed.fragment().is_part() {
            return None;
        }
        let payload = parsed.payload(ip);
        let word = |at: usize| payload.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        match parsed.protocol() {
            IpProtocol::ESP => word(0),
            IpProtocol::AH => word(AH_SPI),
            IpProtocol::UDP => {
                let (_, port) = parsed.ports()?;
                if port != UDP_ESP_PORT && !self.ports.contains(&port) {
                    return None;
                }
                match UdpEncapsulated::parse(payload.get(UDP_HEADER..)?) {
                    Ok(UdpEncapsulated::Esp(_)) => word(UDP_HEADER),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// What is not IP, or cannot be read: by its link header, or all alike.
    fn other(&self, frame: &[u8]) -> u64 {
        let hash = Hash(self.secret);
        match (self.medium, frame.split_first_chunk::<8>()) {
            (Medium::Ethernet, Some((first, rest))) => {
                let second = rest.first_chunk::<4>().map_or(0, |second| u32::from_be_bytes(*second));
                hash.word(u64::from_be_bytes(*first)).word(u64::from(second)).end()
            }
            _ => hash.end(),
        }
    }

    fn parse<'a>(&self, frame: &'a [u8]) -> Option<(&'a [u8], ParsedIp)> {
        let ip = self.ip(frame)?;
        Some((ip, ParsedIp::parse(ip).ok()?))
    }

    /// The IP packet of a frame, if it has one.
    fn ip<'a>(&self, frame: &'a [u8]) -> Option<&'a [u8]> {
        let at = match self.medium {
            Medium::Ip => 0,
            Medium::Ethernet => {
                let ethernet = EthernetFrame::new(frame).ok()?;
                let EthernetKind::Type(ethertype) = ethernet.kind() else { return None };
                ethertype.ip_version()?;
                ethernet.l3_offset()
            }
        };
        frame.get(at..)
    }
}

/// A keyed hash of a few words: each is mixed in by a multiplication whose halves are put together.
#[derive(Clone, Copy)]
struct Hash(u64);

impl Hash {
    fn word(self, word: u64) -> Self {
        let product = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
        Self((product as u64) ^ ((product >> 64) as u64))
    }

    fn address(self, address: IpAddress) -> Self {
        let bits = address.to_number();
        if address.is_v4() { self.word(bits as u64) } else { self.word((bits >> 64) as u64).word(bits as u64) }
    }

    fn end(self) -> u64 {
        self.word(0x5851_f42d_4c95_7f2d).0
    }
}

#[cfg(test)]
#[path = "spread_tests.rs"]
mod tests;
