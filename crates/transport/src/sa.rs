//! SA bundles as the transport holds them: parameters, cryptographic halves, numbers, lifetime, and whether the NIC has them.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arrayvec::ArrayVec;
use ipsec::{AhParameters, AhSa, Authentication, Encryption, EspParameters, EspSa, Provider, ReplayWindow};
use ndis::{Direction, IpsecOffloadV2, OffloadHandle, Operation, SaBundle, UdpEspType};
use packet::{IpAddress, Spi, Time};
use sa_table::{Handle, Key, prefetch};
use secret::SecretBytes;

use crate::association::Association;
use crate::bundle::{HighHalves, Nesting, bundle, udp_esp_type};
use crate::flows::AnyBetween;
use crate::framing::{AhLayout, EspLayout, Layout, Numbers};
use crate::lifetime::Lifetime;
use crate::order::Order;
use crate::outer::OuterHeader;
use crate::outfit::Outfit;
use crate::parameters::{AssociationParameters, Mode, OffloadPolicy, SaParameters};
use crate::selector::{AddressRange, Flow, Selector};

/// Why parameters make no SA.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaError {
    /// A field holds what it must not.
    #[error("SA {name:?}: {field} is {found}, allowed: {allowed}")]
    Invalid {
        /// The SA's name.
        name: String,
        /// The field, as the SA file calls it.
        field: &'static str,
        /// What it holds.
        found: String,
        /// What it may hold.
        allowed: &'static str,
    },
    /// The algorithms do not take these keys or lengths.
    #[error("SA {name:?}: {error}")]
    Algorithm {
        /// The SA's name.
        name: String,
        /// What is wrong.
        error: ipsec::SaError,
    },
    /// Another inbound SA has the same SPI, destination and operation.
    #[error("SA {name:?}: another inbound SA has SPI {spi} and destination {destination}")]
    Duplicate {
        /// The SA's name.
        name: String,
        /// Its SPI.
        spi: Spi,
        /// Its destination.
        destination: IpAddress,
    },
    /// The table is full.
    #[error("SA {name:?}: the table is full")]
    Full {
        /// The SA's name.
        name: String,
    },
}

/// One header of a bundle: how it is made and checked, and its association.
pub(crate) struct Half<T> {
    pub(crate) transform: T,
    pub(crate) association: Association,
}

/// The tunnel bundle that a transport bundle travels in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tunnel {
    pub(crate) handle: Handle,
    /// Whether it is in UDP.
    pub(crate) udp: bool,
}

/// An SA bundle in the transport's table.
pub(crate) struct Sa<P: Provider> {
    pub(crate) name: Arc<str>,
    pub(crate) mode: Mode,
    pub(crate) outbound: bool,
    pub(crate) esp: Option<Half<EspSa<P>>>,
    /// In a place of its own: most bundles have none, and every slot of the table has room for the rest.
    pub(crate) ah: Option<Box<Half<AhSa<P>>>>,
    /// What it puts around packets.
    pub(crate) layout: Layout,
    /// Outbound tunnel: the header that goes around.
    pub(crate) outer: Option<OuterHeader>,
    /// Outbound, where that is all: what goes around plain packets.
    pub(crate) outfit: Option<Outfit>,
    /// The tunnel that its packets go through, or come out of.
    pub(crate) inside: Option<Tunnel>,
    pub(crate) lifetime: Lifetime,
    /// The NIC's handle; 0 = not offloaded. Read once a packet.
    offload: AtomicU64,
    /// The owner was told that the numbers are nearly used up.
    pub(crate) sequence_told: AtomicBool,
    /// The NIC asked to delete it, and the offload manager was told.
    pub(crate) delete_requested: AtomicBool,
    /// Packets since it was added, where dummies go between them.
    flow: AtomicU64,
    /// A bundle has, or has had, it for its tunnel.
    surrounded: AtomicBool,
    /// Live bundles that have it for their tunnel, and those of them that are in UDP.
    around: AtomicU32,
    around_udp: AtomicU32,
    /// Outbound: where its packets are on the wire; once lanes share it.
    order: OnceLock<Box<Order>>,
    /// What of its selectors is told in one look.
    any_between: AnyBetween,
    selectors: Box<[Selector]>,
    parameters: SaParameters,
}

impl<P: Provider> Sa<P> {
    /// Checks the parameters and makes an SA of them. `inside`: the tunnel that they name.
    pub(crate) fn new(provider: &P, parameters: SaParameters, inside: Option<Tunnel>, now: Time) -> Result<Self, SaError> {
        check(&parameters, inside)?;
        let esp = esp_half(provider, &parameters)?;
        let ah = ah_half(provider, &parameters)?;
        let selectors = selectors(&parameters)?;
        let layout = layout(&parameters, esp.as_ref(), ah.as_deref());
        let outbound = parameters.direction == Direction::Outbound;
        let outer = (outbound && parameters.mode == Mode::Tunnel).then(|| OuterHeader::new(parameters.source, parameters.destination, layout.protocol()));
        Ok(Self {
            name: parameters.name.as_str().into(),
            mode: parameters.mode,
            outbound,
            esp,
            ah,
            // What must be offloaded goes the general way, where each packet is looked at for whether it is.
            outfit: (outbound && inside.is_none() && parameters.traffic_flow.dummy_every == 0 && parameters.offload != OffloadPolicy::Require)
                .then(|| Outfit::new(&layout, outer.as_ref()))
                .flatten(),
            layout,
            outer,
            inside,
            lifetime: Lifetime::new(parameters.soft_limits, parameters.hard_limits, now),
            offload: AtomicU64::new(0),
            sequence_told: AtomicBool::new(false),
            delete_requested: AtomicBool::new(false),
            flow: AtomicU64::new(0),
            surrounded: AtomicBool::new(false),
            around: AtomicU32::new(0),
            around_udp: AtomicU32::new(0),
            order: OnceLock::new(),
            any_between: AnyBetween::new(&selectors),
            selectors,
            parameters,
        })
    }

    /// The parameters that it was made from.
    pub(crate) const fn parameters(&self) -> &SaParameters {
        &self.parameters
    }

    /// Begins to fetch what a packet in touches of it beyond its first lines.
    #[inline]
    pub(crate) fn prefetch(&self) {
        prefetch(&self.lifetime);
        prefetch(&self.offload);
        if let Some(half) = &self.esp {
            prefetch(&half.association);
        }
    }

    /// Its associations as their headers stand in packets: AH first.
    #[inline]
    pub(crate) fn associations(&self) -> impl Iterator<Item = &Association> {
        self.ah.as_ref().map(|half| &half.association).into_iter().chain(self.esp.as_ref().map(|half| &half.association))
    }

    /// The association of one operation.
    #[inline]
    pub(crate) fn association(&self, operation: Operation) -> Option<&Association> {
        match operation {
            Operation::Esp => self.esp.as_ref().map(|half| &half.association),
            Operation::Ah => self.ah.as_ref().map(|half| &half.association),
        }
    }

    /// The operation of the first IPsec header of its packets.
    #[inline]
    pub(crate) const fn first(&self) -> Operation {
        if self.ah.is_some() { Operation::Ah } else { Operation::Esp }
    }

    /// The operation of the last one.
    #[inline]
    pub(crate) const fn last(&self) -> Operation {
        if self.esp.is_some() { Operation::Esp } else { Operation::Ah }
    }

    /// Whether its ESP is carried in UDP.
    #[inline]
    pub(crate) const fn in_udp(&self) -> bool {
        self.layout.udp.is_some()
    }

    /// Destination port of its UDP header, if it has one.
    #[inline]
    pub(crate) fn udp_port(&self) -> Option<u16> {
        self.layout.udp.map(|udp| udp.destination_port)
    }

    /// Whether the NIC will take the low halves of these outbound numbers for them and no others; without extended numbers it can make nothing else of
    /// them.
    #[inline]
    pub(crate) fn is_certain(&self, numbers: Numbers) -> bool {
        let certain = |association: Option<&Association>, number| association.is_none_or(|one| !one.extended || one.nic.is_certain(number));
        certain(self.association(Operation::Esp), numbers.esp) && certain(self.association(Operation::Ah), numbers.ah)
    }

    /// The NIC gets a packet with these numbers.
    #[inline]
    pub(crate) fn handed_over(&self, numbers: Numbers) {
        for (operation, number) in [(Operation::Esp, numbers.esp), (Operation::Ah, numbers.ah)] {
            if let Some(association) = self.association(operation).filter(|association| association.extended) {
                association.nic.handed_over(number);
            }
        }
    }

    /// Whether the NIC must get the SA anew, by [`NicNumbers::must_renew`](crate::association::NicNumbers::must_renew).
    pub(crate) fn must_renew(&self, numbers: Numbers, failed: bool) -> bool {
        let must = |association: Option<&Association>, number| association.is_some_and(|one| one.extended && one.nic.must_renew(number, failed));
        let esp = must(self.association(Operation::Esp), numbers.esp);
        must(self.association(Operation::Ah), numbers.ah) || esp
    }

    /// Whether it may carry packets of `flow`, which is not asked for where it may carry all. (Of a tunnel that [`carries_only`](Self::carries_only) what
    /// others protect, that is known when the header within has been found.)
    #[inline]
    pub(crate) fn selects(&self, flow: impl FnOnce() -> Flow) -> bool {
        self.selectors.is_empty() || {
            let flow = flow();
            self.selectors.iter().any(|selector| selector.matches(&flow))
        }
    }

    /// The packets that it may carry; empty = all.
    pub(crate) fn selectors(&self) -> &[Selector] {
        &self.selectors
    }

    /// IPv4 flows that it may carry, whatever their protocol and ports are.
    #[inline]
    pub(crate) const fn any_between(&self) -> AnyBetween {
        self.any_between
    }

    /// Whether a packet from `source` can be one of this inbound SA's.
    #[inline]
    pub(crate) fn accepts_source(&self, source: IpAddress) -> bool {
        self.parameters.source.is_unspecified() || self.parameters.source == source
    }

    /// The NIC's handle, if the NIC has this SA now.
    #[inline]
    pub(crate) fn offload_handle(&self) -> Option<OffloadHandle> {
        OffloadHandle::from_bits(self.offload.load(Ordering::Acquire))
    }

    /// Notes the NIC's handle, or that the NIC must not be asked any more.
    pub(crate) fn set_offload_handle(&self, handle: Option<OffloadHandle>) {
        self.offload.store(handle.map_or(0, OffloadHandle::to_bits), Ordering::Release);
    }

    /// The NIC is about to get it: begins where its numbers are now. Returns their high halves.
    pub(crate) fn begin(&self) -> HighHalves {
        self.delete_requested.store(false, Ordering::Relaxed);
        let mut high = HighHalves::default();
        for association in self.associations() {
            let reference = association.reference();
            association.nic.begin(reference);
            match association.operation {
                Operation::Esp => high.esp = (reference >> 32) as u32,
                Operation::Ah => high.ah = (reference >> 32) as u32,
            }
        }
        high
    }

    /// Highest number used or verified under its first association; 0 before the first.
    pub(crate) fn sequence(&self) -> u64 {
        self.association(self.parameters.associations[0].operation).map_or(0, Association::sequence)
    }

    /// What keeps its packets in order on the wire.
    #[inline]
    pub(crate) fn order(&self) -> &Order {
        // As a rule it is there; an SA that was added just when lanes were about to be shared has not sent anything.
        self.order.get_or_init(|| {
            let first = self.parameters.associations.iter().find(|association| association.operation == self.first());
            Box::new(Order::new(first.map_or(0, |first| u64::from(first.sequence_number_high) << 32 | u64::from(first.sequence_number))))
        })
    }

    /// Lanes are about to share it: the order begins with the next number.
    pub(crate) fn begin_order(&self) {
        self.order.get_or_init(|| Box::new(Order::new(self.association(self.first()).map_or(0, Association::sequence))));
    }

    /// The request that offloads it, with copies of its keys.
    pub(crate) fn bundle(&self, udp_esp: Option<UdpEspType>, high: HighHalves) -> SaBundle {
        bundle(&self.parameters, udp_esp, high, SecretBytes::duplicate)
    }

    /// The request without keys: what capabilities are compared with.
    pub(crate) fn shape(&self, udp_esp: Option<UdpEspType>) -> SaBundle {
        bundle(&self.parameters, udp_esp, HighHalves::default(), |_| SecretBytes::default())
    }

    /// Its UDP-ESP type for a NIC of this configuration.
    pub(crate) fn udp_esp(&self, config: &IpsecOffloadV2) -> Option<UdpEspType> {
        let nesting = match self.inside {
            Some(Tunnel { udp, .. }) => Nesting::Inside { udp },
            None if self.around.load(Ordering::Relaxed) != 0 => Nesting::Around { udp: self.around_udp.load(Ordering::Relaxed) != 0 },
            None => Nesting::Alone,
        };
        udp_esp_type(&self.parameters, nesting, config)
    }

    /// Whether other bundles have it for their tunnel.
    pub(crate) fn is_around(&self) -> bool {
        self.around.load(Ordering::Relaxed) != 0
    }

    /// Whether it carries packets of bundles inside of it and no others: it has no selectors of its own, and was told of such a bundle. It stays so when
    /// those are gone, as while one is replaced by another: what they protected must not be taken without them.
    #[inline]
    pub(crate) fn carries_only(&self) -> bool {
        self.surrounded.load(Ordering::Relaxed) && self.selectors.is_empty()
    }

    /// Whether it is ESP, and no other bundle has, or had, to do with its packets.
    #[inline]
    pub(crate) fn is_esp_alone(&self) -> bool {
        self.ah.is_none() && self.inside.is_none() && !self.surrounded.load(Ordering::Relaxed)
    }

    /// Another bundle has it for its tunnel.
    pub(crate) fn surround(&self, udp: bool) {
        self.surrounded.store(true, Ordering::Relaxed);
        self.around.fetch_add(1, Ordering::Relaxed);
        self.around_udp.fetch_add(u32::from(udp), Ordering::Relaxed);
    }

    /// One that had it for its tunnel is gone.
    pub(crate) fn release(&self, udp: bool) {
        self.around.fetch_sub(1, Ordering::Relaxed);
        self.around_udp.fetch_sub(u32::from(udp), Ordering::Relaxed);
    }

    /// Whether offloading it is forbidden.
    pub(crate) fn offload_forbidden(&self) -> bool {
        self.parameters.offload == OffloadPolicy::Forbid
    }

    /// Whether the adapter must do its packets, or nobody.
    #[inline]
    pub(crate) fn must_be_offloaded(&self) -> bool {
        self.parameters.offload == OffloadPolicy::Require
    }

    /// Whether its ESP has an ICV; without one, nothing but the window says which number a packet has.
    pub(crate) fn has_esp_icv(&self) -> bool {
        self.esp.as_ref().is_some_and(|half| half.transform.icv_length() != 0)
    }

    /// Whether dummy packets go between its packets.
    #[inline]
    pub(crate) const fn sends_dummies(&self) -> bool {
        self.parameters.traffic_flow.dummy_every != 0
    }

    /// Counts a packet of an SA with dummies; whether one follows it.
    pub(crate) fn dummy_follows(&self) -> bool {
        let packets = self.flow.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        packets.is_multiple_of(u64::from(self.parameters.traffic_flow.dummy_every))
    }
}

fn esp_half<P: Provider>(provider: &P, parameters: &SaParameters) -> Result<Option<Half<EspSa<P>>>, SaError> {
    let Some(association) = parameters.associations.iter().find(|association| association.operation == Operation::Esp) else { return Ok(None) };
    let transform = EspSa::new(
        provider,
        &EspParameters {
            encryption: association.encryption,
            encryption_key: &association.encryption_key,
            icv_length: usize::from(association.icv_length),
            authentication: association.authentication,
            authentication_key: &association.authentication_key,
            // AH over it authenticates, too (OV2-COMB-2).
            allow_unauthenticated: parameters.allow_unauthenticated || parameters.associations.len() == 2,
            extended_sequence_numbers: association.extended_sequence_numbers,
            iv_mask: parameters.iv_mask,
        },
    );
    let transform = transform.map_err(|error| SaError::Algorithm { name: parameters.name.clone(), error })?;
    Ok(Some(Half { transform, association: numbers(parameters, association)? }))
}

fn ah_half<P: Provider>(provider: &P, parameters: &SaParameters) -> Result<Option<Box<Half<AhSa<P>>>>, SaError> {
    let Some(association) = parameters.associations.iter().find(|association| association.operation == Operation::Ah) else { return Ok(None) };
    let transform = AhSa::new(
        provider,
        &AhParameters {
            authentication: association.authentication,
            key: &association.authentication_key,
            extended_sequence_numbers: association.extended_sequence_numbers,
            iv_mask: parameters.iv_mask,
        },
    );
    let transform = transform.map_err(|error| SaError::Algorithm { name: parameters.name.clone(), error })?;
    Ok(Some(Box::new(Half { transform, association: numbers(parameters, association)? })))
}

fn numbers(parameters: &SaParameters, association: &AssociationParameters) -> Result<Association, SaError> {
    let association = Association::new(association, parameters.direction, parameters.replay_window);
    association.map_err(|error| invalid(parameters, "replay-window", &error.found, "0 to 65536"))
}

fn layout<P: Provider>(parameters: &SaParameters, esp: Option<&Half<EspSa<P>>>, ah: Option<&Half<AhSa<P>>>) -> Layout {
    Layout {
        udp: parameters.udp_encapsulation,
        ah: ah.map(|Half { transform, association }| AhLayout {
            spi: association.spi.to_be_bytes(),
            v4: transform.header_length(usize::from(parameters.ah_alignment.unwrap_or(4))),
            v6: transform.header_length(8),
        }),
        esp: esp.map(|Half { transform, association }| EspLayout {
            spi: association.spi.to_be_bytes(),
            iv: transform.iv_length(),
            icv: transform.icv_length(),
            alignment: transform.alignment(),
        }),
        pad_to: usize::from(parameters.traffic_flow.pad_to),
    }
}

/// What inbound look-ups find a bundle by: one key for each association.
pub(crate) fn keys(parameters: &SaParameters) -> ArrayVec<Key, 2> {
    parameters.associations.iter().take(2).map(|association| key(association.spi, parameters.destination)).collect()
}

/// What tells inbound bundles of one destination apart (OV2-SA-4).
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    source: IpAddress,
    associations: ArrayVec<(Operation, Spi), 2>,
}

impl Identity {
    pub(crate) fn of(parameters: &SaParameters) -> Self {
        let associations = parameters.associations.iter().take(2).map(|association| (association.operation, association.spi)).collect();
        Self { source: parameters.source, associations }
    }

    /// The SPI of the first association.
    pub(crate) fn spi(&self) -> Spi {
        self.associations.first().map_or(Spi(0), |(_, spi)| *spi)
    }

    /// The SPI under which packets of the one would be taken for packets of the other: operation and SPI are the same, and no source is different.
    pub(crate) fn conflict(&self, other: &SaParameters) -> Option<Spi> {
        let apart = self.source != other.source && !self.source.is_unspecified() && !other.source.is_unspecified();
        let taken = |one: &&(Operation, Spi)| other.associations.iter().any(|theirs| **one == (theirs.operation, theirs.spi));
        if apart { None } else { self.associations.iter().find(taken).map(|(_, spi)| *spi) }
    }
}

/// What inbound look-ups find an SA by.
#[inline]
pub(crate) fn key(spi: Spi, destination: IpAddress) -> Key {
    Key { spi: spi.0, destination: destination.to_padded(), ipv6: !destination.is_v4() }
}

/// Which packets an SA may carry; empty = all. In transport mode its packets keep their addresses, so only those between its own ones are among them.
pub(crate) fn selectors(parameters: &SaParameters) -> Result<Box<[Selector]>, SaError> {
    if parameters.mode == Mode::Tunnel {
        return Ok(parameters.selectors.clone().into_boxed_slice());
    }
    // An unspecified address is any, but of its own version: the packet's IP header is in the SA's.
    let all = |address: IpAddress| if address.is_unspecified() { AddressRange::all(address) } else { AddressRange::single(address) };
    if parameters.selectors.is_empty() {
        return Ok(Box::from([Selector { source: Some(all(parameters.source)), destination: Some(all(parameters.destination)), ..Selector::ANY }]));
    }
    let own = |range: Option<AddressRange>, address: IpAddress| match range {
        Some(range) if range.version() != address.version() => None,
        Some(range) if address.is_unspecified() => Some(Some(range)),
        Some(range) if !range.contains(address) => None,
        _ => Some(Some(all(address))),
    };
    let narrowed = parameters.selectors.iter().filter_map(|selector| {
        Some(Selector { source: own(selector.source, parameters.source)?, destination: own(selector.destination, parameters.destination)?, ..*selector })
    });
    let narrowed: Box<[Selector]> = narrowed.collect();
    if narrowed.is_empty() {
        return Err(invalid(parameters, "selectors", &"for other packets only", "packets between the addresses of the transport-mode SA"));
    }
    Ok(narrowed)
}

fn invalid(parameters: &SaParameters, field: &'static str, found: &dyn ToString, allowed: &'static str) -> SaError {
    SaError::Invalid { name: parameters.name.clone(), field, found: found.to_string(), allowed }
}

/// Checks what does not depend on other SAs and the algorithms do not check.
fn check(parameters: &SaParameters, inside: Option<Tunnel>) -> Result<(), SaError> {
    let wrong = |field, found: &dyn ToString, allowed| Err(invalid(parameters, field, found, allowed));
    match parameters.associations.as_slice() {
        [_] => {}
        [esp, ah] if (esp.operation, ah.operation) == (Operation::Esp, Operation::Ah) => {}
        [_, _] => return wrong("association", &"two in another order", "ESP first, then AH"),
        other => return wrong("association", &other.len(), "1 or 2 associations"),
    }
    parameters.associations.iter().try_for_each(|association| check_association(parameters, association))?;
    if parameters.source.is_v4() != parameters.destination.is_v4() {
        return wrong("source", &parameters.source, "an address of the same version as the destination");
    }
    if parameters.mode == Mode::Tunnel {
        if parameters.destination.is_unspecified() {
            return wrong("destination", &parameters.destination, "the address of the tunnel's other end");
        }
        if parameters.source.is_unspecified() && parameters.direction == Direction::Outbound {
            return wrong("source", &parameters.source, "the address of the tunnel's own end");
        }
    }
    let has_ah = parameters.associations.iter().any(|association| association.operation == Operation::Ah);
    if let Some(udp) = parameters.udp_encapsulation {
        if has_ah {
            return wrong("udp-encapsulation", &"UDP around AH", "ESP alone");
        }
        if udp.destination_port == 0 {
            return wrong("udp-encapsulation", &0, "a destination port from 1 to 65535");
        }
        if inside.is_some_and(|tunnel| tunnel.udp) {
            return wrong("udp-encapsulation", &"UDP in UDP", "none inside a tunnel that is in UDP itself");
        }
    }
    if let Some(name) = &parameters.inside {
        if parameters.mode == Mode::Tunnel {
            return wrong("inside", name, "nothing for a bundle in tunnel mode");
        }
        if inside.is_none() {
            return wrong("inside", name, "the name of a tunnel bundle of the same direction that is there");
        }
    }
    if let Some(alignment) = parameters.ah_alignment
        && !matches!(alignment, 4 | 8)
    {
        return wrong("ah-alignment", &alignment, "4 or 8");
    }
    check_traffic_flow(parameters)?;
    if parameters.replay_window > ReplayWindow::MAX_SIZE {
        return wrong("replay-window", &parameters.replay_window, "0 to 65536");
    }
    Ok(())
}

fn check_association(parameters: &SaParameters, association: &AssociationParameters) -> Result<(), SaError> {
    if association.spi.0 == 0 || (association.spi.is_reserved() && !parameters.allow_reserved_spi) {
        return Err(invalid(parameters, "spi", &association.spi, "0x100 to 0xffffffff"));
    }
    if association.sequence_number_high != 0 && !association.extended_sequence_numbers {
        return Err(invalid(parameters, "sequence-number-high", &association.sequence_number_high, "0 without extended sequence numbers"));
    }
    if association.operation == Operation::Ah {
        if association.encryption != Encryption::Null || !association.encryption_key.is_empty() {
            return Err(invalid(parameters, "encryption", &association.encryption, "none for AH"));
        }
        if association.authentication == Authentication::None {
            return Err(invalid(parameters, "authentication", &association.authentication, "an authentication algorithm for AH"));
        }
    }
    Ok(())
}

/// What is sent is hidden in ESP only, and only a tunnel's packets say themselves where they end.
fn check_traffic_flow(parameters: &SaParameters) -> Result<(), SaError> {
    let flow = parameters.traffic_flow;
    let esp = parameters.associations.iter().any(|association| association.operation == Operation::Esp);
    if flow.pad_to != 0 && (parameters.mode != Mode::Tunnel || !esp) {
        return Err(invalid(parameters, "traffic-flow", &format_args!("pad-to {}", flow.pad_to), "pad-to for ESP in tunnel mode"));
    }
    if flow.dummy_every != 0 && !esp {
        return Err(invalid(parameters, "traffic-flow", &format_args!("dummy-every {}", flow.dummy_every), "dummy-every for ESP"));
    }
    Ok(())
}
