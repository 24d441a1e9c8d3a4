//! Which cells are measured.

use ipsec::Suite;

use super::suite::{SUITES, suite};
use super::{Cell, Table};

/// Bytes of inner packets that are measured when all is.
pub const SIZES: [usize; 5] = [64, 256, 576, 1420, 9000];

/// The tables of a quick run.
pub const QUICK_TABLES: [Table; 5] = [Table::Provider, Table::NicSend, Table::NicReceive, Table::Outbound, Table::Inbound];

/// The sizes of quick runs, and of series about something else than size.
const FEW_SIZES: [usize; 3] = [64, 576, 1420];

/// Values of each dimension; every combination is a cell.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// Algorithms.
    pub suites: Vec<Suite>,
    /// Bytes of inner packets.
    pub bytes: Vec<usize>,
    /// Numbers of workers.
    pub workers: Vec<usize>,
    /// Numbers of SAs.
    pub sas: Vec<u32>,
    /// Packets in a batch.
    pub batches: Vec<usize>,
}

/// Every combination. A dimension without values has the usual one: AES-128-GCM, all sizes, one worker, one SA, batches of 64.
pub fn product(shape: &Shape) -> Vec<Cell> {
    fn or<T: Clone>(values: &[T], usual: &[T]) -> Vec<T> {
        if values.is_empty() { usual.to_vec() } else { values.to_vec() }
    }
    let usual = Cell::default();
    let mut cells = Vec::new();
    for suite in or(&shape.suites, &[usual.suite]) {
        for workers in or(&shape.workers, &[usual.workers]) {
            for sas in or(&shape.sas, &[usual.sas]) {
                for batch in or(&shape.batches, &[usual.batch]) {
                    cells.extend(or(&shape.bytes, &SIZES).into_iter().map(|bytes| Cell { suite, bytes, workers, sas, batch }));
                }
            }
        }
    }
    cells
}

/// A full run: all suites in all sizes; of the usual one also two workers, small batches and many SAs.
pub fn full() -> Vec<Cell> {
    let suites = SUITES.into_iter().flat_map(suite).collect();
    let series = [
        Shape { suites, ..Shape::default() },
        Shape { bytes: FEW_SIZES.to_vec(), workers: vec![2], ..Shape::default() },
        Shape { bytes: FEW_SIZES.to_vec(), batches: vec![1, 4, 16, 32], ..Shape::default() },
        Shape { bytes: FEW_SIZES.to_vec(), sas: vec![16, 1024], ..Shape::default() },
    ];
    series.iter().flat_map(product).collect()
}

/// A quick run: AES-128-GCM in three sizes.
pub fn quick() -> Vec<Cell> {
    product(&Shape { bytes: FEW_SIZES.to_vec(), ..Shape::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_run_has_no_cell_twice_and_holds_a_quick_one() {
        let full = full();
        for (place, cell) in full.iter().enumerate() {
            assert!(!full[..place].contains(cell), "{cell:?}");
        }
        assert_eq!(full.len(), 6 * 5 + 3 + 12 + 6);
        assert!(quick().iter().all(|cell| full.contains(cell)));
    }

    #[test]
    fn dimensions_multiply() {
        let shape = Shape { bytes: vec![64, 1420], workers: vec![1, 2], batches: vec![8, 16, 32], ..Shape::default() };
        let cells = product(&shape);
        assert_eq!(cells.len(), 12);
        assert!(cells.iter().all(|cell| cell.sas == 1 && cell.suite == Cell::default().suite));
    }
}
