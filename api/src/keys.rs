//! The service's own secrets: two files below `keys/` in the data directory, made at the first
//! start, readable by their owner only.

use aws_lc_rs::{hmac, rand, signature::Ed25519KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretBox, SecretSlice, SecretString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What tokens are signed with: Ed25519 in PKCS #8 (RFC 8410), PEM.
const SIGNING_FILE: &str = "signing.pem";
/// What every other key is derived from: 32 random bytes in base 64.
const MASTER_FILE: &str = "master.key";
const MASTER_LEN: usize = 32;

/// Why the service has no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{path}: {cause}")]
    File { path: PathBuf, cause: io::Error },
    #[error("{path}: {cause}")]
    Malformed { path: PathBuf, cause: &'static str },
    #[error("{path}: mode {mode:o} lets everybody read it; run chmod 600 on it")]
    Open { path: PathBuf, mode: u32 },
    #[error("the system's random source failed")]
    Random,
}

/// The keys of one data directory.
#[derive(Debug)]
pub struct Keys {
    master: SecretSlice<u8>,
    /// PKCS #8, DER.
    signing: SecretSlice<u8>,
}

impl Keys {
    /// Reads the keys below `data_dir`, and makes those that are not there. Two processes at once
    /// get the same ones.
    pub fn open(data_dir: &Path) -> Result<Self, KeyError> {
        let directory = data_dir.join("keys");
        make_directory(&directory)?;

        let path = directory.join(MASTER_FILE);
        let text = read_or_make(&path, new_master)?;
        let master = BASE64
            .decode(text.expose_secret().trim())
            .ok()
            .filter(|bytes| bytes.len() == MASTER_LEN)
            .ok_or(KeyError::Malformed { path, cause: "not 32 bytes in base 64" })?;

        let path = directory.join(SIGNING_FILE);
        let text = read_or_make(&path, new_signing)?;
        let signing = PrivatePkcs8KeyDer::from_pem_slice(text.expose_secret().as_bytes())
            .ok()
            .filter(|der| Ed25519KeyPair::from_pkcs8(der.secret_pkcs8_der()).is_ok())
            .ok_or(KeyError::Malformed { path, cause: "not an Ed25519 key in PKCS #8, PEM" })?;

        Ok(Self { master: master.into(), signing: signing.secret_pkcs8_der().to_vec().into() })
    }

    /// Copies the keys below one directory to below another; those that are there stay.
    pub fn copy(from: &Path, to: &Path) -> Result<(), KeyError> {
        Self::open(from)?;
        let directory = to.join("keys");
        make_directory(&directory)?;
        for name in [MASTER_FILE, SIGNING_FILE] {
            let path = directory.join(name);
            read_or_make(&path, || {
                let path = from.join("keys").join(name);
                let read = fs::read_to_string(&path);
                read.map(SecretString::from).map_err(|cause| KeyError::File { path, cause })
            })?;
        }
        Ok(())
    }

    /// A key for one purpose; those of other purposes say nothing about it.
    pub fn derive(&self, purpose: &str) -> SecretBox<[u8; 32]> {
        let master = hmac::Key::new(hmac::HMAC_SHA256, self.master.expose_secret());
        let tag = hmac::sign(&master, purpose.as_bytes());
        SecretBox::init_with_mut(|key: &mut [u8; 32]| key.copy_from_slice(tag.as_ref()))
    }

    /// The Ed25519 key that tokens are signed with; PKCS #8, DER.
    pub fn signing(&self) -> &SecretSlice<u8> {
        &self.signing
    }
}

fn make_directory(path: &Path) -> Result<(), KeyError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|cause| KeyError::File { path: path.into(), cause })
}

fn new_master() -> Result<SecretString, KeyError> {
    let mut bytes = [0; MASTER_LEN];
    rand::fill(&mut bytes).map_err(|_| KeyError::Random)?;
    Ok(format!("{}\n", BASE64.encode(bytes)).into())
}

fn new_signing() -> Result<SecretString, KeyError> {
    let der = Ed25519KeyPair::generate()
        .and_then(|pair| pair.to_pkcs8v1())
        .map_err(|_| KeyError::Random)?;
    // An Ed25519 key is 48 bytes: one line of base 64.
    let body = BASE64.encode(der.as_ref());
    Ok(format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n").into())
}

/// The text of the secret file at `path`, made by `make` if it is absent.
fn read_or_make(
    path: &Path,
    make: impl FnOnce() -> Result<SecretString, KeyError>,
) -> Result<SecretString, KeyError> {
    let failed = |cause| KeyError::File { path: path.into(), cause };
    if !path.try_exists().map_err(failed)? {
        let text = make()?;
        create_once(path, text.expose_secret()).map_err(failed)?;
    }
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
    // A group may be let in, as secret volumes of container platforms do; everybody may not.
    if mode & 0o007 != 0 {
        return Err(KeyError::Open { path: path.into(), mode });
    }
    fs::read_to_string(path).map(SecretString::from).map_err(failed)
}

/// Writes a file that is there whole or not at all. Where another process was faster, its file
/// stays.
fn create_once(path: &Path, text: &str) -> io::Result<()> {
    let mut chance = [0; 8];
    rand::fill(&mut chance).map_err(io::Error::other)?;
    let draft = path.with_extension(format!("{:016x}.new", u64::from_ne_bytes(chance)));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_what_they_were_made() {
        let dir = tempfile::tempdir().unwrap();
        let first = Keys::open(dir.path()).unwrap();
        let again = Keys::open(dir.path()).unwrap();
        assert_eq!(first.signing().expose_secret(), again.signing().expose_secret());
        let derived = |keys: &Keys, purpose| *keys.derive(purpose).expose_secret();
        assert_eq!(derived(&first, "media"), derived(&again, "media"));
        assert_ne!(derived(&first, "media"), derived(&first, "refresh"));
        for name in [SIGNING_FILE, MASTER_FILE] {
            let mode = fs::metadata(dir.path().join("keys").join(name)).unwrap().permissions();
            assert_eq!(mode.mode() & 0o777, 0o600, "{name}");
        }
        assert_eq!(fs::read_dir(dir.path().join("keys")).unwrap().count(), 2);
    }

    #[test]
    fn eight_at_once_get_the_same_keys() {
        let dir = tempfile::tempdir().unwrap();
        let all: Vec<Vec<u8>> = std::thread::scope(|scope| {
            let racing: Vec<_> =
                (0..8).map(|_| scope.spawn(|| Keys::open(dir.path()).unwrap())).collect();
            racing
                .into_iter()
                .map(|racer| racer.join().unwrap().signing().expose_secret().to_vec())
                .collect()
        });
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn keys_that_anybody_reads_or_that_are_none_are_refused() {
        type Spoil = fn(&Path);
        let cases: [(&str, Spoil, &str); 3] = [
            (
                MASTER_FILE,
                |path| fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap(),
                "chmod 600",
            ),
            (MASTER_FILE, |path| fs::write(path, "c2hvcnQ=").unwrap(), "not 32 bytes"),
            (SIGNING_FILE, |path| fs::write(path, "nothing").unwrap(), "not an Ed25519 key"),
        ];
        for (name, spoil, expected) in cases {
            let dir = tempfile::tempdir().unwrap();
            Keys::open(dir.path()).unwrap();
            spoil(&dir.path().join("keys").join(name));
            let refused = Keys::open(dir.path()).unwrap_err().to_string();
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
