//! The lower edge: a protocol on one member's adapter.

use std::sync::Arc;

use ndis::{BindParameters, Binding, DirectOidRequest, Offload, Protocol, Status, StatusIndication};

use crate::control::Inner;

/// A member's adapter as the mux knows it.
#[derive(Default)]
pub(crate) struct Member {
    pub(crate) binding: Option<Binding>,
    /// Counts binds, so that lanes open a way to the adapter that is there now.
    pub(crate) bound: u64,
    pub(crate) hardware: Offload,
    pub(crate) current: Offload,
    pub(crate) mtu: u32,
    /// It is of the mux's medium and version.
    pub(crate) fits: bool,
    pub(crate) resetting: bool,
    pub(crate) link_down: bool,
}

impl Member {
    /// Whether it can be in use.
    pub(crate) fn is_able(&self) -> bool {
        self.binding.is_some() && self.fits && !self.resetting && !self.link_down
    }

    pub(crate) fn bind(&mut self, parameters: &BindParameters, binding: Binding, fits: bool) {
        self.hardware = binding.query_hardware_capabilities().unwrap_or(parameters.default_offload_configuration);
        self.current = parameters.default_offload_configuration;
        self.mtu = parameters.mtu;
        self.fits = fits;
        self.resetting = false;
        self.bound += 1;
        self.binding = Some(binding);
    }

    /// Asks anew for what it is configured to do.
    pub(crate) fn refresh(&mut self) {
        if let Some(current) = self.binding.as_ref().and_then(|binding| binding.query_current_config().ok()) {
            self.current = current;
        }
    }
}

/// A member as the stack sees it.
pub(crate) struct Lower {
    inner: Arc<Inner>,
    member: usize,
}

impl Lower {
    pub(crate) const fn new(inner: Arc<Inner>, member: usize) -> Self {
        Self { inner, member }
    }
}

impl Protocol for Lower {
    fn bind(&self, parameters: BindParameters, binding: Binding) {
        self.inner.lock().member_bound(&self.inner, self.member, &parameters, binding);
    }

    fn unbind(&self) {
        self.inner.lock().member_gone(&self.inner, self.member);
    }

    fn status(&self, indication: StatusIndication) {
        let mut control = self.inner.lock();
        match indication {
            StatusIndication::TaskOffloadCurrentConfig(current) => control.member_configured(&self.inner, self.member, None, Some(*current)),
            StatusIndication::TaskOffloadHardwareCapabilities(hardware) => control.member_configured(&self.inner, self.member, Some(*hardware), None),
            StatusIndication::ResetStart => control.member_resets(&self.inner, self.member, true),
            StatusIndication::ResetEnd => control.member_resets(&self.inner, self.member, false),
            StatusIndication::AdapterRemoved => control.member_gone(&self.inner, self.member),
        }
    }

    fn direct_oid_complete(&self, status: Status, request: DirectOidRequest) {
        self.inner.lock().completed(&self.inner, self.member, status, request);
    }
}
