//! A direct request on its way down: from member to member of the team, and back up with one answer.

use std::collections::VecDeque;

use ndis::{AddSaEntry, DirectOid, RequestId, Status, UpdateSa};

use crate::MAX_MEMBERS;

/// What stands for a handle that names nothing: no table gives it out.
pub(crate) const NOTHING: u64 = u64::MAX;

/// The handles that a bundle has on the members; 0 where it is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(align(64))]
pub(crate) struct Target(pub(crate) [u64; MAX_MEMBERS]);

#[derive(Debug)]
enum Kind {
    Add,
    Update(UpdateSa),
    Delete(Vec<u64>),
}

/// A request of those above. At any time one member has it, or none.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) id: RequestId,
    pub(crate) cancelled: bool,
    kind: Kind,
    /// Those that are still to be asked.
    members: VecDeque<usize>,
    /// One for each bundle: what has been added, or is to be updated or deleted.
    pub(crate) targets: Vec<Target>,
    /// Uses ADD_SA_EX.
    single: bool,
    status: Status,
}

impl Chain {
    pub(crate) fn add(id: RequestId, members: impl Iterator<Item = usize>, body: &DirectOid) -> Self {
        let single = matches!(body, DirectOid::AddSaEx(_));
        let targets = vec![Target::default(); entries(body).len()];
        Self { id, cancelled: false, kind: Kind::Add, members: members.collect(), targets, single, status: Status::SUCCESS }
    }

    pub(crate) fn update(id: RequestId, members: impl Iterator<Item = usize>, update: UpdateSa, target: Target) -> Self {
        Self { id, cancelled: false, kind: Kind::Update(update), members: members.collect(), targets: vec![target], single: false, status: Status::SUCCESS }
    }

    pub(crate) fn delete(id: RequestId, handles: Vec<u64>, targets: Vec<Target>) -> Self {
        let members = (0..MAX_MEMBERS).collect();
        Self { id, cancelled: false, kind: Kind::Delete(handles), members, targets, single: false, status: Status::SUCCESS }
    }

    /// The member to be asked next.
    pub(crate) fn next(&mut self) -> Option<usize> {
        self.members.pop_front()
    }

    pub(crate) const fn is_add(&self) -> bool {
        matches!(self.kind, Kind::Add)
    }

    /// What to ask of `member`, of a request whose entries are `body`; the body back if there is nothing to ask of it.
    pub(crate) fn request(&self, member: usize, body: DirectOid) -> Result<DirectOid, DirectOid> {
        match &self.kind {
            Kind::Add if entries(&body).iter().all(|entry| entry.bundle.is_err()) => Err(body),
            Kind::Add => Ok(body),
            Kind::Update(update) => match self.targets.first().and_then(|target| ndis::OffloadHandle::from_bits(target.0[member])) {
                Some(handle) => Ok(DirectOid::UpdateSa(UpdateSa { handle, ..*update })),
                None => Err(body),
            },
            Kind::Delete(_) => {
                let handles: Vec<u64> = self.targets.iter().map(|target| target.0[member]).filter(|handle| *handle != 0).collect();
                if handles.is_empty() { Err(body) } else { Ok(DirectOid::DeleteSa(handles)) }
            }
        }
    }

    /// Takes a member's answer in; what is left of the body.
    pub(crate) fn answered(&mut self, member: usize, status: Status, mut body: DirectOid) -> DirectOid {
        match self.kind {
            Kind::Add => {
                for (entry, target) in entries_mut(&mut body).iter_mut().zip(&mut self.targets) {
                    match entry.handle.take().filter(|_| status.is_success()) {
                        Some(handle) => target.0[member] = handle.to_bits(),
                        None => fail(entry, status),
                    }
                }
            }
            Kind::Update(_) => {
                if self.status.is_success() {
                    self.status = status;
                }
            }
            // What a member that fails it still has, it loses with its table.
            Kind::Delete(_) => {}
        }
        body
    }

    /// The answer to an update or deletion that has been everywhere.
    pub(crate) fn ended(self) -> (Status, DirectOid) {
        match self.kind {
            Kind::Add => (Status::FAILURE, self.aborted()),
            Kind::Update(update) => (self.status, DirectOid::UpdateSa(update)),
            Kind::Delete(handles) => (if self.cancelled { Status::REQUEST_ABORTED } else { Status::SUCCESS }, DirectOid::DeleteSa(handles)),
        }
    }

    /// The body of an answer without the member's: with as many entries, and without bundles.
    pub(crate) fn aborted(&self) -> DirectOid {
        let entry = || AddSaEntry { bundle: Err(Status::REQUEST_ABORTED), handle: None, status: Status::REQUEST_ABORTED };
        match &self.kind {
            Kind::Add if self.single => DirectOid::AddSaEx(Box::new(entry())),
            Kind::Add => DirectOid::AddSa(self.targets.iter().map(|_| entry()).collect()),
            Kind::Update(update) => DirectOid::UpdateSa(*update),
            Kind::Delete(handles) => DirectOid::DeleteSa(handles.clone()),
        }
    }
}

/// An entry that failed is not tried again, and keeps its first cause.
pub(crate) fn fail(entry: &mut AddSaEntry, status: Status) {
    let own = Some(entry.status).filter(|own| !own.is_success() && *own != Status::PENDING);
    let cause = match (&entry.bundle, own) {
        (Err(cause), _) => *cause,
        (Ok(_), Some(own)) => own,
        (Ok(_), None) if status.is_success() => Status::FAILURE,
        (Ok(_), None) => status,
    };
    entry.bundle = Err(cause);
    entry.handle = None;
    entry.status = cause;
}

pub(crate) fn entries(body: &DirectOid) -> &[AddSaEntry] {
    match body {
        DirectOid::AddSaEx(entry) => core::slice::from_ref(&**entry),
        DirectOid::AddSa(entries) => entries,
        _ => &[],
    }
}

pub(crate) fn entries_mut(body: &mut DirectOid) -> &mut [AddSaEntry] {
    match body {
        DirectOid::AddSaEx(entry) => core::slice::from_mut(&mut **entry),
        DirectOid::AddSa(entries) => entries,
        _ => &mut [],
    }
}
