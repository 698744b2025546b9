//! The page of permissions is what the code says. `UPDATE=1` writes it anew.

use std::{env, fs, path::Path};

#[test]
fn the_page_of_permissions_is_what_the_code_says() -> std::io::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/nats.md");
    let content = clamor_bus::permissions::markdown();
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, &content)?;
    }
    assert!(fs::read_to_string(&path)? == content, "{} is out of date: run make generate", path.display());
    Ok(())
}
