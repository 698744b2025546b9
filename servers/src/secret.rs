//! Passwords of servers that we keep ourselves: drawn once, kept in a file that only its owner can read.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rand::RngExt;

use crate::ServerError;

/// The password in `path`; a new one when the file does not exist. Letters and digits only, so it needs no escaping in a
/// URL or a configuration file.
pub(crate) fn load_or_create(path: &Path) -> Result<String, ServerError> {
    match std::fs::read_to_string(path) {
        Ok(found) if !found.trim().is_empty() => Ok(found.trim().to_owned()),
        Ok(_) => create(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => create(path),
        Err(source) => Err(ServerError::folder("read", path)(source)),
    }
}

fn create(path: &Path) -> Result<String, ServerError> {
    let password: String = rand::rng().sample_iter(rand::distr::Alphanumeric).take(32).map(char::from).collect();
    write_private(path, &password)?;
    Ok(password)
}

/// Writes a file that only its owner can read, whatever the umask.
pub(crate) fn write_private(path: &Path, content: &str) -> Result<(), ServerError> {
    let written = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content.as_bytes()));
    written.map_err(ServerError::folder("write", path))
}
