//! Provider over [`mbcrypto`]: AES-GCM and AES-GMAC on many packets at once; everything else is aws-lc's.
//!
//! A kernel takes a batch's jobs as they are ([`mbcrypto::Seal`] and its like are implemented on them), leaves those alone that
//! are not for it, and only if there are such is there a second pass. What it leaves:
//!
//! - suites that it has not, for aws-lc, one packet after the other;
//! - AES-GMAC in ESP (RFC 4543), which authenticates the text, too: these are gathered into messages of three parts, for the kernel;
//! - keys of the portable path, which knows no batches.

use core::fmt;
use core::hash::{Hash, Hasher};
use std::sync::LazyLock;

use arrayvec::ArrayVec;
use mbcrypto::{AadParts, Authenticate, Kernel, MacParts, Nonce as KernelNonce, Open, OpenParts, Path, Seal, SealParts, Text};
use secret::ct_eq;
use zeroize::Zeroize;

use crate::aad::{Aad, Nonce};
use crate::algorithm::{Authentication, Encryption};
use crate::aws_lc::{AwsLcAuthKey, AwsLcKey};
use crate::combined::{self, CombinedJob, CombinedParts};
use crate::provider::{AuthJob, BATCH, Data, Icv, OpenJob, Provider, Scratch, SealJob, Verdict};
use crate::suite::{KeyError, KeyParameters, check_auth_key};

/// mbcrypto for AES-GCM and AES-GMAC, [`AwsLc`](crate::AwsLc) for the rest.
#[derive(Clone, Copy)]
pub struct MbCrypto(Kernel);

impl MbCrypto {
    /// Its name among providers.
    pub const NAME: &'static str = "mbcrypto";

    /// With the fastest instructions of this processor.
    pub fn best() -> Self {
        static BEST: LazyLock<Kernel> = LazyLock::new(Kernel::best);
        Self(*BEST)
    }

    /// With those of `path`; `None` where the processor lacks some.
    pub fn new(path: Path) -> Option<Self> {
        Kernel::new(path).map(Self)
    }

    /// The instructions that it works with.
    pub const fn path(self) -> Path {
        self.0.path()
    }

    /// The name of the provider with this path.
    pub(crate) const fn name_with(path: Path) -> &'static str {
        match path {
            Path::Avx512 => "mbcrypto:avx512",
            Path::Avx2 => "mbcrypto:avx2",
            Path::AesNi => "mbcrypto:aes-ni",
            Path::Portable => "mbcrypto:portable",
        }
    }

    /// [`Provider::seal`], of keys that may be others'.
    #[inline]
    pub(crate) fn seal_mixed<K: MixedKey>(self, jobs: &mut [SealJob<'_, K>]) {
        if self.path() == Path::Portable {
            return seal_singly(jobs);
        }
        if !self.0.seal(jobs) && jobs.iter().any(|job| job.verdict == Verdict::Pending) {
            self.seal_rest(jobs);
        }
    }

    #[cold]
    fn seal_rest<K: MixedKey>(self, jobs: &mut [SealJob<'_, K>]) {
        for jobs in jobs.chunks_mut(BATCH) {
            let mut tags = [None; BATCH];
            let mut places = tags.iter_mut();
            let mut messages = ArrayVec::<_, BATCH>::new();
            for job in jobs.iter_mut().filter(|job| job.verdict == Verdict::Pending) {
                match job.key.gmac() {
                    None => {
                        let success = job.key.seal(&job.nonce, &job.aad, &mut job.data, job.tag);
                        job.conclude(success);
                    }
                    Some(_) if job.tag.len() != ICV_LENGTH || job.data.carry_over().is_none() => job.conclude(false),
                    Some(key) => messages.extend(places.next().map(|place| Message::new(key, &job.nonce, &job.aad, &job.data, place))),
                }
            }
            self.0.authenticate(&mut messages);
            drop(messages);
            for (job, tag) in jobs.iter_mut().filter(|job| job.verdict == Verdict::Pending).zip(&tags) {
                let success = tag.as_ref().is_some_and(|tag| put(job.tag, tag));
                job.conclude(success);
            }
        }
    }

    /// [`Provider::seal_combined`], of keys that may be others': those go as jobs of any kind.
    #[inline]
    pub(crate) fn seal_combined_mixed<P: Provider, M>(self, provider: &P, jobs: &mut [CombinedJob<'_, P::Key, M>]) -> bool
    where
        P::Key: MixedKey,
    {
        self.path() != Path::Portable && self.0.seal(jobs) || combined::seal_rest(provider, jobs)
    }

    /// [`Provider::open_combined`], likewise.
    #[inline]
    pub(crate) fn open_combined_mixed<P: Provider, M>(self, provider: &P, jobs: &mut [CombinedJob<'_, P::Key, M>], scratch: &mut Scratch) -> bool
    where
        P::Key: MixedKey,
    {
        self.path() != Path::Portable && self.0.open(jobs) || combined::open_rest(provider, jobs, scratch)
    }

    /// [`Provider::open`], of keys that may be others'.
    #[inline]
    pub(crate) fn open_mixed<K: MixedKey>(self, jobs: &mut [OpenJob<'_, K>], scratch: &mut Scratch) {
        if self.path() == Path::Portable {
            return open_singly(jobs, scratch);
        }
        if !self.0.open(jobs) && jobs.iter().any(|job| job.verdict == Verdict::Pending) {
            self.open_rest(jobs, scratch);
        }
    }

    #[cold]
    fn open_rest<K: MixedKey>(self, jobs: &mut [OpenJob<'_, K>], scratch: &mut Scratch) {
        for jobs in jobs.chunks_mut(BATCH) {
            let mut tags = [None; BATCH];
            let mut places = tags.iter_mut();
            let mut messages = ArrayVec::<_, BATCH>::new();
            for job in jobs.iter_mut().filter(|job| job.verdict == Verdict::Pending) {
                match job.key.gmac() {
                    None => job.verdict = Verdict::from_success(job.key.open(&job.nonce, &job.aad, &mut job.data, job.tag, scratch)),
                    Some(key) => messages.extend(places.next().map(|place| Message::new(key, &job.nonce, &job.aad, &job.data, place))),
                }
            }
            self.0.authenticate(&mut messages);
            drop(messages);
            for (job, tag) in jobs.iter_mut().filter(|job| job.verdict == Verdict::Pending).zip(&mut tags) {
                let good = verify(tag, job.tag, &mut job.data);
                job.verdict = Verdict::from_success(good);
            }
        }
    }

    /// [`Provider::authenticate`], of keys that may be others'.
    #[inline]
    pub(crate) fn authenticate_mixed<K: MixedAuthKey>(self, jobs: &mut [AuthJob<'_, K>]) {
        if self.path() == Path::Portable {
            return authenticate_singly(jobs);
        }
        self.0.authenticate(jobs);
        for job in jobs.iter_mut().filter(|job| job.key.gmac().is_none()) {
            job.icv = job.key.icv(&job.nonce, job.parts);
        }
    }
}

/// [`Provider::seal`] without batches: each job by its key's library, in the order of jobs.
pub(crate) fn seal_singly<K: MixedKey>(jobs: &mut [SealJob<'_, K>]) {
    for job in jobs {
        let success = job.key.seal(&job.nonce, &job.aad, &mut job.data, job.tag);
        job.conclude(success);
    }
}

/// [`Provider::open`], likewise.
pub(crate) fn open_singly<K: MixedKey>(jobs: &mut [OpenJob<'_, K>], scratch: &mut Scratch) {
    for job in jobs {
        job.verdict = Verdict::from_success(job.key.open(&job.nonce, &job.aad, &mut job.data, job.tag, scratch));
    }
}

/// [`Provider::authenticate`], likewise.
pub(crate) fn authenticate_singly<K: MixedAuthKey>(jobs: &mut [AuthJob<'_, K>]) {
    for job in jobs {
        job.icv = job.key.icv(&job.nonce, job.parts);
    }
}

/// Equal if they work alike.
impl PartialEq for MbCrypto {
    fn eq(&self, other: &Self) -> bool {
        self.path() == other.path()
    }
}

impl Eq for MbCrypto {}

impl Hash for MbCrypto {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.path().name().hash(state);
    }
}

impl fmt::Debug for MbCrypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MbCrypto({})", self.path())
    }
}

/// A key of [`MbCrypto`] for ESP.
pub struct MbCryptoKey(Kind);

/// Boxed, as a key would be of any library that keeps its state on the heap: it takes little room beside what else is looked at of an SA.
enum Kind {
    /// AES-GCM, on any path but the portable one; these share their keys.
    Gcm(Kernel, Box<mbcrypto::Key>),
    /// AES-GMAC, likewise.
    Gmac(Kernel, Box<mbcrypto::Key>),
    PortableGcm(Kernel, Box<mbcrypto::Key>),
    PortableGmac(Kernel, Box<mbcrypto::Key>),
    AwsLc(AwsLcKey),
}

const ICV_LENGTH: usize = 16;

type Tag = [u8; ICV_LENGTH];

impl MbCryptoKey {
    pub(crate) fn new(MbCrypto(kernel): MbCrypto, parameters: &KeyParameters<'_>) -> Result<Self, KeyError> {
        parameters.check()?;
        let &KeyParameters { encryption, encryption_key, authentication, authentication_key, icv_length } = parameters;
        // A length that was checked cannot be refused.
        let expand = |key: &[u8]| kernel.boxed_key(key, icv_length).map_err(|_| failure(encryption, authentication));
        let portable = kernel.path() == Path::Portable;
        Ok(Self(match (encryption, authentication) {
            (Encryption::AesGcm(_), _) if portable => Kind::PortableGcm(kernel, expand(encryption_key)?),
            (Encryption::AesGcm(_), _) => Kind::Gcm(kernel, expand(encryption_key)?),
            (_, Authentication::AesGmac(_)) if portable => Kind::PortableGmac(kernel, expand(authentication_key)?),
            (_, Authentication::AesGmac(_)) => Kind::Gmac(kernel, expand(authentication_key)?),
            _ => Kind::AwsLc(AwsLcKey::new(parameters)?),
        }))
    }
}

impl fmt::Debug for MbCryptoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MbCryptoKey")
    }
}

fn failure(encryption: Encryption, authentication: Authentication) -> KeyError {
    KeyError::Library { provider: MbCrypto::NAME, encryption, authentication }
}

/// A key that may be for a kernel's batches, and can in any case do one packet by itself.
pub(crate) trait MixedKey {
    /// Its AES-GCM, if it is for batches of any path but the portable one.
    fn gcm(&self) -> Option<&mbcrypto::Key>;

    /// Its AES-GMAC, likewise.
    fn gmac(&self) -> Option<&mbcrypto::Key>;

    /// Whether the job could be done; the output is not to be used otherwise.
    fn seal(&self, nonce: &Nonce, aad: &Aad, data: &mut Data<'_>, tag: &mut [u8]) -> bool;

    /// Whether the packet is authentic. If not, data in place is as it was and the destination of a copy zero.
    fn open(&self, nonce: &Nonce, aad: &Aad, data: &mut Data<'_>, tag: &[u8], scratch: &mut Scratch) -> bool;
}

impl MixedKey for MbCryptoKey {
    #[inline]
    fn gcm(&self) -> Option<&mbcrypto::Key> {
        if let Kind::Gcm(_, key) = &self.0 { Some(key) } else { None }
    }

    #[inline]
    fn gmac(&self) -> Option<&mbcrypto::Key> {
        if let Kind::Gmac(_, key) = &self.0 { Some(key) } else { None }
    }

    fn seal(&self, nonce: &Nonce, aad: &Aad, data: &mut Data<'_>, tag: &mut [u8]) -> bool {
        match &self.0 {
            Kind::Gcm(kernel, key) | Kind::PortableGcm(kernel, key) => {
                let mut job = [Single { key, nonce: nonce.for_kernel(), aad: aad.as_bytes(), data, tag, good: false }];
                kernel.seal(&mut job);
                job[0].good
            }
            Kind::Gmac(kernel, key) | Kind::PortableGmac(kernel, key) => {
                if tag.len() != ICV_LENGTH || data.carry_over().is_none() {
                    return false;
                }
                let mut made = None;
                kernel.authenticate(&mut [Message::new(key, nonce, aad, data, &mut made)]);
                made.is_some_and(|made| put(tag, &made))
            }
            Kind::AwsLc(key) => key.seal(nonce, aad, data, tag),
        }
    }

    fn open(&self, nonce: &Nonce, aad: &Aad, data: &mut Data<'_>, tag: &[u8], scratch: &mut Scratch) -> bool {
        match &self.0 {
            Kind::Gcm(kernel, key) | Kind::PortableGcm(kernel, key) => {
                let mut job = [Single { key, nonce: nonce.for_kernel(), aad: aad.as_bytes(), data, tag, good: false }];
                kernel.open(&mut job);
                job[0].good
            }
            Kind::Gmac(kernel, key) | Kind::PortableGmac(kernel, key) => {
                let mut made = None;
                kernel.authenticate(&mut [Message::new(key, nonce, aad, data, &mut made)]);
                verify(&mut made, tag, data)
            }
            Kind::AwsLc(key) => key.open(nonce, aad, data, tag, scratch),
        }
    }
}

/// A job of its own; `T` is a tag to make, or one to check.
struct Single<'a, 'd, T> {
    key: &'a mbcrypto::Key,
    nonce: KernelNonce,
    aad: &'a [u8],
    data: &'a mut Data<'d>,
    tag: T,
    good: bool,
}

impl Seal for Single<'_, '_, &mut [u8]> {
    fn parts(&mut self) -> Option<SealParts<'_>> {
        Some(SealParts { key: self.key, nonce: self.nonce, aad: AadParts::Bytes(self.aad), text: self.data.text(), tag: self.tag })
    }

    fn conclude(&mut self, good: bool) {
        self.good = good;
    }
}

impl Open for Single<'_, '_, &[u8]> {
    fn parts(&mut self) -> Option<OpenParts<'_>> {
        Some(OpenParts { key: self.key, nonce: self.nonce, aad: AadParts::Bytes(self.aad), text: self.data.text(), tag: self.tag })
    }

    fn conclude(&mut self, good: bool) {
        self.good = good;
    }
}

/// A packet of ESP with AES-GMAC: nothing is encrypted, and everything authenticated (RFC 4543 section 3.3).
struct Message<'a> {
    key: &'a mbcrypto::Key,
    nonce: &'a [u8; 12],
    parts: [&'a [u8]; 3],
    tag: &'a mut Option<Tag>,
}

impl<'a> Message<'a> {
    #[inline]
    fn new(key: &'a mbcrypto::Key, nonce: &'a Nonce, aad: &'a Aad, data: &'a Data<'_>, tag: &'a mut Option<Tag>) -> Self {
        Self { key, nonce: nonce.first(), parts: [aad.prefix(), data.input(), aad.suffix()], tag }
    }
}

impl Authenticate for Message<'_> {
    #[inline]
    fn parts(&self) -> Option<MacParts<'_>> {
        Some(MacParts { key: self.key, nonce: self.nonce, data: &self.parts })
    }

    #[inline]
    fn conclude(&mut self, tag: Option<&Tag>) {
        *self.tag = tag.copied();
    }
}

/// False, and nothing written, if there is not just the place for it.
fn put(place: &mut [u8], tag: &Tag) -> bool {
    <&mut Tag>::try_from(place).map(|place| *place = *tag).is_ok()
}

/// Compares in constant time; then the text is taken over, or what there is of a copy wiped, and the tag that it should have had.
fn verify(made: &mut Option<Tag>, received: &[u8], data: &mut Data<'_>) -> bool {
    let good = made.as_ref().is_some_and(|made| ct_eq(made, received)) && data.carry_over().is_some();
    if !good {
        data.wipe_copy();
        made.zeroize();
    }
    good
}

impl Data<'_> {
    /// As the kernels call it.
    #[inline(always)]
    fn text(&mut self) -> Text<'_> {
        match self {
            Self::InPlace(data) => Text::InPlace(data),
            Self::Copy { src, dst } => Text::Copy { src, dst },
        }
    }
}

impl<K: MixedKey> Seal for SealJob<'_, K> {
    #[inline(always)]
    fn parts(&mut self) -> Option<SealParts<'_>> {
        let Some(key) = self.key.gcm() else {
            // Whatever an earlier call has left: what is pending now is for the second pass.
            self.verdict = Verdict::Pending;
            return None;
        };
        Some(SealParts { key, nonce: self.nonce.for_kernel(), aad: AadParts::Bytes(self.aad.as_bytes()), text: self.data.text(), tag: self.tag })
    }

    #[inline(always)]
    fn conclude(&mut self, good: bool) {
        self.verdict = Verdict::from_success(good);
    }
}

impl<K: MixedKey> Open for OpenJob<'_, K> {
    #[inline(always)]
    fn parts(&mut self) -> Option<OpenParts<'_>> {
        let Some(key) = self.key.gcm() else {
            self.verdict = Verdict::Pending;
            return None;
        };
        Some(OpenParts { key, nonce: self.nonce.for_kernel(), aad: AadParts::Bytes(self.aad.as_bytes()), text: self.data.text(), tag: self.tag })
    }

    #[inline(always)]
    fn conclude(&mut self, good: bool) {
        self.verdict = Verdict::from_success(good);
    }
}

impl<K: MixedKey, M> Seal for CombinedJob<'_, K, M> {
    #[inline(always)]
    fn parts(&mut self) -> Option<SealParts<'_>> {
        // Whatever an earlier call has left.
        self.verdict = Verdict::Pending;
        let CombinedParts { key, salt, header, iv, high, text, icv } = self.seal_parts()?;
        let (nonce, aad) = (KernelNonce::salted(salt, iv), AadParts::Esp { header, high });
        Some(SealParts { key: key.gcm()?, nonce, aad, text: Text::InPlace(text), tag: icv })
    }

    #[inline(always)]
    fn conclude(&mut self, good: bool) {
        self.verdict = Verdict::from_success(good);
    }
}

impl<K: MixedKey, M> Open for CombinedJob<'_, K, M> {
    #[inline(always)]
    fn parts(&mut self) -> Option<OpenParts<'_>> {
        // Whatever an earlier call has left.
        self.verdict = Verdict::Pending;
        let CombinedParts { key, salt, header, iv, high, text, icv } = self.open_parts()?;
        let (nonce, aad) = (KernelNonce::salted(salt, iv), AadParts::Esp { header, high });
        Some(OpenParts { key: key.gcm()?, nonce, aad, text: Text::InPlace(text), tag: icv })
    }

    #[inline(always)]
    fn conclude(&mut self, good: bool) {
        self.verdict = Verdict::from_success(good);
    }
}

/// A key of [`MbCrypto`] for AH.
pub struct MbCryptoAuthKey(AuthKind);

enum AuthKind {
    Gmac(Kernel, Box<mbcrypto::Key>),
    PortableGmac(Kernel, Box<mbcrypto::Key>),
    AwsLc(AwsLcAuthKey),
}

impl MbCryptoAuthKey {
    pub(crate) fn new(MbCrypto(kernel): MbCrypto, algorithm: Authentication, key: &[u8]) -> Result<Self, KeyError> {
        check_auth_key(algorithm, key)?;
        if !matches!(algorithm, Authentication::AesGmac(_)) {
            return AwsLcAuthKey::new(algorithm, key).map(AuthKind::AwsLc).map(Self);
        }
        let key = kernel.boxed_key(key, ICV_LENGTH).map_err(|_| failure(Encryption::Null, algorithm))?;
        Ok(Self(if kernel.path() == Path::Portable { AuthKind::PortableGmac(kernel, key) } else { AuthKind::Gmac(kernel, key) }))
    }
}

impl fmt::Debug for MbCryptoAuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MbCryptoAuthKey")
    }
}

/// As [`MixedKey`], for AH.
pub(crate) trait MixedAuthKey {
    /// Its AES-GMAC, if it is for batches of any path but the portable one.
    fn gmac(&self) -> Option<&mbcrypto::Key>;

    /// The ICV of one packet.
    fn icv(&self, nonce: &[u8; 12], parts: [&[u8]; 3]) -> Icv;
}

impl MixedAuthKey for MbCryptoAuthKey {
    #[inline]
    fn gmac(&self) -> Option<&mbcrypto::Key> {
        if let AuthKind::Gmac(_, key) = &self.0 { Some(key) } else { None }
    }

    fn icv(&self, nonce: &[u8; 12], parts: [&[u8]; 3]) -> Icv {
        match &self.0 {
            AuthKind::Gmac(kernel, key) | AuthKind::PortableGmac(kernel, key) => {
                let mut made = None;
                kernel.authenticate(&mut [Message { key, nonce, parts, tag: &mut made }]);
                made.map_or_else(Icv::default, |tag| Icv::cut(&tag, ICV_LENGTH))
            }
            AuthKind::AwsLc(key) => key.icv(nonce, parts),
        }
    }
}

impl<K: MixedAuthKey> Authenticate for AuthJob<'_, K> {
    #[inline]
    fn parts(&self) -> Option<MacParts<'_>> {
        Some(MacParts { key: self.key.gmac()?, nonce: &self.nonce, data: &self.parts })
    }

    #[inline]
    fn conclude(&mut self, tag: Option<&Tag>) {
        self.icv = tag.map_or_else(Icv::default, |tag| Icv::cut(tag, ICV_LENGTH));
    }
}

impl Provider for MbCrypto {
    type Key = MbCryptoKey;
    type AuthKey = MbCryptoAuthKey;

    fn name(&self) -> &'static str {
        if *self == Self::best() { Self::NAME } else { Self::name_with(self.path()) }
    }

    fn key(&self, parameters: &KeyParameters<'_>) -> Result<Self::Key, KeyError> {
        MbCryptoKey::new(*self, parameters)
    }

    fn auth_key(&self, algorithm: Authentication, key: &[u8]) -> Result<Self::AuthKey, KeyError> {
        MbCryptoAuthKey::new(*self, algorithm, key)
    }

    fn seal(&self, jobs: &mut [SealJob<'_, Self::Key>]) {
        self.seal_mixed(jobs);
    }

    fn open(&self, jobs: &mut [OpenJob<'_, Self::Key>], scratch: &mut Scratch) {
        self.open_mixed(jobs, scratch);
    }

    fn seal_combined<M>(&self, jobs: &mut [CombinedJob<'_, Self::Key, M>]) -> bool {
        self.seal_combined_mixed(self, jobs)
    }

    fn open_combined<M>(&self, jobs: &mut [CombinedJob<'_, Self::Key, M>], scratch: &mut Scratch) -> bool {
        self.open_combined_mixed(self, jobs, scratch)
    }

    fn authenticate(&self, jobs: &mut [AuthJob<'_, Self::AuthKey>]) {
        self.authenticate_mixed(jobs);
    }
}
