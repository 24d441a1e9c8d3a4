//! The second stage of the way in: software opens what the NIC has not.

use arrayvec::ArrayVec;
use ipsec::{AhPart, AuthBatch, OpenBatch, Provider, Scratch};
use ndis::{NetBufferList, Operation};

use crate::inbound::{Chunk, Finding, Item, Layer, Step};
use crate::lane::CHUNK;
use crate::verdict::{DropReason, Verdict};

impl<'a, P: Provider> Chunk<'a, '_, P> {
    pub(crate) fn open(&self, items: &mut ArrayVec<Item<'a, P>, CHUNK>, lists: &mut [NetBufferList], scratch: &mut Scratch, masked: &mut Vec<u8>) {
        let mut jobs: OpenBatch<'_, P::Key> = ArrayVec::new();
        let mut owners: ArrayVec<usize, CHUNK> = ArrayVec::new();
        let mut any_ah = false;
        for (at, (item, nbl)) in items.iter_mut().zip(lists.iter_mut()).enumerate() {
            let Step::Open(layer) = &mut item.step else { continue };
            layer.tries += 1;
            if layer.association.operation == Operation::Ah {
                any_ah = true;
                continue;
            }
            let esp = nbl.buffer.as_mut_slice().get_mut(layer.at..layer.end).unwrap_or_default();
            match layer.sa.esp.as_ref().map(|half| half.transform.open_job(esp, layer.sequence)) {
                Some(Ok(job)) => {
                    jobs.push(job);
                    owners.push(at);
                }
                _ => item.step = Step::End(Verdict::Dropped(DropReason::Malformed)),
            }
        }
        self.shared.provider.open(&mut jobs, scratch);
        for (job, at) in jobs.iter().zip(owners) {
            conclude(&mut items[at], job.verdict.is_good());
        }
        drop(jobs);
        if any_ah {
            self.authenticate(items, lists, masked);
        }
    }

    /// The same for AH.
    fn authenticate(&self, items: &mut ArrayVec<Item<'a, P>, CHUNK>, lists: &[NetBufferList], masked: &mut Vec<u8>) {
        masked.clear();
        let mut parts: ArrayVec<(usize, Layer<'a, P>, AhPart), CHUNK> = ArrayVec::new();
        for (at, (item, nbl)) in items.iter_mut().zip(lists).enumerate() {
            let Step::Open(layer) = item.step else { continue };
            let Some(half) = &layer.sa.ah else { continue };
            match half.transform.prepare_open(packet(nbl, item.l3, &layer), layer.at - item.l3, layer.sequence, masked) {
                Ok(part) => parts.push((at, layer, part)),
                Err(_) => item.step = Step::End(Verdict::Dropped(DropReason::Malformed)),
            }
        }
        let mut jobs: AuthBatch<'_, P::AuthKey> = ArrayVec::new();
        for (at, layer, part) in &parts {
            let Some(half) = &layer.sa.ah else { continue };
            jobs.push(half.transform.job(packet(&lists[*at], items[*at].l3, layer), masked, part));
        }
        self.shared.provider.authenticate(&mut jobs);
        for (job, (at, layer, part)) in jobs.iter().zip(&parts) {
            let good = layer.sa.ah.as_ref().is_some_and(|half| half.transform.verify_icv(packet(&lists[*at], items[*at].l3, layer), part, &job.icv));
            conclude(&mut items[*at], good);
        }
    }
}

/// The IP packet whose outermost IPsec header a layer is.
fn packet<'n, P: Provider>(nbl: &'n NetBufferList, l3: usize, layer: &Layer<'_, P>) -> &'n [u8] {
    nbl.buffer.as_slice().get(l3..layer.end).unwrap_or_default()
}

fn conclude<P: Provider>(item: &mut Item<'_, P>, good: bool) {
    if let Step::Open(layer) = item.step {
        item.step = Step::Decide(layer, if good { Finding::Opened } else { Finding::Forged });
    }
}
