//! The offload manager over a miniport of NDIS 6.0 that fails where its script says: IPsecOV1's requests, and deletions that are put off (OV1-2a).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use ipsec::{Authentication, Crypto, Encryption};
use ndis::{
    AdapterAttributes, AdapterKeywords, BindParameters, Binding, DirectOidRequest, Direction, Encapsulation, IpsecOffloadV1, Ipv4Ah, Ipv4Esp, LaneContext,
    MemoryRegistry, Miniport, MiniportDriver, MiniportQueue, NblBatch, NdisVersion, Offload, OffloadHandle, Oid, OidRequest, Outcome, Protocol, RequestId,
    Stack, Status, StatusIndication, Upcalls, V1Filter, V1ParserEntry, V1Request,
};
use packet::{FrameBatch, Medium, Spi, Time};
use sa_table::{Handle, SEED_WORDS, Seed};
use secret::SecretBytes;
use transport::{AssociationParameters, ClearPolicy, Mode, OffloadReason, SaParameters, Transport, TransportConfig, UdpEncapsulation, Why};

const NIC: &str = "nic0";

/// What the miniport has, and what it fails.
#[derive(Default)]
struct State {
    fail_adds: Option<Status>,
    fail_deletes: Option<Status>,
    /// Says that it added, and does not say what.
    forgets_handles: bool,
    /// SAs, with the entries of those in UDP.
    sas: BTreeMap<u64, Option<u64>>,
    entries: BTreeMap<u64, V1ParserEntry>,
    filters: Vec<V1Filter>,
    given: u64,
    /// Entries of SAs whose deletion failed.
    failed_for: Vec<u64>,
    /// Deletions of what was not there.
    unknown: usize,
    /// Requests, in short.
    seen: Vec<&'static str>,
    up: Vec<StatusIndication>,
}

#[derive(Clone, Default)]
struct Card(Arc<Mutex<State>>);

impl Card {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn seen(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.state().seen)
    }

    fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.sas.len(), state.entries.len())
    }
}

fn hardware() -> Offload {
    Offload {
        ipsec_v1: IpsecOffloadV1 {
            encapsulation: Encapsulation::NULL,
            flags: 0xf0,
            ipv4_ah: Ipv4Ah { md5: true, sha_1: true, transport: true, tunnel: true, send: true, receive: true },
            ipv4_esp: Ipv4Esp { des: true, triple_des: true, null_esp: true, transport: true, tunnel: true, send: true, receive: true },
            ..IpsecOffloadV1::default()
        },
        ..Offload::default()
    }
}

impl MiniportDriver for Card {
    fn initialize(&self, keywords: &AdapterKeywords) -> Result<(Box<dyn Miniport>, AdapterAttributes), Status> {
        let attributes = AdapterAttributes {
            version: NdisVersion::V6_0,
            medium: Medium::Ip,
            mtu: 1500,
            hardware_capabilities: hardware(),
            default_configuration: hardware().configured(keywords),
            direct_requests: false,
            deviates_without_tunnel: false,
        };
        Ok((Box::new(self.clone()), attributes))
    }
}

impl Miniport for Card {
    fn open_queue(&self) -> Box<dyn MiniportQueue> {
        Box::new(self.clone())
    }

    fn oid_request(&self, request: &mut OidRequest, up: &mut Upcalls) -> Status {
        let mut state = self.state();
        let State { fail_adds, fail_deletes, forgets_handles, sas, entries, filters, given, failed_for, unknown, seen, .. } = &mut *state;
        let mut next = || {
            *given += 1;
            *given
        };
        match &mut request.body {
            Oid::SetEncapsulation(_) => {
                up.indications.push(StatusIndication::TaskOffloadCurrentConfig(Box::new(hardware())));
                Status::SUCCESS
            }
            Oid::IpsecV1(V1Request::AddSa { sa, handle }) => {
                seen.push("add");
                if let Some(status) = *fail_adds {
                    return status;
                }
                let bits = next();
                sas.insert(bits, None);
                filters.push(sa.filter);
                *handle = OffloadHandle::from_bits(bits).filter(|_| !*forgets_handles);
                Status::SUCCESS
            }
            Oid::IpsecV1(V1Request::AddUdpEspSa { sa, entry, entry_handle, handle }) => {
                seen.push(if entry_handle.is_some() { "add udp, entry" } else { "add udp" });
                let what = entry.of(sa.direction);
                if let Some(asked) = entry_handle {
                    assert_eq!(entries.get(&asked.to_bits()), Some(&what), "an entry that is there");
                }
                if let Some(status) = *fail_adds {
                    return status;
                }
                let equal = entries.iter().find(|(_, there)| **there == what).map(|(bits, _)| *bits);
                let used = entry_handle.map(OffloadHandle::to_bits).or(equal).unwrap_or_else(&mut next);
                entries.insert(used, what);
                let bits = next();
                sas.insert(bits, Some(used));
                (*handle, *entry_handle) = (OffloadHandle::from_bits(bits), OffloadHandle::from_bits(used));
                Status::SUCCESS
            }
            Oid::IpsecV1(V1Request::DeleteSa(bits)) => {
                seen.push("delete");
                if let Some(status) = *fail_deletes {
                    return status;
                }
                let Some(entry) = sas.remove(bits) else {
                    *unknown += 1;
                    return Status::INVALID_PARAMETER;
                };
                assert_eq!(entry, None, "not in UDP");
                Status::SUCCESS
            }
            Oid::IpsecV1(V1Request::DeleteUdpEspSa { handle, entry_handle }) => {
                seen.push(if entry_handle.is_some() { "delete udp, entry" } else { "delete udp" });
                if let Some(status) = *fail_deletes {
                    failed_for.extend(sas.get(handle).copied().flatten());
                    return status;
                }
                let Some(entry) = sas.remove(handle) else {
                    *unknown += 1;
                    return Status::INVALID_PARAMETER;
                };
                let entry = entry.expect("in UDP");
                if let Some(named) = entry_handle {
                    assert_eq!(named.to_bits(), entry);
                    // What is left under it is marked: its deletion has failed before.
                    assert!(failed_for.contains(&entry) || sas.values().all(|other| *other != Some(entry)), "an entry that others need");
                    entries.remove(&entry);
                }
                Status::SUCCESS
            }
            other => panic!("{other:?}"),
        }
    }

    fn direct_oid_request(&self, request: DirectOidRequest) -> Outcome {
        panic!("an adapter of NDIS 6.0 has no direct path: {request:?}")
    }

    fn cancel_direct_oid_request(&self, _id: RequestId) {}

    fn reset(&self, up: &mut Upcalls) {
        let mut state = self.state();
        state.sas.clear();
        state.entries.clear();
        up.indications.push(StatusIndication::ResetEnd);
    }

    fn halt(&self, _up: &mut Upcalls) {
        let mut state = self.state();
        state.sas.clear();
        state.entries.clear();
    }

    fn poll_control(&self, up: &mut Upcalls) {
        up.indications.append(&mut self.state().up);
    }
}

impl MiniportQueue for Card {
    fn send(&mut self, _lane: &mut LaneContext<'_>, batch: &mut NblBatch, done: &mut NblBatch, _wire: &mut FrameBatch) {
        done.append(batch);
    }

    fn receive(&mut self, _lane: &mut LaneContext<'_>, frames: &mut FrameBatch, _up: &mut NblBatch) {
        frames.clear();
    }

    fn poll(&mut self, _lane: &mut LaneContext<'_>, _done: &mut NblBatch, _wire: &mut FrameBatch) {}
}

/// A protocol that does nothing but ask.
#[derive(Default)]
struct Outsider(Mutex<Option<Binding>>);

impl Protocol for Outsider {
    fn bind(&self, _parameters: BindParameters, binding: Binding) {
        *self.0.lock().unwrap() = Some(binding);
    }

    fn unbind(&self) {}

    fn status(&self, _indication: StatusIndication) {}

    fn direct_oid_complete(&self, _status: Status, _request: DirectOidRequest) {}
}

fn new_transport() -> Transport {
    let config = TransportConfig { medium: Medium::Ip, capacity: 64, seed: Seed::new([7; SEED_WORDS]), clear: ClearPolicy::Decide };
    Transport::new(config, Crypto::default()).unwrap()
}

struct Bench {
    card: Card,
    stack: Stack,
    transport: Transport,
    spi: u32,
}

impl Bench {
    fn new() -> Self {
        let card = Card::default();
        let transport = new_transport();
        let stack = Stack::new(Arc::new(MemoryRegistry::new()));
        stack.add_adapter(NIC, Arc::new(card.clone())).unwrap();
        stack.bind(Arc::new(transport.clone()), NIC).unwrap();
        stack.pump();
        Self { card, stack, transport, spi: 0x1000 }
    }

    fn add(&mut self, direction: Direction, port: Option<u16>) -> Handle {
        self.spi += 1;
        let association = AssociationParameters {
            authentication: Authentication::HmacSha1,
            authentication_key: SecretBytes::from(vec![2; 20]),
            ..AssociationParameters::esp(Spi(self.spi), Encryption::DesCbc, SecretBytes::from(vec![1; 8]))
        };
        let ends = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let parameters = SaParameters {
            udp_encapsulation: port.map(|port| UdpEncapsulation { source_port: 4500, destination_port: port }),
            ..SaParameters::new(format!("sa-{:#x}", self.spi), direction, Mode::Tunnel, ends, vec![association])
        };
        self.transport.add_sa(parameters, Time::ZERO).unwrap()
    }

    fn reason(&self, sa: Handle) -> OffloadReason {
        self.transport.sa(sa).unwrap().offload
    }

    /// A second passes.
    fn tick(&self) {
        self.stack.pump();
        self.transport.tick(Time::ZERO);
    }
}

/// OV1-2, OV2-CAP-0: an adapter of NDIS 6.0 gets standard requests, one an SA, and no direct ones.
#[test]
fn sas_go_on_the_standard_path() {
    let mut bench = Bench::new();
    let plain = bench.add(Direction::Outbound, None);
    assert_eq!((bench.reason(plain), bench.card.seen()), (OffloadReason::Offloaded, vec!["add"]));
    assert_eq!(bench.card.state().filters, [V1Filter::ANY]);
    assert!(bench.transport.remove_sa(plain));
    assert_eq!((bench.card.counts(), bench.card.seen()), ((0, 0), vec!["delete"]));
    assert_eq!((bench.transport.offload_counts().added, bench.transport.offload_counts().deleted), (1, 1));
}

/// OV1-2a: entries are made, reused by handle, and go with the last SA; other ports have others, and outbound SAs share one whatever their ports.
#[test]
fn parser_entries_are_counted() {
    let mut bench = Bench::new();
    let inbound: Vec<_> = [4500, 4500, 4501].map(|port| bench.add(Direction::Inbound, Some(port))).into();
    assert_eq!(bench.card.seen(), ["add udp", "add udp, entry", "add udp"]);
    let outbound: Vec<_> = [4500, 4501].map(|port| bench.add(Direction::Outbound, Some(port))).into();
    assert_eq!(bench.card.seen(), ["add udp", "add udp, entry"]);
    assert_eq!(bench.card.counts(), (5, 3));
    for (sa, seen, left) in [
        (inbound[0], "delete udp", 3),
        (inbound[1], "delete udp, entry", 2),
        (outbound[1], "delete udp", 2),
        (outbound[0], "delete udp, entry", 1),
        (inbound[2], "delete udp, entry", 0),
    ] {
        assert!(bench.transport.remove_sa(sa));
        assert_eq!((bench.card.seen(), bench.card.counts().1), (vec![seen], left));
    }
    assert_eq!(bench.card.state().unknown, 0);
}

/// OV1-2a: a failed add leaves neither, is said why, and an entry that it would have reused counts as before.
#[test]
fn a_failed_add_is_uncounted() {
    let mut bench = Bench::new();
    let first = bench.add(Direction::Inbound, Some(4500));
    bench.card.state().fail_adds = Some(Status::RESOURCES);
    let second = bench.add(Direction::Inbound, Some(4500));
    assert_eq!(bench.reason(second), OffloadReason::Capacity);
    bench.card.state().fail_adds = Some(Status::NOT_SUPPORTED);
    bench.tick();
    assert_eq!(Why::from(bench.reason(second)).code, "configuration-race");
    bench.card.seen();
    // Still the last: the entry goes with it.
    assert!(bench.transport.remove_sa(first));
    assert_eq!((bench.card.seen(), bench.card.counts()), (vec!["delete udp, entry"], (0, 0)));
    // A miniport that does not say what it added has not added it.
    bench.card.state().fail_adds = None;
    bench.card.state().forgets_handles = true;
    let odd = bench.add(Direction::Outbound, None);
    assert_eq!(bench.reason(odd), OffloadReason::Refused(Status::FAILURE));
}

/// OV1-2a: a deletion that fails is done later; until then SA and entry are marked: the entry is not asked for, and the SA takes its place.
#[test]
fn a_failed_deletion_is_done_later() {
    let mut bench = Bench::new();
    let first = bench.add(Direction::Inbound, Some(4500));
    bench.card.state().fail_deletes = Some(Status::FAILURE);
    bench.card.seen();
    assert!(bench.transport.remove_sa(first));
    bench.tick();
    assert_eq!((bench.card.seen(), bench.card.counts()), (vec!["delete udp, entry"; 2], (1, 1)));
    // A marked entry is not asked for. The NIC finds it equal: then it stays, and only the old SA goes.
    let second = bench.add(Direction::Inbound, Some(4500));
    assert_eq!(bench.card.seen(), ["delete udp, entry", "add udp"]);
    assert_eq!((bench.reason(second), bench.card.counts()), (OffloadReason::Offloaded, (2, 1)));
    bench.card.state().fail_deletes = None;
    bench.tick();
    assert_eq!((bench.card.seen(), bench.card.counts()), (vec!["delete udp"], (1, 1)));
    assert!(bench.transport.remove_sa(second));
    assert_eq!((bench.card.seen(), bench.card.counts()), (vec!["delete udp, entry"], (0, 0)));
    bench.tick();
    assert!(bench.card.seen().is_empty() && bench.card.state().unknown == 0);
}

/// OV1-2a with two SAs: whichever deletion fails, in the end nothing is left, and no entry goes while an SA needs it that is not itself to go (the card sees to that).
#[test]
fn failures_in_any_order_leave_nothing_behind() {
    for failing in 0..8_u8 {
        let mut bench = Bench::new();
        let sas: Vec<_> = (0..3).map(|_| bench.add(Direction::Inbound, Some(4500))).collect();
        for (number, sa) in sas.into_iter().enumerate() {
            bench.card.state().fail_deletes = (failing >> number & 1 != 0).then_some(Status::RESOURCES);
            assert!(bench.transport.remove_sa(sa));
        }
        bench.card.state().fail_deletes = None;
        bench.tick();
        assert_eq!((bench.card.counts(), bench.card.state().unknown), ((0, 0), 0), "{failing:03b}");
    }
}

/// OV2-OID-2 for version 1: a reset empties the card; what was put off is forgotten with it, and what is wanted is added anew, with an entry of its own.
#[test]
fn after_a_reset_all_is_added_anew() {
    let mut bench = Bench::new();
    let [gone, stays] = [(); 2].map(|()| bench.add(Direction::Inbound, Some(4500)));
    bench.card.state().fail_deletes = Some(Status::FAILURE);
    assert!(bench.transport.remove_sa(gone));
    bench.card.seen();
    bench.stack.reset_adapter(NIC).unwrap();
    bench.card.state().fail_deletes = None;
    bench.tick();
    assert_eq!((bench.reason(stays), bench.card.counts()), (OffloadReason::Offloaded, (1, 1)));
    // (What the transport deletes when it hears of the reset is refused, or does no harm.)
    assert_eq!(bench.card.seen().into_iter().filter(|what| what.starts_with("add")).collect::<Vec<_>>(), ["add udp"]);
    bench.tick();
    assert!(bench.card.seen().is_empty());
}

/// R-42 for version 1: a protocol cannot delete the SAs of another; what it leaves behind goes when it is unbound, and a parser entry that others need stays.
#[test]
fn r_42_sas_of_version_1_belong_to_who_added_them() {
    let mut bench = Bench::new();
    let mut protocols: Vec<Arc<dyn Protocol>> = Vec::new();
    for _ in 0..2 {
        bench.transport = new_transport();
        protocols.push(Arc::new(bench.transport.clone()));
        bench.stack.bind(protocols.last().unwrap().clone(), NIC).unwrap();
        bench.stack.pump();
        bench.add(Direction::Inbound, Some(4500));
    }
    assert_eq!(bench.card.counts(), (2, 1));
    let outsider = Arc::new(Outsider::default());
    bench.stack.bind(outsider.clone(), NIC).unwrap();
    bench.stack.pump();
    bench.card.seen();
    let binding = outsider.0.lock().unwrap().clone().unwrap();
    let handles: Vec<u64> = bench.card.state().sas.keys().copied().collect();
    for handle in handles {
        for request in [V1Request::DeleteSa(handle), V1Request::DeleteUdpEspSa { handle, entry_handle: None }] {
            assert_eq!(binding.oid_request(Oid::IpsecV1(request)).0, Status::INVALID_PARAMETER);
        }
    }
    assert_eq!((bench.card.counts(), bench.card.seen()), ((2, 1), vec![]));
    for (protocol, left) in protocols.iter().zip([(1, 1), (0, 0)]) {
        bench.stack.unbind(protocol, NIC).unwrap();
        bench.stack.pump();
        assert_eq!((bench.card.counts(), bench.card.state().unknown), (left, 0));
    }
    assert_eq!(bench.card.seen(), ["delete udp", "delete udp, entry"]);
}
