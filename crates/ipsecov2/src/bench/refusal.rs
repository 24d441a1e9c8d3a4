//! What a NIC with a profile does not do is not measured under the name of a table that says that it does.

use ipsec::{Crypto, Suite};
use ndis::Direction;

use super::engine::SaPlan;
use super::suite::{SUITES, suite, suite_name};
use super::{BenchError, Cell, Operation, Options};
use crate::explain::explain;
use crate::profile::Profile;

/// Sees that the NIC of the profile takes all that is to be measured of it.
///
/// # Errors
/// [`BenchError::Refused`] and [`BenchError::Places`] with the first suite, and the first number of SAs, that it does not take.
pub fn check_profile(cells: &[Cell], options: &Options) -> Result<(), BenchError> {
    let Some(profile) = options.profile.as_ref().filter(|_| options.tables.iter().any(|table| table.offloads())) else { return Ok(()) };
    let mut asked = Vec::new();
    for cell in cells {
        if !asked.contains(&cell.suite) {
            asked.push(cell.suite);
            if let Some(reason) = reason_of(profile, cell.suite, options.crypto)? {
                let mut taken = Vec::new();
                for name in SUITES {
                    if let Ok(suite) = suite(name)
                        && reason_of(profile, suite, options.crypto)?.is_none()
                    {
                        taken.push(name);
                    }
                }
                let others = if taken.is_empty() { String::new() } else { format!("; it takes {}", taken.join(", ")) };
                return Err(BenchError::Refused { profile: profile.name.clone(), suite: suite_name(cell.suite), reason, others });
            }
        }
        let (sas, capacity) =
            (Operation::ALL.map(|operation| cell.sas(operation)).into_iter().max().unwrap_or(0), profile.offload.ipsec_v2.sa_offload_capacity);
        if sas > capacity {
            return Err(BenchError::Places { profile: profile.name.clone(), capacity, asked: sas });
        }
    }
    Ok(())
}

/// Why the NIC of the profile does not take an SA of the suite; `None` if it does.
fn reason_of(profile: &Profile, suite: Suite, crypto: Crypto) -> Result<Option<String>, BenchError> {
    let plan = SaPlan { checksums: false, profile: Some(profile), crypto, suite, count: 1, direction: Direction::Outbound, bytes: 1420 };
    let explained = explain(vec![plan.parameters(0)], profile, crypto)?;
    Ok(explained.sas.into_iter().next().filter(|_| explained.offloaded == 0).map(|sa| sa.text))
}
