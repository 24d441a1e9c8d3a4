//! A capture's packets through the outbound way.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use link::capture::{CaptureOutput, Secrets};
use ndis::Direction;
use packet::{FrameBatch, Time};
use transport::{Action, ClearPolicy, DropReason, Verdict};

use super::input::{self, Packets};
use super::outcome::{self, Asides, Outcome};
use super::seed::IvSeed;
use super::{PcapError, PcapOptions};
use crate::sa_file::{SaFile, esp_secret};

/// The name of the outcome's form.
pub const SCHEMA: &str = "ipsecov2-pcap-protect-1";

/// What is special to this way.
#[derive(Debug, Default)]
pub struct ProtectOptions {
    /// Writes what no outbound SA selects, and what is not IP, in clear; otherwise it is not written.
    pub bypass: bool,
    /// Makes the SAs' IV masks from this; otherwise they are fresh from the system's random generator. For tests only.
    pub iv_seed: Option<IvSeed>,
    /// Writes the keys into the output (pcapng), for viewers to decrypt it.
    pub decryption_secrets: bool,
    /// Writes the keys into this file, as Wireshark's `esp_sa` table.
    pub esp_sa: Option<PathBuf>,
}

/// Sends the packets of a capture under the outbound SAs of `file`, whose name is `name`, and writes what comes out on the wire, with the times of the
/// packets. Policies are the SAs' selectors, in the order of the file.
///
/// Each SA begins at the sequence number that the file says: a file is for captures, not for traffic, because the same numbers come again with every run.
/// Only the IV mask, which is a fresh one, keeps IVs from repeating then.
///
/// # Errors
/// [`PcapError`]; an output that is an ordinary file does not appear then, unless it is [`PcapError::Damaged`].
pub fn protect(options: &PcapOptions, special: &ProtectOptions, mut file: SaFile, name: &Path) -> Result<Outcome, PcapError> {
    let (mut secrets, mut table) = (Vec::new(), Vec::new());
    let mut outbound = 0;
    for bundle in file.bundles.iter_mut().filter(|bundle| bundle.parameters.direction == Direction::Outbound) {
        outbound += 1;
        bundle.parameters.iv_mask = match &special.iv_seed {
            Some(seed) => seed.mask(options.crypto, &bundle.parameters),
            None => getrandom::u64()?,
        };
        // Those that viewers have no use for are not there.
        if special.decryption_secrets {
            secrets.extend(esp_secret(&bundle.parameters).ok());
        }
        if special.esp_sa.is_some() {
            table.extend(esp_secret(&bundle.parameters).ok());
        }
    }
    let mut host = super::host(options, ClearPolicy::Decide, outbound)?;
    let sas = super::add_sas(&host, file, name, Direction::Outbound)?;
    if special.bypass {
        host.transport().set_policies(|spd| {
            spd.default_outbound = Action::Bypass;
            spd.non_ip = Action::Bypass;
        });
    }
    let mut reader = super::reader(options)?;
    let mut writer = super::writer(options, special.decryption_secrets.then_some(Secrets::Esp(secrets)))?;
    let table = special.esp_sa.as_ref().map(|path| Table::create(path, &Secrets::Esp(table))).transpose()?;

    let (mut packets, mut asides, mut wire) = (Packets::default(), Asides::default(), FrameBatch::new());
    let mut declared = false;
    let mut now = Time::ZERO;
    while packets.read(&mut reader, host.pool(), options.batch) {
        if let (false, Some(medium)) = (declared, packets.medium) {
            input::declare(&mut writer, medium)?;
            declared = true;
        }
        for aside in &packets.aside {
            asides.count(match aside.verdict {
                // Not IP, and without a link header that could go into the output with it.
                Verdict::Passed | Verdict::Delivered => Verdict::Dropped(if special.bypass { DropReason::Unsupported } else { DropReason::Policy }),
                dropped @ Verdict::Dropped(_) => dropped,
            });
        }
        now = packets.frames.last().map_or(now, |frame| frame.timestamp);
        host.send(now, &mut packets.frames, &mut wire);
        host.service(now, &mut wire);
        input::write(&mut writer, &mut wire, host.pool())?;
    }
    // The software NIC completes at once; one that does not gets a last chance here.
    host.service(now, &mut wire);
    input::write(&mut writer, &mut wire, host.pool())?;

    let counts = host.transport().outbound();
    let under_way = counts.seen.packets.saturating_sub(counts.ended());
    if under_way != 0 {
        return Err(PcapError::Lost { packets: under_way });
    }
    let damage = packets.end()?;
    let written = writer.packets();
    let sas = outcome::sas(host.transport(), &sas);
    table.map_or(Ok(()), Table::finish)?;
    writer.finish()?;
    super::conclude(Outcome::new(SCHEMA, &counts, &asides, written, sas), damage)
}

/// The `esp_sa` table, which appears under its name when the capture does.
struct Table {
    file: PathBuf,
    out: CaptureOutput,
}

impl Table {
    fn create(path: &Path, secrets: &Secrets) -> Result<Self, PcapError> {
        let create = || -> io::Result<CaptureOutput> {
            let mut out = CaptureOutput::create(path, true)?;
            out.write_all(secrets.table().expose())?;
            Ok(out)
        };
        create().map(|out| Self { file: path.to_owned(), out }).map_err(|error| PcapError::Report { file: path.to_owned(), error })
    }

    fn finish(self) -> Result<(), PcapError> {
        self.out.finish().map_err(|error| PcapError::Report { file: self.file, error })
    }
}
