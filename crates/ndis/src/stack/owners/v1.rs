//! The books of SAs that came by IPsecOV1's requests, which are served one at a time.

use super::{Owner, Owners};
use crate::sa::OffloadHandle;
use crate::status::Status;
use crate::v1::V1Request;

impl Owners {
    /// Whether a request may go to the miniport.
    ///
    /// # Errors
    /// [`Status::RESOURCES`] for an SA beyond the owner's quota, [`Status::INVALID_PARAMETER`] for the deletion of what is not the owner's.
    pub(in crate::stack) fn admit_v1(&self, owner: Owner, request: &V1Request) -> Result<(), Status> {
        let books = self.read();
        match request {
            V1Request::AddSa { .. } | V1Request::AddUdpEspSa { .. } => {
                let beyond = books.accounts.get(&owner).is_some_and(|account| account.quota.is_some_and(|quota| account.live + account.held >= quota as usize));
                if beyond { Err(Status::RESOURCES) } else { Ok(()) }
            }
            V1Request::DeleteSa(handle) | V1Request::DeleteUdpEspSa { handle, .. } => {
                if books.handles.get(handle).is_some_and(|whose| *whose != owner) {
                    Err(Status::INVALID_PARAMETER)
                } else {
                    Ok(())
                }
            }
        }
    }

    /// A request has ended. Returns whether what it added are the owner's first SAs, of which lanes of others must hear.
    pub(in crate::stack) fn settle_v1(&self, owner: Owner, status: Status, request: &V1Request) -> bool {
        if !status.is_success() {
            return false;
        }
        let mut books = self.write();
        let books = &mut *books;
        let several = books.accounts.len() > 1;
        let Some(account) = books.accounts.get_mut(&owner) else { return false };
        match *request {
            V1Request::AddSa { handle: Some(handle), .. } | V1Request::AddUdpEspSa { handle: Some(handle), .. } => {
                if let V1Request::AddUdpEspSa { entry_handle: Some(entry), .. } = request {
                    books.entries.insert(handle.to_bits(), entry.to_bits());
                }
                books.handles.insert(handle.to_bits(), owner);
                account.live += 1;
                account.live == 1 && several
            }
            V1Request::AddSa { .. } | V1Request::AddUdpEspSa { .. } => false,
            V1Request::DeleteSa(handle) | V1Request::DeleteUdpEspSa { handle, .. } => {
                books.entries.remove(&handle);
                if books.handles.remove(&handle).is_some() {
                    account.live = account.live.saturating_sub(1);
                }
                false
            }
        }
    }

    /// The requests that delete what a dismissed owner had: each parser entry goes with the last SA that has it.
    pub(in crate::stack) fn deletions_v1(&self, handles: Vec<u64>) -> Vec<V1Request> {
        let mut books = self.write();
        let mut deletion = |handle: u64| {
            let Some(entry) = books.entries.remove(&handle) else { return V1Request::DeleteSa(handle) };
            let last = !books.entries.values().any(|other| *other == entry);
            V1Request::DeleteUdpEspSa { handle, entry_handle: OffloadHandle::from_bits(entry).filter(|_| last) }
        };
        handles.into_iter().map(&mut deletion).collect()
    }
}
