//! SAs as the transport holds them: parameters, cryptographic half, numbers, replay window, lifetime, and whether the NIC has them.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipsec::{Authentication, Encryption, EspParameters, EspSa, Provider, ReplayWindow, SequenceCounter};
use ndis::{
    Associations, AuthenticationAlgorithm, Direction, EncryptionAlgorithm, Endpoints, EspAssociation, Keyed, OffloadHandle, Operation, SaBundle, SaExtension,
};
use packet::{IpAddress, IpProtocol, Spi, Time};
use sa_table::Key;
use secret::SecretBytes;

use crate::lifetime::Lifetime;
use crate::outer::OuterHeader;
use crate::parameters::{AssociationParameters, Mode, OffloadPolicy, SaParameters};
use crate::selector::{AddressRange, Flow, Selector};

/// Why parameters make no SA.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaError {
    /// Something that this version does not do.
    #[error("SA {name:?}: {feature} is not supported yet")]
    Unsupported {
        /// The SA's name.
        name: String,
        /// What it asks for.
        feature: String,
    },
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

/// What only SAs of one direction have.
pub(crate) enum Role {
    Outbound {
        sequence: SequenceCounter,
        /// Tunnel mode: the header that goes around.
        outer: Option<OuterHeader>,
    },
    Inbound {
        /// Locked once for a run of packets of this SA; an inbound SA belongs to one lane, so nobody waits.
        replay: Mutex<ReplayWindow>,
    },
}

/// An SA in the transport's table.
pub(crate) struct Sa<P: Provider> {
    pub(crate) name: Arc<str>,
    pub(crate) mode: Mode,
    pub(crate) spi: Spi,
    pub(crate) esp: EspSa<P>,
    pub(crate) role: Role,
    pub(crate) lifetime: Lifetime,
    /// The NIC's handle; 0 = not offloaded. Read once a packet.
    offload: AtomicU64,
    /// Where the NIC is in the numbers.
    pub(crate) nic: NicNumbers,
    /// The owner was told that the numbers are nearly used up.
    pub(crate) sequence_told: AtomicBool,
    /// The NIC asked to delete it, and the offload manager was told.
    pub(crate) delete_requested: AtomicBool,
    selectors: Box<[Selector]>,
    parameters: SaParameters,
    /// What a capability set is asked about: the bundle without keys.
    shape: SaBundle,
}

/// What the transport knows of the place that the NIC has in an SA's extended sequence numbers. Packets carry only the low half, and each side makes the
/// high one up by itself; where they disagree a packet is lost on the way in, and on the way out a nonce is used twice. So the NIC gets, and is believed,
/// only what is certain; the rest is done in software, and the NIC is told where the numbers are (OV2-TRANS-5).
#[derive(Debug, Default)]
pub(crate) struct NicNumbers {
    /// The high half that is certain. Outbound: that of ADD_SA, and then of each UPDATE_SA that the NIC has taken. Inbound: that of ADD_SA, and then of the
    /// highest number that the NIC is known to have verified.
    high: AtomicU32,
    /// The highest high half that the control side was asked to tell the NIC of.
    asked: AtomicU32,
    /// Outbound: the highest number handed to the NIC since it has the SA; 0: none.
    last: AtomicU64,
    /// Outbound: the first number that it could have been handed.
    base: AtomicU64,
    /// The control side was asked to add the SA anew.
    renewing: AtomicBool,
}

impl NicNumbers {
    /// How far the numbers may go while it is not sure where the NIC is: a quarter of what a low half tells. So what it was handed and gave back, and
    /// what it is handed next, together stay within the half that it takes a low half to be in.
    const FAR: u64 = 1 << 30;

    /// The SA is about to be offered, and `next` is the number that comes next.
    pub(crate) fn begin(&self, next: u64) {
        let high = (next >> 32) as u32;
        self.high.store(high, Ordering::Relaxed);
        self.asked.store(high, Ordering::Relaxed);
        self.last.store(0, Ordering::Relaxed);
        self.base.store(next, Ordering::Relaxed);
        self.renewing.store(false, Ordering::Relaxed);
    }

    /// The control side has seen to it.
    pub(crate) fn renewed(&self) {
        self.renewing.store(false, Ordering::Relaxed);
    }

    /// The NIC is in this half, or beyond. One load, but for the first time.
    #[inline]
    pub(crate) fn updated(&self, high: u32) {
        if self.high() < high {
            self.high.fetch_max(high, Ordering::Relaxed);
        }
    }

    /// The high half that is certain.
    #[inline]
    pub(crate) fn high(&self) -> u32 {
        self.high.load(Ordering::Relaxed)
    }

    /// Whether the control side has to tell the NIC of this high half; yes only once.
    #[inline]
    pub(crate) fn must_tell(&self, high: u32) -> bool {
        self.asked.load(Ordering::Relaxed) < high && self.asked.fetch_max(high, Ordering::Relaxed) < high
    }

    /// Whether the NIC will take the low half of an outbound `sequence` for that number and no other (OV2-SA-6). It counts as handed over then.
    #[inline]
    pub(crate) fn hand_over(&self, sequence: u64) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        let near = last == 0 || sequence.abs_diff(last) <= Self::FAR;
        let certain = near && (sequence >> 32) as u32 == self.high() && !self.renewing.load(Ordering::Relaxed);
        if certain && sequence > last {
            self.last.fetch_max(sequence, Ordering::Relaxed);
        }
        certain
    }

    /// Whether so many numbers have gone by since the NIC was last seen to be at one that it must get the SA anew. Yes only once.
    ///
    /// `failed`: the NIC has just given this number back, so that what was handed over says nothing of where it is.
    #[inline]
    pub(crate) fn must_renew(&self, sequence: u64, failed: bool) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        let from = if failed || last == 0 { self.base.load(Ordering::Relaxed) } else { last };
        sequence.saturating_sub(from) > Self::FAR && !self.renewing.swap(true, Ordering::Relaxed)
    }
}

impl<P: Provider> Sa<P> {
    /// Checks the parameters and makes an SA of them.
    pub(crate) fn new(provider: &P, parameters: SaParameters, now: Time) -> Result<Self, SaError> {
        let esp = Self::transform(provider, &parameters)?;
        let association = &parameters.associations[0];
        let high = association.sequence_number_high;
        let last = u64::from(high) << 32 | u64::from(association.sequence_number);
        let role = match parameters.direction {
            Direction::Outbound => Role::Outbound {
                sequence: SequenceCounter::new(association.extended_sequence_numbers, last),
                outer: (parameters.mode == Mode::Tunnel).then(|| OuterHeader::new(parameters.source, parameters.destination, IpProtocol::ESP)),
            },
            Direction::Inbound => {
                let window = ReplayWindow::with_high(parameters.replay_window, high);
                Role::Inbound { replay: Mutex::new(window.map_err(|error| invalid(&parameters, "replay-window", &error.found, "0 to 65536"))?) }
            }
        };
        let selectors = selectors(&parameters)?;
        Ok(Self {
            name: parameters.name.as_str().into(),
            mode: parameters.mode,
            spi: association.spi,
            esp,
            role,
            lifetime: Lifetime::new(parameters.soft_limits, parameters.hard_limits, now),
            offload: AtomicU64::new(0),
            nic: NicNumbers::default(),
            sequence_told: AtomicBool::new(false),
            delete_requested: AtomicBool::new(false),
            selectors,
            shape: bundle(&parameters, high, |_| SecretBytes::default()),
            parameters,
        })
    }

    /// Checks everything that does not depend on other SAs, and makes the cryptographic half.
    fn transform(provider: &P, parameters: &SaParameters) -> Result<EspSa<P>, SaError> {
        let association = check(parameters)?;
        EspSa::new(
            provider,
            &EspParameters {
                encryption: association.encryption,
                encryption_key: &association.encryption_key,
                icv_length: usize::from(association.icv_length),
                authentication: association.authentication,
                authentication_key: &association.authentication_key,
                allow_unauthenticated: false,
                extended_sequence_numbers: association.extended_sequence_numbers,
                iv_mask: parameters.iv_mask,
            },
        )
        .map_err(|error| SaError::Algorithm { name: parameters.name.clone(), error })
    }

    /// The parameters that it was made from.
    pub(crate) const fn parameters(&self) -> &SaParameters {
        &self.parameters
    }

    /// Whether it may carry packets of `flow`, which is not asked for where it may carry all.
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

    /// Whether a packet from `source` can be one of this inbound SA's.
    #[inline]
    pub(crate) fn accepts_source(&self, source: IpAddress) -> bool {
        self.parameters.source.is_unspecified() || self.parameters.source == source
    }

    /// Whether the associations' numbers are 64 bit.
    #[inline]
    pub(crate) fn extended(&self) -> bool {
        self.parameters.associations[0].extended_sequence_numbers
    }

    /// The replay state of an inbound SA; `None` for an outbound one.
    #[inline]
    pub(crate) fn replay(&self) -> Option<MutexGuard<'_, ReplayWindow>> {
        match &self.role {
            // A lane that panicked inside leaves a window that is still a window: at worst it has not noted the last number, and that packet was not delivered.
            Role::Inbound { replay } => Some(replay.lock().unwrap_or_else(PoisonError::into_inner)),
            Role::Outbound { .. } => None,
        }
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

    /// The 64-bit number of a received packet with this low half, as far as `window` can tell (RFC 4303 appendix A2.2); without extended numbers the low
    /// half is all there is.
    #[inline]
    pub(crate) fn infer(&self, window: &ReplayWindow, low: u32) -> u64 {
        if self.extended() { window.infer(low) } else { u64::from(low) }
    }

    /// The number by which the NIC shall know where the numbers are: the next one to be used (outbound), the highest verified, and before the first
    /// the high half of the parameters (inbound).
    pub(crate) fn reference(&self) -> u64 {
        match &self.role {
            Role::Outbound { sequence, .. } => sequence.last().saturating_add(1),
            Role::Inbound { .. } => {
                let first = u64::from(self.parameters.associations[0].sequence_number_high) << 32;
                self.replay().and_then(|window| window.highest()).unwrap_or(first)
            }
        }
    }

    /// Highest number used (outbound) or verified (inbound); 0 before the first.
    pub(crate) fn sequence(&self) -> u64 {
        match &self.role {
            Role::Outbound { sequence, .. } => sequence.last(),
            Role::Inbound { .. } => self.replay().and_then(|window| window.highest()).unwrap_or(0),
        }
    }

    /// The request that offloads it, with copies of its keys, for a NIC that begins at `reference`.
    pub(crate) fn bundle(&self, reference: u64) -> SaBundle {
        bundle(&self.parameters, (reference >> 32) as u32, SecretBytes::duplicate)
    }

    /// The request without keys: what capabilities are compared with.
    pub(crate) const fn shape(&self) -> &SaBundle {
        &self.shape
    }

    /// Whether offloading it is forbidden.
    pub(crate) fn offload_forbidden(&self) -> bool {
        self.parameters.offload == OffloadPolicy::Forbid
    }
}

/// The bundle of an SA in the contract's terms; `key` makes its keys from those of the parameters. `high`: high half of the sequence numbers.
fn bundle(parameters: &SaParameters, high: u32, key: impl Fn(&SecretBytes) -> SecretBytes) -> SaBundle {
    let association = &parameters.associations[0];
    let filter = |address: IpAddress| (!address.is_unspecified()).then(|| address.into());
    SaBundle {
        direction: parameters.direction,
        endpoints: Endpoints { ipv6: !parameters.destination.is_v4(), source: filter(parameters.source), destination: filter(parameters.destination) },
        udp_esp: None,
        associations: Associations::Esp(EspAssociation {
            spi: association.spi,
            extended_sequence_numbers: association.extended_sequence_numbers,
            sequence_number_high: if association.extended_sequence_numbers { high } else { 0 },
            encryption: Keyed {
                algorithm: contract_encryption(association.encryption),
                key: key(&association.encryption_key),
                additional_info: if association.encryption.is_combined() { u32::from(association.icv_length) } else { 0 },
            },
            authentication: contract_authentication(association.authentication).map(|algorithm| Keyed {
                algorithm,
                key: key(&association.authentication_key),
                additional_info: 0,
            }),
        }),
        extension: SaExtension { iv_mask: parameters.iv_mask, replay_window: Some(parameters.replay_window), ..SaExtension::default() },
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
    if parameters.selectors.is_empty() {
        let range = |address: IpAddress| (!address.is_unspecified()).then(|| AddressRange::single(address));
        return Ok(Box::from([Selector { source: range(parameters.source), destination: range(parameters.destination), ..Selector::ANY }]));
    }
    let own = |range: Option<AddressRange>, address: IpAddress| match range {
        _ if address.is_unspecified() => Some(range),
        Some(range) if !range.contains(address) => None,
        _ => Some(Some(AddressRange::single(address))),
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

/// Checks what the algorithms do not check; returns the one association that this version takes.
fn check(parameters: &SaParameters) -> Result<&AssociationParameters, SaError> {
    let unsupported = |feature: String| SaError::Unsupported { name: parameters.name.clone(), feature };
    let association = match parameters.associations.as_slice() {
        [association] => association,
        [_, _] => return Err(unsupported("AH over ESP".into())),
        other => return Err(invalid(parameters, "association", &other.len(), "1 or 2 associations")),
    };
    if association.operation == Operation::Ah {
        return Err(unsupported("AH".into()));
    }
    if parameters.udp_encapsulation.is_some() {
        return Err(unsupported("UDP encapsulation".into()));
    }
    if parameters.inside.is_some() {
        return Err(unsupported("transport mode inside a tunnel bundle".into()));
    }
    if association.spi.0 == 0 || (association.spi.is_reserved() && !parameters.allow_reserved_spi) {
        return Err(invalid(parameters, "spi", &association.spi, "0x100 to 0xffffffff"));
    }
    if parameters.source.is_v4() != parameters.destination.is_v4() {
        return Err(invalid(parameters, "source", &parameters.source, "an address of the same version as the destination"));
    }
    if parameters.mode == Mode::Tunnel {
        if parameters.destination.is_unspecified() {
            return Err(invalid(parameters, "destination", &parameters.destination, "the address of the tunnel's other end"));
        }
        if parameters.source.is_unspecified() && parameters.direction == Direction::Outbound {
            return Err(invalid(parameters, "source", &parameters.source, "the address of the tunnel's own end"));
        }
    }
    if association.sequence_number_high != 0 && !association.extended_sequence_numbers {
        return Err(invalid(parameters, "sequence-number-high", &association.sequence_number_high, "0 without extended sequence numbers"));
    }
    if parameters.replay_window > ReplayWindow::MAX_SIZE {
        return Err(invalid(parameters, "replay-window", &parameters.replay_window, "0 to 65536"));
    }
    Ok(association)
}

/// The contract's name of an encryption algorithm.
pub(crate) const fn contract_encryption(encryption: Encryption) -> EncryptionAlgorithm {
    match encryption {
        Encryption::Null => EncryptionAlgorithm::Null,
        Encryption::DesCbc => EncryptionAlgorithm::DesCbc,
        Encryption::TripleDesCbc => EncryptionAlgorithm::TripleDesCbc,
        Encryption::AesCbc(size) => EncryptionAlgorithm::AesCbc(contract_size(size)),
        Encryption::AesGcm(size) => EncryptionAlgorithm::AesGcm(contract_size(size)),
        Encryption::ChaCha20Poly1305 => EncryptionAlgorithm::ChaCha20Poly1305,
    }
}

/// The contract's name of an authentication algorithm; `None` where there is none.
pub(crate) const fn contract_authentication(authentication: Authentication) -> Option<AuthenticationAlgorithm> {
    Some(match authentication {
        Authentication::None => return None,
        Authentication::HmacMd5 => AuthenticationAlgorithm::HmacMd5,
        Authentication::HmacSha1 => AuthenticationAlgorithm::HmacSha1,
        Authentication::HmacSha256 => AuthenticationAlgorithm::HmacSha256,
        Authentication::HmacSha384 => AuthenticationAlgorithm::HmacSha384,
        Authentication::HmacSha512 => AuthenticationAlgorithm::HmacSha512,
        Authentication::AesGmac(size) => AuthenticationAlgorithm::AesGmac(contract_size(size)),
    })
}

const fn contract_size(size: ipsec::AesKeySize) -> ndis::AesKeySize {
    match size {
        ipsec::AesKeySize::Aes128 => ndis::AesKeySize::Aes128,
        ipsec::AesKeySize::Aes192 => ndis::AesKeySize::Aes192,
        ipsec::AesKeySize::Aes256 => ndis::AesKeySize::Aes256,
    }
}
