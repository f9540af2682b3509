//! The key that secrets are sealed with: 32 random octets in a file of their own, which is to be backed up apart from the
//! database. Sealed is with ChaCha20-Poly1305 (RFC 8439), bound to the name of the secret, so that one cannot be put in the
//! place of another:
//!
//! ```text
//! version u8 = 1 ┆ nonce 12 octets, random ┆ ciphertext ┆ tag 16 octets
//! ```

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::Context as _;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

const OCTETS: usize = 32;
const VERSION: u8 = 1;

/// See the module.
#[derive(Debug)]
pub(crate) struct SealingKey(LessSafeKey);

impl SealingKey {
    /// Reads the file; `None` where there is none.
    ///
    /// # Errors
    /// When it cannot be read, or holds something else.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Option<SealingKey>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("secrets key {}", path.display())),
        };
        let mut octets = Vec::new();
        let read = file.take(OCTETS as u64 + 1).read_to_end(&mut octets);
        read.with_context(|| format!("secrets key {}", path.display()))?;
        let expected = || format!("secrets key {}: expected a file of {OCTETS} octets", path.display());
        let octets: [u8; OCTETS] = octets.try_into().ok().with_context(expected)?;
        SealingKey::of(&octets).map(Some)
    }

    /// Makes the file, which nobody else may read: it is there whole, on disk, or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn make(path: &Path) -> anyhow::Result<SealingKey> {
        let octets = random::<OCTETS>()?;
        write_whole(path, &octets).with_context(|| format!("secrets key {}", path.display()))?;
        SealingKey::of(&octets)
    }

    fn of(octets: &[u8; OCTETS]) -> anyhow::Result<SealingKey> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, octets).ok().context("secrets key")?;
        Ok(SealingKey(LessSafeKey::new(key)))
    }

    /// Seals a secret.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(crate) fn seal(&self, name: &str, secret: &[u8]) -> anyhow::Result<Vec<u8>> {
        let nonce = random::<NONCE_LEN>()?;
        let mut sealed = vec![VERSION];
        sealed.extend_from_slice(&nonce);
        let mut ciphertext = secret.to_vec();
        let (nonce, bound_to) = (Nonce::assume_unique_for_key(nonce), Aad::from(name));
        let done = self.0.seal_in_place_append_tag(nonce, bound_to, &mut ciphertext);
        done.ok().context("sealing a secret")?;
        sealed.extend_from_slice(&ciphertext);
        Ok(sealed)
    }

    /// Opens what was sealed under the same name; `None` when it was not, by this key.
    pub(crate) fn open(&self, name: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (&VERSION, rest) = sealed.split_first()? else { return None };
        let (&nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>()?;
        let mut octets = ciphertext.to_vec();
        let (nonce, bound_to) = (Nonce::assume_unique_for_key(nonce), Aad::from(name));
        self.0.open_in_place(nonce, bound_to, &mut octets).ok().map(|secret| secret.to_vec())
    }
}

/// Octets that nobody can guess.
///
/// # Errors
/// When the system has none.
pub(crate) fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).context("random octets from the system")?;
    Ok(octets)
}

fn write_whole(path: &Path, octets: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let unfinished = folder.join(format!("{}.new", name.to_string_lossy()));
    // One that was left by a start that did not come to its end may have another mode.
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(octets)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    File::open(folder)?.sync_all()
}
