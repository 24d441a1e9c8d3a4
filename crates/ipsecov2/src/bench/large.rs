//! Large packets that the NIC cuts (OV2-SEND-4): what a super-packet of a virtual machine or of a tunnel device becomes.

use ipsec::{Crypto, EspSa};
use ndis::{HeaderTransmit, LargeSend, NblBatch, NetBufferList};
use packet::{IpProtocol, IpVersion, Ipv4Repr, ParsedIp, TCP_HEADER_LEN, TcpFlags, TcpRepr, segment};

use super::BenchError;
use super::engine::{Load, Supply};
use super::packets::{ENDS, ESP, LINK, spi};

/// A large packet that others are copied from: ESP in transport mode, TCP, and as many segments as fit, but at most those of a batch.
pub(super) struct LargeTemplate {
    frame: Vec<u8>,
    header: HeaderTransmit,
    header_offset: u16,
    mss: usize,
    /// Segments of a whole one.
    segments: usize,
}

impl LargeTemplate {
    /// Most payload of a large packet, in bytes: that of an IP packet that is as long as one can be, less all headers.
    pub(super) const PAYLOAD: usize = 65_000;

    /// For segments with `mss` bytes of payload, at most `batch` of them.
    pub(super) fn new(sa: &EspSa<Crypto>, mss: usize, batch: usize) -> Result<Self, BenchError> {
        let segments = (Self::PAYLOAD / mss.max(1)).clamp(1, batch.max(1));
        let wrong = |reason: String| BenchError::Packet { length: mss, reason };
        let mut frame = LINK.to_vec();
        frame.resize(ESP + sa.prefix_length(), 0);
        let repr = Ipv4Repr::new(IpProtocol::ESP, ENDS[0].into(), ENDS[1].into(), 0);
        repr.emit(&mut frame[LINK.len()..]).map_err(|error| wrong(error.to_string()))?;
        // The NIC makes it of nothing (LSO version 2).
        frame[LINK.len() + 2..][..2].fill(0);
        let upper = frame.len();
        frame.resize(upper + TCP_HEADER_LEN, 0);
        let tcp = TcpRepr { src_port: 40_000, dst_port: 443, sequence: 1, acknowledgment: 1, flags: TcpFlags::ACK, window: 1000, urgent: 0 };
        tcp.emit(&mut frame[upper..], &[]).map_err(|error| wrong(error.to_string()))?;
        let mut ip = [0; 20];
        Ipv4Repr::new(IpProtocol::TCP, ENDS[0].into(), ENDS[1].into(), 0).emit(&mut ip).map_err(|error| wrong(error.to_string()))?;
        let parsed = ParsedIp::parse_whole(&ip).map_err(|error| wrong(error.to_string()))?;
        if !segment::plant_seed(&mut frame, upper, &parsed) {
            return Err(BenchError::Impossible("a TCP header without a checksum"));
        }
        frame.resize(upper + TCP_HEADER_LEN + segments * mss, 0x5a);
        let header = HeaderTransmit { next_header: IpProtocol::TCP.0, pad_length: 0, ah_header_offset: 0, esp_header_offset: ((ESP - LINK.len()) / 4) as u8 };
        Ok(Self { frame, header, header_offset: upper as u16, mss, segments })
    }

    /// Bytes under the cipher in a segment, as it is asked of a [`Template`](super::packets::Template): with the trailer's two, before padding.
    pub(super) const fn text(mss: usize) -> usize {
        TCP_HEADER_LEN + mss + ipsec::TRAILER_LENGTH
    }
}

impl Load for LargeTemplate {
    fn fill(&self, supply: &mut Supply, size: usize, batch: &mut NblBatch) -> Result<(), BenchError> {
        // What the last packets were cut into goes where the NIC takes its buffers from.
        supply.wire.drain(..).for_each(|frame| supply.pool.give(frame.buffer));
        let &Self { ref frame, header, header_offset, mss, segments: most } = self;
        let head = frame.len() - most * mss;
        // As few as can be, as long as one another: one segment would be no large send.
        let lists = size.div_ceil(most);
        for number in 0..lists {
            let segments = size / lists + usize::from(number < size % lists);
            let pick = supply.picker.pick();
            let mut buffer = supply.pool.copy_from(&frame[..head + segments * mss]);
            let esp = &mut buffer.as_mut_slice()[ESP..];
            esp[..4].copy_from_slice(&spi(pick.number).0.to_be_bytes());
            esp[4..8].copy_from_slice(&supply.sequence.to_be_bytes());
            supply.sequence = supply.sequence.wrapping_add(segments as u32);
            let mut list = NetBufferList::new(buffer, LINK.len() as u16);
            list.oob.set_large_send(LargeSend::V2 { mss: mss as u32, header_offset, version: IpVersion::V4 });
            supply.address(&mut list, pick.number, header);
            batch.push(list);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::bench::{Cell, Options, Table, measure};

    /// Segments of every size reach the wire sealed, also where a batch is not a whole number of large packets; one alone is none.
    #[test]
    fn segments_are_measured() {
        let options = Options { tables: vec![Table::LargeSend], rounds: 1, turn: Duration::from_micros(50), ..Options::default() };
        for (bytes, batch) in [(1, 2), (64, 64), (1420, 64), (9000, 8), (9000, 64)] {
            let rows = measure(&Cell { bytes, batch, ..Cell::default() }, &options).unwrap();
            assert_eq!((rows.len(), rows[0].table, rows[0].bytes), (1, Table::LargeSend, bytes));
            assert!(rows[0].ns > 0.0 && rows[0].of_limit > 0.0);
        }
        assert_eq!(measure(&Cell { batch: 1, ..Cell::default() }, &options).unwrap().len(), 0);
    }
}
