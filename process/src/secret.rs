//! Secrets that are mounted as a folder: one file for each key, as Kubernetes does it.
//!
//! The folder of an optional Secret that is not there is empty, and fills when it comes: whoever waits looks again. Contents
//! are never in a message.

use std::path::{Path, PathBuf};
use thiserror::Error;

/// What is wrong with a Secret's folder. Each begins with the reason that conditions of the resources have for it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SecretError {
    /// Nothing is there.
    #[error("SecretMissing: {dir} ({setting}) is empty: create the Secret that is mounted there", dir = dir.display())]
    Missing {
        /// The setting that names the folder.
        setting: &'static str,
        /// The folder.
        dir: PathBuf,
    },
    /// It lacks what is needed, or it cannot be read.
    #[error("SecretInvalid: the Secret at {dir} ({setting}) has no {key} that can be read", dir = dir.display())]
    Lacks {
        /// The setting that names the folder.
        setting: &'static str,
        /// The folder.
        dir: PathBuf,
        /// Which key.
        key: &'static str,
    },
}

/// A Secret's folder.
#[derive(Debug, Clone)]
pub struct SecretDir {
    setting: &'static str,
    dir: PathBuf,
}

impl SecretDir {
    /// The folder that a setting names.
    ///
    /// # Errors
    /// [`SecretError::Missing`] where nothing is in it.
    pub fn open(setting: &'static str, dir: &Path) -> Result<Self, SecretError> {
        // Kubernetes' own links begin with two dots.
        let is_key = |entry: &std::fs::DirEntry| !entry.file_name().to_string_lossy().starts_with("..");
        let found =
            std::fs::read_dir(dir).is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|e| is_key(&e))));
        let dir = dir.to_path_buf();
        if found { Ok(Self { setting, dir }) } else { Err(SecretError::Missing { setting, dir }) }
    }

    /// The file of a key that may be absent.
    #[must_use]
    pub fn file(&self, key: &str) -> Option<PathBuf> {
        let path = self.dir.join(key);
        path.is_file().then_some(path)
    }

    /// The file of a key.
    ///
    /// # Errors
    /// [`SecretError::Lacks`].
    pub fn required(&self, key: &'static str) -> Result<PathBuf, SecretError> {
        self.file(key).ok_or_else(|| self.lacks(key))
    }

    /// What a key says, without the end of its line.
    ///
    /// # Errors
    /// [`SecretError::Lacks`], also where it is no text.
    pub fn text(&self, key: &'static str) -> Result<String, SecretError> {
        let text = std::fs::read_to_string(self.required(key)?).map_err(|_| self.lacks(key))?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn lacks(&self, key: &'static str) -> SecretError {
        SecretError::Lacks { setting: self.setting, dir: self.dir.clone(), key }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_folder_is_a_missing_secret_and_a_key_is_read_without_its_line_end() {
        let dir = std::env::temp_dir().join(format!("clamor-secret-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("..data")).unwrap();
        assert!(matches!(SecretDir::open("X", &dir), Err(SecretError::Missing { .. })));
        std::fs::write(dir.join("user"), "me\n").unwrap();
        let secret = SecretDir::open("X", &dir).unwrap();
        assert_eq!(secret.text("user").as_deref(), Ok("me"));
        let error = secret.text("password").unwrap_err().to_string();
        assert!(error.contains("password") && error.contains('X'), "{error}");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
