//! The guest: a Linux kernel in QEMU's software emulation, a wire to it and a way to run shell scripts in it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use packet::MacAddress;

/// The guest's interface.
pub(crate) const GUEST_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);

/// How long it may take to boot: 4 s on an idle machine.
const BOOT: Duration = Duration::from_mins(2);
/// Longest answer to a script.
const MAX_OUTPUT: usize = 1 << 20;

/// What a script came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u32,
    pub(crate) output: String,
}

/// A running guest. It ends with this process, however that ends.
pub(crate) struct Guest {
    /// What the kernel is called, and the package that it comes from.
    pub(crate) version: String,
    qemu: Child,
    wire: UnixDatagram,
    far: PathBuf,
    errands: UnixStream,
    /// Of the answer that is on its way.
    answer: Vec<u8>,
    console: PathBuf,
    started: Instant,
    _directory: tempfile::TempDir,
}

/// Where the image is: `scripts/linux-peer` builds it, `IPSECOV2_LINUX_PEER` names it. Without it, or without QEMU, says what is missing.
pub(crate) fn image() -> Result<PathBuf, &'static str> {
    let image = std::env::var_os("IPSECOV2_LINUX_PEER").map(PathBuf::from).filter(|image| image.join("vmlinuz").exists());
    let qemu = Command::new("qemu-system-x86_64").arg("--version").output().is_ok_and(|output| output.status.success());
    match image {
        Some(image) if qemu => Ok(image),
        Some(_) => Err("qemu-system-x86_64"),
        None => Err("a Linux peer (IPSECOV2_LINUX_PEER, scripts/linux-peer)"),
    }
}

impl Guest {
    /// Boots the guest and waits until it takes scripts.
    pub(crate) fn boot(image: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let listener = UnixListener::bind(path("errands")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let wire = UnixDatagram::bind(path("host")).unwrap();
        let text = |name: &str| path(name).into_os_string().into_string().unwrap();
        // The shell ends QEMU when its input ends, which it does with this process. No KVM: where there is some it may not work, and speed is no matter.
        let mut qemu = Command::new("sh");
        qemu.args(["-c", r#"exec 3<&0; "$@" </dev/null & qemu=$!; exec 2>/dev/null; (read -r _ <&3; kill -9 $qemu) & wait $qemu"#, "sh"]);
        qemu.args(["qemu-system-x86_64", "-accel", "tcg", "-machine", "q35", "-m", "256", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        qemu.arg("-kernel").arg(image.join("vmlinuz")).arg("-initrd").arg(image.join("initramfs.gz"));
        // Self tests of algorithms would take most of the time: they come with every new SA.
        qemu.args(["-append", "console=ttyS0 quiet panic=-1 net.ifnames=0 mitigations=off cryptomgr.notests=1 rcupdate.rcu_expedited=1"]);
        qemu.arg("-serial").arg(format!("file:{}", text("console")));
        qemu.args(["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=errands,name=errands"]);
        qemu.arg("-chardev").arg(format!("socket,id=errands,path={}", text("errands")));
        qemu.arg("-netdev").arg(format!("dgram,id=wire,local.type=unix,local.path={},remote.type=unix,remote.path={}", text("guest"), text("host")));
        qemu.arg("-device").arg(format!("virtio-net-pci,netdev=wire,mac={GUEST_MAC}"));
        let mut qemu = qemu.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();

        let started = Instant::now();
        let errands = loop {
            match listener.accept() {
                Ok((errands, _)) => break errands,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
            assert!(started.elapsed() < BOOT, "QEMU does not connect");
            assert_eq!(qemu.try_wait().unwrap(), None, "QEMU ended");
            std::thread::sleep(Duration::from_millis(10));
        };
        errands.set_nonblocking(true).unwrap();
        let version = std::fs::read_to_string(image.join("version")).unwrap().trim().to_owned();
        let (far, console) = (path("guest"), path("console"));
        let mut guest = Self { version, qemu, wire, far, errands, answer: vec![], console, started, _directory: directory };
        // Its first word comes unasked.
        let hello = guest.wait(BOOT);
        assert_eq!(hello, Answer { status: 0, output: String::new() });
        guest
    }

    /// Time since it was started: the clock of the tests.
    pub(crate) fn now(&self) -> packet::Time {
        packet::Time::from_nanos(self.started.elapsed().as_nanos() as u64 + 1)
    }

    /// What the kernel and the guest's first process said.
    pub(crate) fn console(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    /// Begins to run a script; [`Guest::answer`] has what it comes to.
    pub(crate) fn begin(&mut self, script: &str) {
        let mut errand = (script.len() as u32).to_be_bytes().to_vec();
        errand.extend_from_slice(script.as_bytes());
        let mut rest = &errand[..];
        while !rest.is_empty() {
            match self.errands.write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(1)),
                Err(error) => panic!("the guest is gone: {error}: {}", self.console()),
            }
        }
    }

    /// The answer to the script that was begun, if it is there.
    pub(crate) fn answer(&mut self) -> Option<Answer> {
        let mut buffer = [0; 4096];
        loop {
            match self.errands.read(&mut buffer) {
                Ok(0) => panic!("the guest is gone: {}", self.console()),
                Ok(n) => self.answer.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("the guest is gone: {error}: {}", self.console()),
            }
        }
        let (head, rest) = self.answer.split_at_checked(8)?;
        let word = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
        let (status, length) = (word(0), word(4) as usize);
        assert!(length <= MAX_OUTPUT, "an answer of {length} bytes");
        let output = String::from_utf8_lossy(rest.get(..length)?).into_owned();
        self.answer.drain(..8 + length);
        Some(Answer { status, output })
    }

    /// Waits for the answer to the script that was begun, and leaves alone what the guest sends meanwhile.
    fn wait(&mut self, patience: Duration) -> Answer {
        let begun = Instant::now();
        loop {
            if let Some(answer) = self.answer() {
                return answer;
            }
            assert!(begun.elapsed() < patience, "the guest does not answer: {}", self.console());
            self.receive(Duration::from_millis(5));
        }
    }

    /// Runs a script that must succeed.
    pub(crate) fn run(&mut self, script: &str) -> String {
        self.begin(script);
        let answer = self.wait(Duration::from_mins(1));
        assert_eq!(answer.status, 0, "{script}\n{}\n{}", answer.output, self.console());
        answer.output
    }

    /// Puts a frame on the wire.
    pub(crate) fn send(&self, frame: &[u8]) {
        // A full socket is a full link.
        if let Err(error) = self.wire.send_to(frame, &self.far) {
            assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted), "the guest is gone: {error}: {}", self.console());
        }
    }

    /// The next frame from the guest, if one comes in time.
    pub(crate) fn receive(&self, patience: Duration) -> Option<Vec<u8>> {
        self.wire.set_read_timeout(Some(patience)).unwrap();
        let mut buffer = vec![0; 1 << 16];
        match self.wire.recv(&mut buffer) {
            Ok(n) => {
                buffer.truncate(n);
                Some(buffer)
            }
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted), "{error}");
                None
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.errands.shutdown(std::net::Shutdown::Both);
        drop(self.qemu.stdin.take());
        let _ = self.qemu.wait();
    }
}
