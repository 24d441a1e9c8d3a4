//! An 802.1Q tag put into a frame, and taken out of it: right behind the addresses, in front of all others.

use crate::buffer::{Buffer, NoRoom};
use crate::ethernet::{ETHERNET_HEADER_LEN, EtherType, VLAN_TAG_LEN};

const ADDRESSES: usize = 12;

/// Puts an 802.1Q tag in front of all others of the Ethernet frame in `buffer`, which becomes 4 bytes longer at the front. `tci`: tag control information.
///
/// ```
/// use packet::{Buffer, insert_tag, strip_tag};
///
/// let frame = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45];
/// let mut buffer = Buffer::copy_from(&frame);
/// insert_tag(&mut buffer, 0xa005).unwrap();
/// assert_eq!(buffer.as_slice()[12..19], [0x81, 0, 0xa0, 5, 8, 0, 0x45]);
/// assert_eq!(strip_tag(&mut buffer), Some(0xa005));
/// assert_eq!(buffer.as_slice(), frame);
/// ```
///
/// # Errors
/// [`NoRoom`] if there are not 4 bytes of headroom, or no Ethernet header; the buffer is unchanged.
pub fn insert_tag(buffer: &mut Buffer, tci: u16) -> Result<(), NoRoom> {
    if buffer.len() < ETHERNET_HEADER_LEN {
        return Err(NoRoom { asked: ETHERNET_HEADER_LEN, available: buffer.len() });
    }
    buffer.prepend(VLAN_TAG_LEN)?;
    if let Some(header) = buffer.as_mut_slice().first_chunk_mut::<{ ADDRESSES + VLAN_TAG_LEN }>() {
        header.copy_within(VLAN_TAG_LEN.., 0);
        let ([.., p0, p1, t0, t1], [h0, h1], [l0, l1]) = (header, EtherType::VLAN.0.to_be_bytes(), tci.to_be_bytes());
        (*p0, *p1, *t0, *t1) = (h0, h1, l0, l1);
    }
    Ok(())
}

/// Takes the outermost tag out of the Ethernet frame in `buffer`, which becomes 4 bytes shorter at the front, and returns its tag control information. `None`,
/// and nothing is changed, if the frame has no 802.1Q tag there, or one of priority and VLAN 0, which could not be told from none.
pub fn strip_tag(buffer: &mut Buffer) -> Option<u16> {
    let header = buffer.as_mut_slice().first_chunk_mut::<{ ETHERNET_HEADER_LEN + VLAN_TAG_LEN }>()?;
    let [.., p0, p1, t0, t1, _, _] = *header;
    let tci = u16::from_be_bytes([t0, t1]);
    if EtherType(u16::from_be_bytes([p0, p1])) != EtherType::VLAN || tci == 0 {
        return None;
    }
    header.copy_within(..ADDRESSES, VLAN_TAG_LEN);
    buffer.trim_front(VLAN_TAG_LEN);
    Some(tci)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_are_too_short_or_have_no_room_stay_as_they_are() {
        for length in 0..ETHERNET_HEADER_LEN {
            let mut buffer = Buffer::zeroed(64, length, 0);
            assert!(insert_tag(&mut buffer, 5).is_err());
            assert_eq!((buffer.len(), buffer.headroom()), (length, 64));
        }
        for headroom in 0..VLAN_TAG_LEN {
            let mut buffer = Buffer::zeroed(headroom, 60, 0);
            assert_eq!(insert_tag(&mut buffer, 5), Err(NoRoom { asked: VLAN_TAG_LEN, available: headroom }));
            assert_eq!(buffer.len(), 60);
        }
    }

    #[test]
    fn only_what_can_be_told_out_of_band_is_taken_out() {
        let frame = |tpid: u16, tci: u16| [&[7; 12][..], &tpid.to_be_bytes(), &tci.to_be_bytes(), &[8, 0, 0x45]].concat();
        for (tpid, tci, expected) in [(0x8100, 1, Some(1)), (0x8100, 0xe000, Some(0xe000)), (0x8100, 0, None), (0x88a8, 1, None), (0x0800, 1, None)] {
            let mut buffer = Buffer::copy_from(&frame(tpid, tci));
            assert_eq!(strip_tag(&mut buffer), expected, "{tpid:#x}");
            assert_eq!(buffer.len(), if expected.is_some() { 15 } else { 19 });
        }
        // Behind a service tag, and cut within the tag.
        let mut two = Buffer::copy_from(&[&[7; 12][..], &[0x88, 0xa8, 0, 9, 0x81, 0, 0, 5, 8, 0]].concat());
        assert_eq!((strip_tag(&mut two), two.len()), (None, 22));
        let mut cut = Buffer::copy_from(&frame(0x8100, 1)[..17]);
        assert_eq!((strip_tag(&mut cut), cut.len()), (None, 17));
    }
}
