//! Every keyword with every value, and every member of `OID_TCP_OFFLOAD_PARAMETERS` with every value: what they leave of the hardware's capabilities, in the
//! registry's file, in the miniport, and after a restart (OV2-CAP-1, OV2-CAP-5, OV2-CAP-7, OV2-CAP-8, OV2-CAP-10, OV2-CAP-14, OV1-4).

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use ndis::{
    Associations, AuthenticationAlgorithms, BindParameters, Binding, ChecksumOffload, ChecksumSet, DirectOidRequest, Encapsulation, EncryptionAlgorithms,
    FileRegistry, IpsecOffloadV1, IpsecOffloadV2, Ipv4Ah, Ipv4Esp, Keyword, LargeSendSet, LargeSendV2, NdisVersion, Offload, OffloadFlags, OffloadHandle,
    OffloadParameters, Oid, Protocol, Registry, SaBundle, Stack, Status, StatusIndication, UdpEspTypes, UpdateSa, raw,
};
use nic::{Engine, EngineConfig, EngineEvent, EngineQueue, NicDriver, NicParameters, Progress, SoftwareEngine, Token};

const NIC: &str = "nic0";

/// A file that nobody else has, gone with the test.
struct File(PathBuf);

impl File {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ipsecov2-keywords-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        Self(directory.join("registry"))
    }

    /// The registry that is in it now.
    fn open(&self) -> Arc<FileRegistry> {
        Arc::new(FileRegistry::open(&self.0).unwrap())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = self.0.parent().map(std::fs::remove_dir_all);
    }
}

/// What stood in the registry, and what was configured, each time.
type Seen = Arc<Mutex<Vec<(Vec<(Keyword, String)>, Offload)>>>;

/// A card of these capabilities that does no work; it looks into the registry when it is configured.
struct Card {
    hardware: Offload,
    registry: Arc<dyn Registry>,
    seen: Seen,
}

impl Engine for Card {
    fn hardware_capabilities(&self) -> Offload {
        self.hardware
    }

    fn configure(&self, config: &EngineConfig) {
        let stored = self.registry.adapter(NIC).unwrap().into_iter().map(|(keyword, value)| (keyword, value.text)).collect();
        self.seen.lock().unwrap().push((stored, config.current));
    }

    fn add_sa(&self, _token: Token, bundle: &SaBundle) -> Progress<Result<OffloadHandle, Status>> {
        assert!(matches!(bundle.associations, Associations::Esp(_)));
        Progress::Done(Err(Status::NOT_SUPPORTED))
    }

    fn update_sa(&self, _token: Token, _update: &UpdateSa) -> Progress<Status> {
        Progress::Done(Status::INVALID_PARAMETER)
    }

    fn delete_sa(&self, _token: Token, _handle: OffloadHandle) -> Progress<()> {
        Progress::Done(())
    }

    fn reset(&self, _token: Token) -> Progress<()> {
        Progress::Done(())
    }

    fn poll(&self, _events: &mut Vec<EngineEvent>) {}

    fn queue(&self) -> Box<dyn EngineQueue> {
        SoftwareEngine::default().queue()
    }
}

/// A protocol driver that notes what it is told.
#[derive(Default)]
struct Upper {
    bound: Mutex<Option<(BindParameters, Binding)>>,
    told: Mutex<Vec<Offload>>,
}

impl Protocol for Upper {
    fn bind(&self, parameters: BindParameters, binding: Binding) {
        *self.bound.lock().unwrap() = Some((parameters, binding));
    }

    fn unbind(&self) {}

    fn status(&self, indication: StatusIndication) {
        if let StatusIndication::TaskOffloadCurrentConfig(config) = indication {
            self.told.lock().unwrap().push(*config);
        }
    }

    fn direct_oid_complete(&self, _status: Status, _request: DirectOidRequest) {}
}

struct Adapter {
    stack: Stack,
    upper: Arc<Upper>,
    seen: Seen,
}

impl Adapter {
    fn new(file: &File, hardware: Offload) -> Self {
        let registry: Arc<dyn Registry> = file.open();
        let stack = Stack::new(Arc::clone(&registry));
        let version = if hardware.ipsec_v2.is_supported() { NdisVersion::V6_20 } else { NdisVersion::V6_0 };
        let (seen, parameters) = (Arc::<Mutex<Vec<_>>>::default(), NicParameters { version, ..NicParameters::new(NIC) });
        let make = {
            let seen = Arc::clone(&seen);
            move || Card { hardware, registry: Arc::clone(&registry), seen: Arc::clone(&seen) }
        };
        stack.add_adapter(NIC, Arc::new(NicDriver::new(parameters, make))).unwrap();
        let upper = Arc::new(Upper::default());
        stack.bind(Arc::clone(&upper) as _, NIC).unwrap();
        stack.pump();
        Self { stack, upper, seen }
    }

    /// The default configuration that the protocol was told at bind time.
    fn default(&self) -> Offload {
        self.upper.bound.lock().unwrap().as_ref().unwrap().0.default_offload_configuration
    }

    fn binding(&self) -> Binding {
        self.upper.bound.lock().unwrap().as_ref().unwrap().1.clone()
    }

    /// What was indicated since the last call.
    fn told(&self) -> Vec<Offload> {
        self.stack.pump();
        std::mem::take(&mut self.upper.told.lock().unwrap())
    }
}

/// An adapter uses one version (OV2-CAP-0): IPsecOV2 with IPv6 and without, and IPsecOV1.
fn adapters() -> [Offload; 3] {
    let both = hardware(false);
    let [v2, v1] = [NdisVersion::V6_30, NdisVersion::V6_0].map(|version| both.for_version(version));
    [hardware(true).for_version(NdisVersion::V6_30), v2, v1]
}

/// All that can be switched. `ipv6`: IPsecOV2 with IPv6.
fn hardware(ipv6: bool) -> Offload {
    let encapsulation = Encapsulation::IEEE_802_3;
    let v6 = ChecksumSet { encapsulation, ip_options_supported: true, tcp_options_supported: true, tcp_checksum: true, udp_checksum: true, ip_checksum: false };
    let v4 = ChecksumSet { ip_checksum: true, ..v6 };
    let large = LargeSendSet { encapsulation, max_offload_size: 65_000, min_segment_count: 2, tcp_options: true, ip_options: true, ext_udp: false };
    Offload {
        checksum: ChecksumOffload { ipv4_transmit: v4, ipv4_receive: v4, ipv6_transmit: v6, ipv6_receive: v6 },
        lso_v1: large,
        lso_v2: LargeSendV2 { ipv4: large, ipv6: large },
        ipsec_v1: IpsecOffloadV1 {
            encapsulation,
            ah_esp_combined: true,
            transport_tunnel_combined: true,
            ipv4_options: true,
            flags: 1,
            ext_sa_capacity: 8,
            ipv4_ah: Ipv4Ah { md5: true, sha_1: true, transport: true, tunnel: true, send: true, receive: true },
            ipv4_esp: Ipv4Esp { des: true, triple_des: true, null_esp: true, transport: true, tunnel: true, send: true, receive: true },
        },
        ipsec_v2: IpsecOffloadV2 {
            encapsulation,
            ipv6_supported: ipv6,
            ipv4_options: true,
            ah: true,
            esp: true,
            ah_esp_combined: true,
            transport: true,
            tunnel: true,
            udp_esp: UdpEspTypes::all(),
            authentication_algorithms: AuthenticationAlgorithms::SHA_1,
            encryption_algorithms: EncryptionAlgorithms::AES_GCM_128,
            sa_offload_capacity: 8,
            ..IpsecOffloadV2::default()
        },
        flags: OffloadFlags::empty(),
    }
}

/// What a value of a keyword leaves, written down once more from the specification: bit 0 is transmit or AH, bit 1 receive or ESP.
fn left(all: &Offload, keyword: Keyword, value: u32) -> Offload {
    let mut left = *all;
    let (first, second) = (value & 1 != 0, value & 2 != 0);
    let sums = &mut left.checksum;
    match keyword {
        Keyword::IpChecksumIpv4 => (sums.ipv4_transmit.ip_checksum, sums.ipv4_receive.ip_checksum) = (first, second),
        Keyword::TcpChecksumIpv4 => tcp([&mut sums.ipv4_transmit, &mut sums.ipv4_receive], [first, second]),
        Keyword::TcpChecksumIpv6 => tcp([&mut sums.ipv6_transmit, &mut sums.ipv6_receive], [first, second]),
        Keyword::UdpChecksumIpv4 => (sums.ipv4_transmit.udp_checksum, sums.ipv4_receive.udp_checksum) = (first, second),
        Keyword::UdpChecksumIpv6 => (sums.ipv6_transmit.udp_checksum, sums.ipv6_receive.udp_checksum) = (first, second),
        Keyword::TcpUdpChecksumIpv4 => whole([&mut sums.ipv4_transmit, &mut sums.ipv4_receive], [first, second]),
        Keyword::TcpUdpChecksumIpv6 => whole([&mut sums.ipv6_transmit, &mut sums.ipv6_receive], [first, second]),
        Keyword::LsoV1Ipv4 if value == 0 => left.lso_v1 = LargeSendSet::default(),
        Keyword::LsoV2Ipv4 if value == 0 => left.lso_v2.ipv4 = LargeSendSet::default(),
        Keyword::LsoV2Ipv6 if value == 0 => left.lso_v2.ipv6 = LargeSendSet::default(),
        Keyword::IpsecV1Ipv4 => left.ipsec_v1 = left_v1(&all.ipsec_v1, first, second),
        Keyword::IpsecV2 if all.ipsec_v2.ipv6_supported => left.ipsec_v2 = left_v2(&all.ipsec_v2, first, second),
        Keyword::IpsecV2Ipv4 if !all.ipsec_v2.ipv6_supported => left.ipsec_v2 = left_v2(&all.ipsec_v2, first, second),
        // Of an adapter of the other kind, or about offloads that this product's capability sets do not have.
        _ => {}
    }
    left
}

fn tcp(sets: [&mut ChecksumSet; 2], on: [bool; 2]) {
    for (set, on) in sets.into_iter().zip(on) {
        (set.tcp_checksum, set.tcp_options_supported) = (on, on);
    }
}

fn whole(sets: [&mut ChecksumSet; 2], on: [bool; 2]) {
    for (set, on) in sets.into_iter().zip(on) {
        if !on {
            *set = ChecksumSet::default();
        }
    }
}

/// OV2-CAP-14.
fn left_v2(all: &IpsecOffloadV2, ah: bool, esp: bool) -> IpsecOffloadV2 {
    match (ah, esp) {
        (true, true) => *all,
        (false, false) => IpsecOffloadV2::default(),
        (true, false) => {
            IpsecOffloadV2 { esp: false, ah_esp_combined: false, encryption_algorithms: EncryptionAlgorithms::empty(), udp_esp: UdpEspTypes::empty(), ..*all }
        }
        (false, true) => IpsecOffloadV2 { ah: false, ah_esp_combined: false, ..*all },
    }
}

fn left_v1(all: &IpsecOffloadV1, ah: bool, esp: bool) -> IpsecOffloadV1 {
    match (ah, esp) {
        (true, true) => *all,
        (false, false) => IpsecOffloadV1::default(),
        (true, false) => IpsecOffloadV1 { ipv4_esp: Ipv4Esp::default(), ah_esp_combined: false, flags: 0, ..*all },
        (false, true) => IpsecOffloadV1 { ipv4_ah: Ipv4Ah::default(), ah_esp_combined: false, ..*all },
    }
}

fn values(keyword: Keyword) -> std::ops::RangeInclusive<u32> {
    0..=keyword.kind().largest()
}

const fn is_grouped(keyword: Keyword) -> bool {
    matches!(keyword, Keyword::TcpUdpChecksumIpv4 | Keyword::TcpUdpChecksumIpv6)
}

/// OV2-CAP-1, OV2-CAP-5: read at initialisation; hardware capabilities stay what they are; what makes no sense counts as the default.
#[test]
fn every_keyword_with_every_value_leaves_what_it_says() {
    for all in adapters() {
        for &keyword in Keyword::ALL {
            for value in values(keyword) {
                let file = File::new();
                file.open().set(NIC, keyword, value).unwrap();
                let adapter = Adapter::new(&file, all);
                let expected = left(&all, keyword, value);
                assert_eq!(adapter.default(), expected, "{keyword} {value}");
                assert_eq!(adapter.binding().query_current_config(), Ok(expected), "{keyword} {value}");
                assert_eq!(adapter.binding().query_hardware_capabilities(), Ok(all), "{keyword} {value}");
            }
            let file = File::new();
            std::fs::write(&file.0, format!("[adapter {NIC}]\n{} = 9\n", keyword.name())).unwrap();
            assert_eq!(Adapter::new(&file, all).default(), all, "{keyword}");
        }
    }
}

/// A keyword of its own counts before the grouped one.
#[test]
fn grouped_keywords_give_way_to_single_ones() {
    let [all, ..] = adapters();
    let file = File::new();
    file.open().change_adapter(NIC, &[(Keyword::TcpUdpChecksumIpv4, Some(0)), (Keyword::UdpChecksumIpv4, Some(1))]).unwrap();
    let expected = left(&all, Keyword::TcpUdpChecksumIpv4, 0);
    let udp = ChecksumSet { tcp_checksum: false, ip_checksum: false, tcp_options_supported: false, ..all.checksum.ipv4_transmit };
    let expected = Offload { checksum: ChecksumOffload { ipv4_transmit: udp, ..expected.checksum }, ..expected };
    assert_eq!(Adapter::new(&file, all).default(), expected);
}

/// OV2-CAP-8: typed and as bytes; to the registry before the miniport sees it; indicated; kept through a restart, of the adapter and of the program.
#[test]
fn every_member_with_every_value_is_stored_applied_indicated_and_kept() {
    for all in adapters() {
        for &keyword in Keyword::ALL.iter().filter(|&&keyword| !is_grouped(keyword)) {
            let file = File::new();
            let adapter = Adapter::new(&file, all);
            for value in values(keyword).chain(values(keyword).rev()) {
                let mut parameters = OffloadParameters::default();
                assert!(parameters.set(keyword, Some(value)));
                let version = NdisVersion { major: 6, minor: 83 };
                let bytes = raw::parameters::encode(&parameters, version).unwrap();
                assert_eq!(raw::parameters::decode(&bytes), Ok(parameters), "{keyword} {value}");
                adapter.seen.lock().unwrap().clear();
                assert_eq!(adapter.binding().set_parameters(raw::parameters::decode(&bytes).unwrap()), Status::SUCCESS);
                let expected = left(&all, keyword, value);
                let stored = vec![(keyword, value.to_string())];
                let seen: Vec<_> = std::mem::take(&mut *adapter.seen.lock().unwrap());
                assert!(seen.iter().all(|(registry, _)| *registry == stored) && seen.len() == 1, "{keyword} {value}: the registry comes first");
                // An engine is told of IPsecOV1 in the terms of IPsecOV2.
                let served = |offload: &Offload| Offload { ipsec_v1: IpsecOffloadV1::default(), ipsec_v2: IpsecOffloadV2::default(), ..*offload };
                assert_eq!(served(&seen[0].1), served(&expected), "{keyword} {value}");
                assert!(!all.ipsec_v2.is_supported() || seen[0].1 == expected, "{keyword} {value}");
                assert_eq!(adapter.binding().query_current_config(), Ok(expected));
                assert_eq!(adapter.told(), [expected], "{keyword} {value}");
                adapter.stack.restart_adapter(NIC).unwrap();
                adapter.told();
                assert_eq!(adapter.default(), expected, "{keyword} {value}: after a restart");
                assert_eq!(Adapter::new(&file, all).default(), expected, "{keyword} {value}: another program, the same file");
                // Nothing more was changed than that.
                assert_eq!(adapter.binding().set_parameters(OffloadParameters::default()), Status::SUCCESS);
                assert_eq!(adapter.told(), [expected]);
            }
            // Not to the registry, if the request says so.
            let mut parameters = OffloadParameters { skip_registry_update: true, ..OffloadParameters::default() };
            assert!(parameters.set(keyword, Some(keyword.kind().largest())));
            assert_eq!(adapter.binding().set_parameters(parameters), Status::SUCCESS);
            assert_eq!(adapter.told(), [all]);
            adapter.stack.restart_adapter(NIC).unwrap();
            assert_eq!(adapter.default(), left(&all, keyword, 0), "{keyword}: 0 was the last that was stored");
        }
    }
}

/// OV2-CAP-8: never beyond the hardware, whatever is asked for.
#[test]
fn nothing_goes_beyond_the_hardware() {
    for (full, &lost) in adapters().iter().flat_map(|full| Keyword::ALL.iter().map(move |lost| (full, lost))) {
        let less = left(full, lost, 0);
        let file = File::new();
        let adapter = Adapter::new(&file, less);
        for &keyword in Keyword::ALL {
            for value in values(keyword).rev() {
                let mut parameters = OffloadParameters::default();
                if !parameters.set(keyword, Some(value)) {
                    continue;
                }
                assert_eq!(adapter.binding().set_parameters(parameters), Status::SUCCESS);
                let current = adapter.binding().query_current_config().unwrap();
                assert!(current.is_within(&less), "{lost} lost, {keyword} {value}");
            }
            let mut parameters = OffloadParameters::default();
            if parameters.set(keyword, Some(keyword.kind().largest())) {
                assert_eq!(adapter.binding().set_parameters(parameters), Status::SUCCESS);
                assert_eq!(adapter.binding().query_current_config(), Ok(less), "{lost} lost, {keyword} on again");
            }
        }
    }
}

/// OV2-CAP-8: a value that a member does not have is INVALID_DATA, and nothing is changed; an adapter without offloads says NOT_SUPPORTED.
#[test]
fn bad_values_and_adapters_without_offloads_are_refused() {
    let version = NdisVersion { major: 6, minor: 83 };
    let good = raw::parameters::encode(&OffloadParameters::default(), version).unwrap();
    // The header, then each member's byte; its largest number is one more than the keyword's.
    for at in 4..good.len() {
        for value in [1_u8, 2, 3, 4, 5, 0x7f, 0xff] {
            let mut bytes = good.clone();
            bytes[at] = value;
            match raw::parameters::decode(&bytes) {
                Ok(parameters) => {
                    let changed: Vec<_> = Keyword::ALL.iter().filter_map(|&keyword| Some((keyword, parameters.get(keyword)?))).collect();
                    assert!(changed.iter().all(|&(keyword, value)| keyword.allows(value)), "byte {at} {value}");
                    assert!(changed.len() <= 1, "byte {at} {value}");
                }
                Err(error) => assert_eq!(error.status(), Status::INVALID_DATA, "byte {at} {value}: {error}"),
            }
        }
    }
    let bad = (4..good.len()).filter(|&at| {
        let mut bytes = good.clone();
        bytes[at] = 0xff;
        raw::parameters::decode(&bytes).is_err()
    });
    assert!(bad.count() >= 18, "17 members and the flags");
    let file = File::new();
    let adapter = Adapter::new(&file, Offload::default());
    for &keyword in Keyword::ALL {
        let mut parameters = OffloadParameters::default();
        if parameters.set(keyword, Some(1)) {
            assert_eq!(adapter.binding().set_parameters(parameters), Status::NOT_SUPPORTED, "{keyword}");
        }
    }
    assert!(adapter.told().is_empty());
    // It can be set only (OV2-CAP-7, OV2-CAP-8).
    assert_eq!(adapter.binding().oid_request(Oid::Other { oid: 0xFC01_020C, set: false }).0, Status::NOT_SUPPORTED);
}
