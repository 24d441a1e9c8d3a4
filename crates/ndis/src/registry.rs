//! The registry: where keywords and system values are kept, and how an adapter's driver reads them (OV2-CAP-5, OV2-CAP-8).
//!
//! A [`Registry`] keeps text, as Microsoft's does. [`AdapterKeywords`] and [`SystemSettings`] are what the text says: a value that makes no sense is
//! replaced by its default and reported as a [`KeywordProblem`], so that a slip of the pen neither stops an adapter nor goes unseen.

mod file;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::keyword::{IpsecSetting, Keyword, KeywordError, Setting, Switch, SystemValue, TxRx};
use crate::parameters::OffloadParameters;

pub use file::FileRegistry;

/// Where a value stands in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file.
    pub file: Arc<Path>,
    /// The line, counted from 1.
    pub line: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}", self.file.display(), self.line)
    }
}

/// A stored value: the text, whether it makes sense or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredValue {
    /// The text.
    pub text: String,
    /// Where it stands, if it stands in a file.
    pub location: Option<Location>,
}

/// A registry that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The file system refused.
    #[error("{}: cannot {action}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A line that is none of what a registry file consists of.
    #[error("{location}: {found:?} found, {expected} expected")]
    Syntax {
        /// Where.
        location: Location,
        /// The line.
        found: String,
        /// What a line can be there.
        expected: &'static str,
    },
    /// A key that stands twice in one section; which one holds would be a guess.
    #[error("{location}: {key} = {found:?} found, but {key} stands on line {first} already; once per section allowed")]
    Duplicate {
        /// Where the second one is.
        location: Location,
        /// The key.
        key: String,
        /// Its second value.
        found: String,
        /// The line of the first one.
        first: usize,
    },
    /// A name that no adapter can have.
    #[error("adapter name {found:?} found, a name without control characters and without white space around it allowed")]
    AdapterName {
        /// The name.
        found: String,
    },
    /// A number that the keyword does not allow was to be written.
    #[error(transparent)]
    Value(#[from] KeywordError),
}

/// A change of keywords or system values: a new number, or `None` to remove what is stored.
pub type Change<K> = (K, Option<u32>);

/// Keywords of adapters, and system values. Shared between threads; each call reads one consistent state, each write is all or nothing.
pub trait Registry: Send + Sync {
    /// What is stored for an adapter; empty if nothing is.
    ///
    /// # Errors
    /// [`RegistryError`] if the registry cannot be read.
    fn adapter(&self, adapter: &str) -> Result<BTreeMap<Keyword, StoredValue>, RegistryError>;

    /// Changes keywords of an adapter, all at once.
    ///
    /// # Errors
    /// [`RegistryError`] if a number is not allowed or the registry cannot be written; nothing is changed then.
    fn change_adapter(&self, adapter: &str, changes: &[Change<Keyword>]) -> Result<(), RegistryError>;

    /// The system values that are stored.
    ///
    /// # Errors
    /// [`RegistryError`] if the registry cannot be read.
    fn system(&self) -> Result<BTreeMap<SystemValue, StoredValue>, RegistryError>;

    /// Changes system values, all at once.
    ///
    /// # Errors
    /// [`RegistryError`] if a number is not allowed or the registry cannot be written; nothing is changed then.
    fn change_system(&self, changes: &[Change<SystemValue>]) -> Result<(), RegistryError>;

    /// One keyword of an adapter; `None` if it is not stored.
    ///
    /// # Errors
    /// As [`Registry::adapter`].
    fn get(&self, adapter: &str, keyword: Keyword) -> Result<Option<StoredValue>, RegistryError> {
        Ok(self.adapter(adapter)?.remove(&keyword))
    }

    /// Stores one keyword of an adapter.
    ///
    /// # Errors
    /// As [`Registry::change_adapter`].
    fn set(&self, adapter: &str, keyword: Keyword, value: u32) -> Result<(), RegistryError> {
        self.change_adapter(adapter, &[(keyword, Some(value))])
    }

    /// Removes one keyword of an adapter, so that its default holds.
    ///
    /// # Errors
    /// As [`Registry::change_adapter`].
    fn remove(&self, adapter: &str, keyword: Keyword) -> Result<(), RegistryError> {
        self.change_adapter(adapter, &[(keyword, None)])
    }

    /// Stores a system value.
    ///
    /// # Errors
    /// As [`Registry::change_system`].
    fn set_system(&self, value: SystemValue, number: u32) -> Result<(), RegistryError> {
        self.change_system(&[(value, Some(number))])
    }

    /// Removes a system value, so that its default holds.
    ///
    /// # Errors
    /// As [`Registry::change_system`].
    fn remove_system(&self, value: SystemValue) -> Result<(), RegistryError> {
        self.change_system(&[(value, None)])
    }
}

/// A registry that lives as long as the process.
#[derive(Debug, Default)]
pub struct MemoryRegistry {
    content: Mutex<MemoryContent>,
}

#[derive(Debug, Default)]
struct MemoryContent {
    adapters: BTreeMap<String, BTreeMap<Keyword, String>>,
    system: BTreeMap<SystemValue, String>,
}

impl MemoryRegistry {
    /// An empty registry: every default holds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores any text for a keyword, sensible or not, as an administrator could.
    pub fn set_text(&self, adapter: &str, keyword: Keyword, text: &str) {
        self.lock().adapters.entry(adapter.to_owned()).or_default().insert(keyword, text.to_owned());
    }

    /// Stores any text for a system value, sensible or not, as an administrator could.
    pub fn set_system_text(&self, value: SystemValue, text: &str) {
        self.lock().system.insert(value, text.to_owned());
    }

    /// Every change is one assignment, so content behind a poisoned lock is whole.
    fn lock(&self) -> MutexGuard<'_, MemoryContent> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry for MemoryRegistry {
    fn adapter(&self, adapter: &str) -> Result<BTreeMap<Keyword, StoredValue>, RegistryError> {
        Ok(self.lock().adapters.get(adapter).map(stored).unwrap_or_default())
    }

    fn change_adapter(&self, adapter: &str, changes: &[Change<Keyword>]) -> Result<(), RegistryError> {
        check_adapter(adapter)?;
        check_changes(changes, Keyword::check)?;
        change(self.lock().adapters.entry(adapter.to_owned()).or_default(), changes);
        Ok(())
    }

    fn system(&self) -> Result<BTreeMap<SystemValue, StoredValue>, RegistryError> {
        Ok(stored(&self.lock().system))
    }

    fn change_system(&self, changes: &[Change<SystemValue>]) -> Result<(), RegistryError> {
        check_changes(changes, SystemValue::check)?;
        change(&mut self.lock().system, changes);
        Ok(())
    }
}

fn stored<K: Copy + Ord>(texts: &BTreeMap<K, String>) -> BTreeMap<K, StoredValue> {
    texts.iter().map(|(&key, text)| (key, StoredValue { text: text.clone(), location: None })).collect()
}

fn change<K: Copy + Ord>(texts: &mut BTreeMap<K, String>, changes: &[Change<K>]) {
    for &(key, value) in changes {
        match value {
            Some(value) => texts.insert(key, value.to_string()),
            None => texts.remove(&key),
        };
    }
}

fn check_adapter(name: &str) -> Result<(), RegistryError> {
    if name.is_empty() || name.trim() != name || name.chars().any(char::is_control) {
        return Err(RegistryError::AdapterName { found: name.to_owned() });
    }
    Ok(())
}

fn check_changes<K: Copy>(changes: &[Change<K>], check: impl Fn(K, u32) -> Result<(), KeywordError>) -> Result<(), KeywordError> {
    changes.iter().try_for_each(|&(key, value)| value.map_or(Ok(()), |value| check(key, value)))
}

/// A stored value that made no sense, and what holds in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeywordProblem {
    /// The adapter; `None` for a system value.
    pub adapter: Option<String>,
    /// What was found and what is allowed.
    pub error: KeywordError,
    /// The default, which is used.
    pub used: u32,
    /// Where the value stands, if it stands in a file.
    pub location: Option<Location>,
}

impl fmt::Display for KeywordProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        if let Some(adapter) = &self.adapter {
            write!(f, "adapter {adapter}: ")?;
        }
        write!(f, "{}; using the default, {}", self.error, self.used)
    }
}

/// All keywords of one adapter as its driver reads them at initialisation, defaults filled in (OV2-CAP-5).
///
/// Checksum keywords are granular or grouped: a granular one holds if it is stored, else the grouped one of its IP version if that is stored.
///
/// ```
/// use ndis::{AdapterKeywords, IpsecSetting, Keyword, MemoryRegistry, Registry};
///
/// let registry = MemoryRegistry::new();
/// registry.set("nic0", Keyword::IpsecV2, 2)?;
/// let keywords = AdapterKeywords::read(&registry, "nic0")?;
/// assert_eq!(keywords.ipsec_v2(), IpsecSetting::Esp);
/// assert_eq!(keywords.ipsec_v1(), IpsecSetting::AhAndEsp);
/// # Ok::<(), ndis::RegistryError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterKeywords {
    adapter: String,
    values: BTreeMap<Keyword, u32>,
    problems: Vec<KeywordProblem>,
}

impl AdapterKeywords {
    /// Reads what the registry has for an adapter.
    ///
    /// # Errors
    /// [`RegistryError`] if the registry cannot be read. A senseless value is no error but a [`KeywordProblem`].
    pub fn read(registry: &dyn Registry, adapter: &str) -> Result<Self, RegistryError> {
        let mut keywords = Self::defaults(adapter);
        for (keyword, stored) in registry.adapter(adapter)? {
            match keyword.parse(&stored.text) {
                Ok(value) => {
                    keywords.values.insert(keyword, value);
                }
                Err(error) => keywords.problems.push(KeywordProblem {
                    adapter: Some(adapter.to_owned()),
                    error,
                    used: keyword.default_value(),
                    location: stored.location,
                }),
            }
        }
        Ok(keywords)
    }

    /// The keywords of an adapter for which nothing is stored.
    pub fn defaults(adapter: &str) -> Self {
        Self { adapter: adapter.to_owned(), values: BTreeMap::new(), problems: Vec::new() }
    }

    /// The adapter's name.
    pub fn adapter(&self) -> &str {
        &self.adapter
    }

    /// Stored values that made no sense and were replaced by defaults.
    pub fn problems(&self) -> &[KeywordProblem] {
        &self.problems
    }

    /// The number of a keyword; always one that the keyword allows.
    pub fn get(&self, keyword: Keyword) -> u32 {
        let grouped = match keyword {
            Keyword::IpChecksumIpv4 | Keyword::TcpChecksumIpv4 | Keyword::UdpChecksumIpv4 => Some(Keyword::TcpUdpChecksumIpv4),
            Keyword::TcpChecksumIpv6 | Keyword::UdpChecksumIpv6 => Some(Keyword::TcpUdpChecksumIpv6),
            _ => None,
        };
        let stored = self.values.get(&keyword).or_else(|| self.values.get(&grouped?));
        stored.copied().unwrap_or(keyword.default_value())
    }

    /// These keywords with one more stored; a number that the keyword does not allow changes nothing.
    pub fn with(mut self, keyword: Keyword, value: u32) -> Self {
        if keyword.allows(value) {
            self.values.insert(keyword, value);
        }
        self
    }

    /// These keywords as [`OffloadParameters`] change them: what the adapter would read after a restart.
    pub fn updated(self, parameters: &OffloadParameters) -> Self {
        parameters.keyword_changes().into_iter().fold(self, |keywords, (keyword, value)| keywords.with(keyword, value))
    }

    /// `*IPsecOffloadV2`.
    pub fn ipsec_v2(&self) -> IpsecSetting {
        self.setting(Keyword::IpsecV2, IpsecSetting::AhAndEsp)
    }

    /// `*IPsecOffloadV2IPv4`.
    pub fn ipsec_v2_ipv4(&self) -> IpsecSetting {
        self.setting(Keyword::IpsecV2Ipv4, IpsecSetting::AhAndEsp)
    }

    /// `*IPsecOffloadV1IPv4`.
    pub fn ipsec_v1(&self) -> IpsecSetting {
        self.setting(Keyword::IpsecV1Ipv4, IpsecSetting::AhAndEsp)
    }

    /// A checksum keyword; [`TxRx::Both`] for a keyword that is none.
    pub fn checksum(&self, keyword: Keyword) -> TxRx {
        self.setting(keyword, TxRx::Both)
    }

    /// An on/off keyword; anything but 0 is on.
    pub fn switch(&self, keyword: Keyword) -> Switch {
        Switch::from(self.get(keyword) != 0)
    }

    /// `get` yields allowed numbers only, so `otherwise` is for keywords of another kind.
    fn setting<S: Setting>(&self, keyword: Keyword, otherwise: S) -> S {
        S::from_value(self.get(keyword)).unwrap_or(otherwise)
    }
}

/// The system values as the transport reads them (OV2-CAP-5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemSettings {
    /// Every task offload is switched off.
    pub disable_task_offload: bool,
    /// IPsec offload is allowed.
    pub ipsec_offload_enabled: bool,
    /// Stored values that made no sense and were replaced by defaults.
    pub problems: Vec<KeywordProblem>,
}

impl Default for SystemSettings {
    fn default() -> Self {
        Self { disable_task_offload: false, ipsec_offload_enabled: true, problems: Vec::new() }
    }
}

impl SystemSettings {
    /// Reads what the registry has.
    ///
    /// # Errors
    /// [`RegistryError`] if the registry cannot be read. A senseless value is no error but a [`KeywordProblem`].
    pub fn read(registry: &dyn Registry) -> Result<Self, RegistryError> {
        let mut settings = Self::default();
        for (name, stored) in registry.system()? {
            match (name, name.parse(&stored.text)) {
                (SystemValue::DisableTaskOffload, Ok(value)) => settings.disable_task_offload = value != 0,
                (SystemValue::EnabledOffload, Ok(value)) => settings.ipsec_offload_enabled = value != 0,
                (_, Err(error)) => {
                    settings.problems.push(KeywordProblem { adapter: None, error, used: name.default_value(), location: stored.location });
                }
            }
        }
        Ok(settings)
    }
}
