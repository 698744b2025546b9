//! Clamor's CustomResourceDefinitions, from the files that users apply.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::Value;

const MANAGER: &str = "clamor-testkit";
const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// The files, in the order of their names.
pub(super) fn files() -> Result<Vec<PathBuf>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
    let entries = std::fs::read_dir(&dir).with_context(|| format!("failed to list {}", dir.display()))?;
    let paths = entries.map(|entry| Ok(entry.context("failed to list the definitions")?.path()));
    let mut paths: Vec<PathBuf> = paths.collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    Ok(paths)
}

/// Applies all of them and waits until their kinds are served.
pub(super) async fn install(client: &Client) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut applied = Vec::new();
    for path in files()? {
        let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let definition: Value =
            serde_saphyr::from_str(&text).with_context(|| format!("failed to understand {}", path.display()))?;
        let name = definition["metadata"]["name"].as_str().context("a definition without a name")?;
        let found = api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&definition)).await;
        applied.push(found.with_context(|| format!("failed to apply {}", path.display()))?);
    }
    let deadline = Instant::now() + LIMIT;
    for definition in applied {
        established(&api, &definition.name_any(), deadline).await?;
        served(client, &definition, deadline).await?;
    }
    Ok(())
}

async fn established(api: &Api<CustomResourceDefinition>, name: &str, deadline: Instant) -> Result<()> {
    loop {
        let found = api.get(name).await.with_context(|| format!("failed to read {name}"))?;
        let conditions = found.status.and_then(|status| status.conditions).unwrap_or_default();
        let is = |kind: &str| conditions.iter().any(|condition| condition.type_ == kind && condition.status == "True");
        if is("Established") && is("NamesAccepted") {
            return Ok(());
        }
        if is("NonStructuralSchema") || Instant::now() >= deadline {
            bail!("the API server does not take {name}: {conditions:?}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// An established kind is served a moment later.
async fn served(client: &Client, definition: &CustomResourceDefinition, deadline: Instant) -> Result<()> {
    let spec = &definition.spec;
    for version in &spec.versions {
        let kind = GroupVersionKind::gvk(&spec.group, &version.name, &spec.names.kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, &spec.names.plural);
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        while let Err(error) = api.list(&ListParams::default().limit(1)).await {
            if Instant::now() >= deadline {
                return Err(error).with_context(|| format!("{} is not served", spec.names.plural));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}
