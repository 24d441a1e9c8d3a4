//! Each SA has exactly one reason why it is or is not offloaded, and it is the right one; the reasons add up to the SAs.

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "host_suites/kinds.rs"]
mod kinds;

use std::collections::BTreeMap;

use ipsec::Crypto;
use ipsecov2::explain::explain;
use ipsecov2::host::{ADAPTER, Host, HostConfig};
use ipsecov2::profile::Profile;
use kinds::{Kind, Spec, ah_over_esp, ah_suites, esp_suites, shapes};
use ndis::{Direction, IpsecOffloadV2, IpsecService, IpsecSetting, Keyword, Offload, OffloadParameters, Setting, Status, SystemValue};
use packet::{FrameBatch, Spi, Time};
use proptest::prelude::*;
use sa_table::Handle;
use transport::{OffloadPolicy, OffloadReason, SaParameters, Why};

const NOW: Time = Time::from_nanos(1);

/// Every kind of bundle there is.
fn all_kinds() -> Vec<Kind> {
    let single = |specs: Vec<Spec>| [Kind::tunnel(specs.clone()), Kind::transport(specs.clone()), Kind::transport(specs).extended(7)];
    let suites = esp_suites().into_iter().chain(ah_suites()).map(|spec| vec![spec]).chain(ah_over_esp().into_iter().step_by(11));
    shapes().into_iter().chain(suites.flat_map(single)).collect()
}

/// The SAs of kinds, under names and SPIs of their own.
fn parameters(kinds: &[(Kind, bool, OffloadPolicy)]) -> Vec<SaParameters> {
    let mut all = Vec::new();
    for (number, (kind, inbound, policy)) in kinds.iter().enumerate() {
        let direction = if *inbound { Direction::Inbound } else { Direction::Outbound };
        for mut sa in kind.parameters(direction, *policy) {
            sa.name = format!("{}-{number}", sa.name);
            sa.inside = sa.inside.map(|name| format!("{name}-{number}"));
            for association in &mut sa.associations {
                association.spi = Spi(association.spi.0 + 0x100 * number as u32);
            }
            all.push(sa);
        }
    }
    all
}

/// One host, and what it was asked for.
struct Scene {
    host: Host,
    sas: Vec<(Handle, SaParameters)>,
    hardware: Offload,
    /// The adapter has IPsecOV1.
    v1: bool,
    /// The tunnel that an SA was inside of which has been removed.
    left: Option<String>,
}

impl Scene {
    fn new(config: &HostConfig, sas: &[SaParameters]) -> Self {
        let mut host = Host::new(&HostConfig { capacity: sas.len().max(1), ..config.clone() }).unwrap();
        let v1 = config.hardware.ipsec_service(config.version) == Some(IpsecService::V1);
        let duplicate = |sas: &[SaParameters]| sas.iter().map(SaParameters::duplicate).collect::<Vec<_>>();
        let handles = host.add_sas(duplicate(sas), NOW).unwrap();
        host.service(NOW, &mut FrameBatch::new());
        Self { host, sas: handles.into_iter().zip(duplicate(sas)).collect(), hardware: config.hardware.for_version(config.version), v1, left: None }
    }

    fn service(&mut self) {
        for _ in 0..3 {
            self.host.service(NOW, &mut FrameBatch::new());
        }
    }

    /// Checks the reasons against what there is to know besides, and returns how often each code is given.
    fn check(&self) -> BTreeMap<&'static str, usize> {
        let current = self.host.operator().current_config().unwrap_or_default();
        let transport = self.host.transport();
        let mut codes = BTreeMap::new();
        let listed = transport.sas();
        assert_eq!(listed.len(), self.sas.len());
        for (handle, sa) in &self.sas {
            let status = transport.sa(*handle).unwrap();
            assert_eq!(listed.iter().filter(|listed| listed.handle == *handle && listed.offload == status.offload).count(), 1, "{}", sa.name);
            let (why, name) = (Why::from(status.offload), &sa.name);
            assert!(Why::CODES.contains(&why.code), "{name}: {why:?}");
            *codes.entry(why.code).or_default() += 1;
            let lacks = |set: &Offload| {
                let lacks = if self.v1 { transport.lacks_v1(*handle, &set.ipsec_v1) } else { transport.lacks(*handle, &set.ipsec_v2) };
                lacks.unwrap()
            };
            match status.offload {
                // A tunnel that nobody is inside of any more stays with the NIC, under the type of UDP-ESP that it had.
                OffloadReason::Offloaded if self.left.as_ref() == Some(name) => {}
                OffloadReason::Offloaded => assert!(lacks(&current).is_empty() && sa.offload != OffloadPolicy::Forbid, "{name}"),
                OffloadReason::Forbidden => assert_eq!(sa.offload, OffloadPolicy::Forbid, "{name}"),
                OffloadReason::NotCovered(missing) => assert_eq!(lacks(&self.hardware).first(), Some(&missing), "{name}"),
                OffloadReason::SwitchedOff(missing) => {
                    assert!(lacks(&self.hardware).is_empty(), "{name}: the hardware does not even have it");
                    assert_eq!(lacks(&current).first(), Some(&missing), "{name}");
                }
                OffloadReason::Capacity => assert!(lacks(&current).is_empty(), "{name}"),
                OffloadReason::TaskOffloadDisabled | OffloadReason::IpsecOffloadDisabled | OffloadReason::NoAdapter => {}
                other => panic!("{name}: {other:?}"),
            }
            if matches!(status.offload, OffloadReason::NotCovered(_) | OffloadReason::SwitchedOff(_)) && why.code != "not-supported" && why.code != "keyword" {
                assert!(why.field.is_some() && why.asked.is_some() && why.supported.is_some(), "{name}: {why:?}");
            }
        }
        assert_eq!(codes.values().sum::<usize>(), self.sas.len(), "the reasons add up to the SAs");
        // What is said to be offloaded is what the NIC has, and it is no more than it can hold; who waits for room waits because there is none.
        let counters = self.host.nic_counters();
        let (held, offloaded) = (counters.sas_added - counters.sas_deleted, codes.get("offloaded").copied().unwrap_or_default() as u64);
        assert_eq!(held, offloaded);
        // IPsecOV1 has no member for it: the adapter refuses what is too much.
        let capacity = if self.v1 { self.hardware.ipsec_v1.ext_sa_capacity } else { current.ipsec_v2.sa_offload_capacity }.into();
        assert!(offloaded <= capacity && (!codes.contains_key("capacity") || offloaded == capacity), "{codes:?} of {capacity}");
        codes
    }
}

/// R-32, every kind of SA on every card; `explain` says the same.
#[test]
fn r_32_every_sa_has_one_reason_on_every_card() {
    let kinds = all_kinds();
    assert!(kinds.len() > 200);
    let choice: Vec<_> = kinds.into_iter().enumerate().map(|(n, kind)| (kind, n % 2 == 0, [OffloadPolicy::Prefer, OffloadPolicy::Require][n % 2])).collect();
    let sas = parameters(&choice);
    let mut all = BTreeMap::<_, usize>::new();
    for profile in Profile::built_in() {
        let scene = Scene::new(&HostConfig::default().with_profile(profile), &sas);
        let codes = scene.check();
        let explanation = explain(sas.iter().map(SaParameters::duplicate).collect(), profile, Crypto::default()).unwrap();
        let mut explained = BTreeMap::new();
        for sa in &explanation.sas {
            *explained.entry(sa.reason.code).or_default() += 1;
            assert_eq!(sa.changes.is_empty(), sa.reason.code == "offloaded", "{}: {}", profile.name, sa.name);
        }
        assert_eq!(explained, codes, "{}", profile.name);
        assert_eq!(explanation.offloaded, codes.get("offloaded").copied().unwrap_or_default());
        for (code, count) in codes {
            *all.entry(code).or_default() += count;
        }
    }
    for code in ["offloaded", "operation", "algorithm", "icv-length", "mode", "combination", "extended-sequence-numbers", "udp-esp-type", "capacity"] {
        assert!(all.contains_key(code), "{code} is nobody's: {all:?}");
    }
}

/// A NIC with less than the software NIC has, in any way.
fn any_hardware() -> impl Strategy<Value = IpsecOffloadV2> {
    let full = nic::software_capabilities(1000).ipsec_v2;
    let less = |bits: u32| prop_oneof![2 => Just(bits), 1 => any::<u32>().prop_map(move |some| bits & some)];
    let (authentication, encryption) = (full.authentication_algorithms, full.encryption_algorithms);
    let masks = (less(authentication.bits()), less(encryption.bits()), less(full.udp_esp.bits()));
    (prop::collection::vec(prop::bool::weighted(0.75), 10), masks, 1..40_u32).prop_map(move |(has, masks, capacity)| {
        IpsecOffloadV2 {
            ipv6_supported: has[0],
            ipv4_options: has[1],
            ipv6_non_ipsec_extension_headers: has[2],
            ah: has[3],
            esp: has[4],
            ah_esp_combined: has[5],
            transport: has[6],
            tunnel: has[7],
            transport_tunnel_combined: has[8],
            extended_sequence_numbers: has[9],
            authentication_algorithms: ndis::AuthenticationAlgorithms::from_bits_truncate(masks.0),
            encryption_algorithms: ndis::EncryptionAlgorithms::from_bits_truncate(masks.1),
            udp_esp: ndis::UdpEspTypes::from_bits_truncate(masks.2),
            sa_offload_capacity: capacity,
            ..full
        }
        .normalized()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// R-32, any SAs on any NIC, through changes of its configuration.
    #[test]
    fn r_32_reasons_add_up_whatever_the_sas_and_the_nic(
        hardware in any_hardware(),
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), prop::sample::select(vec![OffloadPolicy::Prefer, OffloadPolicy::Require, OffloadPolicy::Forbid])), 1..30),
        removed in any::<prop::sample::Index>(),
        settings in prop::collection::vec(prop::sample::select(IpsecSetting::ALL), 1..4),
    ) {
        let kinds = all_kinds();
        let choice: Vec<_> = picks.iter().map(|(pick, inbound, policy)| (pick.get(&kinds).clone(), *inbound, *policy)).collect();
        let mut config = HostConfig::default();
        config.hardware.ipsec_v2 = hardware;
        config.deviates_without_tunnel = true;
        let mut scene = Scene::new(&config, &parameters(&choice));
        let first = scene.check();
        for setting in settings {
            // A miniport without any offload refuses.
            let status = scene.host.operator().set_parameters(OffloadParameters::ipsec_v2_setting(setting));
            prop_assert!(status == Status::SUCCESS || !hardware.is_supported());
            scene.service();
            scene.check();
        }
        scene.host.reset_adapter().unwrap();
        scene.service();
        scene.check();
        // Which of the two counts is the hardware's IPv6's to say.
        for keyword in [Keyword::IpsecV2, Keyword::IpsecV2Ipv4] {
            scene.host.stack().registry().set(ADAPTER, keyword, 3).unwrap();
        }
        scene.host.restart_adapter().unwrap();
        scene.service();
        prop_assert_eq!(scene.check(), first, "as it was");
        // One that nobody is inside of is removed.
        let single: Vec<_> = (0..scene.sas.len()).filter(|&at| scene.sas.iter().all(|(_, sa)| sa.inside.as_ref() != Some(&scene.sas[at].1.name))).collect();
        let (handle, gone) = scene.sas.remove(*removed.get(&single));
        scene.left = gone.inside;
        prop_assert!(scene.host.transport().remove_sa(handle));
        scene.service();
        scene.check();
    }
}

/// what switches all off is the reason of all that are not forbidden.
#[test]
fn r_32_what_is_switched_off_is_the_reason_of_all() {
    let choice: Vec<_> = shapes().into_iter().map(|kind| (kind, false, OffloadPolicy::Prefer)).collect();
    let sas = parameters(&choice);
    for (value, number) in [(SystemValue::DisableTaskOffload, 1), (SystemValue::EnabledOffload, 0)] {
        let config = HostConfig::default();
        config.registry.set_system(value, number).unwrap();
        assert_eq!(Scene::new(&config, &sas).check().into_iter().collect::<Vec<_>>(), [("keyword", sas.len())]);
    }
    let mut scene = Scene::new(&HostConfig::default(), &sas);
    scene.host.stack().remove_adapter(ADAPTER).unwrap();
    scene.service();
    let reasons: Vec<_> = scene.host.transport().sas().into_iter().map(|sa| Why::from(sa.offload).code).collect();
    assert_eq!(reasons, vec!["no-adapter"; sas.len()]);
}

/// what the hardware does not have is the reason, also while everything is switched off besides.
#[test]
fn r_32_hardware_comes_before_configuration() {
    let mut config = HostConfig::default().with_profile(&Profile::named("intel-82599").unwrap());
    config.medium = packet::Medium::Ethernet;
    let gcm = Spec::combined(ipsec::Encryption::AesGcm(ipsec::AesKeySize::Aes128), 16);
    let sas = parameters(&[(Kind::tunnel(vec![gcm]), false, OffloadPolicy::Prefer), (Kind::transport(vec![gcm]), false, OffloadPolicy::Prefer)]);
    let mut scene = Scene::new(&config, &sas);
    let codes = |scene: &Scene| scene.check().into_iter().collect::<Vec<_>>();
    assert_eq!(codes(&scene), [("mode", 1), ("offloaded", 1)]);
    assert_eq!(scene.host.operator().set_parameters(OffloadParameters::ipsec_v2_setting(IpsecSetting::Disabled)), Status::SUCCESS);
    scene.service();
    assert_eq!(codes(&scene), [("keyword", 1), ("mode", 1)]);
}
