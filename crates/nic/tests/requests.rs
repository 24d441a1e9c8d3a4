//! Direct requests: validation, lists, capacity, updates, deletions, cancelling, resets (OV2-OID-1 to OV2-OID-4, OV2-SA-1 to OV2-SA-8).

mod common;
#[path = "common/scripted.rs"]
mod scripted;

use std::sync::{Arc, Barrier, Mutex};

use common::{Link, Nic, Sa, Shape};
use ipsec::{AuthJob, Authentication, Crypto, KeyError, KeyParameters, OpenJob, Provider, Scratch, SealJob};
use ndis::{
    AddSaEntry, AesKeySize, AhAssociation, Associations, AuthenticationAlgorithm, DirectOid, Direction, EncryptionAlgorithm, EspAssociation, IpsecSetting,
    Keyed, Miniport, NdisVersion, OffloadHandle, Operation, Outcome, RequestId, SaBundle, Status, StatusIndication, UdpEspType, Upcalls, UpdateSa,
};
use nic::{DeletePolicy, NicEvent, NicParameters, SoftwareEngine};
use packet::{Medium, Spi};
use scripted::{Call, Scripted};
use secret::SecretBytes;

const IN: Direction = Direction::Inbound;
const OUT: Direction = Direction::Outbound;

fn parameters(version: NdisVersion) -> NicParameters {
    NicParameters { version, medium: Medium::Ip, ..NicParameters::new("test") }
}

fn small(capacity: u32) -> impl Fn() -> SoftwareEngine + Send + Sync {
    move || SoftwareEngine::new(ipsec::Crypto::default(), capacity).unwrap()
}

fn list(bundles: Vec<SaBundle>) -> DirectOid {
    DirectOid::AddSa(bundles.into_iter().map(AddSaEntry::new).collect())
}

fn ah_association(spi: u32) -> AhAssociation {
    AhAssociation {
        spi: Spi(spi),
        extended_sequence_numbers: false,
        sequence_number_high: 0,
        authentication: Keyed { algorithm: AuthenticationAlgorithm::HmacSha256, key: SecretBytes::from(vec![1; 32]), additional_info: 0 },
    }
}

#[test]
fn bundles_are_validated_and_covered_or_refused_with_the_specified_status() {
    type Change = fn(&mut SaBundle);
    fn esp(bundle: &mut SaBundle) -> &mut ndis::EspAssociation {
        match &mut bundle.associations {
            Associations::Esp(esp) => esp,
            _ => panic!("ESP"),
        }
    }
    let cases: &[(Status, Change)] = &[
        (Status::INVALID_DATA, |b| esp(b).spi = Spi(0)),
        (Status::INVALID_DATA, |b| esp(b).spi = Spi(255)),
        (Status::INVALID_DATA, |b| esp(b).encryption.key = SecretBytes::from(vec![0; 16])),
        (Status::INVALID_DATA, |b| esp(b).encryption.key = SecretBytes::from(vec![0; 28])),
        (Status::INVALID_DATA, |b| esp(b).encryption.additional_info = 10),
        (Status::INVALID_DATA, |b| b.endpoints.ipv6 = true),
        (Status::INVALID_DATA, |b| {
            esp(b).encryption = Keyed { algorithm: EncryptionAlgorithm::Null, key: SecretBytes::default(), additional_info: 0 };
        }),
        (Status::INVALID_DATA, |b| {
            esp(b).encryption =
                Keyed { algorithm: EncryptionAlgorithm::AesCbc(ndis::AesKeySize::Aes128), key: SecretBytes::from(vec![0; 16]), additional_info: 0 };
        }),
        (Status::INVALID_DATA, |b| {
            b.udp_esp = Some(UdpEspType::Tunnel);
            b.associations = Associations::Ah(ah_association(0x5001));
        }),
        (Status::INVALID_DATA, |b| b.extension.udp_esp_port = Some(4501)),
        (Status::NOT_SUPPORTED, |b| b.associations = Associations::Ah(ah_association(0x5001))),
        (Status::NOT_SUPPORTED, |b| {
            let Associations::Esp(esp) = std::mem::replace(&mut b.associations, Associations::Ah(ah_association(0x5001))) else { panic!("ESP") };
            b.associations = Associations::AhOverEsp { esp, ah: ah_association(0x5001) };
        }),
    ];
    let mut nic = Nic::new(Link::Bare);
    nic.set_ipsec(IpsecSetting::Esp);
    for (number, (status, change)) in cases.iter().enumerate() {
        for direction in [IN, OUT] {
            let mut bundle = Sa::new(0x1001).bundle(direction);
            change(&mut bundle);
            assert_eq!(nic.try_add(bundle), Err(*status), "case {number}");
        }
    }
    assert_eq!(nic.miniport.sas(), (0, 0));
    assert_eq!(nic.counter("sas_refused"), 2 * cases.len() as u64);
    nic.add(&Sa::new(256), IN);
    nic.set_ipsec(IpsecSetting::Disabled);
    assert_eq!(nic.try_add(Sa::new(0x1002).bundle(IN)), Err(Status::NOT_SUPPORTED), "a race with a configuration change is legal");
}

/// SPIs 1 to 255 are taken only where they are allowed; 0 never is, in neither direction, and so is never emitted.
#[test]
fn r_24_reserved_spis_are_taken_where_they_are_allowed() {
    for reserved_spis in [false, true] {
        let mut nic = Nic::with(NicParameters { reserved_spis, ..parameters(NdisVersion::V6_30) }, common::software);
        for direction in [IN, OUT] {
            for spi in [0, 1, 2, 128, 254, 255, 256, 257, u32::MAX] {
                let taken = spi > 255 || reserved_spis && spi != 0;
                let ah = SaBundle { associations: Associations::Ah(ah_association(spi)), ..Sa::new(0x1001).bundle(direction) };
                for bundle in [Sa::new(spi).bundle(direction), ah] {
                    let added = nic.try_add(bundle);
                    assert_eq!(added.err(), if taken { None } else { Some(Status::INVALID_DATA) }, "{direction:?} {spi}, allowed {reserved_spis}");
                }
            }
        }
    }
}

/// and a packet that says SPI 0 leaves under no bundle.
#[test]
fn r_24_spi_zero_is_never_emitted() {
    let mut nic = Nic::new(Link::Bare);
    let sa = Sa::new(0x1001);
    let handle = nic.add(&sa, OUT);
    let mut packet = sa.unsealed(Shape::BARE, 1, b"payload");
    packet.bytes[packet.esp.start..packet.esp.start + 4].fill(0);
    let (list, wire) = nic.send_one(packet.list(Some(handle)));
    assert_eq!((list.status, list.buffer.as_slice(), wire.len()), (Status::FAILURE, packet.bytes.as_slice(), 0));
}

/// lengths of keys and ICVs that are not the algorithm's are refused, whatever they are, and so are windows larger than any transport has.
#[test]
fn r_13_lengths_and_windows_out_of_bounds_are_refused_in_add() {
    fn keyed<A>(algorithm: A, length: usize, additional_info: u32) -> Keyed<A> {
        Keyed { algorithm, key: SecretBytes::from((0..length).map(|n| n as u8).collect::<Vec<_>>()), additional_info }
    }
    fn esp(spi: u32, encryption: Keyed<EncryptionAlgorithm>, authentication: Option<Keyed<AuthenticationAlgorithm>>) -> Associations {
        Associations::Esp(EspAssociation { spi: Spi(spi), extended_sequence_numbers: false, sequence_number_high: 0, encryption, authentication })
    }
    const GCM: EncryptionAlgorithm = EncryptionAlgorithm::AesGcm(AesKeySize::Aes256);
    const CBC: EncryptionAlgorithm = EncryptionAlgorithm::AesCbc(AesKeySize::Aes128);
    const SHA1: AuthenticationAlgorithm = AuthenticationAlgorithm::HmacSha1;
    const GMAC: AuthenticationAlgorithm = AuthenticationAlgorithm::AesGmac(AesKeySize::Aes128);
    type Make = fn(u32, usize, u32) -> Associations;
    let mut nic = Nic::with(parameters(NdisVersion::V6_30), small(8192));
    let mut spi = 0x1_0000;
    let mut try_add = |associations: fn(u32, usize, u32) -> Associations, length: usize, info: u32| {
        spi += 1;
        let direction = if spi % 2 == 0 { IN } else { OUT };
        nic.try_add(SaBundle { associations: associations(spi, length, info), ..Sa::new(0x1001).bundle(direction) })
    };
    // What the key's length and the ICV's field, which come from outside, may be.
    let cases: [(&str, Make, usize, &[u32]); 7] = [
        ("GCM", |spi, length, info| esp(spi, keyed(GCM, length, info), None), 36, &[0, 8, 12, 16]),
        ("ChaCha20", |spi, length, info| esp(spi, keyed(EncryptionAlgorithm::ChaCha20Poly1305, length, info), None), 36, &[0, 16]),
        ("CBC", |spi, length, info| esp(spi, keyed(CBC, length, info), Some(keyed(SHA1, 20, 0))), 16, &[0]),
        ("3DES", |spi, length, info| esp(spi, keyed(EncryptionAlgorithm::TripleDesCbc, length, info), Some(keyed(SHA1, 20, 0))), 24, &[0]),
        ("its HMAC", |spi, length, info| esp(spi, keyed(CBC, 16, 0), Some(keyed(SHA1, length, info))), 20, &[0]),
        ("AH", |spi, length, info| Associations::Ah(AhAssociation { authentication: keyed(SHA1, length, info), ..ah_association(spi) }), 20, &[0]),
        ("AH", |spi, length, info| Associations::Ah(AhAssociation { authentication: keyed(GMAC, length, info), ..ah_association(spi) }), 20, &[0, 16]),
    ];
    for (name, make, right, infos) in cases {
        for length in (0..=80).chain([255, 256, 257, 65_535, 65_536]) {
            assert_eq!(try_add(make, length, 0).err(), if length == right { None } else { Some(Status::INVALID_DATA) }, "{name}: {length}");
        }
        for info in (0..=33).chain([64, 96, 128, 255, 256, 264, 65_535, 65_544, 1 << 31, u32::MAX - 7, u32::MAX]) {
            let expected = if infos.contains(&info) { None } else { Some(Status::INVALID_DATA) };
            assert_eq!(try_add(make, right, info).err(), expected, "{name}: {info}");
        }
    }
    let windows = [(0, true), (1, true), (64, true), (65_535, true), (65_536, true), (65_537, false), (1 << 31, false), (u32::MAX, false)];
    for (spi, (window, taken)) in (0x8000..).zip(windows) {
        for direction in [IN, OUT] {
            let mut bundle = Sa::new(spi).bundle(direction);
            bundle.extension.replay_window = Some(window);
            assert_eq!(nic.try_add(bundle).err(), if taken { None } else { Some(Status::INVALID_DATA) }, "{window}");
        }
    }
}

/// each field of an update that is not right refuses it, and changes nothing.
#[test]
fn r_13_updates_out_of_bounds_are_refused() {
    let mut nic = Nic::new(Link::Bare);
    let sa = Sa::new(0x1001).esn(5);
    let (inbound, outbound, short) = (nic.add(&sa, IN), nic.add(&sa, OUT), nic.add(&Sa::new(0x1002), OUT));
    let right = UpdateSa { handle: outbound, operation: Operation::Esp, spi: Spi(0x1001), sequence_number_high: 6 };
    let mut wrong = vec![UpdateSa { operation: Operation::Ah, ..right }, UpdateSa { handle: inbound, operation: Operation::Ah, ..right }];
    wrong.extend([0, 1, 255, 256, 0x1000, 0x1002, u32::MAX].map(|spi| UpdateSa { spi: Spi(spi), ..right }));
    wrong.extend([0, 1, 4].map(|sequence_number_high| UpdateSa { sequence_number_high, ..right }));
    wrong.extend([0, 1, u32::MAX].map(|high| UpdateSa { handle: short, spi: Spi(0x1002), sequence_number_high: high, ..right }));
    wrong.extend([1, u64::MAX].into_iter().filter_map(OffloadHandle::from_bits).map(|handle| UpdateSa { handle, ..right }));
    for update in wrong {
        assert_eq!(nic.done(DirectOid::UpdateSa(update)).0, Status::INVALID_PARAMETER, "{update:?}");
    }
    let sends = |nic: &mut Nic, high: u64, low: u32| {
        let packet = sa.unsealed(Shape::BARE, low, b"payload");
        assert_eq!(nic.send_one(packet.list(Some(outbound))).1, [sa.sealed(&packet, high << 32 | u64::from(low))]);
    };
    sends(&mut nic, 5, 1);
    for high in [5, 6, u32::MAX] {
        assert_eq!(nic.done(DirectOid::UpdateSa(UpdateSa { sequence_number_high: high, ..right })).0, Status::SUCCESS, "{high}");
        sends(&mut nic, high.into(), 2);
    }
    assert_eq!(nic.done(DirectOid::UpdateSa(right)).0, Status::INVALID_PARAMETER, "high halves never go back");
}

#[test]
fn the_version_decides_which_request_adds() {
    for (version, add_sa, add_sa_ex) in [
        (NdisVersion::V6_0, Status::NOT_SUPPORTED, Status::NOT_SUPPORTED),
        (NdisVersion::V6_1, Status::SUCCESS, Status::NOT_SUPPORTED),
        (NdisVersion::V6_20, Status::SUCCESS, Status::NOT_SUPPORTED),
        (NdisVersion::V6_30, Status::NOT_SUPPORTED, Status::SUCCESS),
    ] {
        let mut nic = Nic::with(parameters(version), common::software);
        assert_eq!(nic.done(list(vec![Sa::new(0x1001).bundle(IN)])).0, add_sa, "{version}");
        assert_eq!(nic.done(DirectOid::AddSaEx(Box::new(AddSaEntry::new(Sa::new(0x1002).bundle(IN))))).0, add_sa_ex, "{version}");
        assert_eq!(nic.done(DirectOid::Other(0xFC03_0201)).0, Status::NOT_SUPPORTED);
    }
}

#[test]
fn a_list_succeeds_in_part_and_fails_for_its_first_cause() {
    let mut nic = Nic::with(parameters(NdisVersion::V6_20), common::software);
    let good = || Sa::new(0x1001).bundle(IN);
    nic.set_ipsec(IpsecSetting::Esp);
    let unknown = || SaBundle { associations: Associations::Ah(ah_association(0x5001)), ..good() };
    let malformed = || AddSaEntry { bundle: Err(Status::INVALID_DATA), handle: None, status: Status::PENDING };
    let cases: [(Vec<AddSaEntry>, Status, Vec<Status>); 4] = [
        (vec![], Status::INVALID_DATA, vec![]),
        (vec![AddSaEntry::new(unknown()), malformed()], Status::NOT_SUPPORTED, vec![Status::NOT_SUPPORTED, Status::INVALID_DATA]),
        (vec![malformed(), AddSaEntry::new(unknown())], Status::INVALID_DATA, vec![Status::INVALID_DATA, Status::NOT_SUPPORTED]),
        (
            vec![malformed(), AddSaEntry::new(good()), AddSaEntry::new(good()), AddSaEntry::new(unknown())],
            Status::SUCCESS,
            vec![Status::INVALID_DATA, Status::SUCCESS, Status::INVALID_DATA, Status::NOT_SUPPORTED],
        ),
    ];
    for (entries, status, each) in cases {
        let (found, body) = nic.done(DirectOid::AddSa(entries));
        let DirectOid::AddSa(entries) = body else { panic!("{body:?}") };
        assert_eq!(found, status);
        assert_eq!(entries.iter().map(|entry| entry.status).collect::<Vec<_>>(), each);
        assert!(entries.iter().all(|entry| entry.handle.is_some() == entry.status.is_success()), "NULL handles for those that failed");
    }
    assert_eq!(nic.miniport.sas(), (1, 1));
}

#[test]
fn duplicates_are_inbound_bundles_with_spi_destination_and_operation() {
    let mut nic = Nic::new(Link::Bare);
    let sa = Sa::new(0x1001);
    let handle = nic.add(&sa, IN);
    for duplicate in [sa, Sa { source: true, ..sa }, sa.esn(1)] {
        assert_eq!(nic.try_add(duplicate.bundle(IN)), Err(Status::INVALID_DATA), "{duplicate:?}");
    }
    for other in [Sa::new(0x1002), sa.v6(), Sa { destination: false, ..sa }] {
        nic.add(&other, IN);
    }
    assert_eq!(nic.try_add(Sa { destination: false, ..sa }.bundle(IN)), Err(Status::INVALID_DATA));
    nic.add(&sa, OUT);
    nic.add(&sa, OUT);
    nic.delete(handle);
    nic.add(&sa, IN);
    assert_eq!(nic.miniport.sas(), (6, 6));
}

#[test]
fn capacity_counts_bundles_and_a_refusal_asks_the_oldest_to_go() {
    for (policy, asked_when_full, asked_when_refused) in [(DeletePolicy::Never, 0, 0), (DeletePolicy::WhenRefusing, 0, 2), (DeletePolicy::WhenFull, 1, 3)] {
        let events = Arc::new(Mutex::new(Vec::new()));
        let observer: nic::Observer = {
            let events = Arc::clone(&events);
            Arc::new(move |event: &NicEvent| events.lock().unwrap().push(*event))
        };
        let mut nic = Nic::with(NicParameters { delete_policy: policy, observer: Some(observer), ..parameters(NdisVersion::V6_30) }, small(4));
        nic.activate();
        let asked = || {
            let of = |event: &NicEvent| if let NicEvent::DeleteRequested { handle } = event { Some(*handle) } else { None };
            events.lock().unwrap().iter().filter_map(of).collect::<Vec<_>>()
        };
        let outbound = nic.add(&Sa::new(0x2001), OUT);
        let sas: Vec<_> = (0..3).map(|n| Sa::new(0x1001 + n)).collect();
        let handles: Vec<_> = sas.iter().map(|sa| nic.add(sa, IN)).collect();
        assert_eq!(asked().len(), asked_when_full);
        for _ in 0..2 {
            assert_eq!(nic.try_add(Sa::new(0x1009).bundle(IN)), Err(Status::RESOURCES));
        }
        assert_eq!(asked(), handles[..asked_when_refused], "inbound bundles, oldest first, each once");
        // The next good packet of each that was asked carries the request, and no other.
        for (n, sa) in sas.iter().enumerate() {
            for round in 0..2 {
                let packet = sa.unsealed(Shape::BARE, round + 1, b"payload");
                let wire = sa.sealed(&packet, u64::from(round) + 1);
                let mut forged = wire.clone();
                *forged.last_mut().unwrap() ^= 1;
                let expected = n < asked_when_refused && round == 0;
                assert_eq!(nic.receive_one(&forged).oob.ipsec_receive().sa_delete_request, expected, "a forged packet does not use it up");
                assert_eq!(nic.receive_one(&wire).oob.ipsec_receive().sa_delete_request, expected, "{policy:?} {n} {round}");
            }
        }
        // Both work until they are deleted; then there is room.
        nic.delete(handles[0]);
        nic.delete(outbound);
        nic.add(&Sa::new(0x1009), IN);
        assert_eq!(nic.miniport.sas(), (3, 3));
    }
}

#[test]
fn updates_name_a_live_association_with_extended_numbers() {
    let mut nic = Nic::new(Link::Bare);
    let extended = nic.add(&Sa::new(0x1001).esn(5), OUT);
    let inbound = nic.add(&Sa::new(0x1001).esn(5), IN);
    let plain = nic.add(&Sa::new(0x1002), OUT);
    let update = |handle, operation, spi, sequence_number_high| DirectOid::UpdateSa(UpdateSa { handle, operation, spi: Spi(spi), sequence_number_high });
    let stale = OffloadHandle::from_bits(77).unwrap();
    for (body, status) in [
        (update(extended, Operation::Esp, 0x1001, 5), Status::SUCCESS),
        (update(extended, Operation::Esp, 0x1001, 6), Status::SUCCESS),
        (update(extended, Operation::Esp, 0x1001, 6), Status::SUCCESS),
        (update(extended, Operation::Esp, 0x1001, 5), Status::INVALID_PARAMETER),
        (update(inbound, Operation::Esp, 0x1001, 6), Status::SUCCESS),
        (update(inbound, Operation::Esp, 0x1001, 5), Status::SUCCESS),
        (update(extended, Operation::Ah, 0x1001, 6), Status::INVALID_PARAMETER),
        (update(extended, Operation::Esp, 0x1002, 6), Status::INVALID_PARAMETER),
        (update(plain, Operation::Esp, 0x1002, 1), Status::INVALID_PARAMETER),
        (update(stale, Operation::Esp, 0x1001, 6), Status::INVALID_PARAMETER),
    ] {
        let text = format!("{body:?}");
        assert_eq!(nic.done(body).0, status, "{text}");
    }
    nic.delete(extended);
    assert_eq!(nic.done(update(extended, Operation::Esp, 0x1001, 7)).0, Status::INVALID_PARAMETER);
    assert_eq!(nic.counter("sas_updated"), 5);
}

#[test]
fn an_update_reaches_the_engine() {
    let mut nic = Nic::new(Link::Bare);
    let sa = Sa::new(0x1001).esn(5);
    let handle = nic.add(&sa, OUT);
    let body = DirectOid::UpdateSa(UpdateSa { handle, operation: Operation::Esp, spi: Spi(0x1001), sequence_number_high: 6 });
    assert_eq!(nic.done(body).0, Status::SUCCESS);
    for (low, high) in [(0xffff_ffff, 5_u64), (0, 6), (1, 6)] {
        let packet = sa.unsealed(Shape::BARE, low, b"payload");
        let (_, wire) = nic.send_one(packet.list(Some(handle)));
        assert_eq!(wire, [sa.sealed(&packet, high << 32 | u64::from(low))]);
    }
}

#[test]
fn unknown_handles_in_a_deletion_are_skipped_and_counted() {
    let mut nic = Nic::new(Link::Bare);
    let sa = Sa::new(0x1001);
    let (inbound, outbound) = (nic.add(&sa, IN), nic.add(&sa, OUT));
    let (status, _) = nic.done(DirectOid::DeleteSa(vec![0, 5, inbound.to_bits(), inbound.to_bits(), u64::MAX]));
    assert_eq!(status, Status::SUCCESS);
    assert_eq!((nic.counter("unknown_handles"), nic.miniport.sas()), (4, (1, 1)));
    assert_eq!(nic.done(DirectOid::DeleteSa(vec![])).0, Status::SUCCESS);
    nic.delete(outbound);
    assert_eq!(nic.miniport.sas(), (0, 0));
}

#[test]
fn a_deletion_pends_until_no_batch_can_use_the_sa() {
    use ndis::{LaneContext, NblBatch};
    use packet::{BufferPool, FrameBatch, Time};
    use std::sync::atomic::{AtomicBool, Ordering};
    // A lane that is always in a batch, on another thread, sending under the SA that goes.
    let mut nic = Nic::new(Link::Bare);
    let sa = Sa::new(0x1001);
    let handle = nic.add(&sa, OUT);
    let stop = Arc::new(AtomicBool::new(false));
    let sender = std::thread::spawn({
        let (mut queue, stop) = (nic.miniport.open_queue(), Arc::clone(&stop));
        move || {
            let mut pool = BufferPool::new();
            let (mut sent, mut failed, mut sequence) = (0_u64, 0_u64, 0_u32);
            while !stop.load(Ordering::Relaxed) {
                let mut batch: NblBatch = Vec::new();
                for _ in 0..32 {
                    sequence += 1;
                    batch.push(sa.unsealed(Shape::BARE, sequence, &[7; 100]).list(Some(handle)));
                }
                let (mut done, mut wire) = (NblBatch::new(), FrameBatch::new());
                queue.send(&mut LaneContext { now: Time::ZERO, pool: &mut pool }, &mut batch, &mut done, &mut wire);
                assert_eq!(done.len(), 32);
                let good = done.iter().filter(|list| list.status.is_success()).count();
                assert_eq!(wire.len(), good);
                assert!(wire.iter().all(|frame| !frame.buffer.as_slice().windows(8).any(|window| window == [7; 8])), "clear text on the wire");
                sent += good as u64;
                failed += 32 - good as u64;
            }
            (sent, failed)
        }
    });
    while nic.counter("sent_offloaded") == 0 {
        std::thread::yield_now();
    }
    let completion = match nic.direct(DirectOid::DeleteSa(vec![handle.to_bits()])) {
        Outcome::Done(status, _) => status,
        Outcome::Pending => loop {
            if let Some((status, _)) = nic.completions().pop() {
                break status;
            }
            std::thread::yield_now();
        },
    };
    assert_eq!(completion, Status::SUCCESS);
    assert_eq!(nic.miniport.sas(), (0, 0));
    while nic.counter("send_stale_handle") == 0 {
        std::thread::yield_now();
    }
    stop.store(true, Ordering::Relaxed);
    let (sent, failed) = sender.join().unwrap();
    assert!(sent > 0 && failed > 0);
    assert!(nic.completions().is_empty(), "exactly once");
}

/// A provider whose seal waits in the middle of a batch until the test lets it go on.
struct Gated {
    inner: Crypto,
    inside: Arc<Barrier>,
    leave: Arc<Barrier>,
}

impl Provider for Gated {
    type Key = <Crypto as Provider>::Key;
    type AuthKey = <Crypto as Provider>::AuthKey;

    fn name(&self) -> &'static str {
        "gated"
    }

    fn key(&self, parameters: &KeyParameters<'_>) -> Result<Self::Key, KeyError> {
        self.inner.key(parameters)
    }

    fn auth_key(&self, algorithm: Authentication, key: &[u8]) -> Result<Self::AuthKey, KeyError> {
        self.inner.auth_key(algorithm, key)
    }

    fn seal(&self, jobs: &mut [SealJob<'_, Self::Key>]) {
        self.inside.wait();
        self.leave.wait();
        self.inner.seal(jobs);
    }

    fn open(&self, jobs: &mut [OpenJob<'_, Self::Key>], scratch: &mut Scratch) {
        self.inner.open(jobs, scratch);
    }

    fn authenticate(&self, jobs: &mut [AuthJob<'_, Self::AuthKey>]) {
        self.inner.authenticate(jobs);
    }
}

#[test]
fn deletion_and_reset_wait_for_the_batch_that_is_under_way() {
    for reset in [false, true] {
        let (inside, leave) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let mut nic = Nic::with(parameters(NdisVersion::V6_30), {
            let (inside, leave) = (Arc::clone(&inside), Arc::clone(&leave));
            move || SoftwareEngine::new(Gated { inner: Crypto::default(), inside: Arc::clone(&inside), leave: Arc::clone(&leave) }, 4).unwrap()
        });
        let sa = Sa::new(0x1001);
        let handle = nic.add(&sa, OUT);
        let packet = sa.unsealed(Shape::BARE, 1, b"under way");
        let sender = std::thread::spawn({
            let (mut queue, packet) = (nic.miniport.open_queue(), packet.clone());
            move || {
                let (mut done, mut wire) = (Vec::new(), Vec::new());
                let mut lane = ndis::LaneContext { now: packet::Time::ZERO, pool: &mut packet::BufferPool::new() };
                queue.send(&mut lane, &mut vec![packet.list(Some(handle))], &mut done, &mut wire);
                (done[0].status, wire)
            }
        });
        inside.wait();
        let mut up = Upcalls::default();
        if reset {
            nic.miniport.reset(&mut up);
            assert_eq!(nic.done(DirectOid::DeleteSa(vec![handle.to_bits()])).0, Status::NOT_ACCEPTED);
        } else {
            assert!(matches!(nic.direct(DirectOid::DeleteSa(vec![handle.to_bits()])), Outcome::Pending));
            // It is out of reach for every other batch already.
            assert_eq!(nic.send_one(packet.list(Some(handle))).0.status, Status::FAILURE);
        }
        assert!(nic.completions().is_empty() && nic.indications().is_empty());
        leave.wait();
        let (status, wire) = sender.join().unwrap();
        assert_eq!((status, wire[0].buffer.as_slice()), (Status::SUCCESS, sa.sealed(&packet, 1).as_slice()), "packets under way finish");
        nic.poll();
        if reset {
            assert_eq!(nic.indications(), [StatusIndication::ResetEnd]);
        } else {
            assert_eq!(nic.completions().pop().map(|(status, _)| status), Some(Status::SUCCESS));
        }
        assert_eq!(nic.miniport.sas(), (0, 0));
    }
}

// Pended operations, with an engine that does what it is told.

fn scripted(version: NdisVersion) -> (Scripted, Nic<Scripted>) {
    let engine = Scripted::default();
    let nic = Nic::with(parameters(version), {
        let engine = engine.clone();
        move || engine.clone()
    });
    (engine, nic)
}

fn add_pending(engine: &Scripted, nic: &mut Nic<Scripted>, sa: &Sa) -> OffloadHandle {
    assert!(matches!(nic.direct(DirectOid::AddSaEx(Box::new(AddSaEntry::new(sa.bundle(IN))))), Outcome::Pending));
    assert!(nic.completions().is_empty());
    let handle = engine.end_with(Call::Add, Status::SUCCESS).unwrap();
    let (status, request) = nic.completions().pop().unwrap();
    assert_eq!(status, Status::SUCCESS);
    let DirectOid::AddSaEx(entry) = request.body else { panic!("{request:?}") };
    assert_eq!((entry.handle, entry.status), (Some(handle), Status::SUCCESS));
    handle
}

#[test]
fn pended_requests_complete_once_with_their_answers() {
    let (engine, mut nic) = scripted(NdisVersion::V6_30);
    let sa = Sa::new(0x1001).esn(1);
    let handle = add_pending(&engine, &mut nic, &sa);
    let update = UpdateSa { handle, operation: Operation::Esp, spi: Spi(0x1001), sequence_number_high: 2 };
    for status in [Status::SUCCESS, Status::INVALID_PARAMETER] {
        assert!(matches!(nic.direct(DirectOid::UpdateSa(update)), Outcome::Pending));
        engine.end_with(Call::Update(2), status);
        assert_eq!(nic.completions().pop().unwrap().0, status);
    }
    assert!(matches!(nic.direct(DirectOid::DeleteSa(vec![9, handle.to_bits()])), Outcome::Pending));
    assert_eq!(nic.miniport.sas(), (0, 1), "it takes room until the engine has let go");
    assert_eq!(nic.done(DirectOid::DeleteSa(vec![handle.to_bits()])).0, Status::SUCCESS, "stale already");
    assert!(nic.completions().is_empty());
    engine.end_with(Call::Delete(handle), Status::SUCCESS);
    assert_eq!(nic.completions().pop().unwrap().0, Status::SUCCESS);
    assert_eq!(nic.miniport.sas(), (0, 0));
    assert!(nic.completions().is_empty());
    // An event that nobody waits for is of no consequence.
    engine.0.lock().unwrap().events.push(nic::EngineEvent::Deleted { token: nic::Token(4711) });
    assert!(nic.completions().is_empty());
}

#[test]
fn a_list_pends_until_all_its_entries_have_ended() {
    let (engine, mut nic) = scripted(NdisVersion::V6_20);
    let bundles = vec![Sa::new(0x1001).bundle(IN), Sa::new(0x1001).bundle(IN), Sa::new(0x1002).bundle(IN), Sa::new(0x1003).bundle(OUT)];
    assert!(matches!(nic.direct(list(bundles)), Outcome::Pending));
    assert_eq!(engine.open(), [Call::Add; 3], "the duplicate failed at once");
    engine.end_with(Call::Add, Status::RESOURCES);
    let second = engine.end_with(Call::Add, Status::SUCCESS);
    assert!(nic.completions().is_empty());
    engine.end_with(Call::Add, Status::NOT_SUPPORTED);
    let (status, request) = nic.completions().pop().unwrap();
    let DirectOid::AddSa(entries) = request.body else { panic!("{request:?}") };
    assert_eq!(status, Status::SUCCESS);
    assert_eq!(
        entries.iter().map(|entry| (entry.status, entry.handle)).collect::<Vec<_>>(),
        [(Status::RESOURCES, None), (Status::INVALID_DATA, None), (Status::SUCCESS, second), (Status::NOT_SUPPORTED, None)]
    );
    assert_eq!(nic.miniport.sas(), (1, 1));
}

#[test]
fn room_is_kept_for_what_is_being_added() {
    let (engine, mut nic) = scripted(NdisVersion::V6_30);
    for n in 0..4 {
        assert!(matches!(nic.direct(DirectOid::AddSaEx(Box::new(AddSaEntry::new(Sa::new(0x1001 + n).bundle(IN))))), Outcome::Pending));
    }
    assert_eq!(nic.try_add(Sa::new(0x1009).bundle(IN)), Err(Status::RESOURCES));
    assert_eq!(nic.try_add(Sa::new(0x1002).bundle(IN)), Err(Status::INVALID_DATA));
    engine.end_with(Call::Add, Status::RESOURCES);
    nic.poll();
    assert_eq!(nic.miniport.sas(), (0, 3));
    assert!(matches!(nic.direct(DirectOid::AddSaEx(Box::new(AddSaEntry::new(Sa::new(0x1001).bundle(IN))))), Outcome::Pending));
}

#[test]
fn a_cancelled_addition_leaves_no_bundle() {
    let (engine, mut nic) = scripted(NdisVersion::V6_20);
    assert!(matches!(nic.direct(list(vec![Sa::new(0x1001).bundle(IN), Sa::new(0x1002).bundle(IN)])), Outcome::Pending));
    let id = RequestId(1001);
    let first = engine.end_with(Call::Add, Status::SUCCESS).unwrap();
    nic.poll();
    nic.miniport.cancel_direct_oid_request(RequestId(5));
    assert!(nic.completions().is_empty(), "of another request");
    nic.miniport.cancel_direct_oid_request(id);
    nic.miniport.cancel_direct_oid_request(id);
    let (status, request) = nic.completions().pop().unwrap();
    assert_eq!((status, request.id), (Status::REQUEST_ABORTED, id));
    let DirectOid::AddSa(entries) = request.body else { panic!("{request:?}") };
    assert!(entries.iter().all(|entry| entry.handle.is_none() && entry.status == Status::REQUEST_ABORTED));
    // What was added already is deleted, and so is what the engine adds after all.
    assert_eq!(engine.open(), [Call::Add, Call::Delete(first)]);
    let second = engine.end_with(Call::Add, Status::SUCCESS).unwrap();
    nic.poll();
    assert_eq!(engine.open(), [Call::Delete(first), Call::Delete(second)]);
    engine.end();
    engine.end();
    assert!(nic.completions().is_empty());
    assert_eq!(nic.miniport.sas(), (0, 0));
    assert_eq!(nic.counter("requests_aborted"), 1);
}

#[test]
fn a_cancelled_deletion_goes_on() {
    let (engine, mut nic) = scripted(NdisVersion::V6_30);
    let handle = add_pending(&engine, &mut nic, &Sa::new(0x1001));
    assert!(matches!(nic.direct(DirectOid::DeleteSa(vec![handle.to_bits()])), Outcome::Pending));
    nic.miniport.cancel_direct_oid_request(RequestId(1002));
    assert_eq!(nic.completions().pop().unwrap().0, Status::REQUEST_ABORTED);
    engine.end();
    assert!(nic.completions().is_empty());
    assert_eq!(nic.miniport.sas(), (0, 0));
}

#[test]
fn before_6_30_a_reset_aborts_what_is_under_way() {
    let (engine, mut nic) = scripted(NdisVersion::V6_20);
    assert!(matches!(nic.direct(list(vec![Sa::new(0x1001).bundle(IN)])), Outcome::Pending));
    engine.end();
    nic.poll();
    assert_eq!(nic.completions().len(), 1);
    assert!(matches!(nic.direct(list(vec![Sa::new(0x1002).bundle(IN)])), Outcome::Pending));
    let mut up = Upcalls::default();
    nic.miniport.reset(&mut up);
    nic.miniport.reset(&mut up);
    assert_eq!(up.indications, [StatusIndication::ResetStart]);
    let (status, request) = nic.completions().pop().unwrap();
    assert_eq!((status, request.id), (Status::REQUEST_ABORTED, RequestId(1002)));
    assert_eq!(nic.done(list(vec![Sa::new(0x1003).bundle(IN)])).0, Status::NOT_ACCEPTED);
    assert_eq!(nic.done(DirectOid::DeleteSa(vec![1])).0, Status::NOT_ACCEPTED);
    // The engine ends the addition, late, and then the reset.
    engine.end_with(Call::Add, Status::SUCCESS);
    assert!(nic.indications().is_empty());
    engine.end_with(Call::Reset, Status::SUCCESS);
    assert_eq!(nic.indications(), [StatusIndication::ResetEnd]);
    assert!(nic.completions().is_empty());
    assert_eq!(nic.miniport.sas(), (0, 0));
    assert!(matches!(nic.direct(list(vec![Sa::new(0x1001).bundle(IN)])), Outcome::Pending), "the SPI is free again");
}

#[test]
fn what_has_ended_when_a_reset_comes_is_not_aborted() {
    let (engine, mut nic) = scripted(NdisVersion::V6_20);
    assert!(matches!(nic.direct(list(vec![Sa::new(0x1001).bundle(IN)])), Outcome::Pending));
    engine.end();
    nic.miniport.reset(&mut Upcalls::default());
    assert_eq!(nic.completions().pop().unwrap().0, Status::SUCCESS);
    assert_eq!(nic.miniport.sas().0, 0, "and the reset has taken it away");
}

#[test]
fn from_6_30_on_what_is_under_way_ends_before_the_reset() {
    let (engine, mut nic) = scripted(NdisVersion::V6_30);
    let handle = add_pending(&engine, &mut nic, &Sa::new(0x1001));
    assert!(matches!(nic.direct(DirectOid::DeleteSa(vec![handle.to_bits()])), Outcome::Pending));
    assert!(matches!(nic.direct(DirectOid::AddSaEx(Box::new(AddSaEntry::new(Sa::new(0x1002).bundle(IN))))), Outcome::Pending));
    assert!(matches!(nic.direct(DirectOid::AddSaEx(Box::new(AddSaEntry::new(Sa::new(0x1003).bundle(IN))))), Outcome::Pending));
    let mut up = Upcalls::default();
    nic.miniport.reset(&mut up);
    assert_eq!(up.indications, [StatusIndication::ResetStart]);
    assert!(nic.completions().is_empty());
    engine.end_with(Call::Delete(handle), Status::SUCCESS);
    engine.end_with(Call::Add, Status::SUCCESS);
    let ended: Vec<_> = nic.completions().into_iter().map(|(status, request)| (status, request.id)).collect();
    assert_eq!(ended, [(Status::SUCCESS, RequestId(1002)), (Status::REQUEST_ABORTED, RequestId(1003))], "the reset takes the addition away again");
    // The last one is ended by the reset's end.
    engine.end_with(Call::Reset, Status::SUCCESS);
    nic.poll();
    assert_eq!(nic.completions().pop().map(|(status, request)| (status, request.id)), Some((Status::REQUEST_ABORTED, RequestId(1004))));
    assert_eq!(nic.indications(), [StatusIndication::ResetEnd]);
}

#[test]
fn sends_during_a_reset_come_back_whole() {
    let (engine, mut nic) = scripted(NdisVersion::V6_30);
    nic.miniport.reset(&mut Upcalls::default());
    let packet = Sa::new(0x1001).unsealed(Shape::BARE, 1, b"payload");
    let (list, wire) = nic.send_one(packet.list(None));
    assert_eq!((list.status, list.buffer.as_slice(), wire.len()), (Status::RESET_IN_PROGRESS, packet.bytes.as_slice(), 0));
    engine.end();
    nic.poll();
    assert_eq!(nic.send_one(packet.list(None)).0.status, Status::FAILURE, "the engine's own answer");
    assert_eq!((nic.counter("send_not_running"), nic.counter("send_failed"), nic.counter("resets")), (1, 1, 1));
}

#[test]
fn a_reset_of_the_software_nic_empties_its_table() {
    let mut nic = Nic::new(Link::Bare);
    let sa = Sa::new(0x1001);
    let (inbound, outbound) = (nic.add(&sa, IN), nic.add(&sa, OUT));
    let mut up = Upcalls::default();
    nic.miniport.reset(&mut up);
    assert_eq!(up.indications, [StatusIndication::ResetStart]);
    assert_eq!(nic.indications().last(), Some(&StatusIndication::ResetEnd));
    assert_eq!(nic.miniport.sas(), (0, 0));
    let packet = sa.unsealed(Shape::BARE, 1, b"payload");
    assert_eq!(nic.send_one(packet.list(Some(outbound))).0.status, Status::FAILURE);
    let wire = sa.sealed(&packet, 1);
    assert!(!nic.receive_one(&wire).oob.ipsec_receive().crypto_done);
    let again = nic.add(&sa, IN);
    assert_ne!(again, inbound);
    assert!(nic.receive_one(&wire).oob.ipsec_receive().crypto_done, "offload is still active after a reset");
}

#[test]
fn a_halt_ends_everything() {
    let (engine, mut nic) = scripted(NdisVersion::V6_30);
    let handle = add_pending(&engine, &mut nic, &Sa::new(0x1001));
    assert!(matches!(nic.direct(DirectOid::DeleteSa(vec![handle.to_bits()])), Outcome::Pending));
    assert!(matches!(nic.direct(DirectOid::AddSaEx(Box::new(AddSaEntry::new(Sa::new(0x1002).bundle(IN))))), Outcome::Pending));
    let mut up = Upcalls::default();
    nic.miniport.halt(&mut up);
    nic.miniport.halt(&mut up);
    let ended: Vec<_> = up.direct_completions.iter().map(|(status, request)| (*status, request.id)).collect();
    assert_eq!(ended, [(Status::REQUEST_ABORTED, RequestId(1002)), (Status::REQUEST_ABORTED, RequestId(1003))]);
    assert_eq!(engine.open().last(), Some(&Call::Reset));
    assert_eq!(nic.done(DirectOid::DeleteSa(vec![1])).0, Status::NOT_ACCEPTED);
    let packet = Sa::new(0x1001).unsealed(Shape::BARE, 1, b"payload");
    let (list, wire) = nic.send_one(packet.list(None));
    assert_eq!((list.status, list.buffer.as_slice(), wire.len()), (Status::ADAPTER_REMOVED, packet.bytes.as_slice(), 0));
    assert!(nic.receive(std::slice::from_ref(&packet.bytes)).is_empty());
    assert_eq!(nic.counter("received_not_running"), 1);
    nic.miniport.reset(&mut up);
    assert!(up.indications.is_empty());
}
