//! What the software engine keeps of an SA bundle.

use core::net::IpAddr;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use ipsec::{Authentication, Encryption, EspParameters, EspSa, KeyError, Provider, SaError, esn};
use ndis::{Associations, Direction, EncryptionAlgorithm, EspAssociation, Operation, SaBundle, Status, UdpEspType};
use packet::Spi;
use sa_table::Key;
use secret::SecretBytes;

use super::word::Word;

/// How many sequence numbers before the end of its space an inbound SA asks to be deleted (OV2-SA-8).
const NEAR_END: u64 = 1 << 20;

/// The cryptography of a bundle, behind a pointer, so that no key bytes stay on the stack when the bundle is moved into the table.
pub(super) enum Transforms<P: Provider> {
    /// ESP alone. AH, and AH over ESP, will be the other kinds.
    Esp(Box<EspSa<P>>),
}

/// An SA bundle in the table: first what packets only read, then what they change, on a cache line of its own.
pub(super) struct Sa<P: Provider> {
    pub(super) transforms: Transforms<P>,
    /// What of the configuration it needs.
    pub(super) needs: Word,
    pub(super) spi: Spi,
    pub(super) inbound: bool,
    pub(super) ipv6: bool,
    extended: bool,
    udp_esp: Option<UdpEspType>,
    window: u32,
    source: Option<IpAddr>,
    state: State,
}

#[repr(align(64))]
struct State {
    /// Outbound: the highest number sent. Inbound: where numbers are until one was verified, or where an update says that they are.
    reference: AtomicU64,
    /// Inbound: the highest number verified; 0 = none.
    highest: AtomicU64,
    /// Inbound: how packets were carried last: [`UNKNOWN`], [`TRANSPORT`], [`TUNNEL`].
    mode: AtomicU8,
    /// Inbound: [`KEEP`], [`ASK`], [`ASKED`].
    delete: AtomicU8,
}

const UNKNOWN: u8 = 0;
const TRANSPORT: u8 = 1;
const TUNNEL: u8 = 2;

const KEEP: u8 = 0;
const ASK: u8 = 1;
const ASKED: u8 = 2;

/// Low half of the reference of an SA under which nothing was sent or verified: the numbers nearest to it are those with its own high half
/// (OV2-SA-6: the first packet's high half is taken as it stands).
const MIDDLE: u64 = (1 << 31) - 1;

impl<P: Provider> Sa<P> {
    /// Expands a bundle's keys.
    ///
    /// # Errors
    /// [`Status::NOT_SUPPORTED`] for what this engine does not do, [`Status::INVALID_DATA`] for keys that do not fit.
    pub(super) fn new(provider: &P, bundle: &SaBundle) -> Result<Self, Status> {
        let Associations::Esp(esp) = &bundle.associations else { return Err(Status::NOT_SUPPORTED) };
        if bundle.udp_esp.is_some() {
            return Err(Status::NOT_SUPPORTED);
        }
        let transforms = Transforms::Esp(Box::new(esp_sa(provider, esp, bundle.extension.iv_mask)?));
        let reference = u64::from(esp.sequence_number_high) << 32 | MIDDLE;
        Ok(Self {
            transforms,
            needs: Word::needs(bundle),
            spi: esp.spi,
            inbound: bundle.direction == Direction::Inbound,
            ipv6: bundle.endpoints.ipv6,
            extended: esp.extended_sequence_numbers,
            udp_esp: bundle.udp_esp,
            window: bundle.extension.replay_window.unwrap_or(0),
            source: bundle.endpoints.source.filter(|source| !source.is_unspecified()),
            state: State { reference: AtomicU64::new(reference), highest: AtomicU64::new(0), mode: AtomicU8::new(UNKNOWN), delete: AtomicU8::new(KEEP) },
        })
    }

    /// What the table finds an inbound bundle by. Outbound ones are found by handle only.
    pub(super) fn key(bundle: &SaBundle, spi: Spi) -> Option<Key> {
        if bundle.direction == Direction::Outbound {
            return None;
        }
        Some(match bundle.endpoints.destination {
            Some(IpAddr::V4(address)) => Key::v4(spi.0, address.octets()),
            Some(IpAddr::V6(address)) => Key::v6(spi.0, address.octets()),
            None if bundle.endpoints.ipv6 => Key::v6(spi.0, [0; 16]),
            None => Key::v4(spi.0, [0; 4]),
        })
    }

    /// The operation of the header that its packets begin with.
    pub(super) const fn operation(&self) -> Operation {
        match self.transforms {
            Transforms::Esp(_) => Operation::Esp,
        }
    }

    /// Whether packets from that source may be under it.
    #[inline]
    pub(super) fn admits(&self, source: impl FnOnce() -> IpAddr) -> bool {
        self.source.is_none_or(|only| only == source())
    }

    /// The 64-bit number of a packet to be sent: zero-extended, or the nearest to the highest sent (OV2-SA-6). It counts as sent from here on.
    #[inline]
    pub(super) fn outbound_sequence(&self, low: u32) -> u64 {
        if !self.extended {
            return u64::from(low);
        }
        let sequence = esn::nearest(low, self.state.reference.load(Ordering::Relaxed));
        // Several lanes send under one SA: the reference never goes back. MIDDLE above the first numbers of a high half does no harm, because they are
        // all nearest to it.
        raise(&self.state.reference, sequence);
        sequence
    }

    /// The 64-bit number that a received packet is taken to have (OV2-SA-6).
    #[inline]
    pub(super) fn inbound_sequence(&self, low: u32) -> u64 {
        if !self.extended {
            return u64::from(low);
        }
        let highest = self.state.highest.load(Ordering::Relaxed);
        let reference = self.state.reference.load(Ordering::Relaxed);
        let updated = reference as u32 == 0 && reference > highest;
        if highest == 0 || updated { esn::nearest(low, reference) } else { esn::infer(low, highest, self.window) }
    }

    /// Whether the high half of its numbers hangs on a packet that is still to be verified.
    #[inline]
    pub(super) fn is_unverified(&self) -> bool {
        self.extended && self.state.highest.load(Ordering::Relaxed) == 0
    }

    /// Notes the number of a packet whose ICV was good.
    #[inline]
    pub(super) fn authentic(&self, sequence: u64) {
        if self.extended {
            raise(&self.state.highest, sequence);
        }
    }

    /// Notes a packet that was good in all, and returns whether it shall ask for the SA's deletion.
    #[inline]
    pub(super) fn verified(&self, sequence: u64, tunnel: bool) -> bool {
        self.authentic(sequence);
        let last = if self.extended { u64::MAX } else { u64::from(u32::MAX) };
        let mode = if tunnel { TUNNEL } else { TRANSPORT };
        if self.state.mode.load(Ordering::Relaxed) != mode {
            self.state.mode.store(mode, Ordering::Relaxed);
        }
        let delete = self.state.delete.load(Ordering::Relaxed);
        let ask = delete == ASK || delete == KEEP && last - sequence < NEAR_END;
        if ask {
            self.state.delete.store(ASKED, Ordering::Relaxed);
        }
        ask
    }

    /// Whether a packet that was not verified shall ask for the SA's deletion. That does not count as asked: a transport may pay no heed to it.
    #[inline]
    pub(super) fn wants_delete(&self) -> bool {
        self.state.delete.load(Ordering::Relaxed) == ASK
    }

    /// Lets it not ask for its deletion when its numbers near their end; as if it had asked.
    pub(super) fn keep_to_the_end(&self) {
        self.state.delete.store(ASKED, Ordering::Relaxed);
    }

    /// Makes the next packet ask for the SA's deletion.
    pub(super) fn ask_delete(&self) {
        self.state.delete.store(ASK, Ordering::Relaxed);
    }

    /// Whether a packet that cannot be read travels in a tunnel, as far as can be told (OV2-RECV-5a).
    pub(super) fn probably_tunnel(&self) -> bool {
        match self.udp_esp {
            Some(UdpEspType::Tunnel | UdpEspType::TransportOverUdpTunnel) => true,
            Some(UdpEspType::Transport | UdpEspType::UdpTransportOverTunnel) => false,
            None => self.state.mode.load(Ordering::Relaxed) == TUNNEL,
        }
    }

    /// UPDATE_SA: sets the high half, around the wrap of the low one (OV2-SA-6). What is late or repeated changes nothing.
    ///
    /// The boundary becomes the reference: the low halves nearest to it are those before and after the wrap, whichever packets come first.
    ///
    /// # Errors
    /// [`Status::INVALID_PARAMETER`] for an outbound SA that would go back.
    pub(super) fn update(&self, high: u32) -> Result<(), Status> {
        let reference = self.state.reference.load(Ordering::Relaxed);
        let seen = if self.inbound { self.state.highest.load(Ordering::Relaxed).max(reference) } else { reference };
        let now = (seen >> 32) as u32;
        if high < now && !self.inbound {
            return Err(Status::INVALID_PARAMETER);
        }
        if high > now {
            raise(&self.state.reference, u64::from(high) << 32);
        }
        Ok(())
    }
}

/// Sets `cell` to `value` if that is higher; one load if it is not.
#[inline]
fn raise(cell: &AtomicU64, value: u64) {
    if cell.load(Ordering::Relaxed) < value {
        cell.fetch_max(value, Ordering::Relaxed);
    }
}

fn esp_sa<P: Provider>(provider: &P, esp: &EspAssociation, iv_mask: u64) -> Result<EspSa<P>, Status> {
    let encryption = match esp.encryption.algorithm {
        EncryptionAlgorithm::AesGcm(size) => Encryption::AesGcm(match size {
            ndis::AesKeySize::Aes128 => ipsec::AesKeySize::Aes128,
            ndis::AesKeySize::Aes192 => ipsec::AesKeySize::Aes192,
            ndis::AesKeySize::Aes256 => ipsec::AesKeySize::Aes256,
        }),
        EncryptionAlgorithm::Null
        | EncryptionAlgorithm::DesCbc
        | EncryptionAlgorithm::TripleDesCbc
        | EncryptionAlgorithm::AesCbc(_)
        | EncryptionAlgorithm::ChaCha20Poly1305 => return Err(Status::NOT_SUPPORTED),
    };
    if esp.authentication.is_some() {
        return Err(Status::NOT_SUPPORTED);
    }
    let icv_length = match esp.encryption.additional_info {
        0 => 16,
        length => length as usize,
    };
    let parameters = EspParameters {
        encryption,
        encryption_key: &esp.encryption.key,
        icv_length,
        authentication: Authentication::None,
        authentication_key: &SecretBytes::default(),
        allow_unauthenticated: false,
        extended_sequence_numbers: esp.extended_sequence_numbers,
        iv_mask,
    };
    EspSa::new(provider, &parameters).map_err(|error| match error {
        SaError::Provider(KeyError::Unsupported { .. }) => Status::NOT_SUPPORTED,
        SaError::Provider(_) => Status::RESOURCES,
        _ => Status::INVALID_DATA,
    })
}

#[cfg(test)]
#[path = "sa_tests.rs"]
mod tests;
