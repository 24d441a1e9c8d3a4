//! Captures as links.

use std::io::{Read, Write};

use packet::{BufferPool, EtherType, EthernetRepr, Frame, FrameBatch, IpVersion, MacAddress, Medium};

use super::CaptureInput;
use super::error::CaptureError;
use super::link_type::Network;
use super::reader::{CaptureReader, CapturedFrame};
use super::writer::CaptureWriter;
use crate::{Link, LinkError, Received};

/// A capture as a link that frames come from. Their tag is the packet's number in the file, from 1.
///
/// All frames have the link's medium, whatever the packets of the file begin with. On an IP link, Ethernet headers are taken off, and packets that are
/// not IP are left out; on an Ethernet link, packets without such a header get one with addresses of zeros, and those of them that are not IP are left
/// out. [`CaptureSource::counters`] says how many. Whoever needs to know more of each packet uses [`CaptureReader::next_frame`].
pub struct CaptureSource<R: Read = CaptureInput> {
    reader: CaptureReader<R>,
    medium: Medium,
    counters: SourceCounters,
    /// What stopped a batch that had frames already.
    failed: Option<CaptureError>,
}

/// What a [`CaptureSource`] has met, in packets. Every packet of the file is in one of the first two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceCounters {
    /// Delivered.
    pub delivered: u64,
    /// Left out, because the link's medium has no place for them.
    pub left_out: u64,
    /// Of the delivered ones: cut by the snap length.
    pub cut: u64,
}

impl<R: Read> CaptureSource<R> {
    /// A link with frames of `medium` made of what `reader` reads.
    pub fn new(reader: CaptureReader<R>, medium: Medium) -> Self {
        Self { reader, medium, counters: SourceCounters::default(), failed: None }
    }

    /// What was delivered and what was not.
    pub const fn counters(&self) -> SourceCounters {
        self.counters
    }
}

impl<R: Read + Send> Link for CaptureSource<R> {
    fn medium(&self) -> Medium {
        self.medium
    }

    fn receive(&mut self, pool: &mut BufferPool, frames: &mut FrameBatch, max: usize) -> Result<Received, LinkError> {
        let mut count = 0;
        while count < max && self.failed.is_none() {
            match self.reader.next_frame(pool) {
                Ok(Some(captured)) => {
                    let cut = captured.is_cut();
                    match on_medium(captured, self.medium) {
                        Ok(frame) => {
                            frames.push(frame);
                            count += 1;
                            self.counters.delivered += 1;
                            self.counters.cut += u64::from(cut);
                        }
                        Err(frame) => {
                            pool.give(frame.buffer);
                            self.counters.left_out += 1;
                        }
                    }
                }
                Ok(None) if count == 0 => return Ok(Received::End),
                Ok(None) => break,
                Err(error) => self.failed = Some(error),
            }
        }
        match (count, self.failed.take()) {
            (0, Some(error)) => Err(error.into()),
            (0, None) => Ok(Received::Idle),
            (count, failed) => {
                self.failed = failed;
                Ok(Received::Frames(count))
            }
        }
    }

    /// A capture that is read takes nothing.
    fn send(&mut self, _: &mut BufferPool, frames: &mut FrameBatch) -> Result<(), LinkError> {
        if frames.is_empty() { Ok(()) } else { Err(LinkError::ReceiveOnly) }
    }
}

/// The frame as it is on `medium`, or back if it has no place there.
fn on_medium(captured: CapturedFrame, medium: Medium) -> Result<Frame, Frame> {
    let CapturedFrame { mut frame, medium: has, network, .. } = captured;
    match (has, medium, network) {
        (Medium::Ethernet, Medium::Ethernet, _) | (Medium::Ip, Medium::Ip, Network::Ip { .. }) => Ok(frame),
        (Medium::Ethernet, Medium::Ip, Network::Ip { offset }) => {
            frame.buffer.trim_front(offset);
            Ok(frame)
        }
        (Medium::Ip, Medium::Ethernet, Network::Ip { .. }) => {
            let version = match frame.buffer.as_slice().first().map(|byte| byte >> 4) {
                Some(6) => IpVersion::V6,
                _ => IpVersion::V4,
            };
            let header = EthernetRepr::new(MacAddress::default(), MacAddress::default(), EtherType::from(version));
            let payload_len = frame.buffer.len();
            // A fresh frame has room for a link header.
            match frame.buffer.prepend(header.header_len()).map(|space| header.emit(space, payload_len)) {
                Ok(Ok(_)) => Ok(frame),
                _ => Err(frame),
            }
        }
        (_, _, Network::Other { .. } | Network::Short { .. }) => Err(frame),
    }
}

/// A capture as a link that frames go to.
pub struct CaptureSink<W: Write> {
    writer: CaptureWriter<W>,
    medium: Medium,
}

impl<W: Write> CaptureSink<W> {
    /// A link that writes frames of `medium`.
    pub fn new(writer: CaptureWriter<W>, medium: Medium) -> Self {
        Self { writer, medium }
    }

    /// The writer, to complete the capture.
    pub fn into_writer(self) -> CaptureWriter<W> {
        self.writer
    }
}

impl<W: Write + Send> Link for CaptureSink<W> {
    fn medium(&self) -> Medium {
        self.medium
    }

    /// Nothing ever comes from a capture that is written.
    fn receive(&mut self, _: &mut BufferPool, _: &mut FrameBatch, _: usize) -> Result<Received, LinkError> {
        Ok(Received::End)
    }

    fn send(&mut self, pool: &mut BufferPool, frames: &mut FrameBatch) -> Result<(), LinkError> {
        let mut written = 0;
        let result = frames.iter().try_for_each(|frame| self.writer.write_frame(frame, self.medium).map(|()| written += 1));
        frames.drain(..written).for_each(|frame| pool.give(frame.buffer));
        Ok(result?)
    }
}
