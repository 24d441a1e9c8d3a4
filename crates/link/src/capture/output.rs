//! Where a capture is written to: standard output, a pipe, or a file that appears under its name when it is complete.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Stdout, Write};
use std::path::{Path, PathBuf};

/// A file or standard output: what [`CaptureWriter::create`](super::CaptureWriter::create) writes to, and what else is to appear beside a capture.
///
/// An ordinary file is written beside its place under a temporary name, and takes its place when it is finished: a run that fails leaves what was
/// there before, and nobody reads half a file. If it is dropped unfinished, the temporary file is removed. Pipes and devices are written as it comes.
#[derive(Debug)]
pub struct CaptureOutput(Target);

#[derive(Debug)]
enum Target {
    Stdout(Stdout),
    Stream(File),
    File { file: File, temporary: PathBuf, place: PathBuf, finished: bool },
}

/// How many temporary names are tried: others are left over from runs that were killed.
const ATTEMPTS: u32 = 100;

impl CaptureOutput {
    /// Opens `path`; `-` is standard output. If `private`, an ordinary file is readable and writable by its owner only, from its first byte on, whatever
    /// mode a file had that is there now (on Unix); otherwise it keeps the mode of the file that is there now, if there is one.
    ///
    /// # Errors
    /// The system's, if it cannot be created or written to.
    pub fn create(path: &Path, private: bool) -> io::Result<Self> {
        if path.as_os_str() == "-" {
            return Ok(Self(Target::Stdout(io::stdout())));
        }
        let (place, permissions) = match fs::metadata(path) {
            Ok(there) if !there.is_file() => return Ok(Self(Target::Stream(OpenOptions::new().write(true).open(path)?))),
            Ok(there) => {
                // Taking its place needs no permission to write to it: ask for that first.
                OpenOptions::new().write(true).open(path)?;
                (path.canonicalize()?, Some(there.permissions()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (path.to_owned(), None),
            Err(error) => return Err(error),
        };
        let (file, temporary) = temporary(&place, private)?;
        let output = Self(Target::File { file, temporary, place, finished: false });
        if let (Some(permissions), false, Target::File { file, .. }) = (permissions, private, &output.0) {
            file.set_permissions(permissions)?;
        }
        Ok(output)
    }

    /// Puts a file into its place.
    ///
    /// # Errors
    /// The system's. The temporary file is removed then.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        if let Target::File { temporary, place, finished, .. } = &mut self.0 {
            fs::rename(&*temporary, &*place)?;
            *finished = true;
        }
        Ok(())
    }
}

impl Write for CaptureOutput {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Target::Stdout(stdout) => stdout.write(buf),
            Target::Stream(file) | Target::File { file, .. } => file.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Target::Stdout(stdout) => stdout.flush(),
            Target::Stream(file) | Target::File { file, .. } => file.flush(),
        }
    }
}

impl Drop for CaptureOutput {
    fn drop(&mut self) {
        if let Target::File { temporary, finished: false, .. } = &self.0 {
            // Nothing can be done about it if that fails, and the name says what it is.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// A new file in the directory of `place`.
fn temporary(place: &Path, private: bool) -> io::Result<(File, PathBuf)> {
    let name = place.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"))?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if private {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = private;
    let mut attempt = 0;
    loop {
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}-{attempt}.part", std::process::id()));
        let path = place.with_file_name(temporary);
        match options.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < ATTEMPTS => attempt += 1,
            result => return result.map(|file| (file, path)),
        }
    }
}

/// Whether both paths lead to the same file, so that writing one would destroy the other. `-` and what does not exist are the same as nothing.
///
/// # Errors
/// The system's, for a path that exists and cannot be examined.
pub fn is_same_file(left: &Path, right: &Path) -> io::Result<bool> {
    let canonical = |path: &Path| match path.canonicalize() {
        Ok(canonical) => Ok(Some(canonical)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    if left.as_os_str() == "-" || right.as_os_str() == "-" {
        return Ok(false);
    }
    let (Some(left), Some(right)) = (canonical(left)?, canonical(right)?) else { return Ok(false) };
    if left == right {
        return Ok(left.is_file());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let (left, right) = (fs::metadata(left)?, fs::metadata(right)?);
        Ok(left.is_file() && (left.dev(), left.ino()) == (right.dev(), right.ino()))
    }
    #[cfg(not(unix))]
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(directory: &Path) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn a_file_appears_when_it_is_finished() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.pcap");
        fs::write(&path, "old").unwrap();
        let mut output = CaptureOutput::create(&path, false).unwrap();
        output.write_all(b"unfinished").unwrap();
        assert_eq!((fs::read(&path).unwrap(), entries(directory.path())), (b"old".to_vec(), 2));
        drop(output);
        assert_eq!((fs::read(&path).unwrap(), entries(directory.path())), (b"old".to_vec(), 1));
        let mut output = CaptureOutput::create(&path, false).unwrap();
        output.write_all(b"new").unwrap();
        output.finish().unwrap();
        assert_eq!((fs::read(&path).unwrap(), entries(directory.path())), (b"new".to_vec(), 1));
        assert!(CaptureOutput::create(&directory.path().join("missing/out.pcap"), false).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn private_files_are_the_owners_and_others_keep_their_mode() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.pcapng");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        CaptureOutput::create(&path, true).unwrap().finish().unwrap();
        assert_eq!(mode(&path), 0o600);
        // Also in the place of one that all could read, and while it is being written.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let output = CaptureOutput::create(&path, true).unwrap();
        let Target::File { temporary, .. } = &output.0 else { panic!("{output:?}") };
        assert_eq!(mode(temporary), 0o600);
        output.finish().unwrap();
        assert_eq!(mode(&path), 0o600);
        for kept in [0o600, 0o664] {
            fs::set_permissions(&path, fs::Permissions::from_mode(kept)).unwrap();
            CaptureOutput::create(&path, false).unwrap().finish().unwrap();
            assert_eq!(mode(&path), kept);
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_links_and_name_the_same_file() {
        let directory = tempfile::tempdir().unwrap();
        let (path, symbolic, hard) = (directory.path().join("a"), directory.path().join("b"), directory.path().join("c"));
        fs::write(&path, "old").unwrap();
        std::os::unix::fs::symlink(&path, &symbolic).unwrap();
        fs::hard_link(&path, &hard).unwrap();
        for other in [&path, &symbolic, &hard] {
            assert!(is_same_file(&path, other).unwrap() && is_same_file(other, &path).unwrap(), "{other:?}");
        }
        assert!(!is_same_file(&path, &directory.path().join("d")).unwrap());
        assert!(!is_same_file(Path::new("-"), Path::new("-")).unwrap());
        assert!(!is_same_file(Path::new("/dev/null"), Path::new("/dev/null")).unwrap());
        let mut output = CaptureOutput::create(&symbolic, false).unwrap();
        output.write_all(b"new").unwrap();
        output.finish().unwrap();
        assert!(symbolic.is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"new");
        CaptureOutput::create(Path::new("/dev/null"), true).unwrap().finish().unwrap();
    }
}
