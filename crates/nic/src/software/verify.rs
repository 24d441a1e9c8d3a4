//! AH on receive: verifies a round's packets, at most one job each (OV2-RECV-5). It changes no byte of them.

use core::sync::atomic::Ordering;

use arrayvec::ArrayVec;
use ipsec::{AhPart, AhSa, AuthBatch, BATCH, Provider};
use ndis::{CryptoStatus, NetBufferList, Operation};
use packet::AhPacket;

use super::journal::{After, End};
use super::lookup::check_esp;
use super::receive::{Carried, Memory, Receiver, Task, carries_tunnel};
use super::v1;

/// A packet that is being verified.
struct Verifying<'a, 't, P: Provider> {
    task: &'t Task<'a, P>,
    transform: &'a AhSa<P>,
    part: AhPart,
    sequence: u64,
}

impl<'a, P: Provider> Receiver<'a, P> {
    /// Verifies the AHs that `tasks` name among `lists`. What they came to goes to `after`.
    pub(super) fn verify(&self, tasks: &[Task<'a, P>], lists: &mut [NetBufferList], memory: &mut Memory, after: &mut After<'a, P>) {
        let mut prepared = ArrayVec::<Verifying<'a, '_, P>, BATCH>::new();
        for task in tasks.iter().filter(|task| task.operation == Operation::Ah) {
            let Some(list) = lists.get_mut(task.index as usize) else { continue };
            match prepare(task, list.buffer.as_slice(), &mut memory.masked) {
                Some(verifying) => {
                    prepared.push(verifying);
                    // What high half the next packets have is known when this one was verified.
                    if task.sa.is_unverified(Operation::Ah) {
                        self.run_ah(&mut prepared, lists, &mut memory.masked, after);
                    }
                }
                None => after.journal.note(task, End::Failed(CryptoStatus::InvalidPacketSyntax)),
            }
        }
        self.run_ah(&mut prepared, lists, &mut memory.masked, after);
    }

    fn run_ah(&self, prepared: &mut ArrayVec<Verifying<'a, '_, P>, BATCH>, lists: &mut [NetBufferList], masked: &mut Vec<u8>, after: &mut After<'a, P>) {
        let mut jobs: AuthBatch<'_, P::AuthKey> =
            prepared.iter().map(|Verifying { task, transform, part, .. }| transform.job(portion(task, lists), masked, part)).collect();
        self.provider.authenticate(&mut jobs);
        let verdicts =
            prepared.iter().zip(&jobs).map(|(Verifying { task, transform, part, .. }, job)| transform.verify_icv(portion(task, lists), part, &job.icv));
        let good: ArrayVec<bool, BATCH> = verdicts.collect();
        drop(jobs);
        for (Verifying { task, sequence, .. }, good) in prepared.drain(..).zip(good) {
            let Some(list) = lists.get_mut(task.index as usize) else { continue };
            if good {
                self.conclude_ah(task, sequence, list, after);
            } else {
                after.journal.note(task, End::Forged);
            }
        }
        masked.clear();
    }

    fn conclude_ah(&self, task: &Task<'a, P>, sequence: u64, list: &mut NetBufferList, after: &mut After<'a, P>) {
        let NetBufferList { buffer, oob, .. } = list;
        let Some(ah) = buffer.as_slice().get(task.at as usize..task.end as usize).and_then(|bytes| AhPacket::new(bytes).ok()) else { return };
        let (at, payload) = (task.at as usize + ah.header_len(), ah.payload());
        let concluded = if task.sa.transforms.esp().is_some() {
            after.journal.note(task, End::Authentic { sequence });
            check_esp(task.sa, payload).map(|()| after.next.push(Task { at: at as u32, operation: Operation::Esp, ..*task }))
        } else {
            match carries_tunnel(ah.next_header(), payload) {
                Ok(_) if !v1::carries(task.sa, ah.next_header(), payload) => {
                    self.counters.outside_filter.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
                Ok(tunnel) => {
                    self.conclude(task, sequence, &Carried { payload, tunnel }, oob, after);
                    Ok(())
                }
                Err(status) => {
                    after.journal.note(task, End::Authentic { sequence });
                    Err(status)
                }
            }
        };
        if let Err(status) = concluded {
            after.journal.note(task, End::Failed(status));
        }
    }
}

/// Makes the headers ready; `None` if they cannot be those of AH.
fn prepare<'a, 't, P: Provider>(task: &'t Task<'a, P>, frame: &[u8], masked: &mut Vec<u8>) -> Option<Verifying<'a, 't, P>> {
    let sequence = AhPacket::new(frame.get(task.at as usize..task.end as usize)?).ok()?.sequence();
    let sequence = task.sa.inbound_sequence(Operation::Ah, sequence);
    let bytes = frame.get(task.ip as usize..task.end as usize)?;
    let transform = task.sa.transforms.ah()?;
    let part = transform.prepare_open(bytes, (task.at - task.ip) as usize, sequence, masked).ok()?;
    Some(Verifying { task, transform, part, sequence })
}

/// The IP packet of a task. (An empty one, which there never is, has no good ICV.)
fn portion<'l, P: Provider>(task: &Task<'_, P>, lists: &'l [NetBufferList]) -> &'l [u8] {
    lists.get(task.index as usize).and_then(|list| list.buffer.as_slice().get(task.ip as usize..task.end as usize)).unwrap_or_default()
}
