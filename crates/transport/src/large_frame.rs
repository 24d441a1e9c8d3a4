//! Headers in front of a large packet, and off again: as those of any packet, but nothing behind it (OV2-SEND-4).

use packet::{AH_FIXED_LEN, Buffer, InsertionPoint, IpProtocol, IpVersion, ParsedIp, UDP_HEADER_LEN};

use crate::framing::{ESP_HEADER, Framed, Layout, Numbers, move_link_header, set_ethertype, write_ah, write_udp};
use crate::outer::{Inner, OuterHeader};

/// Bytes that go in front of a packet's payload (or in a tunnel, the packet).
pub(crate) fn front_len(version: IpVersion, outer: Option<&OuterHeader>, layout: &Layout) -> usize {
    let v4 = outer.map_or(version == IpVersion::V4, OuterHeader::is_v4);
    let udp = if layout.udp.is_some() { UDP_HEADER_LEN } else { 0 };
    let ah = layout.ah.map_or(0, |ah| if v4 { ah.v4 } else { ah.v6 });
    outer.map_or(0, OuterHeader::len) + udp + ah + layout.esp.map_or(0, |esp| ESP_HEADER + esp.iv)
}

/// Puts a bundle's headers around the large packet at `l3` of `buffer`. The length field of the outermost IP header says nothing, or with `true_length` what
/// there is. `None`, and nothing is changed, if there is no room.
pub(crate) fn put_in_front(
    buffer: &mut Buffer,
    l3: usize,
    point: InsertionPoint,
    outer: Option<&OuterHeader>,
    layout: &Layout,
    numbers: Numbers,
    true_length: bool,
) -> Option<Framed> {
    let version = IpVersion::of_first_byte(*buffer.as_slice().get(l3)?)?;
    let front = front_len(version, outer, layout);
    let inner = Inner::read(buffer.as_slice().get(l3..)?);
    buffer.prepend(front).ok()?;
    let bytes = buffer.as_mut_slice();
    let total = bytes.len() - l3;
    let (header, next_header) = if let Some(outer) = outer {
        move_link_header(bytes, front, 0, l3);
        if l3 != 0 && outer.is_v4() != (version == IpVersion::V4) {
            set_ethertype(bytes, l3, outer.is_v4());
        }
        let identification = if layout.ah.is_some() { numbers.ah } else { numbers.esp };
        outer.write(&mut bytes[l3..], outer.len().max(40), inner, identification as u16);
        (outer.len(), version.protocol())
    } else {
        bytes.copy_within(front..front + l3 + point.offset, 0);
        bytes[l3 + point.pointer] = layout.protocol().0;
        (point.offset, point.protocol)
    };
    set_length(&mut bytes[l3..], if true_length { total as u16 } else { 0 });
    let mut framed = Framed { ip: l3 as u32, ah: 0, esp: 0, end: bytes.len() as u32, next_header: next_header.0, pad_length: 0 };
    let mut at = l3 + header;
    if let Some(udp) = layout.udp {
        // Each segment has a length of its own.
        write_udp(&mut bytes[at..], udp, 0);
        at += UDP_HEADER_LEN;
    }
    if let Some(ah) = layout.ah {
        let length = front + if outer.is_none() { header } else { 0 } - (at - l3) - layout.esp.map_or(0, |esp| ESP_HEADER + esp.iv);
        framed.ah = at as u32;
        let next = if layout.esp.is_some() { IpProtocol::ESP } else { next_header };
        debug_assert!(length >= AH_FIXED_LEN);
        write_ah(&mut bytes[at..at + length], next, ah.spi, numbers.ah);
        at += length;
    }
    if let Some(esp) = layout.esp {
        framed.esp = at as u32;
        bytes[at..at + 4].copy_from_slice(&esp.spi);
        bytes[at + 4..at + 8].copy_from_slice(&(numbers.esp as u32).to_be_bytes());
        // Room for the IV: what the buffer held before goes nowhere.
        bytes[at + ESP_HEADER..at + ESP_HEADER + esp.iv].fill(0);
    }
    Some(framed)
}

/// Takes `front` bytes of headers off a large packet again, which then is what it was before. `next_header`: what followed the IPsec headers. `None` if these
/// are not there.
pub(crate) fn take_off(buffer: &mut Buffer, l3: usize, front: usize, tunnel: bool, next_header: u8) -> Option<()> {
    let bytes = buffer.as_mut_slice();
    if tunnel {
        let version = IpVersion::of_first_byte(*bytes.get(l3 + front)?)?;
        move_link_header(bytes, 0, front, l3);
        if l3 != 0 {
            set_ethertype(&mut bytes[front..], l3, version == IpVersion::V4);
        }
    } else {
        let parsed = ParsedIp::parse_whole(bytes.get(l3..)?).ok()?;
        let header = l3 + parsed.header_len();
        bytes.get(..header + front)?;
        bytes[l3 + parsed.protocol_offset()] = next_header;
        bytes.copy_within(..header, front);
    }
    buffer.trim_front(front);
    Some(())
}

/// Sets the length field of the IP header at the start of `ip`.
fn set_length(ip: &mut [u8], length: u16) {
    let field = if ip[0] >> 4 == 4 { 2 } else { 4 };
    ip[field..field + 2].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::{AhLayout, EspLayout};
    use crate::parameters::UdpEncapsulation;

    const ESP: EspLayout = EspLayout { spi: [0, 0, 1, 1], iv: 8, icv: 16, alignment: 4 };
    const AH: AhLayout = AhLayout { spi: [0, 0, 2, 2], v4: 24, v6: 32 };

    #[test]
    fn what_was_put_in_front_comes_off_again() {
        let udp = UdpEncapsulation { source_port: 4500, destination_port: 4500 };
        let layouts = [(None, None, Some(ESP)), (None, Some(AH), None), (None, Some(AH), Some(ESP)), (Some(udp), None, Some(ESP))];
        let outers = [None, Some(["192.0.2.1", "192.0.2.2"]), Some(["2001:db8::1", "2001:db8::2"])];
        for (udp, ah, esp) in layouts {
            let layout = Layout { udp, ah, esp, pad_to: 0 };
            for outer in outers {
                let outer = outer.map(|[from, to]| OuterHeader::new(from.parse().unwrap(), to.parse().unwrap(), layout.protocol()));
                for v6 in [false, true] {
                    let (head, ethertype) = if v6 { (48, [0x86, 0xdd]) } else { (20, [8, 0]) };
                    let mut bytes = [&[7; 12][..], &ethertype].concat();
                    bytes.extend(vec![0; head]);
                    bytes[14] = if v6 { 0x60 } else { 0x45 };
                    if v6 {
                        // Destination options, which are protected.
                        (bytes[14 + 6], bytes[14 + 40]) = (60, 6);
                    } else {
                        bytes[14 + 9] = 6;
                    }
                    bytes.extend(0..200u8);
                    let before = bytes.clone();
                    let mut buffer = Buffer::copy_from(&bytes);
                    let point = ParsedIp::parse_whole(&bytes[14..]).unwrap().insertion_point();
                    let version = if v6 { IpVersion::V6 } else { IpVersion::V4 };
                    let front = front_len(version, outer.as_ref(), &layout);
                    let framed = put_in_front(&mut buffer, 14, point, outer.as_ref(), &layout, Numbers { esp: 5, ah: 6 }, false).unwrap();
                    assert_eq!(buffer.len(), before.len() + front);
                    assert_eq!((framed.ah != 0, framed.esp != 0), (ah.is_some(), esp.is_some()));
                    assert!(buffer.as_slice().ends_with(&before[14 + point.offset..]));
                    take_off(&mut buffer, 14, front, outer.is_some(), framed.next_header).unwrap();
                    assert_eq!(buffer.as_slice(), before, "{layout:?} {outer:?} {v6}");
                }
            }
        }
        let mut small = Buffer::zeroed(3, 60, 0);
        small.as_mut_slice()[0] = 0x45;
        let point = ParsedIp::parse_whole(small.as_slice()).unwrap().insertion_point();
        let layout = Layout { udp: None, ah: None, esp: Some(ESP), pad_to: 0 };
        assert!(put_in_front(&mut small, 0, point, None, &layout, Numbers::default(), false).is_none());
        assert_eq!((small.headroom(), small.len()), (3, 60));
        assert!(take_off(&mut small, 0, 64, true, 6).is_none() && take_off(&mut small, 0, 64, false, 6).is_none());
    }
}
