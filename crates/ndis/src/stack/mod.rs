//! The stack: what NDIS itself does between the drivers.
//!
//! A [`Stack`] holds adapters by name. On each adapter a miniport is at the bottom, then the filters in the order in which they were attached, then any
//! number of protocols side by side. Three things pass through it:
//!
//! | what | how | locks |
//! | --- | --- | --- |
//! | standard requests ([`Binding::oid_request`]) | one at a time per adapter (OV2-OID-1) | the adapter's control lock, during the whole request |
//! | direct requests ([`Binding::direct_oid_request`]) | any number at once, from any thread | short ones before and after; none while a driver runs |
//! | packets ([`Datapath`]) | owned by one lane | none: one atomic load a batch |
//!
//! What goes up (status indications, completions of pended requests, bind and unbind) waits in the adapter's queue and is delivered in its order by
//! [`Stack::pump`], without a lock held, so that a protocol may issue any request from within a callback. Methods of [`Stack`] that cause such calls
//! deliver them before they return, except from within a callback, or while another thread is delivering for the same adapter: then that one does it.
//! Methods of [`Binding`] deliver nothing.

mod adapter;
mod attributes;
mod binding;
mod datapath;
mod direct;
mod events;
mod owners;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use adapter::{AdapterInfo, AdapterState};
pub use attributes::{AttributeError, OffloadPart};
pub use binding::{Binding, DirectAnswer};
pub use datapath::Datapath;

use crate::driver::{Filter, MiniportDriver, Protocol};
use crate::registry::{Registry, RegistryError};
use crate::status::Status;
use adapter::Adapter;

/// Why the stack refuses what its owner asks for.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// There is no adapter of that name.
    #[error("there is no adapter {adapter:?}")]
    NoAdapter {
        /// The name.
        adapter: String,
    },
    /// There is one already.
    #[error("there is an adapter {adapter:?} already")]
    AdapterExists {
        /// The name.
        adapter: String,
    },
    /// The registry could not be read.
    #[error("adapter {adapter:?}: {error}")]
    Registry {
        /// The adapter.
        adapter: String,
        /// Why not.
        #[source]
        error: RegistryError,
    },
    /// The adapter's driver could not start it.
    #[error("adapter {adapter:?}: its driver failed to initialise it: {status}")]
    Initialize {
        /// The adapter.
        adapter: String,
        /// The driver's answer.
        status: Status,
    },
    /// The adapter's driver reported attributes that cannot be (OV2-CAP-0, OV2-CAP-1).
    #[error("adapter {adapter:?}: {error}")]
    Attributes {
        /// The adapter.
        adapter: String,
        /// Which of them, and why.
        #[source]
        error: AttributeError,
    },
    /// Not possible in the adapter's present state.
    #[error("adapter {adapter:?} is {state}")]
    State {
        /// The adapter.
        adapter: String,
        /// Its state.
        state: AdapterState,
    },
    /// The protocol is bound to this adapter already.
    #[error("the protocol is bound to adapter {adapter:?} already")]
    AlreadyBound {
        /// The adapter.
        adapter: String,
    },
    /// The protocol is not bound to this adapter.
    #[error("the protocol is not bound to adapter {adapter:?}")]
    NotBound {
        /// The adapter.
        adapter: String,
    },
    /// No such filter on this adapter.
    #[error("adapter {adapter:?} has no filter {filter:?}")]
    NoFilter {
        /// The adapter.
        adapter: String,
        /// The filter's name.
        filter: String,
    },
}

/// Adapters with the drivers on them. Everything may be called from any thread.
///
/// Dropping the stack removes all adapters, as [`Stack::remove_adapter`] does.
pub struct Stack {
    registry: Arc<dyn Registry>,
    ids: Arc<AtomicU64>,
    adapters: RwLock<BTreeMap<String, Arc<Adapter>>>,
}

impl Stack {
    /// A stack without adapters, over the registry that holds the keywords.
    pub fn new(registry: Arc<dyn Registry>) -> Self {
        Self { registry, ids: Arc::new(AtomicU64::new(1)), adapters: RwLock::default() }
    }

    /// The registry that adapters read their keywords from.
    pub fn registry(&self) -> &Arc<dyn Registry> {
        &self.registry
    }

    /// Names of the adapters, sorted.
    pub fn adapters(&self) -> Vec<String> {
        read(&self.adapters).keys().cloned().collect()
    }

    /// How an adapter is doing.
    ///
    /// # Errors
    /// [`StackError::NoAdapter`].
    pub fn adapter(&self, name: &str) -> Result<AdapterInfo, StackError> {
        Ok(self.find(name)?.info())
    }

    /// Starts an adapter: its driver reads the keywords and reports what it can do (OV2-CAP-1, OV2-CAP-5).
    ///
    /// # Errors
    /// [`StackError::AdapterExists`], [`StackError::Registry`], [`StackError::Initialize`], [`StackError::Attributes`]; the adapter is not there then.
    pub fn add_adapter(&self, name: &str, driver: Arc<dyn MiniportDriver>) -> Result<(), StackError> {
        let exists = || StackError::AdapterExists { adapter: name.to_owned() };
        if read(&self.adapters).contains_key(name) {
            return Err(exists());
        }
        let adapter = Adapter::start(name, driver, Arc::clone(&self.registry), Arc::clone(&self.ids))?;
        // Drivers run without the map's lock, so another thread may have been first.
        let first = {
            let mut adapters = write(&self.adapters);
            let vacant = !adapters.contains_key(name);
            if vacant {
                adapters.insert(name.to_owned(), Arc::clone(&adapter));
            }
            vacant
        };
        if !first {
            adapter.remove();
            return Err(exists());
        }
        Ok(())
    }

    /// Stops an adapter and starts it again: its keywords are read anew, its SAs are gone, its filters are attached anew with what is offered now, and its
    /// protocols are unbound and bound again with what is offered now. What it had pended completes with [`Status::REQUEST_ABORTED`] before the unbind.
    ///
    /// # Errors
    /// [`StackError::NoAdapter`]. [`StackError::Registry`], [`StackError::Initialize`], [`StackError::Attributes`]: it is stopped now, and may be restarted.
    pub fn restart_adapter(&self, name: &str) -> Result<(), StackError> {
        let adapter = self.find(name)?;
        let result = adapter.restart();
        adapter.deliver();
        result
    }

    /// Begins a reset of the adapter; it ends when the miniport says so in a later [`Stack::pump`]. In between new direct requests get
    /// [`Status::NOT_ACCEPTED`] (OV2-OID-2) and sends come back with [`Status::RESET_IN_PROGRESS`].
    ///
    /// # Errors
    /// [`StackError::NoAdapter`]; [`StackError::State`] if it does not run or is resetting already.
    pub fn reset_adapter(&self, name: &str) -> Result<(), StackError> {
        let adapter = self.find(name)?;
        let result = adapter.reset();
        adapter.deliver();
        result
    }

    /// Removes the adapter in order: what it pended is completed, those above it are told, protocols are unbound, filters detached (OV2-SA-9).
    ///
    /// # Errors
    /// [`StackError::NoAdapter`].
    pub fn remove_adapter(&self, name: &str) -> Result<(), StackError> {
        let adapter = self.take(name)?;
        adapter.remove();
        adapter.deliver();
        Ok(())
    }

    /// The adapter has gone without notice: everybody is told first; then what it pended completes with [`Status::REQUEST_ABORTED`], each request exactly
    /// once, and protocols are unbound. New direct requests get [`Status::NOT_ACCEPTED`] from the start (OV2-OID-2).
    ///
    /// # Errors
    /// [`StackError::NoAdapter`].
    pub fn surprise_remove(&self, name: &str) -> Result<(), StackError> {
        let adapter = self.take(name)?;
        adapter.surprise_remove();
        adapter.deliver();
        Ok(())
    }

    /// Puts a filter on top of those that the adapter has. Protocols that are bound get a current configuration, if theirs is less now (OV2-CAP-6).
    ///
    /// # Errors
    /// [`StackError::NoAdapter`].
    pub fn attach_filter(&self, adapter: &str, filter: Arc<dyn Filter>) -> Result<(), StackError> {
        let adapter = self.find(adapter)?;
        let result = adapter.attach_filter(filter);
        adapter.deliver();
        result
    }

    /// Takes the topmost filter of that name away. Protocols that are bound get a current configuration, if theirs is different now.
    ///
    /// # Errors
    /// [`StackError::NoAdapter`], [`StackError::NoFilter`].
    pub fn detach_filter(&self, adapter: &str, filter: &str) -> Result<(), StackError> {
        let adapter = self.find(adapter)?;
        let result = adapter.detach_filter(filter);
        adapter.deliver();
        result
    }

    /// Binds a protocol to an adapter; it stays bound through restarts.
    ///
    /// # Errors
    /// [`StackError::NoAdapter`], [`StackError::AlreadyBound`], [`StackError::Registry`].
    pub fn bind(&self, protocol: Arc<dyn Protocol>, adapter: &str) -> Result<(), StackError> {
        self.bind_with_quota(protocol, adapter, None)
    }

    /// Binds a protocol that may have at most `quota` SAs on the adapter (`None`: as many as fit). What is offered to it says no more, and entries of ADD_SA
    /// beyond it fail with [`Status::RESOURCES`] without asking the miniport.
    ///
    /// SAs belong to the protocol that adds them. To others on the same adapter their handles name nothing: they can neither update nor delete them, nor send
    /// under them through a [`Datapath`] of their own ([`Stack::open_datapath_of`]).
    ///
    /// # Errors
    /// As [`Stack::bind`].
    pub fn bind_with_quota(&self, protocol: Arc<dyn Protocol>, adapter: &str, quota: Option<u32>) -> Result<(), StackError> {
        let adapter = self.find(adapter)?;
        let result = adapter.bind(protocol, quota);
        adapter.deliver();
        result
    }

    /// Takes a protocol off an adapter: what it had pended is answered with [`Status::REQUEST_ABORTED`], its SAs are deleted, and it is told.
    ///
    /// # Errors
    /// [`StackError::NoAdapter`], [`StackError::NotBound`].
    pub fn unbind(&self, protocol: &Arc<dyn Protocol>, adapter: &str) -> Result<(), StackError> {
        let adapter = self.find(adapter)?;
        let result = adapter.unbind(protocol);
        adapter.deliver();
        result
    }

    /// Opens the way of packets for one lane. It follows the adapter through resets, restarts and removal.
    ///
    /// It is the way of whoever put the stack together, and knows no owners: what is sent by it may name the SAs of any protocol. Where several protocols
    /// that do not trust each other are on one adapter, each gets a way of its own by [`Stack::open_datapath_of`].
    ///
    /// # Errors
    /// [`StackError::NoAdapter`].
    pub fn open_datapath(&self, adapter: &str) -> Result<Datapath, StackError> {
        Ok(Datapath::new(self.find(adapter)?, None))
    }

    /// Opens the way of a protocol's packets for one lane: lists that name SAs of another come back with [`Status::FAILURE`], as if there were none. While
    /// only one protocol has SAs on the adapter that costs it nothing.
    ///
    /// # Errors
    /// [`StackError::NoAdapter`], [`StackError::NotBound`].
    pub fn open_datapath_of(&self, protocol: &Arc<dyn Protocol>, adapter: &str) -> Result<Datapath, StackError> {
        let adapter = self.find(adapter)?;
        let owner = adapter.owner_of(protocol).ok_or_else(|| StackError::NotBound { adapter: adapter.name().to_owned() })?;
        Ok(Datapath::new(adapter, Some(owner)))
    }

    /// Polls every miniport and delivers what is waiting: indications through the filters to the protocols, completions to those who asked. An adapter
    /// whose miniport says that it is gone is removed as [`Stack::surprise_remove`] does.
    ///
    /// What a protocol causes from within a callback is delivered by the next pump. Returns how many things were delivered.
    pub fn pump(&self) -> usize {
        let adapters: Vec<_> = read(&self.adapters).values().cloned().collect();
        let mut delivered = 0;
        for adapter in adapters {
            if adapter.poll() {
                let mut map = write(&self.adapters);
                // The name may belong to another adapter by now.
                if map.get(adapter.name()).is_some_and(|there| Arc::ptr_eq(there, &adapter)) {
                    map.remove(adapter.name());
                }
            }
            delivered += adapter.deliver();
        }
        delivered
    }

    fn find(&self, name: &str) -> Result<Arc<Adapter>, StackError> {
        read(&self.adapters).get(name).cloned().ok_or_else(|| StackError::NoAdapter { adapter: name.to_owned() })
    }

    fn take(&self, name: &str) -> Result<Arc<Adapter>, StackError> {
        write(&self.adapters).remove(name).ok_or_else(|| StackError::NoAdapter { adapter: name.to_owned() })
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let adapters = core::mem::take(&mut *write(&self.adapters));
        for adapter in adapters.into_values() {
            adapter.remove();
            adapter.deliver();
        }
    }
}

impl core::fmt::Debug for Stack {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Stack").field("adapters", &self.adapters()).finish_non_exhaustive()
    }
}

// A driver that panics poisons a lock; the stack's own state is consistent at every such point, and the other adapters and lanes go on.

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
