//! Byte forms of the direct requests (OV2-SA-1 to OV2-SA-7) and of IPsecOV1's (OV1-2). Offsets are written out here, from section 5 of the ABI's
//! description, so that they are checked against the code's, which come from the structures.

mod common;

use core::net::Ipv4Addr;

use common::{GCM_128, ah, any_bundle, bundle, esp};
use ndis::raw::{self, DirectRequest, RawError, sa, v1};
use ndis::{
    AddSaEntry, Associations, AuthenticationAlgorithm, DirectOid, Direction, EncryptionAlgorithm, Endpoints, NdisVersion, OffloadHandle, Operation, SaBundle,
    SaExtension, Status, UdpEspType, UpdateSa, V1EncapsulationType, V1Request,
};
use packet::Spi;
use proptest::prelude::*;

const ADD_SA: u32 = 0xfc03_0202;
const DELETE_SA: u32 = 0xfc03_0203;
const UPDATE_SA: u32 = 0xfc03_0204;
const ADD_SA_EX: u32 = 0xfc03_0205;

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn put64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn get64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// A whole ADD_SA by hand: inbound, 192.0.2.1 to 192.0.2.2, ESP with AES-GCM-128 and ESN, 20 key bytes.
fn golden() -> Vec<u8> {
    let mut bytes = vec![0; 188];
    bytes[..4].copy_from_slice(&[0x80, 1, 169, 0]);
    put(&mut bytes, 16, 1); // NumExtHdrs
    put(&mut bytes, 20, 0x01); // Flags: inbound, IPv4
    bytes[24..28].copy_from_slice(&[192, 0, 2, 1]);
    bytes[28..32].copy_from_slice(&[192, 0, 2, 2]);
    put64(&mut bytes, 56, 0xeeee); // OffloadHandle: output only
    put(&mut bytes, 68, 1); // SecAssoc[0].Flags: ESN
    put(&mut bytes, 72, 2); // Operation: ESP
    bytes[76..80].copy_from_slice(&[0, 0, 0x10, 0x01]); // Spi as in the packet
    put(&mut bytes, 96, 0x08); // EncryptionAlgorithm.Identifier: AES-GCM-128
    put(&mut bytes, 100, 20); // .KeyLength
    put(&mut bytes, 104, 0); // .KeyOffsetBytes
    put(&mut bytes, 108, 12); // .AdditionalInfo
    put(&mut bytes, 112, 7); // SequenceNumberHighOrder
    put(&mut bytes, 164, 20); // KeyLength
    for (index, byte) in bytes[168..].iter_mut().enumerate() {
        *byte = index as u8 + 1;
    }
    bytes
}

/// The same as an ADD_SA_EX.
fn golden_ex() -> Vec<u8> {
    let plain = golden();
    let mut bytes = vec![0; 200];
    bytes[..4].copy_from_slice(&[0x80, 1, 170, 0]);
    bytes[4..12].copy_from_slice(&plain[16..24]);
    bytes[12..44].copy_from_slice(&plain[24..56]);
    bytes[56..160].copy_from_slice(&plain[64..168]);
    put(&mut bytes, 160, 180); // KeyOffset
    bytes[180..].copy_from_slice(&plain[168..]);
    bytes
}

fn only(list: Result<Vec<AddSaEntry>, RawError>) -> Result<SaBundle, Status> {
    let mut list = list.expect("the list itself is whole");
    assert_eq!(list.len(), 1);
    list.remove(0).bundle
}

fn same(left: &SaBundle, right: &SaBundle) -> bool {
    // Debug shows lengths of keys only; the keys are compared apart.
    let keys = |bundle: &SaBundle| -> Vec<u8> {
        let esp = bundle.associations.esp();
        let encryption = esp.map(|esp| esp.encryption.key.expose().to_vec());
        let authentication = esp.and_then(|esp| esp.authentication.as_ref()).map(|keyed| keyed.key.expose().to_vec());
        let ah = bundle.associations.ah().map(|ah| ah.authentication.key.expose().to_vec());
        [encryption, authentication, ah].into_iter().flatten().flatten().collect()
    };
    format!("{left:?}") == format!("{right:?}") && keys(left) == keys(right)
}

#[test]
fn a_request_made_by_hand_reads_as_meant() {
    for entry in [only(sa::decode_add_sa(&golden())).unwrap(), sa::decode_add_sa_ex(&golden_ex()).unwrap().bundle.unwrap()] {
        assert_eq!(entry.direction, Direction::Inbound);
        assert_eq!(entry.endpoints, Endpoints { ipv6: false, source: Some([192, 0, 2, 1].into()), destination: Some([192, 0, 2, 2].into()) });
        assert_eq!((entry.udp_esp, entry.extension), (None, SaExtension::default()));
        let Associations::Esp(esp) = entry.associations else { panic!("ESP alone") };
        assert_eq!((esp.spi, esp.extended_sequence_numbers, esp.sequence_number_high), (Spi(0x1001), true, 7));
        assert_eq!((esp.encryption.algorithm, esp.encryption.additional_info), (GCM_128, 12));
        assert_eq!(esp.encryption.key.expose(), (1..=20).collect::<Vec<u8>>());
        assert!(esp.authentication.is_none());
    }
}

#[test]
fn a_request_is_written_as_made_by_hand() {
    let typed = only(sa::decode_add_sa(&golden())).unwrap();
    let mut expected = golden();
    put64(&mut expected, 56, 0);
    expected.resize(192, 0);
    assert_eq!(sa::encode_add_sa(&[typed]).unwrap().expose(), expected);
}

#[test]
fn both_sizes_are_accepted_and_no_other() {
    for (size, right) in [(168, false), (169, true), (170, false), (176, true), (177, false)] {
        let mut bytes = golden();
        bytes[2] = size;
        assert_eq!(sa::decode_add_sa(&bytes).is_ok(), right, "ADD_SA {size}");
    }
    for (size, right) in [(169, false), (170, true), (176, true), (200, false)] {
        let mut bytes = golden_ex();
        bytes[2] = size;
        assert_eq!(sa::decode_add_sa_ex(&bytes).is_ok(), right, "ADD_SA_EX {size}");
    }
    let update = UpdateSa { handle: OffloadHandle::from_bits(5).unwrap(), operation: Operation::Ah, spi: Spi(0x0102_0304), sequence_number_high: 9 };
    let bytes = sa::encode_update_sa(&update);
    assert_eq!((bytes.len(), &bytes[20..24]), (32, &[1, 2, 3, 4][..]));
    for (size, right) in [(27, false), (28, true), (32, true), (33, false)] {
        let mut bytes = bytes.clone();
        bytes[2] = size;
        assert_eq!(sa::decode_update_sa(&bytes[..28]).is_ok(), right, "UPDATE_SA {size}");
    }
    for (size, right) in [(23, false), (24, true), (25, false)] {
        let mut bytes = sa::encode_delete_sa(&[5]);
        bytes[2] = size;
        assert_eq!(sa::decode_delete_sa(&bytes).is_ok(), right, "DELETE_SA {size}");
    }
    for offset in [0, 1] {
        let mut bytes = golden();
        bytes[offset] ^= 2;
        assert_eq!(sa::decode_add_sa(&bytes).unwrap_err().status(), Status::INVALID_DATA);
    }
}

/// Bad content of the entry: where, what (a word), and that the entry alone fails.
#[test]
fn bad_content_is_the_entrys_own_failure() {
    for (what, at, value) in [
        ("NumExtHdrs 0", 16, 0),
        ("NumExtHdrs 2 without a second association", 16, 2),
        ("NumExtHdrs 3", 16, 3),
        ("unknown flag", 20, 0x2),
        ("two UDP-ESP types", 64, 3),
        ("unknown UDP-ESP type", 64, 0x10),
        ("unknown association flag", 68, 2),
        ("operation 0", 72, 0),
        ("operation 3", 72, 3),
        ("AH without its algorithm", 72, 1),
        ("SPI 0", 76, 0),
        ("authentication with GCM", 80, 0x02),
        ("key length without an algorithm", 84, 4),
        ("additional information without an algorithm", 92, 4),
        ("no encryption algorithm", 96, 0),
        ("several encryption algorithms", 96, 0x18),
        ("unknown encryption algorithm", 96, 0x200),
        ("vendor extension", 96, 0x1_0000),
        ("key length without salt", 100, 16),
        ("key length of another algorithm", 100, 28),
        ("key length 4294967295", 100, u32::MAX),
        ("key beyond the key area", 104, 1),
        ("key offset 4294967295", 104, u32::MAX),
        ("ICV length", 108, 4),
        ("null encryption with a key", 96, 1),
    ] {
        let mut bytes = golden();
        put(&mut bytes, at, value);
        if at == 68 {
            put(&mut bytes, 112, 0);
        }
        assert_eq!(only(sa::decode_add_sa(&bytes)).unwrap_err(), Status::INVALID_DATA, "{what}");
        if at != 20 && at != 16 {
            // ADD_SA_EX has the same members 8 bytes earlier.
            let mut bytes = golden_ex();
            put(&mut bytes, at - 8, value);
            if at == 68 {
                put(&mut bytes, 104, 0);
            }
            assert_eq!(sa::decode_add_sa_ex(&bytes).unwrap().bundle.unwrap_err(), Status::INVALID_DATA, "{what}");
        }
    }
    let mut bytes = golden();
    put(&mut bytes, 68, 0);
    assert_eq!(only(sa::decode_add_sa(&bytes)).unwrap_err(), Status::INVALID_DATA, "high half without ESN");
    // What an owner may allow, and what nothing depends on, is the driver's to judge.
    for (what, at, value) in [("reserved SPI", 76, 0xff00_0000), ("idle key offset", 88, 77), ("second association of one", 116, 9)] {
        let mut bytes = golden();
        put(&mut bytes, at, value);
        assert!(only(sa::decode_add_sa(&bytes)).is_ok(), "{what}");
    }
}

#[test]
fn two_associations_are_esp_then_ah() {
    let both = || bundle(Associations::AhOverEsp { esp: esp(GCM_128, None), ah: ah(AuthenticationAlgorithm::HmacSha1) });
    let bytes = sa::encode_add_sa(&[both()]).unwrap();
    assert_eq!((bytes.expose()[16], bytes.expose()[72], bytes.expose()[120]), (2, 2, 1));
    let mut swapped = bytes.expose().to_vec();
    let second: Vec<u8> = swapped[116..164].to_vec();
    swapped.copy_within(68..116, 116);
    swapped[68..116].copy_from_slice(&second);
    assert_eq!(only(sa::decode_add_sa(&swapped)).unwrap_err(), Status::INVALID_DATA, "AH first");
    let mut twice = bytes.expose().to_vec();
    twice.copy_within(68..116, 116);
    assert_eq!(only(sa::decode_add_sa(&twice)).unwrap_err(), Status::INVALID_DATA, "ESP twice");
    let mut with_encryption = sa::encode_add_sa(&[bundle(Associations::Ah(ah(AuthenticationAlgorithm::HmacSha1)))]).unwrap();
    put(with_encryption.expose_mut(), 96, 1);
    assert_eq!(only(sa::decode_add_sa(with_encryption.expose())).unwrap_err(), Status::INVALID_DATA, "AH with encryption");
}

fn gcm(spi: u32) -> SaBundle {
    let mut half = esp(GCM_128, None);
    half.spi = Spi(spi);
    bundle(Associations::Esp(half))
}

#[test]
fn damaged_lists_fail_whole() {
    let bytes = sa::encode_add_sa(&[gcm(0x1001), gcm(0x1002), gcm(0x1003)]).unwrap();
    let good = bytes.expose();
    let list = |bytes: &[u8]| sa::decode_add_sa(bytes).map(|list| list.len());
    assert_eq!((list(good), get64(good, 8), get64(good, 200), good.len()), (Ok(3), 192, 384, 576));
    for (what, at, next) in [
        ("circle to the start of the second", 392, 192),
        ("itself", 200, 192),
        ("misaligned", 8, 196),
        ("outside", 8, 576),
        ("no room for an element", 8, 416),
        ("far outside", 8, u64::MAX),
        ("overflowing when added", 8, u64::MAX - 7),
        ("into the first entry's keys", 200, 176),
        ("into the middle of an entry", 8, 200),
    ] {
        let mut bytes = good.to_vec();
        put64(&mut bytes, at, next);
        assert_eq!(list(&bytes).unwrap_err().status(), Status::INVALID_DATA, "{what}");
    }
    let mut overlapping = good.to_vec();
    put(&mut overlapping, 164, 100);
    let error = list(&overlapping).unwrap_err();
    assert!(error.to_string().contains("elements that do not overlap"), "the first entry's keys reach into the second: {error}");
    assert_eq!(error.status(), Status::INVALID_DATA);
    // Elements may stand in any order.
    let mut backwards = good.to_vec();
    put64(&mut backwards, 8, 384);
    put64(&mut backwards, 392, 192);
    put64(&mut backwards, 200, 0);
    let spis: Vec<_> = sa::decode_add_sa(&backwards).unwrap().iter().map(|entry| entry.bundle.as_ref().unwrap().associations.esp().unwrap().spi).collect();
    assert_eq!(spis, [Spi(0x1001), Spi(0x1003), Spi(0x1002)]);

    for (header, value) in [(192, 0), (193, 9), (194, 0)] {
        let mut bytes = good.to_vec();
        bytes[header] = value;
        assert_eq!(list(&bytes).unwrap_err().status(), Status::INVALID_DATA);
    }
    let deletes = sa::encode_delete_sa(&[1, 0, u64::MAX]);
    assert_eq!(sa::decode_delete_sa(&deletes), Ok(vec![1, 0, u64::MAX]));
    // A whole element, but not where one can stand.
    let mut misaligned = [&deletes[..24], &[0; 4], &sa::encode_delete_sa(&[7])].concat();
    put64(&mut misaligned, 8, 28);
    assert_eq!(sa::decode_delete_sa(&misaligned).unwrap_err().status(), Status::INVALID_DATA);
    for next in [0u64, 24] {
        let mut bytes = deletes.clone();
        put64(&mut bytes, 56, next);
        assert_eq!(sa::decode_delete_sa(&bytes).is_ok(), next == 0);
    }
}

#[test]
fn short_buffers_say_what_is_needed() {
    let short = |result: Result<(), RawError>| result.err().map(|error| (error.status(), error.bytes_needed().unwrap()));
    for length in 0..golden().len() {
        let expected = if length < 169 { 169 } else { 188 };
        assert_eq!(short(sa::decode_add_sa(&golden()[..length]).map(drop)), Some((Status::INVALID_LENGTH, expected)), "{length}");
    }
    for length in 0..golden_ex().len() {
        let expected = if length < 170 { 170 } else { 200 };
        assert_eq!(short(sa::decode_add_sa_ex(&golden_ex()[..length]).map(drop)), Some((Status::INVALID_LENGTH, expected)), "{length}");
    }
    let mut greedy = golden();
    put(&mut greedy, 164, u32::MAX);
    assert_eq!(short(sa::decode_add_sa(&greedy).map(drop)), Some((Status::INVALID_LENGTH, 168 + u32::MAX as usize)));
    let mut within = golden_ex();
    put(&mut within, 160, 169);
    assert_eq!(sa::decode_add_sa_ex(&within).unwrap_err().status(), Status::INVALID_DATA);
    assert_eq!(short(sa::decode_update_sa(&[0; 27]).map(drop)), Some((Status::INVALID_LENGTH, 28)));
    assert_eq!(short(sa::decode_delete_sa(&[0; 23]).map(drop)), Some((Status::INVALID_LENGTH, 24)));
}

#[test]
fn updates_need_a_handle_and_an_operation() {
    let update = UpdateSa { handle: OffloadHandle::from_bits(5).unwrap(), operation: Operation::Esp, spi: Spi(7), sequence_number_high: 9 };
    let good = sa::encode_update_sa(&update);
    assert_eq!(sa::decode_update_sa(&good), Ok(update));
    let mut null = good.clone();
    put64(&mut null, 8, 0);
    assert_eq!(sa::decode_update_sa(&null).unwrap_err().status(), Status::INVALID_PARAMETER);
    let mut unknown = good;
    put(&mut unknown, 16, 3);
    assert_eq!(sa::decode_update_sa(&unknown).unwrap_err().status(), Status::INVALID_DATA);
}

#[test]
fn extensions_are_not_written() {
    let refused = |bundle: SaBundle| sa::encode_add_sa_ex(&bundle).err().map(|error| error.status());
    let mut masked = gcm(0x1001);
    masked.extension = SaExtension { iv_mask: 1, ..SaExtension::default() };
    assert_eq!(refused(masked), Some(Status::NOT_SUPPORTED), "an IV mask that only one side knows repeats IVs");
    assert_eq!(refused(bundle(Associations::Esp(esp(EncryptionAlgorithm::ChaCha20Poly1305, None)))), Some(Status::NOT_SUPPORTED));
    assert_eq!(refused(bundle(Associations::Ah(ah(AuthenticationAlgorithm::HmacSha512)))), Some(Status::NOT_SUPPORTED));
    let mut bare = bundle(Associations::Esp(esp(EncryptionAlgorithm::DesCbc, None)));
    bare.extension.allow_unauthenticated = true;
    assert_eq!(refused(bare), Some(Status::NOT_SUPPORTED), "the allowance would be lost");
    let mut moved = gcm(0x1001);
    moved.udp_esp = Some(UdpEspType::Tunnel);
    assert_eq!(sa::encode_add_sa_ex(&moved).err(), None);
    moved.extension.udp_esp_port = Some(4501);
    assert_eq!(refused(moved), Some(Status::NOT_SUPPORTED), "its packets would not be found");
    let mut window = gcm(0x1001);
    window.extension.replay_window = Some(64);
    assert_eq!(refused(window), None);
    assert!(sa::encode_add_sa(&[]).is_err());
}

#[test]
fn a_version_takes_its_own_requests() {
    for (version, plain, ex, others) in [
        (NdisVersion::V6_0, false, false, false),
        (NdisVersion::V6_1, true, false, true),
        (NdisVersion::V6_20, true, false, true),
        (NdisVersion::V6_30, false, true, true),
    ] {
        let is_other =
            |oid: u32, mut bytes: Vec<u8>| matches!(DirectRequest::parse(oid, version, &mut bytes).unwrap().1, DirectOid::Other(found) if found == oid);
        let update = UpdateSa { handle: OffloadHandle::from_bits(5).unwrap(), operation: Operation::Esp, spi: Spi(7), sequence_number_high: 9 };
        assert_eq!(is_other(ADD_SA, golden()), !plain, "{version}");
        assert_eq!(is_other(ADD_SA_EX, golden_ex()), !ex, "{version}");
        assert_eq!(is_other(UPDATE_SA, sa::encode_update_sa(&update)), !others, "{version}");
        assert_eq!(is_other(DELETE_SA, sa::encode_delete_sa(&[1])), !others, "{version}");
        assert!(is_other(0xfc01_020c, Vec::new()));
    }
}

#[test]
fn handles_are_written_back_into_their_entries() {
    let bytes = sa::encode_add_sa(&[gcm(0x1001), gcm(0x1002), gcm(0x1003)]).unwrap();
    for (status, handles) in [(Status::SUCCESS, [11, 0, 33]), (Status::FAILURE, [0, 0, 0])] {
        let mut bytes = bytes.expose().to_vec();
        for at in [56, 248, 440] {
            put64(&mut bytes, at, 0xaaaa);
        }
        // The second entry cannot be read, and fails alone.
        put(&mut bytes, 192 + 16, 9);
        let before = bytes.clone();
        let (request, mut body) = DirectRequest::parse(ADD_SA, NdisVersion::V6_20, &mut bytes).unwrap();
        let debug = format!("{request:?}");
        assert!(debug.contains("576 bytes") && !debug.contains("90"), "{debug}");
        let DirectOid::AddSa(entries) = &mut body else { panic!("ADD_SA") };
        assert_eq!(entries.iter().map(|entry| entry.bundle.as_ref().err().copied()).collect::<Vec<_>>(), [None, Some(Status::INVALID_DATA), None]);
        entries[0].handle = OffloadHandle::from_bits(11);
        entries[2].handle = OffloadHandle::from_bits(33);
        request.complete(status, &body);
        assert_eq!([56, 248, 440].map(|at| get64(&bytes, at)), handles);
        for at in [56, 248, 440] {
            put64(&mut bytes, at, 0xaaaa);
        }
        assert_eq!(bytes, before, "nothing but the handles is written");
    }
    let mut bytes = golden_ex();
    let (request, mut body) = DirectRequest::parse(ADD_SA_EX, NdisVersion::V6_30, &mut bytes).unwrap();
    let DirectOid::AddSaEx(entry) = &mut body else { panic!("ADD_SA_EX") };
    entry.handle = OffloadHandle::from_bits(0x0102_0304_0506_0708);
    request.complete(Status::SUCCESS, &body);
    assert_eq!(get64(&bytes, 48), 0x0102_0304_0506_0708);
}

fn any_requests() -> impl Strategy<Value = (u32, NdisVersion, Vec<u8>)> {
    prop_oneof![
        prop::collection::vec(any_bundle(), 1..4).prop_map(|list| (ADD_SA, NdisVersion::V6_20, sa::encode_add_sa(&list).unwrap().expose().to_vec())),
        any_bundle().prop_map(|bundle| (ADD_SA_EX, NdisVersion::V6_30, sa::encode_add_sa_ex(&bundle).unwrap().expose().to_vec())),
        prop::collection::vec(any::<u64>(), 1..4).prop_map(|handles| (DELETE_SA, NdisVersion::V6_30, sa::encode_delete_sa(&handles))),
        (1u64.., any::<bool>(), any::<u32>(), any::<u32>()).prop_map(|(handle, ah, spi, sequence_number_high)| {
            let operation = if ah { Operation::Ah } else { Operation::Esp };
            let update = UpdateSa { handle: OffloadHandle::from_bits(handle).unwrap(), operation, spi: Spi(spi), sequence_number_high };
            (UPDATE_SA, NdisVersion::V6_1, sa::encode_update_sa(&update))
        }),
    ]
}

proptest! {
    #[test]
    fn bundles_come_back(list in prop::collection::vec(any_bundle(), 1..5)) {
        let read = sa::decode_add_sa(sa::encode_add_sa(&list).unwrap().expose()).unwrap();
        prop_assert_eq!(read.len(), list.len());
        for (read, sent) in read.iter().zip(&list) {
            prop_assert!(same(read.bundle.as_ref().unwrap(), sent));
            let ex = sa::decode_add_sa_ex(sa::encode_add_sa_ex(sent).unwrap().expose()).unwrap();
            prop_assert!(same(&ex.bundle.unwrap(), sent));
        }
    }

    #[test]
    fn handles_come_back(handles in prop::collection::vec(any::<u64>(), 1..9)) {
        prop_assert_eq!(sa::decode_delete_sa(&sa::encode_delete_sa(&handles)), Ok(handles));
    }

    #[test]
    fn any_damage_has_a_status(
        (oid, version, mut bytes) in any_requests(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        for (index, value) in changes {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let length = bytes.len();
        match DirectRequest::parse(oid, version, &mut bytes) {
            Ok((request, body)) => {
                if let DirectOid::AddSa(entries) = &body {
                    for entry in entries {
                        prop_assert!(matches!(entry.bundle, Ok(_) | Err(Status::INVALID_DATA)));
                    }
                }
                request.complete(Status::SUCCESS, &body);
            }
            Err(error) => {
                prop_assert!([Status::INVALID_DATA, Status::INVALID_LENGTH, Status::INVALID_PARAMETER].contains(&error.status()), "{}", error);
                prop_assert_eq!(error.status() == Status::INVALID_LENGTH, error.bytes_needed().is_some_and(|needed| needed > length));
            }
        }
    }

    #[test]
    fn any_bytes_have_a_status(mut bytes in prop::collection::vec(any::<u8>(), 0..400), oid in 0xfc03_0202u32..0xfc03_0206, new in any::<bool>()) {
        let version = if new { NdisVersion::V6_30 } else { NdisVersion::V6_1 };
        if let Ok((request, body)) = DirectRequest::parse(oid, version, &mut bytes) {
            request.complete(Status::SUCCESS, &body);
        }
        for oid in 0xfc01_0201u32..0xfc01_0208 {
            if let Ok(Some((request, body))) = v1::Request::parse(oid, v1::KeyOrder::IntegrityFirst, &mut bytes) {
                request.complete(Status::SUCCESS, &body);
            }
        }
    }
}

const V1_ADD: u32 = 0xfc01_0202;
const V1_DELETE: u32 = 0xfc01_0203;
const V1_ADD_UDP: u32 = 0xfc01_0205;
const V1_DELETE_UDP: u32 = 0xfc01_0206;

/// ESP with 3DES and HMAC-MD5, then AH with HMAC-SHA1; tunnel; keys count up from 1. `keys_at` and `length_at` differ between the two structures.
fn golden_v1(keys_at: usize, length_at: usize) -> Vec<u8> {
    let mut bytes = vec![0; keys_at + 60];
    bytes[..16].copy_from_slice(&[10, 0, 1, 0, 255, 255, 255, 0, 10, 0, 2, 0, 255, 255, 255, 0]);
    put(&mut bytes, 16, 6);
    bytes[20..24].copy_from_slice(&[1, 2, 3, 4]);
    bytes[24..32].copy_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2]);
    bytes[32..36].copy_from_slice(&[2, 0, 2, 0]);
    put(&mut bytes, 36, 2);
    bytes[40..44].copy_from_slice(&[0, 0, 0x10, 0x01]);
    put(&mut bytes, 44, 1);
    put(&mut bytes, 48, 16);
    put(&mut bytes, 56, 3);
    put(&mut bytes, 60, 24);
    put(&mut bytes, 80, 1);
    bytes[84..88].copy_from_slice(&[0, 0, 0x10, 0x02]);
    put(&mut bytes, 88, 2);
    put(&mut bytes, 92, 20);
    put(&mut bytes, length_at, 60);
    for (index, byte) in bytes[keys_at..].iter_mut().enumerate() {
        *byte = index as u8 + 1;
    }
    bytes
}

fn parse_v1(oid: u32, order: v1::KeyOrder, mut bytes: Vec<u8>) -> Result<V1Request, RawError> {
    v1::Request::parse(oid, order, &mut bytes).map(|parsed| parsed.expect("an OID of version 1").1)
}

#[test]
fn version_1_requests_read_as_meant_in_both_orders_of_keys() {
    for (order, encryption, authentication) in [(v1::KeyOrder::ConfidentialityFirst, 1..=24, 25..=40), (v1::KeyOrder::IntegrityFirst, 17..=40, 1..=16)] {
        let V1Request::AddSa { sa, handle: None } = parse_v1(V1_ADD, order, golden_v1(180, 176)).unwrap() else { panic!("ADD_SA") };
        assert_eq!(sa.direction, Direction::Outbound);
        assert!(sa.filter.source.matches(Ipv4Addr::new(10, 0, 1, 77)) && !sa.filter.source.matches(Ipv4Addr::new(10, 0, 2, 77)));
        assert_eq!(sa.filter.destination.address, Ipv4Addr::new(10, 0, 2, 0));
        assert_eq!((sa.filter.protocol, sa.filter.source_port, sa.filter.destination_port), (6, 0x0201, 0x0403));
        assert_eq!(sa.tunnel.map(|tunnel| (tunnel.source, tunnel.destination)), Some((Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2))));
        let Associations::AhOverEsp { esp, ah } = &sa.associations else { panic!("AH over ESP") };
        assert_eq!((esp.spi, esp.encryption.algorithm), (Spi(0x1001), EncryptionAlgorithm::TripleDesCbc));
        assert_eq!(esp.encryption.key.expose(), encryption.collect::<Vec<u8>>());
        let integrity = esp.authentication.as_ref().unwrap();
        assert_eq!((integrity.algorithm, integrity.key.expose()), (AuthenticationAlgorithm::HmacMd5, &*authentication.collect::<Vec<u8>>()));
        assert_eq!((ah.spi, ah.authentication.algorithm), (Spi(0x1002), AuthenticationAlgorithm::HmacSha1));
        assert_eq!(ah.authentication.key.expose(), (41..=60).collect::<Vec<u8>>());
    }
}

#[test]
fn malformed_version_1_requests_have_a_status() {
    for (what, at, value) in [
        ("protocol 256", 16, 256),
        ("both directions", 32, 0x0002_0003),
        ("no direction", 32, 0x0002_0000),
        ("no association", 32, 0x0000_0001),
        ("three associations", 32, 0x0003_0001),
        ("a negative number of associations", 32, 0xffff_0001),
        ("operation 0", 36, 0),
        ("two AH", 36, 1),
        ("SPI 0", 40, 0),
        ("unknown integrity", 44, 3),
        ("integrity key length", 48, 20),
        ("reserved confidentiality", 56, 2),
        ("confidentiality key length", 60, 8),
        ("AH without integrity", 88, 0),
        ("two ESP", 80, 2),
        ("not enough keys", 176, 59),
    ] {
        let mut bytes = golden_v1(180, 176);
        put(&mut bytes, at, value);
        if what == "two ESP" {
            put(&mut bytes, 88, 2);
        }
        assert_eq!(parse_v1(V1_ADD, v1::KeyOrder::default(), bytes).unwrap_err().status(), Status::INVALID_DATA, "{what}");
    }
    let whole = golden_v1(180, 176);
    for length in 0..whole.len() {
        let error = parse_v1(V1_ADD, v1::KeyOrder::default(), whole[..length].to_vec()).unwrap_err();
        assert_eq!((error.status(), error.bytes_needed()), (Status::INVALID_LENGTH, Some(if length < 180 { 180 } else { 240 })), "{length}");
    }
    assert!(v1::Request::parse(ADD_SA, v1::KeyOrder::default(), &mut []).unwrap().is_none());
    assert_eq!(parse_v1(V1_DELETE, v1::KeyOrder::default(), vec![0; 7]).unwrap_err().bytes_needed(), Some(8));
    assert_eq!(parse_v1(V1_DELETE_UDP, v1::KeyOrder::default(), vec![0; 15]).unwrap_err().bytes_needed(), Some(16));
}

#[test]
fn version_1_handles_go_in_and_out() {
    // UDP-ESP takes ESP alone.
    assert_eq!(parse_v1(V1_ADD_UDP, v1::KeyOrder::default(), golden_v1(196, 192)).unwrap_err().status(), Status::INVALID_DATA);
    for (status, sa_handle, entry) in [(Status::SUCCESS, 21, 22), (Status::RESOURCES, 0, 9)] {
        let mut bytes = golden_v1(196, 192);
        bytes[34] = 1;
        put64(&mut bytes, 168, 0xaaaa);
        put(&mut bytes, 176, 1);
        put(&mut bytes, 180, 4500);
        put64(&mut bytes, 184, 9);
        let (request, mut body) = v1::Request::parse(V1_ADD_UDP, v1::KeyOrder::default(), &mut bytes).unwrap().unwrap();
        let V1Request::AddUdpEspSa { entry: parser, entry_handle, handle, .. } = &mut body else { panic!("ADD_UDPESP_SA") };
        assert_eq!((parser.kind, parser.destination_port, *entry_handle), (V1EncapsulationType::Other, 4500, OffloadHandle::from_bits(9)));
        (*handle, *entry_handle) = (OffloadHandle::from_bits(21), OffloadHandle::from_bits(22));
        request.complete(status, &body);
        assert_eq!((get64(&bytes, 168), get64(&bytes, 184)), (sa_handle, entry));
    }
    let mut bytes = golden_v1(180, 176);
    let (request, mut body) = v1::Request::parse(V1_ADD, v1::KeyOrder::default(), &mut bytes).unwrap().unwrap();
    let V1Request::AddSa { handle, .. } = &mut body else { panic!("ADD_SA") };
    *handle = OffloadHandle::from_bits(31);
    request.complete(Status::SUCCESS, &body);
    assert_eq!(get64(&bytes, 168), 31);

    let mut bytes = [[5u8; 8], [0; 8]].concat();
    assert!(matches!(parse_v1(V1_DELETE, v1::KeyOrder::default(), bytes.clone()).unwrap(), V1Request::DeleteSa(0x0505_0505_0505_0505)));
    let body = parse_v1(V1_DELETE_UDP, v1::KeyOrder::default(), bytes.clone()).unwrap();
    assert!(matches!(body, V1Request::DeleteUdpEspSa { handle: 0x0505_0505_0505_0505, entry_handle: None }));
    bytes[8] = 6;
    let body = parse_v1(V1_DELETE_UDP, v1::KeyOrder::default(), bytes).unwrap();
    assert!(matches!(body, V1Request::DeleteUdpEspSa { entry_handle: Some(entry), .. } if entry.to_bits() == 6));
}

#[test]
fn udp_esp_types_have_their_bits() {
    for (kind, bit) in [(UdpEspType::Transport, 1), (UdpEspType::Tunnel, 2), (UdpEspType::TransportOverUdpTunnel, 4), (UdpEspType::UdpTransportOverTunnel, 8)] {
        let mut typed = gcm(0x1001);
        typed.udp_esp = Some(kind);
        let bytes = sa::encode_add_sa(&[typed]).unwrap();
        assert_eq!(bytes.expose()[64], bit);
        assert_eq!(only(sa::decode_add_sa(bytes.expose())).unwrap().udp_esp, Some(kind));
    }
    assert_eq!(raw::RawError::NullHandle { field: "OffloadHandle", offset: 8 }.to_string(), "OffloadHandle at offset 8: null found, a handle needed");
}
