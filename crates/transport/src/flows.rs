//! Policy by flow: what the policies said of packets with the same selectors' worth of header, so that they are not gone through for each packet.

use packet::{IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpAddress, IpProtocol};

use crate::selector::{Flow, PortRange, Selector};
use crate::spd::{Action, Spd};

/// How many flows a lane keeps, in 256 KiB. Two that share a place cost each other nothing but going through the policies.
const PLACES: usize = 4096;

/// All that policies look at in a plain packet, in the bytes' own order, so that equal flows are equal numbers: what else there is to know, and then the
/// addresses; of IPv4 in the first word of four.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FlowKey {
    rest: u64,
    addresses: [u64; 4],
}

impl FlowKey {
    const V4: u64 = 1 << 48;
    const V6: u64 = 2 << 48;
    const PORTS: u64 = 1 << 40;

    /// The flow of an IPv4 packet without options that is not a part of another.
    #[inline(always)]
    pub(crate) fn v4(header: &[u8; IPV4_HEADER_LEN], protocol: IpProtocol, payload: &[u8]) -> Self {
        Self { rest: Self::V4 | rest(protocol, payload), addresses: v4_addresses(header) }
    }

    /// The flow of an IPv6 packet without extension headers.
    #[inline(always)]
    pub(crate) fn v6(header: &[u8; IPV6_HEADER_LEN], protocol: IpProtocol, payload: &[u8]) -> Self {
        Self { rest: Self::V6 | rest(protocol, payload), addresses: v6_addresses(header) }
    }

    /// The flow of a packet between addresses that were read before.
    #[inline(always)]
    pub(crate) fn between(v4: bool, addresses: [u64; 4], protocol: IpProtocol, payload: &[u8]) -> Self {
        Self { rest: Self::rest(v4, protocol, payload), addresses }
    }

    /// The flow as policies take it.
    pub(crate) fn flow(&self) -> Flow {
        let (source, destination) = Self::addresses(self.rest & Self::V4 != 0, self.addresses);
        let [s0, s1, d0, d1, protocol, ..] = self.rest.to_le_bytes();
        let ports = (self.rest & Self::PORTS != 0).then_some((u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])));
        Flow { source, destination, protocol: IpProtocol(protocol), ports }
    }

    /// Source and destination, from the words that they are kept in.
    pub(crate) fn addresses(v4: bool, words: [u64; 4]) -> (IpAddress, IpAddress) {
        let [first, second, third, fourth] = words.map(u64::to_le_bytes);
        if v4 {
            let [s0, s1, s2, s3, destination @ ..] = first;
            (IpAddress::v4([s0, s1, s2, s3]), IpAddress::v4(destination))
        } else {
            (v6(first, second), v6(third, fourth))
        }
    }

    /// All of a plain packet's flow but the addresses; never 0. With [`v4_word`] it tells IPv4 flows apart.
    #[inline(always)]
    pub(crate) fn rest(v4: bool, protocol: IpProtocol, payload: &[u8]) -> u64 {
        if v4 { Self::V4 | rest(protocol, payload) } else { Self::V6 | rest(protocol, payload) }
    }

    /// The destination port in such a number, if the flow has one.
    #[inline(always)]
    pub(crate) const fn destination_port(rest: u64) -> Option<u16> {
        if rest & Self::PORTS == 0 { None } else { Some(((rest >> 16) as u16).swap_bytes()) }
    }

    /// Whether it is the flow `other`. What is IPv4 has no more than one word of addresses.
    #[inline(always)]
    pub(crate) const fn is(&self, other: &Self) -> bool {
        let [first, second, third, fourth] = self.addresses;
        let same = self.rest == other.rest && first == other.addresses[0];
        same && (self.rest & Self::V4 != 0 || (second == other.addresses[1] && third == other.addresses[2] && fourth == other.addresses[3]))
    }

    /// Where it is kept. Whoever finds flows that share a place makes the look-up no slower than it is without them.
    #[inline(always)]
    fn place(&self) -> usize {
        const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
        let [first, second, third, fourth] = self.addresses;
        let mut sum = (self.rest ^ first.rotate_left(29)).wrapping_mul(MIX);
        if self.rest & Self::V4 == 0 {
            sum = (sum.rotate_left(32) ^ second).wrapping_mul(MIX);
            sum = (sum.rotate_left(32) ^ third).wrapping_mul(MIX);
            sum = (sum.rotate_left(32) ^ fourth).wrapping_mul(MIX);
        }
        (sum >> (u64::BITS - PLACES.ilog2())) as usize
    }
}

/// Source and destination of a header.
#[inline(always)]
pub(crate) fn v4_addresses(header: &[u8; IPV4_HEADER_LEN]) -> [u64; 4] {
    [v4_word(header), 0, 0, 0]
}

/// The word that is not zero of these: source in the low half, destination in the high one.
#[inline(always)]
pub(crate) fn v4_word(header: &[u8; IPV4_HEADER_LEN]) -> u64 {
    header.last_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The IPv4 flows that selectors let through whatever the flow's protocol and ports are, as far as one mask over [`v4_word`] tells. Others may be let
/// through all the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnyBetween {
    mask: u64,
    value: u64,
}

impl AnyBetween {
    const NONE: Self = Self { mask: 0, value: 1 };

    /// Those of an SA's selectors; of none they are all flows.
    pub(crate) fn new(selectors: &[Selector]) -> Self {
        if selectors.is_empty() {
            return Self { mask: 0, value: 0 };
        }
        selectors.iter().find_map(Self::of).unwrap_or(Self::NONE)
    }

    fn of(selector: &Selector) -> Option<Self> {
        let &Selector { source, destination, protocol: None, source_port: PortRange::ANY, destination_port: PortRange::ANY } = selector else { return None };
        let [source, destination] = [source, destination].map(|range| match range.map(|range| range.as_prefix()) {
            None => Some((0, 0)),
            Some(Some((address, length))) if address.is_v4() => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                // In the bytes' own order, as the word has them.
                Some((u64::from(mask.swap_bytes()), u64::from((address.to_number() as u32).swap_bytes())))
            }
            Some(_) => None,
        });
        let ((source_mask, source), (destination_mask, destination)) = (source?, destination?);
        Some(Self { mask: source_mask | destination_mask << 32, value: source | destination << 32 })
    }

    /// Whether packets between the addresses of this word are among them.
    #[inline(always)]
    pub(crate) const fn has(self, v4_word: u64) -> bool {
        v4_word & self.mask == self.value
    }
}

/// The addresses of IPv6, as [`FlowKey`] has them.
#[inline(always)]
pub(crate) fn v6_addresses(header: &[u8; IPV6_HEADER_LEN]) -> [u64; 4] {
    let (words, _) = header.as_chunks::<8>();
    [1, 2, 3, 4].map(|at| words.get(at).map_or(0, |&word| u64::from_le_bytes(word)))
}

#[inline(always)]
fn rest(protocol: IpProtocol, payload: &[u8]) -> u64 {
    let ports = match payload.first_chunk() {
        Some(ports) if protocol.has_ports() => FlowKey::PORTS | u64::from(u32::from_le_bytes(*ports)),
        _ => 0,
    };
    ports | u64::from(protocol.0) << 32
}

fn v6(high: [u8; 8], low: [u8; 8]) -> IpAddress {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&high);
    bytes[8..].copy_from_slice(&low);
    IpAddress::v6(bytes)
}

/// What was said of one flow; one cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Said {
    /// That of no packet where nothing was said.
    key: FlowKey,
    action: Action,
}

const _: () = assert!(size_of::<Said>() == 64, "one cache line");

impl Said {
    const NOTHING: Self = Self { key: FlowKey { rest: 0, addresses: [0; 4] }, action: Action::Discard };
}

/// What the policies of one snapshot say of outbound packets. It belongs to one lane.
pub(crate) struct Flows {
    /// What becomes of every packet, where that does not depend on it.
    always: Option<Action>,
    /// None where nobody asks.
    said: Box<[Said]>,
}

impl Flows {
    pub(crate) fn new(spd: &Spd) -> Self {
        let mut flows = Self { always: None, said: Box::default() };
        flows.begin(spd);
        flows
    }

    /// Forgets all, and begins with these policies.
    #[cold]
    pub(crate) fn begin(&mut self, spd: &Spd) {
        self.always = spd.outbound_always();
        if self.always.is_some() {
            self.said = Box::default();
        } else if self.said.is_empty() {
            self.said = vec![Said::NOTHING; PLACES].into_boxed_slice();
        } else {
            self.said.fill(Said::NOTHING);
        }
    }

    /// Whether the same becomes of every packet.
    #[inline]
    pub(crate) const fn is_one(&self) -> bool {
        self.always.is_some()
    }

    /// What `spd`, those that it began with, say of a packet; `key` is asked for only where that depends on the packet.
    #[inline(always)]
    pub(crate) fn action(&mut self, spd: &Spd, key: impl FnOnce() -> FlowKey) -> Action {
        if let Some(action) = self.always {
            return action;
        }
        let key = key();
        match self.said.get_mut(key.place()) {
            Some(said) if said.key.is(&key) => said.action,
            Some(said) => {
                let action = ask(spd, &key);
                *said = Said { key, action };
                action
            }
            None => ask(spd, &key),
        }
    }
}

#[inline(never)]
fn ask(spd: &Spd, key: &FlowKey) -> Action {
    spd.outbound(&key.flow())
}

#[cfg(test)]
mod tests {
    use ndis::Direction;
    use packet::ParsedIp;
    use proptest::prelude::*;

    use super::*;
    use crate::selector::AddressRange;
    use crate::spd::Policy;

    fn packet(v4: bool, protocol: u8, source: u8, destination: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; if v4 { 20 } else { 40 }];
        if v4 {
            packet[0] = 0x45;
            packet[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
            (packet[9], packet[15], packet[19]) = (protocol, source, destination);
        } else {
            packet[0] = 0x60;
            packet[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
            (packet[6], packet[23], packet[39]) = (protocol, source, destination);
        }
        packet.extend(payload);
        packet
    }

    fn key(packet: &[u8]) -> FlowKey {
        if packet[0] >> 4 == 4 {
            FlowKey::v4(packet.first_chunk().unwrap(), IpProtocol(packet[9]), &packet[20..])
        } else {
            FlowKey::v6(packet.first_chunk().unwrap(), IpProtocol(packet[6]), &packet[40..])
        }
    }

    fn packets() -> impl Strategy<Value = Vec<u8>> {
        // No extension headers, and few enough values that some come again, and share places.
        let protocol = proptest::sample::select(vec![1_u8, 6, 17, 50, 58, 132, 136, 253]);
        (any::<bool>(), protocol, 0..3_u8, 0..3_u8, proptest::collection::vec(0..3_u8, 0..6))
            .prop_map(|(v4, protocol, source, destination, payload)| packet(v4, protocol, source, destination, &payload))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn keys_are_what_policies_see(packets in proptest::collection::vec(packets(), 2..20)) {
            let flows: Vec<_> = packets.iter().map(|packet| crate::plan::flow(&ParsedIp::parse(packet).unwrap())).collect();
            for (packet, flow) in packets.iter().zip(&flows) {
                prop_assert_eq!(key(packet).flow(), *flow);
                prop_assert_eq!(FlowKey::destination_port(key(packet).rest), flow.ports.map(|(_, port)| port));
                for (other, other_flow) in packets.iter().zip(&flows) {
                    prop_assert_eq!(key(packet) == key(other), flow == other_flow);
                    prop_assert_eq!(key(packet).is(&key(other)), flow == other_flow);
                }
            }
        }

        #[test]
        fn says_what_the_policies_say(packets in proptest::collection::vec(packets(), 1..100), first in 0..3_u8, port in 0..600_u16) {
            let mut spd = Spd::new();
            let udp = Selector { protocol: Some(IpProtocol::UDP), ..Selector::ANY };
            let ports = Selector { destination_port: PortRange { first: port, last: port.saturating_add(256) }, ..Selector::ANY };
            let address = Selector { source: Some(AddressRange::single(IpAddress::v4([0, 0, 0, first]))), ..Selector::ANY };
            for (selector, action) in [(udp, Action::Bypass), (ports, Action::Discard), (address, Action::Protect(None))] {
                spd.push(Policy { direction: Direction::Outbound, selectors: vec![selector], action });
            }
            spd.default_outbound = Action::Protect(sa_table::Handle::from_bits(7));
            let mut flows = Flows::new(&spd);
            for policies in 0..3 {
                for packet in &packets {
                    prop_assert_eq!(flows.action(&spd, || key(packet)), spd.outbound(&key(packet).flow()), "{}", policies);
                }
                spd.policies_mut().remove(0);
                flows.begin(&spd);
            }
            prop_assert_eq!(flows.always, Some(spd.default_outbound));
            prop_assert_eq!(flows.action(&spd, || panic!("nobody needs to know")), spd.default_outbound);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_mask_lets_through_what_selectors_do(
            selectors in proptest::collection::vec((0..5_u8, 0..5_u8, 0..3_u8, any::<bool>()), 0..3),
            packets in proptest::collection::vec(packets(), 1..20),
        ) {
            // Of the addresses 0.0.0.0 to 0.0.0.2, which the packets have.
            let range = |kind| match kind {
                0 => None,
                1 => AddressRange::prefix(IpAddress::v4([0; 4]), 31),
                2 => AddressRange::prefix(IpAddress::v4([0; 4]), 0),
                3 => AddressRange::new(IpAddress::v4([0, 0, 0, 1]), IpAddress::v4([0, 0, 0, 2])),
                _ => Some(AddressRange::single(IpAddress::v4([0, 0, 0, 2]))),
            };
            let selectors: Vec<_> = selectors
                .into_iter()
                .map(|(source, destination, port, tcp)| Selector {
                    source: range(source),
                    destination: range(destination),
                    protocol: tcp.then_some(IpProtocol::TCP),
                    destination_port: if port == 0 { PortRange { first: 0, last: 256 } } else { PortRange::ANY },
                    ..Selector::ANY
                })
                .collect();
            let any = AnyBetween::new(&selectors);
            for packet in packets.iter().filter(|packet| packet[0] >> 4 == 4) {
                let flow = key(packet).flow();
                let let_through = selectors.is_empty() || selectors.iter().any(|selector| selector.matches(&flow));
                if any.has(v4_word(packet.first_chunk().unwrap())) {
                    prop_assert!(let_through, "{:?} {:?}", selectors, flow);
                } else if let [Selector { source, destination, protocol: None, destination_port: PortRange::ANY, .. }] = &selectors[..]
                    && [source, destination].iter().all(|range| range.is_none_or(|range| range.as_prefix().is_some()))
                {
                    prop_assert!(!let_through, "{:?} {:?}", selectors, flow);
                }
            }
        }
    }

    #[test]
    fn flows_that_share_a_place_are_told_apart() {
        let mut spd = Spd::new();
        spd.push(Policy {
            direction: Direction::Outbound,
            selectors: vec![Selector { protocol: Some(IpProtocol::TCP), ..Selector::ANY }],
            action: Action::Bypass,
        });
        let mut flows = Flows::new(&spd);
        let tcp = key(&packet(true, 6, 1, 2, &[0, 0, 0, 0]));
        let other = (0..=u16::MAX).map(|port| key(&packet(true, 17, 1, 2, &[port.to_be_bytes(), [0; 2]].concat()))).find(|other| other.place() == tcp.place());
        let other = other.expect("there are more ports than places");
        for _ in 0..3 {
            assert_eq!(flows.action(&spd, || tcp), Action::Bypass);
            assert_eq!(flows.action(&spd, || other), Action::Discard);
        }
    }
}
