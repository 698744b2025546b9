//! A folder of files, watched by looking: which of them are new, changed or gone.
//!
//! Looking costs one `stat` per file; only what changed is read. Polling, because it works on every file system, also
//! those (network, containers' mounts) whose changes raise no events.
//!
//! Invariant: a change counts once two looks in a row see the same. So a file that is being written, or that an editor
//! removes for a moment to replace it, is not taken half done.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Kubernetes refuses objects above 1.5 MiB; a file may have some of them.
const MAX_BYTES: u64 = 8 * 1024 * 1024;

/// The folder, and what was seen of it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    files: BTreeMap<String, Seen>,
    looked: bool,
}

/// What one look found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Changes to take, by file name.
    pub changes: BTreeMap<String, Change>,
    /// Something is changing: look again soon.
    pub unsettled: bool,
}

/// A change of one file.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Its new text.
    Text(String),
    /// Why it can't be read.
    Unreadable(String),
    /// It is not there any more.
    Gone,
}

#[derive(Debug, Default)]
struct Seen {
    /// At the last look; absent: it was not there.
    stamp: Option<Stamp>,
    /// What was taken last; absent: nothing yet.
    taken: Option<Stamp>,
}

/// What differs when a file's content does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Folder {
    /// A folder that nobody has looked at yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), files: BTreeMap::new(), looked: false }
    }

    /// Looks. The first look takes all that is there.
    ///
    /// # Errors
    /// When the folder can't be listed; what was seen before stays.
    pub fn look(&mut self) -> io::Result<Look> {
        let now = list(&self.path)?;
        let mut look = Look::default();
        for name in self.files.keys().filter(|name| !now.contains_key(*name)).cloned().collect::<Vec<_>>() {
            self.see_missing(name, &mut look);
        }
        for (name, stamp) in now {
            self.see(name, stamp, &mut look);
        }
        self.looked = true;
        Ok(look)
    }

    fn see(&mut self, name: String, stamp: Stamp, look: &mut Look) {
        let first = !self.looked;
        let seen = self.files.entry(name.clone()).or_default();
        let settled = first || seen.stamp == Some(stamp);
        seen.stamp = Some(stamp);
        if seen.taken == Some(stamp) {
            return;
        }
        if !settled {
            look.unsettled = true;
            return;
        }
        // At the first look nothing says how long the file has been as it is: it is read once more at the second.
        seen.taken = (!first).then_some(stamp);
        look.unsettled |= first;
        look.changes.insert(name.clone(), read(&self.path.join(name), stamp.size));
    }

    fn see_missing(&mut self, name: String, look: &mut Look) {
        let Some(seen) = self.files.get_mut(&name) else { return };
        if seen.stamp.take().is_some() {
            look.unsettled = true;
        } else {
            self.files.remove(&name);
            look.changes.insert(name, Change::Gone);
        }
    }
}

fn list(path: &Path) -> io::Result<BTreeMap<String, Stamp>> {
    let mut stamps = BTreeMap::new();
    for entry in std::fs::read_dir(path)? {
        let Ok(name) = entry?.file_name().into_string() else {
            continue;
        };
        if !is_manifest(&name) {
            continue;
        }
        // Follows links, as mounted ConfigMaps need. A file that vanished since is not there.
        if let Ok(metadata) = std::fs::metadata(path.join(&name))
            && metadata.is_file()
        {
            stamps.insert(name, Stamp::of(&metadata));
        }
    }
    Ok(stamps)
}

/// As `kubectl apply -f DIR` picks files; hidden ones are editors' own.
fn is_manifest(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    !name.starts_with('.') && matches!(extension, Some("yaml" | "yml" | "json"))
}

fn read(path: &Path, size: u64) -> Change {
    if size > MAX_BYTES {
        return Change::Unreadable(format!("it has {size} bytes, more than {MAX_BYTES}"));
    }
    match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => Change::Text(text),
        Ok(Err(error)) => Change::Unreadable(format!("it is not UTF-8: {}", error.utf8_error())),
        Err(error) => Change::Unreadable(format!("it can't be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Dir {
        dir: tempfile::TempDir,
        folder: Folder,
    }

    impl Dir {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let folder = Folder::new(dir.path());
            Self { dir, folder }
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.dir.path().join(name), text).unwrap();
        }

        fn remove(&self, name: &str) {
            fs::remove_file(self.dir.path().join(name)).unwrap();
        }

        fn look(&mut self) -> Vec<(String, Change)> {
            self.folder.look().unwrap().changes.into_iter().collect()
        }

        /// Past the start, with everything taken.
        fn settle(&mut self) {
            self.look();
            self.look();
        }
    }

    fn text(name: &str, text: &str) -> (String, Change) {
        (name.to_owned(), Change::Text(text.to_owned()))
    }

    #[test]
    fn the_first_look_takes_manifests_and_nothing_else() {
        let mut dir = Dir::new();
        dir.write("a.yaml", "a");
        dir.write("b.yml", "b");
        dir.write("c.json", "c");
        dir.write(".hidden.yaml", "");
        dir.write("a.yaml~", "");
        dir.write("README.md", "");
        fs::create_dir(dir.dir.path().join("folder.yaml")).unwrap();
        assert_eq!(dir.look(), [text("a.yaml", "a"), text("b.yml", "b"), text("c.json", "c")]);
    }

    #[test]
    fn a_change_is_taken_at_the_second_look_and_once() {
        let mut dir = Dir::new();
        dir.settle();
        dir.write("a.yaml", "one");
        assert_eq!(dir.folder.look().unwrap(), Look { unsettled: true, ..Look::default() });
        assert_eq!(dir.look(), [text("a.yaml", "one")]);
        assert_eq!(dir.folder.look().unwrap(), Look::default());
    }

    #[test]
    fn a_file_that_is_still_being_written_waits() {
        let mut dir = Dir::new();
        dir.settle();
        dir.write("a.yaml", "on");
        assert_eq!(dir.look(), []);
        dir.write("a.yaml", "one");
        assert_eq!(dir.look(), []);
        assert_eq!(dir.look(), [text("a.yaml", "one")]);
    }

    #[test]
    fn a_file_that_an_editor_replaces_is_not_gone_between() {
        let mut dir = Dir::new();
        dir.write("a.yaml", "one");
        dir.settle();
        dir.remove("a.yaml");
        assert_eq!(dir.look(), []);
        dir.write("a.yaml", "two");
        assert_eq!(dir.look(), []);
        assert_eq!(dir.look(), [text("a.yaml", "two")]);
    }

    #[test]
    fn a_deleted_file_is_gone_at_the_second_look() {
        let mut dir = Dir::new();
        dir.write("a.yaml", "one");
        dir.settle();
        dir.remove("a.yaml");
        assert_eq!(dir.look(), []);
        assert_eq!(dir.look(), [("a.yaml".to_owned(), Change::Gone)]);
        assert_eq!(dir.look(), []);
    }

    #[test]
    fn what_is_not_text_is_said() {
        let mut dir = Dir::new();
        fs::write(dir.dir.path().join("a.yaml"), [0xff, 0xfe]).unwrap();
        assert!(matches!(&dir.look()[..], [(_, Change::Unreadable(why))] if why.contains("UTF-8")));
    }

    #[test]
    fn a_folder_that_vanishes_takes_nothing_away() {
        let mut dir = Dir::new();
        dir.write("a.yaml", "one");
        dir.settle();
        fs::rename(dir.dir.path(), dir.dir.path().with_extension("moved")).unwrap();
        assert!(dir.folder.look().is_err());
        fs::rename(dir.dir.path().with_extension("moved"), dir.dir.path()).unwrap();
        assert_eq!(dir.look(), []);
    }
}
