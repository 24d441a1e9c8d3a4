//! The list of parser entries against a model of OV1-2a, with a NIC that fails at any step.

use std::collections::{BTreeMap, BTreeSet};

use ndis::{Associations, EncryptionAlgorithm, Endpoints, EspAssociation, Keyed, SaExtension};
use packet::{IpProtocol, Spi};
use proptest::prelude::*;
use secret::SecretBytes;

use super::*;

fn handle(bits: u64) -> OffloadHandle {
    OffloadHandle::from_bits(bits).unwrap()
}

fn entry(port: u16) -> V1ParserEntry {
    V1ParserEntry { kind: V1EncapsulationType::Other, destination_port: port }
}

/// A NIC as OV1-2a has it: an equal entry is reused, a failed add leaves neither, a handle in a deletion takes the entry along.
#[derive(Default)]
struct Nic {
    /// Handle, what it looks for, and whether for outbound SAs.
    entries: BTreeMap<u64, (V1ParserEntry, bool)>,
    /// SAs and their entries.
    sas: BTreeMap<u64, u64>,
    given: u64,
}

impl Nic {
    fn add(&mut self, what: V1ParserEntry, direction: Direction, asked: Option<OffloadHandle>, fails: bool) -> Option<(u64, OffloadHandle)> {
        let outbound = direction == Direction::Outbound;
        let wanted = (if outbound { entry(0) } else { what }, outbound);
        if let Some(asked) = asked {
            assert_eq!(self.entries.get(&asked.to_bits()), Some(&wanted), "a handle of an entry that is there, and for this");
        }
        if fails {
            return None;
        }
        let found = asked.map(OffloadHandle::to_bits).or_else(|| self.entries.iter().find(|(_, there)| **there == wanted).map(|(bits, _)| *bits));
        let bits = found.unwrap_or_else(|| {
            self.given += 1;
            self.entries.insert(1000 + self.given, wanted);
            1000 + self.given
        });
        self.given += 1;
        self.sas.insert(self.given, bits);
        Some((self.given, handle(bits)))
    }

    fn delete(&mut self, what: Doomed, fails: bool) -> bool {
        assert!(self.sas.contains_key(&what.handle.to_bits()), "what it deletes is there");
        if fails {
            return false;
        }
        self.sas.remove(&what.handle.to_bits());
        if let Some(entry) = what.entry {
            assert!(self.entries.remove(&entry.to_bits()).is_some());
        }
        true
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add { port: u16, outbound: bool, fails: bool },
    Delete { which: usize, fails: bool },
    Retry { fail: Vec<bool> },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u16..2, any::<bool>(), prop::bool::weighted(0.3)).prop_map(|(port, outbound, fails)| Step::Add { port: 4500 + port, outbound, fails }),
        4 => (0usize..8, prop::bool::weighted(0.4)).prop_map(|(which, fails)| Step::Delete { which, fails }),
        2 => prop::collection::vec(any::<bool>(), 0..6).prop_map(|fail| Step::Retry { fail }),
    ];
    prop::collection::vec(step, 1..60)
}

/// The rules of OV1-2a, written down a second time: for each entry of the NIC that the transport knows of, the SAs that use it, and whether it is marked.
#[derive(Default)]
struct Model {
    uses: BTreeMap<u64, (BTreeSet<u64>, bool)>,
    /// SAs that are marked, with the entry that goes with each.
    marked: BTreeMap<u64, Option<u64>>,
}

impl Model {
    fn check(&self, list: &ParserList, nic: &Nic) {
        let known: BTreeMap<u64, (usize, bool)> = list.entries.iter().map(|entry| (entry.handle.to_bits(), (entry.count, entry.marked))).collect();
        let expected: BTreeMap<u64, (usize, bool)> = self.uses.iter().map(|(bits, (users, marked))| (*bits, (users.len(), *marked))).collect();
        assert_eq!(known, expected);
        let doomed: BTreeMap<u64, Option<u64>> = list.doomed.iter().map(|doomed| (doomed.handle.to_bits(), doomed.entry.map(OffloadHandle::to_bits))).collect();
        assert_eq!(doomed, self.marked);
        // Whatever is used is there, in the NIC.
        for (bits, (users, _)) in &self.uses {
            assert!(nic.entries.contains_key(bits));
            assert!(users.iter().all(|sa| nic.sas.get(sa) == Some(bits)));
        }
    }

    fn deleted(&mut self, sa: u64, entry: Option<u64>, done: bool) {
        match (entry, done) {
            (Some(bits), true) => drop(self.uses.remove(&bits)),
            (Some(bits), false) => self.uses.get_mut(&bits).unwrap().1 = true,
            (None, _) => {}
        }
        if done {
            self.marked.remove(&sa)
        } else {
            self.marked.insert(sa, entry)
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// OV1-2a: a reused entry is counted before the request and uncounted on failure, a new one joins with count 1; a deletion uncounts first, takes the entry
    /// along at zero, and where it fails both are marked, used for nothing, and deleted later. In the end the NIC has what is used, and no more.
    #[test]
    fn entries_follow_the_rules_whatever_fails(steps in steps()) {
        let (mut list, mut nic, mut model) = (ParserList::default(), Nic::default(), Model::default());
        let mut live: Vec<(u64, OffloadHandle)> = Vec::new();
        let sa = |bits: u64| Handle::from_bits(bits).unwrap();
        for step in steps {
            match step {
                Step::Add { port, outbound, fails } => {
                    let direction = if outbound { Direction::Outbound } else { Direction::Inbound };
                    let asked = list.begin_add(entry(port), direction);
                    // Marked entries are not asked for.
                    let usable = model.uses.iter().find(|(bits, (_, marked))| {
                        let (what, out) = nic.entries[bits];
                        !marked && out == outbound && (out || what == entry(port))
                    });
                    prop_assert_eq!(asked.map(OffloadHandle::to_bits), usable.map(|(bits, _)| *bits));
                    if let Some(asked) = asked {
                        // Counted before the request.
                        let count = list.entries.iter().find(|entry| entry.handle == asked).unwrap().count;
                        prop_assert_eq!(count, model.uses[&asked.to_bits()].0.len() + 1);
                    }
                    let answer = nic.add(entry(port), direction, asked, fails);
                    list.end_add(entry(port), direction, asked, answer.map(|(_, entry)| entry));
                    if let Some((sa, used)) = answer {
                        let there = model.uses.entry(used.to_bits()).or_default();
                        there.0.insert(sa);
                        if std::mem::take(&mut there.1) {
                            model.marked.values_mut().filter(|entry| **entry == Some(used.to_bits())).for_each(|entry| *entry = None);
                        }
                        live.push((sa, used));
                    }
                }
                Step::Delete { which, fails } => {
                    if live.is_empty() {
                        continue;
                    }
                    let (bits, used) = live.remove(which % live.len());
                    let what = Doomed { sa: sa(bits), handle: handle(bits), udp: true, entry: list.begin_delete(used) };
                    let users = &mut model.uses.get_mut(&used.to_bits()).unwrap().0;
                    users.remove(&bits);
                    prop_assert_eq!(what.entry.is_some(), users.is_empty(), "the entry goes with the last");
                    let done = nic.delete(what, fails);
                    list.end_delete(what, done);
                    model.deleted(bits, what.entry.map(OffloadHandle::to_bits), done);
                }
                Step::Retry { fail } => {
                    let mut fail = fail.into_iter();
                    for what in list.take_doomed() {
                        let done = nic.delete(what, fail.next().unwrap_or(false));
                        list.end_delete(what, done);
                        model.deleted(what.handle.to_bits(), what.entry.map(OffloadHandle::to_bits), done);
                    }
                }
            }
            model.check(&list, &nic);
        }
        // All that is left goes, in the end.
        for what in list.take_doomed() {
            prop_assert!(nic.delete(what, false));
            list.end_delete(what, true);
        }
        let used: BTreeSet<u64> = live.iter().map(|(_, entry)| entry.to_bits()).collect();
        prop_assert_eq!(nic.entries.keys().copied().collect::<BTreeSet<_>>(), used);
        prop_assert_eq!(nic.sas.len(), live.len());
    }
}

/// OV1-2: what of selectors can be said with masks, a protocol and ports; never less than the selectors let through.
#[test]
fn selectors_become_the_narrowest_filter() {
    let address = |text: &str| -> IpAddress { text.parse().unwrap() };
    let net = |text: &str, length| AddressRange::prefix(address(text), length);
    let single = |port| PortRange { first: port, last: port };
    let dns = Selector {
        source: net("10.0.1.0", 24),
        destination: net("10.0.2.7", 32),
        protocol: Some(IpProtocol::UDP),
        source_port: PortRange::ANY,
        destination_port: single(53),
    };
    let masked = |octets: [u8; 4], length| MaskedAddress::prefix(octets.into(), length);
    let expected = V1Filter { source: masked([10, 0, 1, 0], 24), destination: masked([10, 0, 2, 7], 32), protocol: 17, source_port: 0, destination_port: 53 };
    assert_eq!(filter(&[dns]), expected);
    assert_eq!(filter(&[]), V1Filter::ANY);
    assert_eq!(filter(&[Selector::ANY, dns]), V1Filter::ANY);
    let tcp = Selector { protocol: Some(IpProtocol::TCP), source: net("10.0.1.0", 25), ..dns };
    assert_eq!(filter(&[dns, tcp]), V1Filter { protocol: 0, source: MaskedAddress::ANY, ..expected });
    // Ranges that are none of masks and ports, and IPv6, are left to the transport.
    let range = AddressRange::new(address("10.0.1.1"), address("10.0.1.9"));
    let odd = Selector { source: range, destination: net("2001:db8::", 64), destination_port: PortRange { first: 53, last: 54 }, ..dns };
    assert_eq!(filter(&[odd]), V1Filter { protocol: 17, ..V1Filter::ANY });
}

/// OV1-1, OV1-3: what version 1 cannot say of an SA inside a tunnel.
#[test]
fn nothing_is_sent_inside_a_tunnel() {
    let mut config = IpsecOffloadV1 {
        encapsulation: ndis::Encapsulation::NULL,
        ipv4_esp: ndis::Ipv4Esp { null_esp: true, transport: true, send: true, receive: true, ..ndis::Ipv4Esp::default() },
        transport_tunnel_combined: true,
        ..IpsecOffloadV1::default()
    };
    let bundle = |direction| SaBundle {
        direction,
        endpoints: Endpoints { ipv6: false, source: None, destination: None },
        udp_esp: None,
        associations: Associations::Esp(EspAssociation {
            spi: Spi(0x1001),
            extended_sequence_numbers: false,
            sequence_number_high: 0,
            encryption: Keyed { algorithm: EncryptionAlgorithm::Null, key: SecretBytes::default(), additional_info: 0 },
            authentication: None,
        }),
        extension: SaExtension::default(),
    };
    let missing = [crate::offload::without_nesting()];
    for (combined, inbound) in [(true, &[][..]), (false, &missing[..])] {
        config.transport_tunnel_combined = combined;
        assert_eq!(lacks(&config, &bundle(Direction::Outbound), SaMode::Transport, true), missing);
        assert_eq!(lacks(&config, &bundle(Direction::Inbound), SaMode::Transport, true), inbound);
        assert_eq!(lacks(&config, &bundle(Direction::Outbound), SaMode::Transport, false), []);
    }
}
