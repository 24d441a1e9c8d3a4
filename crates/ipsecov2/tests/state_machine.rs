//! Two hosts driven at random, by requests, configuration changes, resets, restarts and traffic, beside a model that knows what must come of it.
//!
//! After every step: every packet is in one counter or waits, every SA has one reason, the NIC holds no more than it has room for, nothing is in clear and no IV
//! comes twice. When all has been delivered: the NIC has exactly the SAs that the model says, and every packet that could arrive has arrived, once and in order.

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{CANARY, Pair};
use ipsec::{AesKeySize, Encryption};
use ipsecov2::host::{ADAPTER, Host, HostConfig};
use ndis::{
    AdapterState, AddSaEntry, Associations, BindParameters, Binding, DirectAnswer, DirectOid, DirectOidRequest, Direction, Encapsulation, EncryptionAlgorithm,
    Endpoints, EspAssociation, IpsecSetting, Keyed, NdisVersion, OffloadEncapsulation, OffloadParameters, Operation, Protocol, SaBundle, SaExtension,
    SetEncapsulation, Status, StatusIndication, UpdateSa,
};
use nic::DeletePolicy;
use packet::{Frame, FrameBatch, IpAddress, IpProtocol, Ipv4Repr, Medium, Spi};
use proptest::prelude::*;
use sa_table::Handle;
use transport::{AssociationParameters, InboundBatch, Mode, OffloadReason, SaParameters, Selector, Why};

const CAPACITY: usize = 6;
const CONNECTIONS: u8 = 5;

/// One of the two hosts.
type Side = usize;
const A: Side = 0;
const B: Side = 1;

#[derive(Clone, Debug)]
enum Step {
    /// Makes a connection anew, with new SAs on both hosts.
    Connect(u8),
    /// Removes one of its SAs on one host: `(connection, host, outbound)`.
    Remove(u8, Side, bool),
    /// Sends so many packets from A.
    Send(u8, usize),
    Configure(Side, IpsecSetting),
    Activate(Side, bool),
    Reset(Side),
    Restart(Side),
    /// Another protocol adds SAs of its own, deletes one, or tries to delete or update what is not its own.
    ForeignAdd(Side),
    ForeignDelete(Side),
    ForeignMischief(Side, u64),
    Pump,
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    let (connection, side) = (|| 0..CONNECTIONS, || 0..2_usize);
    let setting = prop_oneof![
        1 => Just(IpsecSetting::Disabled),
        1 => Just(IpsecSetting::Ah),
        1 => Just(IpsecSetting::Esp),
        2 => Just(IpsecSetting::AhAndEsp),
    ];
    let traffic = prop_oneof![
        6 => connection().prop_map(Step::Connect),
        2 => (connection(), side(), any::<bool>()).prop_map(|(connection, side, outbound)| Step::Remove(connection, side, outbound)),
        10 => (connection(), 1..70_usize).prop_map(|(connection, count)| Step::Send(connection, count)),
        4 => Just(Step::Pump),
        3 => Just(Step::Settle),
    ];
    let control = prop_oneof![
        3 => (side(), setting).prop_map(|(side, setting)| Step::Configure(side, setting)),
        2 => (side(), any::<bool>()).prop_map(|(side, on)| Step::Activate(side, on)),
        2 => side().prop_map(Step::Reset),
        1 => side().prop_map(Step::Restart),
        3 => side().prop_map(Step::ForeignAdd),
        2 => side().prop_map(Step::ForeignDelete),
        2 => (side(), any::<u64>()).prop_map(|(side, bits)| Step::ForeignMischief(side, bits)),
    ];
    prop_oneof![25 => traffic, 15 => control]
}

/// A second protocol on a host's adapter.
#[derive(Default)]
struct Foreigner {
    binding: Mutex<Option<Binding>>,
    /// SAs that it has.
    handles: Mutex<Vec<u64>>,
    next: Mutex<u32>,
}

impl Foreigner {
    fn binding(&self) -> Binding {
        self.binding.lock().unwrap().clone().expect("bound")
    }

    fn bundle(&self) -> SaBundle {
        let mut next = self.next.lock().unwrap();
        *next += 1;
        SaBundle {
            direction: if next.is_multiple_of(2) { Direction::Inbound } else { Direction::Outbound },
            endpoints: Endpoints { ipv6: false, source: None, destination: Some("198.51.100.1".parse().unwrap()) },
            udp_esp: None,
            associations: Associations::Esp(EspAssociation {
                spi: Spi(0x9000 + *next),
                extended_sequence_numbers: true,
                sequence_number_high: 0,
                encryption: Keyed { algorithm: EncryptionAlgorithm::AesGcm(ndis::AesKeySize::Aes128), key: vec![9; 20].into(), additional_info: 16 },
                authentication: None,
            }),
            extension: SaExtension::default(),
        }
    }

    /// A list of two, or one, as the version has it.
    fn add(&self, version: NdisVersion) {
        let body = if version.uses_add_sa_ex() {
            DirectOid::AddSaEx(Box::new(AddSaEntry::new(self.bundle())))
        } else {
            DirectOid::AddSa(vec![AddSaEntry::new(self.bundle()), AddSaEntry::new(self.bundle())])
        };
        let DirectAnswer::Done(status, body) = self.binding().direct_oid_request(body) else { panic!("additions do not pend") };
        let entries = match body {
            DirectOid::AddSaEx(entry) => vec![*entry],
            DirectOid::AddSa(entries) => entries,
            other => panic!("{other:?}"),
        };
        let added: Vec<u64> = entries.iter().filter_map(|entry| entry.handle).map(ndis::OffloadHandle::to_bits).collect();
        assert_eq!(status.is_success(), !added.is_empty(), "OV2-SA-4");
        self.handles.lock().unwrap().extend(added);
    }

    fn delete(&self) {
        let Some(handle) = self.handles.lock().unwrap().pop() else { return };
        let _ = self.binding().direct_oid_request(DirectOid::DeleteSa(vec![handle]));
    }

    /// What looks like a handle, near one of its own where there is one: the table's neighbours are other protocols' SAs.
    fn mischief(&self, bits: u64) {
        let own = self.handles.lock().unwrap().clone();
        let near = own.last().map_or(bits, |handle| handle ^ (bits % 16));
        if own.contains(&near) {
            return;
        }
        let _ = self.binding().direct_oid_request(DirectOid::DeleteSa(vec![near, bits, 0]));
        if let Some(handle) = ndis::OffloadHandle::from_bits(near) {
            let update = UpdateSa { handle, operation: Operation::Esp, spi: Spi(0x1001), sequence_number_high: 7 };
            let answer = self.binding().direct_oid_request(DirectOid::UpdateSa(update));
            assert!(!matches!(answer, DirectAnswer::Done(Status::SUCCESS, _)), "an update of what is not its own");
        }
    }
}

impl Protocol for Foreigner {
    fn bind(&self, _: BindParameters, binding: Binding) {
        *self.binding.lock().unwrap() = Some(binding);
    }
    fn unbind(&self) {
        self.handles.lock().unwrap().clear();
    }
    fn status(&self, indication: StatusIndication) {
        if indication == StatusIndication::ResetStart {
            self.handles.lock().unwrap().clear();
        }
    }
    fn direct_oid_complete(&self, _: Status, _: DirectOidRequest) {}
}

/// What must be so of one host.
struct Model {
    /// The transport's SAs: connection and whether outbound.
    sas: BTreeMap<(u8, bool), Handle>,
    setting: IpsecSetting,
    active: bool,
}

struct World {
    version: NdisVersion,
    pair: Pair,
    models: [Model; 2],
    foreigners: [Arc<Foreigner>; 2],
    next: u32,
    /// Counts connections, so that none has the numbers of another.
    generation: u32,
    /// Sent, and in A's backlog.
    waiting: Vec<Vec<u8>>,
    lost: u64,
}

fn connection_parameters(connection: u8, generation: u32, direction: Direction, from_a: bool) -> SaParameters {
    let ends: [IpAddress; 2] = ["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
    let nets: [IpAddress; 2] = ["10.0.1.1".parse().unwrap(), format!("10.0.2.{}", 1 + connection).parse().unwrap()];
    let (from, to) = if from_a { (0, 1) } else { (1, 0) };
    let spi = 0x1000 + generation * 2 + u32::from(from_a);
    let encryption = Encryption::AesGcm(AesKeySize::Aes128);
    let association = AssociationParameters {
        extended_sequence_numbers: connection % 2 == 1,
        ..AssociationParameters::esp(Spi(spi), encryption, common::key(encryption, spi as u8))
    };
    SaParameters {
        replay_window: 512,
        iv_mask: 0x5eed << connection,
        selectors: vec![Selector::between(nets[from], nets[to])],
        ..SaParameters::new(format!("{connection}-{from_a}"), direction, Mode::Tunnel, (ends[from], ends[to]), vec![association])
    }
}

impl World {
    fn new(version: NdisVersion) -> Self {
        let config = || {
            let config = HostConfig { medium: Medium::Ip, capacity: 64, version, delete_policy: DeletePolicy::Never, ..HostConfig::default() };
            config.with_nic_capacity(CAPACITY as u32)
        };
        // Each with a registry of its own.
        let mut pair = Pair::with(&config());
        pair.b = Host::new(&config()).unwrap();
        let foreigners = [A, B].map(|_| Arc::new(Foreigner::default()));
        for (host, foreigner) in [&pair.a, &pair.b].into_iter().zip(&foreigners) {
            host.stack().bind(Arc::clone(foreigner) as Arc<dyn Protocol>, ADAPTER).unwrap();
        }
        let models = [A, B].map(|_| Model { sas: BTreeMap::new(), setting: IpsecSetting::AhAndEsp, active: true });
        Self { version, pair, models, foreigners, next: 0, generation: 0, waiting: Vec::new(), lost: 0 }
    }

    fn host(&self, side: Side) -> &Host {
        if side == A { &self.pair.a } else { &self.pair.b }
    }

    fn add(&mut self, connection: u8, side: Side, outbound: bool) {
        let direction = if outbound { Direction::Outbound } else { Direction::Inbound };
        let parameters = connection_parameters(connection, self.generation, direction, (side == A) == outbound);
        let sa = self.host(side).transport().add_sa(parameters, self.pair.now).unwrap();
        self.models[side].sas.insert((connection, outbound), sa);
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Connect(connection) => {
                for side in [A, B] {
                    for outbound in [true, false] {
                        self.remove(connection, side, outbound);
                    }
                }
                // What is under way is of the old one.
                self.settle();
                self.generation += 1;
                for (side, outbound) in [(A, true), (B, false), (B, true), (A, false)] {
                    self.add(connection, side, outbound);
                }
                for side in [A, B] {
                    let transport = self.host(side).transport();
                    // Without the policies of what was removed, which come first.
                    transport.set_policies(|spd| spd.policies_mut().clear());
                    for sa in self.models[side].sas.values() {
                        transport.protect(*sa);
                    }
                }
            }
            Step::Remove(connection, side, outbound) => self.remove(connection, side, outbound),
            Step::Send(connection, count) => self.send(connection, count),
            Step::Configure(side, setting) => {
                let status = self.host(side).operator().set_parameters(OffloadParameters::ipsec_v2_setting(setting));
                match status {
                    Status::SUCCESS => self.models[side].setting = setting,
                    other => assert_eq!(other, Status::RESET_IN_PROGRESS),
                }
            }
            Step::Activate(side, on) => {
                let set = if on { SetEncapsulation::On { encapsulation: Encapsulation::NULL, header_size: 0 } } else { SetEncapsulation::Off };
                let status = self.foreigners[side].binding().set_encapsulation(OffloadEncapsulation { ipv4: set, ipv6: set });
                match status {
                    Status::SUCCESS => self.models[side].active = on,
                    other => assert_eq!(other, Status::RESET_IN_PROGRESS),
                }
            }
            Step::Reset(side) => {
                let running = self.host(side).stack().adapter(ADAPTER).unwrap().state == AdapterState::Running;
                assert_eq!(self.host(side).reset_adapter().is_ok(), running);
            }
            Step::Restart(side) => {
                self.host(side).restart_adapter().unwrap();
                // The transport activates it anew.
                self.models[side].active = true;
            }
            Step::ForeignAdd(side) => self.foreigners[side].add(self.version),
            Step::ForeignDelete(side) => self.foreigners[side].delete(),
            Step::ForeignMischief(side, bits) => self.foreigners[side].mischief(bits),
            Step::Pump => {
                self.pair.service();
                self.arrive();
            }
            Step::Settle => self.settle(),
        }
    }

    fn remove(&mut self, connection: u8, side: Side, outbound: bool) {
        if let Some(sa) = self.models[side].sas.remove(&(connection, outbound)) {
            // The policies that name it stay, and let nothing out in clear.
            assert!(self.host(side).transport().remove_sa(sa));
            if (side, outbound) == (A, true) {
                // What waits under it is sent no more.
                self.waiting.retain(|packet| packet[19] - 1 != connection);
            }
        }
    }

    fn send(&mut self, connection: u8, count: usize) {
        // The backlog is bounded, which is not what this is about.
        if self.waiting.len() > 800 {
            self.pair.service();
            self.arrive();
        }
        let protected = self.models[A].sas.contains_key(&(connection, true));
        let packets: Vec<_> = (0..count).map(|_| self.packet(connection)).collect();
        let pool = self.pair.a.pool();
        let mut frames: FrameBatch = packets.iter().map(|packet| Frame::new(pool.copy_from(packet))).collect();
        let before = self.pair.wire.len();
        let mut wire = core::mem::take(&mut self.pair.wire);
        self.pair.a.send(self.pair.now, &mut frames, &mut wire);
        self.pair.wire = wire;
        if protected {
            self.waiting.extend(packets);
        } else {
            assert!(self.pair.wire.len() - before <= self.waiting.len(), "what policy protects left without an SA");
        }
        self.arrive();
    }

    fn packet(&mut self, connection: u8) -> Vec<u8> {
        self.next += 1;
        let mut packet = vec![0; 24 + CANARY.len()];
        let destination = format!("10.0.2.{}", 1 + connection).parse().unwrap();
        Ipv4Repr::new(IpProtocol(253), "10.0.1.1".parse().unwrap(), destination, packet.len() - 20).emit(&mut packet).unwrap();
        packet[20..24].copy_from_slice(&self.next.to_be_bytes());
        packet[24..].copy_from_slice(CANARY);
        packet
    }

    /// B takes what is on the wire: as many of the packets that wait, the oldest first, and those of them that it has an SA for come out as they were.
    fn arrive(&mut self) {
        self.pair.inspect();
        let mut wire = core::mem::take(&mut self.pair.wire);
        let count = wire.len();
        let sent: Vec<_> = self.waiting.drain(..count.min(self.waiting.len())).collect();
        assert_eq!(sent.len(), count, "more on the wire than was sent");
        let mut out = InboundBatch { report: true, ..InboundBatch::default() };
        let running = self.pair.b.adapter_state() == AdapterState::Running;
        let lost = self.pair.b.receive(self.pair.now, &mut wire, &mut out);
        assert!(out.passed.is_empty());
        assert_eq!(lost, if running { 0 } else { count });
        self.lost += lost as u64;
        let has = |packet: &[u8]| self.models[B].sas.contains_key(&(packet[19] - 1, false));
        let expected: Vec<&Vec<u8>> = sent.iter().filter(|packet| running && has(packet)).collect();
        let delivered: Vec<&[u8]> = out.delivered.iter().map(|frame| frame.buffer.as_slice()).collect();
        assert_eq!(delivered.len(), expected.len(), "{:?}", out.verdicts);
        assert!(delivered.iter().zip(&expected).all(|(delivered, expected)| *delivered == expected.as_slice()), "packets are not as they were");
    }

    /// Delivers everything, lets places be taken, and compares with the model.
    fn settle(&mut self) {
        for _ in 0..2 {
            self.pair.now = self.pair.now + Duration::from_millis(1100);
            for _ in 0..3 {
                self.pair.service();
                self.arrive();
            }
        }
        assert!(self.waiting.is_empty() && self.pair.a.backlog() == 0, "packets still wait");
        for side in [A, B] {
            let Model { sas, setting, active } = &self.models[side];
            let foreign = self.foreigners[side].handles.lock().unwrap().len();
            let covered = *active && matches!(setting, IpsecSetting::Esp | IpsecSetting::AhAndEsp);
            let expected = if covered { sas.len().min(CAPACITY - foreign) } else { 0 };
            let host = self.host(side);
            let offloaded = host.transport().sas().iter().filter(|sa| sa.offload == OffloadReason::Offloaded).count();
            assert_eq!(offloaded, expected, "host {side}: {setting:?}, active {active}, {foreign} of another, {:?}", reasons(host));
            let counters = host.nic_counters();
            assert_eq!((counters.sas_added - counters.sas_deleted) as usize, offloaded + foreign, "host {side}: the NIC has others than it is thought to have");
            let info = host.stack().adapter(ADAPTER).unwrap();
            assert_eq!((info.state, info.sas, info.direct_requests), (AdapterState::Running, offloaded + foreign, 0));
            assert_eq!((info.stray_completions, info.claims_cut), (0, 0));
        }
    }

    /// What holds after every step.
    fn look(&self) {
        for side in [A, B] {
            let host = self.host(side);
            let sas = host.transport().sas();
            assert_eq!(sas.len(), self.models[side].sas.len());
            assert_eq!(reasons(host).values().sum::<usize>(), sas.len(), "every SA has one reason");
            assert!(reasons(host).keys().all(|code| Why::CODES.contains(code)));
            let outbound = host.transport().outbound();
            assert_eq!(outbound.seen.packets, outbound.ended() + host.backlog() as u64, "host {side}: {outbound:?}");
            let inbound = host.transport().inbound();
            assert_eq!(inbound.seen.packets, inbound.ended());
            let counters = host.nic_counters();
            assert!(counters.sas_added >= counters.sas_deleted && counters.sas_added - counters.sas_deleted <= CAPACITY as u64);
        }
    }
}

fn reasons(host: &Host) -> BTreeMap<&'static str, usize> {
    let mut reasons = BTreeMap::new();
    for sa in host.transport().sas() {
        *reasons.entry(Why::from(sa.offload).code).or_default() += 1;
    }
    reasons
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    /// OV2-OID-1, OV2-OID-2, OV2-SA-4, OV2-SA-7, OV2-SA-9, OV2-CAP-8, OV2-CAP-9, OV2-CAP-10, OV2-TRANS-2, R-32, R-42.
    #[test]
    fn whatever_happens_the_model_knows_what_comes_of_it(lists in any::<bool>(), steps in prop::collection::vec(step(), 40..120)) {
        let mut world = World::new(if lists { NdisVersion::V6_20 } else { NdisVersion::V6_30 });
        for step in &steps {
            world.take(step);
            world.look();
        }
        world.settle();
        world.look();
    }
}
