//! Requests of IPsecOV1 as bytes.

use core::mem::offset_of;

use ndis_abi::{
    OFFLOAD_ALGO_INFO, OFFLOAD_CONF_ALGO, OFFLOAD_INBOUND_SA, OFFLOAD_INTEGRITY_ALGO, OFFLOAD_IPSEC_ADD_SA, OFFLOAD_IPSEC_ADD_UDPESP_SA,
    OFFLOAD_IPSEC_DELETE_SA, OFFLOAD_IPSEC_DELETE_UDPESP_SA, OFFLOAD_IPSEC_UDPESP_ENCAPTYPE_ENTRY, OFFLOAD_OPERATION_E, OFFLOAD_OUTBOUND_SA,
    OFFLOAD_SECURITY_ASSOCIATION, OID_TCP_TASK_IPSEC_ADD_SA, OID_TCP_TASK_IPSEC_ADD_UDPESP_SA, OID_TCP_TASK_IPSEC_DELETE_SA,
    OID_TCP_TASK_IPSEC_DELETE_UDPESP_SA, UDP_ENCAP_TYPE,
};
use packet::Spi;
use secret::SecretBytes;

use super::{ADD_KEY_LENGTH, ENTRY_HANDLE, HANDLE, KeyOrder, UDP_KEY_LENGTH};
use crate::raw::RawError;
use crate::raw::wire::write;
use crate::sa::{AuthenticationAlgorithm, Direction, EncryptionAlgorithm, OffloadHandle, SaExtension};
use crate::v1::{V1EncapsulationType, V1Request, V1Sa, V1Tunnel};

/// The OID of a request and its bytes, with the answers that stand in it.
///
/// # Errors
/// [`RawError::NotRepresentable`] for what the structures have no place for: algorithms that IPsecOV1 does not know, extended sequence numbers, extensions.
pub fn encode(request: &V1Request, order: KeyOrder) -> Result<(u32, SecretBytes), RawError> {
    let bits = |handle: Option<OffloadHandle>| handle.map_or(0, OffloadHandle::to_bits).to_le_bytes();
    match request {
        V1Request::AddSa { sa, handle } => {
            let mut bytes = add(sa, order, "OFFLOAD_IPSEC_ADD_SA", OFFLOAD_IPSEC_ADD_SA::KeyMat, ADD_KEY_LENGTH)?;
            write(bytes.expose_mut(), HANDLE, &bits(*handle));
            Ok((OID_TCP_TASK_IPSEC_ADD_SA, bytes))
        }
        V1Request::AddUdpEspSa { sa, entry, entry_handle, handle } => {
            let mut bytes = add(sa, order, "OFFLOAD_IPSEC_ADD_UDPESP_SA", OFFLOAD_IPSEC_ADD_UDPESP_SA::KeyMat, UDP_KEY_LENGTH)?;
            let kind = match entry.kind {
                V1EncapsulationType::Ike => UDP_ENCAP_TYPE::OFFLOAD_IPSEC_UDPESP_ENCAPTYPE_IKE,
                V1EncapsulationType::Other => UDP_ENCAP_TYPE::OFFLOAD_IPSEC_UDPESP_ENCAPTYPE_OTHER,
            };
            let base = offset_of!(OFFLOAD_IPSEC_ADD_UDPESP_SA, EncapTypeEntry);
            let buffer = bytes.expose_mut();
            write(buffer, base + offset_of!(OFFLOAD_IPSEC_UDPESP_ENCAPTYPE_ENTRY, UdpEncapType), &kind.0.to_le_bytes());
            write(buffer, base + offset_of!(OFFLOAD_IPSEC_UDPESP_ENCAPTYPE_ENTRY, DstEncapPort), &entry.destination_port.to_le_bytes());
            write(buffer, HANDLE, &bits(*handle));
            write(buffer, ENTRY_HANDLE, &bits(*entry_handle));
            Ok((OID_TCP_TASK_IPSEC_ADD_UDPESP_SA, bytes))
        }
        V1Request::DeleteSa(handle) => {
            let mut bytes = vec![0; OFFLOAD_IPSEC_DELETE_SA::SIZEOF];
            write(&mut bytes, offset_of!(OFFLOAD_IPSEC_DELETE_SA, OffloadHandle), &handle.to_le_bytes());
            Ok((OID_TCP_TASK_IPSEC_DELETE_SA, bytes.into()))
        }
        V1Request::DeleteUdpEspSa { handle, entry_handle } => {
            let mut bytes = vec![0; OFFLOAD_IPSEC_DELETE_UDPESP_SA::SIZEOF];
            write(&mut bytes, offset_of!(OFFLOAD_IPSEC_DELETE_UDPESP_SA, OffloadHandle), &handle.to_le_bytes());
            write(&mut bytes, offset_of!(OFFLOAD_IPSEC_DELETE_UDPESP_SA, EncapTypeEntryOffldHandle), &bits(*entry_handle));
            Ok((OID_TCP_TASK_IPSEC_DELETE_UDPESP_SA, bytes.into()))
        }
    }
}

/// One association: what stands in its place, and its keys.
struct Association<'a> {
    operation: OFFLOAD_OPERATION_E,
    spi: Spi,
    integrity: Option<(AuthenticationAlgorithm, &'a SecretBytes)>,
    confidentiality: Option<(EncryptionAlgorithm, &'a SecretBytes)>,
    extended: bool,
}

impl<'a> Association<'a> {
    fn of(sa: &'a V1Sa) -> impl Iterator<Item = Self> {
        let esp = sa.associations.esp().map(|esp| Self {
            operation: OFFLOAD_OPERATION_E::ENCRYPT,
            spi: esp.spi,
            integrity: esp.authentication.as_ref().map(|keyed| (keyed.algorithm, &keyed.key)),
            confidentiality: Some((esp.encryption.algorithm, &esp.encryption.key)),
            extended: esp.extended_sequence_numbers,
        });
        let ah = sa.associations.ah().map(|ah| Self {
            operation: OFFLOAD_OPERATION_E::AUTHENTICATE,
            spi: ah.spi,
            integrity: Some((ah.authentication.algorithm, &ah.authentication.key)),
            confidentiality: None,
            extended: ah.extended_sequence_numbers,
        });
        esp.into_iter().chain(ah)
    }

    /// Its keys, in the order in which they are written.
    fn keys(&self, order: KeyOrder) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let confidentiality = self.confidentiality.map(|(_, key)| key.expose());
        let integrity = self.integrity.map(|(_, key)| key.expose());
        match order {
            KeyOrder::ConfidentialityFirst => [confidentiality, integrity],
            KeyOrder::IntegrityFirst => [integrity, confidentiality],
        }
        .into_iter()
        .flatten()
    }
}

/// The part that both add structures begin with, and the keys.
fn add(sa: &V1Sa, order: KeyOrder, structure: &'static str, keys_at: usize, length_at: usize) -> Result<SecretBytes, RawError> {
    type Layout = OFFLOAD_IPSEC_ADD_SA;
    let nowhere = |what| Err(RawError::NotRepresentable { what, structure });
    // Sizes of replay windows only help to infer extended numbers, which there are none of here.
    if (SaExtension { replay_window: None, ..sa.extension }) != SaExtension::default() {
        return nowhere("an extension");
    }
    let length: usize = Association::of(sa).flat_map(|association| association.keys(order)).map(<[u8]>::len).sum();
    let mut bytes = SecretBytes::from(vec![0; keys_at + length]);
    let buffer = bytes.expose_mut();
    let V1Tunnel { source, destination } = sa.tunnel.unwrap_or(V1Tunnel { source: [0; 4].into(), destination: [0; 4].into() });
    for (at, address) in [
        (offset_of!(Layout, SrcAddr), sa.filter.source.address),
        (offset_of!(Layout, SrcMask), sa.filter.source.mask),
        (offset_of!(Layout, DestAddr), sa.filter.destination.address),
        (offset_of!(Layout, DestMask), sa.filter.destination.mask),
        (offset_of!(Layout, SrcTunnelAddr), source),
        (offset_of!(Layout, DestTunnelAddr), destination),
    ] {
        write(buffer, at, &address.octets());
    }
    if sa.tunnel.is_some() && source.is_unspecified() && destination.is_unspecified() {
        return nowhere("a tunnel between no addresses");
    }
    write(buffer, offset_of!(Layout, Protocol), &u32::from(sa.filter.protocol).to_le_bytes());
    write(buffer, offset_of!(Layout, SrcPort), &sa.filter.source_port.to_le_bytes());
    write(buffer, offset_of!(Layout, DestPort), &sa.filter.destination_port.to_le_bytes());
    let flags = if sa.direction == Direction::Inbound { OFFLOAD_INBOUND_SA } else { OFFLOAD_OUTBOUND_SA };
    write(buffer, offset_of!(Layout, Flags), &flags.to_le_bytes());
    let mut count = 0_u16;
    let mut key_at = keys_at;
    for (place, association) in Association::of(sa).enumerate() {
        if association.extended {
            return nowhere("extended sequence numbers");
        }
        let base = offset_of!(Layout, SecAssoc) + place * OFFLOAD_SECURITY_ASSOCIATION::SIZEOF;
        write_association(&association, structure, buffer, base)?;
        for key in association.keys(order) {
            write(buffer, key_at, key);
            key_at += key.len();
        }
        count += 1;
    }
    write(buffer, offset_of!(Layout, NumSAs), &count.to_le_bytes());
    let Ok(length) = u32::try_from(length) else { return nowhere("so much key material") };
    write(buffer, length_at, &length.to_le_bytes());
    Ok(bytes)
}

fn write_association(association: &Association<'_>, structure: &'static str, buffer: &mut [u8], base: usize) -> Result<(), RawError> {
    type Layout = OFFLOAD_SECURITY_ASSOCIATION;
    let algorithm = |what| RawError::NotRepresentable { what, structure };
    let integrity = match association.integrity.map(|(algorithm, _)| algorithm) {
        None => OFFLOAD_INTEGRITY_ALGO::OFFLOAD_IPSEC_INTEGRITY_NONE,
        Some(AuthenticationAlgorithm::HmacMd5) => OFFLOAD_INTEGRITY_ALGO::OFFLOAD_IPSEC_INTEGRITY_MD5,
        Some(AuthenticationAlgorithm::HmacSha1) => OFFLOAD_INTEGRITY_ALGO::OFFLOAD_IPSEC_INTEGRITY_SHA,
        Some(_) => return Err(algorithm("an integrity algorithm other than MD5 and SHA-1")),
    };
    let confidentiality = match association.confidentiality.map(|(algorithm, _)| algorithm) {
        None | Some(EncryptionAlgorithm::Null) => OFFLOAD_CONF_ALGO::OFFLOAD_IPSEC_CONF_NONE,
        Some(EncryptionAlgorithm::DesCbc) => OFFLOAD_CONF_ALGO::OFFLOAD_IPSEC_CONF_DES,
        Some(EncryptionAlgorithm::TripleDesCbc) => OFFLOAD_CONF_ALGO::OFFLOAD_IPSEC_CONF_3_DES,
        Some(_) => return Err(algorithm("a confidentiality algorithm other than DES and 3DES")),
    };
    write(buffer, base + offset_of!(Layout, Operation), &association.operation.0.to_le_bytes());
    write(buffer, base + offset_of!(Layout, SPI), &association.spi.to_be_bytes());
    let lengths = [association.integrity.map(|(_, key)| key.len()), association.confidentiality.map(|(_, key)| key.len())];
    for (at, identifier, length) in
        [(offset_of!(Layout, IntegrityAlgo), integrity.0, lengths[0]), (offset_of!(Layout, ConfAlgo), confidentiality.0, lengths[1])]
    {
        // Longer ones would not fit the key material, whose length was counted.
        let length = u32::try_from(length.unwrap_or(0)).map_err(|_| algorithm("so long a key"))?;
        write(buffer, base + at + offset_of!(OFFLOAD_ALGO_INFO, algoIdentifier), &identifier.to_le_bytes());
        write(buffer, base + at + offset_of!(OFFLOAD_ALGO_INFO, algoKeylen), &length.to_le_bytes());
    }
    Ok(())
}
