//! What a namespace has come to, in a form in which two of them can be compared: what all Deployments are told to be, what
//! all objects say of themselves, what each slot is told to read. Without times, and without names of the test's own.

use crate::world::World;
use clamor_bus::{Bus, BusConfig};
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Each with its name.
pub(crate) type Outcome = BTreeMap<String, Value>;

/// What it has come to by now.
pub(crate) async fn outcome(world: &World) -> Result<Outcome, String> {
    let mut found = Outcome::new();
    let bus = Bus::connect(&BusConfig::open(world.servers.nats_url(), &world.on_bus(), "test")).await;
    let bus = bus.map_err(|error| error.to_string())?;
    for deployment in world.deployments().list(&ListParams::default()).await.map_err(|error| error.to_string())? {
        let name = deployment.name_any();
        if name.contains("ingest") {
            let kept = bus.assignment(&name).await.map_err(|error| error.to_string())?;
            let channels = kept.assignment.unwrap_or_default().channels;
            let logins: Vec<String> = channels.into_iter().map(|channel| channel.login).collect();
            found.insert(format!("assignment {name}"), json!(logins));
        }
        found.insert(format!("deployment {name}"), json!([deployment.metadata.labels, deployment.spec]));
    }
    let objects = world.json(&["get", "tc,ph,cpl"]).await;
    for object in objects["items"].as_array().unwrap() {
        let name = format!("{} {}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        let mut status = object["status"].clone();
        simplify(&mut status, &object["metadata"]["generation"]);
        found.insert(name, status);
    }
    let main = found.get("ChatPipeline main").cloned().unwrap_or_default();
    let mut text = json!(found).to_string();
    let own = [main["schema"].as_str(), main["streamPrefix"].as_str(), Some(world.cluster.namespace())];
    for name in own.into_iter().flatten().chain([world.servers.nats_url().as_str()]) {
        text = text.replace(name, "OWN");
    }
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

/// Without times and rates; of generations only whether it is the present one.
fn simplify(value: &mut Value, generation: &Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("lastTransitionTime");
            fields.remove("since");
            fields.remove("messagesPerMinute");
            for (name, value) in fields {
                if name == "observedGeneration" {
                    *value = json!(value == generation);
                } else {
                    simplify(value, generation);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| simplify(item, generation)),
        _ => {}
    }
}

/// The first thing in which they differ; nothing: they do not.
pub(crate) fn difference(found: &Outcome, wanted: &Outcome) -> Option<String> {
    let names = found.keys().chain(wanted.keys());
    let name = names.into_iter().find(|name| found.get(*name) != wanted.get(*name))?;
    let shown = |outcome: &Outcome| outcome.get(name).map_or_else(|| "nothing".to_owned(), Value::to_string);
    Some(format!("{name}: {}\nin place of {}", shown(found), shown(wanted)))
}
