//! Whose SAs are whose on an adapter, and how many each protocol may have there.
//!
//! A miniport does not know who asks: it sees requests. So the stack keeps the books at the miniport's edge. Every SA belongs to the protocol whose ADD_SA
//! added it; to all others its handle is one of those that name nothing (OV2-SA-5).

mod v1;

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::nbl::NetBufferList;
use crate::oid::{AddSaEntry, DirectOid};
use crate::sa::OffloadHandle;
use crate::status::Status;

/// Names a protocol on an adapter, from bind to unbind, over restarts of the adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Owner(pub(super) u64);

/// What a direct request takes of the books until it is settled.
#[derive(Debug, Default)]
pub(super) struct Claim {
    owner: Owner,
    /// The table that the request goes to: resets and restarts begin a new one.
    table: u64,
    /// Places for SAs that it may add.
    reserved: usize,
    /// Handles that it deletes: nobody's from here on.
    struck: Vec<u64>,
}

/// The books of one adapter.
#[derive(Debug, Default)]
pub(super) struct Owners(RwLock<Books>);

#[derive(Debug, Default)]
struct Books {
    table: u64,
    handles: HashMap<u64, Owner>,
    /// IPsecOV1: the UDP-ESP parser entries of SAs that have one.
    entries: HashMap<u64, u64>,
    accounts: HashMap<Owner, Account>,
}

#[derive(Debug, Default)]
struct Account {
    /// Most SAs; `None`: as many as the adapter holds.
    quota: Option<u32>,
    live: usize,
    /// Places that requests under way hold: of what is being added, and of what is being deleted.
    held: usize,
}

impl Owners {
    fn read(&self) -> RwLockReadGuard<'_, Books> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Books> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens an account.
    pub(super) fn admit(&self, owner: Owner, quota: Option<u32>) {
        self.write().accounts.insert(owner, Account { quota, ..Account::default() });
    }

    /// Closes an account; the handles that were in it.
    pub(super) fn dismiss(&self, owner: Owner) -> Vec<u64> {
        let mut books = self.write();
        books.accounts.remove(&owner);
        books.handles.extract_if(|_, whose| *whose == owner).map(|(handle, _)| handle).collect()
    }

    /// The adapter's table is empty: what was in it is nobody's, and so is what requests of before may still say that they added.
    pub(super) fn clear(&self) {
        let mut books = self.write();
        books.table += 1;
        books.handles.clear();
        books.entries.clear();
        for account in books.accounts.values_mut() {
            (account.live, account.held) = (0, 0);
        }
    }

    /// SAs in all accounts.
    pub(super) fn len(&self) -> usize {
        self.read().handles.len()
    }

    /// Whether anybody else has SAs.
    pub(super) fn others(&self, owner: Owner) -> bool {
        self.read().accounts.iter().any(|(whose, account)| *whose != owner && account.live > 0)
    }

    /// Books what a request is about to do: SAs beyond the quota get [`Status::RESOURCES`] in the place of their bundle, and handles that are not the
    /// owner's are put out, so that the miniport skips and counts them (OV2-SA-7).
    ///
    /// # Errors
    /// [`Status::INVALID_PARAMETER`] for an update of what is not the owner's (OV2-SA-6).
    pub(super) fn claim(&self, owner: Owner, body: &mut DirectOid) -> Result<Claim, Status> {
        match body {
            DirectOid::AddSa(entries) => Ok(self.reserve(owner, entries)),
            DirectOid::AddSaEx(entry) => Ok(self.reserve(owner, core::slice::from_mut(&mut **entry))),
            DirectOid::UpdateSa(update) => match self.read().handles.get(&update.handle.to_bits()) {
                Some(whose) if *whose != owner => Err(Status::INVALID_PARAMETER),
                _ => Ok(Claim::default()),
            },
            DirectOid::DeleteSa(handles) => Ok(self.strike(owner, handles)),
            DirectOid::Other(_) => Ok(Claim::default()),
        }
    }

    fn reserve(&self, owner: Owner, entries: &mut [AddSaEntry]) -> Claim {
        let mut books = self.write();
        let table = books.table;
        let Some(account) = books.accounts.get_mut(&owner) else { return Claim { owner, table, ..Claim::default() } };
        let mut reserved = 0;
        for entry in entries.iter_mut().filter(|entry| entry.bundle.is_ok()) {
            if account.quota.is_some_and(|quota| account.live + account.held + reserved >= quota as usize) {
                entry.bundle = Err(Status::RESOURCES);
            } else {
                reserved += 1;
            }
        }
        account.held += reserved;
        Claim { owner, table, reserved, struck: Vec::new() }
    }

    fn strike(&self, owner: Owner, handles: &mut [u64]) -> Claim {
        let mut books = self.write();
        let mut struck = Vec::with_capacity(handles.len());
        for handle in handles {
            if books.handles.get(handle) == Some(&owner) {
                books.handles.remove(handle);
                struck.push(*handle);
            } else if books.handles.contains_key(handle) {
                *handle = 0;
            }
        }
        if let Some(account) = books.accounts.get_mut(&owner) {
            account.live -= struck.len().min(account.live);
            account.held += struck.len();
        }
        Claim { owner, table: books.table, reserved: 0, struck }
    }

    /// A request has ended: what it added is its owner's. Returns handles of SAs that nobody owns, because the owner has gone meanwhile, and whether these
    /// are the owner's first SAs, of which lanes of others must hear.
    pub(super) fn settle(&self, claim: &Claim, status: Status, body: &DirectOid) -> (Vec<u64>, bool) {
        let added: Vec<u64> = match body {
            _ if !status.is_success() => Vec::new(),
            DirectOid::AddSa(entries) => entries.iter().filter_map(|entry| entry.handle).map(OffloadHandle::to_bits).collect(),
            DirectOid::AddSaEx(entry) => entry.handle.into_iter().map(OffloadHandle::to_bits).collect(),
            _ => Vec::new(),
        };
        if added.is_empty() && claim.reserved == 0 && claim.struck.is_empty() {
            return (Vec::new(), false);
        }
        let mut books = self.write();
        let books = &mut *books;
        if claim.table != books.table {
            return (Vec::new(), false);
        }
        let Some(account) = books.accounts.get_mut(&claim.owner) else { return (added, false) };
        account.held -= (claim.reserved + claim.struck.len()).min(account.held);
        let first = account.live == 0 && !added.is_empty();
        // A deletion that was refused has deleted nothing; one that was cancelled goes on (OV2-OID-2).
        let kept = if status.is_success() || status == Status::REQUEST_ABORTED { &[][..] } else { &claim.struck[..] };
        for &handle in added.iter().chain(kept) {
            books.handles.insert(handle, claim.owner);
            account.live += 1;
        }
        (Vec::new(), first && books.accounts.len() > 1)
    }

    /// Fails the lists of `batch` that name SAs of others, and moves them to `done`, each list's order among its like kept.
    pub(super) fn turn_away(&self, owner: Owner, batch: &mut Vec<NetBufferList>, done: &mut Vec<NetBufferList>) {
        let books = self.read();
        let foreign = |list: &NetBufferList| {
            let handles = [list.oob.offload_handle(), list.oob.tunnel_handle()];
            handles.into_iter().flatten().any(|handle| books.handles.get(&handle.to_bits()).is_some_and(|whose| *whose != owner))
        };
        if batch.iter().any(foreign) {
            done.extend(batch.extract_if(.., |list| foreign(list)).map(|mut list| {
                list.status = Status::FAILURE;
                list
            }));
        }
    }
}
