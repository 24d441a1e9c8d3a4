//! How SAs are asked for: one by one, or in lists where the adapter's version has them (OV2-SA-1), each with an answer of its own (OV2-SA-4).

use ipsec::Provider;
use ndis::{AddSaEntry, Binding, DirectAnswer, DirectOid, OffloadHandle, Status};
use sa_table::Handle;

use super::{OffloadManager, OffloadReason, Record, Request, State};
use crate::sa::Sa;

/// Most SAs of one list: an adapter works through a list under its lock.
const LIST: usize = 64;

impl<P: Provider> OffloadManager<P> {
    /// Gives a place to `sa`; it is asked for by the next [`OffloadManager::settle`], with the others.
    pub(super) fn offer(&mut self, sa: Handle) {
        self.set_state(sa, State::Adding { wanted: true });
        self.set_reason(sa, OffloadReason::Pending);
        self.offers.push(sa);
    }

    /// Gives free places to those that wait, and asks for everything that has been given one, until nothing is left to do.
    pub(super) fn settle(&mut self) {
        loop {
            self.fill();
            if self.offers.is_empty() {
                return;
            }
            self.ask();
        }
    }

    fn ask(&mut self) {
        let offers = core::mem::take(&mut self.offers);
        let (Some(binding), Some(parameters)) = (self.binding.clone(), &self.parameters) else {
            for sa in offers {
                self.withdraw(sa, OffloadReason::NoAdapter);
            }
            return;
        };
        if self.v1.is_some() {
            return self.ask_v1(&binding, offers);
        }
        let uses_ex = parameters.version.uses_add_sa_ex();
        for sas in offers.chunks(if uses_ex { 1 } else { LIST }) {
            self.ask_for(&binding, uses_ex, sas);
        }
    }

    fn ask_for(&mut self, binding: &Binding, uses_ex: bool, sas: &[Handle]) {
        let mut asked = Vec::with_capacity(sas.len());
        let mut entries = Vec::with_capacity(sas.len());
        for &sa in sas {
            if !self.still_asks(sa) {
                continue;
            }
            let bundle = self.sad.with(sa, |sa| {
                let high = sa.begin();
                let udp_esp = sa.udp_esp(&self.config.ipsec_v2);
                (udp_esp, sa.bundle(udp_esp, high))
            });
            let Ok((udp_esp, bundle)) = bundle else {
                self.withdraw(sa, OffloadReason::Expired);
                continue;
            };
            if let Some(record) = self.record_mut(sa) {
                record.udp_esp = udp_esp;
            }
            asked.push(sa);
            entries.push(AddSaEntry::new(bundle));
        }
        let body = match entries.pop() {
            None => return,
            Some(entry) if uses_ex => DirectOid::AddSaEx(Box::new(entry)),
            Some(entry) => {
                entries.push(entry);
                DirectOid::AddSa(entries)
            }
        };
        // Noted before it is issued: another thread may deliver the completion before this call has returned, and then waits for the control mutex.
        let id = binding.reserve_request_id();
        self.requests.insert(id, Request::Add(asked));
        if let DirectAnswer::Done(status, body) = binding.direct_oid_request_as(id, body)
            && let Some(Request::Add(asked)) = self.requests.remove(&id)
        {
            self.answered(asked, status, &body);
        }
    }

    /// Whether an SA that was given a place is still to be asked for; if not, it has none any more.
    pub(super) fn still_asks(&mut self, sa: Handle) -> bool {
        let Some(&Record { state: State::Adding { wanted }, removed, reason, .. }) = self.record(sa) else { return false };
        if !wanted || removed {
            self.withdraw(sa, reason);
            return false;
        }
        // Found out since it was given a place.
        if self.full {
            self.withdraw(sa, OffloadReason::Capacity);
            return false;
        }
        true
    }

    /// An offer that is not made after all.
    pub(super) fn withdraw(&mut self, sa: Handle, reason: OffloadReason) {
        self.set_state(sa, State::Absent);
        self.set_reason(sa, reason);
        self.forget_if_gone(sa);
    }

    /// The adapter has answered a request to add `sas`.
    pub(super) fn answered(&mut self, sas: Vec<Handle>, status: Status, body: &DirectOid) {
        let mut entries = entries(body).iter();
        for sa in sas {
            self.added(sa, answer(status, entries.next()));
        }
    }

    pub(super) fn added(&mut self, sa: Handle, answer: Result<OffloadHandle, Status>) {
        let Some(&Record { state: State::Adding { wanted }, removed, reason, .. }) = self.record(sa) else { return };
        let wanted = wanted && !removed;
        match answer {
            Ok(handle) if wanted => {
                self.set_state(sa, State::Present(handle));
                self.set_reason(sa, OffloadReason::Offloaded);
                let _ = self.sad.with(sa, |sa: &Sa<P>| sa.set_offload_handle(Some(handle)));
                self.counts.added += 1;
                self.retype(sa);
            }
            Ok(handle) => {
                self.counts.added += 1;
                self.set_state(sa, State::Present(handle));
                self.take_back(sa, reason);
            }
            Err(status) => {
                self.counts.refused += 1;
                self.set_state(sa, State::Absent);
                if wanted {
                    let reason = match status {
                        // No place left after all, or the adapter is in the middle of something: asked again when that is over.
                        Status::RESOURCES => OffloadReason::Capacity,
                        Status::NOT_ACCEPTED | Status::REQUEST_ABORTED => OffloadReason::Resetting,
                        status => OffloadReason::Refused(status),
                    };
                    self.full |= matches!(reason, OffloadReason::Capacity | OffloadReason::Resetting);
                    self.set_reason(sa, reason);
                }
                self.forget_if_gone(sa);
            }
        }
    }
}

/// Handles of everything that a completed request has added.
pub(super) fn added_handles(status: Status, body: &DirectOid) -> Vec<OffloadHandle> {
    entries(body).iter().filter(|_| status.is_success()).filter_map(|entry| entry.handle).collect()
}

fn entries(body: &DirectOid) -> &[AddSaEntry] {
    match body {
        DirectOid::AddSaEx(entry) => core::slice::from_ref(&**entry),
        DirectOid::AddSa(entries) => entries,
        _ => &[],
    }
}

/// How one entry ended, in a request that ended with `status`: a request that failed has added nothing (OV2-SA-4).
fn answer(status: Status, entry: Option<&AddSaEntry>) -> Result<OffloadHandle, Status> {
    let cause = entry.map(|entry| entry.status).filter(|cause| !cause.is_success() && *cause != Status::PENDING);
    if !status.is_success() {
        return Err(cause.unwrap_or(status));
    }
    // Whoever says that it has it, and does not say what it calls it, does not have it.
    entry.and_then(|entry| entry.handle).ok_or(cause.unwrap_or(Status::FAILURE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_has_an_answer_of_its_own_and_a_failed_request_has_added_nothing() {
        let handle = OffloadHandle::from_bits(7);
        let entry = |handle, status| AddSaEntry { bundle: Err(Status::FAILURE), handle, status };
        let (ok, pending) = (Status::SUCCESS, Status::PENDING);
        let (full, bad, aborted) = (Status::RESOURCES, Status::INVALID_DATA, Status::REQUEST_ABORTED);
        let table = [
            (ok, Some(entry(handle, ok)), Ok(7)),
            (ok, Some(entry(None, full)), Err(full)),
            (ok, Some(entry(None, ok)), Err(Status::FAILURE)),
            (ok, Some(entry(None, pending)), Err(Status::FAILURE)),
            (ok, None, Err(Status::FAILURE)),
            (bad, Some(entry(None, full)), Err(full)),
            (bad, Some(entry(None, pending)), Err(bad)),
            (bad, Some(entry(handle, ok)), Err(bad)),
            (aborted, None, Err(aborted)),
        ];
        for (status, entry, expected) in table {
            let what = format!("{status} {entry:?}");
            assert_eq!(answer(status, entry.as_ref()).map(OffloadHandle::to_bits), expected, "{what}");
        }
    }
}
