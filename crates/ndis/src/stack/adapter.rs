//! One adapter: its states, its control side, and what NDIS knows of it.

use core::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use super::direct::{Completed, DirectTable};
use super::events::{Event, Events, Filters};
use super::owners::{Owner, Owners};
use super::{Binding, StackError, attributes, lock, read, write};
use crate::capability_v1::IpsecService;
use crate::driver::{AdapterAttributes, AttachParameters, BindParameters, Filter, FilterVerdict, Miniport, MiniportDriver, Protocol, Upcalls};
use crate::indication::StatusIndication;
use crate::offload::Offload;
use crate::oid::{OffloadEncapsulation, Oid, OidRequest, RequestId, SetEncapsulation};
use crate::registry::{AdapterKeywords, KeywordProblem, Registry, SystemSettings};
use crate::status::Status;

/// What an adapter is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AdapterState {
    /// It works.
    Running,
    /// Between the start and the end of a reset.
    Resetting,
    /// Between halt and initialisation.
    Restarting,
    /// Its driver could not start it again.
    Stopped,
    /// It is gone.
    Removed,
}

impl AdapterState {
    /// How a send ends in this state without having been tried; [`Status::SUCCESS`]: it is tried.
    pub const fn send_status(self) -> Status {
        match self {
            Self::Running => Status::SUCCESS,
            Self::Resetting => Status::RESET_IN_PROGRESS,
            Self::Restarting | Self::Stopped => Status::PAUSED,
            Self::Removed => Status::ADAPTER_REMOVED,
        }
    }
}

impl fmt::Display for AdapterState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Resetting => "resetting",
            Self::Restarting => "restarting",
            Self::Stopped => "stopped",
            Self::Removed => "removed",
        })
    }
}

/// How an adapter is doing, at one moment.
#[derive(Clone, Debug)]
pub struct AdapterInfo {
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub state: AdapterState,
    /// What its driver reported when it last initialised the adapter. Hardware capabilities and configuration may have changed since.
    pub attributes: AdapterAttributes,
    /// Hardware capabilities now.
    pub hardware_capabilities: Offload,
    /// Configuration now, below the filters.
    pub current_configuration: Offload,
    /// What `OID_OFFLOAD_ENCAPSULATION` last set, if it did.
    pub encapsulation: Option<OffloadEncapsulation>,
    /// Keywords that made no sense at the last initialisation.
    pub keyword_problems: Vec<KeywordProblem>,
    /// Names of the filters, bottom first.
    pub filters: Vec<String>,
    /// How many protocols are bound.
    pub protocols: usize,
    /// Direct requests that are under way.
    pub direct_requests: usize,
    /// SAs that protocols have there, all together.
    pub sas: usize,
    /// Indicated capability sets that claimed what the adapter cannot have, and were cut: a fault of the miniport.
    pub claims_cut: u64,
    /// Completions of requests that were not under way: a fault of the miniport, or late ones of requests that the stack had ended.
    pub stray_completions: u64,
}

/// A protocol on an adapter, from bind to unbind.
pub(super) struct Bound {
    pub(super) protocol: Arc<dyn Protocol>,
    pub(super) link: Arc<Link>,
}

/// What a protocol's binding holds of it: not the protocol, which holds the binding.
pub(super) struct Link {
    owner: Owner,
    quota: Option<u32>,
    closed: AtomicBool,
    /// The protocol has a direct completion function.
    completes: AtomicBool,
}

impl Link {
    /// Whose SAs it stands for.
    pub(super) fn owner(&self) -> Owner {
        self.owner
    }

    /// What of a configuration its protocol may have.
    fn limit(&self, offload: &mut Offload) {
        if let Some(quota) = self.quota {
            offload.ipsec_v2.sa_offload_capacity = offload.ipsec_v2.sa_offload_capacity.min(quota);
        }
    }

    pub(super) fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Acquire)
    }

    pub(super) fn completes_direct_requests(&self) -> bool {
        self.completes.load(Ordering::Relaxed)
    }
}

/// A protocol's place on an adapter, from bind to unbind, over restarts.
#[derive(Clone)]
struct Seat {
    protocol: Arc<dyn Protocol>,
    owner: Owner,
    quota: Option<u32>,
}

/// One adapter.
///
/// Locks, in the order in which they are taken: `control`, `core`, the table of direct requests, `owners`, `events`. Drivers' control functions run under `control`
/// alone, direct handlers, protocols and filters' `status` under none.
pub(super) struct Adapter {
    name: String,
    driver: Arc<dyn MiniportDriver>,
    registry: Arc<dyn Registry>,
    ids: Arc<AtomicU64>,
    epoch: Epoch,
    /// One control operation at a time: standard requests, polls, state changes.
    control: Mutex<()>,
    core: RwLock<Core>,
    pub(super) direct: DirectTable,
    pub(super) owners: Owners,
    pub(super) events: Events,
    claims_cut: AtomicU64,
}

/// Counts changes that lanes must notice; on cache lines of its own, because every lane reads it with every batch.
#[repr(align(128))]
#[derive(Default)]
struct Epoch(AtomicU64);

/// What is known of an adapter.
pub(super) struct Core {
    pub(super) state: AdapterState,
    /// Counts initialisations.
    pub(super) instance: u64,
    /// While the state is `Running` or `Resetting`.
    pub(super) miniport: Option<Arc<dyn Miniport>>,
    pub(super) attributes: AdapterAttributes,
    hardware: Offload,
    current: Offload,
    encapsulation: Option<OffloadEncapsulation>,
    keyword_problems: Vec<KeywordProblem>,
    pub(super) filters: Filters,
    protocols: Vec<Seat>,
    bindings: Vec<Arc<Bound>>,
}

impl Core {
    fn close_bindings(&self) {
        for bound in &self.bindings {
            bound.link.closed.store(true, Ordering::Release);
        }
    }

    /// The protocol behind a binding that is open.
    pub(super) fn bound(&self, link: &Arc<Link>) -> Option<Arc<Bound>> {
        self.bindings.iter().find(|bound| link.is_open() && Arc::ptr_eq(&bound.link, link)).cloned()
    }

    fn permitted(&self, claimed: &Offload) -> Offload {
        attributes::permitted(claimed, self.attributes.version, self.attributes.direct_requests)
    }
}

/// What a driver made of an adapter.
struct Initialized {
    miniport: Arc<dyn Miniport>,
    attributes: AdapterAttributes,
    keyword_problems: Vec<KeywordProblem>,
    system: SystemSettings,
}

/// What a lane needs to know.
pub(super) struct LaneView {
    pub(super) epoch: u64,
    pub(super) state: AdapterState,
    pub(super) instance: u64,
    pub(super) miniport: Option<Arc<dyn Miniport>>,
    pub(super) filters: Filters,
    /// Others have SAs there, too: whose each is must be looked at.
    pub(super) guarded: bool,
}

impl Adapter {
    /// Initialises an adapter.
    pub(super) fn start(name: &str, driver: Arc<dyn MiniportDriver>, registry: Arc<dyn Registry>, ids: Arc<AtomicU64>) -> Result<Arc<Self>, StackError> {
        let Initialized { miniport, attributes, keyword_problems, .. } = initialize(name, &*driver, &*registry)?;
        let core = Core {
            state: AdapterState::Running,
            instance: 1,
            miniport: Some(miniport),
            hardware: attributes.hardware_capabilities,
            current: attributes.default_configuration,
            attributes,
            encapsulation: None,
            keyword_problems,
            filters: Arc::from([]),
            protocols: Vec::new(),
            bindings: Vec::new(),
        };
        Ok(Arc::new(Self {
            name: name.to_owned(),
            driver,
            registry,
            ids,
            epoch: Epoch::default(),
            control: Mutex::default(),
            core: RwLock::new(core),
            direct: DirectTable::default(),
            owners: Owners::default(),
            events: Events::default(),
            claims_cut: AtomicU64::new(0),
        }))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn next_id(&self) -> RequestId {
        RequestId(self.ids.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn info(&self) -> AdapterInfo {
        let core = read(&self.core);
        AdapterInfo {
            name: self.name.clone(),
            state: core.state,
            attributes: core.attributes.clone(),
            hardware_capabilities: core.hardware,
            current_configuration: core.current,
            encapsulation: core.encapsulation,
            keyword_problems: core.keyword_problems.clone(),
            filters: core.filters.iter().map(|filter| filter.name().to_owned()).collect(),
            protocols: core.bindings.len(),
            direct_requests: self.direct.len(),
            sas: self.owners.len(),
            claims_cut: self.claims_cut.load(Ordering::Relaxed),
            stray_completions: self.direct.strays(),
        }
    }

    /// What the lanes compare with every batch.
    #[inline]
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.0.load(Ordering::Acquire)
    }

    /// The epoch is read before the rest, so that a change in between is noticed with the next batch.
    pub(super) fn lane_view(&self, owner: Option<Owner>) -> LaneView {
        let epoch = self.epoch();
        let guarded = owner.is_some_and(|owner| self.owners.others(owner));
        let core = read(&self.core);
        LaneView { epoch, state: core.state, instance: core.instance, miniport: core.miniport.clone(), filters: Arc::clone(&core.filters), guarded }
    }

    /// A protocol has its first SAs: the lanes of others must look at what they send.
    pub(super) fn note_first(&self, first: bool) {
        if first {
            self.changed();
        }
    }

    /// Whom the SAs of a protocol belong to.
    pub(super) fn owner_of(&self, protocol: &Arc<dyn Protocol>) -> Option<Owner> {
        read(&self.core).protocols.iter().find(|seat| Arc::ptr_eq(&seat.protocol, protocol)).map(|seat| seat.owner)
    }

    pub(super) fn core(&self) -> std::sync::RwLockReadGuard<'_, Core> {
        read(&self.core)
    }

    // States.

    pub(super) fn restart(&self) -> Result<(), StackError> {
        let _control = lock(&self.control);
        self.halt(AdapterState::Restarting)?;
        let initialized = initialize(&self.name, &*self.driver, &*self.registry).inspect_err(|_| {
            write(&self.core).state = AdapterState::Stopped;
            self.changed();
        })?;
        let filters = Arc::clone(&self.core().filters);
        let mut offered = initialized.attributes.default_configuration;
        for filter in filters.iter() {
            offered = attach(&**filter, &self.name, &offered);
        }
        let mut core = write(&self.core);
        core.state = AdapterState::Running;
        core.instance += 1;
        core.miniport = Some(initialized.miniport);
        core.hardware = initialized.attributes.hardware_capabilities;
        core.current = initialized.attributes.default_configuration;
        core.attributes = initialized.attributes;
        core.encapsulation = None;
        core.keyword_problems = initialized.keyword_problems;
        self.changed();
        for seat in core.protocols.clone() {
            self.bind_in(&mut core, &seat, &initialized.system);
        }
        Ok(())
    }

    pub(super) fn reset(&self) -> Result<(), StackError> {
        let _control = lock(&self.control);
        let miniport = {
            let mut core = write(&self.core);
            match (core.state, core.miniport.clone()) {
                (AdapterState::Running, Some(miniport)) => {
                    self.begin_reset(&mut core);
                    miniport
                }
                (state, _) => return Err(self.wrong_state(state)),
            }
        };
        let mut up = Upcalls::default();
        miniport.reset(&mut up);
        self.absorb(up);
        Ok(())
    }

    pub(super) fn remove(&self) {
        let _control = lock(&self.control);
        // An adapter that is gone already stays so.
        let _ = self.halt(AdapterState::Removed);
        self.forget();
    }

    pub(super) fn surprise_remove(&self) {
        let _control = lock(&self.control);
        self.vanish();
    }

    /// Polls the miniport; whether it said that the adapter is gone. The adapter is removed then.
    pub(super) fn poll(&self) -> bool {
        let _control = lock(&self.control);
        let Some(miniport) = self.core().miniport.clone() else { return false };
        let mut up = Upcalls::default();
        miniport.poll_control(&mut up);
        let gone = self.absorb(up);
        if gone {
            self.vanish();
        }
        gone
    }

    fn begin_reset(&self, core: &mut Core) {
        core.state = AdapterState::Resetting;
        self.owners.clear();
        self.changed();
        self.events.push(Event::Status(StatusIndication::ResetStart, Arc::clone(&core.filters)));
    }

    /// Surprise removal: those above hear of it before their requests end. Under `control`.
    fn vanish(&self) {
        {
            let mut core = write(&self.core);
            if core.state == AdapterState::Removed {
                return;
            }
            self.events.push(Event::Status(StatusIndication::AdapterRemoved, Arc::clone(&core.filters)));
            core.close_bindings();
            core.state = AdapterState::Removed;
            self.owners.clear();
            self.changed();
        }
        self.end_miniport();
        self.unbind_all();
        self.forget();
    }

    /// Orderly: ends the miniport, then tells those above. Under `control`.
    fn halt(&self, next: AdapterState) -> Result<(), StackError> {
        {
            let mut core = write(&self.core);
            if core.state == AdapterState::Removed {
                return Err(self.wrong_state(AdapterState::Removed));
            }
            core.close_bindings();
            core.state = next;
            self.owners.clear();
            self.changed();
        }
        self.end_miniport();
        if next == AdapterState::Removed {
            self.events.push(Event::Status(StatusIndication::AdapterRemoved, Arc::clone(&self.core().filters)));
        }
        self.unbind_all();
        Ok(())
    }

    /// Halts the miniport; every direct request that it had is answered afterwards.
    fn end_miniport(&self) {
        let (miniport, instance) = {
            let mut core = write(&self.core);
            (core.miniport.take(), core.instance)
        };
        if let Some(miniport) = miniport {
            let mut up = Upcalls::default();
            miniport.poll_control(&mut up);
            miniport.halt(&mut up);
            miniport.poll_control(&mut up);
            self.absorb(up);
        }
        for event in self.direct.abandon(instance) {
            self.events.push(event);
        }
    }

    fn unbind_all(&self) {
        let bindings = core::mem::take(&mut write(&self.core).bindings);
        for bound in bindings {
            self.events.push(Event::Unbind(bound));
        }
    }

    /// Lets go of protocols and filters for good: they may hold bindings to this adapter.
    fn forget(&self) {
        let filters = {
            let mut core = write(&self.core);
            core.protocols.clear();
            core::mem::replace(&mut core.filters, Arc::from([]))
        };
        for filter in filters.iter().rev() {
            self.events.push(Event::Detach(Arc::clone(filter)));
        }
    }

    fn changed(&self) {
        self.epoch.0.fetch_add(1, Ordering::Release);
    }

    fn wrong_state(&self, state: AdapterState) -> StackError {
        StackError::State { adapter: self.name.clone(), state }
    }

    // Filters and protocols.

    pub(super) fn attach_filter(&self, filter: Arc<dyn Filter>) -> Result<(), StackError> {
        let _control = lock(&self.control);
        let (state, filters, current) = {
            let core = self.core();
            (core.state, Arc::clone(&core.filters), core.current)
        };
        match state {
            AdapterState::Removed => return Err(self.wrong_state(state)),
            // The next restart attaches it, when there is something to offer.
            AdapterState::Stopped => {}
            _ => {
                attach(&*filter, &self.name, &reduced(&filters, &current));
            }
        }
        self.replace_filters(filters.iter().cloned().chain([filter]).collect());
        Ok(())
    }

    pub(super) fn detach_filter(&self, name: &str) -> Result<(), StackError> {
        let _control = lock(&self.control);
        let filters = Arc::clone(&self.core().filters);
        let Some(at) = filters.iter().rposition(|filter| filter.name() == name) else {
            return Err(StackError::NoFilter { adapter: self.name.clone(), filter: name.to_owned() });
        };
        self.replace_filters(filters.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, filter)| Arc::clone(filter)).collect());
        self.events.push(Event::Detach(Arc::clone(&filters[at])));
        Ok(())
    }

    /// Under `control`.
    fn replace_filters(&self, filters: Filters) {
        let (before, current) = {
            let mut core = write(&self.core);
            let before = core::mem::replace(&mut core.filters, Arc::clone(&filters));
            self.changed();
            if core.miniport.is_none() {
                return;
            }
            (before, core.current)
        };
        if reduced(&before, &current).normalized() != reduced(&filters, &current).normalized() {
            self.events.push(Event::Status(StatusIndication::TaskOffloadCurrentConfig(Box::new(current)), filters));
        }
    }

    pub(super) fn bind(&self, protocol: Arc<dyn Protocol>, quota: Option<u32>) -> Result<(), StackError> {
        let _control = lock(&self.control);
        let system = system_settings(&self.name, &*self.registry)?;
        let mut core = write(&self.core);
        if core.state == AdapterState::Removed {
            return Err(self.wrong_state(core.state));
        }
        if core.protocols.iter().any(|there| Arc::ptr_eq(&there.protocol, &protocol)) {
            return Err(StackError::AlreadyBound { adapter: self.name.clone() });
        }
        let seat = Seat { protocol, owner: Owner(self.next_id().0), quota };
        self.owners.admit(seat.owner, quota);
        core.protocols.push(seat.clone());
        // Who comes second makes lanes look at whose SAs they use.
        self.changed();
        if core.miniport.is_some() {
            self.bind_in(&mut core, &seat, &system);
        }
        Ok(())
    }

    pub(super) fn unbind(&self, protocol: &Arc<dyn Protocol>) -> Result<(), StackError> {
        let _control = lock(&self.control);
        let (owner, bound) = {
            let mut core = write(&self.core);
            let Some(at) = core.protocols.iter().position(|seat| Arc::ptr_eq(&seat.protocol, protocol)) else {
                return Err(StackError::NotBound { adapter: self.name.clone() });
            };
            let owner = core.protocols.remove(at).owner;
            let bound = core.bindings.iter().position(|bound| bound.link.owner == owner).map(|at| core.bindings.remove(at));
            if let Some(bound) = &bound {
                bound.link.closed.store(true, Ordering::Release);
            }
            self.changed();
            (owner, bound)
        };
        let Some(bound) = bound else {
            self.owners.dismiss(owner);
            return Ok(());
        };
        let (events, orphans) = self.direct.orphan(&bound.link);
        for event in events {
            self.events.push(event);
        }
        self.cancel_orphans(&orphans);
        let left = self.owners.dismiss(owner);
        self.delete_left(left);
        self.events.push(Event::Unbind(bound));
        Ok(())
    }

    /// Has the miniport delete what a protocol left behind, by whichever of the two services the adapter has. Under `control`.
    fn delete_left(&self, handles: Vec<u64>) {
        let (service, miniport) = {
            let core = self.core();
            (core.hardware.ipsec_service(core.attributes.version), core.miniport.clone().filter(|_| core.state == AdapterState::Running))
        };
        let (Some(IpsecService::V1), Some(miniport)) = (service, miniport) else { return self.delete_for_nobody(handles) };
        let mut up = Upcalls::default();
        for request in self.owners.deletions_v1(handles) {
            // What cannot be deleted stays until the next reset; nobody is there to do it later.
            let _ = miniport.oid_request(&mut OidRequest { id: self.next_id(), body: Oid::IpsecV1(request) }, &mut up);
        }
        self.absorb(up);
    }

    fn bind_in(&self, core: &mut Core, seat: &Seat, system: &SystemSettings) {
        let &Seat { ref protocol, owner, quota } = seat;
        let link = Arc::new(Link { owner, quota, closed: AtomicBool::new(false), completes: AtomicBool::new(false) });
        let bound = Arc::new(Bound { protocol: Arc::clone(protocol), link });
        let parameters = Box::new(BindParameters {
            adapter: self.name.clone(),
            version: core.attributes.version,
            medium: core.attributes.medium,
            mtu: core.attributes.mtu,
            default_offload_configuration: core.current,
            disable_task_offload: system.disable_task_offload,
            ipsec_offload_enabled: system.ipsec_offload_enabled,
        });
        core.bindings.push(Arc::clone(&bound));
        self.events.push(Event::Bind { bound, parameters, filters: Arc::clone(&core.filters) });
    }

    // Standard requests.

    pub(super) fn oid_request(&self, link: &Link, body: Oid) -> (Status, Oid) {
        let _control = lock(&self.control);
        let (state, filters, miniport) = {
            let core = self.core();
            (core.state, Arc::clone(&core.filters), core.miniport.clone())
        };
        let miniport = match (miniport, link.is_open()) {
            (Some(miniport), true) => miniport,
            _ if state == AdapterState::Removed => return (Status::ADAPTER_REMOVED, body),
            _ => return (Status::CLOSING, body),
        };
        let by_miniport = matches!(body, Oid::SetParameters(_) | Oid::SetEncapsulation(_) | Oid::IpsecV1(_));
        if by_miniport && state == AdapterState::Resetting {
            return (Status::RESET_IN_PROGRESS, body);
        }
        if let Oid::SetParameters(parameters) = &body {
            let changes: Vec<_> = parameters.keyword_changes().into_iter().map(|(keyword, value)| (keyword, Some(value))).collect();
            if !changes.is_empty() && self.registry.change_adapter(&self.name, &changes).is_err() {
                return (Status::FAILURE, body);
            }
        }

        let mut up = Upcalls::default();
        let mut request = OidRequest { id: self.next_id(), body };
        let mut answered = None;
        for (position, filter) in filters.iter().enumerate().rev() {
            match filter.oid_request(request) {
                FilterVerdict::Pass(passed) => request = passed,
                FilterVerdict::Complete(status, completed) => {
                    request = completed;
                    answered = Some((status, position + 1));
                    break;
                }
            }
        }
        let (status, above) = answered.unwrap_or_else(|| (self.answer(link, &*miniport, &mut request, &mut up), 0));
        for filter in filters.iter().skip(above) {
            let limit = configuration(&mut request.body).map(|offload| {
                **offload = reduced_by(&**filter, offload);
                **offload
            });
            filter.oid_request_complete(status, &mut request);
            if let (Some(limit), Some(offload)) = (limit, configuration(&mut request.body)) {
                **offload = offload.intersect(&limit);
            }
        }
        if let Some(offload) = configuration(&mut request.body) {
            link.limit(offload);
        }
        self.absorb(up);
        (status, request.body)
    }

    /// What the bottom of the stack says to a standard request: NDIS itself where it can (OV2-CAP-7), else the miniport.
    fn answer(&self, link: &Link, miniport: &dyn Miniport, request: &mut OidRequest, up: &mut Upcalls) -> Status {
        match &mut request.body {
            Oid::CurrentConfig(answer) => {
                *answer = Some(Box::new(self.core().current));
                Status::SUCCESS
            }
            Oid::HardwareCapabilities(answer) => {
                *answer = Some(Box::new(self.core().hardware));
                Status::SUCCESS
            }
            Oid::Encapsulation(answer) => {
                *answer = self.core().encapsulation;
                if answer.is_some() { Status::SUCCESS } else { Status::INVALID_STATE }
            }
            Oid::SetParameters(_) => finished(miniport.oid_request(request, up)),
            &mut Oid::SetEncapsulation(set) => {
                let status = finished(miniport.oid_request(request, up));
                if status.is_success() {
                    let mut core = write(&self.core);
                    core.encapsulation = Some(merged(core.encapsulation.unwrap_or_default(), set));
                }
                status
            }
            Oid::IpsecV1(body) if self.core().attributes.version.has_ipsec_v1() => {
                if let Err(status) = self.owners.admit_v1(link.owner(), body) {
                    return status;
                }
                let status = finished(miniport.oid_request(request, up));
                if let Oid::IpsecV1(body) = &request.body
                    && self.owners.settle_v1(link.owner(), status, body)
                {
                    self.changed();
                }
                status
            }
            // IPsecOV1 from NDIS 6.30 on (OV2-CAP-0); also the direct path's requests, and sets of what can only be queried (OV2-CAP-7, OV2-OID-4).
            Oid::IpsecV1(_) | Oid::Other { .. } => Status::NOT_SUPPORTED,
        }
    }

    // Upwards.

    /// Takes in what a miniport sent up: remembers it and puts it into the queue. Under `control`. Whether the miniport said that it is gone.
    fn absorb(&self, up: Upcalls) -> bool {
        for (status, request) in up.direct_completions {
            let Completed { event, nobodys, first } = self.direct.complete(&self.owners, status, request);
            self.note_first(first);
            if let Some(event) = event {
                self.events.push(event);
            }
            self.delete_for_nobody(nobodys);
        }
        let mut gone = false;
        for indication in up.indications {
            let mut core = write(&self.core);
            match indication {
                StatusIndication::TaskOffloadCurrentConfig(claimed) => {
                    let within = core.permitted(&claimed).intersect(&core.hardware);
                    self.note_cut(&claimed, &within);
                    core.current = within;
                    self.indicate_current(&core);
                }
                StatusIndication::TaskOffloadHardwareCapabilities(claimed) => {
                    core.hardware = core.permitted(&claimed);
                    self.note_cut(&claimed, &core.hardware);
                    let indication = StatusIndication::TaskOffloadHardwareCapabilities(Box::new(core.hardware));
                    self.events.push(Event::Status(indication, Arc::clone(&core.filters)));
                    if !core.current.is_within(&core.hardware) {
                        core.current = core.current.intersect(&core.hardware);
                        self.indicate_current(&core);
                    }
                }
                StatusIndication::ResetStart => {
                    if core.state == AdapterState::Running {
                        self.begin_reset(&mut core);
                    }
                }
                StatusIndication::ResetEnd => {
                    if core.state == AdapterState::Resetting {
                        core.state = AdapterState::Running;
                        self.changed();
                        self.events.push(Event::Status(StatusIndication::ResetEnd, Arc::clone(&core.filters)));
                    }
                }
                // The stack tells those above itself, once.
                StatusIndication::AdapterRemoved => gone = true,
            }
        }
        gone
    }

    fn note_cut(&self, claimed: &Offload, cut: &Offload) {
        if claimed.normalized() != cut.normalized() {
            self.claims_cut.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn indicate_current(&self, core: &Core) {
        let indication = StatusIndication::TaskOffloadCurrentConfig(Box::new(core.current));
        self.events.push(Event::Status(indication, Arc::clone(&core.filters)));
    }

    /// Hands what is waiting to filters and protocols; without a lock.
    pub(super) fn deliver(self: &Arc<Self>) -> usize {
        self.events.deliver(|event| match event {
            Event::Status(indication, filters) => {
                if let Some(indication) = passed(&filters, indication) {
                    for bound in self.events.listeners() {
                        bound.protocol.status(limited(indication.clone(), &bound.link));
                    }
                }
            }
            Event::DirectComplete { bound, status, mut request, filters } => {
                for filter in filters.iter() {
                    filter.direct_oid_request_complete(status, &mut request);
                }
                bound.protocol.direct_oid_complete(status, request);
            }
            Event::Bind { bound, mut parameters, filters } => {
                parameters.default_offload_configuration = reduced(&filters, &parameters.default_offload_configuration);
                bound.link.limit(&mut parameters.default_offload_configuration);
                self.events.add_listener(&bound);
                bound.link.completes.store(bound.protocol.completes_direct_requests(), Ordering::Relaxed);
                let binding = Binding::new(Arc::clone(self), Arc::clone(&bound.link));
                bound.protocol.bind(*parameters, binding);
            }
            Event::Unbind(bound) => {
                self.events.remove_listener(&bound);
                bound.protocol.unbind();
            }
            Event::Detach(filter) => filter.detach(&self.name),
        })
    }
}

/// Reads the keywords and lets the driver make an adapter of them.
fn initialize(name: &str, driver: &dyn MiniportDriver, registry: &dyn Registry) -> Result<Initialized, StackError> {
    let adapter = || name.to_owned();
    let keywords = AdapterKeywords::read(registry, name).map_err(|error| StackError::Registry { adapter: adapter(), error })?;
    let system = system_settings(name, registry)?;
    let (miniport, attributes) = driver.initialize(&keywords).map_err(|status| StackError::Initialize { adapter: adapter(), status })?;
    if let Err(error) = attributes::check(&attributes) {
        miniport.halt(&mut Upcalls::default());
        return Err(StackError::Attributes { adapter: adapter(), error });
    }
    Ok(Initialized { miniport: Arc::from(miniport), attributes, keyword_problems: keywords.problems().to_vec(), system })
}

fn system_settings(name: &str, registry: &dyn Registry) -> Result<SystemSettings, StackError> {
    SystemSettings::read(registry).map_err(|error| StackError::Registry { adapter: name.to_owned(), error })
}

/// Tells a filter what is below it; what it leaves for those above.
fn attach(filter: &dyn Filter, adapter: &str, below: &Offload) -> Offload {
    filter.attach(&AttachParameters { adapter: adapter.to_owned(), default_offload_configuration: *below });
    reduced_by(filter, below)
}

/// A filter may take away, never add.
fn reduced_by(filter: &dyn Filter, below: &Offload) -> Offload {
    filter.reduce(below).intersect(below)
}

fn reduced(filters: &Filters, below: &Offload) -> Offload {
    filters.iter().fold(*below, |offload, filter| reduced_by(&**filter, &offload))
}

/// An indication on its way up; what comes out at the top.
fn passed(filters: &Filters, indication: StatusIndication) -> Option<StatusIndication> {
    use StatusIndication::{TaskOffloadCurrentConfig as Current, TaskOffloadHardwareCapabilities as Hardware};
    filters.iter().try_fold(indication, |indication, filter| match indication {
        Current(below) => {
            let limit = reduced_by(&**filter, &below);
            match filter.status(Current(Box::new(limit)))? {
                Current(left) => Some(Current(Box::new(left.intersect(&limit)))),
                other => Some(other),
            }
        }
        Hardware(below) => {
            let limit = reduced_by(&**filter, &below);
            match filter.status(Hardware(Box::new(limit)))? {
                Hardware(left) => Some(Hardware(Box::new(left.intersect(&limit)))),
                other => Some(other),
            }
        }
        other => filter.status(other),
    })
}

/// An indication as a protocol with a quota hears it: the capacity that it may count on (OV2-CAP-2).
fn limited(indication: StatusIndication, link: &Link) -> StatusIndication {
    use StatusIndication::{TaskOffloadCurrentConfig as Current, TaskOffloadHardwareCapabilities as Hardware};
    match indication {
        Current(mut offload) => {
            link.limit(&mut offload);
            Current(offload)
        }
        Hardware(mut offload) => {
            link.limit(&mut offload);
            Hardware(offload)
        }
        other => other,
    }
}

/// The capability set in the answer to a query, which filters reduce.
fn configuration(body: &mut Oid) -> Option<&mut Box<Offload>> {
    match body {
        Oid::CurrentConfig(Some(offload)) | Oid::HardwareCapabilities(Some(offload)) => Some(offload),
        _ => None,
    }
}

/// Standard requests do not pend; a miniport that says so anyway has not done it.
fn finished(status: Status) -> Status {
    if status == Status::PENDING { Status::FAILURE } else { status }
}

fn merged(before: OffloadEncapsulation, set: OffloadEncapsulation) -> OffloadEncapsulation {
    let pick = |before, set| if set == SetEncapsulation::NoChange { before } else { set };
    OffloadEncapsulation { ipv4: pick(before.ipv4, set.ipv4), ipv6: pick(before.ipv6, set.ipv6) }
}

impl fmt::Debug for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adapter").field("name", &self.name).finish_non_exhaustive()
    }
}
