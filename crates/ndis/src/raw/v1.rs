//! IPsecOV1: the buffers of ADD_SA, DELETE_SA, ADD_UDPESP_SA and DELETE_UDPESP_SA on the standard path (OV1-2, OV1-2a).
//!
//! These structures have no header; a buffer's length and content are all there is to check.

mod write;

use core::fmt;
use core::mem::offset_of;
use core::net::Ipv4Addr;

use ndis_abi::{
    OFFLOAD_ALGO_INFO, OFFLOAD_CONF_ALGO, OFFLOAD_INBOUND_SA, OFFLOAD_INTEGRITY_ALGO, OFFLOAD_IPSEC_ADD_SA, OFFLOAD_IPSEC_ADD_UDPESP_SA,
    OFFLOAD_IPSEC_DELETE_SA, OFFLOAD_IPSEC_DELETE_UDPESP_SA, OFFLOAD_IPSEC_UDPESP_ENCAPTYPE_ENTRY, OFFLOAD_OPERATION_E, OFFLOAD_OUTBOUND_SA,
    OFFLOAD_SECURITY_ASSOCIATION, OID_TCP_TASK_IPSEC_ADD_SA, OID_TCP_TASK_IPSEC_ADD_UDPESP_SA, OID_TCP_TASK_IPSEC_DELETE_SA,
    OID_TCP_TASK_IPSEC_DELETE_UDPESP_SA, UDP_ENCAP_TYPE,
};
use packet::Spi;
use secret::SecretBytes;

use super::RawError;
use super::wire::{read_array, read_u16, read_u32, read_u64, write};
use crate::sa::{AhAssociation, Associations, AuthenticationAlgorithm, Direction, EncryptionAlgorithm, EspAssociation, Keyed, OffloadHandle, SaExtension};
use crate::status::Status;
use crate::v1::{MaskedAddress, V1EncapsulationType, V1Filter, V1ParserEntry, V1Request, V1Sa, V1Tunnel};
use crate::validate::SaRules;
use crate::version::NdisVersion;

pub use self::write::encode;

/// In which order an association's keys lie in the key material. The pages disagree (OV1-2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KeyOrder {
    /// The confidentiality key, then the integrity key.
    #[default]
    ConfidentialityFirst,
    /// The integrity key, then the confidentiality key.
    IntegrityFirst,
}

// The two add structures begin alike.
const _: () = assert!(
    offset_of!(OFFLOAD_IPSEC_ADD_SA, SecAssoc) == offset_of!(OFFLOAD_IPSEC_ADD_UDPESP_SA, SecAssoc)
        && offset_of!(OFFLOAD_IPSEC_ADD_SA, DestTunnelAddr) == offset_of!(OFFLOAD_IPSEC_ADD_UDPESP_SA, DstTunnelAddr)
        && offset_of!(OFFLOAD_IPSEC_ADD_SA, DestPort) == offset_of!(OFFLOAD_IPSEC_ADD_UDPESP_SA, DstPort)
        && offset_of!(OFFLOAD_IPSEC_ADD_SA, OffloadHandle) == offset_of!(OFFLOAD_IPSEC_ADD_UDPESP_SA, OffloadHandle)
);

const ADD_KEY_LENGTH: usize = offset_of!(OFFLOAD_IPSEC_ADD_SA, KeyLen);
const UDP_KEY_LENGTH: usize = offset_of!(OFFLOAD_IPSEC_ADD_UDPESP_SA, KeyLen);
const HANDLE: usize = offset_of!(OFFLOAD_IPSEC_ADD_SA, OffloadHandle);
const ENTRY_HANDLE: usize = offset_of!(OFFLOAD_IPSEC_ADD_UDPESP_SA, EncapTypeEntryOffldHandle);

/// A request of IPsecOV1 whose buffer waits for the answer.
pub struct Request<'a> {
    buffer: &'a mut [u8],
    oid: u32,
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The buffer holds keys.
        f.debug_struct("Request").field("buffer", &format_args!("{} bytes", self.buffer.len())).field("oid", &format_args!("{:#010x}", self.oid)).finish()
    }
}

impl<'a> Request<'a> {
    /// Reads a request to an adapter of that NDIS version; `None` if the OID is none of IPsecOV1's, or the version has none, as from 6.30 (OV2-CAP-0): the
    /// answer is [`Status::NOT_SUPPORTED`].
    ///
    /// # Errors
    /// [`RawError`] if the buffer is short or its content is malformed; its status is the answer.
    pub fn parse_for(version: NdisVersion, oid: u32, order: KeyOrder, buffer: &'a mut [u8]) -> Result<Option<(Self, V1Request)>, RawError> {
        if version.has_ipsec_v1() { Self::parse(oid, order, buffer) } else { Ok(None) }
    }

    /// Reads a request; `None` if the OID is none of IPsecOV1's.
    ///
    /// # Errors
    /// [`RawError`] if the buffer is short or its content is malformed; its status is the answer.
    pub fn parse(oid: u32, order: KeyOrder, buffer: &'a mut [u8]) -> Result<Option<(Self, V1Request)>, RawError> {
        let request = match oid {
            OID_TCP_TASK_IPSEC_ADD_SA => {
                let keys = key_material(buffer, ADD_KEY_LENGTH, OFFLOAD_IPSEC_ADD_SA::KeyMat)?;
                V1Request::AddSa { sa: Box::new(sa(buffer, keys, order)?), handle: None }
            }
            OID_TCP_TASK_IPSEC_ADD_UDPESP_SA => {
                let keys = key_material(buffer, UDP_KEY_LENGTH, OFFLOAD_IPSEC_ADD_UDPESP_SA::KeyMat)?;
                let sa = sa(buffer, keys, order)?;
                if !matches!(sa.associations, Associations::Esp(_)) {
                    let offset = offset_of!(OFFLOAD_IPSEC_ADD_UDPESP_SA, SecAssoc) + offset_of!(OFFLOAD_SECURITY_ASSOCIATION, Operation);
                    let found = u64::from(read_u32(buffer, offset));
                    return Err(RawError::Field { field: "SecAssoc.Operation", offset, found, allowed: "2 (ESP) alone" });
                }
                V1Request::AddUdpEspSa {
                    sa: Box::new(sa),
                    entry: parser_entry(buffer)?,
                    entry_handle: OffloadHandle::from_bits(read_u64(buffer, ENTRY_HANDLE)),
                    handle: None,
                }
            }
            OID_TCP_TASK_IPSEC_DELETE_SA => {
                check_length(buffer, OFFLOAD_IPSEC_DELETE_SA::SIZEOF)?;
                V1Request::DeleteSa(read_u64(buffer, offset_of!(OFFLOAD_IPSEC_DELETE_SA, OffloadHandle)))
            }
            OID_TCP_TASK_IPSEC_DELETE_UDPESP_SA => {
                check_length(buffer, OFFLOAD_IPSEC_DELETE_UDPESP_SA::SIZEOF)?;
                V1Request::DeleteUdpEspSa {
                    handle: read_u64(buffer, offset_of!(OFFLOAD_IPSEC_DELETE_UDPESP_SA, OffloadHandle)),
                    entry_handle: OffloadHandle::from_bits(read_u64(buffer, offset_of!(OFFLOAD_IPSEC_DELETE_UDPESP_SA, EncapTypeEntryOffldHandle))),
                }
            }
            _ => return Ok(None),
        };
        Ok(Some((Self { buffer, oid }, request)))
    }

    /// Writes the answer into the buffer: handles of what was added, null if the request failed. A failed add leaves the parser entry's handle as it was
    /// handed in.
    pub fn complete(self, status: Status, request: &V1Request) {
        let bits = |handle: Option<OffloadHandle>| handle.filter(|_| status.is_success()).map_or(0, OffloadHandle::to_bits).to_le_bytes();
        match (self.oid, request) {
            (OID_TCP_TASK_IPSEC_ADD_SA, V1Request::AddSa { handle, .. }) => write(self.buffer, HANDLE, &bits(*handle)),
            (OID_TCP_TASK_IPSEC_ADD_UDPESP_SA, V1Request::AddUdpEspSa { handle, entry_handle, .. }) => {
                write(self.buffer, HANDLE, &bits(*handle));
                if status.is_success() {
                    write(self.buffer, ENTRY_HANDLE, &bits(*entry_handle));
                }
            }
            _ => {}
        }
    }
}

fn check_length(buffer: &[u8], needed: usize) -> Result<(), RawError> {
    if buffer.len() < needed { Err(RawError::Short { found: buffer.len(), needed }) } else { Ok(()) }
}

/// The key material, which ends the structure; that the structure lies within the buffer is checked with it.
fn key_material(buffer: &[u8], length_at: usize, keys_at: usize) -> Result<&[u8], RawError> {
    check_length(buffer, keys_at)?;
    let end = keys_at + read_u32(buffer, length_at) as usize;
    buffer.get(keys_at..end).ok_or(RawError::Short { found: buffer.len(), needed: end })
}

fn sa(buffer: &[u8], keys: &[u8], order: KeyOrder) -> Result<V1Sa, RawError> {
    type Layout = OFFLOAD_IPSEC_ADD_SA;
    let address = |at| Ipv4Addr::from(read_array::<4>(buffer, at));
    let wrong = |field, offset, found: u64, allowed| Err(RawError::Field { field, offset, found, allowed });

    let flags = read_u16(buffer, offset_of!(Layout, Flags));
    let direction = match flags {
        OFFLOAD_INBOUND_SA => Direction::Inbound,
        OFFLOAD_OUTBOUND_SA => Direction::Outbound,
        _ => return wrong("Flags", offset_of!(Layout, Flags), u64::from(flags), "1 (inbound) or 2 (outbound)"),
    };
    let protocol = read_u32(buffer, offset_of!(Layout, Protocol));
    let Ok(protocol) = u8::try_from(protocol) else {
        return wrong("Protocol", offset_of!(Layout, Protocol), u64::from(protocol), "0 to 255");
    };
    let filter = V1Filter {
        source: MaskedAddress { address: address(offset_of!(Layout, SrcAddr)), mask: address(offset_of!(Layout, SrcMask)) },
        destination: MaskedAddress { address: address(offset_of!(Layout, DestAddr)), mask: address(offset_of!(Layout, DestMask)) },
        protocol,
        source_port: read_u16(buffer, offset_of!(Layout, SrcPort)),
        destination_port: read_u16(buffer, offset_of!(Layout, DestPort)),
    };
    let tunnel = V1Tunnel { source: address(offset_of!(Layout, SrcTunnelAddr)), destination: address(offset_of!(Layout, DestTunnelAddr)) };
    let is_tunnel = !(tunnel.source.is_unspecified() && tunnel.destination.is_unspecified());

    let count = read_u16(buffer, offset_of!(Layout, NumSAs));
    let mut keys = Keys { rest: keys, order };
    let mut association = |index: usize| association(buffer, offset_of!(Layout, SecAssoc) + index * OFFLOAD_SECURITY_ASSOCIATION::SIZEOF, &mut keys);
    let associations = match count {
        1 => match association(0)? {
            Either::Esp(esp) => Associations::Esp(esp),
            Either::Ah(ah) => Associations::Ah(ah),
        },
        // The pages give no order for version 1: either is one ESP with one AH over it.
        2 => match (association(0)?, association(1)?) {
            (Either::Esp(esp), Either::Ah(ah)) | (Either::Ah(ah), Either::Esp(esp)) => Associations::AhOverEsp { esp, ah },
            _ => {
                let offset = offset_of!(Layout, SecAssoc) + OFFLOAD_SECURITY_ASSOCIATION::SIZEOF + offset_of!(OFFLOAD_SECURITY_ASSOCIATION, Operation);
                return wrong("SecAssoc.Operation", offset, u64::from(read_u32(buffer, offset)), "one AH and one ESP");
            }
        },
        _ => return wrong("NumSAs", offset_of!(Layout, NumSAs), u64::from(count), "1 or 2"),
    };
    let sa = V1Sa { direction, filter, tunnel: is_tunnel.then_some(tunnel), associations, extension: SaExtension::default() };
    sa.validate(SaRules { reserved_spis: true, unauthenticated_esp: true })?;
    Ok(sa)
}

fn parser_entry(buffer: &[u8]) -> Result<V1ParserEntry, RawError> {
    let base = offset_of!(OFFLOAD_IPSEC_ADD_UDPESP_SA, EncapTypeEntry);
    let offset = base + offset_of!(OFFLOAD_IPSEC_UDPESP_ENCAPTYPE_ENTRY, UdpEncapType);
    let kind = match UDP_ENCAP_TYPE(read_u32(buffer, offset)) {
        UDP_ENCAP_TYPE::OFFLOAD_IPSEC_UDPESP_ENCAPTYPE_IKE => V1EncapsulationType::Ike,
        UDP_ENCAP_TYPE::OFFLOAD_IPSEC_UDPESP_ENCAPTYPE_OTHER => V1EncapsulationType::Other,
        found => return Err(RawError::Field { field: "UdpEncapType", offset, found: u64::from(found.0), allowed: "0 (IKE) or 1 (other)" }),
    };
    let destination_port = read_u16(buffer, base + offset_of!(OFFLOAD_IPSEC_UDPESP_ENCAPTYPE_ENTRY, DstEncapPort));
    Ok(V1ParserEntry { kind, destination_port })
}

enum Either {
    Esp(EspAssociation),
    Ah(AhAssociation),
}

/// The key material that no association has taken yet.
struct Keys<'a> {
    rest: &'a [u8],
    order: KeyOrder,
}

impl Keys<'_> {
    /// Takes the keys of one association: of its confidentiality and its integrity algorithm. Their lengths are checked by then.
    fn take(&mut self, confidentiality: usize, integrity: usize, offset: usize) -> Result<(SecretBytes, SecretBytes), RawError> {
        let available = self.rest.len() as u64;
        let mut next = |length: usize| match self.rest.split_at_checked(length) {
            Some((key, rest)) => {
                self.rest = rest;
                Ok(SecretBytes::copy_from_slice(key))
            }
            None => Err(RawError::Field { field: "algoKeylen", offset, found: available, allowed: "key material for every algorithm" }),
        };
        match self.order {
            KeyOrder::ConfidentialityFirst => {
                let confidentiality = next(confidentiality)?;
                Ok((confidentiality, next(integrity)?))
            }
            KeyOrder::IntegrityFirst => {
                let integrity = next(integrity)?;
                Ok((next(confidentiality)?, integrity))
            }
        }
    }
}

fn association(buffer: &[u8], base: usize, keys: &mut Keys<'_>) -> Result<Either, RawError> {
    type Layout = OFFLOAD_SECURITY_ASSOCIATION;
    let spi = Spi(u32::from_be_bytes(read_array(buffer, base + offset_of!(Layout, SPI))));
    let (integrity_at, confidentiality_at) = (base + offset_of!(Layout, IntegrityAlgo), base + offset_of!(Layout, ConfAlgo));
    let identifier = |at| read_u32(buffer, at + offset_of!(OFFLOAD_ALGO_INFO, algoIdentifier));
    let wrong = |field, offset, found: u32, allowed| Err(RawError::Field { field, offset, found: u64::from(found), allowed });

    let integrity = match OFFLOAD_INTEGRITY_ALGO(identifier(integrity_at)) {
        OFFLOAD_INTEGRITY_ALGO::OFFLOAD_IPSEC_INTEGRITY_NONE => None,
        OFFLOAD_INTEGRITY_ALGO::OFFLOAD_IPSEC_INTEGRITY_MD5 => Some(AuthenticationAlgorithm::HmacMd5),
        OFFLOAD_INTEGRITY_ALGO::OFFLOAD_IPSEC_INTEGRITY_SHA => Some(AuthenticationAlgorithm::HmacSha1),
        found => return wrong("IntegrityAlgo.algoIdentifier", integrity_at, found.0, "0 (none), 1 (MD5) or 2 (SHA-1)"),
    };
    let confidentiality = match OFFLOAD_CONF_ALGO(identifier(confidentiality_at)) {
        OFFLOAD_CONF_ALGO::OFFLOAD_IPSEC_CONF_NONE => EncryptionAlgorithm::Null,
        OFFLOAD_CONF_ALGO::OFFLOAD_IPSEC_CONF_DES => EncryptionAlgorithm::DesCbc,
        OFFLOAD_CONF_ALGO::OFFLOAD_IPSEC_CONF_3_DES => EncryptionAlgorithm::TripleDesCbc,
        found => return wrong("ConfAlgo.algoIdentifier", confidentiality_at, found.0, "0 (none), 1 (DES) or 3 (3DES)"),
    };
    let lengths = (confidentiality.key_length(), integrity.map_or(0, AuthenticationAlgorithm::key_length));
    for (field, at, expected) in [("IntegrityAlgo.algoKeylen", integrity_at, lengths.1), ("ConfAlgo.algoKeylen", confidentiality_at, lengths.0)] {
        let offset = at + offset_of!(OFFLOAD_ALGO_INFO, algoKeylen);
        let found = read_u32(buffer, offset);
        if found as usize != expected {
            return wrong(field, offset, found, "the algorithm's key length");
        }
    }
    let operation_at = base + offset_of!(Layout, Operation);
    let operation = OFFLOAD_OPERATION_E(read_u32(buffer, operation_at));
    let (confidentiality_key, integrity_key) = keys.take(lengths.0, lengths.1, base)?;
    let authentication = integrity.map(|algorithm| Keyed { algorithm, key: integrity_key, additional_info: 0 });
    match operation {
        OFFLOAD_OPERATION_E::AUTHENTICATE => {
            if confidentiality != EncryptionAlgorithm::Null {
                return wrong("ConfAlgo.algoIdentifier", confidentiality_at, identifier(confidentiality_at), "0 (none) with AH");
            }
            let Some(authentication) = authentication else {
                return wrong("IntegrityAlgo.algoIdentifier", integrity_at, 0, "1 (MD5) or 2 (SHA-1) with AH");
            };
            Ok(Either::Ah(AhAssociation { spi, extended_sequence_numbers: false, sequence_number_high: 0, authentication }))
        }
        OFFLOAD_OPERATION_E::ENCRYPT => Ok(Either::Esp(EspAssociation {
            spi,
            extended_sequence_numbers: false,
            sequence_number_high: 0,
            encryption: Keyed { algorithm: confidentiality, key: confidentiality_key, additional_info: 0 },
            authentication,
        })),
        found => wrong("SecAssoc.Operation", operation_at, found.0, "1 (AH) or 2 (ESP)"),
    }
}
