//! Packets of a capture as frames for the host, and frames of the host as packets of a capture.

use link::capture::{CaptureError, CaptureFormat, CaptureInterface, CaptureReader, CaptureWriter, CapturedFrame, Network, Problem};
use packet::{BufferPool, ETHERNET_HEADER_LEN, EtherType, EthernetRepr, Frame, FrameBatch, IpVersion, MacAddress, Medium, unpack_trains};
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
    /// Those that are nothing for it: cut by the snap length, of a link type that is not understood, or something without an Ethernet header that is not
    /// IP.
    pub(super) aside: Vec<Aside>,
    /// What the first packet began with whose link type is understood.
    pub(super) medium: Option<Medium>,
    /// What is wrong with the first packet whose link type is not understood.
    unknown: Option<CaptureError>,
    /// Why there is nothing behind the packets that were read.
    damage: Option<CaptureError>,
}

impl Packets {
    /// Reads up to `batch` packets in place of those that are here. Returns whether there were any: also those before a damage come first, and
    /// [`Self::end`] says what is wrong.
    pub(super) fn read(&mut self, reader: &mut CaptureReader, pool: &mut BufferPool, batch: usize) -> bool {
        self.frames.clear();
        self.aside.clear();
        while self.damage.is_none() && self.frames.len() + self.aside.len() < batch {
            let captured = match reader.next_frame(pool) {
                Ok(Some(captured)) => captured,
                Ok(None) => break,
                Err(error) => {
                    self.note(error, reader.format());
                    continue;
                }
            };
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
        !self.frames.is_empty() || !self.aside.is_empty()
    }

    /// A packet of an unknown link type is dropped, because the next one may have another; in a pcap file all have the same.
    fn note(&mut self, error: CaptureError, format: CaptureFormat) {
        match (&error.problem, error.packet) {
            (Problem::LinkType { .. }, Some(number)) if format == CaptureFormat::Pcapng => {
                self.aside.push(Aside { number, verdict: Verdict::Dropped(DropReason::Unsupported) });
                self.unknown.get_or_insert(error);
            }
            _ => self.damage = Some(error),
        }
    }

    /// How the capture ended, once nothing more was read: the damage that it ended in, if it did.
    ///
    /// # Errors
    /// There were packets, and none of them of a link type that is understood.
    pub(super) fn end(self) -> Result<Option<CaptureError>, CaptureError> {
        match (self.medium, self.unknown, self.damage) {
            (None, Some(unknown), _) => Err(unknown),
            (.., Some(unknown)) if matches!(unknown.problem, Problem::LinkType { .. }) => Err(unknown),
            (.., damage) => Ok(damage),
        }
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
    unpack_trains(frames, pool);
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
