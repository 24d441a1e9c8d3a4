//! What an SA is made from: the parameters that key management or a file hands in.

use core::time::Duration;

use ipsec::{Authentication, Encryption};
use ndis::{Direction, Operation};
use packet::{IpAddress, Spi};
use secret::SecretBytes;

use crate::sa::SaError;
use crate::selector::Selector;

/// Mode of an SA (RFC 4301 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Protects what the packet's own IP header carries.
    Transport,
    /// Protects whole packets inside an outer one.
    Tunnel,
}

/// Whether an SA may or must be offloaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OffloadPolicy {
    /// Offloaded if the adapter can, otherwise done in software.
    #[default]
    Prefer,
    /// Offloaded, or not used at all: while the adapter does not have it, and for packets that the adapter does not take, nothing is sent and nothing
    /// delivered under it ([`DropReason::NotOffloaded`](crate::DropReason::NotOffloaded)).
    Require,
    /// Never offloaded.
    Forbid,
}

/// Limits of an SA's life (RFC 4301 section 4.4.2.1); `None` = no such limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of protected packets: of what was given to be protected, or taken out.
    pub bytes: Option<u64>,
    /// Packets.
    pub packets: Option<u64>,
    /// Time since the SA was added.
    pub time: Option<Duration>,
}

impl Limits {
    /// No limit.
    pub const NONE: Self = Self { bytes: None, packets: None, time: None };
}

/// One security association of a bundle.
#[derive(Debug)]
pub struct AssociationParameters {
    /// ESP or AH.
    pub operation: Operation,
    /// Security parameters index.
    pub spi: Spi,
    /// Encryption; [`Encryption::Null`] for AH.
    pub encryption: Encryption,
    /// Its key; for combined algorithms followed by the salt.
    pub encryption_key: SecretBytes,
    /// Length of the ICV in bytes, of combined algorithms.
    pub icv_length: u8,
    /// Authentication.
    pub authentication: Authentication,
    /// Its key; for AES-GMAC followed by the salt.
    pub authentication_key: SecretBytes,
    /// Whether sequence numbers are 64 bit.
    pub extended_sequence_numbers: bool,
    /// Inbound: high half of the first packet's number, taken as it stands. Outbound: high half of the number last used.
    pub sequence_number_high: u32,
    /// Outbound: low half of the number last used.
    pub sequence_number: u32,
}

impl AssociationParameters {
    /// ESP with this cipher and nothing else: an ICV of the usual length if it is a combined mode, otherwise no authentication. 32-bit numbers of which
    /// none was used.
    #[must_use]
    pub fn esp(spi: Spi, encryption: Encryption, encryption_key: SecretBytes) -> Self {
        Self {
            operation: Operation::Esp,
            spi,
            encryption,
            encryption_key,
            icv_length: encryption.icv_lengths().first().map_or(0, |usual| *usual as u8),
            authentication: Authentication::None,
            authentication_key: SecretBytes::default(),
            extended_sequence_numbers: false,
            sequence_number_high: 0,
            sequence_number: 0,
        }
    }

    /// AH. 32-bit numbers of which none was used.
    #[must_use]
    pub fn ah(spi: Spi, authentication: Authentication, authentication_key: SecretBytes) -> Self {
        Self { operation: Operation::Ah, authentication, authentication_key, ..Self::esp(spi, Encryption::Null, SecretBytes::default()) }
    }
}

/// UDP encapsulation of an SA (RFC 3948).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpEncapsulation {
    /// Source port; not looked at on inbound packets.
    pub source_port: u16,
    /// Destination port; packets that come to another are not the SA's.
    pub destination_port: u16,
}

/// Traffic flow confidentiality of an outbound ESP tunnel (RFC 4303 sections 2.6 and 2.7): what the sizes and the number of its packets hide. What is
/// received may be padded, and may be a dummy, whatever stands here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TrafficFlow {
    /// Inner packets shorter than so many bytes are followed by zeros up to that length; 0 = none.
    pub pad_to: u16,
    /// After every so many packets a dummy packet (next header 59) follows; 0 = never.
    pub dummy_every: u32,
}

impl TrafficFlow {
    /// Hides nothing.
    pub const NONE: Self = Self { pad_to: 0, dummy_every: 0 };
}

/// An SA bundle as the transport takes it.
#[derive(Debug)]
pub struct SaParameters {
    /// Its name: in messages and events.
    pub name: String,
    /// Inbound or outbound.
    pub direction: Direction,
    /// Mode.
    pub mode: Mode,
    /// Source address; for a tunnel that of the outer header. Unspecified: inbound any of its version; outbound transport mode: the
    /// packet's own, of its version.
    pub source: IpAddress,
    /// Destination address; for a tunnel that of the outer header. Unspecified: transport mode only, any of its version.
    pub destination: IpAddress,
    /// One association, or two: ESP first, then AH.
    pub associations: Vec<AssociationParameters>,
    /// Which packets may travel under it, as seen in their own direction; empty = transport mode: those between its addresses; tunnel mode: all.
    /// A tunnel without selectors that bundles were put [inside](Self::inside) of takes in nothing but theirs; with selectors it takes in both.
    pub selectors: Vec<Selector>,
    /// Size of the replay window in packets; 0 switches the check off.
    pub replay_window: u32,
    /// XORed with the sequence number to make the IVs of counter modes (OV2-SEND-7).
    pub iv_mask: u64,
    /// UDP encapsulation, on the bundle that has the UDP header.
    pub udp_encapsulation: Option<UdpEncapsulation>,
    /// Name of the tunnel bundle of the same direction that this transport bundle travels in; it was added before.
    pub inside: Option<String>,
    /// Outbound AH over IPv4: what the length of its header is a multiple of, 4 (RFC 4302, and `None`) or 8 (Linux without `align4`). Over IPv6 it is always
    /// 8. On the way in both are taken.
    pub ah_alignment: Option<u8>,
    /// Traffic flow confidentiality, outbound.
    pub traffic_flow: TrafficFlow,
    /// Takes encryption without authentication (OV2-COMB-2).
    pub allow_unauthenticated: bool,
    /// Takes SPIs 1 to 255, which RFC 4303 reserves.
    pub allow_reserved_spi: bool,
    /// At these limits the owner is told, and should replace the SA.
    pub soft_limits: Limits,
    /// At these limits the SA ends.
    pub hard_limits: Limits,
    /// Whether it may be offloaded.
    pub offload: OffloadPolicy,
}

impl SaParameters {
    /// The default size of the replay window (OV2-TRANS-3).
    pub const DEFAULT_REPLAY_WINDOW: u32 = 64;

    /// A bundle between `(source, destination)` that does nothing but what its associations say: no selectors, the usual replay window, no IV mask, no
    /// limits, offloaded if the adapter can. What differs is written before it: `SaParameters { inside, ..SaParameters::new(..) }`.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        direction: Direction,
        mode: Mode,
        (source, destination): (IpAddress, IpAddress),
        associations: Vec<AssociationParameters>,
    ) -> Self {
        Self {
            name: name.into(),
            direction,
            mode,
            source,
            destination,
            associations,
            selectors: Vec::new(),
            replay_window: Self::DEFAULT_REPLAY_WINDOW,
            iv_mask: 0,
            udp_encapsulation: None,
            inside: None,
            ah_alignment: None,
            traffic_flow: TrafficFlow::NONE,
            allow_unauthenticated: false,
            allow_reserved_spi: false,
            soft_limits: Limits::NONE,
            hard_limits: Limits::NONE,
            offload: OffloadPolicy::Prefer,
        }
    }

    /// The same parameters a second time, with copies of the keys: for a second host. Whoever sends under both uses numbers twice.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let association = |one: &AssociationParameters| AssociationParameters {
            encryption_key: one.encryption_key.duplicate(),
            authentication_key: one.authentication_key.duplicate(),
            ..*one
        };
        Self {
            name: self.name.clone(),
            associations: self.associations.iter().map(association).collect(),
            selectors: self.selectors.clone(),
            inside: self.inside.clone(),
            ..*self
        }
    }

    /// Which packets the SA may carry; empty = all. In transport mode those between its own addresses, as far as [`SaParameters::selectors`] leaves them.
    ///
    /// # Errors
    /// [`SaError::Invalid`] if they leave nothing.
    pub fn effective_selectors(&self) -> Result<Vec<Selector>, SaError> {
        crate::sa::selectors(self).map(Vec::from)
    }
}
