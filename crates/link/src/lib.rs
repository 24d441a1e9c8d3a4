//! Where packets come from and go to: memory pair, pcap and pcapng files.
//!
//! A [`Link`] moves frames in batches. Buffers come from the pool of the lane that asks, and go back to the pool of the lane that sends; in steady state
//! no packet costs an allocation or a lock of its own. There is one module per kind of link:
//!
//! - [`memory`]: two ends of a wire in memory, for hosts inside one process and for tests under virtual time;
//! - [`capture`]: pcap and pcapng files, streamed from any `Read` and to any `Write`, with what a link cannot carry (packets that were cut, comments,
//!   several link types in one file, keys) beside the plain source and sink.
//!
//! ```
//! use link::capture::{CaptureFormat, CaptureOptions, CaptureReader, CaptureWriter, Network};
//! use packet::{BufferPool, Frame, Medium, Time};
//!
//! let mut pool = BufferPool::new();
//!
//! // Write a capture into memory...
//! let options = CaptureOptions { application: Some("an example".into()), ..CaptureOptions::new(CaptureFormat::Pcapng) };
//! let mut writer = CaptureWriter::new(Vec::new(), "example", &options)?;
//! let mut frame = Frame::new(pool.copy_from(&[0x45; 20]));
//! frame.timestamp = Time::from_nanos(1_700_000_000_123_456_789);
//! writer.write_frame(&frame, Medium::Ip)?;
//! let file = writer.into_inner()?;
//!
//! // ...and read it back: the format is recognised by its content.
//! let mut reader = CaptureReader::new(&file[..], "example")?;
//! let packet = reader.next_frame(&mut pool)?.expect("there is one");
//! assert_eq!(packet.frame.buffer.as_slice(), [0x45; 20]);
//! assert_eq!(packet.frame.timestamp, frame.timestamp);
//! assert_eq!((packet.medium, packet.network, packet.frame.tag), (Medium::Ip, Network::Ip { offset: 0 }, 1));
//! assert!(reader.next_frame(&mut pool)?.is_none());
//! # Ok::<(), link::capture::CaptureError>(())
//! ```
#![forbid(unsafe_code)]

use packet::{BufferPool, FrameBatch, Medium};

pub mod capture;
pub mod memory;

/// Where frames come from and go to, in batches and in order.
///
/// Calls never block on the other side: a link that has nothing says [`Received::Idle`]. (A capture that is read from a pipe does wait for the pipe.)
pub trait Link: Send {
    /// What the link's frames begin with.
    fn medium(&self) -> Medium;

    /// Appends up to `max` frames to `frames`, oldest first, in buffers from `pool` with the usual room around the packet.
    ///
    /// # Errors
    /// [`LinkError`] if the link failed. Everything that came before the failure has been delivered by earlier calls, and `frames` is unchanged.
    fn receive(&mut self, pool: &mut BufferPool, frames: &mut FrameBatch, max: usize) -> Result<Received, LinkError>;

    /// Sends `frames` in order, takes them out of the batch, and gives their buffers back to `pool` (for a link in memory: buffers that the other end
    /// is done with).
    ///
    /// A link that is full takes what it has room for. What is left in `frames`, in order, has not been sent: the caller tries again later, or drops
    /// and counts it.
    ///
    /// # Errors
    /// [`LinkError`] if the link failed. What is left in `frames` has not been sent.
    fn send(&mut self, pool: &mut BufferPool, frames: &mut FrameBatch) -> Result<(), LinkError>;
}

/// What [`Link::receive`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many frames (1 or more) were appended.
    Frames(usize),
    /// Nothing now; more may come.
    Idle,
    /// Nothing, and nothing will come any more.
    End,
}

/// Why a link failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// Frames were to be sent on a link that they only come from.
    #[error("the link is for receiving only")]
    ReceiveOnly,
    /// The other end is gone: what is sent would reach nobody.
    #[error("the other end of the link is gone")]
    Closed,
    /// Reading or writing a capture failed.
    #[error(transparent)]
    Capture(#[from] capture::CaptureError),
}
