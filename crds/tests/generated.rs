//! The YAML beside this crate is what its types say. `UPDATE=1` writes it anew.

use anyhow::{Context, Result};
use clamor_crds::{condition, definition};
use std::{env, fs, path::Path};

#[test]
fn the_generated_files_are_up_to_date() -> Result<()> {
    let mut files = vec![("conditions.md".to_owned(), condition::markdown())];
    for definition in definition::all() {
        files.push((definition::file_name(&definition), definition::yaml(&definition)?));
    }
    for (name, content) in files {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        if env::var_os("UPDATE").is_some() {
            fs::write(&path, &content)?;
        }
        let found = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        assert!(found == content, "{} is out of date: run UPDATE=1 cargo test -p clamor-crds", path.display());
    }
    Ok(())
}
