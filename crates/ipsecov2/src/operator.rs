//! The operator: a protocol driver without packets, by which the program sets an adapter's offload parameters and sees what it indicates.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ndis::{BindParameters, Binding, DirectOidRequest, Offload, OffloadEncapsulation, OffloadParameters, Protocol, Status, StatusIndication};

#[derive(Default)]
struct State {
    bound: Option<(BindParameters, Binding)>,
    indications: Vec<StatusIndication>,
}

/// A protocol driver that an operator's commands go through. Clones are the same operator.
#[derive(Clone, Default)]
pub struct Operator {
    state: Arc<Mutex<State>>,
}

impl Operator {
    /// An operator that is not bound yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets offload parameters (OV2-CAP-8): NDIS writes the keywords, and the miniport indicates its new configuration with the next pump.
    pub fn set_parameters(&self, parameters: OffloadParameters) -> Status {
        // Not under the lock: the request may take its time, and callbacks want the lock.
        self.binding().map_or(Status::ADAPTER_NOT_FOUND, |binding| binding.set_parameters(parameters))
    }

    /// The current configuration, as NDIS answers it (OV2-CAP-7).
    ///
    /// # Errors
    /// The status of a query that failed.
    pub fn current_config(&self) -> Result<Offload, Status> {
        self.binding().ok_or(Status::ADAPTER_NOT_FOUND)?.query_current_config()
    }

    /// The hardware capabilities, as NDIS answers them (OV2-CAP-7).
    ///
    /// # Errors
    /// The status of a query that failed.
    pub fn hardware_capabilities(&self) -> Result<Offload, Status> {
        self.binding().ok_or(Status::ADAPTER_NOT_FOUND)?.query_hardware_capabilities()
    }

    /// What the last successful `OID_OFFLOAD_ENCAPSULATION` of any protocol set, as NDIS answers it (OV2-CAP-9).
    ///
    /// # Errors
    /// The status of a query that failed; [`Status::INVALID_STATE`] before a set.
    pub fn encapsulation(&self) -> Result<OffloadEncapsulation, Status> {
        self.binding().ok_or(Status::ADAPTER_NOT_FOUND)?.query_encapsulation()
    }

    /// What NDIS handed over at the last bind.
    pub fn bind_parameters(&self) -> Option<BindParameters> {
        self.state().bound.as_ref().map(|(parameters, _)| parameters.clone())
    }

    /// Status indications since the last call.
    pub fn take_indications(&self) -> Vec<StatusIndication> {
        core::mem::take(&mut self.state().indications)
    }

    fn binding(&self) -> Option<Binding> {
        self.state().bound.as_ref().map(|(_, binding)| binding.clone())
    }

    /// What is under it is replaced whole, so a panic leaves nothing half done.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Protocol for Operator {
    fn bind(&self, parameters: BindParameters, binding: Binding) {
        self.state().bound = Some((parameters, binding));
    }

    fn unbind(&self) {
        self.state().bound = None;
    }

    fn status(&self, indication: StatusIndication) {
        self.state().indications.push(indication);
    }

    fn completes_direct_requests(&self) -> bool {
        false
    }

    fn direct_oid_complete(&self, _status: Status, _request: DirectOidRequest) {}
}
