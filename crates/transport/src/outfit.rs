//! What plain packets under ESP alone need of their SA, made once: the headers that go around them, as numbers, and the lengths. All of it is in one cache
//! line. The bytes are those of [`encapsulate`](crate::framing::encapsulate), which takes packets of every kind.

use core::num::NonZeroU8;

use packet::{Buffer, ETHERNET_HEADER_LEN, EtherType, IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpProtocol, UDP_HEADER_LEN};

use crate::framing::{ESP_HEADER, Layout, MAX_V4, move_link_header, set_total, write_udp};
use crate::outer::OuterHeader;

/// Bytes of padding and trailer that are written as one number, and of the ICV that always follows them where they are.
const TRAILER_WORD: usize = 8;

/// What is known of a plain packet that is to be protected: an IPv4 packet without options that is not a fragment, or an IPv6 packet without extension
/// headers. Without a link header of its own, or behind that of Ethernet II.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plain {
    /// Length of the IP packet, in bytes.
    pub(crate) length: u32,
    /// DSCP and ECN.
    pub(crate) traffic_class: u8,
    /// What it carries.
    pub(crate) protocol: u8,
    pub(crate) v4: bool,
    /// [`DONT_FRAGMENT`] if routers must not fragment it, always so for IPv6; otherwise 0.
    pub(crate) dont_fragment: u8,
}

/// The DF flag in the byte of an IPv4 header that holds the flags.
pub(crate) const DONT_FRAGMENT: u8 = 0x40;

impl Plain {
    /// Length of its IP header.
    #[inline]
    const fn header(self) -> usize {
        if self.v4 { IPV4_HEADER_LEN } else { IPV6_HEADER_LEN }
    }
}

/// What goes in front: the outer header of a tunnel over IPv4, over IPv6, or none, so that the rest goes behind the packet's own IP header. Numbers, because
/// code is made for each.
pub(crate) const TUNNEL_V4: u8 = 0;
pub(crate) const TUNNEL_V6: u8 = 1;
pub(crate) const OWN_HEADER: u8 = 2;

/// Headers and lengths of an outbound SA that is ESP alone.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(crate) struct Outfit {
    /// The outer header but for what each packet brings: its bytes as little-endian numbers, so that it is put together in registers and stored whole.
    outer: [u64; 5],
    /// The UDP header without its length, likewise; 0 where there is none, since no destination port is 0.
    udp: u64,
    /// IPv4: sum of the words of the outer header.
    sum: u32,
    /// As it stands in packets.
    spi: [u8; 4],
    /// The longest packet that it fits around, whatever padding that gets.
    longest: u16,
    form: u8,
    /// Length of outer header, UDP, ESP header and IV. Never 0, so that a bundle without all this has none in the same place.
    front: NonZeroU8,
    icv: u8,
    /// The trailer ends at a multiple of one more than this, which is a power of two.
    alignment_mask: u8,
}

const _: () = assert!(size_of::<Option<Outfit>>() == 64, "one cache line");

impl Outfit {
    /// That of an SA with this layout and, if it is a tunnel, this outer header; `None` if its packets need more than headers and a trailer around them.
    pub(crate) fn new(layout: &Layout, outer: Option<&OuterHeader>) -> Option<Self> {
        let (None, Some(esp), 0) = (layout.ah, layout.esp, layout.pad_to) else { return None };
        let udp = match layout.udp {
            Some(udp) => {
                let mut header = [0; UDP_HEADER_LEN];
                write_udp(&mut header, udp, 0);
                u64::from_le_bytes(header)
            }
            None => 0,
        };
        let form = match outer {
            Some(outer) if outer.is_v4() => TUNNEL_V4,
            Some(_) => TUNNEL_V6,
            None => OWN_HEADER,
        };
        let front = outer.map_or(0, OuterHeader::len) + if udp == 0 { 0 } else { UDP_HEADER_LEN } + ESP_HEADER + esp.iv;
        let alignment_mask = u8::try_from(esp.alignment - 1).ok().filter(|_| esp.alignment.is_power_of_two())?;
        let (words, sum) = outer.map_or(([0; 5], 0), OuterHeader::words);
        let (front, icv) = (NonZeroU8::new(u8::try_from(front).ok()?)?, u8::try_from(esp.icv).ok()?);
        let outfit = Self { outer: words, udp, sum, spi: esp.spi, longest: 0, form, front, icv, alignment_mask };
        // What IPv4 can tell, IPv6 can, too.
        let longest = u16::try_from(MAX_V4.checked_sub(usize::from(front.get()) + outfit.most_back())?).ok()?;
        Some(Self { longest, ..outfit })
    }

    /// What goes in front.
    #[inline]
    pub(crate) const fn form(&self) -> u8 {
        self.form
    }

    /// Most bytes behind the payload.
    #[inline]
    fn most_back(&self) -> usize {
        usize::from(self.alignment_mask) + ipsec::TRAILER_LENGTH + usize::from(self.icv)
    }

    /// Whether there is room for all of it around a packet, with padding of any length: in its IP length field, and in `buffer`, which it begins `l3` bytes
    /// behind the start of, and where padding of the link may follow it.
    #[inline(always)]
    pub(crate) fn fits(&self, plain: Plain, l3: usize, buffer: &Buffer) -> bool {
        let (length, room) = (plain.length as usize, buffer.capacity() - buffer.headroom());
        length <= usize::from(self.longest) && usize::from(self.front.get()) <= buffer.headroom() && l3 + length + self.most_back() <= room
    }

    /// Where ESP begins, in bytes from the start of the outermost IP header.
    #[inline(always)]
    pub(crate) const fn esp_offset(&self, plain: Plain) -> usize {
        let header = match self.form {
            TUNNEL_V4 => IPV4_HEADER_LEN,
            TUNNEL_V6 => IPV6_HEADER_LEN,
            _ => plain.header(),
        };
        if self.udp == 0 { header } else { header + UDP_HEADER_LEN }
    }

    /// Puts headers and trailer around a packet that [fits](Self::fits), behind `L3` bytes of link header: 0, or those of Ethernet II. `FORM` is
    /// [`Outfit::form`]. Returns next header and bytes of padding; `None` if `plain` is not that packet.
    #[inline(always)]
    pub(crate) fn put<const L3: usize, const FORM: u8>(&self, buffer: &mut Buffer, plain: Plain, number: u64) -> Option<(u8, u8)> {
        let (length, front, icv) = (plain.length as usize, usize::from(self.front.get()), usize::from(self.icv));
        let (payload, next_header) = match FORM {
            OWN_HEADER => (length.checked_sub(plain.header())?, plain.protocol),
            _ if plain.v4 => (length, IpProtocol::IPV4.0),
            _ => (length, IpProtocol::IPV6.0),
        };
        let padding = (payload + ipsec::TRAILER_LENGTH).wrapping_neg() & usize::from(self.alignment_mask);
        let back = padding + ipsec::TRAILER_LENGTH + icv;
        let total = front + length + back;
        let bytes = buffer.enclose(front, L3 + length, back).ok()?;
        // All headers but the UDP header. Said once, it is known to the end.
        let header = match FORM {
            TUNNEL_V4 => IPV4_HEADER_LEN,
            TUNNEL_V6 => IPV6_HEADER_LEN,
            _ => plain.header(),
        };
        if bytes.len() < L3 + header + ESP_HEADER {
            return None;
        }
        let rest = match FORM {
            TUNNEL_V4 => {
                let (outer, rest) = put_link_header::<L3>(bytes, front, EtherType::IPV4)?.split_first_chunk_mut()?;
                *outer = self.outer_v4(plain, total as u16, number as u16);
                rest
            }
            TUNNEL_V6 => {
                let (outer, rest) = put_link_header::<L3>(bytes, front, EtherType::IPV6)?.split_first_chunk_mut()?;
                *outer = self.outer_v6(plain, (total - IPV6_HEADER_LEN) as u16);
                rest
            }
            _ => own_header::<L3>(bytes, front, plain, total, if self.udp == 0 { IpProtocol::ESP } else { IpProtocol::UDP }),
        };
        let rest = if self.udp == 0 {
            rest
        } else {
            let (udp, rest) = rest.split_first_chunk_mut::<UDP_HEADER_LEN>()?;
            let length = (rest.len() + UDP_HEADER_LEN) as u16;
            *udp = (self.udp | u64::from(length.swap_bytes()) << 32).to_le_bytes();
            rest
        };
        let (esp, _) = rest.split_first_chunk_mut::<ESP_HEADER>()?;
        *esp = (u64::from(u32::from_le_bytes(self.spi)) | u64::from((number as u32).swap_bytes()) << 32).to_le_bytes();
        let room = bytes.get_mut(L3 + front + length..)?;
        if let Some(word) = room.first_chunk_mut::<TRAILER_WORD>()
            && padding + ipsec::TRAILER_LENGTH <= TRAILER_WORD
            && icv >= TRAILER_WORD
        {
            // What it has beyond the trailer is in the room for the ICV.
            *word = trailer_word(padding, next_header).to_le_bytes();
        } else {
            ipsec::write_trailer(room.get_mut(..back - icv)?, 0, next_header).ok()?;
        }
        Some((next_header, padding as u8))
    }

    #[inline(always)]
    fn outer_v4(&self, plain: Plain, total: u16, identification: u16) -> [u8; IPV4_HEADER_LEN] {
        let [first, second, third, ..] = self.outer;
        let (class, flags) = (plain.traffic_class, plain.dont_fragment);
        let sum = self.sum + u32::from(class) + u32::from(total) + u32::from(identification) + (u32::from(flags) << 8);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        let varies = u64::from(class) << 8 | u64::from(total.swap_bytes()) << 16 | u64::from(identification.swap_bytes()) << 32 | u64::from(flags) << 48;
        let mut header = [0; IPV4_HEADER_LEN];
        header[..8].copy_from_slice(&(first | varies).to_le_bytes());
        header[8..16].copy_from_slice(&(second | u64::from(sum.swap_bytes()) << 16).to_le_bytes());
        header[16..].copy_from_slice(&(third as u32).to_le_bytes());
        header
    }

    #[inline(always)]
    fn outer_v6(&self, plain: Plain, payload: u16) -> [u8; IPV6_HEADER_LEN] {
        let [first, addresses @ ..] = self.outer;
        let class = (u16::from(plain.traffic_class) << 4).swap_bytes();
        let mut header = [0; IPV6_HEADER_LEN];
        let varies = u64::from(class) | u64::from(payload.swap_bytes()) << 32;
        header[..8].copy_from_slice(&(first | varies).to_le_bytes());
        for (word, bytes) in addresses.into_iter().zip(header[8..].as_chunks_mut::<8>().0) {
            *bytes = word.to_le_bytes();
        }
        header
    }
}

/// Moves the link header from `front` to the start, and has it announce `ethertype`; returns what follows it. (Ethernet II: a frame of another kind is not
/// plain.)
#[inline(always)]
fn put_link_header<const L3: usize>(bytes: &mut [u8], front: usize, ethertype: EtherType) -> Option<&mut [u8]> {
    const ADDRESSES: usize = ETHERNET_HEADER_LEN - 2;
    if L3 == 0 {
        return Some(bytes);
    }
    let addresses = *bytes.get(front..front + ADDRESSES)?.first_chunk::<ADDRESSES>()?;
    let (header, rest) = bytes.split_first_chunk_mut::<ETHERNET_HEADER_LEN>()?;
    header[..ADDRESSES].copy_from_slice(&addresses);
    header[ADDRESSES..].copy_from_slice(&ethertype.0.to_be_bytes());
    Some(rest)
}

/// Transport mode: moves link header and IP header to the start, and has the latter announce `protocol` and `total`; returns what follows them.
#[inline]
fn own_header<const L3: usize>(bytes: &mut [u8], front: usize, plain: Plain, total: usize, protocol: IpProtocol) -> &mut [u8] {
    let header = plain.header();
    move_link_header(bytes, front, 0, L3);
    bytes.copy_within(front + L3..front + L3 + header, L3);
    let (_, rest) = bytes.split_at_mut(L3);
    let (ip, rest) = rest.split_at_mut(header);
    ip[if plain.v4 { 9 } else { 6 }] = protocol.0;
    set_total(ip, header, total);
    rest
}

/// Padding, its length and the next header as a little-endian number; zeros behind. At most 6 bytes of padding.
#[inline(always)]
const fn trailer_word(padding: usize, next_header: u8) -> u64 {
    const PADDING: u64 = 0x0706_0504_0302_0100 >> 8;
    let bits = 8 * padding as u32;
    PADDING & ((1 << bits) - 1) | (padding as u64 | (next_header as u64) << 8) << bits
}

#[cfg(test)]
mod tests {
    use packet::{EthernetKind, ParsedIp};
    use proptest::prelude::*;

    use super::*;
    use crate::framing::{EspLayout, Numbers, Room, Shape, encapsulate};
    use crate::parameters::UdpEncapsulation;

    fn outer(which: u8) -> Option<OuterHeader> {
        let (source, destination) = match which {
            0 => return None,
            1 => ("192.0.2.1", "203.0.113.254"),
            _ => ("2001:db8::1", "2001:db8:ffff::fffe"),
        };
        Some(OuterHeader::new(source.parse().unwrap(), destination.parse().unwrap(), IpProtocol::ESP))
    }

    /// A plain packet in a frame, and what is to be known of it.
    fn packet(ethernet: bool, v4: bool, class: u8, df: bool, payload: &[u8]) -> (Vec<u8>, Plain) {
        let mut frame = if ethernet { vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0, 0] } else { vec![] };
        let header = if v4 { 20 } else { 40 };
        if let [.., high, low] = frame.as_mut_slice() {
            [*high, *low] = if v4 { [0x08, 0x00] } else { [0x86, 0xdd] };
        }
        let total = header + payload.len();
        let mut ip = vec![0x77; header];
        if v4 {
            (ip[0], ip[1], ip[9]) = (0x45, class, 17);
            ip[2..4].copy_from_slice(&(total as u16).to_be_bytes());
            ip[6..8].copy_from_slice(&if df { [0x40, 0] } else { [0, 0] });
        } else {
            (ip[0], ip[1], ip[6]) = (0x60 | class >> 4, class << 4 | 5, 17);
            ip[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
        }
        frame.extend(ip);
        frame.extend(payload);
        let plain = Plain { length: total as u32, traffic_class: class, protocol: 17, v4, dont_fragment: if df || !v4 { DONT_FRAGMENT } else { 0 } };
        (frame, plain)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Two ways to the same bytes, in the same place, and the same opinion of what has no room.
        #[test]
        fn makes_the_same_of_a_packet_as_the_general_way(
            (which, udp, ethernet, v4) in (0..3_u8, any::<bool>(), any::<bool>(), any::<bool>()),
            (class, df, number) in (any::<u8>(), any::<bool>(), any::<u64>()),
            (iv, icv, alignment) in proptest::sample::select(vec![(8, 16, 4), (8, 8, 4), (8, 12, 4), (16, 12, 16), (8, 12, 8), (0, 16, 4), (16, 0, 16), (0, 0, 4), (0, 32, 4)]),
            length in prop_oneof![0..200_usize, 1300..1500_usize, 65_400..65_500_usize],
            (link_padding, headroom, tailroom) in (0..20_usize, prop_oneof![Just(256), 0..100_usize], prop_oneof![Just(128), 0..40_usize]),
        ) {
            let udp = udp.then_some(UdpEncapsulation { source_port: 4501, destination_port: 4500 });
            let layout = Layout { udp, ah: None, esp: Some(EspLayout { spi: [1, 2, 3, 4], iv, icv, alignment }), pad_to: 0 };
            let outer = outer(which);
            let (frame, plain) = packet(ethernet, v4, class, df, &vec![0x5a; length]);
            let l3 = if ethernet { 14 } else { 0 };
            let buffer = || {
                let mut buffer = Buffer::zeroed(headroom, frame.len() + link_padding, tailroom);
                buffer.as_mut_slice()[..frame.len()].copy_from_slice(&frame);
                buffer
            };
            let mut general = buffer();
            let parsed = ParsedIp::parse(&frame[l3..]).unwrap();
            general.trim_back(link_padding);
            let shape = Shape { length: parsed.total_len(), version: parsed.version(), point: parsed.insertion_point(), part: false };
            let room = Room::measure(shape, outer.as_ref(), &layout).ok().filter(|room| room.fits(None, &general));
            let outfit = Outfit::new(&layout, outer.as_ref()).unwrap();
            let mut swift = buffer();
            let Some(room) = room else {
                prop_assert!(!outfit.fits(plain, l3, &swift));
                return Ok(());
            };
            if !outfit.fits(plain, l3, &swift) {
                // Only where some other padding would have no room.
                prop_assert!(room.total + alignment > 65_535 || general.tailroom() < room.back + alignment);
                return Ok(());
            }
            let framed = encapsulate(&mut general, l3, outer.as_ref(), &layout, &room, Numbers { esp: number, ah: 0 }, false).unwrap();
            let put = match (ethernet, outfit.form()) {
                (true, TUNNEL_V4) => outfit.put::<14, TUNNEL_V4>(&mut swift, plain, number),
                (true, TUNNEL_V6) => outfit.put::<14, TUNNEL_V6>(&mut swift, plain, number),
                (true, _) => outfit.put::<14, OWN_HEADER>(&mut swift, plain, number),
                (false, TUNNEL_V4) => outfit.put::<0, TUNNEL_V4>(&mut swift, plain, number),
                (false, TUNNEL_V6) => outfit.put::<0, TUNNEL_V6>(&mut swift, plain, number),
                (false, _) => outfit.put::<0, OWN_HEADER>(&mut swift, plain, number),
            };
            prop_assert_eq!(put, Some((framed.next_header, framed.pad_length)));
            prop_assert_eq!(l3 + outfit.esp_offset(plain), framed.esp as usize);
            prop_assert_eq!((swift.headroom(), swift.tailroom()), (general.headroom(), general.tailroom()));
            // The IV and the ICV are not there yet.
            for buffer in [&mut general, &mut swift] {
                let end = buffer.len() - icv;
                let bytes = buffer.as_mut_slice();
                bytes[end..].fill(0);
                bytes[framed.esp as usize + ESP_HEADER..][..iv].fill(0);
            }
            prop_assert_eq!(swift.as_slice(), general.as_slice());
            if ethernet {
                let EthernetKind::Type(ethertype) = packet::EthernetFrame::new(swift.as_slice()).unwrap().kind() else { panic!("another kind of frame") };
                prop_assert_eq!(ethertype.ip_version(), packet::IpVersion::of_first_byte(swift.as_slice()[14]));
            }
        }
    }

    #[test]
    fn an_sa_whose_packets_need_more_has_none() {
        let esp = EspLayout { spi: [0, 0, 1, 0], iv: 8, icv: 16, alignment: 4 };
        let plain = Layout { udp: None, ah: None, esp: Some(esp), pad_to: 0 };
        assert!(Outfit::new(&plain, outer(1).as_ref()).is_some());
        let ah = crate::framing::AhLayout { spi: [0, 0, 1, 1], v4: 28, v6: 32 };
        for layout in [
            Layout { esp: None, ..plain },
            Layout { ah: Some(ah), ..plain },
            Layout { pad_to: 100, ..plain },
            Layout { esp: Some(EspLayout { alignment: 12, ..esp }), ..plain },
        ] {
            assert!(Outfit::new(&layout, outer(1).as_ref()).is_none(), "{layout:?}");
        }
    }
}
