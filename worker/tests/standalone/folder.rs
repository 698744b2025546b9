//! The data folder: who may use it, and how it is removed.

use crate::laptop::{LIMIT, Laptop, channel, says};
use clamor_testkit::Process;
use std::path::Path;

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_of_a_newer_version_is_refused_and_untouched() {
    let laptop = Laptop::new(&[]);
    std::fs::create_dir(laptop.data()).unwrap();
    std::fs::write(laptop.data().join("version"), "1000\n").unwrap();
    let process = laptop.start("newer", "off");
    assert!(!process.wait(LIMIT).await.unwrap().success());
    assert!(process.log().unwrap().contains("format 1000"), "{}", process.log_tail());
    assert_eq!(std::fs::read_dir(laptop.data()).unwrap().count(), 1);
}

/// `make reset` of the laptop's store, as from a terminal where somebody types this answer.
fn reset_on_a_terminal(laptop: &Laptop, name: &str, answer: &str) -> Process {
    let command =
        format!("printf '{answer}\\n' | script --quiet --return --command '{}' /dev/null", make_reset(laptop));
    laptop.run(name, "sh", vec!["-c".to_owned(), command])
}

fn make_reset(laptop: &Laptop) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    format!("make --silent --directory {} reset DATA_DIR={}", root.display(), laptop.data().display())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_removed_when_somebody_says_so_and_nobody_uses_it() {
    let laptop = Laptop::new(&[("one.yaml", channel("one"))]);
    let standalone = laptop.start("standalone", "simulator");
    laptop.store(&standalone).await.close().await;

    let used = reset_on_a_terminal(&laptop, "used", "y");
    assert!(!used.wait(LIMIT).await.unwrap().success());
    says(&used, "Clamor is running").await;
    assert!(standalone.terminate_and_wait(LIMIT).await.unwrap().success());

    let unasked = laptop.run("unasked", "sh", vec!["-c".to_owned(), make_reset(&laptop)]);
    assert!(!unasked.wait(LIMIT).await.unwrap().success());
    says(&unasked, "Nobody is there to ask").await;

    let kept = reset_on_a_terminal(&laptop, "kept", "n");
    assert!(kept.wait(LIMIT).await.unwrap().success(), "{}", kept.log_tail());
    says(&kept, "Remove all that was counted there? [y/N]").await;
    says(&kept, "Kept.").await;
    // Untouched: it goes on where it stopped.
    assert!(laptop.data().join("simulator/postgres").is_dir() && laptop.data().join("simulator/nats").is_dir());

    let removed = reset_on_a_terminal(&laptop, "removed", "y");
    assert!(removed.wait(LIMIT).await.unwrap().success(), "{}", removed.log_tail());
    says(&removed, "Removed.").await;
    assert!(!laptop.data().exists());
}
