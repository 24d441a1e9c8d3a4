//! The tracer shows what passes, changes nothing, and shows no key.

use std::sync::Arc;

use ndis::{
    DirectAnswer, DirectOid, Encapsulation, Filter, HeaderTransmit, IpsecReceive, IpsecSetting, LaneContext, NblBatch, OffloadEncapsulation, OffloadHandle,
    OffloadParameters, SetEncapsulation, Status, TraceEvent, TraceLines, TraceLog, TracePackets, TraceSink, TracedDirectOid, Tracer,
};
use packet::{BufferPool, FrameBatch, Time};

use super::double::{Direct, Fixture, KEY, NIC, add_sa, frames, lists};

fn traced(packets: TracePackets) -> (Fixture, Arc<TraceLog>) {
    let fixture = Fixture::new();
    let log = Arc::new(TraceLog::new());
    let tracer = Tracer::new(Arc::clone(&log) as _).with_packets(packets);
    fixture.stack.attach_filter(NIC, Arc::new(tracer)).unwrap();
    (fixture, log)
}

#[test]
fn requests_and_statuses_read_as_lines() {
    let (fixture, log) = traced(TracePackets::None);
    let binding = fixture.transport.binding();
    binding.query_current_config().unwrap();
    binding.set_parameters(OffloadParameters::ipsec_v2_setting(IpsecSetting::Esp));
    let ipv4 = SetEncapsulation::On { encapsulation: Encapsulation::IEEE_802_3, header_size: 14 };
    binding.set_encapsulation(OffloadEncapsulation { ipv4, ipv6: SetEncapsulation::Off });
    fixture.stack.pump();
    fixture.direct(Direct::NextPoll);
    binding.direct_oid_request(add_sa());
    fixture.stack.pump();
    fixture.stack.reset_adapter(NIC).unwrap();
    fixture.stack.pump();
    fixture.stack.detach_filter(NIC, "tracer").unwrap();

    let everything = "IPsecOV2 (AH ESP AH+ESP transport tunnel IPv6 ESN authentication SHA_1 encryption AES_GCM_128 | AES_GCM_256 capacity 100)";
    let esp = "IPsecOV2 (ESP transport tunnel IPv6 ESN authentication SHA_1 encryption AES_GCM_128 | AES_GCM_256 capacity 100)";
    let sa = "outbound 192.0.2.1 > 192.0.2.2, ESP SPI 0x00001001 AesGcm(Aes128) (20-byte key, additional info 16) ESN, high-order part 7";
    let expected = [
        format!("attached to nic0: {everything}"),
        "request # down: query TCP_OFFLOAD_CURRENT_CONFIG".to_owned(),
        format!("request # up: query TCP_OFFLOAD_CURRENT_CONFIG = {everything}: SUCCESS"),
        "request # down: set TCP_OFFLOAD_PARAMETERS *IPsecOffloadV2=2 *IPsecOffloadV2IPv4=2".to_owned(),
        "request # up: set TCP_OFFLOAD_PARAMETERS *IPsecOffloadV2=2 *IPsecOffloadV2IPv4=2: SUCCESS".to_owned(),
        "request # down: set OFFLOAD_ENCAPSULATION IPv4 on (IEEE_802_3, 14-byte header), IPv6 off".to_owned(),
        "request # up: set OFFLOAD_ENCAPSULATION IPv4 on (IEEE_802_3, 14-byte header), IPv6 off: SUCCESS".to_owned(),
        format!("status TASK_OFFLOAD_CURRENT_CONFIG: {esp}"),
        format!("status TASK_OFFLOAD_CURRENT_CONFIG: {esp}"),
        format!("direct request # down: ADD_SA_EX {sa}"),
        format!("direct request # up: ADD_SA_EX {sa} -> 0x1 (SUCCESS): SUCCESS"),
        "status RESET_START".to_owned(),
        "status RESET_END".to_owned(),
        "detached from nic0".to_owned(),
    ];
    let lines: Vec<_> = log.take().iter().map(|event| without_id(&event.to_string())).collect();
    assert_eq!(lines, expected);
}

/// Request ids depend on what went before.
fn without_id(line: &str) -> String {
    match line.split_once("request ") {
        Some((before, after)) => format!("{before}request #{}", after.trim_start_matches(|c: char| c.is_ascii_digit())),
        None => line.to_owned(),
    }
}

/// Runs every kind of request with a key through a tracer, and looks for the key in everything that it says.
#[test]
fn no_byte_of_a_key_is_shown() {
    let (fixture, log) = traced(TracePackets::All);
    let lines = Arc::new(TraceLines::new(Vec::new()));
    let second = Tracer::new(Arc::clone(&lines) as Arc<dyn TraceSink>);
    fixture.stack.attach_filter(NIC, Arc::new(second)).unwrap();
    let binding = fixture.transport.binding();
    let entry = || match add_sa() {
        DirectOid::AddSaEx(entry) => *entry,
        _ => unreachable!(),
    };
    for how in [Direct::AtOnce, Direct::NextPoll, Direct::Keep] {
        fixture.direct(how);
        for body in [add_sa(), DirectOid::AddSa(vec![entry(), entry()])] {
            let answer = binding.direct_oid_request(body);
            assert!(!matches!(answer, DirectAnswer::Done(status, _) if !status.is_success()));
        }
        fixture.stack.pump();
    }
    fixture.stack.remove_adapter(NIC).unwrap();

    let events = log.take();
    let adds = events.iter().filter(|event| matches!(event, TraceEvent::DirectRequest { oid: TracedDirectOid::AddSaEx(_), .. })).count();
    assert_eq!(adds, 3, "there was something to show");
    let mut shown: Vec<_> = events.iter().flat_map(|event| [event.to_string(), format!("{event:?}")]).collect();
    fixture.stack.pump();
    drop(fixture);
    let lines = Arc::into_inner(lines).expect("the tracer is gone");
    assert_eq!(lines.lost(), 0);
    shown.push(String::from_utf8(lines.into_inner()).unwrap());
    let shown = shown.join("\n");
    assert!(shown.contains("20-byte key"));
    let (hex, decimal) = (format!("{:02x}", KEY[0]), KEY[0].to_string());
    for canary in [hex.as_str(), &hex.to_uppercase(), &decimal] {
        assert!(!shown.contains(canary), "{canary:?} is in the trace");
    }
}

/// A sender of packets through a stack with a tracer.
fn run(fixture: &Fixture, sends: NblBatch, receives: FrameBatch) -> (NblBatch, NblBatch) {
    let mut datapath = fixture.stack.open_datapath(NIC).unwrap();
    let mut pool = BufferPool::new();
    let mut context = LaneContext { now: Time::from_nanos(1_500_000_000), pool: &mut pool };
    let (mut done, mut wire, mut up) = (NblBatch::new(), FrameBatch::new(), NblBatch::new());
    let (mut sends, mut receives) = (sends, receives);
    datapath.send(&mut context, &mut sends, &mut done, &mut wire);
    datapath.receive(&mut context, &mut receives, &mut up);
    (done, up)
}

#[test]
fn packets_are_shown_up_to_the_limit_and_pass_unchanged() {
    let (fixture, log) = traced(TracePackets::First(2));
    log.take();
    let mut sends = lists(0..3);
    sends[1].oob.set_offload_handle(OffloadHandle::from_bits(0x21));
    sends[1].oob.set_tunnel_handle(OffloadHandle::from_bits(0x22));
    sends[1].oob.set_header_transmit(HeaderTransmit { next_header: 6, pad_length: 2, ah_header_offset: 0, esp_header_offset: 5 });
    sends[1].oob.ieee8021q = 0x64;
    let (done, up) = run(&fixture, sends, frames(0..3));
    assert_eq!(done.iter().map(|list| (list.tag, list.status)).collect::<Vec<_>>(), [0, 1, 2].map(|tag| (tag, Status::SUCCESS)));
    assert_eq!(up.iter().map(|list| list.tag).collect::<Vec<_>>(), [0, 1, 2]);
    let lines: Vec<_> = log.take().iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "send [1.500000000] 60 bytes, no IPsec offload",
            "send [1.500000000] 60 bytes, handle 0x21, tunnel handle 0x22, next header 6, pad length 2, ESP at 20, 802.1Q 0x64",
            "sent [1.500000000] 0 bytes: SUCCESS",
            "sent [1.500000000] 0 bytes: SUCCESS",
            "receive [1.500000000] 60 bytes, no crypto done",
            "receive [1.500000000] 60 bytes, no crypto done",
        ]
    );
    run(&fixture, lists(0..3), frames(0..3));
    assert!(log.take().is_empty(), "the limit holds for all lanes together");
}

#[test]
fn a_received_packet_shows_the_verdict() {
    let mut list = lists(3..4).remove(0);
    list.more.push(packet::Buffer::copy_from(&[0; 4]));
    list.oob.set_ipsec_receive(IpsecReceive {
        sa_delete_request: true,
        crypto_done: true,
        next_crypto_done: true,
        crypto_status: ndis::CryptoStatus::TunnelEspAuthFailed,
    });
    list.oob.set_header_receive(Some(ndis::HeaderReceive { next_header: 17, pad_length: 0 }));
    let log = Arc::new(TraceLog::new());
    let tracer = Tracer::new(Arc::clone(&log) as _).with_packets(TracePackets::All);
    let mut queue = tracer.open_queue().unwrap();
    let mut pool = BufferPool::new();
    let oob = list.oob;
    let mut up = vec![list];
    queue.receive(&mut LaneContext { now: Time::ZERO, pool: &mut pool }, &mut up);
    assert_eq!(up[0].oob, oob);
    assert_eq!(
        log.take()[0].to_string(),
        "receive [0.000000000] 64 bytes in 2 buffers, crypto done, next crypto done, TUNNEL_ESP_AUTH_FAILED, next header 17, pad length 0, asks to delete the SA"
    );
}

#[test]
fn a_tracer_of_requests_is_not_on_the_packets_way() {
    assert!(Tracer::new(Arc::new(TraceLog::new())).open_queue().is_none());
    let (fixture, log) = traced(TracePackets::None);
    log.take();
    run(&fixture, lists(0..3), frames(0..3));
    assert!(log.take().is_empty());
}

#[test]
fn a_sink_that_cannot_write_disturbs_nobody() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _bytes: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Arc::new(TraceLines::new(Full));
    let fixture = Fixture::new();
    fixture.stack.attach_filter(NIC, Arc::new(Tracer::new(Arc::clone(&lines) as _))).unwrap();
    assert!(fixture.transport.binding().query_current_config().is_ok());
    assert_eq!(lines.lost(), 3);
}
