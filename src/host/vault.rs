//! The vault: secrets sealed in the store, open in this process's memory.
//!
//! Sealed with AES-256-GCM under a key that lies in a file of its own, so that a copy of the
//! database gives nothing away. A secret's name is sealed with it: rows cannot be swapped.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use base64::Engine as _;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest, Sha256};

use crate::{
    domain::{Millis, secret},
    store::{self, SealedSecret, Store},
};

/// First byte of everything that is sealed.
const FORM: u8 = 1;
/// Bytes of the key's hash that say which key sealed it.
const KEY_ID: usize = 8;
const HEAD: usize = 1 + KEY_ID + NONCE_LEN;

/// Why a secret was not sealed, opened or removed.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error(transparent)]
    Name(#[from] secret::NoName),
    #[error(transparent)]
    Value(#[from] secret::NoValue),
    #[error("there is no secret {0}")]
    Missing(String),
    /// The key file is not there, and secrets are that it sealed.
    #[error(
        "the key of the secrets is missing: bring back {0}, or remove all secrets and set them anew"
    )]
    NoKey(String),
    #[error("the key file of the secrets cannot be used: {0}")]
    KeyFile(String),
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// All secrets. Shared by the core, which hands them to scripts, and the API, which changes them.
pub(crate) struct Vault {
    store: Store,
    key_file: PathBuf,
    key: RwLock<Option<Arc<Key>>>,
    open: RwLock<BTreeMap<String, Entry>>,
    generation: AtomicU64,
}

/// A secret as the API shows it: everything but itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretInfo {
    pub name: String,
    pub created_at: Millis,
    pub updated_at: Millis,
    /// False when the key at hand does not open it.
    pub readable: bool,
}

struct Entry {
    info: SecretInfo,
    value: Option<Arc<str>>,
}

struct Key {
    id: [u8; KEY_ID],
    key: LessSafeKey,
}

impl Vault {
    /// Opens what the store has. The first start makes the key; a start without the key that sealed
    /// what is there goes on, and says so.
    pub(crate) async fn open(store: Store, key_file: PathBuf) -> Result<Self, VaultError> {
        let sealed = store.secrets().all().await?;
        let key = match read_key(&key_file)? {
            Some(key) => Some(key),
            None if sealed.is_empty() => Some(make_key(&key_file)?),
            None => None,
        };
        let key = key.map(Arc::new);
        let vault = Self {
            store,
            key_file,
            key: RwLock::new(key.clone()),
            open: RwLock::default(),
            generation: AtomicU64::new(0),
        };
        for secret in sealed {
            let value = key.as_ref().and_then(|key| key.open(&secret));
            if value.is_none() {
                tracing::error!(
                    secret = secret.name,
                    key_file = %vault.key_file.display(),
                    "a secret cannot be opened with the key at hand"
                );
            }
            vault.keep(secret.name, secret.created_at, secret.updated_at, value.map(Into::into));
        }
        Ok(vault)
    }

    /// What a script gets.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<str>> {
        self.entries().get(name).and_then(|entry| entry.value.clone())
    }

    /// Grows with every change: what was made of the secrets before is out of date.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// All but the secrets themselves.
    pub(crate) fn list(&self) -> Vec<SecretInfo> {
        self.entries().values().map(|entry| entry.info.clone()).collect()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries().contains_key(name)
    }

    pub(crate) async fn set(&self, name: &str, value: String) -> Result<SecretInfo, VaultError> {
        secret::check_name(name)?;
        secret::check_value(&value)?;
        let key = self.key.read().unwrap_or_else(PoisonError::into_inner).clone();
        let key = match key {
            Some(key) => key,
            None if self.entries().is_empty() => self.remake_key()?,
            None => return Err(VaultError::NoKey(self.key_file.display().to_string())),
        };
        let now = Millis::now();
        self.store.secrets().put(name, key.seal(name, &value), now).await?;
        let created_at = self.entries().get(name).map_or(now, |entry| entry.info.created_at);
        Ok(self.keep(name.to_owned(), created_at, now, Some(value.into())))
    }

    pub(crate) async fn remove(&self, name: &str) -> Result<(), VaultError> {
        if !self.has(name) {
            return Err(VaultError::Missing(name.to_owned()));
        }
        self.store.secrets().remove(name).await?;
        self.open.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.generation.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    fn remake_key(&self) -> Result<Arc<Key>, VaultError> {
        let key = Arc::new(make_key(&self.key_file)?);
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&key));
        Ok(key)
    }

    fn keep(
        &self,
        name: String,
        created_at: Millis,
        updated_at: Millis,
        value: Option<Arc<str>>,
    ) -> SecretInfo {
        let info =
            SecretInfo { name: name.clone(), created_at, updated_at, readable: value.is_some() };
        let entry = Entry { info: info.clone(), value };
        self.open.write().unwrap_or_else(PoisonError::into_inner).insert(name, entry);
        self.generation.fetch_add(1, Ordering::AcqRel);
        info
    }

    /// Valid after every step, so a poisoned lock is as good.
    fn entries(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Entry>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Key {
    fn new(bytes: [u8; 32]) -> Self {
        let mut id = [0; KEY_ID];
        id.copy_from_slice(&Sha256::digest(bytes)[..KEY_ID]);
        let key = UnboundKey::new(&AES_256_GCM, &bytes).expect("a key of 32 bytes");
        Self { id, key: LessSafeKey::new(key) }
    }

    /// Form, key, nonce, and what is sealed.
    fn seal(&self, name: &str, value: &str) -> Vec<u8> {
        // Drawn, not counted: 2^32 secrets would have to be set before two nonces met.
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut text = value.as_bytes().to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(name.as_bytes()),
                &mut text,
            )
            .expect("a secret is far shorter than the cipher's limit");
        [&[FORM][..], &self.id, &nonce, &text].concat()
    }

    /// `None` for what another key has sealed, for another name, or what is damaged.
    fn open(&self, secret: &SealedSecret) -> Option<String> {
        let (head, sealed) = secret.sealed.split_at_checked(HEAD)?;
        if head[0] != FORM || head[1..=KEY_ID] != self.id {
            return None;
        }
        let nonce = Nonce::try_assume_unique_for_key(&head[1 + KEY_ID..]).ok()?;
        let mut text = sealed.to_vec();
        let open = self.key.open_in_place(nonce, Aad::from(secret.name.as_bytes()), &mut text);
        String::from_utf8(open.ok()?.to_vec()).ok()
    }
}

/// What a key file can do for secrets that are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyCheck {
    /// There are no secrets.
    NotNeeded,
    /// The key opens all of them.
    Opens,
    /// There is no key file.
    Missing,
    /// The key is another one for so many of them.
    Another { closed: usize },
}

/// Whether the key in this file opens these secrets.
///
/// # Errors
/// [`VaultError::KeyFile`] for a file that is no key.
pub(crate) fn check_key(key_file: &Path, secrets: &[SealedSecret]) -> Result<KeyCheck, VaultError> {
    if secrets.is_empty() {
        return Ok(KeyCheck::NotNeeded);
    }
    let Some(key) = read_key(key_file)? else { return Ok(KeyCheck::Missing) };
    let closed = secrets.iter().filter(|secret| key.open(secret).is_none()).count();
    Ok(if closed == 0 { KeyCheck::Opens } else { KeyCheck::Another { closed } })
}

/// The key in a file; `None` when there is no file.
fn read_key(path: &Path) -> Result<Option<Key>, VaultError> {
    let wrong = |what: String| VaultError::KeyFile(format!("{}: {what}", path.display()));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(error.to_string())),
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let mode = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.mode();
        if mode & 0o077 != 0 {
            return Err(wrong(format!("others may read it (mode {:o}): chmod 600", mode & 0o777)));
        }
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok();
    let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.map(|bytes| Some(Key::new(bytes))).ok_or_else(|| wrong("it holds no key".into()))
}

fn make_key(path: &Path) -> Result<Key, VaultError> {
    let bytes: [u8; 32] = rand::random();
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    store::create_private(path, &text)
        .map_err(|error| VaultError::KeyFile(format!("{}: {error}", path.display())))?;
    Ok(Key::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(name: &str, sealed: Vec<u8>) -> SealedSecret {
        SealedSecret { name: name.into(), sealed, created_at: Millis(0), updated_at: Millis(0) }
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_and_under_its_name_only() {
        let (key, other) = (Key::new([1; 32]), Key::new([2; 32]));
        let text = key.seal("stripe", "sk_live_12345678");
        assert!(!text.windows(8).any(|part| part == b"sk_live_"));
        assert_eq!(key.open(&sealed("stripe", text.clone())), Some("sk_live_12345678".into()));
        assert_eq!(key.open(&sealed("github", text.clone())), None);
        assert_eq!(other.open(&sealed("stripe", text.clone())), None);
        assert_ne!(text, key.seal("stripe", "sk_live_12345678"), "a nonce of its own");
        for at in 0..text.len() {
            let mut damaged = text.clone();
            damaged[at] ^= 1;
            assert_eq!(key.open(&sealed("stripe", damaged)), None, "byte {at}");
            assert_eq!(key.open(&sealed("stripe", text[..at].to_vec())), None, "cut at {at}");
        }
    }
}
