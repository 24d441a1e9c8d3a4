//! AH on receive: verifies a round's packets, at most one job each (OV2-RECV-5). It changes no byte of them.

use arrayvec::ArrayVec;
use ipsec::{AhPart, AhSa, AuthBatch, BATCH, Provider};
use ndis::{CryptoStatus, NetBufferList, Operation, OutOfBand};
use packet::AhPacket;

use super::lookup::check_esp;
use super::receive::{Carried, Memory, Receiver, Task, Tasks, carries_tunnel, forged, report_failure};

/// A packet that is being verified.
struct Verifying<'a, 't, P: Provider> {
    task: &'t Task<'a, P>,
    transform: &'a AhSa<P>,
    part: AhPart,
    sequence: u64,
}

impl<'a, P: Provider> Receiver<'a, P> {
    /// Verifies the AHs that `tasks` name among `lists`. What comes after goes to `next`.
    pub(super) fn verify(&self, tasks: &[Task<'a, P>], lists: &mut [NetBufferList], memory: &mut Memory, next: &mut Tasks<'a, P>) {
        let mut prepared = ArrayVec::<Verifying<'a, '_, P>, BATCH>::new();
        for task in tasks.iter().filter(|task| task.operation == Operation::Ah) {
            let Some(list) = lists.get_mut(task.index as usize) else { continue };
            match prepare(task, list.buffer.as_slice(), &mut memory.masked) {
                Some(verifying) => {
                    prepared.push(verifying);
                    // What high half the next packets have is known when this one was verified.
                    if task.sa.is_unverified(Operation::Ah) {
                        self.run_ah(&mut prepared, lists, &mut memory.masked, next);
                    }
                }
                None => report_failure(&mut list.oob, task.sa, task.position, CryptoStatus::InvalidPacketSyntax),
            }
        }
        self.run_ah(&mut prepared, lists, &mut memory.masked, next);
    }

    fn run_ah(&self, prepared: &mut ArrayVec<Verifying<'a, '_, P>, BATCH>, lists: &mut [NetBufferList], masked: &mut Vec<u8>, next: &mut Tasks<'a, P>) {
        let mut jobs: AuthBatch<'_, P::AuthKey> =
            prepared.iter().map(|Verifying { task, transform, part, .. }| transform.job(portion(task, lists), masked, part)).collect();
        self.provider.authenticate(&mut jobs);
        let verdicts =
            prepared.iter().zip(&jobs).map(|(Verifying { task, transform, part, .. }, job)| transform.verify_icv(portion(task, lists), part, &job.icv));
        let good: ArrayVec<bool, BATCH> = verdicts.collect();
        drop(jobs);
        for (Verifying { task, sequence, .. }, good) in prepared.drain(..).zip(good) {
            let Some(NetBufferList { buffer, oob, .. }) = lists.get_mut(task.index as usize) else { continue };
            if good {
                self.conclude_ah(task, sequence, buffer.as_slice(), oob, next);
            } else {
                report_failure(oob, task.sa, task.position, forged(task));
            }
        }
        masked.clear();
    }

    fn conclude_ah(&self, task: &Task<'a, P>, sequence: u64, frame: &[u8], oob: &mut OutOfBand, next: &mut Tasks<'a, P>) {
        let Some(ah) = frame.get(task.at as usize..task.end as usize).and_then(|bytes| AhPacket::new(bytes).ok()) else { return };
        let (at, payload) = (task.at as usize + ah.header_len(), ah.payload());
        let concluded = if task.sa.transforms.esp().is_some() {
            task.sa.authentic(Operation::Ah, sequence);
            check_esp(task.sa, payload).map(|()| next.push(Task { at: at as u32, operation: Operation::Esp, ..*task }))
        } else {
            carries_tunnel(ah.next_header(), payload)
                .map(|tunnel| self.conclude(task, sequence, &Carried { payload, tunnel }, oob, next))
                .inspect_err(|_| task.sa.authentic(Operation::Ah, sequence))
        };
        if let Err(status) = concluded {
            report_failure(oob, task.sa, task.position, status);
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
