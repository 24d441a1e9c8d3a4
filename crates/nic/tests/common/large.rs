//! Large sends, and what they have to become: each segment built by itself, by other code, and sealed by another cryptographic library.
#![allow(dead_code, unreachable_pub, reason = "each test file takes what it needs")]

use ndis::{LargeSend, NetBufferList, OffloadHandle};
use packet::{Buffer, IpProtocol, IpVersion, Ipv4Packet, Ipv4Repr, Ipv6Repr, ParsedIp, TcpFlags, TcpRepr, UdpRepr, checksum, segment};

use super::kinds::{Built, Kind};

/// Which large send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    One,
    Two,
    Udp,
}

/// A large send under a bundle, or in clear.
#[derive(Clone, Copy, Debug)]
pub struct Large {
    pub kind: Kind,
    /// Without, it is in clear, between the bundle's addresses.
    pub protected: bool,
    /// The version of the IP header in a tunnel; `None`: transport mode.
    pub tunnel: Option<IpVersion>,
    pub version: Version,
    /// Words of TCP options.
    pub options: usize,
    pub flags: TcpFlags,
    pub identification: u16,
    pub sequence: u32,
    pub payload: usize,
    pub mss: u32,
    /// Low half of the first number.
    pub low: u32,
    /// Bytes of padding in the data, which no segment has.
    pub padding: u8,
    /// Bytes of link header.
    pub link: &'static [u8],
}

pub const ETHERNET_V4: &[u8] = &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
pub const ETHERNET_V6: &[u8] = &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd];
pub const VLAN_V4: &[u8] = &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0, 7, 8, 0];

impl Large {
    pub const fn new(kind: Kind) -> Self {
        let flags = TcpFlags(TcpFlags::ACK.0 | TcpFlags::PSH.0 | TcpFlags::FIN.0 | TcpFlags::CWR.0);
        Self {
            kind,
            protected: true,
            tunnel: None,
            version: Version::Two,
            options: 0,
            flags,
            identification: 0x7ffe,
            sequence: 0xffff_fff0,
            payload: 4000,
            mss: 1400,
            low: 7,
            padding: 0,
            link: &[],
        }
    }

    pub fn count(&self) -> usize {
        self.payload.div_ceil(self.mss as usize)
    }

    fn protocol(&self) -> IpProtocol {
        if self.version == Version::Udp { IpProtocol::UDP } else { IpProtocol::TCP }
    }

    pub fn byte(at: usize) -> u8 {
        (at * 13 + at / 255) as u8
    }

    fn upper_len(&self) -> usize {
        if self.version == Version::Udp { 8 } else { 20 + 4 * self.options }
    }

    /// TCP or UDP header without checksum, and payload.
    fn upper(&self, from: usize, to: usize, flags: TcpFlags) -> Vec<u8> {
        let mut bytes = vec![0; self.upper_len()];
        if self.version == Version::Udp {
            UdpRepr { src_port: 5, dst_port: 6, payload_len: (to - from).min(65_000) }.emit(&mut bytes).unwrap();
        } else {
            let sequence = self.sequence.wrapping_add(from as u32);
            let tcp = TcpRepr { src_port: 5, dst_port: 6, sequence, acknowledgment: 9, flags, window: 77, urgent: 0 };
            tcp.emit(&mut bytes, &vec![1; 4 * self.options]).unwrap();
        }
        bytes.extend((from..to).map(Self::byte));
        bytes
    }

    /// What goes into the bundle: the upper layer, in a tunnel behind an IP header; with identification. `whole` or one segment.
    fn carried(&self, from: usize, to: usize, flags: TcpFlags, identification: u16, seed_only: bool) -> (Vec<u8>, u8) {
        let mut upper = self.upper(from, to, flags);
        let header = match self.tunnel {
            None => self.kind.ip_header(self.protocol(), 0),
            Some(IpVersion::V4) => {
                let mut ip = vec![0; 20];
                let length = if seed_only { 0 } else { upper.len() };
                Ipv4Repr::new(self.protocol(), [10, 0, 0, 1].into(), [10, 0, 0, 2].into(), length).emit(&mut ip).unwrap();
                ip[4..6].copy_from_slice(&identification.to_be_bytes());
                ip
            }
            Some(IpVersion::V6) => {
                let mut ip = vec![0; 40];
                let length = if seed_only { 0 } else { upper.len() };
                Ipv6Repr::new(self.protocol(), "fd00::1".parse().unwrap(), "fd00::2".parse().unwrap(), length).emit(&mut ip).unwrap();
                ip
            }
        };
        let parsed = ParsedIp::parse_whole(&header).unwrap();
        if seed_only {
            assert!(segment::plant_seed(&mut upper, 0, &parsed));
        } else {
            checksum::fill_segment(parsed.src(), parsed.dst(), self.protocol(), &mut upper).unwrap();
        }
        match self.tunnel {
            None => (upper, self.protocol().0),
            Some(version) => {
                let mut packet = [header, upper].concat();
                if version == IpVersion::V4 {
                    packet[10..12].fill(0);
                    let sum = checksum::ipv4_header_checksum(&packet[..20]);
                    packet[10..12].copy_from_slice(&sum.to_be_bytes());
                }
                (packet, version.protocol().0)
            }
        }
    }

    fn place(&self, carried: &[u8], next_header: u8, low: u32) -> Built {
        if self.protected {
            return self.kind.place(carried, next_header, low, self.kind.in_udp(false), Vec::new());
        }
        let mut bytes = self.kind.ip_header(IpProtocol(next_header), carried.len());
        bytes.extend_from_slice(carried);
        Built { bytes, layers: Vec::new() }
    }

    /// The list that asks for it.
    pub fn list(&self, handle: Option<OffloadHandle>) -> NetBufferList {
        // Short enough for every length field; the payload comes afterwards.
        let (carried, next_header) = self.carried(0, 0, self.flags, self.identification, true);
        let built = self.place(&carried, next_header, self.low);
        let at = built.layers.first().map_or(built.bytes.len() - carried.len(), |layer| layer.payload);
        let mut bytes = built.bytes[..at + carried.len()].to_vec();
        let header_offset = self.link.len() + bytes.len() - self.upper_len();
        bytes.extend((0..self.payload).map(Self::byte));
        // Padding is not what segments are padded with.
        bytes.extend(vec![0xdd; self.padding.into()]);
        let length = if self.version == Version::One { bytes.len() } else { 0 };
        if self.kind.ipv6 {
            assert_eq!(length, 0);
            bytes[4..6].fill(0);
        } else {
            bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            bytes[4..6].copy_from_slice(&self.outer_identification(0).to_be_bytes());
        }
        let bytes = [self.link, &bytes].concat();
        let mut list = NetBufferList::new(Buffer::copy_from(&bytes), self.link.len() as u16);
        let (mss, header_offset) = (self.mss, header_offset as u16);
        let version = self.tunnel.unwrap_or(if self.kind.ipv6 { IpVersion::V6 } else { IpVersion::V4 });
        list.oob.set_large_send(match self.version {
            Version::One => LargeSend::V1 { mss, header_offset },
            Version::Two => LargeSend::V2 { mss, header_offset, version },
            Version::Udp => LargeSend::Udp { mss, header_offset, version },
        });
        if let Some(layer) = built.layers.first() {
            list.oob.set_offload_handle(handle);
            let mut header = layer.header;
            header.pad_length = self.padding;
            list.oob.set_header_transmit(header);
        }
        list
    }

    fn identification_of(&self, number: usize) -> u16 {
        let counted = self.identification.wrapping_add(number as u16);
        if self.version == Version::One || number == 0 { counted } else { counted & 0x7fff }
    }

    fn outer_identification(&self, number: usize) -> u16 {
        if self.tunnel.is_some() { (self.low as u16).wrapping_add(number as u16) } else { self.identification_of(number) }
    }

    /// What each segment has to be on the wire.
    pub fn expected(&self) -> Vec<Vec<u8>> {
        (0..self.count()).map(|number| self.expected_one(number)).collect()
    }

    fn expected_one(&self, number: usize) -> Vec<u8> {
        let (from, last) = (number * self.mss as usize, number + 1 == self.count());
        let mut flags = self.flags;
        if !last {
            flags = flags.without(TcpFlags::FIN | TcpFlags::PSH);
        }
        if number != 0 {
            flags = flags.without(TcpFlags::CWR);
        }
        let to = self.payload.min(from + self.mss as usize);
        let (carried, next_header) = self.carried(from, to, flags, self.identification_of(number), false);
        let mut built = self.place(&carried, next_header, self.low.wrapping_add(number as u32));
        for layer in &mut built.layers {
            layer.esp_sequence = layer.kind.esp.map_or(0, |esp| esp.sequence(self.low) + number as u64);
            layer.ah_sequence = layer.kind.ah.map_or(0, |ah| ah.sequence(self.low) + number as u64);
        }
        if !self.kind.ipv6 {
            built.bytes[4..6].copy_from_slice(&self.outer_identification(number).to_be_bytes());
            Ipv4Packet::new(&mut built.bytes[..]).unwrap().fill_checksum();
        }
        [self.link, &built.sealed()].concat()
    }

    /// Where in a segment's frame the payload begins.
    pub fn payload_at(&self) -> usize {
        let (carried, next_header) = self.carried(0, 0, self.flags, 0, true);
        let built = self.place(&carried, next_header, self.low);
        let at = built.layers.first().map_or(built.bytes.len() - carried.len(), |layer| layer.payload);
        self.link.len() + at + carried.len()
    }
}
