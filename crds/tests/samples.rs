//! The samples that `make run` starts with.

use anyhow::{Context, Result};
use clamor_crds::manifest::{Kind, Object, check};
use std::{collections::BTreeMap, fs, path::Path};

fn samples() -> Result<Vec<Object>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/samples");
    let mut objects = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        for object in check(&path.display().to_string(), &fs::read_to_string(&path)?, |_, _| None) {
            objects.push(object?);
        }
    }
    Ok(objects)
}

#[test]
fn the_samples_pass_and_have_a_pipeline_channels_and_phrases() -> Result<()> {
    let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
    for object in samples()? {
        *kinds.entry(object.kind()).or_default() += 1;
    }
    assert_eq!(kinds.get(&Kind::ChatPipeline), Some(&1));
    assert!(kinds.get(&Kind::TrackedChannel).is_some_and(|channels| *channels >= 3));
    assert!(kinds.get(&Kind::Phrase).is_some_and(|phrases| *phrases >= 3));
    Ok(())
}

/// kubectl applies the files of a folder in the order of their names: a channel before its pipeline would be told of.
#[test]
fn the_pipeline_is_in_the_first_file() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/samples");
    let files = fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let first = files.iter().min().context("no samples")?;
    let objects = check(&first.display().to_string(), &fs::read_to_string(first)?, |_, _| None);
    let kinds = objects.into_iter().map(|object| Ok(object?.kind())).collect::<Result<Vec<_>>>()?;
    assert_eq!(kinds, [Kind::ChatPipeline]);
    Ok(())
}

#[test]
fn no_two_samples_have_one_name() -> Result<()> {
    let mut seen = BTreeMap::new();
    for object in samples()? {
        assert!(seen.insert((object.kind(), object.name()), ()).is_none(), "{} {}", object.kind(), object.name());
    }
    Ok(())
}
