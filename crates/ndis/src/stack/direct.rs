//! The direct path: requests that run beside each other, and who asked for those that are pended (OV2-OID-2, OV2-OID-3).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::DirectAnswer;
use super::adapter::{Adapter, AdapterState, Bound, Link};
use super::events::{Event, Filters};
use super::lock;
use super::owners::{Claim, Owners};
use crate::driver::FilterVerdict;
use crate::oid::{AddSaEntry, DirectOid, DirectOidRequest, Outcome, RequestId, UpdateSa};
use crate::status::Status;

/// Requests that a miniport has, or is being given.
///
/// A request is entered before its miniport sees it, so that a completion always finds it, however early. Whoever takes it out answers it: that makes it
/// exactly one answer.
#[derive(Default)]
pub(super) struct DirectTable {
    requests: Mutex<HashMap<RequestId, Outstanding>>,
    strays: AtomicU64,
}

struct Outstanding {
    /// Who asked; `None`: nobody waits for the answer any more, because the protocol was unbound, or the stack itself asked.
    bound: Option<Arc<Bound>>,
    /// What it has of the books of SAs.
    claim: Claim,
    /// Those that it passed on its way down, bottom first.
    filters: Filters,
    /// Which initialisation of the adapter it went to.
    instance: u64,
    /// Its form, from which an answer is made if the miniport never gives the request back.
    form: Form,
    /// The call to the miniport has returned: it is pended. Until then that call's thread may answer.
    pended: bool,
    /// To be cancelled as soon as the miniport has it.
    cancel: bool,
    /// The miniport is halted.
    abandoned: bool,
}

/// A request without its bundles.
#[derive(Clone)]
enum Form {
    AddSa(usize),
    AddSaEx,
    UpdateSa(UpdateSa),
    DeleteSa(Vec<u64>),
    Other(u32),
}

impl Form {
    fn of(body: &DirectOid) -> Self {
        match body {
            DirectOid::AddSa(entries) => Self::AddSa(entries.len()),
            DirectOid::AddSaEx(_) => Self::AddSaEx,
            DirectOid::UpdateSa(update) => Self::UpdateSa(*update),
            DirectOid::DeleteSa(handles) => Self::DeleteSa(handles.clone()),
            DirectOid::Other(oid) => Self::Other(*oid),
        }
    }

    fn aborted(self) -> DirectOid {
        let entry = || AddSaEntry { bundle: Err(Status::REQUEST_ABORTED), handle: None, status: Status::REQUEST_ABORTED };
        match self {
            Self::AddSa(entries) => DirectOid::AddSa((0..entries).map(|_| entry()).collect()),
            Self::AddSaEx => DirectOid::AddSaEx(Box::new(entry())),
            Self::UpdateSa(update) => DirectOid::UpdateSa(update),
            Self::DeleteSa(handles) => DirectOid::DeleteSa(handles),
            Self::Other(oid) => DirectOid::Other(oid),
        }
    }
}

impl DirectTable {
    pub(super) fn len(&self) -> usize {
        lock(&self.requests).len()
    }

    pub(super) fn strays(&self) -> u64 {
        self.strays.load(Ordering::Relaxed)
    }

    /// A miniport completed a request that it had pended: what to tell, if anybody waits for it, and SAs that it added for nobody. And whether lanes must
    /// hear of a protocol's first SAs.
    pub(super) fn complete(&self, owners: &Owners, status: Status, request: DirectOidRequest) -> Completed {
        let Some(Outstanding { bound, claim, filters, .. }) = lock(&self.requests).remove(&request.id) else {
            self.strays.fetch_add(1, Ordering::Relaxed);
            return Completed::default();
        };
        let (nobodys, first) = owners.settle(&claim, status, &request.body);
        Completed { event: bound.map(|bound| Event::DirectComplete { bound, status, request, filters }), nobodys, first }
    }

    /// The miniport of `instance` is halted: ends what it has pended. Calls that are in the miniport at this moment answer when they return.
    pub(super) fn abandon(&self, instance: u64) -> Vec<Event> {
        let mut requests = lock(&self.requests);
        let ended = pended(&requests, |request| request.instance == instance);
        let ended = ended.into_iter().filter_map(|id| aborted(id, requests.remove(&id)?)).collect();
        for request in requests.values_mut().filter(|request| request.instance == instance) {
            request.abandoned = true;
        }
        ended
    }

    /// The protocol behind `link` is unbound: answers what it has pended. The miniport still has these requests: they are named, to be cancelled, and what
    /// they add all the same is nobody's.
    pub(super) fn orphan(&self, link: &Arc<Link>) -> (Vec<Event>, Vec<RequestId>) {
        let mut requests = lock(&self.requests);
        let of_link = |request: &Outstanding| request.bound.as_ref().is_some_and(|bound| Arc::ptr_eq(&bound.link, link));
        let ids = pended(&requests, of_link);
        let mut events = Vec::with_capacity(ids.len());
        for id in &ids {
            if let Some(request) = requests.get_mut(id)
                && let Some(bound) = request.bound.take()
            {
                let request_of = DirectOidRequest { id: *id, body: request.form.clone().aborted() };
                let filters = Arc::clone(&request.filters);
                events.push(Event::DirectComplete { bound, status: Status::REQUEST_ABORTED, request: request_of, filters });
            }
        }
        for request in requests.values_mut().filter(|request| of_link(request)) {
            request.bound = None;
        }
        (events, ids)
    }
}

/// What a completion comes to.
#[derive(Default)]
pub(super) struct Completed {
    pub(super) event: Option<Event>,
    pub(super) nobodys: Vec<u64>,
    pub(super) first: bool,
}

/// Ids of pended requests, in order.
fn pended(requests: &HashMap<RequestId, Outstanding>, which: impl Fn(&Outstanding) -> bool) -> Vec<RequestId> {
    let mut ids: Vec<_> = requests.iter().filter(|(_, request)| request.pended && which(request)).map(|(&id, _)| id).collect();
    ids.sort_unstable();
    ids
}

fn aborted(id: RequestId, request: Outstanding) -> Option<Event> {
    let body = request.form.aborted();
    Some(Event::DirectComplete { bound: request.bound?, status: Status::REQUEST_ABORTED, request: DirectOidRequest { id, body }, filters: request.filters })
}

impl Adapter {
    pub(super) fn direct_oid_request(&self, link: &Arc<Link>, id: RequestId, body: DirectOid) -> DirectAnswer {
        if !link.is_open() {
            return DirectAnswer::Done(Status::NOT_ACCEPTED, body);
        }
        // Cloned out, so that no lock is held while filters and the miniport run.
        let (state, instance, supported, filters) = {
            let core = self.core();
            (core.state, core.instance, core.attributes.direct_requests, Arc::clone(&core.filters))
        };
        if state != AdapterState::Running {
            return DirectAnswer::Done(Status::NOT_ACCEPTED, body);
        }
        if !supported || !link.completes_direct_requests() {
            return DirectAnswer::Done(Status::NOT_SUPPORTED, body);
        }
        let filters = with_direct_handlers(filters);
        let mut request = DirectOidRequest { id, body };
        for (position, filter) in filters.iter().enumerate().rev() {
            match filter.direct_oid_request(request) {
                FilterVerdict::Pass(passed) => request = DirectOidRequest { id, body: passed.body },
                FilterVerdict::Complete(status, completed) => {
                    return answer(&filters, position + 1, finished(status), DirectOidRequest { id, body: completed.body });
                }
            }
        }
        if matches!(request.body, DirectOid::Other(_)) {
            return answer(&filters, 0, Status::NOT_SUPPORTED, request);
        }

        // The state is looked at again under the same lock under which the request is entered: whoever changes the state afterwards finds it.
        let miniport = {
            let core = self.core();
            let same = core.state == AdapterState::Running && core.instance == instance;
            let (Some(miniport), Some(bound), true) = (core.miniport.clone(), core.bound(link), same) else {
                drop(core);
                return answer(&filters, 0, Status::NOT_ACCEPTED, request);
            };
            match lock(&self.direct.requests).entry(id) {
                Entry::Vacant(entry) => {
                    // Under the same lock as the state: a reset that comes next begins a table in which this request has nothing.
                    let claim = match self.owners.claim(link.owner(), &mut request.body) {
                        Ok(claim) => claim,
                        Err(status) => {
                            drop(core);
                            return answer(&filters, 0, status, request);
                        }
                    };
                    entry.insert(Outstanding {
                        bound: Some(bound),
                        claim,
                        filters: Arc::clone(&filters),
                        instance,
                        form: Form::of(&request.body),
                        pended: false,
                        cancel: false,
                        abandoned: false,
                    })
                }
                Entry::Occupied(_) => {
                    drop(core);
                    return answer(&filters, 0, Status::INVALID_PARAMETER, request);
                }
            };
            miniport
        };

        let outcome = miniport.direct_oid_request(request);
        let mut requests = lock(&self.direct.requests);
        match outcome {
            Outcome::Done(status, request) => match requests.remove(&id) {
                Some(Outstanding { bound, claim, form, .. }) => {
                    drop(requests);
                    let status = finished(status);
                    let (mut nobodys, first) = self.owners.settle(&claim, status, &request.body);
                    self.note_first(first);
                    if bound.is_none() {
                        // Unbound meanwhile. What was noted was noted for an account that is closed, or was closed just now.
                        nobodys.extend(self.owners.dismiss(link.owner()));
                        self.delete_for_nobody(nobodys);
                        return answer(&filters, 0, Status::REQUEST_ABORTED, DirectOidRequest { id, body: form.aborted() });
                    }
                    self.delete_for_nobody(nobodys);
                    answer(&filters, 0, status, DirectOidRequest { id, body: request.body })
                }
                // The miniport has completed it as well, and that was first.
                None => DirectAnswer::Pending(id),
            },
            Outcome::Pending => match requests.entry(id) {
                Entry::Vacant(_) => DirectAnswer::Pending(id),
                Entry::Occupied(entry) if entry.get().abandoned => {
                    let body = entry.remove().form.aborted();
                    drop(requests);
                    answer(&filters, 0, Status::REQUEST_ABORTED, DirectOidRequest { id, body })
                }
                Entry::Occupied(mut entry) if entry.get().bound.is_none() => {
                    entry.get_mut().pended = true;
                    let body = entry.get().form.clone().aborted();
                    drop(requests);
                    miniport.cancel_direct_oid_request(id);
                    answer(&filters, 0, Status::REQUEST_ABORTED, DirectOidRequest { id, body })
                }
                Entry::Occupied(mut entry) => {
                    entry.get_mut().pended = true;
                    let cancel = entry.get().cancel;
                    drop(requests);
                    if cancel {
                        miniport.cancel_direct_oid_request(id);
                    }
                    DirectAnswer::Pending(id)
                }
            },
        }
    }

    pub(super) fn cancel(&self, link: &Arc<Link>, id: RequestId) {
        let (instance, pended) = match lock(&self.direct.requests).get_mut(&id) {
            Some(request) if request.bound.as_ref().is_some_and(|bound| Arc::ptr_eq(&bound.link, link)) => {
                request.cancel = true;
                (request.instance, request.pended)
            }
            _ => return,
        };
        // One that the miniport is just being given is cancelled when that call has returned.
        if !pended {
            return;
        }
        let miniport = {
            let core = self.core();
            core.miniport.clone().filter(|_| core.instance == instance)
        };
        if let Some(miniport) = miniport {
            miniport.cancel_direct_oid_request(id);
        }
    }

    /// Cancels what an unbound protocol had pended.
    pub(super) fn cancel_orphans(&self, ids: &[RequestId]) {
        let miniport = self.core().miniport.clone();
        for &id in ids {
            if let Some(miniport) = &miniport {
                miniport.cancel_direct_oid_request(id);
            }
        }
    }

    /// Deletes SAs whose protocol has gone. An adapter that does not run has none any more, or will not when it runs again.
    pub(super) fn delete_for_nobody(&self, handles: Vec<u64>) {
        if handles.is_empty() {
            return;
        }
        let id = self.next_id();
        let body = DirectOid::DeleteSa(handles);
        let miniport = {
            let core = self.core();
            let (AdapterState::Running, Some(miniport)) = (core.state, core.miniport.clone()) else { return };
            let (instance, form) = (core.instance, Form::of(&body));
            let request =
                Outstanding { bound: None, claim: Claim::default(), filters: Arc::from([]), instance, form, pended: true, cancel: false, abandoned: false };
            lock(&self.direct.requests).insert(id, request);
            miniport
        };
        if let Outcome::Done(..) = miniport.direct_oid_request(DirectOidRequest { id, body }) {
            lock(&self.direct.requests).remove(&id);
        }
    }
}

/// A filter without a direct handler is skipped (OV2-OID-3).
fn with_direct_handlers(filters: Filters) -> Filters {
    if filters.iter().all(|filter| filter.handles_direct_requests()) {
        return filters;
    }
    filters.iter().filter(|filter| filter.handles_direct_requests()).cloned().collect()
}

/// The answer on its way up through the filters from `first` on.
fn answer(filters: &Filters, first: usize, status: Status, mut request: DirectOidRequest) -> DirectAnswer {
    for filter in filters.iter().skip(first) {
        filter.direct_oid_request_complete(status, &mut request);
    }
    DirectAnswer::Done(status, request.body)
}

/// A request that came back is not pending, whatever its driver says.
fn finished(status: Status) -> Status {
    if status == Status::PENDING { Status::FAILURE } else { status }
}
