//! Two hosts back to back: what one sends under the contract the other delivers, whatever happens to the adapters in between.

mod common;

use common::{Pair, tunnel_v4};
use transport::OffloadReason;

#[test]
fn packets_cross_by_offload() {
    let mut pair = Pair::new();
    pair.connect(tunnel_v4());
    pair.exchange(100);
    let (out, inward) = (pair.a.transport().outbound(), pair.b.transport().inbound());
    assert_eq!((out.seen.packets, out.offloaded.packets, out.software.packets), (100, 100, 0));
    assert_eq!((inward.seen.packets, inward.offloaded.packets, inward.software.packets), (100, 100, 0));
    assert!(pair.a.transport().sas().iter().all(|sa| sa.offload == OffloadReason::Offloaded));
}
