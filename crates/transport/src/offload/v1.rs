//! The offload manager with an adapter that has IPsecOV1: requests go on the standard path and are answered at once; deletions that fail are put off
//! (OV1-2a). States, reasons and places are those of IPsecOV2.

use std::collections::HashMap;

use ipsec::Provider;
use ndis::{Binding, IpsecOffloadV1, IpsecService, NdisVersion, NotCovered, Offload, OffloadHandle, Oid, Status, UdpEspType, V1Request};
use sa_table::Handle;

use super::{OffloadManager, State, covers, sa_mode};
use crate::bundle::HighHalves;
use crate::parameters::Mode;
use crate::reason::OffloadReason;
use crate::sa::Sa;
use crate::v1::{Doomed, ParserList, lacks, parser_entry, v1_sa};

/// What the NIC has beside SAs.
#[derive(Debug, Default)]
pub(super) struct V1Side {
    list: ParserList,
    /// Parser entries of the SAs in UDP that the NIC has.
    entries: HashMap<Handle, OffloadHandle>,
}

/// Everything that a configuration of IPsecOV1 lacks for an SA as it stands, among the others.
pub(crate) fn lacks_v1<P: Provider>(config: &IpsecOffloadV1, sa: &Sa<P>) -> Vec<NotCovered> {
    lacks(config, &sa.shape(udp_esp(sa)), sa_mode(sa.mode), sa.inside.is_some())
}

/// Version 1 knows no types of two layers.
fn udp_esp<P: Provider>(sa: &Sa<P>) -> Option<UdpEspType> {
    sa.in_udp().then_some(match sa.mode {
        Mode::Transport => UdpEspType::Transport,
        Mode::Tunnel => UdpEspType::Tunnel,
    })
}

impl<P: Provider> OffloadManager<P> {
    /// Finds out which of the two services the adapter has (OV2-CAP-0).
    pub(super) fn choose_service(&mut self, version: NdisVersion, binding: &Binding) {
        let v1 = if version.has_ipsec_v1() && version.has_ipsec_v2() {
            binding.query_hardware_capabilities().is_ok_and(|hardware| hardware.ipsec_service(version) == Some(IpsecService::V1))
        } else {
            version.has_ipsec_v1()
        };
        self.v1 = v1.then(V1Side::default);
    }

    /// Whether a configuration covers an SA as it stands, among the others.
    pub(super) fn covers(&self, config: &Offload, sa: &Sa<P>) -> Result<(), NotCovered> {
        match self.v1 {
            None => covers(&config.ipsec_v2, sa),
            Some(_) => lacks_v1(&config.ipsec_v1, sa).first().map_or(Ok(()), |missing| Err(*missing)),
        }
    }

    /// Asks for SAs that have been given a place, one by one.
    pub(super) fn ask_v1(&mut self, binding: &Binding, offers: Vec<Handle>) {
        self.retry_deletions();
        for sa in offers {
            if self.still_asks(sa) {
                self.request_v1(binding, sa);
            }
        }
    }

    fn request_v1(&mut self, binding: &Binding, sa: Handle) {
        let Some(v1) = &mut self.v1 else { return };
        let request = self.sad.with(sa, |sa| {
            sa.begin();
            let bundle = sa.bundle(udp_esp(sa), HighHalves::default());
            // What it carries for bundles inside of it looks like nothing that its selectors say.
            let selectors = if sa.is_around() { &[] } else { sa.selectors() };
            (v1_sa(sa.parameters(), selectors, bundle), parser_entry(sa.parameters()))
        });
        let Ok((mut request, entry)) = request else { return self.withdraw(sa, OffloadReason::Expired) };
        // The parser's entry says the port.
        request.extension.udp_esp_port = None;
        let direction = request.direction;
        let request = Box::new(request);
        let asked = entry.and_then(|entry| v1.list.begin_add(entry, direction));
        let body = match entry {
            None => V1Request::AddSa { sa: request, handle: None },
            Some(entry) => V1Request::AddUdpEspSa { sa: request, entry, entry_handle: asked, handle: None },
        };
        let (status, answer) = binding.oid_request(Oid::IpsecV1(body));
        let (handle, used) = match answer {
            Oid::IpsecV1(V1Request::AddSa { handle, .. }) => (handle, None),
            Oid::IpsecV1(V1Request::AddUdpEspSa { handle, entry_handle, .. }) => (handle, entry_handle),
            _ => (None, None),
        };
        // Whoever says that it has it, and does not say what it calls it, does not have it.
        let mut added = if status.is_success() { handle.ok_or(Status::FAILURE) } else { Err(status) };
        if let (Some(entry), Some(v1)) = (entry, &mut self.v1) {
            let used = used.filter(|_| added.is_ok());
            v1.list.end_add(entry, direction, asked, used);
            match (used, added) {
                (Some(used), Ok(_)) => {
                    v1.entries.insert(sa, used);
                }
                // It has the SA, and does not say where its packets are found: not to be relied on.
                (None, Ok(handle)) => {
                    v1.list.end_delete(Doomed { sa, handle, udp: true, entry: None }, false);
                    added = Err(Status::FAILURE);
                }
                (_, Err(_)) => {}
            }
        }
        self.added(sa, added);
    }

    /// Deletes what the NIC has of `sa`.
    pub(super) fn delete_v1(&mut self, sa: Handle, handle: OffloadHandle) {
        let Some(v1) = &mut self.v1 else { return };
        let entry = v1.entries.remove(&sa);
        let what = Doomed { sa, handle, udp: entry.is_some(), entry: entry.and_then(|entry| v1.list.begin_delete(entry)) };
        self.try_delete(what);
    }

    /// Tries again what could not be deleted before.
    pub(super) fn retry_deletions(&mut self) {
        let Some(v1) = &mut self.v1 else { return };
        for what in v1.list.take_doomed() {
            self.try_delete(what);
        }
    }

    /// Has the NIC delete whatever is there, and does not care for the answers.
    pub(super) fn delete_present_v1(&mut self) {
        let (Some(binding), Some(v1)) = (self.binding.clone(), &mut self.v1) else { return };
        let mut all: Vec<Doomed> = v1.list.take_doomed().into();
        for record in self.records.values() {
            let State::Present(handle) = record.state else { continue };
            let entry = v1.entries.remove(&record.sa);
            all.push(Doomed { sa: record.sa, handle, udp: entry.is_some(), entry: entry.and_then(|entry| v1.list.begin_delete(entry)) });
        }
        for what in all {
            let _ = binding.oid_request(Oid::IpsecV1(what.request()));
        }
    }

    fn try_delete(&mut self, what: Doomed) {
        let done = self.binding.as_ref().is_some_and(|binding| binding.oid_request(Oid::IpsecV1(what.request())).0.is_success());
        if let Some(v1) = &mut self.v1 {
            v1.list.end_delete(what, done);
        }
        // Until then it takes its place, and is not offered again.
        if done {
            self.deleted(what.sa);
        }
    }
}
