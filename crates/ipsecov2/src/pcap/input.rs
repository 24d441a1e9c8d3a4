//! Packets of a capture as frames for the host, and frames of the host as packets of a capture.

use link::capture::{CaptureError, CaptureInterface, CaptureReader, CaptureWriter, CapturedFrame, Network};
use packet::{BufferPool, ETHERNET_HEADER_LEN, EtherType, EthernetRepr, Frame, FrameBatch, IpVersion, MacAddress, Medium};
use transport::{DropReason, Verdict};

/// Bit of a frame's tag: the capture's packet had no Ethernet header; the one that the frame has was made here.
const WITHOUT_ETHERNET: u64 = 1 << 63;

/// The number of a frame's packet in the capture, from 1.
pub(super) const fn number(tag: u64) -> u64 {
    tag & !WITHOUT_ETHERNET
}

/// What became of a packet that never got to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Aside {
    /// Its number in the capture.
    pub(super) number: u64,
    pub(super) verdict: Verdict,
}

/// Some packets of a capture, in order.
#[derive(Default)]
pub(super) struct Packets {
    /// Those for the host.
    pub(super) frames: FrameBatch,
    /// Those that are nothing for it: cut by the snap length, or something without an Ethernet header that is not IP.
    pub(super) aside: Vec<Aside>,
    /// What the first packet of the capture began with.
    pub(super) medium: Option<Medium>,
}

impl Packets {
    /// Reads up to `batch` packets in place of those that are here. Returns whether there were any.
    pub(super) fn read(&mut self, reader: &mut CaptureReader, pool: &mut BufferPool, batch: usize) -> Result<bool, CaptureError> {
        self.frames.clear();
        self.aside.clear();
        while self.frames.len() + self.aside.len() < batch {
            let Some(captured) = reader.next_frame(pool)? else { break };
            self.medium.get_or_insert(captured.medium);
            let number = captured.frame.tag;
            match for_host(captured) {
                Ok(frame) => self.frames.push(frame),
                Err((frame, verdict)) => {
                    pool.give(frame.buffer);
                    self.aside.push(Aside { number, verdict });
                }
            }
        }
        Ok(!self.frames.is_empty() || !self.aside.is_empty())
    }
}

/// The packet as an Ethernet frame, or what becomes of it instead.
fn for_host(captured: CapturedFrame) -> Result<Frame, (Frame, Verdict)> {
    let is_cut = captured.is_cut();
    let CapturedFrame { mut frame, medium, network, .. } = captured;
    if is_cut {
        return Err((frame, Verdict::Dropped(DropReason::Truncated)));
    }
    match (medium, network) {
        (Medium::Ethernet, _) => Ok(frame),
        (Medium::Ip, Network::Ip { .. }) => {
            // What is neither version is IP by what the capture says: the host finds it malformed.
            let version = frame.buffer.as_slice().first().and_then(|&byte| IpVersion::of_first_byte(byte)).unwrap_or(IpVersion::V4);
            let header = EthernetRepr::new(MacAddress::default(), MacAddress::default(), EtherType::from(version));
            let payload = frame.buffer.len();
            // A fresh frame has room for a link header.
            match frame.buffer.prepend(header.header_len()).map(|space| header.emit(space, payload)) {
                Ok(Ok(_)) => {
                    frame.tag |= WITHOUT_ETHERNET;
                    Ok(frame)
                }
                _ => Err((frame, Verdict::Dropped(DropReason::TooBig))),
            }
        }
        (Medium::Ip, Network::Other { .. }) => Err((frame, Verdict::Passed)),
        (Medium::Ip, Network::Short { .. }) => Err((frame, Verdict::Dropped(DropReason::Malformed))),
    }
}

/// Says what the packets of an output are when the first of the input is known, so that also an output without packets says so.
pub(super) fn declare(writer: &mut CaptureWriter, medium: Medium) -> Result<(), CaptureError> {
    writer.add_interface(&CaptureInterface::new(medium)).map(|_| ())
}

/// Writes frames of the host, each with or without an Ethernet header as its packet came, and gives the buffers back.
pub(super) fn write(writer: &mut CaptureWriter, frames: &mut FrameBatch, pool: &mut BufferPool) -> Result<(), CaptureError> {
    for mut frame in frames.drain(..) {
        let medium = if frame.tag & WITHOUT_ETHERNET == 0 {
            Medium::Ethernet
        } else {
            frame.buffer.trim_front(ETHERNET_HEADER_LEN);
            Medium::Ip
        };
        writer.write_frame(&frame, medium)?;
        pool.give(frame.buffer);
    }
    Ok(())
}
