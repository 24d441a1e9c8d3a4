//! NIC profiles: the capabilities of a network card, each with where that is known from, for the software NIC to take on (OV2-CAP-12).
//!
//! A profile is a TOML file; `docs/profiles.md` describes it. Those of the program are compiled in ([`Profile::named`]); users write their own
//! ([`Profile::read`]). What a file does not say, the card does not have.
//!
//! ```
//! use ipsecov2::profile::{Confidence, Profile};
//!
//! let card = Profile::named("intel-82599").unwrap();
//! assert_eq!(card.offload.ipsec_v2.sa_offload_capacity, 1024);
//! assert!(!card.offload.ipsec_v2.tunnel && card.deviates_without_tunnel());
//! assert_eq!(card.provenance("ipsec-v2.esp").unwrap().confidence, Some(Confidence::Confirmed));
//!
//! let mine = "name = 'mine'\n[ipsec-v2]\nencapsulation = ['ieee-802.3']\nesp = true\ntunnel = 'yes'\n";
//! let error = Profile::parse(mine, "mine.toml").unwrap_err();
//! assert_eq!(error.to_string(), "mine.toml:5:10: tunnel: a text found, true or false expected");
//! ```

mod names;
mod read;

use core::fmt;
use std::io;
use std::path::Path;
use std::sync::LazyLock;

use ndis::{AuthenticationAlgorithms, EncryptionAlgorithms, IpsecService, NdisVersion, Offload};

pub use crate::text_file::error::FileError as ProfileError;

/// How sure it is that the card is as the profile says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Confidence {
    /// Nobody has said; the value is a guess on the safe side.
    Unknown,
    /// It follows from what sources say, and none says it.
    Inferred,
    /// The source says so.
    Confirmed,
}

impl Confidence {
    /// All, the least sure first.
    pub const ALL: [Self; 3] = [Self::Unknown, Self::Inferred, Self::Confirmed];

    /// Its name in files and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Inferred => "inferred",
            Self::Confirmed => "confirmed",
        }
    }
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Where the value of a field is known from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// The field, as `section.field` of the file.
    pub field: String,
    /// Where it is said; empty where the file does not tell.
    pub source: String,
    /// How sure it is; `None` where the file does not tell.
    pub confidence: Option<Confidence>,
}

/// A network card, in the contract's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// What card it is, for people.
    pub title: String,
    /// The NDIS version of its miniport: IPsecOV1 exists up to 6.20, IPsecOV2 from 6.1 (OV2-CAP-0).
    pub version: NdisVersion,
    /// What else is to be known of it.
    pub notes: Vec<String>,
    /// Its hardware capabilities, in normal form.
    pub offload: Offload,
    /// Where its fields are known from, in the order of the file.
    pub provenance: Vec<Provenance>,
}

/// Files of the cards that the program knows.
const FILES: [(&str, &str); 8] = [
    ("intel-82576", include_str!("../../profiles/intel-82576.toml")),
    ("intel-82599", include_str!("../../profiles/intel-82599.toml")),
    ("3com-3cr990", include_str!("../../profiles/3com-3cr990.toml")),
    ("intel-pro100s", include_str!("../../profiles/intel-pro100s.toml")),
    ("nvidia-connectx-6-dx", include_str!("../../profiles/nvidia-connectx-6-dx.toml")),
    ("chelsio-t6", include_str!("../../profiles/chelsio-t6.toml")),
    ("netronome-nfp", include_str!("../../profiles/netronome-nfp.toml")),
    ("marvell-octeon-cn10k", include_str!("../../profiles/marvell-octeon-cn10k.toml")),
];

static BUILT_IN: LazyLock<Vec<Profile>> = LazyLock::new(|| {
    let cards = FILES.iter().map(|(name, text)| Profile::parse(text, &format!("{name}.toml")).expect("the program's own profiles were tested"));
    [Profile::software(), Profile::ov2_full()].into_iter().chain(cards).collect()
});

impl Profile {
    /// Everything that the software NIC can do: what it is without a profile.
    pub fn software() -> Self {
        Self {
            name: "software".to_owned(),
            title: "the software NIC with everything that it can do".to_owned(),
            version: NdisVersion::V6_30,
            notes: Vec::new(),
            offload: nic::software_capabilities(nic::DEFAULT_CAPACITY).for_version(NdisVersion::V6_30),
            provenance: Vec::new(),
        }
    }

    /// All that the masks of IPsecOV2 have bits for, and none of this product's extensions.
    fn ov2_full() -> Self {
        let software = Self::software();
        let mut offload = software.offload;
        offload.ipsec_v2.authentication_algorithms -= AuthenticationAlgorithms::EXT_SHA_384 | AuthenticationAlgorithms::EXT_SHA_512;
        offload.ipsec_v2.encryption_algorithms -= EncryptionAlgorithms::EXT_CHACHA20_POLY1305;
        offload.ipsec_v2.ext_lso_tunnel = false;
        (offload.lso_v2.ipv4.ext_udp, offload.lso_v2.ipv6.ext_udp) = (false, false);
        Self { name: "ov2-full".to_owned(), title: "all of the masks of IPsecOV2, without extensions".to_owned(), offload, ..software }
    }

    /// Those that the program knows: first what the software NIC is, then cards.
    pub fn built_in() -> &'static [Self] {
        &BUILT_IN
    }

    /// One that the program knows, by its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::built_in().iter().find(|profile| profile.name == name).cloned()
    }

    /// Reads `text`; `file` is its name in errors.
    ///
    /// # Errors
    /// [`ProfileError::At`], with what is wrong and where: the first problem found.
    pub fn parse(text: &str, file: &str) -> Result<Self, ProfileError> {
        read::parse(text, file)
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ProfileError`]: it cannot be read, or what is wrong in it and where.
    pub fn read(path: &Path) -> Result<Self, ProfileError> {
        let file = path.display().to_string();
        match std::fs::read(path).map(String::from_utf8) {
            Ok(Ok(text)) => Self::parse(&text, &file),
            Ok(Err(error)) => Err(read::not_utf8(&file, &error)),
            Err(error) => Err(ProfileError::Read { file, error }),
        }
    }

    /// The profile that an argument names: one that the program knows, or a file.
    ///
    /// # Errors
    /// [`ProfileError`]; of what is neither, with the names that there are.
    pub fn find(argument: &str) -> Result<Self, ProfileError> {
        if let Some(profile) = Self::named(argument) {
            return Ok(profile);
        }
        Self::read(Path::new(argument)).map_err(|error| match error {
            ProfileError::Read { file, error } if error.kind() == io::ErrorKind::NotFound => {
                let names: Vec<&str> = Self::built_in().iter().map(|profile| profile.name.as_str()).collect();
                let message = format!("neither a file nor a profile; profiles: {}", names.join(", "));
                ProfileError::Read { file, error: io::Error::new(io::ErrorKind::NotFound, message) }
            }
            other => other,
        })
    }

    /// Where a field, `section.field`, is known from; `None` if the file does not have it.
    pub fn provenance(&self, field: &str) -> Option<&Provenance> {
        self.provenance.iter().find(|provenance| provenance.field == field)
    }

    /// Which of the two IPsec services its adapter has (OV2-CAP-0).
    pub fn service(&self) -> Option<IpsecService> {
        self.offload.ipsec_service(self.version)
    }

    /// How many SA bundles it holds; 0 without IPsec.
    pub fn capacity(&self) -> u32 {
        match self.service() {
            Some(IpsecService::V2) => self.offload.ipsec_v2.sa_offload_capacity,
            Some(IpsecService::V1) => self.offload.ipsec_v1.ext_sa_capacity,
            None => 0,
        }
    }

    /// Whether it has IPsecOV2 without tunnel mode, against OV2-CAP-2.
    pub fn deviates_without_tunnel(&self) -> bool {
        self.offload.ipsec_v2.is_supported() && !self.offload.ipsec_v2.tunnel
    }
}

#[cfg(test)]
mod tests;
