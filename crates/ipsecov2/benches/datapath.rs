//! Every way that `ipsecov2 bench` measures, one after the other, for developers: criterion compares with the run before, and a profiler sees one way alone.
//!
//!     cargo bench -p ipsecov2 --bench datapath -- outbound/64
//!
//! AES-128-GCM, one worker, one SA, batches of 64. Figures of different ways are not measured at the same time; to compare those, use `ipsecov2 bench`.

use criterion::{BenchmarkId, Criterion, Throughput};
use ipsec::Crypto;
use ipsecov2::bench::{Cell, Options, WaySet};

const SIZES: [usize; 3] = [64, 576, 1420];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let options = Options { providers: vec![Crypto::default()], ..Options::default() };
    for bytes in SIZES {
        let cell = Cell { bytes, ..Cell::default() };
        let mut set = WaySet::new(&cell, &options).expect("the usual suite is supported everywhere");
        for (place, name) in set.names() {
            let mut group = criterion.benchmark_group(name);
            group.throughput(Throughput::Elements(cell.batch as u64));
            group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
                bencher.iter_custom(|batches| (0..batches).map(|_| set.batch(place).expect("every packet comes through")).sum());
            });
            group.finish();
        }
    }
    criterion.final_summary();
}
