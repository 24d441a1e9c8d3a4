//! Plain frames on send: lists under ESP alone with a combined mode, one buffer each, nothing else asked for. The checks are those of
//! [`check_esp_frame`](super::layer::check_esp_frame); a list that fails one here goes that way, which knows what to call it.

use ipsec::{EspSa, Provider, TRAILER_LENGTH};
use ndis::{HeaderTransmit, NetBufferList, Operation};
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
    /// That from the start of the IP header, in units of 4 bytes.
    esp_header_offset: u8,
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
        let plain = Plain::read(sender.medium, frame)?;
        let packet = frame.get(plain.at()..)?;
        let header = packet.first_chunk::<8>()?;
        if usize::from(list.l3_offset) != bundle.ip
            || plain.at() != bundle.at
            || plain.end() != frame.len()
            || header.first_chunk() != Some(&bundle.spi)
            || packet.len() < bundle.shortest
        {
            return None;
        }
        // Payload, padding and trailer end where the ICV begins.
        let &[pad_length, next_header] = packet.get(..packet.len() - bundle.icv_length)?.last_chunk()?;
        let expected = HeaderTransmit { next_header, pad_length, ah_header_offset: 0, esp_header_offset: bundle.esp_header_offset };
        let carried = packet.len() - bundle.shortest;
        if oob.header_bits() != expected.to_bits() || usize::from(pad_length) > carried {
            return None;
        }
        if !(carried + TRAILER_LENGTH).is_multiple_of(4) {
            return None;
        }
        let high = match &mut bundle.row {
            None => 0,
            Some(row) => (row.next(u64::from_be_bytes(*header) as u32) >> 32) as u32,
        };
        Some(Sealing { esp: bundle.esp, at: plain.at(), high })
    }

    /// Lists that name another bundle follow.
    #[inline(never)]
    fn change(&mut self, sender: &Sender<'a, P>, bits: u64) {
        self.end();
        self.bits = bits;
        if sender.plain {
            self.bundle = Handle::from_bits(bits).and_then(|handle| Bundle::new(sender.bundle(handle).ok()?, Plain::ip_offset(sender.medium)));
        }
    }

    /// A list follows that goes the general way, or none.
    #[inline]
    pub(super) fn end(&mut self) {
        if let Some(Bundle { row: Some(row), .. }) = &self.bundle {
            row.end();
        }
        *self = Self::new();
    }
}

impl<'a, P: Provider> Bundle<'a, P> {
    /// `None`: its lists go the general way.
    fn new(sa: &'a Sa<P>, ip: usize) -> Option<Self> {
        let esp = sa.esp_alone()?;
        let esp_offset = Plain::esp_offset(sa.ipv6, sa.in_udp(Position::Outer));
        Some(Self {
            esp,
            spi: sa.spi(Operation::Esp).to_be_bytes(),
            ip,
            at: ip + esp_offset,
            esp_header_offset: (esp_offset / 4) as u8,
            shortest: esp.shortest_combined()?,
            icv_length: esp.icv_length(),
            row: sa.esp_extended().then(|| sa.send_in_a_row()),
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
