//! 802.1Q tags out of band: put into frames as they go to the wire, taken out of received ones before anything else is done to them (OV2-OOB-4).

use ndis::{NetBufferList, TagOutOfBand};
use packet::{Buffer, EtherType};

use super::counters::SendFailure;

/// Puts the tag into a frame that has room for it in front.
///
/// # Errors
/// [`SendFailure::Lengths`] if it has not; nothing is changed.
pub(super) fn insert(buffer: &mut Buffer, tag: TagOutOfBand) -> Result<(), SendFailure> {
    packet::insert_tag(buffer, tag.tci()).map_err(|_| SendFailure::Lengths)
}

/// Puts the tag into a frame that begins [`packet::VLAN_TAG_LEN`] bytes behind the start of `space`, which begins with it then.
pub(super) fn insert_into(space: &mut [u8], tag: TagOutOfBand) {
    if let Some(head) = space.first_chunk_mut::<16>() {
        head.copy_within(packet::VLAN_TAG_LEN.., 0);
        let ([a, b], [c, d]) = (EtherType::VLAN.0.to_be_bytes(), tag.tci().to_be_bytes());
        head[12..].copy_from_slice(&[a, b, c, d]);
    }
}

/// Puts a list's tag into each of its frames, which were checked to have room. The list then has none; where its IP headers begin has moved.
pub(super) fn insert_all(list: &mut NetBufferList) {
    let Some(tag) = list.oob.tag() else { return };
    for buffer in list.buffers_mut() {
        // That there is room was seen before anything was done.
        let inserted = insert(buffer, tag);
        debug_assert!(inserted.is_ok());
    }
}

/// Takes the tag out of a received frame, if it has one that can be told out of band.
pub(super) fn strip(list: &mut NetBufferList) {
    let tag = packet::strip_tag(&mut list.buffer).and_then(TagOutOfBand::new);
    list.oob.set_tag(tag);
}
