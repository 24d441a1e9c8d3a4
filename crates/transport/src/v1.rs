//! The offload manager's side of IPsecOV1 (OV1-2, OV1-2a): an SA as a request, with what can be said of its selectors; and the list of UDP-ESP parser entries
//! that the NIC has, with their reference counts and with what could not be deleted yet.
//!
//! Requests go on the standard path, one at a time, from the control side, and are answered at once. A deletion that fails is put off: its SA, and the entry
//! that was to go with it, are marked, asked for no more, and deleted by a later attempt. What the NIC still does with packets under a marked SA is taken as
//! it is: the bytes are in clear then, and the SA itself may live on in software.

use std::collections::VecDeque;

use ndis::{
    Direction, IpsecOffloadV1, MaskedAddress, NotCovered, OffloadHandle, SaBundle, SaMode, V1EncapsulationType, V1Filter, V1ParserEntry, V1Request, V1Sa,
    V1Tunnel,
};
use packet::IpAddress;
use sa_table::Handle;

use crate::parameters::{Mode, SaParameters};
use crate::selector::{AddressRange, PortRange, Selector};

/// An SA of the transport as version 1 asks for it. `bundle` has its associations, with their keys; it is in IPv4.
pub(crate) fn v1_sa(parameters: &SaParameters, selectors: &[Selector], bundle: SaBundle) -> V1Sa {
    let tunnel = (parameters.mode == Mode::Tunnel).then(|| V1Tunnel { source: ipv4(parameters.source), destination: ipv4(parameters.destination) });
    V1Sa { direction: bundle.direction, filter: filter(selectors), tunnel, associations: bundle.associations, extension: bundle.extension }
}

/// The filter that lets all of the SA's packets through, and of others as few as it can tell apart. (Policy is checked by the transport in any case.)
pub(crate) fn filter(selectors: &[Selector]) -> V1Filter {
    // Of several it can be about what they have in common.
    let common = |masked: fn(&Selector) -> MaskedAddress| {
        let mut all = selectors.iter().map(masked);
        let first = all.next().unwrap_or(MaskedAddress::ANY);
        if all.all(|other| other == first) { first } else { MaskedAddress::ANY }
    };
    let number = |of: fn(&Selector) -> u16| {
        let mut all = selectors.iter().map(of);
        let first = all.next().unwrap_or(0);
        if all.all(|other| other == first) { first } else { 0 }
    };
    let protocol = number(|selector| selector.protocol.map_or(0, |protocol| u16::from(protocol.0)));
    V1Filter {
        source: common(|selector| masked(selector.source)),
        destination: common(|selector| masked(selector.destination)),
        protocol: protocol as u8,
        source_port: number(|selector| port(selector.source_port)),
        destination_port: number(|selector| port(selector.destination_port)),
    }
}

fn masked(range: Option<AddressRange>) -> MaskedAddress {
    let Some((address, length)) = range.and_then(|range| range.as_prefix()) else { return MaskedAddress::ANY };
    match core::net::IpAddr::from(address) {
        core::net::IpAddr::V4(address) => MaskedAddress::prefix(address, length).normalized(),
        core::net::IpAddr::V6(_) => MaskedAddress::ANY,
    }
}

const fn port(range: PortRange) -> u16 {
    if range.first == range.last { range.first } else { 0 }
}

/// An address of IPv4; all zero for any other, as for any.
fn ipv4(address: IpAddress) -> core::net::Ipv4Addr {
    match core::net::IpAddr::from(address) {
        core::net::IpAddr::V4(address) => address,
        core::net::IpAddr::V6(_) => core::net::Ipv4Addr::UNSPECIFIED,
    }
}

/// The parser entry that an SA needs.
pub(crate) fn parser_entry(parameters: &SaParameters) -> Option<V1ParserEntry> {
    parameters.udp_encapsulation.map(|udp| V1ParserEntry { kind: V1EncapsulationType::Other, destination_port: udp.destination_port })
}

/// Everything that an SA needs and the set does not have. `inside`: a tunnel goes around it, which version 1 cannot say of packets to be sent (OV1-3).
pub(crate) fn lacks(config: &IpsecOffloadV1, bundle: &SaBundle, mode: SaMode, inside: bool) -> Vec<NotCovered> {
    let mut lacks = config.lacks(bundle, mode);
    if inside && (bundle.direction == Direction::Outbound || !config.transport_tunnel_combined) {
        lacks.push(crate::offload::without_nesting());
    }
    lacks
}

/// What is to be deleted of the NIC by a later attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Doomed {
    /// The transport's SA.
    pub(crate) sa: Handle,
    /// The NIC's.
    pub(crate) handle: OffloadHandle,
    /// It was added as one in UDP.
    pub(crate) udp: bool,
    /// The entry that goes, too.
    pub(crate) entry: Option<OffloadHandle>,
}

impl Doomed {
    /// The request that deletes it.
    pub(crate) const fn request(self) -> V1Request {
        let handle = self.handle.to_bits();
        if self.udp { V1Request::DeleteUdpEspSa { handle, entry_handle: self.entry } } else { V1Request::DeleteSa(handle) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    what: V1ParserEntry,
    direction: Direction,
    handle: OffloadHandle,
    /// SAs that were, or are being, added with it.
    count: usize,
    /// Its deletion has failed: it is used for nothing until it is gone.
    marked: bool,
}

/// The parser entries that the NIC has for this transport, and what it was to delete and has not.
#[derive(Debug, Default)]
pub(crate) struct ParserList {
    entries: Vec<Entry>,
    doomed: VecDeque<Doomed>,
}

impl ParserList {
    /// Before an SA is asked for: the handle of an entry that can be reused, which is counted from here on; `None`: the NIC finds or makes one.
    pub(crate) fn begin_add(&mut self, what: V1ParserEntry, direction: Direction) -> Option<OffloadHandle> {
        let what = what.of(direction);
        let entry = self.entries.iter_mut().find(|entry| !entry.marked && (entry.what, entry.direction) == (what, direction))?;
        entry.count += 1;
        Some(entry.handle)
    }

    /// The SA was added, or not. `asked`: what [`ParserList::begin_add`] said; `answer`: the entry that the NIC used, `None` after a failure.
    pub(crate) fn end_add(&mut self, what: V1ParserEntry, direction: Direction, asked: Option<OffloadHandle>, answer: Option<OffloadHandle>) {
        match (asked, answer) {
            (Some(asked), None) => {
                if let Some(entry) = self.find(asked) {
                    entry.count = entry.count.saturating_sub(1);
                }
            }
            (Some(_), Some(_)) | (None, None) => {}
            (None, Some(handle)) => {
                if let Some(entry) = self.find(handle) {
                    // The NIC found one equal that was to go, or that it had for others: it stays.
                    entry.count += 1;
                    entry.marked = false;
                    for doomed in self.doomed.iter_mut().filter(|doomed| doomed.entry == Some(handle)) {
                        doomed.entry = None;
                    }
                } else {
                    self.entries.push(Entry { what: what.of(direction), direction, handle, count: 1, marked: false });
                }
            }
        }
    }

    /// Before an SA is deleted that was added with `entry`: it counts no more. What goes with it: the entry if it was the last.
    pub(crate) fn begin_delete(&mut self, entry: OffloadHandle) -> Option<OffloadHandle> {
        let entry = self.find(entry)?;
        entry.count = entry.count.saturating_sub(1);
        (entry.count == 0 && !entry.marked).then_some(entry.handle)
    }

    /// The deletion succeeded, and what it named is gone; or it failed, and is put off.
    pub(crate) fn end_delete(&mut self, what: Doomed, done: bool) {
        match (what.entry, done) {
            (Some(handle), true) => self.entries.retain(|entry| entry.handle != handle),
            (Some(handle), false) => {
                if let Some(entry) = self.find(handle) {
                    entry.marked = true;
                }
            }
            (None, _) => {}
        }
        if !done {
            self.doomed.push_back(what);
        }
    }

    /// What was put off, to be tried again; each comes back by [`ParserList::end_delete`].
    pub(crate) fn take_doomed(&mut self) -> VecDeque<Doomed> {
        core::mem::take(&mut self.doomed)
    }

    fn find(&mut self, handle: OffloadHandle) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.handle == handle)
    }
}

#[cfg(test)]
#[path = "v1_tests.rs"]
mod tests;
