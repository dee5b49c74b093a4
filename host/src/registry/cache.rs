//! What was pulled, in a folder: each file is called by the SHA-256 of what is in
//! it, and one that is not what it is called is as good as none.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::Digest;

/// A folder of pulled plugins and their manifests.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
}

/// Above it, what has not been used for longest goes.
const CACHE_BYTES_MAX: u64 = 512 << 20;

impl Cache {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The bytes with this digest, `bytes_max` of them at most.
    pub(super) fn get(&self, digest: &Digest, bytes_max: u64) -> Option<Bytes> {
        let path = self.folder.join(hex::encode(digest));
        let size = fs::metadata(&path).ok()?.len();
        let bytes = if size <= bytes_max { fs::read(&path).ok()? } else { Vec::new() };
        if Digest::from(Sha256::digest(&bytes)) != *digest {
            tracing::warn!(file = %path.display(), "not what was pulled: it is pulled again");
            return None;
        }
        // For `sweep`: used now. That it cannot be said costs a later pull at most.
        let _ = fs::File::open(&path).and_then(|it| it.set_modified(SystemTime::now()));
        Some(bytes.into())
    }

    /// Keep bytes. That they cannot be kept costs a later pull, and nothing else.
    pub(super) fn put(&self, digest: &Digest, bytes: &[u8]) {
        let name = hex::encode(digest);
        // Another process may be pulling the same.
        let new = self.folder.join(format!(".{name}.{}", std::process::id()));
        let written = fs::create_dir_all(&self.folder)
            .and_then(|()| fs::write(&new, bytes))
            .and_then(|()| fs::rename(&new, self.folder.join(name)))
            .and_then(|()| self.sweep());
        if let Err(error) = written {
            tracing::warn!(folder = %self.folder.display(), %error, "cannot keep a pulled plugin");
        }
    }

    fn sweep(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            files.push((metadata.modified()?, metadata.len(), entry.path()));
        }
        files.sort();
        let mut bytes: u64 = files.iter().map(|it| it.1).sum();
        for (_, size, path) in files {
            if bytes <= CACHE_BYTES_MAX {
                break;
            }
            fs::remove_file(path)?;
            bytes -= size;
        }
        Ok(())
    }
}
