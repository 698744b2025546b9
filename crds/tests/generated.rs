//! The YAML beside this crate is what its types say. `UPDATE=1` writes it anew.

use anyhow::{Context, Result};
use clamor_crds::definition;
use std::{env, fs, path::Path};

#[test]
fn the_generated_files_are_up_to_date() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for definition in definition::all() {
        let path = folder.join(definition::file_name(&definition));
        let yaml = definition::yaml(&definition)?;
        if env::var_os("UPDATE").is_some() {
            fs::write(&path, &yaml)?;
        }
        let found = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        assert!(
            found == yaml,
            "{} is out of date: run UPDATE=1 cargo test -p clamor-crds",
            path.display()
        );
    }
    Ok(())
}
