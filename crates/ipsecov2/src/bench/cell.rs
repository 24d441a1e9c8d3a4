//! What is measured at the same time: its ways, and their turns.

use std::collections::HashMap;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use ipsec::{Crypto, Suite};
use ndis::Direction;

use super::engine::{Nic, SaPlan, Sender, Whole};
use super::large::LargeTemplate;
use super::packets::{Picker, Template};
use super::provider::{ProviderWay, SaSet};
use super::refusal::check_profile;
use super::report::Row;
use super::stats::{median, spread};
use super::suite::{SUITES, suite};
use super::together::{self, GAVE_UP, Meeting, Slice};
use super::{BenchError, Clock, Cores, Operation, Table, Way};
use crate::profile::Profile;

/// Turns that a provider has to show whether it is the fastest.
const TRIALS: usize = 5;
/// Parts of a turn, of which the median is taken.
const SLICES: u32 = 10;
/// As many at least where a batch takes longer than such a part.
const LEAST_SLICES: usize = 7;

/// What is measured at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Algorithms.
    pub suite: Suite,
    /// Bytes of inner IP packets; of the provider's table, bytes under the cipher.
    pub bytes: usize,
    /// Workers, at least 1. They share outbound SAs; inbound SAs are shared out among them.
    pub workers: usize,
    /// SAs, at least 1. Packets belong to one after the other at random.
    pub sas: u32,
    /// Packets in a batch, at least 1.
    pub batch: usize,
}

impl Default for Cell {
    /// AES-128-GCM, 1420 bytes, one worker, one SA, batches of 64.
    fn default() -> Self {
        Self { suite: suite(SUITES[0]).expect("the first of the suites has a name"), bytes: 1420, workers: 1, sas: 1, batch: ipsec::BATCH }
    }
}

impl Cell {
    /// SAs in use by ways of this operation: every worker has one of its own to open with.
    pub(super) fn sas(&self, operation: Operation) -> u32 {
        match operation {
            Operation::Seal => self.sas,
            Operation::Open => self.sas.max(self.workers as u32),
        }
    }

    /// Picks SAs for a worker's packets.
    fn picker(&self, operation: Operation, worker: usize) -> Picker {
        let all = 0..self.sas(operation);
        match operation {
            Operation::Seal => Picker::new(all.collect()),
            Operation::Open => Picker::new(all.skip(worker).step_by(self.workers.max(1)).collect()),
        }
    }
}

/// How it is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is measured.
    pub tables: Vec<Table>,
    /// The library of NIC and transport.
    pub crypto: Crypto,
    /// The libraries of the provider's table.
    pub providers: Vec<Crypto>,
    /// Turns of each way that count.
    pub rounds: usize,
    /// How long a turn is, without what is not timed.
    pub turn: Duration,
    /// Where the first worker runs; `None`: so that all find a place on the last cores.
    pub core: Option<usize>,
    /// What the NIC can do; `None`: what the software NIC can, with as many places as are needed.
    pub profile: Option<Profile>,
    /// Whether the NIC does checksums, too: those of what IPsec carries. Otherwise they are switched off, by their keywords.
    pub checksums: bool,
}

impl Default for Options {
    /// Everything, by the default library, 45 rounds of 1 ms.
    fn default() -> Self {
        let (tables, providers) = (Table::ALL.to_vec(), Crypto::all().to_vec());
        Self { tables, crypto: Crypto::default(), providers, rounds: 45, turn: Duration::from_millis(1), core: None, profile: None, checksums: false }
    }
}

/// A way that is measured: what all workers' have in common.
#[derive(Clone, Copy)]
struct Entry {
    table: Table,
    operation: Operation,
    provider: Crypto,
    /// Bytes under the cipher.
    text: usize,
    /// The place of its limit.
    limit: usize,
    /// Whether it has a row; some are only limits.
    shown: bool,
}

/// All ways of a cell, ready to run: what [`measure`] measures, for other ways to measure it.
pub struct WaySet {
    cell: Cell,
    clock: Clock,
    entries: Vec<Entry>,
    /// Of each worker, in the order of the entries.
    workers: Vec<Vec<Box<dyn Way>>>,
    /// What the ways are of.
    hosts: Vec<Whole>,
    nics: Vec<Nic>,
}

/// Nanoseconds a packet of each way in each round.
struct Times {
    together: Vec<Vec<f64>>,
    /// With all but one worker idle.
    alone: Vec<Vec<f64>>,
}

/// Measures a cell. The rows are in the order of [`Table::ALL`].
///
/// # Errors
/// [`BenchError`].
pub fn measure(cell: &Cell, options: &Options) -> Result<Vec<Row>, BenchError> {
    let cores = Cores::choose(cell.workers, options.core)?;
    let mut set = WaySet::new(cell, options)?;
    let times = set.rounds(options, &cores)?;
    set.check()?;
    let mut rows = set.rows(&times);
    rows.sort_by_key(|row| row.table);
    Ok(rows)
}

impl WaySet {
    /// Makes SAs, NICs, hosts and packets.
    ///
    /// # Errors
    /// [`BenchError`].
    pub fn new(cell: &Cell, options: &Options) -> Result<Self, BenchError> {
        check_profile(core::slice::from_ref(cell), options)?;
        let workers = (0..cell.workers).map(|_| Vec::new()).collect();
        let mut set = Self { cell: *cell, clock: Clock::new(), entries: Vec::new(), workers, hosts: Vec::new(), nics: Vec::new() };
        let mut sets = SaSets { cell: *cell, made: HashMap::new(), sender: None };
        for operation in Operation::ALL {
            set.add_providers(options, &mut sets, operation)?;
            set.add_engines(options, &mut sets, operation)?;
        }
        set.add_large_sends(options, &mut sets)?;
        Ok(set)
    }

    /// Names of the ways that have rows, with their places.
    pub fn names(&self) -> Vec<(usize, String)> {
        let name = |entry: &Entry| match entry.table {
            Table::Provider => format!("{} {}", entry.provider, entry.operation.name()),
            table => table.name().to_owned(),
        };
        self.entries.iter().enumerate().filter(|(_, entry)| entry.shown).map(|(place, entry)| (place, name(entry))).collect()
    }

    /// Takes a batch along the first worker's way at this place, and returns how long that took.
    ///
    /// # Errors
    /// [`BenchError`] when a packet did not come through, or there is no such way.
    pub fn batch(&mut self, place: usize) -> Result<Duration, BenchError> {
        let clock = self.clock;
        let way = self.workers.first_mut().and_then(|ways| ways.get_mut(place));
        way.ok_or(BenchError::Impossible("no way at this place"))?.batch(&clock)
    }

    fn add_providers(&mut self, options: &Options, sets: &mut SaSets, operation: Operation) -> Result<(), BenchError> {
        if !options.tables.contains(&Table::Provider) {
            return Ok(());
        }
        let template = Arc::new(Template::text(sets.get(options.crypto)?.get(0)?, self.cell.bytes)?);
        let limit = self.add_limit(options, sets, operation, &template)?;
        for &provider in &options.providers {
            if self.entries[limit].provider == provider {
                self.entries[limit].shown = true;
            } else {
                self.add_provider(sets, operation, provider, &template, Some(limit))?;
            }
        }
        Ok(())
    }

    /// Adds the fastest provider. Returns its place.
    fn add_limit(&mut self, options: &Options, sets: &mut SaSets, operation: Operation, template: &Arc<Template>) -> Result<usize, BenchError> {
        let provider = sets.fastest(options, &self.clock, operation, template)?;
        self.add_provider(sets, operation, provider, template, None)?;
        let place = self.entries.len() - 1;
        self.entries[place].shown = false;
        Ok(place)
    }

    fn add_provider(
        &mut self,
        sets: &mut SaSets,
        operation: Operation,
        provider: Crypto,
        template: &Arc<Template>,
        limit: Option<usize>,
    ) -> Result<(), BenchError> {
        let (text, limit) = (template.text, limit.unwrap_or(self.entries.len()));
        self.entries.push(Entry { table: Table::Provider, operation, provider, text, limit, shown: true });
        for worker in 0..self.cell.workers {
            let way = sets.way(operation, provider, template, worker)?;
            self.workers[worker].push(Box::new(way));
        }
        Ok(())
    }

    fn add_engines(&mut self, options: &Options, sets: &mut SaSets, operation: Operation) -> Result<(), BenchError> {
        let Cell { suite, bytes, workers, batch, .. } = self.cell;
        let tables: Vec<Table> = Table::ALL
            .into_iter()
            .filter(|table| table.operation() == Some(operation) && *table != Table::LargeSend && options.tables.contains(table))
            .collect();
        if tables.is_empty() {
            return Ok(());
        }
        let framed = Arc::new(Template::framed(sets.get(options.crypto)?.get(0)?, bytes)?);
        let plain = Arc::new(Template::plain(bytes)?);
        let limit = self.add_limit(options, sets, operation, &framed)?;
        let direction = if operation == Operation::Seal { Direction::Outbound } else { Direction::Inbound };
        let profile = options.profile.as_ref();
        let plan = SaPlan { checksums: options.checksums, profile, crypto: options.crypto, suite, count: self.cell.sas(operation), direction, bytes };
        let sender = |sets: &mut SaSets, worker| Ok::<_, BenchError>(Sender::new(sets.sender()?, Arc::clone(&framed), self.cell.picker(operation, worker)));
        for table in tables {
            let mut ways: Vec<Box<dyn Way>> = Vec::with_capacity(workers);
            if matches!(table, Table::NicSend | Table::NicReceive) {
                let nic = Nic::new(plan)?;
                for worker in 0..workers {
                    ways.push(match operation {
                        // Workers share SAs, and each counts by itself here: from numbers that are 2^24 apart. If one came so far, IVs would repeat, of packets
                        // that never leave this program.
                        Operation::Seal => {
                            let picker = self.cell.picker(operation, worker);
                            Box::new(nic.sender(Arc::clone(&framed), picker, (worker as u32) << 24, batch, sets.sender()?)?)
                        }
                        Operation::Open => Box::new(nic.receiver(sender(sets, worker)?, batch)?),
                    });
                }
                self.nics.push(nic);
            } else {
                let host = Whole::new(plan, matches!(table, Table::Outbound | Table::Inbound), workers > 1 && operation == Operation::Seal)?;
                for worker in 0..workers {
                    ways.push(match operation {
                        Operation::Seal => Box::new(host.sender(Arc::clone(&plain), self.cell.picker(operation, worker), batch, sets.sender()?)?),
                        Operation::Open => Box::new(host.receiver(sender(sets, worker)?, batch)?),
                    });
                }
                self.hosts.push(host);
            }
            self.entries.push(Entry { table, operation, provider: options.crypto, text: framed.text, limit, shown: true });
            for (worker, way) in self.workers.iter_mut().zip(ways) {
                worker.push(way);
            }
        }
        Ok(())
    }

    /// Large packets that a NIC cuts, if the card has large sends. A segment alone is none, and one worker shows all that there is to see.
    fn add_large_sends(&mut self, options: &Options, sets: &mut SaSets) -> Result<(), BenchError> {
        let Cell { suite, bytes, workers, batch, .. } = self.cell;
        let operation = Operation::Seal;
        if !options.tables.contains(&Table::LargeSend) || workers != 1 || batch < 2 {
            return Ok(());
        }
        let offered = |profile: &Profile| {
            let (v2, limits) = (profile.offload.ipsec_v2, profile.offload.lso_v2.ipv4);
            v2.lso_supported && v2.transport && limits.max_offload_size as usize >= LargeTemplate::PAYLOAD
        };
        if !options.profile.as_ref().is_none_or(offered) {
            return Ok(());
        }
        let sa = sets.get(options.crypto)?;
        let text = Arc::new(Template::text(sa.get(0)?, LargeTemplate::text(bytes))?);
        let template = Arc::new(LargeTemplate::new(sa.get(0)?, bytes, batch)?);
        let limit = self.add_limit(options, sets, operation, &text)?;
        let profile = options.profile.as_ref();
        let (checksums, direction) = (options.checksums, Direction::Outbound);
        let plan = SaPlan { checksums, profile, crypto: options.crypto, suite, count: self.cell.sas(operation), direction, bytes };
        let nic = Nic::new(plan)?;
        let way = nic.sender(template, self.cell.picker(operation, 0), 0, batch, sets.sender()?)?;
        self.nics.push(nic);
        self.entries.push(Entry { table: Table::LargeSend, operation, provider: options.crypto, text: text.text, limit, shown: true });
        if let Some(ways) = self.workers.first_mut() {
            ways.push(Box::new(way));
        }
        Ok(())
    }

    /// Lets every way have its turns, all workers of one way at the same time.
    fn rounds(&mut self, options: &Options, cores: &Cores) -> Result<Times, BenchError> {
        let (count, all, size) = (self.entries.len(), self.workers.len(), self.cell.batch);
        let (meeting, turns, clock) = (Meeting::new(all), Barrier::new(all), self.clock);
        let results: Vec<Result<Parts, BenchError>> = thread::scope(|scope| {
            let place = |worker| Place { worker, all, size, clock: &clock, meeting: &meeting, turns: &turns };
            let workers = self.workers.iter_mut().enumerate();
            let threads: Vec<_> = workers
                .map(|(worker, ways)| {
                    let place = place(worker);
                    scope.spawn(move || work(place, ways, options, cores))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or(Err(BenchError::Impossible("a worker that gives up")))).collect()
        });
        // Why one failed, not that others were left alone.
        let (good, mut bad): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        bad.sort_by_key(|result| matches!(result, Err(BenchError::Impossible(GAVE_UP))));
        bad.into_iter().next().map_or(Ok(()), |result| result.map(|_| ()))?;
        let mut workers: Vec<Parts> = good.into_iter().flatten().collect();
        let together = (0..count)
            .map(|place| {
                let round = |round: usize| {
                    let slices: Vec<&[Slice]> = workers.iter().filter_map(|parts| parts.together[place].get(round).map(Vec::as_slice)).collect();
                    together::nanoseconds(&slices, clock.overhead)
                };
                if all > 1 { (0..options.rounds).map(round).collect() } else { Vec::new() }
            })
            .collect();
        let alone = workers.first_mut().map(|parts| core::mem::take(&mut parts.alone)).unwrap_or_default();
        Ok(if all > 1 { Times { together, alone } } else { Times { together: alone, alone: vec![Vec::new(); count] } })
    }

    fn check(&self) -> Result<(), BenchError> {
        self.hosts.iter().try_for_each(Whole::check)
    }

    fn rows(&self, times: &Times) -> Vec<Row> {
        let ratio = |over: &[f64], under: &[f64]| median(&over.iter().zip(under).map(|(over, under)| over / under).collect::<Vec<_>>());
        let row = |(place, entry): (usize, &Entry)| {
            let (own, limit) = (&times.together[place], &times.together[entry.limit]);
            let scaling = (self.cell.workers > 1).then(|| ratio(&times.alone[place], own));
            Row::new(
                (entry.table, entry.operation, entry.provider),
                &Cell { sas: self.cell.sas(entry.operation), ..self.cell },
                entry.text,
                (median(own), spread(own)),
                (median(limit), ratio(limit, own)),
                scaling,
            )
        };
        self.entries.iter().enumerate().filter(|(_, entry)| entry.shown).map(row).collect()
    }
}

/// SAs under every provider, made when they are wanted.
struct SaSets {
    cell: Cell,
    made: HashMap<Crypto, Arc<SaSet>>,
    /// Seals, outside of the clock, what is to be opened. Nobody else uses it: what is measured must not find its keys in the cache because of that.
    sender: Option<Arc<SaSet>>,
}

impl SaSets {
    fn get(&mut self, crypto: Crypto) -> Result<Arc<SaSet>, BenchError> {
        if let Some(set) = self.made.get(&crypto) {
            return Ok(Arc::clone(set));
        }
        let set = Arc::new(SaSet::new(crypto, self.cell.suite, self.cell.sas(Operation::Open))?);
        self.made.insert(crypto, Arc::clone(&set));
        Ok(set)
    }

    fn sender(&mut self) -> Result<Arc<SaSet>, BenchError> {
        if let Some(set) = &self.sender {
            return Ok(Arc::clone(set));
        }
        let set = Arc::new(SaSet::new(Crypto::default(), self.cell.suite, self.cell.sas(Operation::Open))?);
        self.sender = Some(Arc::clone(&set));
        Ok(set)
    }

    fn way(&mut self, operation: Operation, provider: Crypto, template: &Arc<Template>, worker: usize) -> Result<ProviderWay, BenchError> {
        let picker = self.cell.picker(operation, worker);
        Ok(ProviderWay::new(operation, self.get(provider)?, self.sender()?, Arc::clone(template), picker, self.cell.batch))
    }

    /// Tries all providers.
    fn fastest(&mut self, options: &Options, clock: &Clock, operation: Operation, template: &Arc<Template>) -> Result<Crypto, BenchError> {
        let mut best = (f64::INFINITY, options.crypto);
        for provider in Crypto::all() {
            let mut way = self.way(operation, provider, template, 0)?;
            for _ in 0..TRIALS {
                let time = turn(&mut way, clock, options.turn / 4)?;
                if time < best.0 {
                    best = (time, provider);
                }
            }
        }
        Ok(best.1)
    }
}

/// What a worker knows of the others.
#[derive(Clone, Copy)]
struct Place<'a> {
    worker: usize,
    all: usize,
    /// Packets in a batch.
    size: usize,
    clock: &'a Clock,
    /// Before each slice of a turn that several have at the same time.
    meeting: &'a Meeting,
    /// Before each turn. All come every time, so that none waits for one that has failed.
    turns: &'a Barrier,
}

/// What a worker has measured, by way and round.
struct Parts {
    /// Its slices of the turns of several.
    together: Vec<Vec<Vec<Slice>>>,
    /// Nanoseconds a packet of the turns that it had for itself.
    alone: Vec<Vec<f64>>,
}

/// What a worker does: its part of every turn.
fn work(place: Place<'_>, ways: &mut [Box<dyn Way>], options: &Options, cores: &Cores) -> Result<Parts, BenchError> {
    let Place { worker, all, size, clock, meeting, turns } = place;
    cores.pin(worker);
    let mut parts = Parts { together: vec![Vec::new(); ways.len()], alone: vec![Vec::new(); ways.len()] };
    let mut failure = None;
    for round in 0..=options.rounds {
        // The first round warms up.
        let counts = round > 0;
        for (number, way) in ways.iter_mut().enumerate() {
            let way = way.as_mut();
            if all > 1 {
                turns.wait();
                if failure.is_none() {
                    match together::turn(way, meeting, worker == 0, options.turn, size) {
                        Ok(slices) if counts => parts.together[number].push(slices),
                        Ok(_) => {}
                        Err(error) => failure = Some(error),
                    }
                }
                turns.wait();
            }
            if worker == 0 && failure.is_none() {
                let time = if all > 1 {
                    together::turn(way, &Meeting::new(1), true, options.turn, size).map(|slices| together::nanoseconds(&[&slices], clock.overhead))
                } else {
                    turn(way, clock, options.turn).map(|time| time / f64::from(size as u32))
                };
                match time {
                    Ok(time) if counts => parts.alone[number].push(time),
                    Ok(_) => {}
                    Err(error) => {
                        meeting.give_up();
                        failure = Some(error);
                    }
                }
            }
        }
    }
    failure.map_or(Ok(parts), Err)
}

/// A way's turn: batches until their time adds up to `length`, behind some that do not count. Returns nanoseconds a batch: the median over slices, each much
/// shorter than what a busy system takes a processor away for, so that those in which it did are not it.
fn turn(way: &mut dyn Way, clock: &Clock, length: Duration) -> Result<f64, BenchError> {
    way.prove_next();
    let mut run = |length: Duration| {
        let (mut total, mut batches) = (Duration::ZERO, 0_u32);
        while total < length || batches == 0 {
            // Something at least, so that it ends also where the clock is coarse.
            total += way.batch(clock)?.max(Duration::from_nanos(1));
            batches += 1;
        }
        Ok::<_, BenchError>((total, total.as_secs_f64() * 1e9 / f64::from(batches)))
    };
    let slice = length / SLICES;
    run(slice)?;
    let (mut total, mut times) = (Duration::ZERO, Vec::new());
    while total < length || times.len() < LEAST_SLICES {
        let (time, each) = run(slice)?;
        total += time;
        times.push(each);
    }
    Ok(median(&times))
}
