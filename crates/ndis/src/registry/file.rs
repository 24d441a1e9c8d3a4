//! A registry in a small text file that people can read and edit.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Change, Location, Registry, RegistryError, StoredValue, check_adapter, check_changes};
use crate::keyword::{Keyword, SystemValue};

/// A registry that persists in a text file.
///
/// ```text
/// # Lines that begin with '#' or ';' are comments.
/// [system]
/// EnabledOffload = 1
///
/// [adapter nic0]
/// *IPsecOffloadV2 = 3
/// ```
///
/// A value may stand in double quotes. Keys, sections and comments that this type does not know stay as they are. A file that does not exist is an
/// empty registry, and is made by the first change.
///
/// Every call reads the file anew, so that several of these, and editors, may work on one file. A change writes a new file beside the old one, has
/// it stored on the disk and puts it in the old one's place: readers, and a machine that loses power, see the old state or the new one whole.
/// Changes exclude each other by a lock on a file beside it whose name ends in `.lock`.
#[derive(Clone, Debug)]
pub struct FileRegistry {
    file: Arc<Path>,
}

impl FileRegistry {
    /// The registry in `file`, which is read at once to find errors early.
    ///
    /// # Errors
    /// [`RegistryError`] if the file is there and cannot be read.
    pub fn open(file: impl Into<PathBuf>) -> Result<Self, RegistryError> {
        let registry = Self { file: Arc::from(file.into()) };
        registry.read()?;
        Ok(registry)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.file
    }

    fn read(&self) -> Result<Document, RegistryError> {
        match fs::read_to_string(&self.file) {
            Ok(text) => Document::parse(&text, &self.file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Document::default()),
            Err(error) => Err(self.io("read")(error)),
        }
    }

    fn values<K: Ord>(&self, section: &Section, key: impl Fn(&str) -> Option<K>) -> Result<BTreeMap<K, StoredValue>, RegistryError> {
        let document = self.read()?;
        let keys = document.sections.get(section).into_iter().flatten();
        Ok(keys
            .filter_map(|(name, value)| {
                let location = Location { file: self.file.clone(), line: value.line + 1 };
                Some((key(name)?, StoredValue { text: value.text.clone(), location: Some(location) }))
            })
            .collect())
    }

    fn change<K: Copy>(&self, section: &Section, changes: &[Change<K>], name: impl Fn(K) -> &'static str) -> Result<(), RegistryError> {
        let lock_path = self.beside(".lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&lock_path).map_err(self.io("open the lock file beside it"))?;
        lock.lock().map_err(self.io("lock the lock file beside it"))?;
        let mut document = self.read()?;
        let mut changed = false;
        for &(key, value) in changes {
            changed |= document.change(section, name(key), value);
        }
        if changed {
            self.replace(&document.text())?;
        }
        Ok(())
    }

    /// The lock makes this the only writer, so one fixed temporary name serves; a leftover of a crash is overwritten.
    fn replace(&self, text: &str) -> Result<(), RegistryError> {
        let temporary = self.beside(".new");
        let mut file = File::create(&temporary).map_err(self.io("create a new file beside it"))?;
        if let Ok(old) = fs::metadata(&self.file) {
            file.set_permissions(old.permissions()).map_err(self.io("keep the permissions"))?;
        }
        file.write_all(text.as_bytes()).map_err(self.io("write a new file beside it"))?;
        file.sync_all().map_err(self.io("store a new file beside it"))?;
        drop(file);
        fs::rename(&temporary, &self.file).map_err(self.io("put the new file in its place"))?;
        self.sync_directory()
    }

    /// The rename itself is lasting only once the directory is.
    #[cfg(unix)]
    fn sync_directory(&self) -> Result<(), RegistryError> {
        let directory = match self.file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(self.io("store the directory"))
    }

    #[cfg(not(unix))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "directories cannot be opened as files here")]
    fn sync_directory(&self) -> Result<(), RegistryError> {
        Ok(())
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.file.as_os_str().to_owned();
        path.push(suffix);
        PathBuf::from(path)
    }

    fn io(&self, action: &'static str) -> impl Fn(io::Error) -> RegistryError + '_ {
        move |source| RegistryError::Io { file: self.file.to_path_buf(), action, source }
    }
}

impl Registry for FileRegistry {
    fn adapter(&self, adapter: &str) -> Result<BTreeMap<Keyword, StoredValue>, RegistryError> {
        self.values(&Section::Adapter(adapter.to_owned()), Keyword::from_name)
    }

    fn change_adapter(&self, adapter: &str, changes: &[Change<Keyword>]) -> Result<(), RegistryError> {
        check_adapter(adapter)?;
        check_changes(changes, Keyword::check)?;
        self.change(&Section::Adapter(adapter.to_owned()), changes, Keyword::name)
    }

    fn system(&self) -> Result<BTreeMap<SystemValue, StoredValue>, RegistryError> {
        self.values(&Section::System, SystemValue::from_name)
    }

    fn change_system(&self, changes: &[Change<SystemValue>]) -> Result<(), RegistryError> {
        check_changes(changes, SystemValue::check)?;
        self.change(&Section::System, changes, SystemValue::name)
    }
}

/// A section's name; those of kinds that this file does not know are kept and not read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    System,
    Adapter(String),
    Other,
}

impl Section {
    fn header(&self) -> String {
        match self {
            Self::Adapter(name) => format!("[adapter {name}]"),
            Self::System | Self::Other => "[system]".to_owned(),
        }
    }
}

#[derive(Debug)]
struct Value {
    text: String,
    /// Index into the lines.
    line: usize,
}

/// The lines of a file as they are, and where the values are in them. Keys are in lower case.
#[derive(Debug, Default)]
struct Document {
    lines: Vec<String>,
    sections: BTreeMap<Section, BTreeMap<String, Value>>,
    /// Index of each section's last line with content, where new keys go after.
    ends: BTreeMap<Section, usize>,
}

impl Document {
    fn parse(text: &str, file: &Arc<Path>) -> Result<Self, RegistryError> {
        let mut document = Self { lines: text.lines().map(str::to_owned).collect(), ..Self::default() };
        let mut section = None;
        for (index, line) in text.lines().enumerate() {
            let location = || Location { file: file.clone(), line: index + 1 };
            let syntax = |expected| RegistryError::Syntax { location: location(), found: line.to_owned(), expected };
            // A byte order mark is what some editors put before the first line.
            let content = line.trim_start_matches('\u{feff}').trim();
            if content.is_empty() || content.starts_with(['#', ';']) {
                continue;
            }
            if let Some(header) = content.strip_prefix('[') {
                let name = header.strip_suffix(']').ok_or_else(|| syntax("a section header that ends with ']'"))?;
                let this = section_of(name.trim()).ok_or_else(|| syntax("[system] or [adapter NAME]"))?;
                document.ends.insert(this.clone(), index);
                section = Some(this);
                continue;
            }
            let (key, value) = content.split_once('=').ok_or_else(|| syntax("KEY = VALUE, [system], [adapter NAME] or a comment"))?;
            let (key, value) = (key.trim(), unquote(value.trim()));
            if key.is_empty() {
                return Err(syntax("a key before '='"));
            }
            let section = section.clone().ok_or_else(|| syntax("[system] or [adapter NAME] before the first key"))?;
            document.ends.insert(section.clone(), index);
            if section == Section::Other {
                continue;
            }
            match document.sections.entry(section).or_default().entry(key.to_ascii_lowercase()) {
                Entry::Vacant(entry) => {
                    entry.insert(Value { text: value.to_owned(), line: index });
                }
                Entry::Occupied(first) => {
                    let (key, found, first) = (key.to_owned(), value.to_owned(), first.get().line + 1);
                    return Err(RegistryError::Duplicate { location: location(), key, found, first });
                }
            }
        }
        Ok(document)
    }

    /// Returns whether anything is different now. Positions are kept right, for the next change.
    fn change(&mut self, section: &Section, name: &str, value: Option<u32>) -> bool {
        let key = name.to_ascii_lowercase();
        let old = self.sections.get(section).and_then(|keys| keys.get(&key));
        match (old, value) {
            (None, None) => false,
            (Some(old), Some(value)) if old.text == value.to_string() => false,
            (Some(old), Some(value)) => {
                let line = old.line;
                self.lines[line] = format!("{name} = {value}");
                self.put(section, key, value, line);
                true
            }
            (Some(old), None) => {
                let line = old.line;
                self.lines.remove(line);
                if let Some(keys) = self.sections.get_mut(section) {
                    keys.remove(&key);
                }
                self.shift(|index| if index > line { index - 1 } else { index });
                // The section's last line may be the one that went: what stands before it belongs to the section, its header at the least.
                if let Some(end) = self.ends.get_mut(section) {
                    *end = if *end == line { line - 1 } else { *end };
                }
                true
            }
            (None, Some(value)) => {
                let line = if let Some(&end) = self.ends.get(section) {
                    end + 1
                } else {
                    if self.lines.last().is_some_and(|last| !last.trim().is_empty()) {
                        self.lines.push(String::new());
                    }
                    self.lines.push(section.header());
                    self.lines.len()
                };
                self.lines.insert(line, format!("{name} = {value}"));
                self.shift(|index| if index >= line { index + 1 } else { index });
                self.ends.insert(section.clone(), line);
                self.put(section, key, value, line);
                true
            }
        }
    }

    fn put(&mut self, section: &Section, key: String, value: u32, line: usize) {
        self.sections.entry(section.clone()).or_default().insert(key, Value { text: value.to_string(), line });
    }

    fn shift(&mut self, to: impl Fn(usize) -> usize) {
        let values = self.sections.values_mut().flat_map(BTreeMap::values_mut).map(|value| &mut value.line);
        for index in values.chain(self.ends.values_mut()) {
            *index = to(*index);
        }
    }

    fn text(&self) -> String {
        self.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }
}

fn section_of(name: &str) -> Option<Section> {
    let (kind, rest) = name.split_once(char::is_whitespace).unwrap_or((name, ""));
    match (kind.to_ascii_lowercase().as_str(), rest.trim()) {
        ("system", "") => Some(Section::System),
        ("adapter", name) if check_adapter(name).is_ok() => Some(Section::Adapter(name.to_owned())),
        ("system" | "adapter" | "", _) => None,
        _ => Some(Section::Other),
    }
}

fn unquote(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}
