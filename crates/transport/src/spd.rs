//! The security policy database (RFC 4301 section 4.4.1): which packets are protected, bypassed or discarded.

use std::sync::{Arc, OnceLock};

use ndis::Direction;
use sa_table::Handle;

use crate::policy_index::{self, PolicyIndex};
use crate::selector::{Flow, Selector};

/// What happens to a packet that a policy is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Outbound: protected by this SA. Inbound: must have been protected by an SA whose selectors it fits; in clear it is dropped.
    Protect(Option<Handle>),
    /// Passes as it is.
    Bypass,
    /// Is dropped.
    Discard,
}

/// An entry of the database.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Which packets it is about, by direction.
    pub direction: Direction,
    /// Which packets it is about; any of these. Empty = all.
    pub selectors: Vec<Selector>,
    /// What happens to them.
    pub action: Action,
}

impl Policy {
    #[inline]
    fn matches(&self, direction: Direction, flow: impl FnOnce() -> Flow) -> bool {
        self.direction == direction
            && (self.selectors.is_empty() || {
                let flow = flow();
                self.selectors.iter().any(|selector| selector.matches(&flow))
            })
    }
}

/// The ordered database. A lane works with a snapshot of it and takes a new one when the transport says that it changed.
#[derive(Clone, Debug)]
pub struct Spd {
    policies: Vec<Policy>,
    /// Outbound and inbound ones by address, once [`Spd::prepare`] has made it; `None` in it: they are gone through one by one.
    index: OnceLock<Arc<[Option<PolicyIndex>; 2]>>,
    /// What happens to packets that no policy is about; RFC 4301 section 5: they are discarded.
    pub default_outbound: Action,
    /// The same for packets that come in without protection.
    pub default_inbound: Action,
    /// What happens to frames that are not IP, both ways.
    pub non_ip: Action,
    /// What happens to IKE packets and NAT keepalives that come in on a port of UDP-ESP (RFC 3948 section 2.2; [`Action::Bypass`]: they are passed as they
    /// are). They are IKE's, and looked at before the policies.
    pub ike: Action,
}

impl Spd {
    /// No policies: everything is discarded but IKE over UDP-ESP.
    pub const fn new() -> Self {
        Self {
            policies: Vec::new(),
            index: OnceLock::new(),
            default_outbound: Action::Discard,
            default_inbound: Action::Discard,
            non_ip: Action::Discard,
            ike: Action::Bypass,
        }
    }

    /// Adds a policy behind the others.
    pub fn push(&mut self, policy: Policy) {
        self.policies_mut().push(policy);
    }

    /// The policies, in order.
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// The policies, in order, to be changed.
    pub fn policies_mut(&mut self) -> &mut Vec<Policy> {
        self.index = OnceLock::new();
        &mut self.policies
    }

    /// Makes look-ups go by the policies' addresses from now on, until the policies change, for all who share this database. It takes far longer than a look-up, so it
    /// is for those who have the time, and not for lanes. Answers stay the same.
    pub fn prepare(&self) {
        if self.policies.len() >= policy_index::LEAST {
            let directions = [Direction::Outbound, Direction::Inbound];
            self.index.get_or_init(|| Arc::new(directions.map(|direction| PolicyIndex::new(&self.policies, direction))));
        }
    }

    /// What the first policy about an outbound packet says.
    #[inline]
    pub fn outbound(&self, flow: &Flow) -> Action {
        self.outbound_packet(|| *flow)
    }

    /// The same; `flow` is asked for only by policies that have selectors.
    #[inline]
    pub(crate) fn outbound_packet(&self, flow: impl Fn() -> Flow) -> Action {
        self.first(Direction::Outbound, flow).unwrap_or(self.default_outbound)
    }

    /// What becomes of every outbound packet, where the first outbound policy is about all of them, or there is none.
    pub(crate) fn outbound_always(&self) -> Option<Action> {
        match self.policies.iter().find(|policy| policy.direction == Direction::Outbound) {
            Some(policy) => policy.selectors.is_empty().then_some(policy.action),
            None => Some(self.default_outbound),
        }
    }

    /// What the first policy about a packet that came in without protection says.
    #[inline]
    pub fn inbound_clear(&self, flow: &Flow) -> Action {
        self.first(Direction::Inbound, || *flow).unwrap_or(self.default_inbound)
    }

    #[inline]
    fn first(&self, direction: Direction, flow: impl Fn() -> Flow) -> Option<Action> {
        if let Some([outbound, inbound]) = self.index.get().map(|index| &**index)
            && let Some(index) = if direction == Direction::Outbound { outbound } else { inbound }
        {
            let flow = flow();
            let mut about = index.places(&flow).iter().filter_map(|&place| self.policies.get(place as usize));
            return about.find(|policy| policy.matches(direction, || flow)).map(|policy| policy.action);
        }
        self.policies.iter().find(|policy| policy.matches(direction, &flow)).map(|policy| policy.action)
    }
}

impl Default for Spd {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use packet::IpProtocol;

    use super::*;

    #[test]
    fn the_first_policy_decides_and_nothing_is_let_through_by_default() {
        let flow = Flow { source: "10.0.0.1".parse().unwrap(), destination: "10.0.0.2".parse().unwrap(), protocol: IpProtocol::ICMP, ports: None };
        let mut spd = Spd::new();
        assert_eq!((spd.outbound(&flow), spd.inbound_clear(&flow)), (Action::Discard, Action::Discard));
        let icmp = Selector { protocol: Some(IpProtocol::ICMP), ..Selector::ANY };
        spd.push(Policy { direction: Direction::Outbound, selectors: vec![icmp], action: Action::Bypass });
        spd.push(Policy { direction: Direction::Outbound, selectors: vec![], action: Action::Protect(None) });
        assert_eq!(spd.outbound(&flow), Action::Bypass);
        assert_eq!(spd.outbound(&Flow { protocol: IpProtocol::UDP, ..flow }), Action::Protect(None));
        assert_eq!(spd.outbound_always(), None);
        assert_eq!(spd.inbound_clear(&flow), Action::Discard, "outbound policies say nothing of inbound packets");
        spd.policies_mut().swap(0, 1);
        assert_eq!(spd.outbound(&flow), Action::Protect(None));
        assert_eq!((spd.outbound_always(), Spd::new().outbound_always()), (Some(Action::Protect(None)), Some(Action::Discard)));
    }
}
