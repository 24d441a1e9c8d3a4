//! IPv6 extension headers (RFC 8200 section 4, RFC 7045) and the options in them.
//!
//! ```text
//! hop-by-hop, routing, destination options, mobility, HIP, Shim6:   AH (RFC 4302):
//! +-------------+------------+----------------...                  +-------------+------------+----------------...
//! | Next Header |  length    | data                                | Next Header |  length    | data
//! +-------------+------------+----------------...                  +-------------+------------+----------------...
//!   length: units of 8 bytes after the first 8                       length: units of 4 bytes after the first 8
//!
//! fragment:
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  Next Header  |   Reserved    |      Fragment Offset    |Res|M|
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                         Identification                        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use crate::bytes::{put, space};
use crate::error::{EmitError, Layer, ParseError};
use crate::proto::IpProtocol;

/// How many extension headers of one packet are looked at. RFC 8200 knows at most seven in a sensible packet.
pub const MAX_EXTENSION_HEADERS: u8 = 16;
/// Length of the fragment header, in bytes.
pub const IPV6_FRAGMENT_HEADER_LEN: usize = 8;

/// Fields of a fragment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Fragment {
    /// Type of the first header of the fragmentable part.
    pub next_header: IpProtocol,
    /// Where this part belongs in the whole packet's fragmentable part, in bytes (a multiple of 8).
    pub offset: u16,
    /// Whether more parts follow.
    pub more: bool,
    /// Identification.
    pub identification: u32,
}

impl Ipv6Fragment {
    /// Whether this is an atomic fragment (RFC 6946): a whole packet that carries a fragment header.
    #[inline]
    pub const fn is_atomic(&self) -> bool {
        self.offset == 0 && !self.more
    }

    #[inline]
    const fn from_bytes([next_header, _, high, low, a, b, c, d]: [u8; IPV6_FRAGMENT_HEADER_LEN]) -> Self {
        Self {
            next_header: IpProtocol(next_header),
            offset: u16::from_be_bytes([high, low]) & !7,
            more: low & 1 != 0,
            identification: u32::from_be_bytes([a, b, c, d]),
        }
    }

    /// Writes the header's 8 bytes to the start of `out`, and returns 8.
    ///
    /// # Errors
    /// [`EmitError`] if `out` is too short or the offset is not a multiple of 8.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, EmitError> {
        if !self.offset.is_multiple_of(8) {
            return Err(EmitError::Misaligned { layer: Layer::Ipv6Extension, unit: 8, found: usize::from(self.offset) });
        }
        let header = space(out, Layer::Ipv6Extension, IPV6_FRAGMENT_HEADER_LEN)?;
        header[0] = self.next_header.0;
        header[1] = 0;
        put(header, 2, &(self.offset | u16::from(self.more)).to_be_bytes());
        put(header, 4, &self.identification.to_be_bytes());
        Ok(IPV6_FRAGMENT_HEADER_LEN)
    }
}

/// One header of the chain. All of it lies within the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6ExtensionHeader {
    /// What it is.
    pub protocol: IpProtocol,
    /// Offset of the byte that says so: the next header field of the header before.
    pub pointer: usize,
    /// Offset of its first byte, which is its own next header field.
    pub offset: usize,
    /// Its length, in bytes.
    pub len: usize,
    /// Type of the header that follows.
    pub next_header: IpProtocol,
    /// The fields, if it is a fragment header.
    pub fragment: Option<Ipv6Fragment>,
}

impl Ipv6ExtensionHeader {
    /// Reads the header of type `protocol` at `offset` of `packet`, whose length is that of the packet. `pointer`: where the type was found.
    #[inline]
    pub(crate) fn read(packet: &[u8], protocol: IpProtocol, pointer: usize, offset: usize) -> Result<Self, ParseError> {
        let rest = packet.get(offset..).unwrap_or_default();
        // Every one of them is at least 8 bytes long.
        let Some(&start) = rest.first_chunk::<8>() else {
            return Err(ParseError::overrun(Layer::Ipv6Extension, 8, rest.len()));
        };
        let mut fragment = None;
        let len = match protocol {
            IpProtocol::FRAGMENT => {
                fragment = Some(Ipv6Fragment::from_bytes(start));
                IPV6_FRAGMENT_HEADER_LEN
            }
            IpProtocol::AH => {
                if start[1] == 0 {
                    return Err(ParseError::LengthTooSmall { layer: Layer::Ah, min: 12, found: 8 });
                }
                usize::from(start[1]) * 4 + 8
            }
            _ => usize::from(start[1]) * 8 + 8,
        };
        if len > rest.len() {
            return Err(ParseError::overrun(Layer::Ipv6Extension, len, rest.len()));
        }
        Ok(Self { protocol, pointer, offset, len, next_header: IpProtocol(start[0]), fragment })
    }

    /// The options, if this is a hop-by-hop or destination options header of `packet`, from which it was read.
    pub fn options<'a>(&self, packet: &'a [u8]) -> Option<Ipv6Options<'a>> {
        matches!(self.protocol, IpProtocol::HOP_BY_HOP | IpProtocol::DESTINATION_OPTIONS)
            .then(|| Ipv6Options::new(packet.get(self.offset + 2..self.offset + self.len).unwrap_or_default()))
    }
}

/// Where a chain of extension headers ended, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv6ChainEnd {
    /// At a header that is not an extension header: transport, ESP, an inner packet, or something unknown.
    Upper {
        /// What it is.
        protocol: IpProtocol,
        /// Offset of the byte that says so.
        pointer: usize,
        /// Offset of its first byte; the packet may end there.
        offset: usize,
    },
    /// At next header 59.
    NoNextHeader {
        /// Offset of the first byte after the chain, which is to be ignored.
        offset: usize,
    },
    /// At the fragment header of a fragment that is not the first: what follows is the middle of something.
    LaterFragment {
        /// The fragment header's fields.
        fragment: Ipv6Fragment,
        /// Offset of the first byte after the fragment header.
        offset: usize,
    },
    /// At a header that runs past the end of the packet, has an impossible length or stands where it must not.
    Malformed(ParseError),
}

/// The extension headers of a packet in order: an iterator over those that can be read, and then [`Self::end`].
///
/// Time is linear in the number of headers, which is at most [`MAX_EXTENSION_HEADERS`].
///
/// ```
/// use packet::{IpProtocol, Ipv6ChainEnd, Ipv6ExtensionHeaders};
///
/// // A hop-by-hop header of eight bytes, then UDP, as they follow an IPv6 header.
/// let packet = [&[0; 40][..], &[17, 0, 1, 4, 0, 0, 0, 0], &[0; 8]].concat();
/// let mut headers = Ipv6ExtensionHeaders::new(&packet, IpProtocol::HOP_BY_HOP, 6, 40);
/// assert_eq!(headers.next().map(|header| (header.offset, header.len)), Some((40, 8)));
/// assert_eq!(headers.next(), None);
/// assert_eq!(headers.end(), Ipv6ChainEnd::Upper { protocol: IpProtocol::UDP, pointer: 40, offset: 48 });
/// ```
#[derive(Clone, Debug)]
pub struct Ipv6ExtensionHeaders<'a> {
    packet: &'a [u8],
    protocol: IpProtocol,
    pointer: usize,
    offset: usize,
    seen: u8,
    stopped: Option<Ipv6ChainEnd>,
}

impl<'a> Ipv6ExtensionHeaders<'a> {
    /// Starts at `offset` of `packet` with a header of type `protocol`, which the byte at `pointer` says. `packet` ends where the packet does.
    #[inline]
    pub const fn new(packet: &'a [u8], protocol: IpProtocol, pointer: usize, offset: usize) -> Self {
        Self { packet, protocol, pointer, offset, seen: 0, stopped: None }
    }

    /// Walks over what is left, and says where and why the chain ends.
    pub fn end(mut self) -> Ipv6ChainEnd {
        while self.next().is_some() {}
        match self.stopped {
            Some(end) => end,
            None if self.protocol == IpProtocol::NO_NEXT_HEADER => Ipv6ChainEnd::NoNextHeader { offset: self.offset },
            None => Ipv6ChainEnd::Upper { protocol: self.protocol, pointer: self.pointer, offset: self.offset },
        }
    }

    fn read(&self) -> Result<Ipv6ExtensionHeader, ParseError> {
        if self.seen == MAX_EXTENSION_HEADERS {
            return Err(ParseError::TooManyExtensionHeaders { limit: MAX_EXTENSION_HEADERS });
        }
        if self.protocol == IpProtocol::HOP_BY_HOP && self.seen != 0 {
            return Err(ParseError::HopByHopNotFirst { offset: self.offset as u32 });
        }
        Ipv6ExtensionHeader::read(self.packet, self.protocol, self.pointer, self.offset)
    }
}

impl Iterator for Ipv6ExtensionHeaders<'_> {
    type Item = Ipv6ExtensionHeader;

    fn next(&mut self) -> Option<Self::Item> {
        if self.stopped.is_some() || !self.protocol.is_ipv6_extension() {
            return None;
        }
        let header = match self.read() {
            Ok(header) => header,
            Err(error) => {
                self.stopped = Some(Ipv6ChainEnd::Malformed(error));
                return None;
            }
        };
        self.seen += 1;
        self.protocol = header.next_header;
        self.pointer = header.offset;
        self.offset = header.offset + header.len;
        if let Some(fragment) = header.fragment.filter(|fragment| fragment.offset != 0) {
            self.stopped = Some(Ipv6ChainEnd::LaterFragment { fragment, offset: self.offset });
        }
        Some(header)
    }
}

/// One option of a hop-by-hop or destination options header (RFC 8200 section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Option<'a> {
    /// The type, all eight bits of it.
    pub kind: u8,
    /// Where the option's type byte is, from the start of the options area (the header's third byte).
    pub offset: usize,
    /// What follows the length byte; empty for the one-byte padding.
    pub data: &'a [u8],
}

impl Ipv6Option<'_> {
    /// Type of the one-byte padding, which has no length.
    pub const PAD1: u8 = 0;
    /// Type of padding of two bytes and more.
    pub const PAD_N: u8 = 1;

    /// Whether the data may change on the way, so that AH takes it as zero.
    #[inline]
    pub const fn may_change(&self) -> bool {
        self.kind & 0x20 != 0
    }
}

/// The options of a hop-by-hop or destination options header, padding included. One that runs past the end gives one error, and ends the iteration.
#[derive(Clone, Debug)]
pub struct Ipv6Options<'a> {
    area: &'a [u8],
    offset: usize,
}

impl<'a> Ipv6Options<'a> {
    /// Over `area`: the header without its first two bytes.
    pub const fn new(area: &'a [u8]) -> Self {
        Self { area, offset: 0 }
    }
}

impl<'a> Iterator for Ipv6Options<'a> {
    type Item = Result<Ipv6Option<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.offset;
        let rest = self.area.get(offset..)?;
        let (kind, data, len) = match *rest {
            [] => return None,
            [Ipv6Option::PAD1, ..] => (Ipv6Option::PAD1, &[][..], 1),
            [kind, ref after @ ..] => {
                let data = after.split_first().and_then(|(&len, data)| data.get(..usize::from(len)));
                let Some(data) = data else {
                    self.offset = self.area.len();
                    let needed = 2 + after.first().map_or(0, |&len| usize::from(len));
                    return Some(Err(ParseError::overrun(Layer::Ipv6Extension, needed, rest.len())));
                };
                (kind, data, 2 + data.len())
            }
        };
        self.offset += len;
        Some(Ok(Ipv6Option { kind, offset, data }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A chain of generic headers, each `8 * (1 + extra)` bytes, ending in `last`.
    fn chain(headers: &[(u8, u8)], last: u8) -> Vec<u8> {
        let mut bytes = vec![0; 40];
        for (index, &(_, extra)) in headers.iter().enumerate() {
            let next = headers.get(index + 1).map_or(last, |header| header.0);
            let start = bytes.len();
            bytes.resize(start + 8 + 8 * usize::from(extra), 0);
            bytes[start] = next;
            bytes[start + 1] = extra;
        }
        bytes
    }

    fn walk(bytes: &[u8], first: u8) -> Ipv6ExtensionHeaders<'_> {
        Ipv6ExtensionHeaders::new(bytes, IpProtocol(first), 6, 40)
    }

    #[test]
    fn walks_every_kind_of_header() {
        let mut bytes = chain(&[(0, 0), (60, 2), (43, 1), (44, 0)], 51);
        bytes[80..82].copy_from_slice(&[44, 1]);
        let fragment = Ipv6Fragment { next_header: IpProtocol::AH, offset: 0, more: false, identification: 0xdead_beef };
        assert_eq!(bytes.len(), 40 + 8 + 24 + 16 + 8);
        fragment.emit(&mut bytes[88..]).unwrap();
        bytes[72] = 44;
        // AH of 24 bytes (payload length 4), then mobility, HIP, Shim6, destination options, TCP.
        bytes.extend([135, 4]);
        bytes.extend([0; 22]);
        bytes.extend_from_slice(&chain(&[(135, 0), (139, 1), (140, 0), (60, 0)], 6)[40..]);
        let headers: Vec<_> = walk(&bytes, 0).map(|header| (header.protocol.0, header.pointer, header.offset, header.len)).collect();
        assert_eq!(
            headers,
            [
                (0, 6, 40, 8),
                (60, 40, 48, 24),
                (43, 48, 72, 16),
                (44, 72, 88, 8),
                (51, 88, 96, 24),
                (135, 96, 120, 8),
                (139, 120, 128, 16),
                (140, 128, 144, 8),
                (60, 144, 152, 8)
            ]
        );
        assert_eq!(walk(&bytes, 0).end(), Ipv6ChainEnd::Upper { protocol: IpProtocol::TCP, pointer: 152, offset: 160 });
        assert_eq!(walk(&bytes, 0).nth(3).unwrap().fragment, Some(fragment));
        assert!(fragment.is_atomic());

        // Every truncation inside the chain is told; one byte short of each header's end too.
        for len in 40..160 {
            assert!(matches!(walk(&bytes[..len], 0).end(), Ipv6ChainEnd::Malformed(ParseError::Overrun { .. })), "{len}");
        }
        for len in 0..40 {
            assert!(matches!(walk(&bytes[..len], 0).end(), Ipv6ChainEnd::Malformed(ParseError::Overrun { .. })), "{len}");
        }
    }

    #[test]
    fn tells_how_the_chain_ends() {
        assert_eq!(walk(&[0; 40], 6).end(), Ipv6ChainEnd::Upper { protocol: IpProtocol::TCP, pointer: 6, offset: 40 });
        assert_eq!(walk(&[0; 40], 50).end(), Ipv6ChainEnd::Upper { protocol: IpProtocol::ESP, pointer: 6, offset: 40 });
        assert_eq!(walk(&[0; 40], 59).end(), Ipv6ChainEnd::NoNextHeader { offset: 40 });
        assert_eq!(walk(&chain(&[(60, 0)], 59), 60).end(), Ipv6ChainEnd::NoNextHeader { offset: 48 });
        assert_eq!(walk(&chain(&[(43, 0), (0, 0)], 6), 43).end(), Ipv6ChainEnd::Malformed(ParseError::HopByHopNotFirst { offset: 48 }));

        let mut later = chain(&[(44, 0)], 60);
        let fragment = Ipv6Fragment { next_header: IpProtocol::DESTINATION_OPTIONS, offset: 1448, more: true, identification: 9 };
        fragment.emit(&mut later[40..]).unwrap();
        let mut headers = walk(&later, 44);
        assert_eq!(headers.next().unwrap().fragment, Some(fragment));
        assert_eq!(headers.next(), None);
        assert_eq!(headers.end(), Ipv6ChainEnd::LaterFragment { fragment, offset: 48 });

        let mut ah = chain(&[(51, 0)], 6);
        assert_eq!(walk(&ah, 51).end(), Ipv6ChainEnd::Malformed(ParseError::LengthTooSmall { layer: Layer::Ah, min: 12, found: 8 }));
        ah[41] = 1;
        assert_eq!(walk(&ah, 51).end(), Ipv6ChainEnd::Malformed(ParseError::Overrun { layer: Layer::Ipv6Extension, needed: 12, found: 8 }));
    }

    #[test]
    fn counts_headers() {
        for count in [1, 15, 16] {
            let bytes = chain(&vec![(60, 0); count], 17);
            assert_eq!(walk(&bytes, 60).count(), count);
            assert_eq!(walk(&bytes, 60).end(), Ipv6ChainEnd::Upper { protocol: IpProtocol::UDP, pointer: 32 + 8 * count, offset: 40 + 8 * count });
        }
        for count in [17, 100, 8000] {
            let bytes = chain(&vec![(60, 0); count], 17);
            assert_eq!(walk(&bytes, 60).count(), 16);
            assert_eq!(walk(&bytes, 60).end(), Ipv6ChainEnd::Malformed(ParseError::TooManyExtensionHeaders { limit: 16 }));
        }
        // The longest headers there are.
        let bytes = chain(&[(60, 255); 16], 17);
        assert_eq!(walk(&bytes, 60).end(), Ipv6ChainEnd::Upper { protocol: IpProtocol::UDP, pointer: 40 + 15 * 2048, offset: 40 + 16 * 2048 });
    }

    #[test]
    fn gives_options_with_padding_and_ends_on_overrun() {
        let read =
            |area: &'static [u8]| -> Vec<_> { Ipv6Options::new(area).map(|option| option.map(|option| (option.kind, option.offset, option.data))).collect() };
        assert_eq!(read(&[]), []);
        assert_eq!(read(&[5, 2, 0, 0, 0, 0]), [Ok((5, 0, &[0, 0][..])), Ok((0, 4, &[])), Ok((0, 5, &[]))]);
        assert_eq!(read(&[1, 4, 0, 0, 0, 0]), [Ok((1, 0, &[0; 4][..]))]);
        assert_eq!(read(&[0x3e, 0, 1, 0]), [Ok((0x3e, 0, &[][..])), Ok((1, 2, &[]))]);
        let overrun = |needed, found| Err(ParseError::Overrun { layer: Layer::Ipv6Extension, needed, found });
        assert_eq!(read(&[1, 5, 0, 0, 0, 0]), [overrun(7, 6)]);
        assert_eq!(read(&[0, 9]), [Ok((0, 0, &[][..])), overrun(2, 1)]);
        assert!(Ipv6Option { kind: 0x3e, offset: 0, data: &[] }.may_change());
        assert!(!Ipv6Option { kind: 5, offset: 0, data: &[] }.may_change());

        let bytes = chain(&[(0, 0)], 6);
        let header = walk(&bytes, 0).next().unwrap();
        assert_eq!(header.options(&bytes).unwrap().count(), 6);
        assert_eq!(header.options(&[]).unwrap().count(), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_within_the_packet(bytes in prop::collection::vec(any::<u8>(), 0..400), first: u8, offset in 0usize..500) {
            let headers = Ipv6ExtensionHeaders::new(&bytes, IpProtocol(first), 6, offset);
            let mut at = offset;
            for header in headers.clone() {
                prop_assert_eq!(header.offset, at);
                prop_assert!(header.len >= 8);
                at += header.len;
                prop_assert!(at <= bytes.len());
                if let Some(options) = header.options(&bytes) {
                    prop_assert!(options.count() <= header.len);
                }
            }
            match headers.end() {
                Ipv6ChainEnd::Upper { offset, .. } | Ipv6ChainEnd::NoNextHeader { offset } | Ipv6ChainEnd::LaterFragment { offset, .. } => prop_assert_eq!(offset, at),
                Ipv6ChainEnd::Malformed(_) => {}
            }
        }

        #[test]
        fn fragment_headers_round_trip(next_header: u8, offset: u16, more: bool, identification: u32) {
            let fragment = Ipv6Fragment { next_header: next_header.into(), offset: offset & !7, more, identification };
            let mut bytes = [0; 8];
            prop_assert_eq!(fragment.emit(&mut bytes), Ok(8));
            prop_assert_eq!(Ipv6Fragment::from_bytes(bytes), fragment);
            prop_assert_eq!(Ipv6Fragment { offset: offset | 1, ..fragment }.emit(&mut bytes).is_err(), true);
        }
    }
}
