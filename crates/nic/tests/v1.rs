//! IPsecOV1 on an NDIS 6.0 adapter over the same NIC: standard requests, masks, protocol and port filters, the UDP-ESP parser, out-of-band data (OV1-1 to
//! OV1-4, OV2-CAP-0).

mod common;
#[path = "common/kinds.rs"]
mod kinds;

use core::net::{IpAddr, Ipv4Addr};

use common::{Link, Nic};
use kinds::{Built, GCM, Kind, NULL, SHA1, SHA256};
use ndis::{
    AuthenticationAlgorithm, CryptoStatus, DirectOid, Direction, EncryptionAlgorithm, IpsecOffloadV1, IpsecReceive, IpsecSetting, MaskedAddress, Miniport,
    NdisVersion, NetBufferList, Offload, OffloadHandle, OffloadParameters, Oid, SaMode, SetEncapsulation, Status, StatusIndication, V1EncapsulationType,
    V1Filter, V1ParserEntry, V1Request, V1Sa, V1Tunnel,
};
use nic::{NicParameters, SoftwareEngine, software_capabilities};
use packet::{IpProtocol, Ipv4Repr};

const IN: Direction = Direction::Inbound;
const OUT: Direction = Direction::Outbound;
const DES: EncryptionAlgorithm = EncryptionAlgorithm::DesCbc;
const TRIPLE_DES: EncryptionAlgorithm = EncryptionAlgorithm::TripleDesCbc;
const MD5: AuthenticationAlgorithm = AuthenticationAlgorithm::HmacMd5;
const ENTRY: V1ParserEntry = V1ParserEntry { kind: V1EncapsulationType::Other, destination_port: 4500 };
const UDP: u8 = 17;

type Change = fn(&mut IpsecOffloadV1);

fn capabilities(change: impl FnOnce(&mut IpsecOffloadV1)) -> Offload {
    let mut v1 = software_capabilities(8).ipsec_v1;
    change(&mut v1);
    Offload { ipsec_v1: v1, ..Offload::default() }
}

fn adapter(hardware: Offload) -> Nic {
    let parameters = NicParameters { medium: Link::Bare.medium(), version: NdisVersion::V6_0, ..NicParameters::new("test") };
    let mut nic = Nic::with(parameters, move || SoftwareEngine::with_hardware(ipsec::Crypto::default(), &hardware).unwrap());
    nic.activate_null();
    nic
}

fn nic() -> Nic {
    adapter(capabilities(|_| {}))
}

fn v4(address: IpAddr) -> Ipv4Addr {
    let IpAddr::V4(address) = address else { panic!("{address}") };
    address
}

/// The SA of a kind: for its own addresses in transport mode, for everything between its addresses in tunnel mode.
fn sa(kind: &Kind, direction: Direction, mode: SaMode) -> V1Sa {
    let bundle = kind.bundle(direction);
    let (source, destination) = kind.addresses();
    let (source, destination) = (v4(source), v4(destination));
    let own = V1Filter { source: MaskedAddress::single(source), destination: MaskedAddress::single(destination), ..V1Filter::ANY };
    let (filter, tunnel) = match mode {
        SaMode::Transport => (own, None),
        SaMode::Tunnel => (V1Filter::ANY, Some(V1Tunnel { source, destination })),
    };
    V1Sa { direction, filter, tunnel, associations: bundle.associations, extension: bundle.extension }
}

fn request(nic: &mut Nic, request: V1Request) -> (Status, V1Request) {
    let mut request = ndis::OidRequest { id: ndis::RequestId(0), body: Oid::IpsecV1(request) };
    let status = nic.miniport.oid_request(&mut request, &mut nic.up);
    let Oid::IpsecV1(answer) = request.body else { panic!("{request:?}") };
    (status, answer)
}

fn add(nic: &mut Nic, sa: V1Sa) -> Result<OffloadHandle, Status> {
    let (status, V1Request::AddSa { handle, .. }) = request(nic, V1Request::AddSa { sa: Box::new(sa), handle: None }) else { panic!("ADD_SA") };
    assert_eq!(handle.is_some(), status.is_success());
    handle.ok_or(status)
}

/// Handles of SA and entry.
fn add_udp(nic: &mut Nic, sa: V1Sa, entry: V1ParserEntry, asked: Option<OffloadHandle>) -> Result<(OffloadHandle, OffloadHandle), Status> {
    let body = V1Request::AddUdpEspSa { sa: Box::new(sa), entry, entry_handle: asked, handle: None };
    let (status, V1Request::AddUdpEspSa { handle, entry_handle, .. }) = request(nic, body) else { panic!("ADD_UDPESP_SA") };
    if !status.is_success() {
        assert_eq!((handle, entry_handle), (None, asked));
        return Err(status);
    }
    Ok((handle.unwrap(), entry_handle.unwrap()))
}

fn delete(nic: &mut Nic, handle: OffloadHandle) -> Status {
    request(nic, V1Request::DeleteSa(handle.to_bits())).0
}

fn delete_udp(nic: &mut Nic, handle: OffloadHandle, entry_handle: Option<OffloadHandle>) -> Status {
    request(nic, V1Request::DeleteUdpEspSa { handle: handle.to_bits(), entry_handle }).0
}

/// What version 1 sends: the handle, and nothing else out of band.
fn list(built: &Built, handle: OffloadHandle) -> NetBufferList {
    let mut list = built.list(&[handle]);
    list.oob.set_bits(handle.to_bits(), 0, 0);
    list
}

/// An IPv4 packet with UDP between these ports.
fn inner(source: [u8; 4], destination: [u8; 4], ports: (u16, u16)) -> Vec<u8> {
    let mut packet = vec![0; 28];
    Ipv4Repr::new(IpProtocol::UDP, source.into(), destination.into(), 8).emit(&mut packet).unwrap();
    packet[20..22].copy_from_slice(&ports.0.to_be_bytes());
    packet[22..24].copy_from_slice(&ports.1.to_be_bytes());
    packet[25] = 8;
    packet
}

fn segment(ports: (u16, u16)) -> Vec<u8> {
    inner([0; 4], [0; 4], ports)[20..].to_vec()
}

/// Every suite of OV1-1, in UDP too where it is ESP.
fn suites() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for (number, encryption) in [NULL, DES, TRIPLE_DES].into_iter().enumerate() {
        for (second, integrity) in [MD5, SHA1].into_iter().enumerate() {
            let spi = 0x1000 + (number * 2 + second) as u32 * 16;
            kinds.push(Kind::esp(spi, encryption, Some(integrity)));
            kinds.extend([MD5, SHA1].map(|over| Kind::both(spi + 2, encryption, Some(integrity), spi + 4, over)));
        }
        kinds.push(Kind::both(0x2000 + number as u32, encryption, None, 0x2100, SHA1));
    }
    kinds.extend([MD5, SHA1].map(|integrity| Kind::ah(0x3000, integrity)));
    kinds
}

fn assert_untouched(list: &NetBufferList, wire: &[u8]) {
    assert_eq!(list.buffer.as_slice(), wire);
    assert_eq!((list.oob.ipsec_bits(), list.oob.tunnel_bits(), list.oob.header_bits()), (0, 0, 0));
    assert_eq!(list.oob.ipsec_receive(), IpsecReceive::UNTOUCHED);
}

/// OV1-1, OV1-3: every suite in both modes, with options, on send by nothing but the handle, on receive with the flags and nothing in a slot that version 1
/// does not have. The bytes are those of another library.
#[test]
fn every_suite_of_version_1_is_done_in_both_modes() {
    for mut kind in suites() {
        for mode in [SaMode::Transport, SaMode::Tunnel] {
            for extras in [false, true] {
                kind.extras = extras;
                let mut nic = nic();
                let out = add(&mut nic, sa(&kind, OUT, mode)).unwrap();
                add(&mut nic, sa(&kind, IN, mode)).unwrap();
                for low in 1..4 {
                    let (payload, next) = match mode {
                        SaMode::Transport => (segment((7, low as u16)), UDP),
                        SaMode::Tunnel => (inner([10, 0, 0, 1], [10, 0, 0, 2], (7, low as u16)), 4),
                    };
                    let built = kind.build(&payload, next, low);
                    let (sent, wire) = nic.send_one(list(&built, out));
                    assert_eq!((sent.status, &wire[..]), (Status::SUCCESS, &[built.sealed()][..]), "{kind:?} {mode:?}");
                    let up = nic.receive_one(&wire[0]);
                    assert_eq!(up.oob.ipsec_receive(), IpsecReceive::GOOD, "{kind:?} {mode:?}");
                    assert_eq!((up.oob.tunnel_bits(), up.oob.header_bits()), (0, 0));
                    assert_eq!(up.buffer.as_slice(), built.opened(&wire[0], 1));
                    // And forged: said by the mode that the SA has, whether anything was verified under it or not.
                    let mut forged = wire[0].clone();
                    *forged.last_mut().unwrap() ^= 1;
                    let (status, tunnel) = match (kind.ah.is_some(), mode) {
                        (true, SaMode::Transport) => (CryptoStatus::TransportAhAuthFailed, false),
                        (true, SaMode::Tunnel) => (CryptoStatus::TunnelAhAuthFailed, true),
                        (false, SaMode::Transport) => (CryptoStatus::TransportEspAuthFailed, false),
                        (false, SaMode::Tunnel) => (CryptoStatus::TunnelEspAuthFailed, true),
                    };
                    let up = nic.receive_one(&forged);
                    assert_eq!(up.oob.ipsec_receive(), IpsecReceive { crypto_status: status, ..IpsecReceive::GOOD }, "{kind:?} {tunnel}");
                    assert_eq!(up.buffer.as_slice(), forged);
                }
                assert_eq!(delete(&mut nic, out), Status::SUCCESS);
                assert_eq!(nic.miniport.sas(), (1, 1));
            }
        }
    }
}

/// OV1-3: two handles a packet there are not.
#[test]
fn the_tunnel_slot_is_not_version_1s() {
    let mut nic = nic();
    let (outer, kind) = (Kind::ah(0x1001, SHA1), Kind::esp(0x1002, DES, Some(MD5)).net(1));
    let handles = [add(&mut nic, sa(&outer, OUT, SaMode::Tunnel)).unwrap(), add(&mut nic, sa(&kind, OUT, SaMode::Transport)).unwrap()];
    let built = outer.around(&kind.build_inner(&segment((1, 2)), UDP, 1), 1);
    let (failed, wire) = nic.send_one(built.list(&handles));
    assert_eq!((failed.status, wire.len(), failed.buffer.as_slice()), (Status::FAILURE, 0, &built.bytes[..]));
    assert_eq!(nic.counter("send_tunnel_handle"), 1);
}

/// OV1-3: on receive both portions are done, where the hardware does both.
#[test]
fn both_portions_are_done_on_receive() {
    let (outer, kind) = (Kind::esp(0x1001, TRIPLE_DES, Some(SHA1)), Kind::esp(0x1002, DES, Some(MD5)).net(1));
    let built = outer.around(&kind.build_inner(&segment((1, 2)), UDP, 1), 1);
    let wire = built.sealed();
    for combined in [true, false] {
        let mut nic = adapter(capabilities(|v1| v1.transport_tunnel_combined = combined));
        add(&mut nic, sa(&outer, IN, SaMode::Tunnel)).unwrap();
        add(&mut nic, sa(&kind, IN, SaMode::Transport)).unwrap();
        let up = nic.receive_one(&wire);
        assert_eq!(up.oob.ipsec_receive(), IpsecReceive { next_crypto_done: combined, ..IpsecReceive::GOOD });
        assert_eq!(up.buffer.as_slice(), built.opened(&wire, if combined { 2 } else { 1 }));
    }
}

/// A filter, and whether it is for packets from 198.51.0.1 port 7 to 198.51.0.2 port 9.
fn filters() -> Vec<(V1Filter, bool)> {
    let host = |last: u8| MaskedAddress::single(Ipv4Addr::new(198, 51, 0, last));
    let net = |third: u8, mask: [u8; 4]| MaskedAddress { address: Ipv4Addr::new(198, 51, third, 0), mask: mask.into() };
    let own = V1Filter { source: host(1), destination: host(2), ..V1Filter::ANY };
    vec![
        (V1Filter::ANY, true),
        (own, true),
        (V1Filter { source: host(3), ..own }, false),
        (V1Filter { destination: host(3), ..own }, false),
        (V1Filter { source: net(0, [255, 255, 255, 0]), destination: net(0, [255, 255, 0, 0]), ..own }, true),
        (V1Filter { destination: net(1, [255, 255, 255, 0]), ..own }, false),
        // A mask with holes is one, too.
        (V1Filter { destination: MaskedAddress { address: Ipv4Addr::new(198, 0, 0, 2), mask: Ipv4Addr::new(255, 0, 0, 255) }, ..own }, true),
        (V1Filter { destination: MaskedAddress { address: Ipv4Addr::new(198, 0, 0, 3), mask: Ipv4Addr::new(255, 0, 0, 255) }, ..own }, false),
        (V1Filter { protocol: UDP, ..own }, true),
        (V1Filter { protocol: 6, ..own }, false),
        (V1Filter { protocol: UDP, source_port: 7, destination_port: 9, ..own }, true),
        (V1Filter { source_port: 8, ..own }, false),
        (V1Filter { destination_port: 8, ..V1Filter::ANY }, false),
    ]
}

/// OV1-2: masks, protocol and ports decide on send and on receive, in transport mode about the packet itself and in tunnel mode about the one inside. A packet
/// that is none of the SA's is not sent, and goes up as it came.
#[test]
fn filters_decide_on_send_and_receive() {
    for kind in
        [Kind::esp(0x1001, TRIPLE_DES, Some(SHA1)), Kind::esp(0x1001, NULL, Some(MD5)), Kind::ah(0x1001, SHA1), Kind::both(0x1001, DES, None, 0x1002, MD5)]
    {
        for mode in [SaMode::Transport, SaMode::Tunnel] {
            for (filter, fits) in filters() {
                let built = match mode {
                    SaMode::Transport => kind.build(&segment((7, 9)), UDP, 5),
                    SaMode::Tunnel => kind.net(9).build(&inner([198, 51, 0, 1], [198, 51, 0, 2], (7, 9)), 4, 5),
                };
                let kind = built.layers[0].kind;
                let mut nic = nic();
                let with = |direction| V1Sa { filter, ..sa(&kind, direction, mode) };
                let out = add(&mut nic, with(OUT)).unwrap();
                let inbound = add(&mut nic, with(IN)).unwrap();
                let (sent, wire) = nic.send_one(list(&built, out));
                assert_eq!((sent.status.is_success(), wire.len()), (fits, usize::from(fits)), "{kind:?} {mode:?} {filter:?}");
                assert_eq!(nic.counter("send_outside_filter"), u64::from(!fits));
                if !fits {
                    assert_eq!(sent.buffer.as_slice(), built.bytes);
                }
                let wire = built.sealed();
                let up = nic.receive_one(&wire);
                if fits {
                    assert_eq!(up.oob.ipsec_receive(), IpsecReceive::GOOD, "{kind:?} {mode:?} {filter:?}");
                    assert_eq!(up.buffer.as_slice(), built.opened(&wire, 1));
                } else {
                    assert_untouched(&up, &wire);
                }
                // A single destination lets the next SA have the SPI.
                assert_eq!(delete(&mut nic, inbound), Status::SUCCESS);
                assert_untouched(&nic.receive_one(&wire), &wire);
            }
        }
    }
}

/// OV1-2: what is inside a tunnel and not what it should be; a dummy packet belongs to every SA.
#[test]
fn tunnels_take_in_packets_only() {
    let kind = Kind::esp(0x1001, TRIPLE_DES, Some(SHA1));
    let mut nic = nic();
    let out = add(&mut nic, sa(&kind, OUT, SaMode::Tunnel)).unwrap();
    add(&mut nic, sa(&kind, IN, SaMode::Tunnel)).unwrap();
    for (payload, next, good) in [(segment((7, 9)), UDP, false), (segment((7, 9)), 59, true), (inner([1; 4], [2; 4], (1, 1)), 4, true)] {
        let built = kind.build(&payload, next, 1);
        let (sent, _) = nic.send_one(list(&built, out));
        assert_eq!(sent.status.is_success(), good, "{next}");
        let wire = built.sealed();
        let up = nic.receive_one(&wire);
        if good { assert_eq!(up.oob.ipsec_receive(), IpsecReceive::GOOD) } else { assert_untouched(&up, &wire) }
    }
    assert_eq!(nic.counter("receive_outside_filter"), 1);
}

/// OV1-2a: the parser looks for what its entries say, and for nothing else.
#[test]
fn udp_is_looked_into_where_an_entry_says_so() {
    for mode in [SaMode::Transport, SaMode::Tunnel] {
        let kind = Kind { udp: Some(ndis::UdpEspType::Transport), ..Kind::esp(0x1001, TRIPLE_DES, Some(SHA1)) };
        let (payload, next) = if mode == SaMode::Transport { (segment((7, 9)), UDP) } else { (inner([1; 4], [2; 4], (1, 1)), 4) };
        let mut nic = nic();
        let built = kind.build(&payload, next, 1);
        let wire = built.sealed();
        assert_untouched(&nic.receive_one(&wire), &wire);
        // Outbound the port does not count, and no port is looked into.
        let (out, out_entry) = add_udp(&mut nic, sa(&kind, OUT, mode), V1ParserEntry { destination_port: 1, ..ENTRY }, None).unwrap();
        assert_eq!(nic.send_one(list(&built, out)).1, std::slice::from_ref(&wire));
        assert_untouched(&nic.receive_one(&wire), &wire);
        let (inbound, entry) = add_udp(&mut nic, sa(&kind, IN, mode), ENTRY, None).unwrap();
        assert!(entry != out_entry && nic.miniport.parser_entries() == 2);
        let up = nic.receive_one(&wire);
        assert_eq!((up.oob.ipsec_receive(), up.buffer.as_slice()), (IpsecReceive::GOOD, &built.opened(&wire, 1)[..]));
        let other_port = Kind { ports: (4500, 4501), ..kind }.build(&payload, next, 2).sealed();
        assert_untouched(&nic.receive_one(&other_port), &other_port);

        // The SA alone goes, and the entry is there for the next.
        assert_eq!(delete_udp(&mut nic, inbound, None), Status::SUCCESS);
        assert_untouched(&nic.receive_one(&wire), &wire);
        assert_eq!(nic.miniport.parser_entries(), 2);
        let (inbound, same) = add_udp(&mut nic, sa(&kind, IN, mode), ENTRY, None).unwrap();
        assert_eq!(same, entry);
        assert_eq!(nic.receive_one(&wire).oob.ipsec_receive(), IpsecReceive::GOOD);
        // Both go; bare ESP of an SA that is not in UDP still comes through.
        assert_eq!(delete_udp(&mut nic, inbound, Some(entry)), Status::SUCCESS);
        assert_eq!(nic.miniport.parser_entries(), 1);
        assert_untouched(&nic.receive_one(&wire), &wire);
        let bare = Kind { udp: None, ..kind };
        add(&mut nic, sa(&bare, IN, mode)).unwrap();
        assert_untouched(&nic.receive_one(&wire), &wire);
        assert_eq!(nic.receive_one(&bare.build(&payload, next, 3).sealed()).oob.ipsec_receive(), IpsecReceive::GOOD);
    }
}

/// OV1-2a: entries are shared by handle or because they are equal; a failed add leaves neither; handles that name nothing change nothing.
#[test]
fn entries_are_shared_and_counted() {
    let kinds: Vec<_> = (0..3).map(|number| Kind::esp(0x1000 + number * 16, DES, Some(MD5))).collect();
    let mut nic = adapter(capabilities(|v1| v1.ext_sa_capacity = 3));
    let inbound = |number: usize| sa(&kinds[number], IN, SaMode::Transport);
    let (first, entry) = add_udp(&mut nic, inbound(0), ENTRY, None).unwrap();
    let (second, same) = add_udp(&mut nic, inbound(1), ENTRY, Some(entry)).unwrap();
    let (third, again) = add_udp(&mut nic, inbound(2), ENTRY, None).unwrap();
    assert!(same == entry && again == entry && nic.miniport.parser_entries() == 1);

    // Full: neither SA nor a new entry.
    let other = V1ParserEntry { destination_port: 4501, ..ENTRY };
    let more = || sa(&Kind::esp(0x2000, DES, Some(MD5)), IN, SaMode::Transport);
    assert_eq!(add_udp(&mut nic, more(), other, None), Err(Status::RESOURCES));
    assert_eq!((nic.miniport.parser_entries(), nic.miniport.sas().0), (1, 3));
    // A duplicate, an entry for something else, a handle of an SA, reserved and impossible entries, AH in UDP.
    assert_eq!(delete_udp(&mut nic, third, None), Status::SUCCESS);
    let stale = OffloadHandle::from_bits(entry.to_bits() + 1);
    for (wrong, status) in [
        (add_udp(&mut nic, inbound(0), other, None), Status::INVALID_DATA),
        (add_udp(&mut nic, more(), other, Some(entry)), Status::INVALID_PARAMETER),
        (add_udp(&mut nic, more(), ENTRY, Some(first)), Status::INVALID_PARAMETER),
        (add_udp(&mut nic, more(), ENTRY, stale), Status::INVALID_PARAMETER),
        (add_udp(&mut nic, sa(&kinds[2], OUT, SaMode::Transport), ENTRY, Some(entry)), Status::INVALID_PARAMETER),
        (add_udp(&mut nic, more(), V1ParserEntry { kind: V1EncapsulationType::Ike, ..ENTRY }, None), Status::NOT_SUPPORTED),
        (add_udp(&mut nic, more(), V1ParserEntry { destination_port: 0, ..ENTRY }, None), Status::INVALID_DATA),
        (add_udp(&mut nic, sa(&Kind::ah(0x2000, SHA1), IN, SaMode::Transport), ENTRY, None), Status::INVALID_DATA),
    ] {
        assert_eq!(wrong, Err(status));
    }
    assert_eq!((nic.miniport.parser_entries(), nic.miniport.sas().0), (1, 2));
    assert_eq!(delete_udp(&mut nic, first, stale), Status::INVALID_PARAMETER);
    assert_eq!(delete_udp(&mut nic, third, None), Status::INVALID_PARAMETER);
    // While another SA needs it the entry stays, and goes with that.
    assert_eq!(delete_udp(&mut nic, first, Some(entry)), Status::SUCCESS);
    assert_eq!(nic.miniport.parser_entries(), 1);
    assert_eq!(delete_udp(&mut nic, second, None), Status::SUCCESS);
    assert_eq!((nic.miniport.parser_entries(), nic.miniport.sas()), (0, (0, 0)));
    assert_eq!(delete(&mut nic, second), Status::INVALID_PARAMETER);
    assert_eq!(nic.counter("unknown_handles"), 3);
}

/// OV1-1, OV2-CAP-12: an SA is taken where every member that it needs is there, and otherwise not.
#[test]
fn every_member_counts() {
    let esp = |encryption| Kind::esp(0x1001, encryption, Some(SHA1));
    let both = Kind::both(0x1001, DES, Some(MD5), 0x1002, SHA1);
    let table: [(Kind, Direction, SaMode, bool, Change); 18] = [
        (esp(DES), OUT, SaMode::Transport, false, |v1| v1.ipv4_esp.des = false),
        (esp(TRIPLE_DES), IN, SaMode::Transport, false, |v1| v1.ipv4_esp.triple_des = false),
        (esp(NULL), IN, SaMode::Tunnel, false, |v1| v1.ipv4_esp.null_esp = false),
        (esp(DES), OUT, SaMode::Transport, false, |v1| v1.ipv4_esp.transport = false),
        (esp(DES), OUT, SaMode::Tunnel, false, |v1| v1.ipv4_esp.tunnel = false),
        (esp(DES), OUT, SaMode::Tunnel, false, |v1| v1.ipv4_esp.send = false),
        (esp(DES), IN, SaMode::Tunnel, false, |v1| v1.ipv4_esp.receive = false),
        (esp(DES), IN, SaMode::Tunnel, true, |v1| v1.ipv4_esp = ndis::Ipv4Esp::default()),
        (Kind::ah(0x1001, SHA1), OUT, SaMode::Tunnel, false, |v1| v1.ipv4_ah.sha_1 = false),
        (Kind::ah(0x1001, MD5), OUT, SaMode::Tunnel, false, |v1| v1.ipv4_ah.md5 = false),
        (Kind::ah(0x1001, SHA1), OUT, SaMode::Tunnel, false, |v1| v1.ipv4_ah.tunnel = false),
        (Kind::ah(0x1001, SHA1), IN, SaMode::Transport, false, |v1| v1.ipv4_ah.transport = false),
        (Kind::ah(0x1001, SHA1), IN, SaMode::Transport, false, |v1| v1.ipv4_ah.receive = false),
        (Kind::ah(0x1001, SHA1), OUT, SaMode::Transport, false, |v1| v1.ipv4_ah.send = false),
        (both, OUT, SaMode::Transport, false, |v1| v1.ah_esp_combined = false),
        (both, OUT, SaMode::Transport, false, |v1| v1.ipv4_ah.send = false),
        (esp(DES), IN, SaMode::Transport, true, |v1| v1.flags &= !0x10),
        (esp(DES), OUT, SaMode::Tunnel, true, |v1| v1.flags &= !0x20),
    ];
    let ask = |nic: &mut Nic, (kind, direction, mode, udp): (&Kind, Direction, SaMode, bool)| {
        if udp { add_udp(nic, sa(kind, direction, mode), ENTRY, None).map(|(handle, _)| handle) } else { add(nic, sa(kind, direction, mode)) }
    };
    for (number, (kind, direction, mode, udp, change)) in table.iter().enumerate() {
        let what = (kind, *direction, *mode, *udp);
        assert!(ask(&mut nic(), what).is_ok(), "{number}");
        let mut without = adapter(capabilities(change));
        assert_eq!(ask(&mut without, what), Err(Status::NOT_SUPPORTED), "{number}");
        assert_eq!(without.miniport.parser_entries(), 0);
    }
    // What version 1 has no member for.
    for kind in [Kind::esp(0x1001, GCM, None), Kind::esp(0x1001, DES, Some(SHA256)), Kind::ah(0x1001, SHA256), esp(DES).esn(0)] {
        assert_eq!(add(&mut nic(), sa(&kind, OUT, SaMode::Transport)), Err(Status::NOT_SUPPORTED), "{kind:?}");
    }
}

/// OV2-CAP-0: 6.0 has version 1 only and no direct path; where there is version 2, there is no version 1.
#[test]
fn an_adapter_uses_one_version() {
    for version in [NdisVersion::V6_0, NdisVersion::V6_1, NdisVersion::V6_20, NdisVersion::V6_30] {
        for both in [true, false] {
            let hardware = if both { software_capabilities(8) } else { capabilities(|_| {}) };
            let parameters = NicParameters { medium: Link::Bare.medium(), version, ..NicParameters::new("test") };
            let mut nic = Nic::with(parameters, move || SoftwareEngine::with_hardware(ipsec::Crypto::default(), &hardware).unwrap());
            let v1 = version < NdisVersion::V6_30 && (!both || version == NdisVersion::V6_0);
            let (_, attributes) = nic.driver.start(&ndis::AdapterKeywords::defaults("test"));
            assert_eq!(attributes.hardware_capabilities.ipsec_v1.is_supported(), v1, "{version} {both}");
            assert_eq!(attributes.hardware_capabilities.ipsec_v2.is_supported(), both && version > NdisVersion::V6_0, "{version} {both}");
            let added = add(&mut nic, sa(&Kind::esp(0x1001, DES, Some(SHA1)), OUT, SaMode::Transport));
            assert_eq!(added.err(), (!v1).then_some(Status::NOT_SUPPORTED), "{version} {both}");
            if let Ok(handle) = added {
                assert_eq!(nic.done(DirectOid::DeleteSa(vec![handle.to_bits()])).0, Status::NOT_SUPPORTED);
                assert_eq!(nic.miniport.sas().0, 1);
            }
        }
    }
}

/// OV1-4: the parameter member IPsecV1, as OV2-CAP-14 has it for version 2: what no longer fits fails on send, and comes up untouched.
#[test]
fn the_setting_of_version_1_switches_it() {
    let mut nic = nic();
    let (esp, ah) = (Kind::esp(0x1001, DES, Some(SHA1)), Kind::ah(0x1002, SHA1).net(1));
    let handles = [&esp, &ah].map(|kind| {
        add(&mut nic, sa(kind, IN, SaMode::Transport)).unwrap();
        add(&mut nic, sa(kind, OUT, SaMode::Transport)).unwrap()
    });
    for (setting, does_esp, does_ah) in
        [(IpsecSetting::Ah, false, true), (IpsecSetting::Disabled, false, false), (IpsecSetting::Esp, true, false), (IpsecSetting::AhAndEsp, true, true)]
    {
        let parameters = OffloadParameters { ipsec_v1: Some(setting), ..OffloadParameters::default() };
        assert_eq!(nic.set(Oid::SetParameters(parameters)), Status::SUCCESS);
        let Some(StatusIndication::TaskOffloadCurrentConfig(current)) = nic.indications().pop() else { panic!("CURRENT_CONFIG") };
        assert_eq!(current.ipsec_v1, software_capabilities(8).ipsec_v1.restrict(setting));
        for (number, (kind, does)) in [(&esp, does_esp), (&ah, does_ah)].into_iter().enumerate() {
            let built = kind.build(&segment((7, 9)), UDP, 1);
            let (sent, wire) = nic.send_one(list(&built, handles[number]));
            assert_eq!((sent.status.is_success(), wire.len()), (does, usize::from(does)), "{setting:?}");
            let up = nic.receive_one(&built.sealed());
            assert_eq!(up.oob.ipsec_receive().crypto_done, does, "{setting:?}");
            assert_eq!(add(&mut nic, sa(&Kind { ..*kind }, OUT, SaMode::Tunnel)).map(|handle| delete(&mut nic, handle)).is_ok(), does);
        }
    }
}

/// OV2-CAP-9 holds for version 1: nothing is done on receive before the encapsulation is set, nor on either way under one that is not offered.
#[test]
fn receiving_begins_with_the_encapsulation() {
    let kind = Kind::esp(0x1001, DES, Some(SHA1));
    let built = kind.build(&segment((7, 9)), UDP, 1);
    let hardware = capabilities(|_| {});
    let parameters = NicParameters { medium: Link::Bare.medium(), version: NdisVersion::V6_0, ..NicParameters::new("test") };
    let mut nic = Nic::with(parameters, move || SoftwareEngine::with_hardware(ipsec::Crypto::default(), &hardware).unwrap());
    add(&mut nic, sa(&kind, IN, SaMode::Transport)).unwrap();
    let out = add(&mut nic, sa(&kind, OUT, SaMode::Transport)).unwrap();
    let wire = built.sealed();
    assert_untouched(&nic.receive_one(&wire), &wire);
    assert_eq!(nic.send_one(list(&built, out)).0.status, Status::SUCCESS);
    nic.activate_null();
    assert_eq!(nic.receive_one(&wire).oob.ipsec_receive(), IpsecReceive::GOOD);
    assert_eq!(nic.set_encapsulation(SetEncapsulation::Off, SetEncapsulation::NoChange), Status::SUCCESS);
    assert_untouched(&nic.receive_one(&wire), &wire);
    assert_eq!(nic.send_one(list(&built, out)).0.status, Status::FAILURE);
}

/// OV2-OID-2, OV2-SA-9 for version 1: a reset empties SA table and parser; after it, and after removal, old handles name nothing.
#[test]
fn resets_and_removal_empty_the_table_and_the_parser() {
    let kind = Kind::esp(0x1001, DES, Some(SHA1));
    let mut nic = nic();
    let (handle, entry) = add_udp(&mut nic, sa(&kind, IN, SaMode::Transport), ENTRY, None).unwrap();
    nic.miniport.reset(&mut nic.up);
    nic.indications();
    assert_eq!((nic.miniport.sas(), nic.miniport.parser_entries()), ((0, 0), 0));
    assert_eq!(delete_udp(&mut nic, handle, Some(entry)), Status::INVALID_PARAMETER);
    let wire = Kind { udp: Some(ndis::UdpEspType::Transport), ..kind }.build(&segment((1, 2)), UDP, 1).sealed();
    assert_untouched(&nic.receive_one(&wire), &wire);
    let (again, other) = add_udp(&mut nic, sa(&kind, IN, SaMode::Transport), ENTRY, None).unwrap();
    assert!(again != handle && other != entry);
    nic.miniport.halt(&mut nic.up);
    assert_eq!(delete_udp(&mut nic, again, None), Status::NOT_ACCEPTED);
    assert_eq!(add(&mut nic, sa(&kind, OUT, SaMode::Transport)), Err(Status::NOT_ACCEPTED));
    assert_eq!(nic.miniport.parser_entries(), 0);
}

/// OV2-SA-8 for version 1: a full NIC asks with the next packet.
#[test]
fn a_full_nic_asks_for_room() {
    let mut nic = adapter(capabilities(|v1| v1.ext_sa_capacity = 1));
    let kind = Kind::esp(0x1001, DES, Some(SHA1));
    let old = add(&mut nic, sa(&kind, IN, SaMode::Transport)).unwrap();
    let other = Kind::esp(0x1002, DES, Some(SHA1));
    assert_eq!(add(&mut nic, sa(&other, IN, SaMode::Transport)), Err(Status::RESOURCES));
    let up = nic.receive_one(&kind.build(&segment((1, 2)), UDP, 1).sealed());
    assert_eq!(up.oob.ipsec_receive(), IpsecReceive { sa_delete_request: true, ..IpsecReceive::GOOD });
    assert_eq!(delete(&mut nic, old), Status::SUCCESS);
    assert!(add(&mut nic, sa(&other, IN, SaMode::Transport)).is_ok());
}
