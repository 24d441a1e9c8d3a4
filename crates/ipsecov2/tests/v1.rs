//! Two hosts whose NICs have IPsecOV1 (NDIS 6.0): what it covers is offloaded and gives the same bytes as software, what it does not cover is done in
//! software for one named reason (OV1-1 to OV1-4).

#[path = "host_suites/ends.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod ends;
#[path = "host_suites/kinds.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod kinds;

use ends::{NOW, receive, send, udp};
use ipsec::{AesKeySize, Authentication, Encryption};
use ipsecov2::host::{Host, HostConfig};
use kinds::{GATE4, GATE6, HOST4, HOST6, Kind, Spec};
use ndis::{CryptoStatus, Direction, IpsecSetting, Keyword, MemoryRegistry, NdisVersion, OffloadParameters, Operation, Registry as _, Status};
use packet::{FrameBatch, IpProtocol, Medium};
use transport::{AddressRange, DropReason, InboundVerdict, Mode, OffloadPolicy, OffloadReason, PortRange, SaParameters, Selector, Verdict, Why};

const OUT: Direction = Direction::Outbound;
const IN: Direction = Direction::Inbound;
const LENGTHS: [usize; 8] = [0, 1, 7, 8, 15, 100, 576, 1400];

fn config() -> HostConfig {
    HostConfig { medium: Medium::Ip, mtu: 65_535, capacity: 16, version: NdisVersion::V6_0, ..HostConfig::default() }.with_nic_capacity(16)
}

fn host(config: &HostConfig, sas: Vec<SaParameters>) -> (Host, Vec<OffloadReason>) {
    let mut host = Host::new(config).unwrap();
    let handles = host.add_sas(sas, NOW).unwrap_or_else(|(at, error)| panic!("bundle {at}: {error}"));
    host.service(NOW, &mut FrameBatch::new());
    let reasons = handles.iter().map(|&sa| host.transport().sa(sa).unwrap().offload).collect();
    (host, reasons)
}

/// A host that offloads and one that does not, with the SAs of `make`.
struct Ends {
    nic: Host,
    software: Host,
    reasons: Vec<OffloadReason>,
}

impl Ends {
    fn new(make: impl Fn(OffloadPolicy) -> Vec<SaParameters>) -> Self {
        let (nic, reasons) = host(&config(), make(OffloadPolicy::Prefer));
        Self { nic, software: host(&config(), make(OffloadPolicy::Forbid)).0, reasons }
    }

    fn of(kind: &Kind, direction: Direction) -> Self {
        Self::new(|policy| kind.parameters(direction, policy))
    }

    fn send(&mut self, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let (nic, software) = (send(&mut self.nic, packets), send(&mut self.software, packets));
        assert!(nic == software, "\n{nic:02x?}\n{software:02x?}");
        nic
    }

    fn receive(&mut self, wire: &[Vec<u8>]) -> (Vec<Vec<u8>>, Vec<InboundVerdict>) {
        let (nic, software) = (receive(&mut self.nic, wire), receive(&mut self.software, wire));
        for (nic, software) in nic.1.iter().zip(&software.1) {
            assert_eq!((nic.verdict, &nic.associations), (software.verdict, &software.associations));
        }
        assert!(nic.0 == software.0);
        nic
    }
}

/// All of what version 1 has: ESP, AH, and every pairing of the two.
fn suites() -> Vec<Vec<Spec>> {
    let hmacs = [Authentication::HmacMd5, Authentication::HmacSha1];
    let mut suites: Vec<Vec<Spec>> = hmacs.map(|hmac| vec![Spec::ah(hmac)]).into();
    for cipher in [Encryption::Null, Encryption::DesCbc, Encryption::TripleDesCbc] {
        for inner in [Authentication::HmacMd5, Authentication::HmacSha1, Authentication::None] {
            let esp = Spec::esp(cipher, inner);
            if (cipher, inner) != (Encryption::Null, Authentication::None) {
                suites.push(vec![esp]);
            }
            suites.extend(hmacs.map(|over| vec![esp, Spec::ah(over)]));
        }
    }
    suites
}

fn kinds() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for suite in suites() {
        for kind in [Kind::transport(suite.clone()), Kind::tunnel(suite.clone()), Kind::single(Mode::Tunnel, GATE4, HOST6, suite.clone())] {
            if suite.len() == 1 && suite[0].operation == Operation::Esp {
                kinds.push(kind.clone().udp(0));
            }
            kinds.push(kind);
        }
    }
    kinds
}

/// OV1-1, OV1-2, OV1-3: every suite in transport and tunnel mode, and in UDP, is offloaded both ways; NIC and software make the same bytes, and take the same
/// off. Nothing arrives twice.
#[test]
fn every_suite_of_version_1_is_offloaded_and_equal() {
    for kind in kinds() {
        let name = kind.name();
        let sent: Vec<_> = LENGTHS.iter().map(|&length| udp(kind.inner, length)).collect();
        let (mut from, mut to) = (Ends::of(&kind, OUT), Ends::of(&kind, IN));
        assert_eq!((&from.reasons[..], &to.reasons[..]), (&[OffloadReason::Offloaded][..], &[OffloadReason::Offloaded][..]), "{name}");
        let wire = from.send(&sent);
        assert_eq!(from.nic.transport().outbound().offloaded.packets, sent.len() as u64, "{name}");
        assert_eq!(from.nic.nic_counters().sent_offloaded, sent.len() as u64, "{name}");
        let (delivered, verdicts) = to.receive(&wire);
        assert!(delivered == sent, "{name}: {verdicts:?}");
        for verdict in &verdicts {
            assert_eq!((verdict.crypto_done, verdict.next_crypto_done, verdict.crypto_status), (true, false, Some(CryptoStatus::Success)), "{name}");
        }
        assert_eq!(to.nic.transport().inbound().offloaded.packets, sent.len() as u64, "{name}");
        let replayed = to.receive(&wire).1;
        assert!(replayed.iter().all(|verdict| verdict.verdict == Verdict::Dropped(DropReason::Replayed)), "{name}");
        let mut forged = wire;
        for packet in &mut forged {
            *packet.last_mut().unwrap() ^= 1;
        }
        to.receive(&forged);
    }
}

/// OV1-3: of a transport bundle in a tunnel nothing is offloaded on send, as the slot holds one handle; on receive both portions are.
#[test]
fn transport_over_tunnel_is_received_by_the_nic_and_sent_in_software() {
    let (des, md5) = (Spec::esp(Encryption::DesCbc, Authentication::HmacSha1), Spec::ah(Authentication::HmacMd5));
    for (inner, outer, udp_at) in
        [(vec![des], vec![des], None), (vec![md5], vec![des], Some(1)), (vec![des], vec![des, md5], Some(0)), (vec![des], vec![md5], None)]
    {
        let mut kind = Kind::nested(GATE4, HOST4, inner, outer);
        if let Some(place) = udp_at {
            kind = kind.udp(place);
        }
        let name = kind.name();
        let sent: Vec<_> = [3, 300].iter().map(|&length| udp(kind.inner, length)).collect();
        let (mut from, mut to) = (Ends::of(&kind, OUT), Ends::of(&kind, IN));
        let why = Why::from(from.reasons[0]);
        assert_eq!((why.code, why.field), ("combination", Some("TransportTunnelCombined")), "{name}");
        assert_eq!((from.reasons[1], &to.reasons[..]), (OffloadReason::Offloaded, &[OffloadReason::Offloaded; 2][..]), "{name}");
        let wire = from.send(&sent);
        let counts = from.nic.transport().outbound();
        assert_eq!((counts.software.packets, counts.retried, from.nic.nic_counters().sent_offloaded), (2, 0, 0), "{name}");
        let (delivered, verdicts) = to.receive(&wire);
        assert!(delivered == sent, "{name}: {verdicts:?}");
        assert!(verdicts.iter().all(|verdict| verdict.crypto_done && verdict.next_crypto_done), "{name}: {verdicts:?}");
    }
}

/// OV1-1: what version 1 does not have is done in software with the same result, and one reason names the member that decided.
#[test]
fn what_version_1_does_not_have_goes_in_software() {
    let gcm = vec![Spec::combined(Encryption::AesGcm(AesKeySize::Aes128), 16)];
    let des = vec![Spec::esp(Encryption::DesCbc, Authentication::HmacSha1)];
    for (kind, code, field) in [
        (Kind::tunnel(gcm), "algorithm", "IPv4ESP"),
        (Kind::transport(vec![Spec::esp(Encryption::TripleDesCbc, Authentication::HmacSha256)]), "algorithm", "IPv4ESP"),
        (Kind::transport(vec![Spec::ah(Authentication::HmacSha256)]), "algorithm", "IPv4AH"),
        (Kind::tunnel(des.clone()).extended(7), "extended-sequence-numbers", "ExtendedSequenceNumbers"),
        (Kind::single(Mode::Tunnel, GATE6, HOST4, des.clone()), "ip-version", "IPv6Supported"),
        (Kind::single(Mode::Transport, HOST6, HOST6, des), "ip-version", "IPv6Supported"),
    ] {
        let name = kind.name();
        let sent: Vec<_> = [0, 99].iter().map(|&length| udp(kind.inner, length)).collect();
        let (mut from, mut to) = (Ends::of(&kind, OUT), Ends::of(&kind, IN));
        for reason in [from.reasons[0], to.reasons[0]] {
            assert!(matches!(reason, OffloadReason::NotCovered(_)), "{name}: {reason:?}");
            let why = Why::from(reason);
            assert_eq!((why.code, why.field), (code, Some(field)), "{name}");
        }
        let wire = from.send(&sent);
        assert!(to.receive(&wire).0 == sent, "{name}");
        assert_eq!(from.nic.transport().outbound().software.packets, 2, "{name}");
    }
}

/// OV1-2: selectors become filters. A packet that they are not about is protected in software where policy says so, and on its way in refused alike by both.
#[test]
fn filters_change_who_does_it_and_nothing_else() {
    let port = |port| Selector { protocol: Some(IpProtocol::UDP), destination_port: PortRange { first: port, last: port }, ..Selector::ANY };
    for kind in [Kind::tunnel(vec![Spec::esp(Encryption::TripleDesCbc, Authentication::HmacSha1)]), Kind::transport(vec![Spec::ah(Authentication::HmacMd5)])] {
        let name = kind.name();
        let make = |direction, port: Selector| {
            let kind = kind.clone();
            move |policy| {
                let mut sas = kind.parameters(direction, policy);
                let net = |text: &str| AddressRange::prefix(text.parse().unwrap(), 24);
                sas[0].selectors = vec![Selector { source: net("10.0.1.0"), destination: net("10.0.2.0"), ..port }];
                sas
            }
        };
        // Packets go to port 53.
        let (mut from, mut to, mut narrow) = (Ends::new(make(OUT, port(53))), Ends::new(make(IN, port(53))), Ends::new(make(IN, port(54))));
        assert_eq!([&from, &to, &narrow].map(|ends| ends.reasons[0]), [OffloadReason::Offloaded; 3], "{name}");
        let sent = [udp(kind.inner, 20)];
        let wire = from.send(&sent);
        let (delivered, verdicts) = to.receive(&wire);
        assert!(delivered == sent && verdicts[0].crypto_done, "{name}");
        // An SA for something else: the NIC leaves it as it came, and both ways in refuse it.
        let (delivered, verdicts) = narrow.receive(&wire);
        assert!(delivered.is_empty() && !verdicts[0].crypto_done, "{name}");
        assert_eq!(verdicts[0].verdict, Verdict::Dropped(DropReason::Policy), "{name}");
        // Policy sends under the SA what its filter does not know: the NIC gives it back.
        let mut other = udp(kind.inner, 20);
        other[22..24].copy_from_slice(&54_u16.to_be_bytes());
        other[26..28].fill(0);
        for host in [&from.nic, &from.software] {
            let sa = host.transport().sas()[0].handle;
            let action = transport::Action::Protect(Some(sa));
            host.transport().set_policies(|spd| spd.push(transport::Policy { direction: OUT, selectors: vec![Selector::ANY], action }));
        }
        let wire = [send(&mut from.nic, std::slice::from_ref(&other)), send(&mut from.software, &[other])];
        assert_eq!(wire.each_ref().map(Vec::len), [1, 1], "{name}");
        let counts = from.nic.transport().outbound();
        assert_eq!((counts.retried, counts.software.packets), (1, 1), "{name}");
    }
}

/// OV1-4: the keyword and the parameter member, with their names in the reason; what was offloaded goes on in software.
#[test]
fn the_keyword_of_version_1_switches_it_off_and_on() {
    let kind = Kind::tunnel(vec![Spec::esp(Encryption::DesCbc, Authentication::HmacSha1)]);
    let registry = std::sync::Arc::new(MemoryRegistry::new());
    registry.set(ipsecov2::host::ADAPTER, Keyword::IpsecV1Ipv4, 1).unwrap();
    let (mut host, reasons) = host(&HostConfig { registry: registry.clone(), ..config() }, kind.parameters(OUT, OffloadPolicy::Prefer));
    let why = Why::from(reasons[0]);
    assert_eq!((why.code, why.field), ("keyword", Some("IPv4ESP")));
    let offloaded = |host: &mut Host| {
        host.service(NOW, &mut FrameBatch::new());
        let before = host.transport().outbound().offloaded.packets;
        assert_eq!(send(host, &[udp(kind.inner, 9)]).len(), 1);
        host.transport().outbound().offloaded.packets - before
    };
    assert_eq!(offloaded(&mut host), 0);
    for (setting, does) in [(IpsecSetting::AhAndEsp, 1), (IpsecSetting::Ah, 0), (IpsecSetting::Esp, 1), (IpsecSetting::Disabled, 0)] {
        let parameters = OffloadParameters { ipsec_v1: Some(setting), ..OffloadParameters::default() };
        assert_eq!(host.operator().set_parameters(parameters), Status::SUCCESS);
        assert_eq!(offloaded(&mut host), does, "{setting:?}");
        // It is in the registry, and so outlasts a restart.
        host.restart_adapter().unwrap();
        assert_eq!(offloaded(&mut host), does, "{setting:?} after a restart");
    }
}

/// OV2-SA-4 for version 1, which has no capacity to tell: the NIC refuses, the rest is done in software, and takes the place of what goes.
#[test]
fn a_full_nic_is_asked_again_when_there_is_room() {
    let kinds: Vec<_> = (0..3).map(|_| Kind::tunnel(vec![Spec::esp(Encryption::DesCbc, Authentication::HmacSha1)])).collect();
    let mut full = config().with_nic_capacity(2);
    full.delete_policy = nic::DeletePolicy::Never;
    let sas = kinds.iter().enumerate().map(|(number, kind)| {
        let mut sa = kind.parameters(OUT, OffloadPolicy::Prefer).remove(0);
        sa.name = format!("sa-{number}");
        sa.associations[0].spi = packet::Spi(0x4000 + number as u32);
        sa
    });
    let (host, reasons) = host(&full, sas.collect());
    assert_eq!(reasons, [OffloadReason::Offloaded, OffloadReason::Offloaded, OffloadReason::Capacity]);
    let sas = host.transport().sas();
    assert!(host.transport().remove_sa(sas.iter().find(|sa| &*sa.name == "sa-0").unwrap().handle));
    let last = host.transport().sas().into_iter().find(|sa| &*sa.name == "sa-2").unwrap();
    assert_eq!(last.offload, OffloadReason::Offloaded);
}
