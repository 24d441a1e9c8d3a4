//! ADD_SA, ADD_SA_EX, UPDATE_SA, DELETE_SA: the buffers of the direct requests (OV2-SA-1 to OV2-SA-7).

use core::mem::offset_of;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ndis_abi::{
    IPSEC_OFFLOAD_V2_ADD_SA, IPSEC_OFFLOAD_V2_ADD_SA_EX, IPSEC_OFFLOAD_V2_ALGORITHM_INFO, IPSEC_OFFLOAD_V2_DELETE_SA, IPSEC_OFFLOAD_V2_ESN_SA,
    IPSEC_OFFLOAD_V2_INBOUND, IPSEC_OFFLOAD_V2_IPv4Endpoints, IPSEC_OFFLOAD_V2_IPv6, IPSEC_OFFLOAD_V2_IPv6Endpoints, IPSEC_OFFLOAD_V2_OPERATION,
    IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION, IPSEC_OFFLOAD_V2_UPDATE_SA, NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_EX_REVISION_1,
    NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_REVISION_1, NDIS_SIZEOF_IPSEC_OFFLOAD_V2_DELETE_SA_REVISION_1, NDIS_SIZEOF_IPSEC_OFFLOAD_V2_UPDATE_SA_REVISION_1,
};
use packet::Spi;
use secret::SecretBytes;

use super::RawError;
use super::wire::{Header, read_array, read_u32, read_u64, write};
use crate::oid::{AddSaEntry, UpdateSa};
use crate::sa::{
    AhAssociation, Associations, AuthenticationAlgorithm, Direction, EncryptionAlgorithm, Endpoints, EspAssociation, Keyed, OffloadHandle, Operation, SaBundle,
    SaExtension, UdpEspType,
};
use crate::status::Status;
use crate::validate::SaRules;

/// Elements of a list are aligned as the structures are.
const ALIGNMENT: usize = 8;

const ADD_SA: Header = Header::of_request(&[NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_REVISION_1], IPSEC_OFFLOAD_V2_ADD_SA::SIZEOF);
const ADD_SA_EX: Header = Header::of_request(&[NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_EX_REVISION_1], IPSEC_OFFLOAD_V2_ADD_SA_EX::SIZEOF);
const UPDATE_SA: Header = Header::of_request(&[NDIS_SIZEOF_IPSEC_OFFLOAD_V2_UPDATE_SA_REVISION_1], IPSEC_OFFLOAD_V2_UPDATE_SA::SIZEOF);
const DELETE_SA: Header = Header::of_request(&[NDIS_SIZEOF_IPSEC_OFFLOAD_V2_DELETE_SA_REVISION_1], IPSEC_OFFLOAD_V2_DELETE_SA::SIZEOF);

/// Where the members are that ADD_SA and ADD_SA_EX share.
struct Layout {
    name: &'static str,
    num_ext_hdrs: usize,
    flags: usize,
    endpoints: usize,
    handle: usize,
    udp_esp: usize,
    associations: usize,
    key_length: usize,
}

const PLAIN: Layout = Layout {
    name: "IPSEC_OFFLOAD_V2_ADD_SA",
    num_ext_hdrs: offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, NumExtHdrs),
    flags: offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, Flags),
    endpoints: offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, IPv6Endpoints),
    handle: offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, OffloadHandle),
    udp_esp: offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, UdpEspEncapsulation),
    associations: offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, SecAssoc),
    key_length: offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, KeyLength),
};
const PLAIN_NEXT: usize = offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, Next);
const PLAIN_KEYS: usize = IPSEC_OFFLOAD_V2_ADD_SA::KeyData;

const EX: Layout = Layout {
    name: "IPSEC_OFFLOAD_V2_ADD_SA_EX",
    num_ext_hdrs: offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, NumExtHdrs),
    flags: offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, Flags),
    endpoints: offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, IPv6Endpoints),
    handle: offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, OffloadHandle),
    udp_esp: offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, UdpEspEncapsulation),
    associations: offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, SecAssoc),
    key_length: offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, KeyLength),
};
const EX_KEY_OFFSET: usize = offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, KeyOffset);

type Association = IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION;
type Algorithm = IPSEC_OFFLOAD_V2_ALGORITHM_INFO;

/// Reads the list of an ADD_SA. An entry whose content is bad fails alone: its bundle is the status that it fails with.
///
/// # Errors
/// [`RawError`] if the list itself is damaged: a short buffer, a bad header, a `Next` that is misaligned, leads outside, in a circle or into another
/// entry.
pub fn decode_add_sa(buffer: &[u8]) -> Result<Vec<AddSaEntry>, RawError> {
    Ok(add_sa_list(buffer)?.into_iter().map(|(_, entry)| entry).collect())
}

/// Entries, each with the offset of its `OffloadHandle`.
pub(super) fn add_sa_list(buffer: &[u8]) -> Result<Vec<(usize, AddSaEntry)>, RawError> {
    let length = |buffer: &[u8], base: usize| PLAIN_KEYS + read_u32(buffer, base + PLAIN.key_length) as usize;
    let list = elements(buffer, &ADD_SA, PLAIN_NEXT, length)?;
    let entry = |base: usize, end: usize| (base + PLAIN.handle, entry(bundle(buffer, base, &PLAIN, buffer.get(base + PLAIN_KEYS..end).unwrap_or_default())));
    Ok(list.into_iter().map(|(base, end)| entry(base, end)).collect())
}

/// Reads an ADD_SA_EX. Bad content is the entry's own failure, as in a list.
///
/// # Errors
/// [`RawError`] if the buffer is short, the header is bad, or the key area lies within the structure or outside the buffer.
pub fn decode_add_sa_ex(buffer: &[u8]) -> Result<AddSaEntry, RawError> {
    Ok(add_sa_ex(buffer)?.1)
}

/// The entry, with the offset of its `OffloadHandle`.
pub(super) fn add_sa_ex(buffer: &[u8]) -> Result<(usize, AddSaEntry), RawError> {
    const FIXED: usize = NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_EX_REVISION_1;
    check_single(buffer, &ADD_SA_EX)?;
    let (length, offset) = (read_u32(buffer, EX.key_length) as usize, read_u32(buffer, EX_KEY_OFFSET) as usize);
    let keys = if length == 0 {
        &[]
    } else {
        if offset < FIXED {
            return Err(RawError::Field { field: "KeyOffset", offset: EX_KEY_OFFSET, found: offset as u64, allowed: "an offset after the structure" });
        }
        buffer.get(offset..offset + length).ok_or(RawError::Short { found: buffer.len(), needed: offset + length })?
    };
    Ok((EX.handle, entry(bundle(buffer, 0, &EX, keys))))
}

/// Reads an UPDATE_SA.
///
/// # Errors
/// [`RawError`] if the buffer is short, the header is bad, the operation is none, or the handle is null.
pub fn decode_update_sa(buffer: &[u8]) -> Result<UpdateSa, RawError> {
    const HANDLE: usize = offset_of!(IPSEC_OFFLOAD_V2_UPDATE_SA, OffloadHandle);
    const OPERATION: usize = offset_of!(IPSEC_OFFLOAD_V2_UPDATE_SA, Operation);
    check_single(buffer, &UPDATE_SA)?;
    Ok(UpdateSa {
        handle: OffloadHandle::from_bits(read_u64(buffer, HANDLE)).ok_or(RawError::NullHandle { field: "OffloadHandle", offset: HANDLE })?,
        operation: operation(buffer, OPERATION)?,
        spi: Spi(u32::from_be_bytes(read_array(buffer, offset_of!(IPSEC_OFFLOAD_V2_UPDATE_SA, Spi)))),
        sequence_number_high: read_u32(buffer, offset_of!(IPSEC_OFFLOAD_V2_UPDATE_SA, SequenceNumberHighOrder)),
    })
}

/// Reads the list of a DELETE_SA: handles as they stand, null ones too.
///
/// # Errors
/// [`RawError`] if the list is damaged, as with [`decode_add_sa`].
pub fn decode_delete_sa(buffer: &[u8]) -> Result<Vec<u64>, RawError> {
    let list = elements(buffer, &DELETE_SA, offset_of!(IPSEC_OFFLOAD_V2_DELETE_SA, Next), |_, _| 0)?;
    Ok(list.into_iter().map(|(base, _)| read_u64(buffer, base + offset_of!(IPSEC_OFFLOAD_V2_DELETE_SA, OffloadHandle))).collect())
}

fn check_single(buffer: &[u8], header: &Header) -> Result<(), RawError> {
    let needed = header.size(1);
    if buffer.len() < needed {
        return Err(RawError::Short { found: buffer.len(), needed });
    }
    header.check(buffer, 0).map(drop)
}

/// Start and end of each element of a list, in the list's order. `length` is the length that an element says it has; it has the header's at the least.
fn elements(buffer: &[u8], header: &Header, next_at: usize, length: impl Fn(&[u8], usize) -> usize) -> Result<Vec<(usize, usize)>, RawError> {
    let least = header.size(1);
    if buffer.len() < least {
        return Err(RawError::Short { found: buffer.len(), needed: least });
    }
    let mut elements = Vec::new();
    let mut base = 0;
    loop {
        header.check(buffer, base)?;
        let end = base + length(buffer, base).max(least);
        if end > buffer.len() {
            return Err(RawError::Short { found: buffer.len(), needed: end });
        }
        elements.push((base, end));
        let next = read_u64(buffer, base + next_at);
        if next == 0 {
            break;
        }
        let wrong = |allowed| Err(RawError::Field { field: "Next", offset: base + next_at, found: next, allowed });
        match usize::try_from(next) {
            Ok(next) if next.is_multiple_of(ALIGNMENT) && next <= buffer.len() - least => {
                // More elements than the buffer has room for: a circle.
                if elements.len() > buffer.len() / least {
                    return wrong("a list that ends");
                }
                base = next;
            }
            _ => return wrong("0, or a multiple of 8 at which an element fits into the buffer"),
        }
    }
    let mut sorted = elements.clone();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0].1 > pair[1].0) {
        Some(pair) => Err(RawError::Field { field: "Next", offset: pair[0].0 + next_at, found: pair[1].0 as u64, allowed: "elements that do not overlap" }),
        None => Ok(elements),
    }
}

fn entry(bundle: Result<SaBundle, RawError>) -> AddSaEntry {
    AddSaEntry { bundle: bundle.map_err(Status::from), handle: None, status: Status::PENDING }
}

/// Reads the bundle at `base`; the structure lies within the buffer.
fn bundle(buffer: &[u8], base: usize, layout: &Layout, keys: &[u8]) -> Result<SaBundle, RawError> {
    let at = |offset: usize| base + offset;
    let count = read_u32(buffer, at(layout.num_ext_hdrs));
    let flags = read_u32(buffer, at(layout.flags));
    if flags & !(IPSEC_OFFLOAD_V2_INBOUND | IPSEC_OFFLOAD_V2_IPv6) != 0 {
        let allowed = "0x1 (inbound), 0x10 (IPv6), both or neither";
        return Err(RawError::Field { field: "Flags", offset: at(layout.flags), found: u64::from(flags), allowed });
    }
    let association = |index: usize| association(buffer, at(layout.associations) + index * Association::SIZEOF, keys);
    let associations = match count {
        1 => match association(0)? {
            Either::Esp(esp) => Associations::Esp(esp),
            Either::Ah(ah) => Associations::Ah(ah),
        },
        2 => match (association(0)?, association(1)?) {
            (Either::Esp(esp), Either::Ah(ah)) => Associations::AhOverEsp { esp, ah },
            (first, _) => {
                let wrong = usize::from(matches!(first, Either::Esp(_)));
                let offset = at(layout.associations) + wrong * Association::SIZEOF + offset_of!(Association, Operation);
                let found = u64::from(read_u32(buffer, offset));
                return Err(RawError::Field { field: "SecAssoc.Operation", offset, found, allowed: "2 (ESP) first, then 1 (AH)" });
            }
        },
        found => return Err(RawError::Field { field: "NumExtHdrs", offset: at(layout.num_ext_hdrs), found: u64::from(found), allowed: "1 or 2" }),
    };
    let bundle = SaBundle {
        direction: if flags & IPSEC_OFFLOAD_V2_INBOUND == 0 { Direction::Outbound } else { Direction::Inbound },
        endpoints: endpoints(buffer, at(layout.endpoints), flags & IPSEC_OFFLOAD_V2_IPv6 != 0),
        udp_esp: udp_esp(buffer, at(layout.udp_esp))?,
        associations,
        extension: SaExtension::default(),
    };
    // What the owner may allow is the driver's to decide; what nobody can allow ends here.
    bundle.validate(SaRules { reserved_spis: true, unauthenticated_esp: true })?;
    Ok(bundle)
}

fn endpoints(buffer: &[u8], base: usize, ipv6: bool) -> Endpoints {
    let filter = |address: IpAddr| (!address.is_unspecified()).then_some(address);
    let [source, destination] = if ipv6 {
        [offset_of!(IPSEC_OFFLOAD_V2_IPv6Endpoints, SrcAddr), offset_of!(IPSEC_OFFLOAD_V2_IPv6Endpoints, DestAddr)]
            .map(|at| IpAddr::V6(Ipv6Addr::from(read_array::<16>(buffer, base + at))))
    } else {
        [offset_of!(IPSEC_OFFLOAD_V2_IPv4Endpoints, SrcAddr), offset_of!(IPSEC_OFFLOAD_V2_IPv4Endpoints, DestAddr)]
            .map(|at| IpAddr::V4(Ipv4Addr::from(read_array::<4>(buffer, base + at))))
    };
    Endpoints { ipv6, source: filter(source), destination: filter(destination) }
}

const UDP_ESP_TYPES: [UdpEspType; 4] = [UdpEspType::Transport, UdpEspType::Tunnel, UdpEspType::TransportOverUdpTunnel, UdpEspType::UdpTransportOverTunnel];

fn udp_esp(buffer: &[u8], offset: usize) -> Result<Option<UdpEspType>, RawError> {
    match read_u32(buffer, offset) {
        0 => Ok(None),
        bits => match UDP_ESP_TYPES.into_iter().find(|kind| kind.bit().bits() == bits) {
            Some(kind) => Ok(Some(kind)),
            None => Err(RawError::Field { field: "UdpEspEncapsulation", offset, found: u64::from(bits), allowed: "0, 1, 2, 4 or 8" }),
        },
    }
}

enum Either {
    Esp(EspAssociation),
    Ah(AhAssociation),
}

fn operation(buffer: &[u8], offset: usize) -> Result<Operation, RawError> {
    match IPSEC_OFFLOAD_V2_OPERATION(read_u32(buffer, offset)) {
        IPSEC_OFFLOAD_V2_OPERATION::IPsecOffloadV2Ah => Ok(Operation::Ah),
        IPSEC_OFFLOAD_V2_OPERATION::IPsecOffloadV2Esp => Ok(Operation::Esp),
        found => Err(RawError::Field { field: "Operation", offset, found: u64::from(found.0), allowed: "1 (AH) or 2 (ESP)" }),
    }
}

fn association(buffer: &[u8], base: usize, keys: &[u8]) -> Result<Either, RawError> {
    let flags_at = base + offset_of!(Association, Flags);
    let flags = read_u32(buffer, flags_at);
    if flags & !IPSEC_OFFLOAD_V2_ESN_SA != 0 {
        return Err(RawError::Field { field: "SecAssoc.Flags", offset: flags_at, found: u64::from(flags), allowed: "0, or 1 (ESN)" });
    }
    let extended_sequence_numbers = flags & IPSEC_OFFLOAD_V2_ESN_SA != 0;
    let spi = Spi(u32::from_be_bytes(read_array(buffer, base + offset_of!(Association, Spi))));
    let sequence_number_high = read_u32(buffer, base + offset_of!(Association, SequenceNumberHighOrder));
    let authentication_at = base + offset_of!(Association, AuthenticationAlgorithm);
    let encryption_at = base + offset_of!(Association, EncryptionAlgorithm);
    let authentication = algorithm(buffer, authentication_at, keys, in_abi(AuthenticationAlgorithm::from_bit), AuthenticationAlgorithm::key_length);
    let encryption = algorithm(buffer, encryption_at, keys, in_abi(EncryptionAlgorithm::from_bit), EncryptionAlgorithm::key_length);
    let identifier = |field, at, allowed| {
        let offset = at + offset_of!(Algorithm, Identifier);
        RawError::Field { field, offset, found: u64::from(read_u32(buffer, offset)), allowed }
    };
    Ok(match operation(buffer, base + offset_of!(Association, Operation))? {
        Operation::Esp => Either::Esp(EspAssociation {
            spi,
            extended_sequence_numbers,
            sequence_number_high,
            encryption: encryption?.ok_or_else(|| identifier("EncryptionAlgorithm.Identifier", encryption_at, "one algorithm's bit"))?,
            authentication: authentication?,
        }),
        Operation::Ah => {
            if encryption?.is_some() {
                return Err(identifier("EncryptionAlgorithm.Identifier", encryption_at, "0 with AH"));
            }
            let authentication = authentication?.ok_or_else(|| identifier("AuthenticationAlgorithm.Identifier", authentication_at, "one algorithm's bit"))?;
            Either::Ah(AhAssociation { spi, extended_sequence_numbers, sequence_number_high, authentication })
        }
    })
}

/// Only the ABI's bits: those of vendor extensions are unknown here.
fn in_abi<A>(from_bit: fn(u32) -> Option<A>) -> impl Fn(u32) -> Option<A> {
    move |bits| from_bit(abi_bit(bits)?)
}

/// Reads an algorithm with its key. `None`: there is none, and nothing but an idle offset is set.
fn algorithm<A: Copy>(
    buffer: &[u8],
    base: usize,
    keys: &[u8],
    from_bit: impl Fn(u32) -> Option<A>,
    key_length: fn(A) -> usize,
) -> Result<Option<Keyed<A>>, RawError> {
    let identifier = read_u32(buffer, base + offset_of!(Algorithm, Identifier));
    let length = read_u32(buffer, base + offset_of!(Algorithm, KeyLength));
    let offset = read_u32(buffer, base + offset_of!(Algorithm, KeyOffsetBytes));
    let additional_info = read_u32(buffer, base + offset_of!(Algorithm, AdditionalInfo));
    let wrong = |field, at: usize, found: u32, allowed| Err(RawError::Field { field, offset: base + at, found: u64::from(found), allowed });
    if identifier == 0 {
        return match (length, additional_info) {
            (0, 0) => Ok(None),
            (0, info) => wrong("AdditionalInfo", offset_of!(Algorithm, AdditionalInfo), info, "0 without an algorithm"),
            (length, _) => wrong("KeyLength", offset_of!(Algorithm, KeyLength), length, "0 without an algorithm"),
        };
    }
    let Some(algorithm) = from_bit(identifier) else {
        return wrong("Identifier", offset_of!(Algorithm, Identifier), identifier, "one algorithm's bit");
    };
    // Before anything is copied: a wrong length is never a reason to copy much.
    if length as usize != key_length(algorithm) {
        return wrong("KeyLength", offset_of!(Algorithm, KeyLength), length, "the algorithm's key length, salt included");
    }
    let key = if length == 0 { Some(&[][..]) } else { keys.get(offset as usize..offset as usize + length as usize) };
    let Some(key) = key else {
        return wrong("KeyOffsetBytes", offset_of!(Algorithm, KeyOffsetBytes), offset, "a key within the key area");
    };
    Ok(Some(Keyed { algorithm, key: SecretBytes::copy_from_slice(key), additional_info }))
}

/// The bytes of an ADD_SA list. They hold the keys, and are erased when they are dropped.
///
/// # Errors
/// [`RawError::NotRepresentable`] for a vendor extension: an algorithm outside the ABI's masks, an IV mask other than 0, the allowance of ESP without
/// authentication, a UDP-ESP port, a filter of IPsecOV1. (A size of the replay window is left out: it only helps to infer numbers, OV2-SA-6.) Also if the list is empty.
pub fn encode_add_sa(bundles: &[SaBundle]) -> Result<SecretBytes, RawError> {
    if bundles.is_empty() {
        return Err(RawError::NotRepresentable { what: "an empty list", structure: PLAIN.name });
    }
    let sizes: Vec<usize> = bundles.iter().map(|bundle| (PLAIN_KEYS + keys(bundle).map(<[u8]>::len).sum::<usize>()).max(ADD_SA.size(1))).collect();
    let total = sizes.iter().map(|size| size.next_multiple_of(ALIGNMENT)).sum();
    let mut bytes = SecretBytes::from(vec![0; total]);
    let mut base = 0;
    for (index, (bundle, size)) in bundles.iter().zip(&sizes).enumerate() {
        let end = base + size.next_multiple_of(ALIGNMENT);
        let element = &mut bytes.expose_mut()[base..end];
        encode_bundle(bundle, &PLAIN, element, PLAIN_KEYS)?;
        ADD_SA.write(element, 1);
        let next = if index + 1 < bundles.len() { end as u64 } else { 0 };
        write(element, PLAIN_NEXT, &next.to_le_bytes());
        base = end;
    }
    Ok(bytes)
}

/// The bytes of an ADD_SA_EX. They hold the keys, and are erased when they are dropped.
///
/// # Errors
/// As [`encode_add_sa`].
pub fn encode_add_sa_ex(bundle: &SaBundle) -> Result<SecretBytes, RawError> {
    let key_offset = IPSEC_OFFLOAD_V2_ADD_SA_EX::SIZEOF;
    let mut bytes = SecretBytes::from(vec![0; key_offset + keys(bundle).map(<[u8]>::len).sum::<usize>()]);
    encode_bundle(bundle, &EX, bytes.expose_mut(), key_offset)?;
    ADD_SA_EX.write(bytes.expose_mut(), 1);
    write(bytes.expose_mut(), EX_KEY_OFFSET, &(key_offset as u32).to_le_bytes());
    Ok(bytes)
}

/// The bytes of an UPDATE_SA.
pub fn encode_update_sa(request: &UpdateSa) -> Vec<u8> {
    let mut bytes = vec![0; IPSEC_OFFLOAD_V2_UPDATE_SA::SIZEOF];
    UPDATE_SA.write(&mut bytes, 1);
    write(&mut bytes, offset_of!(IPSEC_OFFLOAD_V2_UPDATE_SA, OffloadHandle), &request.handle.to_bits().to_le_bytes());
    write(&mut bytes, offset_of!(IPSEC_OFFLOAD_V2_UPDATE_SA, Operation), &operation_number(request.operation).to_le_bytes());
    write(&mut bytes, offset_of!(IPSEC_OFFLOAD_V2_UPDATE_SA, Spi), &request.spi.0.to_be_bytes());
    write(&mut bytes, offset_of!(IPSEC_OFFLOAD_V2_UPDATE_SA, SequenceNumberHighOrder), &request.sequence_number_high.to_le_bytes());
    bytes
}

/// The bytes of a DELETE_SA list; of no handles, none.
pub fn encode_delete_sa(handles: &[u64]) -> Vec<u8> {
    const SIZE: usize = IPSEC_OFFLOAD_V2_DELETE_SA::SIZEOF;
    let mut bytes = vec![0; SIZE * handles.len()];
    for (index, (element, handle)) in bytes.chunks_exact_mut(SIZE).zip(handles).enumerate() {
        let next = if index + 1 < handles.len() { (index + 1) * SIZE } else { 0 };
        DELETE_SA.write(element, 1);
        write(element, offset_of!(IPSEC_OFFLOAD_V2_DELETE_SA, Next), &(next as u64).to_le_bytes());
        write(element, offset_of!(IPSEC_OFFLOAD_V2_DELETE_SA, OffloadHandle), &handle.to_le_bytes());
    }
    bytes
}

/// A bundle's keys in the order in which they are written.
fn keys(bundle: &SaBundle) -> impl Iterator<Item = &[u8]> {
    let esp = bundle.associations.esp();
    let encryption = esp.map(|esp| esp.encryption.key.expose());
    let authentication = esp.and_then(|esp| esp.authentication.as_ref()).map(|authentication| authentication.key.expose());
    let ah = bundle.associations.ah().map(|ah| ah.authentication.key.expose());
    [encryption, authentication, ah].into_iter().flatten()
}

fn operation_number(operation: Operation) -> u32 {
    match operation {
        Operation::Ah => IPSEC_OFFLOAD_V2_OPERATION::IPsecOffloadV2Ah.0,
        Operation::Esp => IPSEC_OFFLOAD_V2_OPERATION::IPsecOffloadV2Esp.0,
    }
}

/// Writes all but header, link and key offset. `element` has room for the key area, which begins at `keys_at`.
fn encode_bundle(bundle: &SaBundle, layout: &Layout, element: &mut [u8], keys_at: usize) -> Result<(), RawError> {
    let extension = |what| RawError::NotRepresentable { what, structure: layout.name };
    // Another mask on one side than on the other would repeat an IV under one key (OV2-SEND-7).
    if bundle.extension.iv_mask != 0 {
        return Err(extension("an IV mask"));
    }
    if bundle.extension.allow_unauthenticated {
        return Err(extension("the allowance of ESP without authentication"));
    }
    // On another port its packets would not be found.
    if bundle.extension.udp_esp_port.is_some() {
        return Err(extension("a UDP-ESP port of its own"));
    }
    if bundle.extension.v1_scope.is_some() {
        return Err(extension("a filter of IPsecOV1"));
    }
    let mut flags = 0;
    if bundle.direction == Direction::Inbound {
        flags |= IPSEC_OFFLOAD_V2_INBOUND;
    }
    if bundle.endpoints.ipv6 {
        flags |= IPSEC_OFFLOAD_V2_IPv6;
    }
    write(element, layout.flags, &flags.to_le_bytes());
    let places = if bundle.endpoints.ipv6 {
        [offset_of!(IPSEC_OFFLOAD_V2_IPv6Endpoints, SrcAddr), offset_of!(IPSEC_OFFLOAD_V2_IPv6Endpoints, DestAddr)]
    } else {
        [offset_of!(IPSEC_OFFLOAD_V2_IPv4Endpoints, SrcAddr), offset_of!(IPSEC_OFFLOAD_V2_IPv4Endpoints, DestAddr)]
    };
    for (at, address) in places.into_iter().zip([bundle.endpoints.source, bundle.endpoints.destination]) {
        match address {
            None => {}
            Some(IpAddr::V4(address)) if !bundle.endpoints.ipv6 => write(element, layout.endpoints + at, &address.octets()),
            Some(IpAddr::V6(address)) if bundle.endpoints.ipv6 => write(element, layout.endpoints + at, &address.octets()),
            Some(_) => return Err(extension("an address of the other family")),
        }
    }
    write(element, layout.udp_esp, &bundle.udp_esp.map_or(0, |kind| kind.bit().bits()).to_le_bytes());

    let mut area = KeyArea { at: keys_at, length: 0 };
    let mut base = layout.associations;
    if let Some(esp) = bundle.associations.esp() {
        common(element, base, Operation::Esp, esp.spi, esp.extended_sequence_numbers, esp.sequence_number_high);
        let identifier = abi_bit(esp.encryption.algorithm.bit().bits()).ok_or_else(|| extension("an encryption algorithm outside the masks"))?;
        area.put(element, base + offset_of!(Association, EncryptionAlgorithm), identifier, &esp.encryption);
        if let Some(authentication) = &esp.authentication {
            let identifier = abi_bit(authentication.algorithm.bit().bits()).ok_or_else(|| extension("an authentication algorithm outside the masks"))?;
            area.put(element, base + offset_of!(Association, AuthenticationAlgorithm), identifier, authentication);
        }
        base += Association::SIZEOF;
    }
    let mut count = u32::from(base != layout.associations);
    if let Some(ah) = bundle.associations.ah() {
        common(element, base, Operation::Ah, ah.spi, ah.extended_sequence_numbers, ah.sequence_number_high);
        let identifier = abi_bit(ah.authentication.algorithm.bit().bits()).ok_or_else(|| extension("an authentication algorithm outside the masks"))?;
        area.put(element, base + offset_of!(Association, AuthenticationAlgorithm), identifier, &ah.authentication);
        count += 1;
    }
    write(element, layout.num_ext_hdrs, &count.to_le_bytes());
    write(element, layout.key_length, &area.length.to_le_bytes());
    Ok(())
}

fn abi_bit(bits: u32) -> Option<u32> {
    u16::try_from(bits).ok().map(u32::from)
}

fn common(element: &mut [u8], base: usize, operation: Operation, spi: Spi, extended: bool, high: u32) {
    let flags = if extended { IPSEC_OFFLOAD_V2_ESN_SA } else { 0 };
    write(element, base + offset_of!(Association, Flags), &flags.to_le_bytes());
    write(element, base + offset_of!(Association, Operation), &operation_number(operation).to_le_bytes());
    write(element, base + offset_of!(Association, Spi), &spi.0.to_be_bytes());
    write(element, base + offset_of!(Association, SequenceNumberHighOrder), &high.to_le_bytes());
}

/// Where the next key goes.
struct KeyArea {
    at: usize,
    length: u32,
}

impl KeyArea {
    fn put<A>(&mut self, element: &mut [u8], base: usize, identifier: u32, keyed: &Keyed<A>) {
        let key = keyed.key.expose();
        write(element, base + offset_of!(Algorithm, Identifier), &identifier.to_le_bytes());
        write(element, base + offset_of!(Algorithm, KeyLength), &(key.len() as u32).to_le_bytes());
        write(element, base + offset_of!(Algorithm, KeyOffsetBytes), &self.length.to_le_bytes());
        write(element, base + offset_of!(Algorithm, AdditionalInfo), &keyed.additional_info.to_le_bytes());
        write(element, self.at + self.length as usize, key);
        self.length += key.len() as u32;
    }
}
