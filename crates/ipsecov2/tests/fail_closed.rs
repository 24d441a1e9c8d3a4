//! Fail closed: whatever the NIC refuses, gives back, forgets or loses, what policy protects never leaves in clear. A detector that knows every packet
//! that was handed in looks at everything on the wire, and a second host opens all of it.

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "host_suites/kinds.rs"]
mod kinds;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipsec::{AesKeySize, Authentication, Encryption};
use ipsecov2::host::{ADAPTER, Host, HostConfig};
use ipsecov2::profile::Profile;
use kinds::{CBC, GATE4, GATE6, GCM, HOST4, HOST6, Kind, Spec, key};
use ndis::{
    Binding, DirectOid, DirectOidRequest, Direction, Filter, FilterQueue, FilterVerdict, IpsecSetting, Keyword, LaneContext, NblBatch, OffloadEncapsulation,
    OffloadParameters, Protocol, SetEncapsulation, Setting, Status, StatusIndication, raw,
};
use packet::{Frame, FrameBatch, IpProtocol, Medium, ParsedIp, Time};
use proptest::prelude::*;
use transport::{DropReason, InboundBatch, Mode, OffloadPolicy, OffloadReason};

/// Knows what was handed in, and finds any eight bytes of it on the wire.
#[derive(Default)]
struct Detector {
    windows: HashSet<u64>,
    /// SPI and IV of everything that was sent.
    ivs: HashSet<[u8; 12]>,
}

impl Detector {
    const WINDOW: usize = 8;

    fn windows(bytes: &[u8]) -> impl Iterator<Item = u64> {
        bytes.array_windows::<{ Self::WINDOW }>().map(|window| u64::from_be_bytes(*window))
    }

    fn learn(&mut self, secret: &[u8]) {
        self.windows.extend(Self::windows(secret));
    }

    /// What is wrong with a frame on the wire; `hides`: its bundles encrypt.
    fn leak(&mut self, ip: &[u8], hides: bool) -> Option<String> {
        let parsed = match ParsedIp::parse(ip) {
            Ok(parsed) => parsed,
            Err(error) => return Some(format!("no IP packet: {error}")),
        };
        let at = match parsed.protocol() {
            IpProtocol::ESP | IpProtocol::AH => parsed.header_len(),
            IpProtocol::UDP if parsed.ports().is_some_and(|(_, port)| port == 4500) => parsed.header_len() + 8,
            other => return Some(format!("not protected: {other:?}")),
        };
        if parsed.protocol() != IpProtocol::AH {
            let iv = [&ip[at..at + 4], &ip[at + 8..at + 16]].concat();
            if !self.ivs.insert(iv.try_into().unwrap()) {
                return Some("an IV twice".to_owned());
            }
        }
        (hides && Self::windows(ip).any(|window| self.windows.contains(&window))).then(|| "clear text".to_owned())
    }
}

/// A NIC that does not do what it should: fails sends, does not do received packets, refuses requests.
#[derive(Default)]
struct Trouble {
    /// Every how many'th list of each batch comes back: 0 none, 1 all.
    fails: AtomicUsize,
    /// Status that requests to add SAs are refused with; 0: none.
    refuses: Mutex<Option<Status>>,
}

/// What of it is put between.
struct Shared<T>(Arc<T>);

impl Filter for Shared<Trouble> {
    fn name(&self) -> &'static str {
        "trouble"
    }

    fn handles_direct_requests(&self) -> bool {
        true
    }

    fn direct_oid_request(&self, request: DirectOidRequest) -> FilterVerdict<DirectOidRequest> {
        match (*self.0.refuses.lock().unwrap(), &request.body) {
            (Some(status), DirectOid::AddSa(_) | DirectOid::AddSaEx(_)) => FilterVerdict::Complete(status, request),
            _ => FilterVerdict::Pass(request),
        }
    }

    fn open_queue(&self) -> Option<Box<dyn FilterQueue>> {
        Some(Box::new(TroubleQueue(Arc::clone(&self.0))))
    }
}

struct TroubleQueue(Arc<Trouble>);

impl FilterQueue for TroubleQueue {
    fn send(&mut self, _lane: &mut LaneContext<'_>, batch: &mut NblBatch, done: &mut NblBatch) {
        let every = self.0.fails.load(Ordering::Relaxed);
        let mut number = 0;
        for mut list in batch.extract_if(.., |list| {
            number += 1;
            every != 0 && number % every == 0 && list.oob.offload_handle().is_some()
        }) {
            list.status = Status::FAILURE;
            done.push(list);
        }
    }

    fn send_complete(&mut self, _lane: &mut LaneContext<'_>, _done: &mut NblBatch) {}

    fn receive(&mut self, _lane: &mut LaneContext<'_>, _up: &mut NblBatch) {}
}

/// A second protocol on the adapter, which changes its configuration.
#[derive(Default)]
struct Stranger(Mutex<Option<Binding>>);

impl Protocol for Stranger {
    fn bind(&self, _parameters: ndis::BindParameters, binding: Binding) {
        *self.0.lock().unwrap() = Some(binding);
    }

    fn unbind(&self) {
        *self.0.lock().unwrap() = None;
    }

    fn status(&self, _indication: StatusIndication) {}

    fn direct_oid_complete(&self, _status: Status, _request: DirectOidRequest) {}
}

/// A host whose NIC gets into trouble, and one in software that opens what it sends.
struct Scene {
    kind: Kind,
    hides: bool,
    from: Host,
    to: Host,
    trouble: Arc<Trouble>,
    stranger: Arc<Stranger>,
    now: Time,
    wire: FrameBatch,
    detector: Detector,
    next: u64,
    /// What was handed in and has not arrived.
    missing: HashMap<Vec<u8>, u32>,
    sent: u64,
    arrived: u64,
}

impl Scene {
    fn new(kind: &Kind, policy: OffloadPolicy, config: &HostConfig) -> Self {
        let (trouble, stranger) = (Arc::<Trouble>::default(), Arc::<Stranger>::default());
        let config = HostConfig { medium: Medium::Ip, capacity: 16, filters: vec![Arc::new(Shared(Arc::clone(&trouble)))], ..config.clone() };
        let from = Host::new(&config).unwrap();
        from.stack().bind(Arc::clone(&stranger) as _, ADAPTER).unwrap();
        let to = Host::new(&HostConfig { medium: Medium::Ip, capacity: 16, ..HostConfig::default() }).unwrap();
        let now = Time::from_nanos(1);
        from.add_sas(kind.parameters(Direction::Outbound, policy), now).unwrap();
        let mut inbound = kind.parameters(Direction::Inbound, OffloadPolicy::Forbid);
        // What waited comes late, under the numbers that it had.
        for sa in &mut inbound {
            sa.replay_window = 65_536;
        }
        to.add_sas(inbound, now).unwrap();
        let hides = kind.bundles.iter().any(|bundle| bundle.specs.iter().any(|spec| spec.encryption != Encryption::Null));
        let mut scene = Self {
            kind: kind.clone(),
            hides,
            from,
            to,
            trouble,
            stranger,
            now,
            wire: vec![],
            detector: Detector::default(),
            next: 0,
            missing: HashMap::new(),
            sent: 0,
            arrived: 0,
        };
        scene.service();
        scene
    }

    /// A packet whose payload is like no other's in any eight bytes.
    fn packet(&mut self) -> Vec<u8> {
        self.next += 1;
        let length = 16 + (self.next as usize * 37) % 200;
        let mut state = self.next.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let payload: Vec<u8> = (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect();
        self.detector.learn(&payload);
        let (source, destination): (core::net::IpAddr, core::net::IpAddr) = (self.kind.inner.0.parse().unwrap(), self.kind.inner.1.parse().unwrap());
        match (source, destination) {
            (core::net::IpAddr::V4(source), core::net::IpAddr::V4(destination)) => {
                let mut packet = vec![0; 20];
                packet::Ipv4Repr::new(IpProtocol(253), source, destination, length).emit(&mut packet).unwrap();
                [packet, payload].concat()
            }
            (core::net::IpAddr::V6(source), core::net::IpAddr::V6(destination)) => {
                let mut packet = vec![0; 40];
                packet::Ipv6Repr::new(IpProtocol(253), source, destination, length).emit(&mut packet).unwrap();
                [packet, payload].concat()
            }
            _ => panic!("two versions"),
        }
    }

    fn send(&mut self, count: usize) {
        let mut frames = FrameBatch::new();
        for _ in 0..count {
            let packet = self.packet();
            frames.push(Frame::new(self.from.pool().copy_from(&packet)));
            *self.missing.entry(packet).or_default() += 1;
            self.sent += 1;
        }
        self.from.send(self.now, &mut frames, &mut self.wire);
        assert!(frames.is_empty());
        self.look();
    }

    fn service(&mut self) {
        self.now = self.now + Duration::from_millis(20);
        self.from.service(self.now, &mut self.wire);
        self.look();
    }

    /// Looks at all that is on the wire, and lets the other host open it: each packet arrives as it was handed in, and once.
    fn look(&mut self) {
        for frame in &self.wire {
            let leak = self.detector.leak(frame.buffer.as_slice(), self.hides);
            assert_eq!(leak, None, "{}", self.kind.name());
        }
        let count = self.wire.len();
        let mut out = InboundBatch { report: true, ..InboundBatch::default() };
        self.to.receive(self.now, &mut self.wire, &mut out);
        assert_eq!((out.delivered.len(), out.passed.len()), (count, 0), "{}: {:?}", self.kind.name(), out.verdicts);
        for frame in out.delivered {
            let left = self.missing.get_mut(frame.buffer.as_slice()).expect("what was handed in");
            *left = left.checked_sub(1).expect("once");
            self.arrived += 1;
        }
        let counts = self.from.transport().outbound();
        assert_eq!(counts.clear.packets, 0);
        assert_eq!(counts.seen.packets, self.sent);
        assert_eq!(counts.ended() + self.from.backlog() as u64, self.sent, "every packet has one end");
        assert_eq!(counts.offloaded.packets + counts.software.packets, self.arrived, "what is said to have been sent was");
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.from.transport().outbound().dropped_for(reason).packets
    }

    fn set_ipsec(&self, setting: IpsecSetting) {
        let _ = self.from.operator().set_parameters(OffloadParameters::ipsec_v2_setting(setting));
    }

    fn set_encapsulation(&self, on: bool) {
        let to = if on { SetEncapsulation::On { encapsulation: ndis::Encapsulation::NULL, header_size: 0 } } else { SetEncapsulation::Off };
        let binding = self.stranger.0.lock().unwrap().clone();
        if let Some(binding) = binding {
            binding.set_encapsulation(OffloadEncapsulation { ipv4: to, ipv6: to });
        }
    }

    /// Ends all trouble, and lets what waits go.
    fn settle(&mut self) {
        self.trouble.fails.store(0, Ordering::Relaxed);
        *self.trouble.refuses.lock().unwrap() = None;
        self.from.stack().registry().set(ADAPTER, Keyword::IpsecV2, 3).unwrap();
        self.set_ipsec(IpsecSetting::AhAndEsp);
        self.set_encapsulation(true);
        for _ in 0..4 {
            self.service();
        }
    }
}

fn scenes() -> Vec<Kind> {
    vec![
        Kind::tunnel(vec![GCM]),
        Kind::transport(vec![CBC]).extended(u64::from(u32::MAX) - 200),
        Kind::single(Mode::Tunnel, GATE6, HOST6, vec![GCM, Spec::ah(Authentication::HmacSha1)]),
        Kind::transport(vec![Spec::ah(Authentication::HmacSha256)]),
        Kind::single(Mode::Transport, HOST4, HOST4, vec![Spec::esp(Encryption::Null, Authentication::AesGmac(AesKeySize::Aes128))]),
        Kind::nested(GATE4, HOST4, vec![GCM], vec![CBC]),
        Kind::nested(GATE6, HOST4, vec![CBC], vec![GCM]).udp(1),
        Kind::tunnel(vec![Spec::combined(Encryption::ChaCha20Poly1305, 16)]).udp(0),
    ]
}

/// Of the detector itself: it finds a packet in clear, a piece of one inside of ESP, what is protected by nobody, and an IV that comes twice.
#[test]
fn leaks_are_found() {
    let mut scene = Scene::new(&Kind::tunnel(vec![GCM]), OffloadPolicy::Prefer, &HostConfig::default());
    let packet = scene.packet();
    let mut frames = FrameBatch::from([Frame::new(scene.from.pool().copy_from(&packet))]);
    scene.from.send(scene.now, &mut frames, &mut scene.wire);
    let wire = scene.wire[0].buffer.as_slice().to_vec();
    let detector = &mut scene.detector;
    assert_eq!(detector.leak(&packet, true), Some("not protected: proto-253(253)".to_owned()));
    assert_eq!(detector.leak(&wire, true), None);
    assert_eq!(detector.leak(&wire, true), Some("an IV twice".to_owned()));
    for at in [36, 50, wire.len() - 8] {
        let mut leaking = wire.clone();
        leaking[at..at + 8].copy_from_slice(&packet[27..35]);
        leaking[28] ^= at as u8;
        assert_eq!(detector.leak(&leaking, true), Some("clear text".to_owned()));
        leaking[30] ^= at as u8;
        assert_eq!(detector.leak(&leaking, false), None, "where nothing is hidden, that is no leak");
    }
    assert!(detector.leak(&wire[..10], true).is_some());
}

/// R-30, refusals: the NIC takes no SA, for whatever reason; it gives back some or all of what it is to send; it is full.
#[test]
fn r_30_refusals_do_not_let_clear_text_out() {
    for kind in scenes() {
        for status in [Status::RESOURCES, Status::NOT_SUPPORTED, Status::INVALID_DATA, Status::FAILURE, Status::NOT_ACCEPTED] {
            let mut scene = Scene::new(&kind, OffloadPolicy::Prefer, &HostConfig::default());
            assert!(scene.from.transport().sas().iter().all(|sa| sa.offload == OffloadReason::Offloaded), "{}", kind.name());
            *scene.trouble.refuses.lock().unwrap() = Some(status);
            scene.send(20);
            assert_eq!(scene.from.transport().outbound().offloaded.packets, 20);
            scene.from.restart_adapter().unwrap();
            scene.send(20);
            scene.service();
            scene.send(20);
            assert!(scene.from.transport().sas().iter().all(|sa| sa.offload != OffloadReason::Offloaded));
            assert_eq!((scene.arrived, scene.from.transport().outbound().offloaded.packets), (60, 20));
        }
        for every in [1, 2, 7] {
            let mut scene = Scene::new(&kind, OffloadPolicy::Prefer, &HostConfig::default());
            scene.trouble.fails.store(every, Ordering::Relaxed);
            for count in [1, 7, 64, 65] {
                scene.send(count);
                scene.service();
            }
            let counts = scene.from.transport().outbound();
            assert_eq!(scene.arrived, 137, "{}", kind.name());
            assert!(counts.retried >= 19 && (every != 1 || counts.offloaded.packets == 0), "{counts:?}");
        }
        let mut scene = Scene::new(&kind, OffloadPolicy::Prefer, &HostConfig::default().with_nic_capacity(1));
        scene.send(50);
        assert_eq!(scene.arrived, 50);
    }
}

/// R-30, cards: every profile, with what it covers and what not.
#[test]
fn r_30_no_card_lets_clear_text_out() {
    for profile in Profile::built_in() {
        for kind in scenes() {
            for policy in [OffloadPolicy::Prefer, OffloadPolicy::Forbid] {
                let mut scene = Scene::new(&kind, policy, &HostConfig::default().with_profile(profile));
                scene.send(30);
                scene.service();
                assert_eq!(scene.arrived, 30, "{} {}", profile.name, kind.name());
            }
        }
    }
}

/// what must be offloaded and is not is dropped: neither in clear nor in software.
#[test]
fn r_30_what_must_be_offloaded_is_dropped_rather_than_sent_otherwise() {
    for kind in scenes() {
        let mut scene = Scene::new(&kind, OffloadPolicy::Require, &HostConfig::default());
        scene.send(10);
        scene.set_ipsec(IpsecSetting::Disabled);
        scene.send(10);
        scene.service();
        scene.send(10);
        scene.settle();
        scene.trouble.fails.store(1, Ordering::Relaxed);
        scene.send(10);
        scene.settle();
        scene.send(10);
        let counts = scene.from.transport().outbound();
        assert_eq!((scene.arrived, scene.dropped(DropReason::NotOffloaded), counts.software.packets), (20, 30, 0), "{}", kind.name());
    }
}

/// R-30, ends: an SA that is removed, whose numbers or life are over, an adapter that is gone or does not come back. Policy protects still, so nothing leaves.
#[test]
fn r_30_when_an_sa_or_the_adapter_is_gone_nothing_leaves() {
    for kind in scenes() {
        let mut scene = Scene::new(&kind, OffloadPolicy::Prefer, &HostConfig::default());
        scene.send(10);
        for sa in scene.from.transport().sas() {
            assert!(scene.from.transport().remove_sa(sa.handle));
            scene.send(10);
            scene.service();
        }
        scene.send(10);
        assert_eq!(scene.arrived, 10, "{}: whatever is missing of its bundles", kind.name());

        let last = Kind { last: if kind.esn { u64::MAX } else { u64::from(u32::MAX) } - 15, ..kind.clone() };
        let mut scene = Scene::new(&last, OffloadPolicy::Prefer, &HostConfig::default());
        for _ in 0..4 {
            scene.send(10);
            scene.service();
        }
        assert_eq!((scene.arrived, scene.dropped(DropReason::SequenceExhausted)), (15, 25), "{}", kind.name());

        for surprise in [false, true] {
            let mut scene = Scene::new(&kind, OffloadPolicy::Prefer, &HostConfig::default());
            scene.send(10);
            let stack = scene.from.stack();
            if surprise { stack.surprise_remove(ADAPTER) } else { stack.remove_adapter(ADAPTER) }.unwrap();
            scene.send(10);
            scene.service();
            scene.send(10);
            assert_eq!((scene.arrived, scene.from.backlog()), (10, 20), "{}: they wait, sealed", kind.name());
        }
    }
}

/// R-30, changes: what the transport has not heard of yet, resets with packets under way, restarts with other keywords.
#[test]
fn r_30_changes_and_resets_do_not_let_clear_text_out() {
    for kind in scenes() {
        for version in [ndis::NdisVersion::V6_20, ndis::NdisVersion::V6_30] {
            let mut scene = Scene::new(&kind, OffloadPolicy::Prefer, &HostConfig { version, ..HostConfig::default() });
            for setting in [IpsecSetting::Disabled, IpsecSetting::Ah, IpsecSetting::Esp, IpsecSetting::AhAndEsp] {
                scene.set_ipsec(setting);
                scene.send(15);
                scene.service();
                scene.send(15);
            }
            for on in [false, true] {
                scene.set_encapsulation(on);
                scene.send(15);
                scene.service();
                scene.send(15);
            }
            scene.from.reset_adapter().unwrap();
            scene.send(15);
            scene.service();
            scene.send(15);
            for value in [0, 1, 2, 3] {
                scene.from.stack().registry().set(ADAPTER, Keyword::IpsecV2, value).unwrap();
                scene.from.restart_adapter().unwrap();
                scene.send(15);
                scene.service();
                scene.send(15);
            }
            scene.settle();
            assert_eq!((scene.arrived, scene.sent), (330, 330), "{}", kind.name());
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Send(usize),
    Fail(usize),
    Refuse(Option<Status>),
    Ipsec(IpsecSetting),
    Encapsulation(bool),
    Keyword(u32),
    Reset,
    Restart,
    Service,
    Later,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..40_usize).prop_map(Step::Send),
        2 => (0..4_usize).prop_map(Step::Fail),
        2 => prop::sample::select(vec![None, Some(Status::RESOURCES), Some(Status::NOT_SUPPORTED), Some(Status::FAILURE)]).prop_map(Step::Refuse),
        2 => prop::sample::select(IpsecSetting::ALL).prop_map(Step::Ipsec),
        1 => any::<bool>().prop_map(Step::Encapsulation),
        1 => (0..4_u32).prop_map(Step::Keyword),
        2 => Just(Step::Reset),
        1 => Just(Step::Restart),
        4 => Just(Step::Service),
        1 => Just(Step::Later),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// all of it, in any order. Nothing is in clear, and when the trouble is over everything has arrived, once.
    #[test]
    fn r_30_no_order_of_troubles_lets_clear_text_out(kind in prop::sample::select(scenes()), capacity in 1..4_u32, steps in steps()) {
        let mut scene = Scene::new(&kind, OffloadPolicy::Prefer, &HostConfig::default().with_nic_capacity(capacity));
        for step in steps {
            match step {
                Step::Send(count) => scene.send(count),
                Step::Fail(every) => scene.trouble.fails.store(every, Ordering::Relaxed),
                Step::Refuse(status) => *scene.trouble.refuses.lock().unwrap() = status,
                Step::Ipsec(setting) => scene.set_ipsec(setting),
                Step::Encapsulation(on) => scene.set_encapsulation(on),
                Step::Keyword(value) => scene.from.stack().registry().set(ADAPTER, Keyword::IpsecV2, value).unwrap(),
                Step::Reset => drop(scene.from.reset_adapter()),
                Step::Restart => scene.from.restart_adapter().unwrap(),
                Step::Service => scene.service(),
                Step::Later => {
                    scene.now = scene.now + Duration::from_secs(2);
                    scene.service();
                }
            }
        }
        scene.settle();
        prop_assert_eq!((scene.arrived, scene.from.backlog()), (scene.sent, 0));
        let more = scene.sent;
        scene.send(10);
        prop_assert_eq!(scene.arrived, more + 10);
    }
}

/// Writes down what packets carry out of band.
#[derive(Default)]
struct Witness(Mutex<Vec<u8>>);

impl Filter for Shared<Witness> {
    fn name(&self) -> &'static str {
        "witness"
    }

    fn open_queue(&self) -> Option<Box<dyn FilterQueue>> {
        Some(Box::new(WitnessQueue(Arc::clone(&self.0))))
    }
}

struct WitnessQueue(Arc<Witness>);

impl WitnessQueue {
    fn see(&self, batch: &NblBatch) {
        let mut seen = self.0.0.lock().unwrap();
        for list in batch {
            let mut slots = [0; raw::oob::SLOTS];
            raw::oob::encode(&list.oob, &mut slots);
            for word in slots.into_iter().chain(list.protocol_reserved).chain([list.tag]) {
                seen.extend(word.to_le_bytes());
            }
            for buffer in list.buffers() {
                seen.extend(buffer.as_slice());
            }
        }
    }
}

impl FilterQueue for WitnessQueue {
    fn send(&mut self, _lane: &mut LaneContext<'_>, batch: &mut NblBatch, _done: &mut NblBatch) {
        self.see(batch);
    }

    fn send_complete(&mut self, _lane: &mut LaneContext<'_>, done: &mut NblBatch) {
        self.see(done);
    }

    fn receive(&mut self, _lane: &mut LaneContext<'_>, up: &mut NblBatch) {
        self.see(up);
    }
}

/// OV2-COMB-4: what goes down to the NIC and comes up from it names SAs by handle. No eight bytes in a row of any key are in what a list carries, on the way
/// down, completed, or received.
#[test]
fn packets_carry_handles_and_never_keys() {
    let kind = Kind::nested(GATE4, HOST4, vec![GCM, Spec::ah(Authentication::HmacSha1)], vec![CBC]);
    let witness = Arc::<Witness>::default();
    let host = |filters: Vec<Arc<dyn Filter>>| Host::new(&HostConfig { medium: Medium::Ip, capacity: 16, filters, ..HostConfig::default() }).unwrap();
    let (mut from, mut to) = (host(vec![Arc::new(Shared(Arc::clone(&witness)))]), host(vec![Arc::new(Shared(Arc::clone(&witness)))]));
    let now = Time::from_nanos(1);
    from.add_sas(kind.parameters(Direction::Outbound, OffloadPolicy::Require), now).unwrap();
    to.add_sas(kind.parameters(Direction::Inbound, OffloadPolicy::Require), now).unwrap();
    let mut packet = vec![0xa5; 20 + 64];
    packet::Ipv4Repr::new(IpProtocol(253), HOST4.0.parse().unwrap(), HOST4.1.parse().unwrap(), 64).emit(&mut packet).unwrap();
    let mut frames: FrameBatch = (0..16).map(|_| Frame::new(from.pool().copy_from(&packet))).collect();
    let (mut wire, mut out) = (FrameBatch::new(), InboundBatch::default());
    from.send(now, &mut frames, &mut wire);
    to.receive(now, &mut wire, &mut out);
    assert_eq!((out.delivered.len(), to.transport().inbound().offloaded.packets), (16, 16));
    let seen = witness.0.lock().unwrap();
    assert!(seen.len() > 3 * 16 * 29 * 8, "{}", seen.len());
    let keys: HashSet<[u8; 8]> = kind
        .parameters(Direction::Outbound, OffloadPolicy::Require)
        .iter()
        .flat_map(|sa| &sa.associations)
        .flat_map(|sa| [&sa.encryption_key, &sa.authentication_key])
        .flat_map(|key| key.expose().array_windows::<8>())
        .copied()
        .collect();
    assert!(keys.len() > 40 && keys.contains(key(8, 1).expose()));
    assert!(!seen.array_windows::<8>().any(|window| keys.contains(window)));
}
