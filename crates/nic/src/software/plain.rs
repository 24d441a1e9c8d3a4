//! Plain frames: ESP right behind an IPv4 header without options or an IPv6 header without extension headers, in UDP or not, in Ethernet II without tags or on
//! a link without header. Nearly all traffic is, so it has a way of its own, on which each field is read once.
//!
//! What is not plain is no mistake: it goes the general way, [`Portion`](super::portion::Portion). Of what is, both ways see the same.

use core::num::NonZeroU64;

use packet::{ETHERNET_HEADER_LEN, EtherType, IpProtocol, IpVersion, Medium, UDP_HEADER_LEN};
use sa_table::Key;

use super::portion::{IpsecHeader, Ports};

const ESP_HEADER: usize = 8;
const V4: usize = 20;
const V6: usize = 40;
/// Bytes of the headers of ESP in IPv4 in Ethernet.
const USUAL: usize = ETHERNET_HEADER_LEN + V4 + ESP_HEADER;
/// More fragments, and the fragment's offset.
const FRAGMENT: u16 = 0x3fff;

/// Where the ESP of a plain frame is, in one word, so that it stays in a register. Offsets are in bytes from the start of the frame.
///
/// ```text
/// bits 0-7: where the ESP header begins   8: IPv6   9-15: the frame's number, once it has one   16-31: destination port of the datagram; 0: it is in none   32-51: where the IP packet ends
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plain(NonZeroU64);

impl Plain {
    const IPV6: u64 = 1 << 8;
    const NUMBER: u32 = 9;
    const PORT: u32 = 16;
    const END: u32 = 32;

    /// Where ESP begins in frames that have nothing but ESP in IPv4 in Ethernet.
    pub(super) const USUAL_AT: usize = ETHERNET_HEADER_LEN + V4;

    #[inline(always)]
    const fn new(at: usize, end: usize, port: u16, ipv6: bool) -> Option<Self> {
        let version = if ipv6 { Self::IPV6 } else { 0 };
        match NonZeroU64::new(at as u64 | version | (port as u64) << Self::PORT | (end as u64) << Self::END) {
            Some(word) => Some(Self(word)),
            None => None,
        }
    }

    /// Where IP begins in plain frames.
    #[inline]
    pub(super) const fn ip_offset(medium: Medium) -> usize {
        match medium {
            Medium::Ethernet => ETHERNET_HEADER_LEN,
            Medium::Ip => 0,
        }
    }

    /// Where ESP begins, in bytes from the start of the IP header.
    #[inline]
    pub(super) const fn esp_offset(ipv6: bool, in_udp: bool) -> usize {
        let header = if ipv6 { V6 } else { V4 };
        if in_udp { header + UDP_HEADER_LEN } else { header }
    }

    /// Reads a frame; `None` if it is not plain. All of the ESP header lies within the IP packet, and that within the frame.
    #[inline(always)]
    pub(super) fn read(medium: Medium, frame: &[u8]) -> Option<Self> {
        match Self::read_usual(medium, frame) {
            Some((plain, ..)) => Some(plain),
            None => Self::read_other(medium, frame),
        }
    }

    /// Reads a frame with nothing but ESP in IPv4 in Ethernet, whole words of it at a time; with its addresses and SPI, as they stand.
    #[inline(always)]
    fn read_usual(medium: Medium, frame: &[u8]) -> Option<(Self, [u8; 8], [u8; 4])> {
        let headers = frame.first_chunk::<USUAL>().filter(|_| medium == Medium::Ethernet)?;
        // EtherType, version and header length, TOS, total length, identification.
        let first = u64::from_be_bytes(*headers.get(12..)?.first_chunk()?);
        // Flags and fragment offset, TTL, protocol, checksum, and the beginning of the addresses.
        let second = u64::from_be_bytes(*headers.get(20..)?.first_chunk()?);
        let addresses = *headers.get(26..)?.first_chunk()?;
        let spi = *headers.get(34..)?.first_chunk()?;
        let end = ETHERNET_HEADER_LEN + usize::from((first >> 16) as u16);
        let usual = first >> 40 == 0x08_00_45 && second & 0x3fff_00ff_0000_0000 == 0x0000_0032_0000_0000;
        if !usual || end < USUAL || end > frame.len() || spi == [0; 4] {
            return None;
        }
        Some((Self::new(Self::USUAL_AT, end, 0, false)?, addresses, spi))
    }

    /// Whether a frame is nothing but ESP of that SPI, as it stands in packets, in IPv4 in Ethernet, and as long as its IP packet: what [`Plain::read`] would
    /// tell by [`Plain::USUAL_AT`].
    #[inline(always)]
    pub(super) fn is_usual(frame: &[u8], spi: [u8; 4]) -> bool {
        let Some(headers) = frame.first_chunk::<USUAL>() else { return false };
        let word = |at: usize| headers.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u64::from_be_bytes(*word));
        // As in `read_usual`, and total length and SPI.
        let (first, second) = (word(12), word(20));
        let length = usize::from((first >> 16) as u16);
        first >> 40 == 0x08_00_45
            && second & 0x3fff_00ff_0000_0000 == 0x0000_0032_0000_0000
            && length + ETHERNET_HEADER_LEN == frame.len()
            && headers.get(Self::USUAL_AT..).and_then(|esp| esp.first_chunk()) == Some(&spi)
    }

    #[inline(never)]
    fn read_other(medium: Medium, frame: &[u8]) -> Option<Self> {
        let packet = match medium {
            Medium::Ethernet => {
                let (link, packet) = frame.split_first_chunk::<ETHERNET_HEADER_LEN>()?;
                let [.., high, low] = *link;
                let version = EtherType(u16::from_be_bytes([high, low])).ip_version()?;
                if IpVersion::of_first_byte(*packet.first()?) != Some(version) {
                    return None;
                }
                packet
            }
            Medium::Ip => frame,
        };
        if *packet.first()? == 0x45 { Self::read_v4(packet, Self::ip_offset(medium)) } else { Self::read_v6(packet, Self::ip_offset(medium)) }
    }

    fn read_v4(packet: &[u8], ip: usize) -> Option<Self> {
        let header = packet.first_chunk::<{ V4 + ESP_HEADER }>()?;
        let [_, _, l0, l1, _, _, f0, f1, _, protocol, ..] = *header;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if u16::from_be_bytes([f0, f1]) & FRAGMENT != 0 {
            return None;
        }
        Self::read_payload(packet, IpProtocol(protocol), ip, V4, length)
    }

    fn read_v6(packet: &[u8], ip: usize) -> Option<Self> {
        let header = packet.first_chunk::<{ V6 + ESP_HEADER }>()?;
        let [version, _, _, _, l0, l1, next, ..] = *header;
        if version >> 4 != 6 {
            return None;
        }
        Self::read_payload(packet, IpProtocol(next), ip, V6, V6 + usize::from(u16::from_be_bytes([l0, l1])))
    }

    fn read_payload(packet: &[u8], protocol: IpProtocol, ip: usize, header: usize, length: usize) -> Option<Self> {
        let payload = packet.get(header..length)?;
        let (esp, port) = match protocol {
            IpProtocol::ESP => (payload, 0),
            IpProtocol::UDP => {
                let (udp, payload) = payload.split_first_chunk::<UDP_HEADER_LEN>()?;
                let [_, _, p0, p1, l0, l1, _, _] = *udp;
                // The datagram ends with the packet. There is no port 0.
                if usize::from(u16::from_be_bytes([l0, l1])) != payload.len() + UDP_HEADER_LEN || [p0, p1] == [0, 0] {
                    return None;
                }
                (payload, u16::from_be_bytes([p0, p1]))
            }
            _ => return None,
        };
        let [s0, s1, s2, s3, ..] = *esp.first_chunk::<ESP_HEADER>()?;
        // An SPI of zero is none, and in UDP a mark of what is not ESP.
        if [s0, s1, s2, s3] == [0; 4] {
            return None;
        }
        let ipv6 = header == V6;
        Self::new(ip + Self::esp_offset(ipv6, port != 0), ip + length, port, ipv6)
    }

    /// With a number, less than 128.
    #[inline(always)]
    pub(super) fn numbered(self, number: usize) -> Self {
        Self(self.0 | (number as u64 & 0x7f) << Self::NUMBER)
    }

    /// The number that it was given.
    pub(super) const fn number(self) -> u32 {
        (self.0.get() >> Self::NUMBER) as u32 & 0x7f
    }

    /// Where the ESP header begins.
    #[inline(always)]
    pub(super) const fn at(self) -> usize {
        (self.0.get() & 0xff) as usize
    }

    /// Where the IP packet ends.
    #[inline(always)]
    pub(super) const fn end(self) -> usize {
        (self.0.get() >> Self::END) as usize
    }

    /// Where the IP header begins.
    #[inline]
    pub(super) const fn ip(self) -> usize {
        self.at() - Self::esp_offset(self.is_ipv6(), self.is_in_udp())
    }

    #[inline]
    const fn is_ipv6(self) -> bool {
        self.0.get() & Self::IPV6 != 0
    }

    /// Whether it is in UDP.
    #[inline(always)]
    pub(super) const fn is_in_udp(self) -> bool {
        self.0.get() >> Self::PORT & 0xffff != 0
    }

    /// Destination port, if it is in UDP.
    #[inline]
    pub(super) const fn port(self) -> Option<u16> {
        if self.is_in_udp() { Some((self.0.get() >> Self::PORT) as u16) } else { None }
    }

    /// IP version.
    #[inline]
    pub(super) const fn version(self) -> IpVersion {
        if self.is_ipv6() { IpVersion::V6 } else { IpVersion::V4 }
    }

    /// Its IPsec header, as the general way has it.
    #[inline]
    pub(super) const fn header(self) -> Option<IpsecHeader> {
        IpsecHeader::esp(self.at() - self.ip(), self.end() - self.ip(), self.port())
    }

    /// SPI of the frame.
    #[inline(always)]
    pub(super) fn spi(self, frame: &[u8]) -> Option<u32> {
        Some(u32::from_be_bytes(*frame.get(self.at()..)?.first_chunk()?))
    }

    /// What the frame's bundle is found by.
    #[inline]
    pub(super) fn key(self, frame: &[u8]) -> Option<Key> {
        let packet = frame.get(self.ip()..)?;
        let spi = self.spi(frame)?;
        if self.is_ipv6() { Some(Key::v6(spi, *packet.get(24..)?.first_chunk()?)) } else { Some(Key::v4(spi, *packet.get(16..)?.first_chunk()?)) }
    }

    /// Whether it is looked into for ESP: bare, or in UDP to a port of these.
    #[inline]
    pub(super) fn is_for(self, ports: &Ports) -> bool {
        self.port().is_none_or(|port| ports.contains(port))
    }
}

/// Addresses, SPI and encapsulation of the packet before: the next one with the same is under the same bundle.
#[derive(Clone)]
pub(super) struct Flow {
    /// Of a usual one; an SPI of zero: it was none.
    addresses: [u8; 8],
    spi: [u8; 4],
    /// Of another one: the word without the end, SPI, addresses.
    other: (u64, u32, [u8; 32]),
}

impl Flow {
    /// That of no packet.
    pub(super) const NONE: Self = Self { addresses: [0; 8], spi: [0; 4], other: (0, 0, [0; 32]) };

    /// Reads a frame, as [`Plain::read`], and tells whether it is of another flow than the one before.
    #[inline(always)]
    pub(super) fn read(&mut self, medium: Medium, frame: &[u8]) -> Option<(Plain, bool)> {
        if let Some((plain, addresses, spi)) = Plain::read_usual(medium, frame) {
            let same = self.addresses == addresses && self.spi == spi;
            (self.addresses, self.spi) = (addresses, spi);
            return Some((plain, !same));
        }
        let plain = Plain::read_other(medium, frame)?;
        Some((plain, self.changes(plain, frame)))
    }

    #[inline(never)]
    fn changes(&mut self, plain: Plain, frame: &[u8]) -> bool {
        let mut addresses = [0; 32];
        let (start, length) = if plain.is_ipv6() { (8, 32) } else { (12, 8) };
        let there = frame.get(plain.ip() + start..).and_then(|rest| rest.get(..length));
        for (byte, there) in addresses.iter_mut().zip(there.unwrap_or_default()) {
            *byte = *there;
        }
        let other = (plain.0.get() & ((1 << Plain::END) - 1), plain.spi(frame).unwrap_or_default(), addresses);
        let same = self.spi == [0; 4] && self.other == other;
        (self.spi, self.other) = ([0; 4], other);
        !same
    }
}
