//! A capture's packets through the inbound way.

use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use link::capture::CaptureOutput;
use ndis::Direction;
use packet::{FrameBatch, Time};
use transport::{ClearPolicy, InboundBatch};

use super::input::{self, Aside, Packets, number};
use super::outcome::{self, Asides, Outcome};
use super::report::Line;
use super::{PcapError, PcapOptions};
use crate::sa_file::SaFile;

/// The name of the outcome's form.
pub const SCHEMA: &str = "ipsecov2-pcap-open-1";

/// What is special to this way.
#[derive(Debug, Default)]
pub struct OpenOptions {
    /// Size of the replay windows in place of what the file says; 0 switches the check off.
    pub replay_window: Option<u32>,
    /// Where one line of JSON per packet goes; `-` is standard output.
    pub report: Option<PathBuf>,
}

/// Receives the packets of a capture under the inbound SAs of `file`, whose name is `name`, and writes those that were delivered, in order and with their
/// times, without their protection.
///
/// # Errors
/// [`PcapError`]; an output, or report, that is an ordinary file does not appear then, unless it is [`PcapError::Damaged`]. Packets that were dropped are
/// no error.
pub fn open(options: &PcapOptions, special: &OpenOptions, mut file: SaFile, name: &Path) -> Result<Outcome, PcapError> {
    let mut inbound = 0;
    for bundle in file.bundles.iter_mut().filter(|bundle| bundle.parameters.direction == Direction::Inbound) {
        inbound += 1;
        if let Some(window) = special.replay_window {
            bundle.parameters.replay_window = window;
        }
    }
    let mut host = super::host(options, ClearPolicy::PassAll, inbound)?;
    let sas = super::add_sas(&host, file, name, Direction::Inbound)?;
    let mut reader = super::reader(options)?;
    let mut writer = super::writer(options, None)?;
    let mut report = special.report.as_deref().map(Report::create).transpose()?;

    let (mut packets, mut asides) = (Packets::default(), Asides::default());
    let mut out = InboundBatch { report: report.is_some(), ..InboundBatch::default() };
    // Nothing is sent; whatever the host had to send would be left here.
    let mut wire = FrameBatch::new();
    let mut declared = false;
    let mut now = Time::ZERO;
    let mut lost = 0;
    while packets.read(&mut reader, host.pool(), options.batch) {
        if let (false, Some(medium)) = (declared, packets.medium) {
            input::declare(&mut writer, medium)?;
            declared = true;
        }
        asides.count_all(&packets.aside);
        now = packets.frames.last().map_or(now, |frame| frame.timestamp);
        lost += host.receive(now, &mut packets.frames, &mut out) as u64;
        host.service(now, &mut wire);
        if let Some(report) = &mut report {
            report.write(&out, &packets.aside)?;
        }
        input::write(&mut writer, &mut out.delivered, host.pool())?;
        out.passed.drain(..).for_each(|frame| host.pool().give(frame.buffer));
        out.verdicts.clear();
    }
    if lost != 0 {
        return Err(PcapError::Lost { packets: lost });
    }
    let damage = packets.end()?;
    let counts = host.transport().inbound();
    let written = writer.packets();
    let sas = outcome::sas(host.transport(), &sas);
    if let Some(report) = report {
        report.finish()?;
    }
    writer.finish()?;
    super::conclude(Outcome::new(SCHEMA, &counts, &asides, written, sas), damage)
}

/// The report that is being written, which appears under its name when it is complete.
struct Report {
    file: PathBuf,
    out: BufWriter<CaptureOutput>,
}

impl Report {
    fn create(path: &Path) -> Result<Self, PcapError> {
        let out = CaptureOutput::create(path, false).map_err(|error| PcapError::Report { file: path.to_owned(), error })?;
        Ok(Self { file: path.to_owned(), out: BufWriter::with_capacity(64 * 1024, out) })
    }

    /// One line for each packet of a batch: those that the host saw and those that it did not, in the order of the capture.
    fn write(&mut self, out: &InboundBatch, asides: &[Aside]) -> Result<(), PcapError> {
        let mut asides = asides.iter().peekable();
        for verdict in &out.verdicts {
            while let Some(aside) = asides.next_if(|aside| aside.number < number(verdict.tag)) {
                self.line(&Line::aside(aside.number, aside.verdict))?;
            }
            self.line(&Line::new(number(verdict.tag), verdict))?;
        }
        asides.try_for_each(|aside| self.line(&Line::aside(aside.number, aside.verdict)))
    }

    fn line(&mut self, line: &Line) -> Result<(), PcapError> {
        let written = serde_json::to_writer(&mut self.out, line).map_err(io::Error::from).and_then(|()| self.out.write_all(b"\n"));
        written.map_err(|error| PcapError::Report { file: self.file.clone(), error })
    }

    fn finish(self) -> Result<(), PcapError> {
        let written = self.out.into_inner().map_err(io::IntoInnerError::into_error).and_then(CaptureOutput::finish);
        written.map_err(|error| PcapError::Report { file: self.file, error })
    }
}
