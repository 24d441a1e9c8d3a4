//! The machine that figures depend on, and where on it workers run.

use super::BenchError;

/// Processor, its features that matter here, and cores, on a line.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.split(['\t', ' ', ':']).next() == Some(name) || line.starts_with(&format!("{name}\t")));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim())
    };
    let model = field("model name").unwrap_or("unknown processor");
    let flags: Vec<&str> = field("flags").or_else(|| field("Features")).unwrap_or_default().split(' ').collect();
    let known = ["aes", "pclmulqdq", "pmull", "avx2", "avx512f", "vaes", "vpclmulqdq", "sha_ni"];
    let found: Vec<&str> = known.into_iter().filter(|flag| flags.contains(flag)).collect();
    format!("{model} ({}), {cores} cores, {}", found.join(" "), std::env::consts::ARCH)
}

/// The cores that workers run on, one each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores {
    /// The core of each worker; empty where the system cannot pin.
    chosen: Vec<usize>,
}

impl Cores {
    /// Chooses for `workers`: `first` and those behind it, else the last ones that this program may run on (interrupts tend to be on the first). Where there
    /// are fewer cores than workers, they share.
    ///
    /// # Errors
    /// [`BenchError::Core`] if the program may not run on `first`.
    pub fn choose(workers: usize, first: Option<usize>) -> Result<Self, BenchError> {
        Self::among(&allowed(), workers, first)
    }

    fn among(allowed: &[usize], workers: usize, first: Option<usize>) -> Result<Self, BenchError> {
        let begin = match first {
            Some(core) => allowed.iter().position(|&there| there == core).ok_or_else(|| BenchError::Core { core, allowed: allowed.to_vec() })?,
            None => allowed.len().saturating_sub(workers),
        };
        Ok(Self { chosen: allowed.iter().cycle().skip(begin).take(workers).copied().collect() })
    }

    /// The core of each worker; none where the system cannot pin.
    pub fn chosen(&self) -> &[usize] {
        &self.chosen
    }

    /// Pins the calling thread to the core of `worker`. That it cannot be is not an error: figures have more spread then.
    pub(super) fn pin(&self, worker: usize) {
        if let Some(&core) = self.chosen.get(worker) {
            pin(core);
        }
    }
}

#[cfg(target_os = "linux")]
fn allowed() -> Vec<usize> {
    use rustix::thread::{CpuSet, sched_getaffinity};
    sched_getaffinity(None).map(|set| (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect()).unwrap_or_default()
}

#[cfg(target_os = "linux")]
fn pin(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

#[cfg(not(target_os = "linux"))]
fn allowed() -> Vec<usize> {
    Vec::new()
}

#[cfg(not(target_os = "linux"))]
fn pin(_: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_get_the_last_cores_or_those_asked_for() {
        let chosen = |allowed: &[usize], workers, first| Cores::among(allowed, workers, first).unwrap().chosen;
        assert_eq!(chosen(&[0, 1], 1, None), [1]);
        assert_eq!(chosen(&[0, 1, 4, 5], 2, None), [4, 5]);
        assert_eq!(chosen(&[0, 1, 4, 5], 3, Some(4)), [4, 5, 0]);
        assert_eq!(chosen(&[3], 2, None), [3, 3]);
        assert!(chosen(&[], 2, None).is_empty());
        let error = Cores::among(&[0, 1], 1, Some(7)).unwrap_err();
        assert_eq!(error.to_string(), "core 7: expected one of 0, 1");
    }

    #[test]
    fn the_machine_is_told() {
        assert!(machine().contains(" cores, "), "{}", machine());
    }
}
