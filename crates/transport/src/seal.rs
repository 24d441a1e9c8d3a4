//! The cryptography of the way out in software: one bundle's headers of many packets, ESP before AH (OV2-SEND-3).

use arrayvec::ArrayVec;
use ipsec::{AhPart, AuthBatch, Icv, Provider, SealBatch};
use ndis::NetBufferList;

use crate::framing::{Framed, Numbers};
use crate::lane::CHUNK;
use crate::mark::{Mark, drop_words, mark_dropped};
use crate::sa::Sa;
use crate::verdict::DropReason;

/// One bundle around one packet of a batch.
pub(crate) struct Task<'a, P: Provider> {
    /// The packet's place in the batch.
    pub(crate) place: usize,
    pub(crate) sa: &'a Sa<P>,
    /// 0 where there is no such header, or it got none.
    pub(crate) numbers: Numbers,
    pub(crate) at: Framed,
    /// The NIC does it.
    pub(crate) nic: bool,
    /// The packet's ordering group, if nothing goes around this.
    pub(crate) order: u16,
}

/// Seals what the NIC does not, at most a chunk of it; `tasks` are in the order of their places. What cannot be sealed is marked as dropped.
pub(crate) fn seal<'t, 'a: 't, P: Provider>(
    provider: &P,
    tasks: impl Iterator<Item = &'t Task<'a, P>> + Clone,
    lists: &mut [NetBufferList],
    masked: &mut Vec<u8>,
) {
    let mut jobs: SealBatch<'_, P::Key> = ArrayVec::new();
    let mut owners: ArrayVec<usize, CHUNK> = ArrayVec::new();
    let mut any_ah = false;
    let mut rest = lists.iter_mut();
    let mut next = 0;
    for task in tasks.clone() {
        let Some(nbl) = rest.nth(task.place - next) else { break };
        next = task.place + 1;
        if task.nic || Mark::read(nbl).is_dropped() {
            continue;
        }
        any_ah |= task.sa.ah.is_some();
        let Some(half) = &task.sa.esp else { continue };
        let esp = nbl.buffer.as_mut_slice().get_mut(task.at.esp as usize..task.at.end as usize).unwrap_or_default();
        match half.transform.seal_job(esp, task.numbers.esp) {
            Ok(job) => {
                jobs.push(job);
                owners.push(task.place);
            }
            Err(_) => drop_words(&mut nbl.protocol_reserved, DropReason::Malformed),
        }
    }
    for place in run(provider, jobs, &owners) {
        mark_dropped(&mut lists[place], DropReason::Refused);
    }
    if any_ah {
        authenticate(provider, tasks, lists, masked);
    }
}

/// Seals, and returns those of `owners` whose packets could not be: a length beyond the provider's limits, if anything. There is no clear text in such a
/// packet, and it must not be sent.
#[inline]
pub(crate) fn run<P: Provider>(provider: &P, mut jobs: SealBatch<'_, P::Key>, owners: &ArrayVec<usize, CHUNK>) -> ArrayVec<usize, CHUNK> {
    provider.seal(&mut jobs);
    jobs.iter().zip(owners).filter(|(job, _)| !job.verdict.is_good()).map(|(_, &owner)| owner).collect()
}

/// The second half: AH over what is final.
fn authenticate<'t, 'a: 't, P: Provider>(provider: &P, tasks: impl Iterator<Item = &'t Task<'a, P>>, lists: &mut [NetBufferList], masked: &mut Vec<u8>) {
    masked.clear();
    let mut parts: ArrayVec<(&Task<'a, P>, AhPart), CHUNK> = ArrayVec::new();
    for task in tasks {
        let Some(half) = &task.sa.ah else { continue };
        let nbl = &mut lists[task.place];
        if task.nic || Mark::read(nbl).is_dropped() {
            continue;
        }
        let Framed { ip, ah, end, .. } = task.at;
        let packet = nbl.buffer.as_mut_slice().get_mut(ip as usize..end as usize).unwrap_or_default();
        match half.transform.prepare_seal(packet, (ah - ip) as usize, task.numbers.ah, masked) {
            Ok(part) => parts.push((task, part)),
            // Options or extension headers of which nobody can say how they will arrive.
            Err(_) => mark_dropped(nbl, DropReason::Malformed),
        }
    }
    let mut jobs: AuthBatch<'_, P::AuthKey> = ArrayVec::new();
    for (task, part) in &parts {
        let Some(half) = &task.sa.ah else { continue };
        jobs.push(half.transform.job(packet(&lists[task.place], task.at), masked, part));
    }
    provider.authenticate(&mut jobs);
    let icvs: ArrayVec<Icv, CHUNK> = jobs.iter().map(|job| job.icv).collect();
    drop(jobs);
    for ((task, part), icv) in parts.iter().zip(&icvs) {
        let Some(half) = &task.sa.ah else { continue };
        let nbl = &mut lists[task.place];
        if icv.as_bytes().is_empty() {
            mark_dropped(nbl, DropReason::Refused);
        } else {
            let Framed { ip, end, .. } = task.at;
            half.transform.write_icv(&mut nbl.buffer.as_mut_slice()[ip as usize..end as usize], part, icv);
        }
    }
}

fn packet(nbl: &NetBufferList, at: Framed) -> &[u8] {
    nbl.buffer.as_slice().get(at.ip as usize..at.end as usize).unwrap_or_default()
}
