//! The state behind a miniport's requests: configuration, bundles, requests under way. Everything here happens under the miniport's mutex.

mod parser;
mod v1;

use core::sync::atomic::{AtomicU32, Ordering};
use std::collections::HashMap;
use std::sync::Arc;

use ipsec::ReplayWindow;
use ndis::{
    AddSaEntry, ChecksumSet, DirectOid, DirectOidRequest, IpsecOffloadV1, IpsecOffloadV2, LargeSendSet, Offload, OffloadEncapsulation, OffloadHandle,
    OffloadParameters, Outcome, RequestId, SaBundle, SaRules, SetEncapsulation, Status, StatusIndication, Upcalls, UpdateSa,
};

use packet::IpVersion;

use crate::counters::LaneCounters;
use crate::driver::{DeletePolicy, NicEvent, NicParameters};
use crate::engine::{Activation, Engine, EngineConfig, EngineEvent, Progress, Token};
use crate::ledger::{Ledger, Record};

use self::parser::Parser;

/// What the queues look at once a batch.
#[derive(Debug, Default)]
pub(crate) struct Gate(AtomicU32);

impl Gate {
    /// The adapter runs.
    pub(crate) const RUNNING: u32 = 1;
    /// The adapter is gone.
    pub(crate) const HALTED: u32 = 2;
    /// IPsec offload is configured for sends.
    pub(crate) const SEND: u32 = 4;
    /// Some offload is configured and active for received packets.
    pub(crate) const RECEIVE: u32 = 8;

    #[inline]
    pub(crate) fn load(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    fn store(&self, bits: u32) {
        self.0.store(bits, Ordering::Release);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Resetting,
    Halted,
}

/// What a token stands for. `request` is `None` once its request was cancelled or aborted.
#[derive(Debug)]
enum Operation {
    Add { request: Option<RequestId>, entry: usize, record: Record },
    Update { request: Option<RequestId> },
    Delete { request: Option<RequestId> },
    Reset,
}

/// A direct request that waits for the engine.
#[derive(Debug)]
struct Pending {
    request: DirectOidRequest,
    /// Operations that have not ended.
    outstanding: usize,
}

pub(crate) struct Control {
    parameters: Arc<NicParameters>,
    gate: Arc<Gate>,
    counters: LaneCounters,
    state: State,
    hardware: Offload,
    /// What keywords and parameters ask for; the current configuration is this, cut down by deactivated families.
    configured: Offload,
    current: Offload,
    ipv4: Activation,
    ipv6: Activation,
    /// What the engine may be asked for: [`Gate::SEND`], [`Gate::RECEIVE`].
    work: u32,
    ledger: Ledger,
    requests: HashMap<RequestId, Pending>,
    operations: HashMap<Token, Operation>,
    next_token: u64,
    /// Of IPsecOV1.
    parser: Parser,
    /// An addition by IPsecOV1 that is waited for, and how it ended.
    awaited: Option<(Token, Option<Result<OffloadHandle, Status>>)>,
    /// Waiting for `poll_control`.
    ready: Upcalls,
    events: Vec<EngineEvent>,
}

impl Control {
    pub(crate) fn new(parameters: Arc<NicParameters>, gate: Arc<Gate>, counters: LaneCounters, hardware: Offload, configured: Offload) -> Self {
        Self {
            parameters,
            gate,
            counters,
            state: State::Running,
            hardware,
            configured,
            current: configured,
            ipv4: Activation::Initial,
            ipv6: Activation::Initial,
            work: 0,
            ledger: Ledger::default(),
            requests: HashMap::new(),
            operations: HashMap::new(),
            next_token: 0,
            parser: Parser::default(),
            awaited: None,
            ready: Upcalls::default(),
            events: Vec::new(),
        }
    }

    /// Live bundles, and those that take room.
    pub(crate) fn sas(&self) -> (usize, usize) {
        (self.ledger.live(), self.ledger.occupied())
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    // Configuration.

    /// Works out the current configuration and tells engine and queues.
    pub(crate) fn configure(&mut self, engine: &impl Engine) {
        self.current = active(&self.configured, self.ipv4, self.ipv6);
        let config = EngineConfig {
            current: self.for_engine(),
            ipv4: self.ipv4,
            ipv6: self.ipv6,
            medium: self.parameters.medium,
            // Of IPsecOV1 only the parser's entries say which ports are looked into.
            udp_esp_port: if self.serves_v1() { 0 } else { self.parameters.udp_esp_port },
            reserved_spis: self.parameters.reserved_spis,
            allow_unauthenticated: self.parameters.allow_unauthenticated,
            end_of_life_requests: self.parameters.delete_policy != DeletePolicy::Never,
        };
        engine.configure(&config);
        let any = |of: fn(&EngineConfig, IpVersion) -> bool| of(&config, IpVersion::V4) || of(&config, IpVersion::V6);
        self.work = 0;
        if any(EngineConfig::ipsec_sends) {
            self.work |= Gate::SEND;
        }
        let sums = |config: &EngineConfig, version| config.checksum_receives(version).is_supported();
        if any(EngineConfig::ipsec_receives) || any(sums) || config.strips_tags() {
            self.work |= Gate::RECEIVE;
        }
        self.set_gate();
    }

    fn set_gate(&self) {
        let state = match self.state {
            State::Running => Gate::RUNNING,
            State::Resetting => 0,
            State::Halted => Gate::HALTED,
        };
        self.gate.store(state | self.work);
    }

    fn current_config(&self) -> StatusIndication {
        StatusIndication::TaskOffloadCurrentConfig(Box::new(self.current))
    }

    /// `OID_TCP_OFFLOAD_PARAMETERS` (OV2-CAP-8).
    pub(crate) fn set_parameters(&mut self, engine: &impl Engine, parameters: &OffloadParameters, up: &mut Upcalls) -> Status {
        match self.configured.apply(parameters, &self.hardware) {
            Ok(configured) => self.configured = configured,
            Err(status) => return status,
        }
        self.configure(engine);
        up.indications.push(self.current_config());
        Status::SUCCESS
    }

    /// `OID_OFFLOAD_ENCAPSULATION` (OV2-CAP-9).
    pub(crate) fn set_encapsulation(&mut self, engine: &impl Engine, request: &OffloadEncapsulation, up: &mut Upcalls) -> Status {
        let status = self.hardware.check_encapsulation(request);
        if !status.is_success() {
            return status;
        }
        for (activation, family) in [(&mut self.ipv4, request.ipv4), (&mut self.ipv6, request.ipv6)] {
            match family {
                SetEncapsulation::NoChange => {}
                SetEncapsulation::On { encapsulation, header_size } => *activation = Activation::On { encapsulation, header_size },
                SetEncapsulation::Off => *activation = Activation::Off,
            }
        }
        self.configure(engine);
        up.indications.push(self.current_config());
        Status::SUCCESS
    }

    // Direct requests.

    /// ADD_SA, ADD_SA_EX, UPDATE_SA, DELETE_SA (OV2-OID-1).
    pub(crate) fn direct_request(&mut self, engine: &impl Engine, mut request: DirectOidRequest) -> Outcome {
        if self.state != State::Running {
            return Outcome::Done(Status::NOT_ACCEPTED, request);
        }
        let version = self.parameters.version;
        if !version.has_ipsec_v2() || self.serves_v1() {
            return Outcome::Done(Status::NOT_SUPPORTED, request);
        }
        let id = request.id;
        let (status, outstanding) = match &mut request.body {
            DirectOid::AddSa(list) if !version.uses_add_sa_ex() => self.add(engine, id, list),
            DirectOid::AddSaEx(entry) if version.uses_add_sa_ex() => self.add(engine, id, core::slice::from_mut(entry)),
            DirectOid::UpdateSa(update) => self.update(engine, id, update),
            DirectOid::DeleteSa(handles) => self.delete(engine, id, handles),
            DirectOid::AddSa(_) | DirectOid::AddSaEx(_) | DirectOid::Other(_) => (Status::NOT_SUPPORTED, 0),
        };
        if outstanding == 0 {
            return Outcome::Done(status, request);
        }
        self.requests.insert(id, Pending { request, outstanding });
        Outcome::Pending
    }

    fn add(&mut self, engine: &impl Engine, id: RequestId, list: &mut [AddSaEntry]) -> (Status, usize) {
        let mut outstanding = 0;
        for (number, entry) in list.iter_mut().enumerate() {
            entry.handle = None;
            let added = match &entry.bundle {
                Ok(bundle) => self.add_bundle(engine, id, number, bundle),
                Err(status) => Progress::Done(Err(*status)),
            };
            match added {
                Progress::Done(result) => self.note_added(entry, result),
                Progress::Pending => {
                    entry.status = Status::PENDING;
                    outstanding += 1;
                }
            }
        }
        (add_status(list), outstanding)
    }

    fn add_bundle(&mut self, engine: &impl Engine, id: RequestId, entry: usize, bundle: &SaBundle) -> Progress<Result<OffloadHandle, Status>> {
        let rules = SaRules { reserved_spis: self.parameters.reserved_spis, unauthenticated_esp: self.parameters.allow_unauthenticated };
        if let Err(invalid) = bundle.validate(rules) {
            return Progress::Done(Err(invalid.into()));
        }
        // No transport has a larger window; numbers inferred with one would be those of long ago.
        if bundle.extension.replay_window.is_some_and(|window| window > ReplayWindow::MAX_SIZE) || bundle.extension.v1_scope.is_some() {
            return Progress::Done(Err(Status::INVALID_DATA));
        }
        if self.current.ipsec_v2.covers(bundle, None).is_err() {
            return Progress::Done(Err(Status::NOT_SUPPORTED));
        }
        let capacity = self.current.ipsec_v2.sa_offload_capacity;
        let record = match self.ledger.reserve(bundle, capacity) {
            Ok(record) => record,
            Err(status) => {
                if status == Status::RESOURCES && self.parameters.delete_policy != DeletePolicy::Never {
                    self.ask_one_to_go(engine);
                }
                return Progress::Done(Err(status));
            }
        };
        let token = self.token();
        match engine.add_sa(token, bundle) {
            Progress::Done(result) => Progress::Done(self.added(engine, record, result)),
            Progress::Pending => {
                self.operations.insert(token, Operation::Add { request: Some(id), entry, record });
                Progress::Pending
            }
        }
    }

    /// The engine has answered for a bundle that room was made for.
    fn added(&mut self, engine: &impl Engine, record: Record, result: Result<OffloadHandle, Status>) -> Result<OffloadHandle, Status> {
        let handle = result.inspect_err(|_| self.ledger.release(&record))?;
        if let Err(record) = self.ledger.commit(handle, record) {
            // The engine broke its promise; the bundle that has the handle keeps it.
            self.ledger.release(&record);
            return Err(Status::FAILURE);
        }
        if self.parameters.delete_policy == DeletePolicy::WhenFull && self.ledger.occupied() >= self.capacity() as usize {
            self.ask_one_to_go(engine);
        }
        Ok(handle)
    }

    fn note_added(&mut self, entry: &mut AddSaEntry, result: Result<OffloadHandle, Status>) {
        match result {
            Ok(handle) => {
                entry.handle = Some(handle);
                entry.status = Status::SUCCESS;
                self.counters.sas_added(1);
                self.parameters.tell(&NicEvent::Added { handle });
            }
            Err(status) => {
                entry.status = status;
                self.counters.sas_refused(1);
                self.parameters.tell(&NicEvent::Refused { status });
            }
        }
    }

    fn update(&mut self, engine: &impl Engine, id: RequestId, update: &UpdateSa) -> (Status, usize) {
        if let Err(status) = self.ledger.update(update) {
            return (status, 0);
        }
        let token = self.token();
        match engine.update_sa(token, update) {
            Progress::Done(status) => {
                self.note_updated(status);
                (status, 0)
            }
            Progress::Pending => {
                self.operations.insert(token, Operation::Update { request: Some(id) });
                (Status::PENDING, 1)
            }
        }
    }

    fn note_updated(&self, status: Status) {
        if status.is_success() {
            self.counters.sas_updated();
        }
    }

    fn delete(&mut self, engine: &impl Engine, id: RequestId, handles: &[u64]) -> (Status, usize) {
        let mut outstanding = 0;
        for &bits in handles {
            match OffloadHandle::from_bits(bits) {
                Some(handle) if self.ledger.strike(handle) => outstanding += usize::from(self.delete_struck(engine, handle, Some(id))),
                _ => {
                    self.counters.unknown_handles(1);
                    self.parameters.tell(&NicEvent::UnknownHandle { bits });
                }
            }
        }
        (Status::SUCCESS, outstanding)
    }

    /// Deletes a bundle that is no longer in the ledger; returns whether that goes on.
    fn delete_struck(&mut self, engine: &impl Engine, handle: OffloadHandle, request: Option<RequestId>) -> bool {
        self.counters.sas_deleted(1);
        self.parameters.tell(&NicEvent::Deleted { handle });
        let token = self.token();
        match engine.delete_sa(token, handle) {
            Progress::Done(()) => {
                self.ledger.vacate();
                false
            }
            Progress::Pending => {
                self.operations.insert(token, Operation::Delete { request });
                true
            }
        }
    }

    fn ask_one_to_go(&mut self, engine: &impl Engine) {
        if let Some(handle) = self.ledger.next_to_go() {
            engine.request_delete(handle);
            self.parameters.tell(&NicEvent::DeleteRequested { handle });
        }
    }

    /// Cancels a pended request (OV2-OID-2). What the engine has begun goes on to its end, and what it adds is deleted again.
    pub(crate) fn cancel(&mut self, engine: &impl Engine, id: RequestId) {
        let Some(pending) = self.requests.remove(&id) else { return };
        self.orphan(id);
        self.abort(engine, pending);
    }

    /// The operations of a request that has gone have nobody to report to.
    fn orphan(&mut self, id: RequestId) {
        for operation in self.operations.values_mut() {
            match operation {
                Operation::Add { request, .. } | Operation::Update { request } | Operation::Delete { request } => {
                    if *request == Some(id) {
                        *request = None;
                    }
                }
                Operation::Reset => {}
            }
        }
    }

    /// Ends an unfinished request with [`Status::REQUEST_ABORTED`]: none of the bundles that it asked for stays (OV2-SA-4).
    fn abort(&mut self, engine: &impl Engine, mut pending: Pending) {
        let entries = match &mut pending.request.body {
            DirectOid::AddSa(list) => list.as_mut_slice(),
            DirectOid::AddSaEx(entry) => core::slice::from_mut(&mut **entry),
            DirectOid::UpdateSa(_) | DirectOid::DeleteSa(_) | DirectOid::Other(_) => &mut [],
        };
        for entry in entries {
            entry.status = Status::REQUEST_ABORTED;
            if let Some(handle) = entry.handle.take()
                && self.ledger.strike(handle)
            {
                self.delete_struck(engine, handle, None);
            }
        }
        self.complete(Status::REQUEST_ABORTED, pending.request);
    }

    fn complete(&mut self, status: Status, request: DirectOidRequest) {
        self.counters.request_ended(status);
        self.ready.direct_completions.push((status, request));
    }

    // Reset and removal.

    /// Begins a reset (OV2-OID-2).
    pub(crate) fn reset(&mut self, engine: &impl Engine, up: &mut Upcalls) {
        if self.state != State::Running {
            return;
        }
        // What has ended by now ended before the reset.
        self.drain(engine);
        self.state = State::Resetting;
        self.set_gate();
        self.counters.reset();
        self.parameters.tell(&NicEvent::Reset);
        up.indications.push(StatusIndication::ResetStart);
        self.empty_ledger();
        self.clear_parser(engine);
        if !self.parameters.version.uses_add_sa_ex() {
            // From NDIS 6.30 on they end before the reset does, each in its own way; before that the reset ends them.
            self.abort_all(engine);
        }
        let token = self.token();
        match engine.reset(token) {
            Progress::Done(()) => {
                self.drain(engine);
                self.reset_done(engine);
            }
            Progress::Pending => {
                self.operations.insert(token, Operation::Reset);
            }
        }
    }

    fn reset_done(&mut self, engine: &impl Engine) {
        self.abort_all(engine);
        self.operations.clear();
        self.ledger.clear();
        if self.state == State::Resetting {
            self.state = State::Running;
            self.set_gate();
            self.ready.indications.push(StatusIndication::ResetEnd);
        }
    }

    /// The adapter is going (OV2-SA-9).
    pub(crate) fn halt(&mut self, engine: &impl Engine, up: &mut Upcalls) {
        if self.state == State::Halted {
            return;
        }
        self.drain(engine);
        self.state = State::Halted;
        self.set_gate();
        self.empty_ledger();
        self.clear_parser(engine);
        self.abort_all(engine);
        let token = self.token();
        // Nobody polls any more: what is pending ends in the engine by itself.
        let _ = engine.reset(token);
        self.operations.clear();
        self.hand_over(up);
    }

    fn empty_ledger(&mut self) {
        let deleted = self.ledger.clear();
        self.counters.sas_deleted(deleted as u64);
    }

    fn abort_all(&mut self, engine: &impl Engine) {
        for operation in self.operations.values_mut() {
            match operation {
                Operation::Add { request, .. } | Operation::Update { request } | Operation::Delete { request } => *request = None,
                Operation::Reset => {}
            }
        }
        let mut pending: Vec<_> = self.requests.drain().map(|(_, pending)| pending).collect();
        pending.sort_by_key(|pending| pending.request.id);
        for pending in pending {
            self.abort(engine, pending);
        }
    }

    // What comes from the engine.

    /// Takes what the engine reports, and hands everything that is ready over.
    pub(crate) fn poll(&mut self, engine: &impl Engine, up: &mut Upcalls) {
        self.drain(engine);
        self.hand_over(up);
    }

    fn hand_over(&mut self, up: &mut Upcalls) {
        up.direct_completions.append(&mut self.ready.direct_completions);
        up.indications.append(&mut self.ready.indications);
    }

    fn drain(&mut self, engine: &impl Engine) {
        let mut events = core::mem::take(&mut self.events);
        engine.poll(&mut events);
        for event in events.drain(..) {
            self.event(engine, event);
        }
        self.events = events;
    }

    fn event(&mut self, engine: &impl Engine, event: EngineEvent) {
        match event {
            EngineEvent::Added { token, result } => match &mut self.awaited {
                Some((awaited, ended)) if *awaited == token => *ended = Some(result),
                _ => self.add_ended(engine, token, result),
            },
            EngineEvent::Updated { token, status } => {
                if let Some(Operation::Update { request }) = self.operations.remove(&token) {
                    self.note_updated(status);
                    self.operation_ended(request, |_| status);
                }
            }
            EngineEvent::Deleted { token } => {
                if let Some(Operation::Delete { request }) = self.operations.remove(&token) {
                    if self.state == State::Running {
                        self.ledger.vacate();
                    }
                    self.operation_ended(request, |_| Status::SUCCESS);
                }
            }
            EngineEvent::ResetDone { token } => {
                if let Some(Operation::Reset) = self.operations.remove(&token) {
                    self.reset_done(engine);
                }
            }
            EngineEvent::HardwareCapabilitiesChanged => self.hardware_changed(engine),
        }
    }

    fn add_ended(&mut self, engine: &impl Engine, token: Token, result: Result<OffloadHandle, Status>) {
        let Some(Operation::Add { request, entry: number, record }) = self.operations.remove(&token) else { return };
        let result = match (self.state, request, result) {
            // The reset takes the bundle away again.
            (State::Resetting | State::Halted, _, Ok(_)) => Err(Status::REQUEST_ABORTED),
            (State::Resetting | State::Halted, _, Err(status)) => Err(status),
            (State::Running, Some(_), result) => self.added(engine, record, result),
            (State::Running, None, Ok(handle)) => {
                // It was there for a moment, and counts as that.
                if self.added(engine, record, Ok(handle)).is_ok() && self.ledger.strike(handle) {
                    self.counters.sas_added(1);
                    self.parameters.tell(&NicEvent::Added { handle });
                    self.delete_struck(engine, handle, None);
                }
                return;
            }
            (State::Running, None, Err(_)) => {
                self.ledger.release(&record);
                return;
            }
        };
        let Some(id) = request else { return };
        let Some(mut pending) = self.requests.remove(&id) else { return };
        let entry = match &mut pending.request.body {
            DirectOid::AddSa(list) => list.get_mut(number),
            DirectOid::AddSaEx(entry) => Some(&mut **entry),
            DirectOid::UpdateSa(_) | DirectOid::DeleteSa(_) | DirectOid::Other(_) => None,
        };
        if let Some(entry) = entry {
            self.note_added(entry, result);
        }
        self.requests.insert(id, pending);
        self.operation_ended(request, |request| match &request.body {
            DirectOid::AddSa(list) => add_status(list),
            DirectOid::AddSaEx(entry) => entry.status,
            DirectOid::UpdateSa(_) | DirectOid::DeleteSa(_) | DirectOid::Other(_) => Status::FAILURE,
        });
    }

    /// One operation of a request has ended; with the last of them the request is complete.
    fn operation_ended(&mut self, request: Option<RequestId>, status: impl FnOnce(&DirectOidRequest) -> Status) {
        let Some(id) = request else { return };
        let Some(pending) = self.requests.get_mut(&id) else { return };
        pending.outstanding = pending.outstanding.saturating_sub(1);
        if pending.outstanding == 0
            && let Some(pending) = self.requests.remove(&id)
        {
            let status = status(&pending.request);
            self.complete(status, pending.request);
        }
    }

    fn hardware_changed(&mut self, engine: &impl Engine) {
        self.hardware = self.parameters.hardware(engine);
        self.ready.indications.push(StatusIndication::TaskOffloadHardwareCapabilities(Box::new(self.hardware)));
        if !self.configured.is_within(&self.hardware) {
            self.configured = self.configured.intersect(&self.hardware);
            self.configure(engine);
            self.ready.indications.push(self.current_config());
        }
    }
}

/// A list succeeds if one entry did; else it fails for the first entry's cause (OV2-SA-4).
fn add_status(list: &[AddSaEntry]) -> Status {
    if list.iter().any(|entry| entry.status.is_success()) { Status::SUCCESS } else { list.first().map_or(Status::INVALID_DATA, |entry| entry.status) }
}

/// The configuration without what is switched off with its family. Capabilities that both families share stay while one of them is on.
fn active(configured: &Offload, ipv4: Activation, ipv6: Activation) -> Offload {
    let mut current = *configured;
    if !ipv4.sends() {
        current.checksum.ipv4_transmit = ChecksumSet::default();
        current.checksum.ipv4_receive = ChecksumSet::default();
        current.lso_v1 = LargeSendSet::default();
        current.lso_v2.ipv4 = LargeSendSet::default();
    }
    if !ipv6.sends() {
        current.checksum.ipv6_transmit = ChecksumSet::default();
        current.checksum.ipv6_receive = ChecksumSet::default();
        current.lso_v2.ipv6 = LargeSendSet::default();
    }
    if !ipv4.sends_under(configured.ipsec_v1.encapsulation) {
        current.ipsec_v1 = IpsecOffloadV1::default();
    }
    let [ipv4, ipv6] = [ipv4, ipv6].map(|activation| activation.sends_under(configured.ipsec_v2.encapsulation));
    current.ipsec_v2.ipv6_supported &= ipv6;
    if !ipv4 && !current.ipsec_v2.ipv6_supported {
        current.ipsec_v2 = IpsecOffloadV2::default();
    }
    current.normalized()
}
