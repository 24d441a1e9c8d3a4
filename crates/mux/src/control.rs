//! The upper edge's control side: requests, members that come and go, and what those above are told of it.

use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ndis::{
    AdapterAttributes, AdapterKeywords, BindParameters, Binding, DirectAnswer, DirectOid, DirectOidRequest, IpsecOffloadV1, IpsecOffloadV2, Miniport,
    MiniportQueue, Offload, OffloadEncapsulation, OffloadHandle, OffloadParameters, Oid, OidRequest, Outcome, RequestId, SetEncapsulation, Status,
    StatusIndication, Upcalls,
};
use sa_table::{CapacityError, Handle, SaTable, Seed};

use crate::chain::{Chain, Target, entries, entries_mut, fail};
use crate::member::Member;
use crate::queue::MuxQueue;
use crate::spread::{Team, members};
use crate::{MAX_MEMBERS, MuxCounters, MuxParameters, Teaming};

/// What the driver, its miniports, its queues and its members share.
pub(crate) struct Inner {
    pub(crate) parameters: MuxParameters,
    /// The mux's handles, and what the members call the same.
    pub(crate) table: SaTable<Target>,
    control: Mutex<Control>,
    /// The team, and above it which initialisation it is for: what queues look at once a batch.
    gate: AtomicU64,
    /// Counts binds of members.
    pub(crate) binds: AtomicU64,
    /// The mux's handles by those of members, for lists that come back whole. Locked only for those.
    originals: Mutex<HashMap<(usize, u64), u64>>,
    pub(crate) unknown_handles: AtomicU64,
    pub(crate) received_not_running: AtomicU64,
}

impl Inner {
    pub(crate) fn new(mut parameters: MuxParameters, seed: Seed) -> Result<Self, CapacityError> {
        parameters.members = parameters.members.min(MAX_MEMBERS);
        let table = SaTable::new(parameters.capacity, seed)?;
        let keywords = AdapterKeywords::defaults(&parameters.name);
        let members = (0..parameters.members).map(|_| Member::default()).collect();
        let control = Control {
            members,
            instance: 0,
            running: false,
            resetting: false,
            waits: false,
            keywords,
            encapsulation: OffloadEncapsulation::default(),
            hardware: Offload::default(),
            current: Offload::default(),
            lower: HashMap::new(),
            ready: Upcalls::default(),
            counters: MuxCounters::default(),
        };
        Ok(Self {
            parameters,
            table,
            control: Mutex::new(control),
            gate: AtomicU64::new(0),
            binds: AtomicU64::new(0),
            originals: Mutex::default(),
            unknown_handles: AtomicU64::new(0),
            received_not_running: AtomicU64::new(0),
        })
    }

    /// A panic under the mutex leaves bookkeeping of which each change is whole.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn originals(&self) -> MutexGuard<'_, HashMap<(usize, u64), u64>> {
        self.originals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mux's handle for a member's, if it is live.
    pub(crate) fn original(&self, member: usize, bits: u64) -> Option<u64> {
        self.originals().get(&(member, bits)).copied()
    }

    /// Members that are in use.
    pub(crate) fn team(&self) -> Team {
        self.gate.load(Ordering::Acquire) as Team
    }

    /// The team, for queues of one initialisation; `None` for those of a former one.
    #[inline]
    pub(crate) fn team_of(&self, instance: u32) -> Option<Team> {
        let gate = self.gate.load(Ordering::Acquire);
        ((gate >> 32) as u32 == instance).then_some(gate as Team)
    }

    fn set_gate(&self, instance: u32, team: Team) {
        self.gate.store(u64::from(instance) << 32 | u64::from(team), Ordering::Release);
    }

    /// Bindings of members, with the number of the bind.
    pub(crate) fn bindings(&self) -> Vec<Option<(u64, Binding)>> {
        self.lock().members.iter().map(|member| member.binding.clone().map(|binding| (member.bound, binding))).collect()
    }

    pub(crate) fn counters(&self) -> MuxCounters {
        MuxCounters {
            unknown_handles: self.unknown_handles.load(Ordering::Relaxed),
            received_not_running: self.received_not_running.load(Ordering::Relaxed),
            live: self.table.occupancy().live,
            ..self.lock().counters
        }
    }

    fn look_up(&self, bits: u64) -> Option<(Handle, Target)> {
        let handle = Handle::from_bits(bits)?;
        let target = self.table.with(handle, |target| *target).ok()?;
        Some((handle, target))
    }

    /// Takes a bundle out of the table: nothing is sent under it any more.
    fn take(&self, bits: u64) -> Option<Target> {
        let (handle, target) = self.look_up(bits)?;
        self.table.remove(handle).ok()?;
        let mut originals = self.originals();
        for (member, bits) in target.0.iter().enumerate() {
            originals.remove(&(member, *bits));
        }
        Some(target)
    }

    fn take_all(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        self.table.for_each(|_, target| targets.push(*target));
        self.table.clear();
        self.originals().clear();
        targets
    }

    fn put(&self, target: Target) -> Option<OffloadHandle> {
        let handle = self.table.insert(target, &[]).ok()?.to_bits();
        let mut originals = self.originals();
        originals.extend(target.0.iter().enumerate().filter(|(_, bits)| **bits != 0).map(|(member, bits)| ((member, *bits), handle)));
        OffloadHandle::from_bits(handle)
    }
}

/// Everything behind the mutex. It is held while members are asked, which never call back while they are.
pub(crate) struct Control {
    members: Vec<Member>,
    instance: u32,
    /// The miniport is there.
    running: bool,
    /// Those above were told of the start of a reset and not of its end.
    resetting: bool,
    /// The reset's end waits for what members still have under way.
    waits: bool,
    keywords: AdapterKeywords,
    /// What was set, for members that come later.
    encapsulation: OffloadEncapsulation,
    /// What those above know.
    hardware: Offload,
    current: Offload,
    /// Requests that members have; `None`: nobody waits for the answer.
    lower: HashMap<(usize, RequestId), Option<Chain>>,
    ready: Upcalls,
    counters: MuxCounters,
}

impl Control {
    // Members.

    pub(crate) fn member_bound(&mut self, inner: &Inner, member: usize, parameters: &BindParameters, binding: Binding) {
        let wanted = &inner.parameters;
        let (version, medium) = (parameters.version, parameters.medium);
        let fits =
            medium == wanted.medium && version.has_ipsec_v2() == wanted.version.has_ipsec_v2() && version.uses_add_sa_ex() == wanted.version.uses_add_sa_ex();
        if self.encapsulation != OffloadEncapsulation::default() && !parameters.disable_task_offload {
            let _ = binding.set_encapsulation(self.encapsulation);
        }
        let Some(there) = self.members.get_mut(member) else { return };
        there.bind(parameters, binding, fits);
        there.refresh();
        inner.binds.fetch_add(1, Ordering::Release);
        self.reconsider(inner);
    }

    pub(crate) fn member_gone(&mut self, inner: &Inner, member: usize) {
        if let Some(there) = self.members.get_mut(member) {
            there.binding = None;
        }
        self.reconsider(inner);
    }

    pub(crate) fn member_resets(&mut self, inner: &Inner, member: usize, resetting: bool) {
        if let Some(there) = self.members.get_mut(member) {
            there.resetting = resetting;
        }
        self.reconsider(inner);
    }

    pub(crate) fn set_link(&mut self, inner: &Inner, member: usize, up: bool) {
        if let Some(there) = self.members.get_mut(member) {
            there.link_down = !up;
        }
        self.reconsider(inner);
    }

    pub(crate) fn member_configured(&mut self, inner: &Inner, member: usize, hardware: Option<Offload>, current: Option<Offload>) {
        let Some(there) = self.members.get_mut(member) else { return };
        there.hardware = hardware.unwrap_or(there.hardware);
        there.current = current.unwrap_or(there.current);
        if inner.team() >> member & 1 != 0 && !self.resetting {
            self.indicate_changes(inner);
        }
    }

    /// Who works from now on.
    fn choose(&self, inner: &Inner) -> Team {
        let able = |member: &usize| self.members.get(*member).is_some_and(Member::is_able);
        let all = || (0..self.members.len()).filter(able);
        match inner.parameters.teaming {
            Teaming::Failover => members(inner.team()).find(able).or_else(|| all().next()).map_or(0, |member| 1 << member),
            Teaming::Balance | Teaming::BalanceWithIpsec => all().fold(0, |team, member| team | 1 << member),
        }
    }

    fn reconsider(&mut self, inner: &Inner) {
        let (old, new) = (inner.team(), self.choose(inner));
        if old == new {
            // A member that does not work now may have been what a reset waits for.
            self.resume(inner);
            return;
        }
        inner.set_gate(self.instance, new);
        if !self.running {
            return;
        }
        self.counters.changes += 1;
        let only_fewer = new != 0 && new & !old == 0;
        match inner.parameters.teaming {
            Teaming::Balance => self.indicate_changes(inner),
            Teaming::BalanceWithIpsec if only_fewer => self.indicate_changes(inner),
            Teaming::Failover | Teaming::BalanceWithIpsec => {
                self.empty(inner);
                if !self.resetting {
                    self.resetting = true;
                    self.counters.resets += 1;
                    self.ready.indications.push(StatusIndication::ResetStart);
                }
                self.resume(inner);
            }
        }
    }

    /// Aborts what is under way, and takes all bundles off the members that still have them.
    fn empty(&mut self, inner: &Inner) {
        self.abort_all();
        let targets = inner.take_all();
        self.undo(&targets);
    }

    /// Ends a reset, if one is to be ended.
    fn resume(&mut self, inner: &Inner) {
        let working = inner.team() != 0 || inner.parameters.teaming == Teaming::Balance;
        if !self.running || !self.resetting || !working || self.waits && !self.lower.is_empty() {
            return;
        }
        self.indicate_changes(inner);
        self.resetting = false;
        self.waits = false;
        self.ready.indications.push(StatusIndication::ResetEnd);
    }

    // Capabilities.

    /// What the members in use can do together, and are configured to.
    fn capabilities(&self, inner: &Inner) -> (Offload, Offload) {
        let parameters = &inner.parameters;
        let team = members(inner.team()).filter_map(|member| self.members.get(member));
        let all = team.map(|member| (member.hardware, member.current)).reduce(|(hardware, current), (other, configured)| {
            // Bundles are on all of them.
            (hardware.intersect(&other), current.intersect(&configured))
        });
        let (hardware, current) = all.unwrap_or_default();
        let trim = |mut offload: Offload| {
            offload.ipsec_v1 = IpsecOffloadV1::default();
            match parameters.teaming {
                Teaming::Failover => {}
                Teaming::Balance => offload.ipsec_v2 = IpsecOffloadV2::default(),
                Teaming::BalanceWithIpsec => offload.ipsec_v2.extended_sequence_numbers = false,
            }
            let capacity = u32::try_from(parameters.capacity).unwrap_or(u32::MAX);
            offload.ipsec_v2.sa_offload_capacity = offload.ipsec_v2.sa_offload_capacity.min(capacity);
            offload.for_version(parameters.version)
        };
        let hardware = trim(hardware);
        (hardware, trim(current).intersect(&hardware.configured(&self.keywords)))
    }

    /// Tells those above what has changed (OV2-CAP-11, then OV2-CAP-10).
    fn indicate_changes(&mut self, inner: &Inner) {
        let (hardware, current) = self.capabilities(inner);
        if hardware != self.hardware {
            self.hardware = hardware;
            self.ready.indications.push(StatusIndication::TaskOffloadHardwareCapabilities(Box::new(hardware)));
        }
        if current != self.current {
            self.current = current;
            self.ready.indications.push(StatusIndication::TaskOffloadCurrentConfig(Box::new(current)));
        }
    }

    // The adapter.

    pub(crate) fn initialize(&mut self, inner: &Inner, keywords: &AdapterKeywords) -> (u32, AdapterAttributes) {
        let parameters = &inner.parameters;
        self.keywords = keywords.clone();
        self.instance += 1;
        (self.running, self.resetting, self.waits) = (true, false, false);
        self.ready = Upcalls::default();
        inner.set_gate(self.instance, self.choose(inner));
        (self.hardware, self.current) = self.capabilities(inner);
        let mtu = members(inner.team()).filter_map(|member| self.members.get(member)).map(|member| member.mtu).min();
        let attributes = AdapterAttributes {
            version: parameters.version,
            medium: parameters.medium,
            mtu: mtu.unwrap_or(parameters.mtu),
            hardware_capabilities: self.hardware,
            default_configuration: self.current,
            direct_requests: parameters.version.has_ipsec_v2(),
            // A member that has none was taken as it is, and so is what stands above it.
            deviates_without_tunnel: true,
        };
        (self.instance, attributes)
    }

    fn set_parameters(&mut self, inner: &Inner, parameters: &OffloadParameters, up: &mut Upcalls) -> Status {
        if let Err(status) = self.hardware.configured(&self.keywords).apply(parameters, &self.hardware) {
            return status;
        }
        // NDIS has written them already, where they are to be written.
        let always = OffloadParameters { skip_registry_update: false, ..*parameters };
        self.keywords = self.keywords.clone().updated(&always);
        let status = self.set_everywhere(inner, |binding| binding.set_parameters(*parameters));
        self.tell_current(inner, up);
        status
    }

    fn set_encapsulation(&mut self, inner: &Inner, request: OffloadEncapsulation, up: &mut Upcalls) -> Status {
        let status = self.hardware.check_encapsulation(&request);
        if !status.is_success() {
            return status;
        }
        let status = self.set_everywhere(inner, |binding| binding.set_encapsulation(request));
        if status.is_success() {
            let pick = |before, set| if set == SetEncapsulation::NoChange { before } else { set };
            let before = self.encapsulation;
            self.encapsulation = OffloadEncapsulation { ipv4: pick(before.ipv4, request.ipv4), ipv6: pick(before.ipv6, request.ipv6) };
        }
        self.tell_current(inner, up);
        status
    }

    /// Asks all members, also those that stand by; what the first in use says that refuses.
    fn set_everywhere(&mut self, inner: &Inner, set: impl Fn(&Binding) -> Status) -> Status {
        let team = inner.team();
        let mut result = Status::SUCCESS;
        for (number, member) in self.members.iter_mut().enumerate() {
            let Some(binding) = &member.binding else { continue };
            let status = set(binding);
            if result.is_success() && team >> number & 1 != 0 {
                result = status;
            }
            member.refresh();
        }
        result
    }

    fn tell_current(&mut self, inner: &Inner, up: &mut Upcalls) {
        (self.hardware, self.current) = self.capabilities(inner);
        up.indications.push(StatusIndication::TaskOffloadCurrentConfig(Box::new(self.current)));
    }

    fn reset(&mut self, inner: &Inner) {
        if self.resetting || !self.running {
            return;
        }
        self.counters.resets += 1;
        (self.resetting, self.waits) = (true, true);
        self.empty(inner);
    }

    fn halt(&mut self, inner: &Inner, up: &mut Upcalls) {
        if !self.running {
            return;
        }
        self.empty(inner);
        self.running = false;
        // Queues of this initialisation do nothing any more.
        self.instance += 1;
        inner.set_gate(self.instance, inner.team());
        self.hand_over(up);
    }

    fn poll(&mut self, inner: &Inner, up: &mut Upcalls) {
        inner.table.reclaim(|_| {});
        self.resume(inner);
        self.hand_over(up);
    }

    fn hand_over(&mut self, up: &mut Upcalls) {
        up.direct_completions.append(&mut self.ready.direct_completions);
        up.indications.append(&mut self.ready.indications);
    }

    // Direct requests.

    fn direct_request(&mut self, inner: &Inner, request: DirectOidRequest) -> Outcome {
        let parameters = &inner.parameters;
        let team = inner.team();
        if !self.running || self.resetting || team == 0 {
            return Outcome::Done(Status::NOT_ACCEPTED, request);
        }
        let uses_ex = parameters.version.uses_add_sa_ex();
        let offloads = parameters.version.has_ipsec_v2() && parameters.teaming != Teaming::Balance;
        let DirectOidRequest { id, mut body } = request;
        let adds = match body {
            DirectOid::AddSa(_) => !uses_ex,
            DirectOid::AddSaEx(_) => uses_ex,
            _ => false,
        };
        let chain = match &mut body {
            DirectOid::AddSa(_) | DirectOid::AddSaEx(_) if offloads && adds => {
                for entry in entries_mut(&mut body) {
                    entry.handle = None;
                    entry.status = Status::PENDING;
                    if entry.bundle.as_ref().is_ok_and(|bundle| self.current.ipsec_v2.covers(bundle, None).is_err()) {
                        fail(entry, Status::NOT_SUPPORTED);
                    }
                }
                Chain::add(id, members(team), &body)
            }
            DirectOid::UpdateSa(update) if offloads => match inner.look_up(update.handle.to_bits()) {
                Some((_, target)) => Chain::update(id, members(team), *update, target),
                None => return Outcome::Done(Status::INVALID_PARAMETER, DirectOidRequest { id, body }),
            },
            DirectOid::DeleteSa(handles) if offloads => {
                let targets: Vec<Target> = handles.iter().filter_map(|bits| inner.take(*bits)).collect();
                inner.unknown_handles.fetch_add((handles.len() - targets.len()) as u64, Ordering::Relaxed);
                Chain::delete(id, core::mem::take(handles), targets)
            }
            _ => return Outcome::Done(Status::NOT_SUPPORTED, DirectOidRequest { id, body }),
        };
        match self.drive(inner, chain, body) {
            Some((status, request)) => Outcome::Done(status, request),
            None => Outcome::Pending,
        }
    }

    /// Takes a request to the members that have not had it; the answer, if it has been everywhere.
    fn drive(&mut self, inner: &Inner, mut chain: Chain, mut body: DirectOid) -> Option<(Status, DirectOidRequest)> {
        loop {
            let Some(member) = chain.next().filter(|_| !(chain.cancelled && chain.is_add())) else {
                return Some(self.finish(inner, chain, body));
            };
            let Some(binding) = self.members.get(member).and_then(|member| member.binding.clone()) else { continue };
            let down = match chain.request(member, body) {
                Ok(down) => down,
                Err(back) => {
                    body = back;
                    continue;
                }
            };
            // Noted before it is issued: the completion may be delivered before the call has returned, and waits for the mutex then.
            let id = binding.reserve_request_id();
            self.lower.insert((member, id), Some(chain));
            let DirectAnswer::Done(status, back) = binding.direct_oid_request_as(id, down) else { return None };
            chain = self.lower.remove(&(member, id))??;
            body = chain.answered(member, status, back);
        }
    }

    fn finish(&mut self, inner: &Inner, chain: Chain, mut body: DirectOid) -> (Status, DirectOidRequest) {
        let id = chain.id;
        if !chain.is_add() {
            let (status, body) = chain.ended();
            return (status, DirectOidRequest { id, body });
        }
        let team = inner.team();
        let mut undone = Vec::new();
        let entries = entries_mut(&mut body);
        for (entry, target) in entries.iter_mut().zip(&chain.targets) {
            let everywhere = team != 0 && members(team).all(|member| target.0[member] != 0);
            entry.handle = (everywhere && entry.bundle.is_ok() && !chain.cancelled).then(|| inner.put(*target)).flatten();
            if entry.handle.is_some() {
                entry.status = Status::SUCCESS;
                continue;
            }
            let cause = match (chain.cancelled, everywhere) {
                (true, _) => Status::REQUEST_ABORTED,
                (false, true) => Status::RESOURCES,
                (false, false) => Status::NOT_ACCEPTED,
            };
            fail(entry, cause);
            undone.push(*target);
        }
        let status = match entries.first() {
            _ if chain.cancelled => Status::REQUEST_ABORTED,
            _ if entries.iter().any(|entry| entry.status.is_success()) => Status::SUCCESS,
            Some(first) => first.status,
            None => Status::INVALID_DATA,
        };
        self.undo(&undone);
        (status, DirectOidRequest { id, body })
    }

    /// A member has answered what it had pended.
    pub(crate) fn completed(&mut self, inner: &Inner, member: usize, status: Status, request: DirectOidRequest) {
        if let Some(Some(mut chain)) = self.lower.remove(&(member, request.id)) {
            let body = chain.answered(member, status, request.body);
            if let Some(answer) = self.drive(inner, chain, body) {
                self.ready.direct_completions.push(answer);
            }
            return;
        }
        // Nobody waits for it. What it added all the same goes again.
        let added = entries(&request.body).iter().filter(|_| status.is_success()).filter_map(|entry| entry.handle);
        let added: Vec<u64> = added.map(OffloadHandle::to_bits).collect();
        self.delete_on(member, added);
        self.resume(inner);
    }

    fn cancel(&mut self, id: RequestId) {
        let found = self.lower.iter_mut().find(|(_, chain)| chain.as_ref().is_some_and(|chain| chain.id == id));
        let Some((&(member, lower), Some(chain))) = found else { return };
        chain.cancelled = true;
        if let Some(binding) = self.members.get(member).and_then(|member| member.binding.as_ref()) {
            binding.cancel(lower);
        }
    }

    /// Answers everything that is under way (OV2-OID-2). Members go on with what they have; nobody waits for it.
    fn abort_all(&mut self) {
        let mut chains: Vec<Chain> = Vec::new();
        let mut added = Vec::new();
        for (&(member, id), chain) in &mut self.lower {
            if let Some(chain) = chain.take() {
                if let Some(binding) = self.members.get(member).and_then(|member| member.binding.as_ref()) {
                    binding.cancel(id);
                }
                if chain.is_add() {
                    added.extend_from_slice(&chain.targets);
                }
                chains.push(chain);
            }
        }
        chains.sort_by_key(|chain| chain.id);
        for chain in chains {
            let body = chain.aborted();
            self.ready.direct_completions.push((Status::REQUEST_ABORTED, DirectOidRequest { id: chain.id, body }));
        }
        self.undo(&added);
    }

    /// Deletes bundles from all members that have them.
    fn undo(&mut self, targets: &[Target]) {
        for member in 0..self.members.len() {
            let handles: Vec<u64> = targets.iter().map(|target| target.0[member]).filter(|bits| *bits != 0).collect();
            self.delete_on(member, handles);
        }
    }

    fn delete_on(&mut self, member: usize, handles: Vec<u64>) {
        if handles.is_empty() {
            return;
        }
        self.counters.undone += handles.len() as u64;
        let Some(binding) = self.members.get(member).and_then(|member| member.binding.clone()) else { return };
        let id = binding.reserve_request_id();
        self.lower.insert((member, id), None);
        if let DirectAnswer::Done(..) = binding.direct_oid_request_as(id, DirectOid::DeleteSa(handles)) {
            self.lower.remove(&(member, id));
        }
    }
}

/// The upper edge, from one initialisation to its halt.
pub(crate) struct MuxMiniport {
    inner: Arc<Inner>,
    instance: u32,
}

impl MuxMiniport {
    pub(crate) const fn new(inner: Arc<Inner>, instance: u32) -> Self {
        Self { inner, instance }
    }

    /// The state, unless another initialisation has it.
    fn control(&self) -> Option<MutexGuard<'_, Control>> {
        Some(self.inner.lock()).filter(|control| control.instance == self.instance)
    }
}

impl Miniport for MuxMiniport {
    fn open_queue(&self) -> Box<dyn MiniportQueue> {
        Box::new(MuxQueue::new(Arc::clone(&self.inner), self.instance))
    }

    fn oid_request(&self, request: &mut OidRequest, up: &mut Upcalls) -> Status {
        let Some(mut control) = self.control() else { return Status::NOT_ACCEPTED };
        match &request.body {
            Oid::SetParameters(parameters) => control.set_parameters(&self.inner, parameters, up),
            Oid::SetEncapsulation(encapsulation) => control.set_encapsulation(&self.inner, *encapsulation, up),
            // NDIS answers queries by itself (OV2-CAP-7), and IPsecOV1 is not passed on.
            _ => Status::NOT_SUPPORTED,
        }
    }

    fn direct_oid_request(&self, request: DirectOidRequest) -> Outcome {
        match self.control() {
            Some(mut control) => control.direct_request(&self.inner, request),
            None => Outcome::Done(Status::NOT_ACCEPTED, request),
        }
    }

    fn cancel_direct_oid_request(&self, id: RequestId) {
        if let Some(mut control) = self.control() {
            control.cancel(id);
        }
    }

    fn reset(&self, _up: &mut Upcalls) {
        if let Some(mut control) = self.control() {
            control.reset(&self.inner);
        }
    }

    fn halt(&self, up: &mut Upcalls) {
        if let Some(mut control) = self.control() {
            control.halt(&self.inner, up);
        }
    }

    fn poll_control(&self, up: &mut Upcalls) {
        if let Some(mut control) = self.control() {
            control.poll(&self.inner, up);
        }
    }
}
