//! The software NIC in a real stack: what protocols above it are told and get, through restart, reset and removal.

mod common;
#[path = "common/upper.rs"]
mod upper;

use std::sync::Arc;

use common::{ON, Sa, Shape};
use ndis::{
    CryptoStatus, Datapath, DirectAnswer, DirectOid, Direction, IpsecOffloadV2, IpsecSetting, Keyword, LaneContext, MemoryRegistry, NblBatch, NetBufferList,
    OffloadEncapsulation, OffloadParameters, Stack, Status, StatusIndication,
};
use nic::{NicDriver, NicParameters, SoftwareEngine};
use packet::{Buffer, BufferPool, Frame, FrameBatch, Medium, Time};
use upper::Upper;

struct Host {
    stack: Stack,
    upper: Arc<Upper>,
    driver: Arc<NicDriver<SoftwareEngine>>,
    registry: Arc<MemoryRegistry>,
    path: Datapath,
    pool: BufferPool,
}

fn host() -> Host {
    let registry = Arc::new(MemoryRegistry::new());
    let stack = Stack::new(registry.clone());
    let driver = Arc::new(NicDriver::new(NicParameters { medium: Medium::Ip, ..NicParameters::new("nic") }, common::software));
    stack.add_adapter("nic", driver.clone()).unwrap();
    let upper = Arc::new(Upper::default());
    stack.bind(upper.clone(), "nic").unwrap();
    let path = stack.open_datapath("nic").unwrap();
    Host { stack, upper, driver, registry, path, pool: BufferPool::new() }
}

impl Host {
    fn activate(&self) {
        assert_eq!(self.upper.binding().set_encapsulation(OffloadEncapsulation { ipv4: ON, ipv6: ON }), Status::SUCCESS);
        self.stack.pump();
    }

    fn send(&mut self, list: NetBufferList) -> (Status, FrameBatch) {
        let (mut done, mut wire) = (NblBatch::new(), FrameBatch::new());
        self.path.send(&mut LaneContext { now: Time::ZERO, pool: &mut self.pool }, &mut vec![list], &mut done, &mut wire);
        assert_eq!(done.len(), 1);
        (done[0].status, wire)
    }

    fn receive(&mut self, wire: &[u8]) -> NblBatch {
        let mut up = NblBatch::new();
        let mut frames = vec![Frame::new(Buffer::copy_from(wire))];
        self.path.receive(&mut LaneContext { now: Time::ZERO, pool: &mut self.pool }, &mut frames, &mut up);
        up
    }
}

#[test]
fn a_packet_goes_from_one_host_to_another() {
    let (mut a, mut b) = (host(), host());
    assert!(a.upper.reported().esp && a.upper.reported().tunnel && a.upper.reported().ah);
    b.activate();
    assert_eq!(b.upper.told().len(), 1, "the current configuration");
    let sa = Sa::new(0x1001);
    let outbound = a.upper.add(&sa, Direction::Outbound);
    b.upper.add(&sa, Direction::Inbound);
    let packet = sa.unsealed(Shape::BARE, 1, b"from host to host");
    let (status, wire) = a.send(packet.list(Some(outbound)));
    assert_eq!((status, wire.len()), (Status::SUCCESS, 1));
    let up = b.receive(wire[0].buffer.as_slice());
    assert_eq!((up[0].oob.ipsec_receive().crypto_done, up[0].oob.ipsec_receive().crypto_status), (true, CryptoStatus::Success));
    assert_eq!(up[0].buffer.as_slice()[36..53], *b"from host to host");
}

#[test]
fn parameters_change_what_is_done_and_survive_a_restart() {
    let mut host = host();
    host.activate();
    let sa = Sa::new(0x1001);
    let handle = host.upper.add(&sa, Direction::Outbound);
    let packet = sa.unsealed(Shape::BARE, 1, b"payload");
    assert_eq!(host.send(packet.list(Some(handle))).0, Status::SUCCESS);
    host.upper.told();

    assert_eq!(host.upper.binding().set_parameters(OffloadParameters::ipsec_v2_setting(IpsecSetting::Disabled)), Status::SUCCESS);
    host.stack.pump();
    let [StatusIndication::TaskOffloadCurrentConfig(current)] = &host.upper.told()[..] else { panic!() };
    assert_eq!(current.ipsec_v2, IpsecOffloadV2::default());
    assert_eq!(host.send(packet.list(Some(handle))).0, Status::FAILURE);

    host.stack.restart_adapter("nic").unwrap();
    assert_eq!(host.upper.reported(), IpsecOffloadV2::default(), "the keyword was written");
    host.registry.set_text("nic", Keyword::IpsecV2, "2");
    host.stack.restart_adapter("nic").unwrap();
    assert!(host.upper.reported().esp);
    assert_eq!(host.send(packet.list(Some(handle))).0, Status::FAILURE, "a fresh engine does not know the handle");
    assert_eq!(host.send(packet.list(None)).0, Status::SUCCESS);
    let handle = host.upper.add(&sa, Direction::Outbound);
    assert_eq!(host.send(packet.list(Some(handle))).0, Status::SUCCESS);
    assert_eq!(host.driver.counters().sends(), 5);
}

#[test]
fn a_reset_empties_the_table_and_says_so() {
    let mut host = host();
    host.activate();
    let sa = Sa::new(0x1001);
    let (inbound, outbound) = (host.upper.add(&sa, Direction::Inbound), host.upper.add(&sa, Direction::Outbound));
    host.upper.told();
    host.stack.reset_adapter("nic").unwrap();
    host.stack.pump();
    assert_eq!(host.upper.told(), [StatusIndication::ResetStart, StatusIndication::ResetEnd]);
    let packet = sa.unsealed(Shape::BARE, 1, b"payload");
    assert_eq!(host.send(packet.list(Some(outbound))).0, Status::FAILURE);
    assert!(!host.receive(&sa.sealed(&packet, 1))[0].oob.ipsec_receive().crypto_done);
    assert_ne!(host.upper.add(&sa, Direction::Inbound), inbound);
    assert!(host.receive(&sa.sealed(&packet, 1))[0].oob.ipsec_receive().crypto_done);
}

#[test]
fn removal_deletes_everything() {
    for surprise in [false, true] {
        let mut host = host();
        host.activate();
        let sa = Sa::new(0x1001);
        let handle = host.upper.add(&sa, Direction::Outbound);
        let binding = host.upper.binding();
        if surprise { host.stack.surprise_remove("nic") } else { host.stack.remove_adapter("nic") }.unwrap();
        let packet = sa.unsealed(Shape::BARE, 1, b"payload");
        assert_eq!(host.send(packet.list(Some(handle))).0, Status::ADAPTER_REMOVED);
        assert!(host.receive(&packet.bytes).is_empty());
        assert!(matches!(binding.direct_oid_request(DirectOid::DeleteSa(vec![handle.to_bits()])), DirectAnswer::Done(Status::NOT_ACCEPTED, _)));
        assert_eq!(host.driver.counters().sas_deleted, 1);
    }
}
