//! What the software engine keeps of an SA bundle.

use core::net::IpAddr;
use core::ops::Range;
use core::sync::atomic::{AtomicU8, Ordering};

use arrayvec::ArrayVec;
use ipsec::{EspSa, Provider, SealJob};
use ndis::{Direction, Operation, SaBundle, Status, UdpEspType, V1Scope};
use packet::{EspPacket, Spi};
use sa_table::{Key, MAX_KEYS};

use super::numbers::{Numbers, Row};
use super::portion::Position;
use super::transforms::Transforms;
use super::word::Word;

/// How many sequence numbers before the end of its space an inbound SA asks to be deleted (OV2-SA-8).
const NEAR_END: u64 = 1 << 20;

/// An SA bundle in the table: first what packets read and seldom change, on one cache line up to `source`, then what each changes, on a line of its own.
#[repr(C, align(64))]
pub(super) struct Sa<P: Provider> {
    pub(super) transforms: Transforms<P>,
    /// What of the configuration it needs.
    pub(super) needs: Word,
    /// SPIs of the associations; 0 where there is none, which no packet has.
    esp_spi: Spi,
    ah_spi: Spi,
    /// Size of the replay window, for the inference of inbound numbers.
    window: u32,
    /// The local UDP port, if it is not the adapter's; 0: it is.
    udp_port: u16,
    udp_esp: Option<UdpEspType>,
    esp_extended: bool,
    ah_extended: bool,
    pub(super) inbound: bool,
    pub(super) ipv6: bool,
    /// It is an SA of IPsecOV1.
    pub(super) is_v1: bool,
    /// Inbound: how packets were carried last: [`UNKNOWN`], [`TRANSPORT`], [`TUNNEL`].
    mode: AtomicU8,
    /// Inbound: [`KEEP`], [`ASK`], [`ASKED`].
    delete: AtomicU8,
    source: Option<IpAddr>,
    state: State,
}

#[repr(align(64))]
struct State {
    esp: Numbers,
    ah: Numbers,
    /// IPsecOV1: which packets it is for.
    scope: Option<Box<V1Scope>>,
}

const UNKNOWN: u8 = 0;
const TRANSPORT: u8 = 1;
const TUNNEL: u8 = 2;

const KEEP: u8 = 0;
const ASK: u8 = 1;
const ASKED: u8 = 2;

impl<P: Provider> Sa<P> {
    /// Expands a bundle's keys.
    ///
    /// # Errors
    /// [`Status::NOT_SUPPORTED`] for what the provider does not do, [`Status::INVALID_DATA`] for keys that do not fit.
    pub(super) fn new(provider: &P, bundle: &SaBundle) -> Result<Self, Status> {
        let (esp, ah) = (bundle.associations.esp(), bundle.associations.ah());
        Ok(Self {
            transforms: Transforms::new(provider, bundle)?,
            needs: Word::needs(bundle),
            esp_spi: esp.map_or(Spi(0), |esp| esp.spi),
            ah_spi: ah.map_or(Spi(0), |ah| ah.spi),
            source: bundle.endpoints.source.filter(|source| !source.is_unspecified()),
            udp_port: bundle.extension.udp_esp_port.unwrap_or(0),
            udp_esp: bundle.udp_esp,
            esp_extended: esp.is_some_and(|esp| esp.extended_sequence_numbers),
            ah_extended: ah.is_some_and(|ah| ah.extended_sequence_numbers),
            inbound: bundle.direction == Direction::Inbound,
            ipv6: bundle.endpoints.ipv6,
            is_v1: bundle.extension.v1_scope.is_some(),
            window: bundle.extension.replay_window.unwrap_or(0),
            mode: AtomicU8::new(UNKNOWN),
            delete: AtomicU8::new(KEEP),
            state: State {
                esp: Numbers::new(esp.map_or(0, |esp| esp.sequence_number_high)),
                ah: Numbers::new(ah.map_or(0, |ah| ah.sequence_number_high)),
                scope: bundle.extension.v1_scope.map(Box::new),
            },
        })
    }

    /// What the table finds an inbound bundle by: one key an association. Outbound ones are found by handle only.
    pub(super) fn keys(bundle: &SaBundle) -> ArrayVec<Key, MAX_KEYS> {
        if bundle.direction == Direction::Outbound {
            return ArrayVec::new();
        }
        let spis = [bundle.associations.esp().map(|esp| esp.spi), bundle.associations.ah().map(|ah| ah.spi)];
        let key = |spi: Spi| match bundle.endpoints.destination {
            Some(IpAddr::V4(address)) => Key::v4(spi.0, address.octets()),
            Some(IpAddr::V6(address)) => Key::v6(spi.0, address.octets()),
            None if bundle.endpoints.ipv6 => Key::v6(spi.0, [0; 16]),
            None => Key::v4(spi.0, [0; 4]),
        };
        spis.into_iter().flatten().map(key).collect()
    }

    /// Whether `bundle` has an association of the same operation and this SPI: of two such under one key one is a duplicate (OV2-SA-4).
    pub(super) fn excludes(&self, bundle: &SaBundle, spi: Spi) -> bool {
        let (esp, ah) = (bundle.associations.esp(), bundle.associations.ah());
        esp.is_some_and(|esp| esp.spi == spi) && self.has(Operation::Esp, spi) || ah.is_some_and(|ah| ah.spi == spi) && self.has(Operation::Ah, spi)
    }

    /// The operation of the header that its packets begin with.
    #[inline]
    pub(super) const fn operation(&self) -> Operation {
        match self.transforms {
            Transforms::Esp(_) => Operation::Esp,
            Transforms::Ah(_) | Transforms::AhOverEsp(_) => Operation::Ah,
        }
    }

    /// The SPI of the association of that operation; 0 if there is none.
    #[inline]
    pub(super) const fn spi(&self, operation: Operation) -> Spi {
        match operation {
            Operation::Esp => self.esp_spi,
            Operation::Ah => self.ah_spi,
        }
    }

    /// Whether it has an association of that operation and SPI.
    #[inline]
    pub(super) fn has(&self, operation: Operation, spi: Spi) -> bool {
        spi != Spi(0) && self.spi(operation) == spi
    }

    /// Whether packets from that source may be under it.
    #[inline]
    pub(super) fn admits(&self, source: impl FnOnce() -> IpAddr) -> bool {
        self.source.is_none_or(|only| only == source())
    }

    /// Which packets it is for, if it is an SA of IPsecOV1.
    #[inline]
    pub(super) fn scope(&self) -> Option<&V1Scope> {
        if self.is_v1 { self.state.scope.as_deref() } else { None }
    }

    /// Whether its ESP stands in UDP there.
    #[inline]
    pub(super) const fn in_udp(&self, position: Position) -> bool {
        position.in_udp(self.udp_esp)
    }

    /// Whether ESP in a datagram to `port`, or bare, is what its packets look like there (OV2-RECV-7).
    #[inline]
    pub(super) fn takes(&self, position: Position, port: Option<u16>, adapter: u16) -> bool {
        match port {
            None => !self.in_udp(position),
            Some(port) => self.in_udp(position) && port == if self.udp_port == 0 { adapter } else { self.udp_port },
        }
    }

    #[inline]
    const fn extended(&self, operation: Operation) -> bool {
        match operation {
            Operation::Esp => self.esp_extended,
            Operation::Ah => self.ah_extended,
        }
    }

    #[inline]
    const fn numbers(&self, operation: Operation) -> &Numbers {
        match operation {
            Operation::Esp => &self.state.esp,
            Operation::Ah => &self.state.ah,
        }
    }

    /// The ESP, if nothing else is done.
    #[inline]
    pub(super) fn esp_alone(&self) -> Option<&EspSa<P>> {
        if let Transforms::Esp(esp) = &self.transforms { Some(esp) } else { None }
    }

    /// Whether numbers of ESP are extended.
    #[inline]
    pub(super) const fn esp_extended(&self) -> bool {
        self.esp_extended
    }

    /// The job that seals the ESP packet in `range` of a frame, under the number of which its header has the low half. `None`: there is no ESP, or it does
    /// not fit.
    #[inline]
    pub(super) fn seal_job<'j>(&'j self, frame: &'j mut [u8], range: Range<usize>) -> Option<SealJob<'j, P::Key>> {
        let esp = frame.get_mut(range)?;
        let low = EspPacket::new(&*esp).ok()?.sequence();
        self.transforms.esp()?.seal_job(esp, self.outbound_sequence(Operation::Esp, low)).ok()
    }

    /// Extended numbers of ESP for lists that are sent one after the other.
    #[inline]
    pub(super) fn send_in_a_row(&self) -> Row<'_> {
        Row::new(&self.state.esp)
    }

    /// The 64-bit number of a packet to be sent: zero-extended, or as [`Numbers::outbound`] says. It counts as sent from here on.
    #[inline]
    pub(super) fn outbound_sequence(&self, operation: Operation, low: u32) -> u64 {
        if self.extended(operation) { self.numbers(operation).outbound(low) } else { u64::from(low) }
    }

    /// The 64-bit number that a received packet is taken to have (OV2-SA-6).
    #[inline]
    pub(super) fn inbound_sequence(&self, operation: Operation, low: u32) -> u64 {
        if self.extended(operation) { self.numbers(operation).inbound(low, self.window) } else { u64::from(low) }
    }

    /// Whether the high half of an association's numbers hangs on a packet that is still to be verified.
    #[inline]
    pub(super) fn is_unverified(&self, operation: Operation) -> bool {
        self.extended(operation) && self.numbers(operation).is_unverified()
    }

    /// Lets the high halves of the next packets' numbers follow that of a packet whose ICV was good.
    #[inline]
    pub(super) fn follow(&self, operation: Operation, sequence: u64) {
        if self.extended(operation) {
            self.numbers(operation).authentic(sequence);
        }
    }

    /// Notes the number of a packet whose ICV was good.
    #[inline]
    pub(super) fn authentic(&self, operation: Operation, sequence: u64) {
        self.follow(operation, sequence);
        self.approach_end(operation, sequence);
    }

    #[inline]
    fn approach_end(&self, operation: Operation, sequence: u64) {
        let last = if self.extended(operation) { u64::MAX } else { u64::from(u32::MAX) };
        if last - sequence < NEAR_END && self.delete.load(Ordering::Relaxed) == KEEP {
            self.delete.store(ASK, Ordering::Relaxed);
        }
    }

    /// Notes a packet that was good in all of its headers, the last of which is that of `operation`, and returns whether it shall ask for the SA's deletion.
    #[inline]
    pub(super) fn verified(&self, operation: Operation, sequence: u64, tunnel: bool) -> bool {
        self.follow(operation, sequence);
        self.passed(operation, sequence, tunnel)
    }

    /// As [`Sa::verified`], for who lets the numbers [`follow`](Self::follow) by himself: once for the highest of several packets.
    #[inline]
    pub(super) fn passed(&self, operation: Operation, sequence: u64, tunnel: bool) -> bool {
        self.approach_end(operation, sequence);
        let mode = if tunnel { TUNNEL } else { TRANSPORT };
        if self.mode.load(Ordering::Relaxed) != mode {
            self.mode.store(mode, Ordering::Relaxed);
        }
        let ask = self.wants_delete();
        if ask {
            self.delete.store(ASKED, Ordering::Relaxed);
        }
        ask
    }

    /// The highest number up to which packets that are good, and were carried as the last one, change nothing that [`Sa::passed`] would tell or note; `None`:
    /// every packet may.
    pub(super) fn calm_until(&self, operation: Operation) -> Option<u64> {
        let last = if self.extended(operation) { u64::MAX } else { u64::from(u32::MAX) };
        match self.delete.load(Ordering::Relaxed) {
            KEEP => Some(last - NEAR_END),
            ASKED => Some(last),
            _ => None,
        }
    }

    /// Whether a packet that was not verified shall ask for the SA's deletion. That does not count as asked: a transport may pay no heed to it.
    #[inline]
    pub(super) fn wants_delete(&self) -> bool {
        self.delete.load(Ordering::Relaxed) == ASK
    }

    /// Lets it not ask for its deletion when its numbers near their end; as if it had asked.
    pub(super) fn keep_to_the_end(&self) {
        self.delete.store(ASKED, Ordering::Relaxed);
    }

    /// Makes the next packet ask for the SA's deletion.
    pub(super) fn ask_delete(&self) {
        self.delete.store(ASK, Ordering::Relaxed);
    }

    /// Whether a portion that cannot be read is that of a tunnel, as far as can be told (OV2-RECV-5a).
    pub(super) fn probably_tunnel(&self, position: Position) -> bool {
        if let (Position::Outer, Some(scope)) = (position, self.scope()) {
            return scope.tunnel.is_some();
        }
        match (position, self.udp_esp) {
            // Something is around it.
            (Position::Inner, _) | (Position::Outer, Some(UdpEspType::Transport)) => false,
            (Position::Outer, Some(UdpEspType::Tunnel | UdpEspType::TransportOverUdpTunnel | UdpEspType::UdpTransportOverTunnel)) => true,
            (Position::Outer, None) => self.mode.load(Ordering::Relaxed) == TUNNEL,
        }
    }

    /// UPDATE_SA: sets the high half of one association's numbers (OV2-SA-6).
    ///
    /// # Errors
    /// [`Status::INVALID_PARAMETER`] if there is no such association with extended numbers, or an outbound one would go back.
    pub(super) fn update(&self, operation: Operation, spi: Spi, high: u32) -> Result<(), Status> {
        if !self.has(operation, spi) || !self.extended(operation) {
            return Err(Status::INVALID_PARAMETER);
        }
        self.numbers(operation).update(high, self.inbound)
    }
}

#[cfg(test)]
#[path = "sa_tests.rs"]
mod tests;
