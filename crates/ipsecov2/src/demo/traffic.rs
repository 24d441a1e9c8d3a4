//! The packets that the hosts exchange: those of a capture, each with the host that it comes from.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use link::capture::{CaptureError, CaptureReader, CapturedFrame, Network, Problem};
use packet::{
    BufferPool, ETHERNET_HEADER_LEN, EtherType, EthernetFrame, EthernetKind, FragmentState, IpAddress, IpProtocol, MacAddress, Medium, ParsedIp, Time,
};
use serde::Serialize;

/// The capture that comes with the program (testdata/README.md says what is in it).
const SHIPPED: &[u8] = include_bytes!("../../../../testdata/traffic.pcapng");
/// What one bundle adds at most: outer header, UDP, AH, ESP header, IV, padding, trailer, ICV. A packet that leaves less room than two of them need below
/// the longest IP packet may be one that cannot be protected.
const OVERHEAD: usize = 2 * (40 + 8 + 48 + 8 + 16 + 15 + 2 + 32);
const LONGEST: usize = 65_535;
/// SPI and sequence number.
const ESP_HEADER: usize = 8;
/// The same, and what is before them.
const AH_HEADER: usize = 12;

/// One of the two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The host that the capture's first packet comes from.
    A,
    /// The other one.
    B,
}

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

/// A packet that travels.
pub struct Packet {
    /// The frame, as it is handed to the host.
    pub bytes: Vec<u8>,
    /// When it was captured.
    pub timestamp: Time,
    /// The host that sends it.
    pub from: Side,
    /// The IP packet in it, which policy protects; `None`: something else, which policy bypasses.
    pub ip: Option<Ip>,
}

/// The IP packet in a frame.
#[derive(Clone, Copy)]
pub struct Ip {
    /// Where it begins, in bytes from the start of the frame.
    pub offset: usize,
    /// What one pass over it found out.
    pub parsed: ParsedIp,
}

impl Packet {
    /// The bytes that have to arrive: the frame, without what the link padded a short IP packet with.
    pub fn expected(&self) -> &[u8] {
        match &self.ip {
            Some(ip) => self.bytes.get(..ip.offset + ip.parsed.total_len()).unwrap_or(&self.bytes),
            None => &self.bytes,
        }
    }
}

/// Packets of the capture that do not travel, by the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Cut by the snap length.
    pub cut: u64,
    /// Headers or lengths that cannot be.
    pub malformed: u64,
    /// Not IP, where the wire has no link header to say so.
    pub not_ip: u64,
    /// So long that no protected packet could carry it: what segmentation offload leaves in captures.
    pub too_long: u64,
    /// Of a link type that is not understood.
    pub link_type: u64,
    /// About which no SA of the SA file is.
    pub unselected: u64,
    /// Which SAs in transport mode would not carry as they are: fragments, wrong checksums.
    pub unfit: u64,
}

impl Skipped {
    /// Reasons and counts.
    pub const fn by_reason(&self) -> [(&'static str, u64); 7] {
        [
            ("cut by the snap length", self.cut),
            ("malformed", self.malformed),
            ("not IP on a wire without Ethernet", self.not_ip),
            ("too long to be protected", self.too_long),
            ("of a link type that is not understood", self.link_type),
            ("that no SA of the SA file is about", self.unselected),
            ("fragments, or with wrong checksums, under SAs in transport mode", self.unfit),
        ]
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_reason().iter().map(|(_, count)| count).sum()
    }
}

/// A capture without a packet to protect, or that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrafficError {
    /// It cannot be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// There is nothing to show.
    #[error("{name}: a capture with IP packets expected, none found that is whole ({skipped} of {packets} packets skipped)")]
    Nothing {
        /// The capture.
        name: String,
        /// Packets in it.
        packets: u64,
        /// Packets that were skipped.
        skipped: u64,
    },
}

/// What the hosts exchange, in memory and in the order of the capture.
pub struct Traffic {
    /// Name of the capture's file; `None` for the one that ships.
    pub file: Option<String>,
    /// What frames begin with: Ethernet if that is so of all packets of the capture, otherwise IP, and link headers are taken off.
    pub medium: Medium,
    /// The packets that travel.
    pub packets: Vec<Packet>,
    /// Those that do not.
    pub skipped: Skipped,
}

impl Traffic {
    /// The capture that comes with the program.
    ///
    /// # Errors
    /// As [`Traffic::read`]; none but for a broken build.
    pub fn shipped() -> Result<Self, TrafficError> {
        let mut traffic = Self::read(CaptureReader::new(SHIPPED, "the capture that comes with the program")?, "")?;
        traffic.file = None;
        Ok(traffic)
    }

    /// A capture file; `-` is standard input.
    ///
    /// # Errors
    /// As [`Traffic::read`].
    pub fn open(path: &Path) -> Result<Self, TrafficError> {
        Self::read(CaptureReader::open(path)?, &path.display().to_string())
    }

    /// All packets of a capture of this name.
    ///
    /// # Errors
    /// [`TrafficError`] if it is malformed anywhere, or has no IP packet that can travel.
    pub fn read<R: Read>(mut reader: CaptureReader<R>, name: &str) -> Result<Self, TrafficError> {
        let mut pool = BufferPool::new();
        let mut skipped = Skipped::default();
        let mut captured = Vec::new();
        loop {
            match reader.next_frame(&mut pool) {
                Ok(Some(frame)) if frame.is_cut() => {
                    skipped.cut += 1;
                    pool.give(frame.frame.buffer);
                }
                Ok(Some(frame)) => {
                    captured.push(Captured::from(&frame));
                    pool.give(frame.frame.buffer);
                }
                Ok(None) => break,
                Err(CaptureError { problem: Problem::LinkType { .. }, .. }) => skipped.link_type += 1,
                Err(error) => return Err(error.into()),
            }
        }
        let medium = if captured.iter().all(|frame| frame.medium == Medium::Ethernet) { Medium::Ethernet } else { Medium::Ip };
        let mut sides = Sides::default();
        let mut packets = Vec::with_capacity(captured.len());
        for frame in captured {
            match packet(frame, medium, &mut sides) {
                Ok(packet) => packets.push(packet),
                Err(Skip::Malformed) => skipped.malformed += 1,
                Err(Skip::NotIp) => skipped.not_ip += 1,
                Err(Skip::TooLong) => skipped.too_long += 1,
            }
        }
        if !packets.iter().any(|packet| packet.ip.is_some()) {
            return Err(TrafficError::Nothing { name: name.to_owned(), packets: reader.packets(), skipped: skipped.total() });
        }
        Ok(Self { file: Some(name.to_owned()), medium, packets, skipped })
    }

    /// Packets that policy protects.
    pub fn protected(&self) -> u64 {
        self.packets.iter().filter(|packet| packet.ip.is_some()).count() as u64
    }

    /// Packets that policy bypasses.
    pub fn bypassed(&self) -> u64 {
        self.packets.len() as u64 - self.protected()
    }

    /// Bytes of all that travel.
    pub fn bytes(&self) -> u64 {
        self.packets.iter().map(|packet| packet.expected().len() as u64).sum()
    }
}

/// A packet of a capture, out of the reader's buffers.
struct Captured {
    bytes: Vec<u8>,
    timestamp: Time,
    medium: Medium,
    network: Network,
}

impl From<&CapturedFrame> for Captured {
    fn from(frame: &CapturedFrame) -> Self {
        Self { bytes: frame.frame.buffer.as_slice().to_vec(), timestamp: frame.frame.timestamp, medium: frame.medium, network: frame.network }
    }
}

enum Skip {
    Malformed,
    NotIp,
    TooLong,
}

/// The packet on a wire of `medium`.
fn packet(captured: Captured, medium: Medium, sides: &mut Sides) -> Result<Packet, Skip> {
    let Captured { mut bytes, timestamp, medium: own, network } = captured;
    let stripped = medium != own;
    let offset = match network {
        Network::Short { .. } => return Err(Skip::Malformed),
        Network::Other { .. } if medium == Medium::Ip => return Err(Skip::NotIp),
        Network::Ip { offset } if stripped => {
            bytes.drain(..offset.min(bytes.len()));
            Some((0, None))
        }
        // As the transport reads the frame: an 802.3 frame with a length in place of the type is not IP to it.
        Network::Ip { .. } | Network::Other { .. } if medium == Medium::Ethernet => match EthernetFrame::new(bytes.as_slice()) {
            Ok(frame) => match frame.kind() {
                EthernetKind::Type(ethertype) if ethertype.ip_version().is_some() => Some((frame.l3_offset(), Some(ethertype))),
                _ => None,
            },
            Err(_) if bytes.len() >= ETHERNET_HEADER_LEN => None,
            Err(_) => return Err(Skip::Malformed),
        },
        Network::Ip { offset } | Network::Other { offset } => Some((offset, None)),
    };
    let ip = match offset {
        None => None,
        Some((offset, ethertype)) => Some(Ip { offset, parsed: parse(&bytes, offset, ethertype)? }),
    };
    let from = match (medium, &ip) {
        (Medium::Ethernet, _) => sides.of_macs(&bytes),
        (Medium::Ip, Some(ip)) => sides.of_addresses(&ip.parsed),
        (Medium::Ip, None) => return Err(Skip::NotIp),
    };
    Ok(Packet { bytes, timestamp, from, ip })
}

fn parse(bytes: &[u8], offset: usize, ethertype: Option<EtherType>) -> Result<ParsedIp, Skip> {
    let parsed = bytes.get(offset..).and_then(|ip| ParsedIp::parse(ip).ok()).ok_or(Skip::Malformed)?;
    if ethertype.is_some_and(|ethertype| ethertype.ip_version() != Some(parsed.version())) {
        return Err(Skip::Malformed);
    }
    // IPsec without a whole header: a transport that takes its own protection off finds it beneath, and cannot tell whose it is.
    let whole = match parsed.protocol() {
        IpProtocol::ESP => ESP_HEADER,
        IpProtocol::AH => AH_HEADER,
        _ => 0,
    };
    if parsed.fragment() != FragmentState::Later && parsed.payload_len() < whole {
        return Err(Skip::Malformed);
    }
    if parsed.total_len() + OVERHEAD > LONGEST { Err(Skip::TooLong) } else { Ok(parsed) }
}

/// Which host has which address: link addresses on Ethernet, else those of IP. The first sender is on a; a sender that is new sits opposite to whom it
/// talks to.
#[derive(Default)]
struct Sides {
    macs: HashMap<MacAddress, Side>,
    addresses: HashMap<IpAddress, Side>,
}

impl Sides {
    fn of_macs(&mut self, frame: &[u8]) -> Side {
        let Ok(frame) = EthernetFrame::new(frame) else { return Side::A };
        learn(&mut self.macs, frame.src(), frame.dst(), frame.dst().is_multicast())
    }

    fn of_addresses(&mut self, parsed: &ParsedIp) -> Side {
        learn(&mut self.addresses, parsed.src(), parsed.dst(), parsed.dst().is_multicast())
    }
}

fn learn<K: core::hash::Hash + Eq>(sides: &mut HashMap<K, Side>, source: K, destination: K, group: bool) -> Side {
    let opposite = if group { None } else { sides.get(&destination).map(|side| side.other()) };
    let side = *sides.entry(source).or_insert(opposite.unwrap_or(Side::A));
    if !group {
        sides.entry(destination).or_insert(side.other());
    }
    side
}

#[cfg(test)]
mod tests {
    use link::capture::{CaptureFormat, CaptureOptions, CaptureWriter};
    use packet::{Buffer, Frame};

    use super::*;

    fn capture(frames: &[(&[u8], Medium)]) -> Vec<u8> {
        let mut writer = CaptureWriter::new(Vec::new(), "test", &CaptureOptions::new(CaptureFormat::Pcapng)).unwrap();
        for (bytes, medium) in frames {
            writer.write_frame(&Frame::new(Buffer::copy_from(bytes)), *medium).unwrap();
        }
        writer.into_inner().unwrap()
    }

    fn read(frames: &[(&[u8], Medium)]) -> Result<Traffic, TrafficError> {
        Traffic::read(CaptureReader::new(capture(frames).as_slice(), "test").unwrap(), "test")
    }

    /// An empty UDP datagram.
    fn ip(from: u8, to: u8) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, from, 10, 0, 0, to];
        bytes.extend([0, 1, 0, 2, 0, 8, 0, 0]);
        bytes
    }

    fn ethernet(from: u8, to: u8, ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from];
        bytes.extend(ethertype.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn the_shipped_capture_is_whole() {
        let traffic = Traffic::shipped().unwrap();
        assert_eq!((traffic.medium, traffic.skipped), (Medium::Ethernet, Skipped::default()));
        assert!(traffic.protected() > 1000 && traffic.bypassed() > 0, "{} {}", traffic.protected(), traffic.bypassed());
        let from_a = traffic.packets.iter().filter(|packet| packet.from == Side::A).count();
        assert!(from_a > 100 && from_a < traffic.packets.len() - 100);
        // The two link addresses are the two hosts.
        let mut macs: Vec<_> = traffic.packets.iter().map(|packet| (packet.bytes[6..12].to_vec(), packet.from.name())).collect();
        macs.sort_unstable();
        macs.dedup();
        assert_eq!(macs.len(), 2, "{macs:?}");
    }

    #[test]
    fn hosts_are_told_apart_by_their_addresses() {
        let packets = [ip(1, 2), ip(2, 1), ip(3, 1), ip(1, 3), ip(3, 2), ip(9, 8), ip(8, 9)];
        let frames: Vec<_> = packets.iter().map(|packet| (packet.as_slice(), Medium::Ip)).collect();
        let from: Vec<_> = read(&frames).unwrap().packets.iter().map(|packet| packet.from).collect();
        assert_eq!(from, [Side::A, Side::B, Side::B, Side::A, Side::B, Side::A, Side::B]);
    }

    #[test]
    fn padding_of_the_link_need_not_arrive() {
        let mut padded = ethernet(1, 2, 0x0800, &ip(1, 2));
        padded.resize(60, 0);
        let arp = ethernet(1, 0xff, 0x0806, &[7; 46]);
        let traffic = read(&[(&padded, Medium::Ethernet), (&arp, Medium::Ethernet)]).unwrap();
        assert_eq!((traffic.protected(), traffic.bypassed(), traffic.medium), (1, 1, Medium::Ethernet));
        assert_eq!(traffic.packets[0].expected(), &padded[..42]);
        assert_eq!(traffic.packets[0].bytes, padded);
        assert_eq!(traffic.packets[1].expected(), arp);
    }

    #[test]
    fn what_cannot_travel_is_counted() {
        let mut bad = ip(1, 2);
        bad[0] = 0x42;
        let mut long = ip(1, 2);
        long.resize(65_500, 0);
        long[2..4].copy_from_slice(&65_500u16.to_be_bytes());
        let mislabelled = ethernet(1, 2, 0x86dd, &ip(1, 2));
        let arp = ethernet(1, 2, 0x0806, &[0; 28]);
        let good = ethernet(1, 2, 0x0800, &ip(1, 2));
        let mut esp = ip(1, 2);
        (esp[3], esp[9]) = (27, 50);
        let all = [bad.as_slice(), &long, &esp].map(|packet| (packet, Medium::Ip));
        let framed = [mislabelled.as_slice(), &arp, &good].map(|packet| (packet, Medium::Ethernet));
        // Mixed link types: the wire has none, and the link header of the good one goes.
        let traffic = read(&[all.as_slice(), framed.as_slice()].concat()).unwrap();
        assert_eq!((traffic.medium, traffic.packets.len()), (Medium::Ip, 2));
        assert_eq!(traffic.packets[1].expected(), ip(1, 2));
        assert_eq!(traffic.skipped, Skipped { malformed: 2, not_ip: 1, too_long: 1, ..Skipped::default() });
        // On an Ethernet wire a frame must be what its header says.
        let traffic = read(&framed).unwrap();
        assert_eq!((traffic.packets.len(), traffic.bypassed(), traffic.skipped), (2, 1, Skipped { malformed: 1, ..Skipped::default() }));
        assert!(matches!(read(&framed[..2]), Err(TrafficError::Nothing { packets: 2, skipped: 1, .. })));
    }
}
