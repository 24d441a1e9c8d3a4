//! Plain frames on send: lists under ESP alone with a combined mode, one buffer each, nothing else asked for. The checks are those of
//! [`check_esp_frame`](super::layer::check_esp_frame); a list that fails one here goes that way, which knows what to call it.

use ipsec::{EspSa, Provider, TRAILER_LENGTH};
use ndis::{HeaderTransmit, NetBufferList, Operation};
use packet::Medium;
use sa_table::Handle;

use super::numbers::Row;
use super::plain::Plain;
use super::portion::Position;
use super::sa::Sa;
use super::send::{Sender, asks_for_more};

/// A bundle whose plain lists are sealed.
struct Bundle<'a, P: Provider> {
    esp: &'a EspSa<P>,
    /// SPI, as it stands in packets.
    spi: [u8; 4],
    /// Where in frames IP begins.
    ip: usize,
    /// Where in frames ESP begins: tells IP version and encapsulation.
    at: usize,
    /// Whether frames are nothing but ESP in IPv4 in Ethernet.
    usual: bool,
    /// Header slot of lists, but for the trailer's two bytes.
    header_bits: u32,
    /// Bytes of the shortest ESP packet.
    shortest: usize,
    icv_length: usize,
    /// If its numbers are extended.
    row: Option<Row<'a>>,
}

/// Lists under the same bundle, one after the other: what is the same for all of them.
pub(super) struct Run<'a, P: Provider> {
    /// The handle that they name.
    bits: u64,
    /// `None`: they go the general way.
    bundle: Option<Bundle<'a, P>>,
}

/// How a plain list is sealed.
pub(super) struct Sealing<'a, P: Provider> {
    pub(super) esp: &'a EspSa<P>,
    /// Where in the frame its ESP is.
    pub(super) at: usize,
    /// High half of its number.
    pub(super) high: u32,
}

impl<'a, P: Provider> Run<'a, P> {
    /// Before the first list.
    pub(super) const fn new() -> Self {
        Self { bits: 0, bundle: None }
    }

    /// Whether a list is the first of another bundle.
    #[inline]
    pub(super) fn ends_with(&self, list: &NetBufferList) -> bool {
        self.bits != 0 && self.bits != list.oob.ipsec_bits()
    }

    /// Checks a list, and changes nothing of it. `None`: it goes the general way.
    #[inline(always)]
    pub(super) fn check(&mut self, sender: &Sender<'a, P>, list: &NetBufferList) -> Option<Sealing<'a, P>> {
        let oob = &list.oob;
        if asks_for_more(oob) || oob.tunnel_bits() != 0 || !list.more.is_empty() {
            return None;
        }
        if oob.ipsec_bits() != self.bits {
            self.change(sender, oob.ipsec_bits());
        }
        let bundle = self.bundle.as_mut()?;
        let frame = list.buffer.as_slice();
        if usize::from(list.l3_offset) != bundle.ip || !(bundle.usual && Plain::is_usual(frame, bundle.spi) || bundle.is_like(sender.medium, frame)) {
            return None;
        }
        let packet = frame.get(bundle.at..)?;
        let carried = packet.len().checked_sub(bundle.shortest)?;
        if !(carried + TRAILER_LENGTH).is_multiple_of(4) {
            return None;
        }
        // Payload, padding and trailer end where the ICV begins.
        let trailer = packet.get(..packet.len() - bundle.icv_length)?.last_chunk()?;
        let trailer = u16::from_be_bytes(*trailer);
        if oob.header_bits() != bundle.header_bits | u32::from(trailer) || usize::from(trailer >> 8) > carried {
            return None;
        }
        let high = match &mut bundle.row {
            None => 0,
            Some(row) => (row.next(u64::from_be_bytes(*packet.first_chunk()?) as u32) >> 32) as u32,
        };
        Some(Sealing { esp: bundle.esp, at: bundle.at, high })
    }

    /// Lists that name another bundle follow.
    #[inline(never)]
    fn change(&mut self, sender: &Sender<'a, P>, bits: u64) {
        self.pause();
        *self = Self { bits, bundle: None };
        if sender.plain {
            self.bundle = Handle::from_bits(bits).and_then(|handle| Bundle::new(sender.bundle(handle).ok()?, Plain::ip_offset(sender.medium)));
        }
    }

    /// A list follows that goes the general way, or none: what has been sent under the bundle counts from here on.
    #[inline]
    pub(super) fn pause(&self) {
        if let Some(Bundle { row: Some(row), .. }) = &self.bundle {
            row.end();
        }
    }

    /// After lists that went the general way, perhaps under the same bundle.
    #[inline]
    pub(super) fn resume(&mut self) {
        if let Some(Bundle { row: Some(row), .. }) = &mut self.bundle {
            row.begin();
        }
    }
}

impl<'a, P: Provider> Bundle<'a, P> {
    /// `None`: its lists go the general way.
    fn new(sa: &'a Sa<P>, ip: usize) -> Option<Self> {
        let esp = sa.esp_alone()?;
        let esp_offset = Plain::esp_offset(sa.ipv6, sa.in_udp(Position::Outer));
        let header = HeaderTransmit { esp_header_offset: (esp_offset / 4) as u8, ..HeaderTransmit::default() };
        Some(Self {
            esp,
            spi: sa.spi(Operation::Esp).to_be_bytes(),
            ip,
            at: ip + esp_offset,
            usual: ip != 0 && ip + esp_offset == Plain::USUAL_AT,
            header_bits: header.to_bits(),
            shortest: esp.shortest_combined()?,
            icv_length: esp.icv_length(),
            row: sa.esp_extended().then(|| sa.send_in_a_row()),
        })
    }

    /// Whether a frame is plain, and of this SPI, IP version and encapsulation.
    #[inline(never)]
    fn is_like(&self, medium: Medium, frame: &[u8]) -> bool {
        Plain::read(medium, frame).is_some_and(|plain| {
            plain.at() == self.at && plain.end() == frame.len() && frame.get(plain.at()..).and_then(|esp| esp.first_chunk()) == Some(&self.spi)
        })
    }
}

impl<P: Provider> Sender<'_, P> {
    /// Begins to fetch what the lists to come need of the SA table: first the SAs, then what they point to.
    #[inline(never)]
    pub(super) fn prefetch(&self, lists: &[NetBufferList]) {
        let handles = lists.iter().filter_map(|list| Handle::from_bits(list.oob.ipsec_bits()));
        handles.clone().for_each(|handle| self.guard.prefetch(handle));
        handles.filter_map(|handle| self.guard.get(handle)?.esp_alone()).for_each(sa_table::prefetch);
    }
}
