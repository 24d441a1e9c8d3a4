//! Any list and any frame, however malformed, is a clean failure: no panic, nothing lost, nothing changed, nothing in clear.

mod common;
#[path = "common/kinds.rs"]
mod kinds;

use common::{Link, Nic, Sa, Shape};
use kinds::{CBC, GCM, GMAC, Kind, SHA1, SHA256};
use ndis::{CryptoStatus, Direction, NetBufferList, OffloadHandle};
use packet::Buffer;
use proptest::prelude::*;

/// How a good list is spoilt.
#[derive(Clone, Debug)]
struct Spoil {
    /// Bytes written over the frame, each somewhere (modulo its length).
    pokes: Vec<(u16, u8)>,
    cut: Option<u16>,
    tail: Vec<u8>,
    l3_offset: Option<u16>,
    handle: Option<u64>,
    tunnel: Option<u64>,
    header: Option<u32>,
    words: (u32, u32, u32),
    second_buffer: Option<Vec<u8>>,
}

fn rarely<S: Strategy>(strategy: S) -> impl Strategy<Value = Option<S::Value>>
where
    S::Value: Clone,
{
    proptest::option::weighted(0.2, strategy)
}

fn word() -> impl Strategy<Value = u32> {
    prop_oneof![9 => Just(0), 1 => any::<u32>()]
}

fn spoil() -> impl Strategy<Value = Spoil> {
    (
        proptest::collection::vec((any::<u16>(), any::<u8>()), 0..3),
        rarely(any::<u16>()),
        prop_oneof![4 => Just(Vec::new()), 1 => proptest::collection::vec(any::<u8>(), 1..40)],
        rarely(prop_oneof![0..100_u16, any::<u16>()]),
        rarely(prop_oneof![0..5_u64, any::<u64>()]),
        rarely(any::<u64>()),
        rarely(any::<u32>()),
        (word(), word(), word()),
        rarely(proptest::collection::vec(any::<u8>(), 0..120)),
    )
        .prop_map(|(pokes, cut, tail, l3_offset, handle, tunnel, header, words, second_buffer)| Spoil {
            pokes,
            cut,
            tail,
            l3_offset,
            handle,
            tunnel,
            header,
            words,
            second_buffer,
        })
}

impl Spoil {
    fn bytes(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        if let Some(cut) = self.cut {
            bytes.truncate(usize::from(cut) % (bytes.len() + 1));
        }
        for &(at, value) in &self.pokes {
            let len = bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(usize::from(at) % len) {
                *byte = value;
            }
        }
        bytes.extend_from_slice(&self.tail);
        bytes
    }

    fn list(&self, good: NetBufferList) -> NetBufferList {
        let mut list = NetBufferList { buffer: Buffer::copy_from(&self.bytes(good.buffer.as_slice().to_vec())), ..good };
        if let Some(l3_offset) = self.l3_offset {
            list.l3_offset = l3_offset;
        }
        let oob = &mut list.oob;
        oob.set_bits(self.handle.unwrap_or(oob.ipsec_bits()), self.tunnel.unwrap_or(oob.tunnel_bits()), self.header.unwrap_or(oob.header_bits()));
        (oob.large_send, oob.checksum, oob.ieee8021q) = self.words;
        list.more.extend(self.second_buffer.as_deref().map(Buffer::copy_from));
        list
    }
}

fn contents(list: &NetBufferList) -> Vec<Vec<u8>> {
    list.buffers().map(|buffer| buffer.as_slice().to_vec()).collect()
}

const SECRET: &[u8] = b"these words are not for the wire";

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_list_is_sent_protected_or_comes_back_whole(spoils in proptest::collection::vec(spoil(), 1..10), ipv6: bool, ethernet: bool, extras: bool) {
        let link = if ethernet { Link::Vlan } else { Link::Bare };
        let mut nic = Nic::new(link);
        let sa = Sa { ipv6, ..Sa::new(0x1001) };
        let handle = nic.add(&sa, Direction::Outbound);
        let packet = sa.unsealed(Shape { link, extras, next_header: 6 }, 1, SECRET);
        let batch: Vec<_> = spoils.iter().map(|spoil| spoil.list(packet.list(Some(handle)))).collect();
        let before: Vec<_> = batch.iter().map(|list| (contents(list), list.oob)).collect();
        let (done, wire) = nic.send(batch);
        prop_assert_eq!(done.len(), before.len());
        let mut wire = wire.iter().map(|frame| frame.buffer.as_slice());
        for (list, (bytes, oob)) in done.iter().zip(&before) {
            prop_assert_eq!(list.oob, *oob);
            if !list.status.is_success() {
                prop_assert_eq!(&contents(list), bytes);
                continue;
            }
            for bytes in bytes {
                let mut sent = wire.next().unwrap().to_vec();
                if oob.tag().is_some() {
                    // It is in the frame now.
                    sent.drain(12..16);
                }
                prop_assert_eq!(sent.len(), bytes.len());
                if oob.offload_handle() == Some(handle) {
                    prop_assert!(!sent.windows(SECRET.len()).any(|window| window == SECRET));
                } else {
                    prop_assert_eq!(&sent, bytes);
                }
            }
        }
        prop_assert!(wire.next().is_none());
    }

    #[test]
    fn any_frame_comes_up_as_it_was_unless_it_is_authentic(spoils in proptest::collection::vec(spoil(), 1..10), ipv6: bool, ethernet: bool, extras: bool) {
        let link = if ethernet { Link::Vlan } else { Link::Bare };
        let mut nic = Nic::new(link);
        let sa = Sa { ipv6, ..Sa::new(0x1001) };
        nic.add(&sa, Direction::Inbound);
        let packet = sa.unsealed(Shape { link, extras, next_header: 6 }, 1, SECRET);
        let wire = sa.sealed(&packet, 1);
        let frames: Vec<_> = spoils.iter().map(|spoil| spoil.bytes(wire.clone())).collect();
        let up = nic.receive(&frames);
        prop_assert_eq!(up.len(), frames.len());
        for (list, frame) in up.iter().zip(&frames) {
            let receive = list.oob.ipsec_receive();
            prop_assert!(usize::from(list.l3_offset) <= frame.len());
            if receive.crypto_done && receive.crypto_status == CryptoStatus::Success {
                // Then everything under the ICV is as the sender made it.
                prop_assert_eq!(&list.buffer.as_slice()[packet.esp.start..packet.esp.start + 8], &wire[packet.esp.start..packet.esp.start + 8]);
                prop_assert!(list.buffer.as_slice().windows(SECRET.len()).any(|window| window == SECRET));
                prop_assert!(frame.windows(packet.esp.len()).any(|window| window == &wire[packet.esp.clone()]));
            } else {
                prop_assert_eq!(list.buffer.as_slice(), frame.as_slice());
                prop_assert_eq!(list.oob.header_receive(), None);
            }
        }
    }

    #[test]
    fn any_bytes_at_all_are_taken(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..20), handle: u64, l3_offset: u16) {
        for link in [Link::Bare, Link::Ethernet] {
            let mut nic = Nic::new(link);
            nic.add(&Sa { destination: false, ..Sa::new(0x1001) }, Direction::Inbound);
            let up = nic.receive(&frames);
            prop_assert!(up.iter().map(|list| list.buffer.as_slice()).eq(frames.iter().map(Vec::as_slice)));
            let batch = frames.iter().map(|frame| {
                let mut list = NetBufferList::new(Buffer::copy_from(frame), l3_offset);
                list.oob.set_offload_handle(OffloadHandle::from_bits(handle));
                list
            });
            let (done, wire) = nic.send(batch.collect());
            prop_assert_eq!(done.len(), frames.len());
            prop_assert_eq!(wire.len(), if handle == 0 { frames.len() } else { 0 });
        }
    }
}

/// Bundles, the outermost first: AH, AH over ESP, UDP encapsulation, transport over tunnel.
fn bundles() -> impl Strategy<Value = Vec<Kind>> {
    let sets = vec![
        vec![Kind::ah(0x3001, SHA1)],
        vec![Kind::ah(0x3001, GMAC)],
        vec![Kind::both(0x1001, CBC, None, 0x3001, SHA256)],
        vec![Kind::gcm(0x1001).udp(ndis::UdpEspType::Tunnel)],
        vec![Kind::gcm(0x2001), Kind::gcm(0x1001).net(1)],
        vec![Kind::ah(0x4001, SHA256), Kind::esp(0x1001, CBC, Some(SHA1)).net(1)],
        vec![Kind::both(0x2001, GCM, None, 0x4001, SHA1), Kind::both(0x1001, CBC, Some(SHA1), 0x3001, GMAC).net(1)],
    ];
    (proptest::sample::select(sets), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(kinds, ipv6, extras, esn)| {
        let formed = kinds.into_iter().map(|kind| Kind { ipv6, extras, ..kind });
        formed.map(|kind| if esn { kind.esn(3) } else { kind }).collect()
    })
}

fn built(kinds: &[Kind], low: u32) -> kinds::Built {
    match kinds {
        [outer, inner] => outer.around(&inner.build_inner(SECRET, 6, low), low),
        _ => kinds[0].build(SECRET, 6, low),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_list_under_any_bundles_is_sent_protected_or_comes_back_whole(kinds in bundles(), spoils in proptest::collection::vec(spoil(), 1..10)) {
        let mut nic = Nic::new(Link::Bare);
        let handles: Vec<_> = kinds.iter().map(|kind| nic.try_add(kind.bundle(Direction::Outbound)).unwrap()).collect();
        let packet = built(&kinds, 1);
        let batch: Vec<_> = spoils.iter().map(|spoil| spoil.list(packet.list(&handles))).collect();
        let before: Vec<_> = batch.iter().map(|list| (contents(list), list.oob)).collect();
        let (done, wire) = nic.send(batch);
        let mut wire = wire.iter().map(|frame| frame.buffer.as_slice());
        for (list, (bytes, oob)) in done.iter().zip(&before) {
            prop_assert_eq!(&list.oob, oob);
            if !list.status.is_success() {
                prop_assert_eq!(&contents(list), bytes);
                continue;
            }
            let encrypted = oob.ipsec_bits() != 0 && kinds.iter().any(|kind| kind.esp.is_some());
            for before in bytes {
                let frame = wire.next().unwrap();
                prop_assert_eq!(frame.len(), before.len());
                prop_assert!(!encrypted || !frame.windows(SECRET.len()).any(|window| window == SECRET));
            }
        }
        prop_assert!(wire.next().is_none());
    }

    #[test]
    fn any_damage_to_any_packet_is_a_failure_or_changes_nothing_that_counts(kinds in bundles(), pokes in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..3), cut in rarely(any::<u16>())) {
        let mut nic = Nic::new(Link::Bare);
        for kind in &kinds {
            nic.try_add(kind.bundle(Direction::Inbound)).unwrap();
        }
        let packet = built(&kinds, 1);
        let good = packet.sealed();
        let mut wire = good.clone();
        for (at, value) in pokes {
            let at = usize::from(at) % wire.len();
            wire[at] = value;
        }
        if let Some(cut) = cut {
            wire.truncate(usize::from(cut) % (wire.len() + 1));
        }
        let list = nic.receive_one(&wire);
        let receive = list.oob.ipsec_receive();
        if receive.crypto_done && receive.crypto_status == CryptoStatus::Success {
            // What was changed is not authenticated: fields that may change on the way, and all of the IP header without AH.
            prop_assert_eq!(receive.next_crypto_done, kinds.len() == 2);
            let first = packet.layers[0].ah.or(packet.layers[0].esp.as_ref().map(|esp| esp.start)).unwrap();
            prop_assert_eq!(&wire[first..], &good[first..]);
            prop_assert_eq!(&list.buffer.as_slice()[first..], &packet.opened(&good, kinds.len())[first..]);
        } else {
            prop_assert!(!receive.next_crypto_done, "what is inside was not damaged");
            prop_assert_eq!(list.buffer.as_slice(), wire.as_slice());
        }
    }
}
