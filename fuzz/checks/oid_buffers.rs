//! What must hold of the byte forms of requests, answers, indications and out-of-band slots for any bytes, beyond that nothing panics.
//!
//! Shared by the fuzz target and by the test that replays its seeds and crashes.
//!
//! Input: a byte that chooses the NDIS version and how the request ends, the buffer.

use ndis::raw::{self, DirectRequest, RawError, sa, v1};
use ndis::{AddSaEntry, DirectOid, NdisVersion, OffloadHandle, SaBundle, Status, V1Request};

const DIRECT: [u32; 5] = [0xfc03_0202, 0xfc03_0203, 0xfc03_0204, 0xfc03_0205, 0xfc01_020c];
const STANDARD: [u32; 5] = [0xfc01_020b, 0xfc01_020c, 0xfc01_020d, 0x0101_010a, 0x0001_0101];
const V1: [u32; 5] = [0xfc01_0202, 0xfc01_0203, 0xfc01_0205, 0xfc01_0206, 0];
const STATUSES: [i32; 4] = [0x4002_0006, 0x4002_0007, 0x4001_0004, 0x4001_0005];
const VERSIONS: [u8; 8] = [0, 1, 20, 30, 50, 70, 83, 85];

/// Takes `data` for everything that is handed over as bytes.
pub(crate) fn check(data: &[u8]) {
    let Some((&choices, buffer)) = data.split_first() else { return };
    let version = NdisVersion { major: 6, minor: VERSIONS[usize::from(choices & 7)] };
    let status = if choices & 0x80 == 0 { Status::SUCCESS } else { Status::RESOURCES };
    for oid in DIRECT {
        direct(oid, version, status, buffer);
    }
    for oid in V1 {
        for order in [v1::KeyOrder::ConfidentialityFirst, v1::KeyOrder::IntegrityFirst] {
            version_1(oid, order, status, buffer);
        }
    }
    standard(version, buffer);
    for code in STATUSES {
        match raw::indication::decode(code, buffer) {
            Ok(None) => unreachable!("these statuses are all known"),
            Ok(Some(indication)) => {
                let (again, bytes) = raw::indication::encode(&indication, NEWEST).expect("it has a code");
                assert_eq!((again, raw::indication::decode(again, &bytes)), (code, Ok(Some(indication))));
            }
            Err(error) => refused(&error, buffer),
        }
    }
    slots(buffer);
}

const NEWEST: NdisVersion = NdisVersion { major: 6, minor: 85 };

/// A refusal says what is missing, or what is wrong; and needs no more than it says.
fn refused(error: &RawError, buffer: &[u8]) {
    assert!(!error.to_string().is_empty());
    let status = error.status();
    assert!([Status::INVALID_LENGTH, Status::INVALID_DATA, Status::INVALID_PARAMETER].contains(&status), "{error}");
    assert_eq!(status == Status::INVALID_LENGTH, error.bytes_needed().is_some_and(|needed| needed > buffer.len()), "{error}");
}

fn direct(oid: u32, version: NdisVersion, status: Status, buffer: &[u8]) {
    let mut bytes = buffer.to_vec();
    let (request, mut body) = match DirectRequest::parse(oid, version, &mut bytes) {
        Ok(parsed) => parsed,
        Err(error) => return refused(&error, buffer),
    };
    let mut handles = 0;
    match &mut body {
        DirectOid::AddSa(entries) => {
            added(oid, entries);
            handles = answer(entries);
        }
        DirectOid::AddSaEx(entry) => {
            added(oid, std::slice::from_ref(entry));
            handles = answer(std::slice::from_mut(entry));
        }
        DirectOid::UpdateSa(update) => assert_eq!(sa::decode_update_sa(&sa::encode_update_sa(update)).as_ref(), Ok(&*update)),
        DirectOid::DeleteSa(list) => assert_eq!(sa::decode_delete_sa(&sa::encode_delete_sa(list)).as_ref(), Ok(&*list)),
        DirectOid::Other(found) => assert_eq!(*found, oid),
    }
    request.complete(status, &body);
    // Only handles are written, and keys stay where they were.
    let changed = bytes.iter().zip(buffer).filter(|(now, before)| now != before).count();
    assert!(changed <= handles * 8, "{changed} bytes changed for {handles} handles");
    let (_, again) = DirectRequest::parse(oid, version, &mut bytes).expect("a handle is an answer, and not read");
    assert_eq!(format!("{again:?}"), format!("{:?}", unanswered(body)));
}

/// What was read of an ADD_SA or ADD_SA_EX can be written, and is then read the same.
fn added(oid: u32, entries: &[AddSaEntry]) {
    assert!(!entries.is_empty() && (oid != 0xfc03_0205 || entries.len() == 1));
    for entry in entries {
        assert!(entry.handle.is_none());
        match &entry.bundle {
            Ok(bundle) => {
                let list =
                    sa::decode_add_sa(sa::encode_add_sa(std::slice::from_ref(bundle)).expect("it came from bytes").expose()).expect("it was just written");
                let ex = sa::decode_add_sa_ex(sa::encode_add_sa_ex(bundle).expect("it came from bytes").expose()).expect("it was just written");
                for again in list.iter().chain([&ex]) {
                    same(bundle, again.bundle.as_ref().expect("it was just written"));
                }
            }
            Err(status) => assert_eq!(*status, Status::INVALID_DATA),
        }
    }
}

fn same(left: &SaBundle, right: &SaBundle) {
    // `Debug` shows no keys.
    let keys = |bundle: &SaBundle| {
        let esp = bundle.associations.esp();
        let encryption = esp.map(|esp| esp.encryption.key.expose().to_vec());
        let authentication = esp.and_then(|esp| esp.authentication.as_ref()).map(|keyed| keyed.key.expose().to_vec());
        (encryption, authentication, bundle.associations.ah().map(|ah| ah.authentication.key.expose().to_vec()))
    };
    assert!(keys(left) == keys(right));
    assert_eq!(format!("{left:?}"), format!("{right:?}"));
}

/// Every other entry gets a handle. Returns how many entries there are.
fn answer(entries: &mut [AddSaEntry]) -> usize {
    for (index, entry) in entries.iter_mut().enumerate() {
        entry.handle = OffloadHandle::from_bits(if index % 2 == 0 { u64::MAX - index as u64 } else { 0 });
    }
    entries.len()
}

fn unanswered(mut body: DirectOid) -> DirectOid {
    match &mut body {
        DirectOid::AddSa(entries) => entries.iter_mut().for_each(|entry| entry.handle = None),
        DirectOid::AddSaEx(entry) => entry.handle = None,
        DirectOid::UpdateSa(_) | DirectOid::DeleteSa(_) | DirectOid::Other(_) => {}
    }
    body
}

fn version_1(oid: u32, order: v1::KeyOrder, status: Status, buffer: &[u8]) {
    let mut bytes = buffer.to_vec();
    let (request, mut body) = match v1::Request::parse(oid, order, &mut bytes) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => return assert_eq!(oid, 0),
        Err(error) => return refused(&error, buffer),
    };
    let answers = match &mut body {
        V1Request::AddSa { handle, .. } => {
            *handle = OffloadHandle::from_bits(u64::MAX);
            1
        }
        V1Request::AddUdpEspSa { handle, entry_handle, .. } => {
            (*handle, *entry_handle) = (OffloadHandle::from_bits(u64::MAX), OffloadHandle::from_bits(u64::MAX - 1));
            2
        }
        V1Request::DeleteSa(_) | V1Request::DeleteUdpEspSa { .. } => 0,
    };
    request.complete(status, &body);
    let changed = bytes.iter().zip(buffer).filter(|(now, before)| now != before).count();
    assert!(changed <= answers * 8, "{changed} bytes changed for {answers} handles");
    assert!(matches!(v1::Request::parse(oid, order, &mut bytes), Ok(Some(_))));
}

fn standard(version: NdisVersion, buffer: &[u8]) {
    for oid in STANDARD {
        for set in [true, false] {
            match raw::standard::decode(oid, set, buffer) {
                // Nothing that is only asked has an answer yet.
                Ok(body) => assert_eq!(raw::standard::answer(&body, version, &mut []), Ok(0)),
                Err(error) => refused(&error, buffer),
            }
        }
    }
    match raw::offload::decode(buffer) {
        Ok(set) => {
            let bytes = raw::offload::encode(&set, NEWEST);
            assert_eq!(raw::offload::decode(&bytes), Ok(set));
            let mut room = buffer.to_vec();
            match raw::offload::answer(&set, version, &mut room) {
                Ok(length) => {
                    assert_eq!((&room[..length], &room[length..]), (&*raw::offload::encode(&set, version), &buffer[length..]));
                    assert!(raw::offload::decode(&room).is_ok());
                }
                Err(error) => {
                    assert_eq!((error.status(), error.bytes_needed()), (Status::BUFFER_TOO_SHORT, Some(raw::offload::size(version))));
                    assert_eq!(room, buffer, "what has no room is not written in part");
                }
            }
        }
        Err(error) => refused(&error, buffer),
    }
    match raw::parameters::decode(buffer) {
        Ok(parameters) => {
            let bytes = raw::parameters::encode(&parameters, NEWEST).expect("the newest revision has everything");
            assert_eq!(raw::parameters::decode(&bytes), Ok(parameters));
            if let Ok(bytes) = raw::parameters::encode(&parameters, version) {
                assert_eq!(raw::parameters::decode(&bytes), Ok(parameters));
            }
        }
        Err(error) => refused(&error, buffer),
    }
    match raw::encapsulation::decode(buffer) {
        Ok(request) => assert_eq!(raw::encapsulation::decode(&raw::encapsulation::encode(&request)), Ok(request)),
        Err(error) => refused(&error, buffer),
    }
}

fn slots(buffer: &[u8]) {
    let mut slots = [0; raw::oob::SLOTS];
    for (slot, bytes) in slots.iter_mut().zip(buffer.chunks_exact(8)) {
        *slot = u64::from_le_bytes(bytes.try_into().expect("chunks are exact"));
    }
    let oob = raw::oob::decode(&slots);
    let (receive, header) = (oob.ipsec_receive(), oob.header_receive());
    let mut again = slots;
    raw::oob::encode(&oob, &mut again);
    assert_eq!(raw::oob::decode(&again), oob);
    let mut typed = oob;
    typed.set_ipsec_receive(receive);
    typed.set_header_receive(header);
    assert_eq!((typed.ipsec_receive(), typed.header_receive()), (receive, header));
}
