//! The definitions and the fixtures, on a real API server: it takes what the local check takes and refuses what it refuses,
//! with the same words for the same fields.

mod fixture;

use anyhow::{Context, Result, bail, ensure};
use clamor_crds::{
    API_VERSION, definition,
    manifest::{Kind, ManifestError, Object, check},
};
use clamor_testkit::kube::Cluster;
use fixture::{Fixture, fixtures};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, core::Status};
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path};

#[tokio::test]
async fn every_definition_is_accepted_as_it_is_written() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let api: Api<CustomResourceDefinition> = Api::all(cluster.admin());
    for definition in definition::all() {
        let name = definition.metadata.name.as_deref().context("a definition has a name")?;
        let found = api.get(name).await?;
        let conditions = found.status.and_then(|status| status.conditions).unwrap_or_default();
        let conditions: BTreeSet<_> =
            conditions.iter().map(|found| format!("{}={}", found.type_, found.status)).collect();
        // A schema that is not structural would be a third.
        ensure!(conditions == ["Established=True", "NamesAccepted=True"].map(str::to_owned).into(), "{conditions:?}");
        let wanted = definition.spec.versions[0].schema.as_ref();
        ensure!(found.spec.versions[0].schema.as_ref() == wanted, "{name}: the API server keeps another schema");
    }
    Ok(())
}

#[tokio::test]
async fn every_good_fixture_and_sample_reads_on_the_api_server_as_it_reads_here() -> Result<()> {
    let cluster = Cluster::shared().await?;
    for folder in ["tests/fixtures/good", "../manifests/samples"] {
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))? {
            let path = entry?.path();
            // One names a namespace, which is not this test's.
            let text = fs::read_to_string(&path)?.replace("  namespace: chats\n", "");
            if text.contains("# before") {
                continue;
            }
            let ours: Vec<Object> = check("", &text, |_, _| None).into_iter().collect::<Result<_, _>>()?;
            ensure!(!ours.is_empty(), "nothing in {}", path.display());
            let output = cluster.kubectl(&["apply", "--dry-run=server", "-o", "json", "-f", "-"], &text).await?;
            ensure!(output.success, "{}: {}", path.display(), output.stderr);
            let theirs: Value = serde_json::from_str(&output.stdout)?;
            let theirs = theirs["items"].as_array().cloned().unwrap_or_else(|| vec![theirs]);
            ensure!(theirs.len() == ours.len(), "{}: {} and {}", path.display(), theirs.len(), ours.len());
            for (theirs, ours) in theirs.iter().zip(&ours) {
                // Both with what is defaulted.
                let value = ours.to_value();
                ensure!(theirs["kind"] == value["kind"] && theirs["metadata"]["name"] == ours.name().as_str());
                let [theirs, ours] = [&theirs["spec"], &value["spec"]].map(without_empty_lists);
                ensure!(theirs == ours, "{}: {theirs} and {ours}", path.display());
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_bad_fixture_is_refused_for_the_fields_that_the_local_check_names() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let mut disagreements = Vec::new();
    for fixture in fixtures("bad")?.iter().filter(|fixture| !fixture.before) {
        let Some(Err(ours)) = check(&fixture.file, &fixture.text, |_, _| None).pop() else {
            // Refused over what stands: another test's.
            continue;
        };
        match refusal(&cluster.admin(), cluster.namespace(), fixture).await? {
            None => disagreements.push(format!("{}: the API server accepts\n{}", fixture.file, fixture.text)),
            Some(theirs) => disagreements.extend(disagreement(fixture, &ours, &theirs)),
        }
    }
    ensure!(disagreements.is_empty(), "{} disagreements:\n{}", disagreements.len(), disagreements.join("\n"));
    Ok(())
}

#[tokio::test]
async fn what_may_not_change_is_refused_over_the_object_that_stands() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let all: Vec<Fixture> = ["bad", "good"].into_iter().map(fixtures).collect::<Result<Vec<_>>>()?.concat();
    let mut pairs = 0;
    for pair in all.windows(2).filter(|pair| pair[0].before) {
        cluster.apply(&pair[0].text).await?;
        let output = cluster.kubectl(&["apply", "-f", "-"], &pair[1].text).await?;
        match &pair[1].expect {
            None => ensure!(output.success, "{}: {}", pair[1].file, output.stderr),
            Some(expect) => ensure!(!output.success && output.stderr.contains(expect), "{expect}: {output:?}"),
        }
        pairs += 1;
    }
    ensure!(pairs >= 5, "{pairs} pairs");
    Ok(())
}

#[tokio::test]
async fn an_object_without_a_status_reads_as_pending() -> Result<()> {
    let cluster = Cluster::shared().await?;
    for kind in Kind::ALL {
        let spec = match kind {
            Kind::ChatPipeline => "{store: {secretRef: {name: clamor-store}}}",
            Kind::TrackedChannel => "{channel: forsen}",
            Kind::Phrase => "{pattern: KEKW}",
            Kind::ChannelDiscovery => "{top: 10}",
        };
        cluster
            .apply(&format!("apiVersion: {API_VERSION}\nkind: {kind}\nmetadata: {{name: new}}\nspec: {spec}\n"))
            .await?;
        let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")]['status','reason']}"#;
        let object = format!("{kind}/new");
        let ready = cluster.kubectl(&["get", &object, "-o", path], "").await?;
        ensure!(ready.stdout == "Unknown Pending", "{kind}: {ready:?}");
        let waited = cluster.kubectl(&["wait", "--for=condition=Ready", "--timeout=1s", &object], "").await?;
        ensure!(!waited.success && waited.stderr.contains("timed out"), "{kind}: {waited:?}");
    }
    Ok(())
}

/// A list that is empty and one that is absent are the same to us, and to our types.
fn without_empty_lists(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, field)| !field.as_array().is_some_and(Vec::is_empty));
            kept.map(|(name, field)| (name.clone(), without_empty_lists(field))).collect()
        }
        Value::Array(items) => items.iter().map(without_empty_lists).collect(),
        other => other.clone(),
    }
}

/// What the API server says to a creation as kubectl asks for it, without making anything.
async fn refusal(admin: &Client, namespace: &str, fixture: &Fixture) -> Result<Option<Status>> {
    let object: Value = serde_saphyr::from_str(&fixture.text)?;
    let kind = object["kind"].as_str().context("a kind")?;
    let definition = definition::all().into_iter().find(|definition| definition.spec.names.kind == kind);
    let plural = definition.context("one of our kinds")?.spec.names.plural;
    let uri = format!("/apis/{API_VERSION}/namespaces/{namespace}/{plural}?dryRun=All&fieldValidation=Strict");
    let request = http::Request::post(uri)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(serde_json::to_vec(&object)?)?;
    match admin.request::<Value>(request).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) => Ok(Some(*status)),
        Err(error) => bail!("{}: {error:?}", fixture.file),
    }
}

/// How the two refusals differ: in the words that the fixture expects, or in the fields that they name.
fn disagreement(fixture: &Fixture, ours: &ManifestError, theirs: &Status) -> Option<String> {
    let expect = fixture.expect.as_deref().unwrap_or_default();
    let our_fields: BTreeSet<String> = ours.problems.iter().map(|problem| problem.field.clone()).collect();
    let their_fields = fields(theirs);
    // It looks no further where there is a field that it does not know; the local check says all at once.
    let names_the_same = if theirs.message.contains("strict decoding error") {
        !their_fields.is_empty() && their_fields.is_subset(&our_fields)
    } else {
        their_fields == our_fields
    };
    let agrees = names_the_same && theirs.message.contains(expect);
    (!agrees).then(|| format!("expected \"{expect}\"\n  {our_fields:?} {ours}\n  {their_fields:?} {}", theirs.message))
}

fn fields(status: &Status) -> BTreeSet<String> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    // That rules were not evaluated, as the shape is wrong, is no cause of its own. Other causes without a field are the
    // object's as a whole.
    let causes = causes.filter(|cause| !cause.message.contains("some validation rules were not checked"));
    let invalid = causes.map(|cause| if cause.field == "<nil>" { String::new() } else { cause.field.clone() });
    // Of a field that there is not, only the message speaks.
    let unknown = status.message.split("unknown field \"").skip(1).filter_map(|rest| rest.split('"').next());
    invalid.chain(unknown.map(str::to_owned)).collect()
}
