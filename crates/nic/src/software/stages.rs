//! AH, AH over ESP and transport over tunnel on send: stage by stage over a whole chunk, ESP before AH, the transport portion before the tunnel (OV2-SEND-3).

use arrayvec::ArrayVec;
use ipsec::{AhPart, AhSa, AuthBatch, BATCH, Icv, Provider, SealBatch};
use ndis::{NetBufferList, Operation};
use packet::{AhPacket, Buffer};

use super::layer::Layer;
use super::send::{Memory, Sender, Staged};

/// Bundles that a list can ask for.
const LAYERS: usize = 2;

/// A frame whose AH is being made.
struct Signing<'s, P: Provider> {
    index: usize,
    transform: &'s AhSa<P>,
    layer: &'s Layer<'s, P>,
    part: AhPart,
}

impl<'a, P: Provider> Sender<'a, P> {
    /// Seals the lists of a chunk that are `staged`; all of their buffers were checked. `base`: the chunk's place in the batch.
    pub(super) fn run_stages(&self, mut staged: ArrayVec<Staged<'a, P>, BATCH>, chunk: &mut [NetBufferList], base: usize, memory: &mut Memory) {
        for number in 0.. {
            for layer in 0..LAYERS {
                self.seal_layer(&staged, chunk, (number, layer), base, memory);
                self.sign_layer(&staged, chunk, (number, layer), base, memory);
            }
            // Lists with more buffers, of which there are almost none, have another turn.
            staged.retain(|item| {
                let Some((list, buffer)) = chunk.get(item.index).and_then(|list| Some((list, list.more.get(number)?))) else { return false };
                if let Ok(layers) = self.layers(&item.bundles, list, buffer.as_slice(), &mut memory.masked) {
                    item.layers = layers;
                    true
                } else {
                    memory.unsealed.push(base + item.index);
                    false
                }
            });
            if staged.is_empty() {
                break;
            }
        }
    }

    /// Encrypts one layer of each list's buffer.
    fn seal_layer(&self, staged: &[Staged<'a, P>], chunk: &mut [NetBufferList], turn: (usize, usize), base: usize, memory: &mut Memory) {
        let mut jobs = SealBatch::<'_, P::Key>::new();
        let mut owners = ArrayVec::<usize, BATCH>::new();
        let mut lists = chunk.iter_mut();
        let mut passed = 0;
        for Staged { index, layers, .. } in staged {
            let Some(list) = lists.nth(index - passed) else { break };
            passed = index + 1;
            let Some((sa, range)) = layers.get(turn.1).and_then(|layer| Some((layer.sa, layer.esp.clone()?))) else { continue };
            match buffer(list, turn.0).and_then(|buffer| sa.seal_job(buffer.as_mut_slice(), range)) {
                Some(job) => {
                    jobs.push(job);
                    owners.push(base + index);
                }
                None => memory.unsealed.push(base + index),
            }
        }
        self.run(&mut jobs, &mut owners, &mut memory.unsealed);
    }

    /// Authenticates one layer of each list's buffer.
    fn sign_layer(&self, staged: &[Staged<'a, P>], chunk: &mut [NetBufferList], turn: (usize, usize), base: usize, memory: &mut Memory) {
        let mut signing = ArrayVec::<Signing<'_, P>, BATCH>::new();
        for Staged { index, layers, .. } in staged {
            let Some((layer, at, transform)) = layers.get(turn.1).and_then(|layer| Some((layer, layer.ah?, layer.sa.transforms.ah()?))) else { continue };
            let frame = chunk.get_mut(*index).and_then(|list| buffer(list, turn.0)).map(Buffer::as_mut_slice);
            let part = frame.and_then(|frame| frame.get_mut(layer.ip.clone())).and_then(|packet| {
                let at = at - layer.ip.start;
                let sequence = layer.sa.outbound_sequence(Operation::Ah, AhPacket::new(packet.get(at..)?).ok()?.sequence());
                transform.prepare_seal(packet, at, sequence, &mut memory.masked).ok()
            });
            match part {
                Some(part) => signing.push(Signing { index: *index, transform, layer, part }),
                None => memory.unsealed.push(base + index),
            }
        }
        if signing.is_empty() {
            return;
        }
        let packet = |item: &Signing<'_, P>| {
            let buffer = chunk.get(item.index).and_then(|list| list.buffers().nth(turn.0));
            buffer.and_then(|buffer| buffer.as_slice().get(item.layer.ip.clone())).unwrap_or_default()
        };
        let mut jobs: AuthBatch<'_, P::AuthKey> = signing.iter().map(|item| item.transform.job(packet(item), &memory.masked, &item.part)).collect();
        self.provider.authenticate(&mut jobs);
        let icvs: ArrayVec<Icv, BATCH> = jobs.iter().map(|job| job.icv).collect();
        drop(jobs);
        for (item, icv) in signing.iter().zip(&icvs) {
            let buffer = chunk.get_mut(item.index).and_then(|list| buffer(list, turn.0));
            let written = buffer.and_then(|buffer| buffer.as_mut_slice().get_mut(item.layer.ip.clone())).is_some_and(|packet| {
                item.transform.write_icv(packet, &item.part, icv);
                item.transform.verify_icv(packet, &item.part, icv)
            });
            if !written {
                memory.unsealed.push(base + item.index);
            }
        }
        memory.masked.clear();
    }
}

fn buffer(list: &mut NetBufferList, number: usize) -> Option<&mut Buffer> {
    match number {
        0 => Some(&mut list.buffer),
        number => list.more.get_mut(number - 1),
    }
}
