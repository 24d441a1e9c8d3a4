//! What is reported, how it is changed, and what a change does to SAs that are held (OV2-CAP-0, OV2-CAP-1, OV2-CAP-8 to OV2-CAP-14).

mod common;
#[path = "common/scripted.rs"]
mod scripted;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use common::{Link, Nic, ON, Sa, Shape};
use ndis::{
    AdapterKeywords, AuthenticationAlgorithm, ChecksumOffload, ChecksumSet, CryptoStatus, Direction, Encapsulation, EncryptionAlgorithm, EncryptionAlgorithms,
    IcvLengths, IpsecOffloadV2, IpsecSetting, Keyword, LargeSendSet, LargeSendV2, Miniport, MiniportDriver, NdisVersion, Offload, OffloadFlags,
    OffloadParameters, Oid, OidRequest, OutOfBand, RequestId, SetEncapsulation, Status, StatusIndication, Switch, UdpEspTypes, Upcalls,
};
use nic::{Activation, DEFAULT_CAPACITY, Engine, EngineEvent, NicDriver, NicParameters, SoftwareEngine};
use packet::Medium;
use scripted::Scripted;

const IN: Direction = Direction::Inbound;
const OUT: Direction = Direction::Outbound;

fn bare() -> NicParameters {
    NicParameters { medium: Medium::Ip, ..NicParameters::new("test") }
}

fn with_hardware(hardware: Offload) -> (Scripted, Nic<Scripted>) {
    let engine = Scripted::default();
    engine.0.lock().unwrap().hardware = Some(hardware);
    let nic = Nic::with(bare(), {
        let engine = engine.clone();
        move || engine.clone()
    });
    (engine, nic)
}

#[test]
fn the_software_engine_reports_what_it_does() {
    let tags = Encapsulation::IEEE_802_3_P_AND_Q | Encapsulation::IEEE_802_3_P_AND_Q_IN_OOB;
    let encapsulation = Encapsulation::NULL | Encapsulation::IEEE_802_3 | tags;
    let expected = IpsecOffloadV2 {
        encapsulation,
        ipv6_supported: true,
        ipv4_options: true,
        ipv6_non_ipsec_extension_headers: true,
        ah: true,
        esp: true,
        ah_esp_combined: true,
        transport: true,
        tunnel: true,
        transport_tunnel_combined: true,
        lso_supported: true,
        extended_sequence_numbers: true,
        udp_esp: UdpEspTypes::all(),
        authentication_algorithms: AuthenticationAlgorithm::ALL.iter().map(|algorithm| algorithm.bit()).collect(),
        encryption_algorithms: EncryptionAlgorithm::ALL.iter().map(|algorithm| algorithm.bit()).collect(),
        sa_offload_capacity: DEFAULT_CAPACITY,
        ext_refused_icv_lengths: IcvLengths::empty(),
        ext_lso_tunnel: true,
    };
    let hardware = SoftwareEngine::default().hardware_capabilities();
    // What of IPsecOV1 is done: tests/v1.rs.
    assert_eq!(hardware.ipsec_v2, expected);
    for (set, options, udp) in [(hardware.lso_v1, true, false), (hardware.lso_v2.ipv4, false, true), (hardware.lso_v2.ipv6, true, true)] {
        let LargeSendSet { encapsulation, max_offload_size, min_segment_count, tcp_options, ip_options, ext_udp } = set;
        assert_eq!((encapsulation, max_offload_size, min_segment_count), (expected.encapsulation, 1 << 18, 2));
        assert_eq!((tcp_options, ip_options, ext_udp), (options, options, udp));
    }
    let set = |ip_checksum| ChecksumSet {
        encapsulation,
        ip_options_supported: true,
        tcp_options_supported: true,
        tcp_checksum: true,
        udp_checksum: true,
        ip_checksum,
    };
    let checksum = ChecksumOffload { ipv4_transmit: set(true), ipv4_receive: set(true), ipv6_transmit: set(false), ipv6_receive: set(false) };
    let flags = OffloadFlags::IPSEC_V2_AND_TCP_CHECKSUM_COEXISTENCE | OffloadFlags::IPSEC_V2_AND_UDP_CHECKSUM_COEXISTENCE;
    assert_eq!((hardware.checksum, hardware.flags), (checksum, flags));
    assert_eq!(hardware.normalized(), hardware);
    assert!(SoftwareEngine::new(ipsec::Crypto::default(), 0).is_err());
}

#[test]
fn keywords_and_version_decide_what_is_reported() {
    for (version, setting, hardware_has, ah, esp) in [
        (NdisVersion::V6_30, IpsecSetting::AhAndEsp, true, true, true),
        (NdisVersion::V6_1, IpsecSetting::Esp, true, false, true),
        (NdisVersion::V6_30, IpsecSetting::Ah, true, true, false),
        (NdisVersion::V6_30, IpsecSetting::Disabled, true, false, false),
        (NdisVersion::V6_0, IpsecSetting::AhAndEsp, false, false, false),
    ] {
        let driver = NicDriver::new(NicParameters { version, mtu: 9000, ..bare() }, common::software);
        let keywords = AdapterKeywords::defaults("test").with(Keyword::IpsecV2, setting as u32);
        let (_, attributes) = driver.initialize(&keywords).map_err(|status| panic!("{status}")).unwrap();
        assert_eq!(attributes.hardware_capabilities.ipsec_v2.is_supported(), hardware_has, "{version} {setting:?}");
        let default = attributes.default_configuration.ipsec_v2;
        assert_eq!((default.is_supported(), default.ah, default.esp), (ah || esp, ah, esp), "{version} {setting:?}");
        assert_eq!(default.ah_esp_combined, ah && esp);
        assert_eq!((attributes.version, attributes.medium, attributes.mtu), (version, Medium::Ip, 9000));
        assert_eq!(attributes.direct_requests, version != NdisVersion::V6_0);
    }
}

/// What the keywords of these tests leave of it.
fn without_checksums(hardware: Offload) -> Offload {
    Offload { checksum: ChecksumOffload::default(), ..hardware }
}

#[test]
fn every_set_that_succeeds_is_applied_and_indicated() {
    let mut nic = Nic::with(bare(), common::software);
    let full = without_checksums(nic.miniport.engine().hardware_capabilities().for_version(NdisVersion::V6_30));
    let nothing = Offload { flags: full.flags, ..Offload::default() };
    let current = |nic: &mut Nic| match nic.indications().as_slice() {
        [StatusIndication::TaskOffloadCurrentConfig(offload)] => **offload,
        other => panic!("{other:?}"),
    };
    nic.set_ipsec(IpsecSetting::Disabled);
    assert_eq!(current(&mut nic), Offload { ipsec_v2: IpsecOffloadV2::default(), ..full });
    nic.set_ipsec(IpsecSetting::AhAndEsp);
    assert_eq!(current(&mut nic), full);
    assert_eq!(nic.set(Oid::SetParameters(OffloadParameters { lso_v1: Some(Switch::Enabled), ..OffloadParameters::default() })), Status::SUCCESS);
    assert_eq!(current(&mut nic), full);
    assert_eq!(nic.set_encapsulation(ON, ON), Status::SUCCESS);
    assert_eq!(current(&mut nic), full);
    assert_eq!(nic.set_encapsulation(SetEncapsulation::NoChange, SetEncapsulation::Off), Status::SUCCESS);
    let no_v6 = Offload {
        ipsec_v2: IpsecOffloadV2 { ipv6_supported: false, ..full.ipsec_v2 },
        lso_v2: LargeSendV2 { ipv6: LargeSendSet::default(), ..full.lso_v2 },
        ..full
    };
    assert_eq!(current(&mut nic), no_v6.normalized());
    assert_eq!(nic.set_encapsulation(SetEncapsulation::Off, SetEncapsulation::NoChange), Status::SUCCESS);
    assert_eq!(current(&mut nic), nothing);
    nic.set_ipsec(IpsecSetting::Esp);
    assert_eq!(current(&mut nic), nothing, "parameters do not activate what encapsulation has switched off");
    assert_eq!(nic.set_encapsulation(ON, ON), Status::SUCCESS);
    assert_eq!(current(&mut nic).ipsec_v2, full.ipsec_v2.restrict(IpsecSetting::Esp));
}

#[test]
fn encapsulations_that_nothing_works_under_are_refused_and_change_nothing() {
    let mut nic = Nic::with(bare(), common::software);
    for encapsulation in [Encapsulation::empty(), Encapsulation::IEEE_LLC_SNAP_ROUTED, Encapsulation::IEEE_802_3 | Encapsulation::IEEE_LLC_SNAP_ROUTED] {
        let on = SetEncapsulation::On { encapsulation, header_size: 0 };
        assert_eq!(nic.set_encapsulation(on, on), Status::INVALID_PARAMETER, "{encapsulation:?}");
    }
    assert!(nic.indications().is_empty());
    for encapsulation in [Encapsulation::NULL, Encapsulation::IEEE_802_3, Encapsulation::IEEE_802_3 | Encapsulation::IEEE_802_3_P_AND_Q] {
        let on = SetEncapsulation::On { encapsulation, header_size: 0 };
        assert_eq!(nic.set_encapsulation(on, on), Status::SUCCESS, "{encapsulation:?}");
    }
}

#[test]
fn a_miniport_without_offloads_supports_no_setting_of_them() {
    let (_, mut nic) = with_hardware(Offload::default());
    assert_eq!(nic.set_encapsulation(ON, ON), Status::NOT_SUPPORTED);
    assert_eq!(nic.set(Oid::SetParameters(OffloadParameters::ipsec_v2_setting(IpsecSetting::Esp))), Status::NOT_SUPPORTED);
    assert!(nic.indications().is_empty());
    assert_eq!(nic.try_add(Sa::new(0x1001).bundle(IN)), Err(Status::NOT_SUPPORTED));
}

#[test]
fn requests_that_ndis_answers_and_unknown_ones_are_not_supported() {
    let nic = Nic::new(Link::Bare);
    for body in [Oid::CurrentConfig(None), Oid::HardwareCapabilities(None), Oid::Encapsulation(None), Oid::Other { oid: 0x0101_0101, set: true }] {
        let mut up = Upcalls::default();
        assert_eq!(nic.miniport.oid_request(&mut OidRequest { id: RequestId(1), body }, &mut up), Status::NOT_SUPPORTED);
        assert!(up.indications.is_empty());
    }
}

#[test]
fn the_engine_is_told_everything() {
    let (engine, mut nic) = with_hardware(SoftwareEngine::default().hardware_capabilities().for_version(NdisVersion::V6_30));
    let last = || engine.0.lock().unwrap().configs.last().cloned().unwrap();
    assert_eq!((last().ipv4, last().ipv6, last().udp_esp_port, last().medium), (Activation::Initial, Activation::Initial, 4500, Medium::Ip));
    assert!(last().ipsec_sends(packet::IpVersion::V4) && !last().ipsec_receives(packet::IpVersion::V4));
    nic.set_encapsulation(SetEncapsulation::Off, ON);
    assert_eq!(last().ipv4, Activation::Off);
    assert!(!last().ipsec_sends(packet::IpVersion::V4) && last().ipsec_receives(packet::IpVersion::V6));
    nic.set_ipsec(IpsecSetting::Disabled);
    assert!(!last().ipsec_sends(packet::IpVersion::V6));
    assert_eq!(last().current.ipsec_v2, IpsecOffloadV2::default());
    assert_eq!(last().current.lso_v1, LargeSendSet::default());
}

#[test]
fn hardware_that_shrinks_takes_the_configuration_along() {
    let full = SoftwareEngine::default().hardware_capabilities().for_version(NdisVersion::V6_30);
    let (engine, mut nic) = with_hardware(full);
    let fewer = Offload { ipsec_v2: IpsecOffloadV2 { encryption_algorithms: EncryptionAlgorithms::AES_GCM_128, ipv4_options: false, ..full.ipsec_v2 }, ..full };
    let change = |hardware: Offload| {
        let mut script = engine.0.lock().unwrap();
        script.hardware = Some(hardware);
        script.events.push(EngineEvent::HardwareCapabilitiesChanged);
    };
    change(fewer);
    assert_eq!(
        nic.indications(),
        [StatusIndication::TaskOffloadHardwareCapabilities(Box::new(fewer)), StatusIndication::TaskOffloadCurrentConfig(Box::new(without_checksums(fewer)))]
    );
    assert_eq!(engine.0.lock().unwrap().configs.last().unwrap().current, without_checksums(fewer));
    // More hardware does not switch anything on by itself.
    change(full);
    assert_eq!(nic.indications(), [StatusIndication::TaskOffloadHardwareCapabilities(Box::new(full))]);
    nic.set_ipsec(IpsecSetting::AhAndEsp);
    assert_eq!(nic.indications(), [StatusIndication::TaskOffloadCurrentConfig(Box::new(without_checksums(full)))]);
}

/// OV2-CAP-14: they stay until deleted and count; sends on them fail, their packets come up unprocessed; when the configuration is back they work.
#[test]
fn sas_that_no_longer_fit_stay_and_do_nothing() {
    let mut nic = Nic::with(bare(), || SoftwareEngine::new(ipsec::Crypto::default(), 3).unwrap());
    nic.activate();
    let (sa, sa6) = (Sa::new(0x1001), Sa::new(0x1002).v6());
    let (inbound, outbound, outbound6) = (nic.add(&sa, IN), nic.add(&sa, OUT), nic.add(&sa6, OUT));
    let (packet, packet6) = (sa.unsealed(Shape::BARE, 1, b"payload"), sa6.unsealed(Shape::BARE, 1, b"payload"));
    let wire = sa.sealed(&packet, 1);
    let check = |nic: &mut Nic, works: bool, works6: bool| {
        for (packet, handle, works) in [(&packet, outbound, works), (&packet6, outbound6, works6)] {
            let (list, sent) = nic.send_one(packet.list(Some(handle)));
            assert_eq!((list.status, sent.len()), if works { (Status::SUCCESS, 1) } else { (Status::FAILURE, 0) });
            if !works {
                assert_eq!(list.buffer.as_slice(), packet.bytes);
            }
        }
        let list = nic.receive_one(&wire);
        if works {
            assert_eq!((list.oob.ipsec_receive().crypto_done, list.oob.ipsec_receive().crypto_status), (true, CryptoStatus::Success));
        } else {
            assert_eq!((list.oob, list.buffer.as_slice()), (OutOfBand::default(), wire.as_slice()));
        }
    };
    check(&mut nic, true, true);
    for setting in [IpsecSetting::Disabled, IpsecSetting::Ah] {
        nic.set_ipsec(setting);
        check(&mut nic, false, false);
        nic.set_ipsec(IpsecSetting::AhAndEsp);
        check(&mut nic, true, true);
    }
    nic.set_encapsulation(SetEncapsulation::NoChange, SetEncapsulation::Off);
    check(&mut nic, true, false);
    // Switched off altogether, the miniport stops lists before they get to the engine.
    assert_eq!(nic.counter("send_not_in_configuration"), 3, "the engine's own checks: twice when only AH was left, once without IPv6");
    assert_eq!(nic.try_add(sa6.bundle(IN)), Err(Status::NOT_SUPPORTED));
    assert_eq!(nic.try_add(Sa::new(0x1009).bundle(IN)), Err(Status::RESOURCES), "those that do not fit take room");
    nic.set_encapsulation(ON, ON);
    check(&mut nic, true, true);
    // They can be deleted while nothing is configured.
    nic.set_ipsec(IpsecSetting::Disabled);
    for handle in [inbound, outbound, outbound6] {
        nic.delete(handle);
    }
    assert_eq!(nic.miniport.sas(), (0, 0));
}

/// The software engine, with less than it can do, and less still when the test says so.
#[derive(Clone)]
struct Less(Arc<SoftwareEngine>, Arc<Mutex<IpsecOffloadV2>>, Arc<AtomicBool>);

impl Less {
    fn new(change: impl FnOnce(&mut IpsecOffloadV2)) -> Self {
        let engine = common::software();
        let mut ipsec = engine.hardware_capabilities().for_version(NdisVersion::V6_30).ipsec_v2;
        change(&mut ipsec);
        Self(Arc::new(engine), Arc::new(Mutex::new(ipsec)), Arc::default())
    }

    fn change(&self, change: impl FnOnce(&mut IpsecOffloadV2)) {
        change(&mut self.1.lock().unwrap());
        self.2.store(true, Ordering::Relaxed);
    }
}

impl Engine for Less {
    fn hardware_capabilities(&self) -> Offload {
        Offload { ipsec_v2: *self.1.lock().unwrap(), ..Offload::default() }
    }
    fn configure(&self, config: &nic::EngineConfig) {
        self.0.configure(config);
    }
    fn add_sa(&self, token: nic::Token, bundle: &ndis::SaBundle) -> nic::Progress<Result<ndis::OffloadHandle, Status>> {
        self.0.add_sa(token, bundle)
    }
    fn update_sa(&self, token: nic::Token, update: &ndis::UpdateSa) -> nic::Progress<Status> {
        self.0.update_sa(token, update)
    }
    fn delete_sa(&self, token: nic::Token, handle: ndis::OffloadHandle) -> nic::Progress<()> {
        self.0.delete_sa(token, handle)
    }
    fn reset(&self, token: nic::Token) -> nic::Progress<()> {
        self.0.reset(token)
    }
    fn poll(&self, events: &mut Vec<EngineEvent>) {
        self.0.poll(events);
        if self.2.swap(false, Ordering::Relaxed) {
            events.push(EngineEvent::HardwareCapabilitiesChanged);
        }
    }
    fn queue(&self) -> Box<dyn nic::EngineQueue> {
        self.0.queue()
    }
    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.0.counters()
    }
}

fn with_less(engine: &Less) -> Nic<Less> {
    let mut nic = Nic::with(bare(), {
        let engine = engine.clone();
        move || engine.clone()
    });
    nic.activate();
    nic
}

#[test]
fn an_algorithm_that_goes_away_takes_the_packets_of_its_sas_along_and_no_others() {
    let engine = Less::new(|_| {});
    let mut nic = with_less(&engine);
    let sas = [Sa::new(0x1001), Sa { key: ndis::AesKeySize::Aes256, ..Sa::new(0x1002) }, Sa { key: ndis::AesKeySize::Aes256, ..Sa::new(0x1003) }.esn(1)];
    let handles = sas.map(|sa| (nic.add(&sa, IN), nic.add(&sa, OUT)).1);
    let check = |nic: &mut Nic<Less>, works: [bool; 3]| {
        for ((sa, handle), works) in sas.iter().zip(handles).zip(works) {
            let packet = sa.unsealed(Shape::BARE, 1, b"payload");
            let wire = sa.sealed(&packet, u64::from(sa.high) << 32 | 1);
            assert_eq!(nic.send_one(packet.list(Some(handle))).0.status.is_success(), works, "{sa:?}");
            let list = nic.receive_one(&wire);
            assert_eq!((list.oob != OutOfBand::default(), list.buffer.as_slice() != wire), (works, works), "{sa:?}");
        }
    };
    check(&mut nic, [true; 3]);
    engine.change(|ipsec| ipsec.encryption_algorithms.remove(EncryptionAlgorithms::AES_GCM_128));
    assert_eq!(nic.indications().len(), 3, "one of activation, and two of the change");
    check(&mut nic, [false, true, true]);
    engine.change(|ipsec| ipsec.extended_sequence_numbers = false);
    nic.poll();
    check(&mut nic, [false, true, false]);
    assert_eq!((nic.counter("send_not_in_configuration"), nic.counter("receive_outside_capabilities")), (3, 3));
    engine.change(|ipsec| *ipsec = SoftwareEngine::default().hardware_capabilities().for_version(NdisVersion::V6_30).ipsec_v2);
    nic.poll();
    nic.set_ipsec(IpsecSetting::Esp);
    check(&mut nic, [true; 3]);
}

#[test]
fn hardware_without_options_leaves_such_packets_alone() {
    let engine = Less::new(|ipsec| (ipsec.ipv4_options, ipsec.ipv6_non_ipsec_extension_headers) = (false, false));
    let mut nic = with_less(&engine);
    for sa in [Sa::new(0x1001), Sa::new(0x1001).v6()] {
        nic.add(&sa, IN);
        let handle = nic.add(&sa, OUT);
        for extras in [false, true] {
            let packet = sa.unsealed(Shape { extras, ..Shape::BARE }, 1, b"payload");
            assert_eq!(nic.send_one(packet.list(Some(handle))).0.status.is_success(), !extras);
            let wire = sa.sealed(&packet, 1);
            let list = nic.receive_one(&wire);
            assert_eq!(list.oob.ipsec_receive().crypto_done, !extras);
            assert_eq!(list.buffer.as_slice() == wire, extras);
        }
    }
    assert_eq!((nic.counter("send_outside_capabilities"), nic.counter("receive_outside_capabilities")), (2, 2));
}

#[test]
fn a_restart_gets_a_fresh_engine_and_keeps_counting() {
    let mut nic = Nic::new(Link::Bare);
    let sa = Sa::new(0x1001);
    let handle = nic.add(&sa, OUT);
    let packet = sa.unsealed(Shape::BARE, 1, b"payload");
    assert!(nic.send_one(packet.list(Some(handle))).0.status.is_success());
    nic.miniport.halt(&mut Upcalls::default());
    let (miniport, _) = nic.driver.start(&AdapterKeywords::defaults("test"));
    assert_eq!(miniport.sas(), (0, 0));
    nic.queue = miniport.open_queue();
    assert_eq!(nic.send_one(packet.list(Some(handle))).0.status, Status::FAILURE, "the handle is of another table");
    assert_eq!((nic.counter("sent_offloaded"), nic.counter("send_failed"), nic.counter("send_stale_handle")), (1, 1, 1));
}
