//! Cutting a large packet into segments (OV2-SEND-4): what NICs do for LSO versions 1 and 2 and for UDP segmentation, and what software does in their place.
//!
//! ```text
//! template   link header  IP  [IPsec headers, IP of a tunnel]  TCP or UDP  payload                     [padding]
//! segments   link header  IP  [IPsec headers, IP of a tunnel]  TCP or UDP  first MSS bytes of payload  (tail)
//!            link header  IP  [IPsec headers, IP of a tunnel]  TCP or UDP  the next MSS bytes          (tail) ...
//! ```
//!
//! All headers are replicated. The cutter changes in them, by number of the segment: length, identification and checksum of IP headers; sequence number and
//! flags of TCP (FIN and PSH on the last segment only, CWR on the first only); length of UDP; the TCP or UDP checksum, which the template seeds with the sum
//! of the pseudo-header without length (OV2-SEND-9). IPsec headers, the length of a UDP header that ESP is in, and the tail (ESP trailer and ICV) are the
//! caller's: the cutter copies the former, and counts the latter in the length of the outermost IP header.
//!
//! ```
//! use packet::{Cutter, IpProtocol, Ipv4Repr, LengthRule, Segments, TcpFlags, TcpPacket, TcpRepr, Template, checksum};
//!
//! // Five bytes of payload, to be sent two by two.
//! let mut frame = [0; 45];
//! let ip = Ipv4Repr::new(IpProtocol::TCP, "10.0.1.1".parse()?, "10.0.2.1".parse()?, 25);
//! let at = ip.emit(&mut frame)?;
//! let flags = TcpFlags::PSH | TcpFlags::ACK;
//! let mut tcp = TcpRepr { src_port: 1, dst_port: 2, sequence: 100, acknowledgment: 0, flags, window: 9, urgent: 0 };
//! tcp.emit(&mut frame[at..], &[])?;
//! frame[40..].copy_from_slice(b"hello");
//! let seed = checksum::pseudo_header(ip.src.into(), ip.dst.into(), ip.protocol, 0).fold();
//! TcpPacket::new(&mut frame[at..])?.set_checksum(seed);
//!
//! let template = Template { upper: at, lengths: LengthRule::True, ..Template::new(&frame, 0, Segments::Tcp, 2) };
//! let cutter = Cutter::new(&template)?;
//! assert_eq!(cutter.count(), 3);
//! let mut last = [0; 41];
//! assert_eq!(cutter.frame_len(2), last.len());
//! cutter.write(2, &mut last);
//! let tcp = TcpPacket::new(&last[20..])?;
//! assert_eq!((tcp.sequence(), tcp.flags(), tcp.payload()), (104, flags, &b"o"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::bytes::{put, range, u16_at};
use crate::checksum::{self, InternetSum};
use crate::error::{Layer, ParseError};
use crate::ipv4;
use crate::ipv6;
use crate::parsed::{FragmentState, ParsedIp};
use crate::proto::{IpProtocol, IpVersion};
use crate::tcp::{self, TcpFlags, TcpPacket};
use crate::train::Segments;
use crate::udp::{self, UDP_HEADER_LEN};

/// What the length field of the outermost IP header of a template says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LengthRule {
    /// The length of the whole, as in LSO version 1.
    True,
    /// Nothing, as in LSO version 2.
    Zero,
    /// Nobody looks at it.
    Any,
}

/// A large packet, and how it is to be cut. Offsets are in bytes from the start of the frame.
#[derive(Clone, Copy, Debug)]
pub struct Template<'a> {
    /// The frame, from its link header on.
    pub frame: &'a [u8],
    /// Where the outermost IP header begins.
    pub ip: usize,
    /// Where the IP header inside a tunnel begins.
    pub inner: Option<usize>,
    /// Where the TCP or UDP header begins.
    pub upper: usize,
    /// Whether IPsec headers stand between the last IP header and the TCP or UDP header: what the former says comes next is not looked at then.
    pub secured: bool,
    /// TCP or UDP.
    pub segments: Segments,
    /// Bytes of payload in each segment but the last.
    pub mss: u32,
    /// Bytes at the end of the frame that belong to no segment.
    pub padding: usize,
    /// Most bytes that the caller puts behind a segment.
    pub tail: usize,
    /// What the length field of the outermost IP header has to say.
    pub lengths: LengthRule,
    /// Whether IPv4 identifications run from 0 to 0x7fff, as in LSO version 2; otherwise to 0xffff, as those of a tunnel's outer header always do.
    pub short_identifications: bool,
}

impl<'a> Template<'a> {
    /// A template whose TCP or UDP header follows the IP header at `ip`, if that has no options or extension headers; without IPsec and padding, with
    /// identifications as in LSO version 2, and with any length.
    pub fn new(frame: &'a [u8], ip: usize, segments: Segments, mss: u32) -> Self {
        let header = frame.get(ip).and_then(|&first| IpVersion::of_first_byte(first)).map_or(0, IpVersion::header_len);
        Self {
            frame,
            ip,
            inner: None,
            upper: ip + header,
            secured: false,
            segments,
            mss,
            padding: 0,
            tail: 0,
            lengths: LengthRule::Any,
            short_identifications: true,
        }
    }
}

/// Why a large packet cannot be cut. Lengths are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// A header cannot be read.
    #[error(transparent)]
    Header(#[from] ParseError),
    /// The packet is a fragment, or has a fragment header.
    #[error("a fragment cannot be cut into segments")]
    Fragment,
    /// The length field of the IP header is not what it has to be.
    #[error("IP length is {found}, expected {expected}")]
    Length {
        /// What it has to say.
        expected: usize,
        /// What it says.
        found: usize,
    },
    /// Segments without payload.
    #[error("maximum segment size is 0")]
    NoSegmentSize,
    /// There is nothing to cut.
    #[error("there is no payload")]
    NoPayload,
    /// The last IP header does not announce TCP or UDP there.
    #[error("protocol {found} at {found_at}, expected {expected} at {expected_at}")]
    Upper {
        /// Protocol of the segments.
        expected: IpProtocol,
        /// Where the caller says that it is.
        expected_at: usize,
        /// What follows the IP header.
        found: IpProtocol,
        /// Where the IP header ends.
        found_at: usize,
    },
    /// URG, RST or SYN is set.
    #[error("TCP flags {flags} cannot be in segments of a large packet")]
    Flags {
        /// The flags.
        flags: TcpFlags,
    },
    /// A segment would be longer than an IP packet can be.
    #[error("segments are IP packets of {found}, at most {most} are possible")]
    SegmentTooLong {
        /// Most bytes.
        most: usize,
        /// Bytes of a whole segment.
        found: usize,
    },
}

/// What changes in an IP header.
#[derive(Clone, Copy, Debug)]
struct IpHeader {
    /// Where it begins in the frame.
    at: usize,
    version: IpVersion,
    /// IPv4: sum of the header without length, identification and checksum; and the identification.
    sum: InternetSum,
    identification: u16,
    short: bool,
}

/// Cuts a large packet into segments, without allocation. It only reads the packet; each segment is written by itself, in any order.
#[derive(Clone, Copy, Debug)]
pub struct Cutter<'a> {
    head: &'a [u8],
    payload: &'a [u8],
    mss: usize,
    count: usize,
    outer: IpHeader,
    inner: Option<IpHeader>,
    upper: usize,
    tcp: Option<Tcp>,
    /// Sum of the TCP or UDP header without what changes, and of its seed.
    sum: InternetSum,
}

#[derive(Clone, Copy, Debug)]
struct Tcp {
    sequence: u32,
    flags: TcpFlags,
}

impl<'a> Cutter<'a> {
    /// Looks at a large packet.
    ///
    /// # Errors
    /// [`CutError`] with the first thing that is against cutting it.
    pub fn new(template: &Template<'a>) -> Result<Self, CutError> {
        let &Template { frame, upper, segments, mss, padding, tail, .. } = template;
        let mut outer = IpHeader::read(template, template.ip)?;
        let inner = match template.inner {
            Some(at) => Some(IpHeader::read(template, at)?),
            None => None,
        };
        if inner.is_some() {
            outer.short = false;
        }
        let rest = range(frame, upper, frame.len());
        let (header_len, tcp) = match segments {
            Segments::Tcp => {
                let view = TcpPacket::new(rest)?;
                let flags = view.flags();
                if flags.intersects(TcpFlags::URG | TcpFlags::RST | TcpFlags::SYN) {
                    return Err(CutError::Flags { flags });
                }
                (view.header_len(), Some(Tcp { sequence: view.sequence(), flags }))
            }
            Segments::Udp if rest.len() < UDP_HEADER_LEN => {
                return Err(ParseError::overrun(Layer::Udp, UDP_HEADER_LEN, rest.len()).into());
            }
            Segments::Udp => (UDP_HEADER_LEN, None),
        };
        if mss == 0 {
            return Err(CutError::NoSegmentSize);
        }
        let payload = range(frame, upper + header_len, frame.len().saturating_sub(padding));
        if payload.is_empty() {
            return Err(CutError::NoPayload);
        }
        let mss = (mss as usize).min(payload.len());
        let head = range(frame, 0, upper + header_len);
        let most = if outer.version == IpVersion::V4 { 65_535 } else { 65_535 + IpVersion::V6.header_len() };
        let found = (head.len() - outer.at).saturating_add(mss).saturating_add(tail);
        if found > most {
            return Err(CutError::SegmentTooLong { most, found });
        }
        let header = range(head, upper, head.len());
        // What changes from segment to segment counts as zero; the field of the checksum holds the seed.
        let mut sum = InternetSum::new().bytes(header);
        sum = match tcp {
            Some(_) => sum.without(u16_at(header, tcp::SEQUENCE)).without(u16_at(header, tcp::SEQUENCE + 2)).without(u16_at(header, tcp::DATA_OFFSET)),
            None => sum.without(u16_at(header, udp::LENGTH)),
        };
        Ok(Self { head, payload, mss, count: payload.len().div_ceil(mss), outer, inner, upper, tcp, sum })
    }

    /// How many segments there are: at least one.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Bytes of payload in all segments together.
    pub const fn payload_len(&self) -> usize {
        self.payload.len()
    }

    /// Bytes of the headers of each segment, from the link header to TCP or UDP.
    pub const fn head_len(&self) -> usize {
        self.head.len()
    }

    /// Bytes of the TCP or UDP header.
    pub const fn upper_len(&self) -> usize {
        self.head.len() - self.upper
    }

    /// Bytes of payload in a segment: those of the last may be fewer. 0 for one that there is not.
    pub fn segment_payload(&self, number: usize) -> usize {
        self.part(number).len()
    }

    /// Bytes of a segment's frame without tail.
    pub fn frame_len(&self, number: usize) -> usize {
        self.head.len() + self.segment_payload(number)
    }

    fn part(&self, number: usize) -> &'a [u8] {
        let from = number.saturating_mul(self.mss).min(self.payload.len());
        range(self.payload, from, (from + self.mss).min(self.payload.len()))
    }

    /// Writes a segment, from the link header on, to the start of `out`. What `out` has beyond [`Cutter::frame_len`] is the segment's tail: the length of the
    /// outermost IP header counts it, and it is not written. False, and nothing is written, if `out` is shorter than the segment, or there is no such one.
    pub fn write(&self, number: usize, out: &mut [u8]) -> bool {
        let part = self.part(number);
        let head_len = self.head.len();
        let whole = out.len();
        let Some((head, rest)) = out.split_at_mut_checked(head_len) else { return false };
        let Some(payload) = rest.get_mut(..part.len()) else { return false };
        if part.is_empty() {
            return false;
        }
        head.copy_from_slice(self.head);
        let sum = copy_and_sum(self.sum, part, payload);
        self.outer.write(head, number, whole);
        if let Some(inner) = &self.inner {
            inner.write(head, number, head_len + part.len());
        }
        let length = (head_len - self.upper + part.len()) as u32;
        let upper = &mut head[self.upper..];
        if let Some(tcp) = self.tcp {
            let sequence = tcp.sequence.wrapping_add((number * self.mss) as u32);
            let mut flags = tcp.flags;
            if number != 0 {
                flags = flags.without(TcpFlags::CWR);
            }
            if number + 1 != self.count {
                flags = flags.without(TcpFlags::FIN | TcpFlags::PSH);
            }
            put(upper, tcp::SEQUENCE, &sequence.to_be_bytes());
            upper[tcp::FLAGS] = flags.0;
            let sum = sum.double_word(sequence).word(u16_at(upper, tcp::DATA_OFFSET)).double_word(length);
            put(upper, tcp::CHECKSUM, &sum.checksum().to_be_bytes());
        } else {
            put(upper, udp::LENGTH, &(length as u16).to_be_bytes());
            // The length in the header, and in the pseudo-header.
            let value = sum.double_word(length).word(length as u16).checksum();
            put(upper, udp::CHECKSUM, &(if value == 0 { 0xffff } else { value }).to_be_bytes());
        }
        true
    }
}

impl IpHeader {
    fn read(template: &Template<'_>, at: usize) -> Result<Self, CutError> {
        let bytes = range(template.frame, at, template.frame.len());
        let parsed = ParsedIp::parse_whole(bytes)?;
        let version = parsed.version();
        let outermost = at == template.ip;
        if parsed.fragment() != FragmentState::None {
            return Err(CutError::Fragment);
        }
        let last = template.inner.unwrap_or(template.ip) == at;
        let bare = last && (!template.secured || template.inner.is_some());
        let expected = match template.segments {
            Segments::Tcp => IpProtocol::TCP,
            Segments::Udp => IpProtocol::UDP,
        };
        let found_at = at + parsed.header_len();
        if bare && (parsed.protocol() != expected || found_at != template.upper) || found_at > template.upper {
            return Err(CutError::Upper { expected, expected_at: template.upper, found: parsed.protocol(), found_at });
        }
        let (length, fixed) = match version {
            IpVersion::V4 => (u16_at(bytes, ipv4::TOTAL_LEN), 0),
            IpVersion::V6 => (u16_at(bytes, ipv6::PAYLOAD_LEN), IpVersion::V6.header_len()),
        };
        let expected = match template.lengths {
            LengthRule::True if outermost => Some(bytes.len() - fixed),
            LengthRule::Zero if outermost => Some(0),
            _ => None,
        };
        if let Some(expected) = expected.filter(|&expected| expected != usize::from(length)) {
            return Err(CutError::Length { expected, found: length.into() });
        }
        let (sum, identification) = match version {
            IpVersion::V4 => {
                let header = range(bytes, 0, parsed.header_len());
                let sum =
                    InternetSum::new().bytes(header).without(length).without(u16_at(header, ipv4::IDENTIFICATION)).without(u16_at(header, ipv4::CHECKSUM));
                (sum, u16_at(header, ipv4::IDENTIFICATION))
            }
            IpVersion::V6 => (InternetSum::new(), 0),
        };
        Ok(Self { at, version, sum, identification, short: template.short_identifications })
    }

    /// Writes what changes, for an IP packet that ends at `end` of the frame.
    #[inline]
    fn write(&self, head: &mut [u8], number: usize, end: usize) {
        let total = end - self.at;
        let header = &mut head[self.at..];
        match self.version {
            IpVersion::V4 => {
                let mut identification = self.identification.wrapping_add(number as u16);
                if self.short && number != 0 {
                    identification &= 0x7fff;
                }
                put(header, ipv4::TOTAL_LEN, &(total as u16).to_be_bytes());
                put(header, ipv4::IDENTIFICATION, &identification.to_be_bytes());
                let sum = self.sum.word(total as u16).word(identification).checksum();
                put(header, ipv4::CHECKSUM, &sum.to_be_bytes());
            }
            IpVersion::V6 => {
                let length = (total - IpVersion::V6.header_len()) as u16;
                put(header, ipv6::PAYLOAD_LEN, &length.to_be_bytes());
            }
        }
    }
}

/// Copies, and adds what was copied to `sum` while it is near. Both have the same length.
fn copy_and_sum(sum: InternetSum, from: &[u8], to: &mut [u8]) -> InternetSum {
    /// An even number of bytes that are surely still in the nearest cache.
    const PIECE: usize = 2048;
    let mut sum = sum;
    for (from, to) in from.chunks(PIECE).zip(to.chunks_mut(PIECE)) {
        to.copy_from_slice(from);
        sum = sum.bytes(from);
    }
    sum
}

/// The seed of a TCP or UDP checksum in a large packet (OV2-SEND-9): the sum of the pseudo-header without length.
pub fn seed(parsed: &ParsedIp) -> u16 {
    checksum::pseudo_header(parsed.src(), parsed.dst(), parsed.protocol(), 0).fold()
}

/// Puts the [`seed`] where the TCP or UDP header at `upper` of `frame`, with the IP header that was read, has its checksum. False if there is no such place.
pub fn plant_seed(frame: &mut [u8], upper: usize, parsed: &ParsedIp) -> bool {
    let Some(at) = checksum::checksum_offset(parsed.protocol()).filter(|_| matches!(parsed.protocol(), IpProtocol::TCP | IpProtocol::UDP)) else {
        return false;
    };
    match frame.get_mut(upper + at..upper + at + 2) {
        Some(field) => {
            field.copy_from_slice(&seed(parsed).to_be_bytes());
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests;
