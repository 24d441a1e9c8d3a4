//! From a packet's addresses to the policies that can be about it, in their order: so that a look-up goes through a few of thousands.
//!
//! The addresses of each IP version, of one end, are cut where the policies' ranges begin and end; all addresses between two cuts have the same policies. Which end
//! is that of which the longest such list is shorter. Where the lists would take far more room than the selectors do, there is no index.

use std::collections::BTreeMap;

use ndis::Direction;
use packet::{IpAddress, IpVersion};

use crate::selector::{AddressRange, Flow, Selector};
use crate::spd::Policy;

/// Fewer policies are gone through one by one.
pub(crate) const LEAST: usize = 8;
/// Places of all lists, of one version, for each selector.
const MOST_PER_SELECTOR: usize = 64;

/// The policies of one direction by address.
#[derive(Clone, Debug)]
pub(crate) struct PolicyIndex {
    v4: Cuts,
    v6: Cuts,
}

/// Which address of a packet is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Source,
    Destination,
}

/// The policies of one IP version.
#[derive(Clone, Debug)]
struct Cuts {
    side: Side,
    /// The first address of each part, ascending; the first part begins with 0.
    firsts: Vec<u128>,
    /// Where each part's list ends in `lists`; it begins where the one before ends.
    ends: Vec<u32>,
    /// Places of policies, ascending in each list.
    lists: Vec<u32>,
}

impl PolicyIndex {
    /// That of these policies; `None`: there are few, or their ranges overlap too much.
    pub(crate) fn new(policies: &[Policy], direction: Direction) -> Option<Self> {
        let of_direction = || (0_u32..).zip(policies).filter(|(_, policy)| policy.direction == direction);
        if of_direction().count() < LEAST {
            return None;
        }
        let most = of_direction().map(|(_, policy)| policy.selectors.len().max(1)).sum::<usize>() * MOST_PER_SELECTOR;
        let cuts = |version| {
            let sides = [Side::Destination, Side::Source].map(|side| Cuts::new(of_direction(), version, side, most));
            sides.into_iter().flatten().min_by_key(Cuts::longest)
        };
        Some(Self { v4: cuts(IpVersion::V4)?, v6: cuts(IpVersion::V6)? })
    }

    /// Places of the policies that can be about packets of this flow, in order: all that are, and few others.
    #[inline]
    pub(crate) fn places(&self, flow: &Flow) -> &[u32] {
        let cuts = if flow.destination.is_v4() { &self.v4 } else { &self.v6 };
        cuts.list(match cuts.side {
            Side::Source => flow.source,
            Side::Destination => flow.destination,
        })
    }
}

impl Cuts {
    /// `None` if the lists have more than `most` places in all.
    fn new<'a>(policies: impl Iterator<Item = (u32, &'a Policy)>, version: IpVersion, side: Side, most: usize) -> Option<Self> {
        let last = if version == IpVersion::V4 { u128::from(u32::MAX) } else { u128::MAX };
        // How many more ranges of which policies there are from an address on.
        let mut changes = BTreeMap::<u128, Vec<(u32, i32)>>::from([(0, Vec::new())]);
        for (place, policy) in policies {
            let all = [Selector::ANY];
            let selectors = if policy.selectors.is_empty() { &all[..] } else { &policy.selectors };
            for (first, end) in selectors.iter().filter_map(|selector| range(selector, version, side, last)) {
                changes.entry(first).or_default().push((place, 1));
                if let Some(after) = end.checked_add(1).filter(|&after| after <= last) {
                    changes.entry(after).or_default().push((place, -1));
                }
            }
        }
        let mut cuts = Self { side, firsts: Vec::with_capacity(changes.len()), ends: Vec::with_capacity(changes.len()), lists: Vec::new() };
        let mut open = BTreeMap::<u32, i32>::new();
        for (first, changes) in changes {
            for (place, change) in changes {
                let ranges = open.entry(place).or_default();
                *ranges += change;
                if *ranges == 0 {
                    open.remove(&place);
                }
            }
            cuts.lists.extend(open.keys());
            if cuts.lists.len() > most {
                return None;
            }
            cuts.firsts.push(first);
            cuts.ends.push(u32::try_from(cuts.lists.len()).ok()?);
        }
        Some(cuts)
    }

    fn longest(&self) -> usize {
        (0..self.firsts.len()).map(|part| self.of_part(part).len()).max().unwrap_or(0)
    }

    fn of_part(&self, part: usize) -> &[u32] {
        let end_of = |part: usize| self.ends.get(part).map_or(0, |&end| end as usize);
        let begin = part.checked_sub(1).map_or(0, end_of);
        self.lists.get(begin..end_of(part)).unwrap_or_default()
    }

    #[inline]
    fn list(&self, address: IpAddress) -> &[u32] {
        let address = address.to_number();
        // The first part begins with 0, so there is one before each address.
        self.of_part(self.firsts.partition_point(|&first| first <= address).saturating_sub(1))
    }
}

/// The addresses of that version and end that a selector is about, both ends included; `None`: it is about none.
fn range(selector: &Selector, version: IpVersion, side: Side, last: u128) -> Option<(u128, u128)> {
    let (this, other) = match side {
        Side::Source => (selector.source, selector.destination),
        Side::Destination => (selector.destination, selector.source),
    };
    // Both addresses of a packet are of one version.
    if [this, other].iter().flatten().any(|range| range.version() != version) {
        return None;
    }
    Some(this.map_or((0, last), |range: AddressRange| (range.first().to_number(), range.last().to_number())))
}

#[cfg(test)]
mod tests {
    use packet::IpProtocol;
    use proptest::prelude::*;

    use super::*;
    use crate::selector::PortRange;
    use crate::spd::{Action, Spd};

    /// One of few addresses, so that ranges meet, touch and lie in each other.
    fn address(v4: bool, low: u8) -> IpAddress {
        if v4 { IpAddress::v4([255, 255, 255, low]) } else { IpAddress::from_number(IpVersion::V6, u128::MAX - 255 + u128::from(low)).unwrap() }
    }

    fn addresses() -> impl Strategy<Value = Option<AddressRange>> {
        let ends = (any::<bool>(), any::<u8>(), any::<u8>());
        prop_oneof![
            1 => Just(None),
            1 => any::<bool>().prop_map(|v4| Some(AddressRange::all(address(v4, 0)))),
            6 => ends.prop_map(|(v4, one, other)| AddressRange::new(address(v4, one.min(other)), address(v4, one.max(other)))),
        ]
    }

    fn selector() -> impl Strategy<Value = Selector> {
        (addresses(), addresses(), proptest::option::of(Just(IpProtocol::TCP)), any::<bool>()).prop_map(|(source, destination, protocol, port)| Selector {
            source,
            destination,
            protocol,
            destination_port: if port { PortRange { first: 443, last: 443 } } else { PortRange::ANY },
            ..Selector::ANY
        })
    }

    fn policy() -> impl Strategy<Value = (bool, Vec<Selector>)> {
        (prop::bool::weighted(0.8), proptest::collection::vec(selector(), 0..4)).prop_map(|(outbound, mut selectors)| {
            // Those about all packets are rare.
            if selectors.is_empty() && !outbound {
                selectors.push(Selector::ANY);
            }
            (outbound, selectors)
        })
    }

    fn direction(outbound: bool) -> Direction {
        if outbound { Direction::Outbound } else { Direction::Inbound }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_first_policy_is_the_same_with_an_index_and_without(
            policies in proptest::collection::vec(policy(), 0..40),
            flows in proptest::collection::vec((any::<bool>(), any::<u8>(), any::<u8>(), any::<bool>(), any::<bool>()), 1..40),
            cut: bool,
        ) {
            let mut spd = Spd::new();
            for (number, (outbound, selectors)) in (1..).zip(&policies) {
                let action = Action::Protect(sa_table::Handle::from_bits(number));
                spd.push(Policy { direction: direction(*outbound), selectors: selectors.clone(), action });
            }
            // Policies come, go and change places, behind an index and in a clone that goes on with the old ones.
            spd.prepare();
            let old = spd.clone();
            let (mut changed, count) = (spd.clone(), spd.policies().len());
            if count > 1 {
                let policies = changed.policies_mut();
                policies.swap(0, count - 1);
                if cut {
                    policies.remove(count / 2);
                }
            }
            for (spd, (v4, source, destination, tcp, https), prepared) in
                flows.iter().flat_map(|flow| [(&spd, *flow, true), (&old, *flow, false), (&changed, *flow, false), (&changed, *flow, true)])
            {
                if prepared {
                    spd.prepare();
                }
                let protocol = if tcp { IpProtocol::TCP } else { IpProtocol::UDP };
                let flow = Flow { source: address(v4, source), destination: address(v4, destination), protocol, ports: Some((1, if https { 443 } else { 80 })) };
                for outbound in [true, false] {
                    let first = spd.policies().iter().find(|policy| {
                        policy.direction == direction(outbound) && (policy.selectors.is_empty() || policy.selectors.iter().any(|one| one.matches(&flow)))
                    });
                    let said = if outbound { spd.outbound(&flow) } else { spd.inbound_clear(&flow) };
                    prop_assert_eq!(said, first.map_or(Action::Discard, |policy| policy.action));
                }
            }
        }
    }

    fn one(source: Option<AddressRange>, destination: Option<AddressRange>) -> Policy {
        Policy { direction: Direction::Outbound, selectors: vec![Selector { source, destination, ..Selector::ANY }], action: Action::Bypass }
    }

    #[test]
    fn a_look_up_among_thousands_goes_through_few() {
        let single = |number: u32| Some(AddressRange::single(IpAddress::v4(number.to_be_bytes())));
        let network = AddressRange::prefix(IpAddress::v4([10, 0, 0, 0]), 8);
        for by_source in [false, true] {
            let mut policies: Vec<_> = (0..5000).map(|number| if by_source { one(single(number), network) } else { one(network, single(number)) }).collect();
            policies.insert(0, one(None, None));
            policies.push(one(None, None));
            let index = PolicyIndex::new(&policies, Direction::Outbound).expect("there is room");
            let [mut source, mut destination] = [IpAddress::v4([10, 0, 0, 1]); 2];
            *if by_source { &mut source } else { &mut destination } = IpAddress::v4(4711_u32.to_be_bytes());
            let flow = Flow { source, destination, protocol: IpProtocol::TCP, ports: None };
            assert_eq!(index.places(&flow), [0, 4712, 5001]);
            assert_eq!(PolicyIndex::new(&policies, Direction::Inbound).map(|_| ()), None, "there are none");
        }
    }

    #[test]
    fn policies_of_many_selectors_have_an_index() {
        let single = |number: u32| Selector { destination: Some(AddressRange::single(IpAddress::v4(number.to_be_bytes()))), ..Selector::ANY };
        let policy = |number: u32| Policy { selectors: (0..1000).map(|at| single(number + 8 * at)).collect(), ..one(None, None) };
        let policies: Vec<_> = (0..LEAST as u32).map(policy).collect();
        let index = PolicyIndex::new(&policies, Direction::Outbound).expect("there is room");
        let flow = Flow { source: IpAddress::v4([1; 4]), destination: IpAddress::v4(4711_u32.to_be_bytes()), protocol: IpProtocol::TCP, ports: None };
        assert_eq!(index.places(&flow), [4711 % 8]);
    }

    #[test]
    fn ranges_that_all_overlap_get_no_index() {
        let range = |number: u32| AddressRange::new(IpAddress::v4(number.to_be_bytes()), IpAddress::v4([255; 4]));
        let policies: Vec<_> = (1..1000).map(|number| one(range(number), range(number))).collect();
        assert!(PolicyIndex::new(&policies, Direction::Outbound).is_none());
        assert!(PolicyIndex::new(&policies[..100], Direction::Outbound).is_some());
        assert!(PolicyIndex::new(&policies[..LEAST - 1], Direction::Outbound).is_none());
    }
}
