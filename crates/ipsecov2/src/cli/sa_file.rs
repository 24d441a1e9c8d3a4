//! What every command that reads an SA file takes with it.

use std::path::Path;

use clap::{Args, ValueEnum};
use packet::IpAddress;
use transport::Mode;

use super::output::{self, Failure};
use crate::sa_file::{Format, SaFile, SaFileRules};

/// What an SA file may hold, and what it does not say.
#[derive(Debug, Args)]
pub(super) struct SaArguments {
    /// An address of this host, for files that do not say whether an SA is inbound (its destination is local) or outbound (its source is). Can be given
    /// several times.
    #[arg(long, value_name = "ADDRESS")]
    local: Vec<IpAddress>,
    /// Mode of the SAs of an `esp_sa` table, which does not say it.
    #[arg(long, value_name = "MODE", default_value = "tunnel")]
    mode: ModeName,
    /// Takes SPIs 1 to 255, which are reserved.
    #[arg(long)]
    allow_reserved_spi: bool,
    /// Takes SAs that encrypt and do not authenticate from files that cannot say that it is meant so; in TOML the SA's own field says it.
    #[arg(long)]
    allow_unauthenticated: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeName {
    Transport,
    Tunnel,
}

impl SaArguments {
    pub(super) fn reserved_spi(&self) -> bool {
        self.allow_reserved_spi
    }

    /// Reads the file at `path`, and warns of what its user should know.
    pub(super) fn read(&self, path: &Path, format: Option<Format>) -> Result<SaFile, Failure> {
        let rules = SaFileRules {
            reserved_spi: self.allow_reserved_spi,
            allow_unauthenticated: self.allow_unauthenticated,
            local: &self.local,
            esp_sa_mode: Some(match self.mode {
                ModeName::Transport => Mode::Transport,
                ModeName::Tunnel => Mode::Tunnel,
            }),
            format,
        };
        let (file, state) = SaFile::read(path, rules).map_err(Failure::failed)?;
        if state.readable_by_others {
            output::warn(&format!("{}: others than its owner can read this file, and it holds keys", path.display()));
        }
        for note in &file.notes {
            output::warn(&format!("{}:{}: {}", path.display(), note.position, note.text));
        }
        Ok(file)
    }
}
