//! Packets with an AH, and what may happen to each of their bits on the way. Written from RFC 4302 appendix A, and without the crate's own masking.

/// Bytes, and two masks of the same length.
#[derive(Clone, Debug, Default)]
pub(crate) struct Piece {
    pub(crate) bytes: Vec<u8>,
    /// Bits that anybody may change without harm.
    pub(crate) mutable: Vec<u8>,
    /// Bits that say where others are, and do not count themselves: what follows from a change depends on the rest.
    pub(crate) unjudged: Vec<u8>,
}

impl Piece {
    pub(crate) fn fixed(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), mutable: vec![0; bytes.len()], unjudged: vec![0; bytes.len()] }
    }

    pub(crate) fn free(bytes: &[u8]) -> Self {
        Self { mutable: vec![0xff; bytes.len()], ..Self::fixed(bytes) }
    }

    fn structure(bytes: &[u8]) -> Self {
        Self { unjudged: vec![0xff; bytes.len()], ..Self::fixed(bytes) }
    }

    pub(crate) fn then(mut self, next: &Self) -> Self {
        self.bytes.extend(&next.bytes);
        self.mutable.extend(&next.mutable);
        self.unjudged.extend(&next.unjudged);
        self
    }

    fn allow(&mut self, at: usize, bits: u8) {
        self.mutable[at] |= bits;
    }
}

/// A packet: headers, AH with room for the ICV, payload.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) piece: Piece,
    pub(crate) ah: usize,
}

pub(crate) const AH: u8 = 51;
pub(crate) const HOP_BY_HOP: u8 = 0;
pub(crate) const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const DESTINATION: u8 = 60;

/// An AH of `length` bytes with junk in its ICV field, and what follows.
fn ah(length: usize, sequence: u32, payload: &[u8]) -> Piece {
    let mut bytes = vec![0x77; length];
    bytes[..4].copy_from_slice(&[17, (length / 4 - 2) as u8, 0, 0]);
    bytes[4..8].copy_from_slice(&0x1234_5678_u32.to_be_bytes());
    bytes[8..12].copy_from_slice(&sequence.to_be_bytes());
    bytes.extend(payload);
    Piece::fixed(&bytes)
}

/// An IPv4 option that AH covers.
pub(crate) fn covered(kind: u8, data: &[u8]) -> Piece {
    Piece::fixed(&[&[kind, 2 + data.len() as u8], data].concat())
}

/// An IPv4 option that may change: it counts as zero altogether.
pub(crate) fn uncovered(kind: u8, data: &[u8]) -> Piece {
    Piece::structure(&[kind, 2 + data.len() as u8]).then(&Piece::free(data))
}

/// A source route through `addresses`, of which `used` are behind.
pub(crate) fn source_route(kind: u8, used: usize, addresses: &[[u8; 4]]) -> Piece {
    let mut route = Piece::structure(&[kind, 3 + 4 * addresses.len() as u8, 4 + 4 * used as u8]).then(&Piece::free(addresses.as_flattened()));
    if used < addresses.len() {
        let last = route.bytes.len() - 4;
        route.mutable[last..].fill(0);
    }
    route
}

/// `routed`: one of the options is a source route that is not used up.
pub(crate) fn ipv4(options: &[Piece], routed: bool, ah_length: usize, sequence: u32, payload: &[u8]) -> Packet {
    let mut area = options.iter().fold(Piece::default(), Piece::then);
    if !area.bytes.len().is_multiple_of(4) {
        // End of the list, and padding.
        area = area.clone().then(&Piece::fixed(&vec![0; 4 - area.bytes.len() % 4]));
    }
    let header_length = 20 + area.bytes.len();
    let total = (header_length + ah_length + payload.len()) as u16;
    let mut header = vec![0x40 | (header_length / 4) as u8, 0x2e];
    header.extend(total.to_be_bytes());
    header.extend([0xab, 0xcd, 0x40, 0, 61, AH, 0x12, 0x34, 192, 0, 2, 1, 198, 51, 100, 2]);
    let mut header = Piece::fixed(&header);
    for (at, bits) in [(1, 0xff), (6, 0xc0), (8, 0xff), (10, 0xff), (11, 0xff)] {
        header.allow(at, bits);
    }
    if routed {
        header.mutable[16..].fill(0xff);
    }
    Packet { piece: header.then(&area).then(&ah(ah_length, sequence, payload)), ah: header_length }
}

/// An IPv6 option: its data counts unless the type's third bit is set.
pub(crate) fn option(kind: u8, data: &[u8]) -> Piece {
    let data = if kind & 0x20 == 0 { Piece::fixed(data) } else { Piece::free(data) };
    Piece::fixed(&[kind, data.bytes.len() as u8]).then(&data)
}

/// One extension header without its next header field: kind, and the rest.
#[derive(Clone, Debug)]
pub(crate) struct Extension {
    pub(crate) kind: u8,
    rest: Piece,
}

/// Hop-by-hop or destination options, padded.
pub(crate) fn options(kind: u8, all: &[Piece]) -> Extension {
    let mut area = all.iter().fold(Piece::default(), Piece::then);
    let padding = (8 - (area.bytes.len() + 2) % 8) % 8;
    area = area.then(&match padding {
        0 => Piece::default(),
        1 => Piece::fixed(&[0]),
        more => option(1, &vec![0; more - 2]),
    });
    let length = (area.bytes.len() + 2) / 8 - 1;
    Extension { kind, rest: Piece::fixed(&[length as u8]).then(&area) }
}

pub(crate) fn routing(kind: u8, left: u8, addresses: &[[u8; 16]]) -> Extension {
    Extension { kind: ROUTING, rest: Piece::fixed(&[&[2 * addresses.len() as u8, kind, left, 0, 0, 0, 0], addresses.as_flattened()].concat()) }
}

/// The fragment header of a whole packet: only its next header counts, and that it is whole.
pub(crate) fn atomic() -> Extension {
    let mut rest = Piece::fixed(&[0, 0, 0, 1, 2, 3, 4]);
    rest.allow(0, 0xff);
    rest.allow(2, 0x06);
    rest.mutable[3..].fill(0xff);
    Extension { kind: FRAGMENT, rest }
}

pub(crate) fn ipv6(extensions: &[Extension], ah_length: usize, sequence: u32, payload: &[u8]) -> Packet {
    let mut area = Piece::default();
    for (index, extension) in extensions.iter().enumerate() {
        let next = extensions.get(index + 1).map_or(AH, |next| next.kind);
        area = area.then(&Piece::fixed(&[next])).then(&extension.rest);
    }
    let length = area.bytes.len() + ah_length + payload.len();
    let mut header = vec![0x6a, 0xbc, 0xde, 0xf0];
    header.extend((length as u16).to_be_bytes());
    header.extend([extensions.first().map_or(AH, |first| first.kind), 63]);
    header.extend(address(1));
    header.extend(address(2));
    let mut header = Piece::fixed(&header);
    for (at, bits) in [(0, 0x0f), (1, 0xff), (2, 0xff), (3, 0xff), (7, 0xff)] {
        header.allow(at, bits);
    }
    let offset = 40 + area.bytes.len();
    Packet { piece: header.then(&area).then(&ah(ah_length, sequence, payload)), ah: offset }
}

pub(crate) fn address(last: u8) -> [u8; 16] {
    let mut address = [0; 16];
    address[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    address[15] = last;
    address
}
