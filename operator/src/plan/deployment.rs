//! The Deployments of workers, as they are applied.
//!
//! Pods run restricted: no root, a read-only root file system, no capabilities, no token for the Kubernetes API. Secrets
//! are mounted as files and optional, so that a pod whose Secret is not there starts and says so.

use super::names::{self, Role};
use crate::config::Config;
use clamor_crds::ChatPipeline;
use clamor_crds::chat_pipeline::{Amounts, PipelineRetention, Resources};
use clamor_crds::period::Days;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Map, Value, json};

/// From SIGTERM to SIGKILL, in seconds: a leaving worker reads on until its successor has joined.
const GRACE_S: u64 = 120;
/// How long it does so; the rest is for publishing what was read.
const DRAIN_LIMIT_S: u64 = GRACE_S - 10;
const PORT: u16 = 8470;
/// The variable with the bus that a worker is on.
const BUS_URL: &str = "NATS_URL";
/// Where Secrets are mounted.
const SECRETS: &str = "/etc/clamor";

/// The Deployment of one slot: one pod, and a second one while it is replaced.
#[must_use]
pub fn ingest(pipeline: &ChatPipeline, slot: &str, config: &Config) -> Value {
    let mut worker = Worker::new(pipeline, Role::Ingest, config);
    worker.arg("--worker", slot);
    // One heap for all threads: connections move between them, and one heap each would be filled by all.
    worker.env("MALLOC_ARENA_MAX", 1);
    worker.env("DRAIN_LIMIT", DRAIN_LIMIT_S);
    worker.env("SPILL_DIR", "/var/lib/clamor/spill");
    // A pod that fills its volume is evicted: the worker's own limit comes first.
    worker.env("SPILL_LIMIT_BYTES", config.workers.spill.whole().unwrap_or(0) / 10 * 9);
    worker.env("TWITCH_ADDRESS", &config.twitch.address);
    worker.env("TWITCH_TLS", config.twitch.tls);
    worker.env("JOIN_RATE", config.twitch.join_rate);
    worker.field_env("POD_UID", "metadata.uid");
    worker.volume(
        "spill",
        json!({"emptyDir": {"sizeLimit": config.workers.spill.to_string()}}),
        "/var/lib/clamor/spill",
        false,
    );
    if let Some(twitch) = &pipeline.spec.twitch {
        worker.secret("twitch", "TWITCH_SECRET_DIR", &twitch.secret_ref.name);
    }
    let slot_label = (names::SLOT_LABEL, slot);
    let affinity = json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 100,
        "podAffinityTerm": {
            "topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": names::labels(&pipeline.name_any(), Role::Ingest)},
        },
    }]}});
    worker.pod.insert("affinity".to_owned(), affinity);
    let resources = pipeline.spec.ingest.resources.as_ref().unwrap_or(&config.workers.ingest_resources);
    worker.into_deployment(slot, 1, Some(slot_label), resources)
}

/// The Deployment of a pipeline's aggregators.
#[must_use]
pub fn aggregate(pipeline: &ChatPipeline, config: &Config) -> Value {
    let mut worker = Worker::new(pipeline, Role::Aggregate, config);
    let name = pipeline.name_any();
    worker
        .env("DATABASE_SCHEMA", names::schema(&config.cluster_name, &pipeline.namespace().unwrap_or_default(), &name));
    worker.secret("store", "DATABASE_SECRET_DIR", &pipeline.spec.store.secret_ref.name);
    let kept = pipeline.spec.retention.clone().unwrap_or_default();
    let PipelineRetention { minutes, hours, days, matches, events } = kept;
    // One setting of the worker covers both; the longer wins, so that nothing is dropped too soon.
    let events = match (matches, events) {
        (Some(matches), Some(events)) => days_of(Some(&matches)).max(days_of(Some(&events))),
        _ => 0,
    };
    worker.env("RETENTION_MINUTES", days_of(minutes.as_ref()));
    worker.env("RETENTION_HOURS", days_of(hours.as_ref()));
    worker.env("RETENTION_DAYS", days_of(days.as_ref()));
    worker.env("RETENTION_EVENTS", events);
    let replicas = pipeline.spec.aggregate.workers.unwrap_or(pipeline.spec.aggregate.min_workers);
    let resources = pipeline.spec.aggregate.resources.as_ref().unwrap_or(&config.workers.aggregate_resources);
    worker.into_deployment(&names::aggregate(&name), replicas, None, resources)
}

/// Whether the workers of a Deployment are on the bus already that they should be on.
#[must_use]
pub fn is_on_its_bus(found: &Deployment, wanted: &Value) -> bool {
    let bus = |deployment: &Value| {
        let containers = deployment.pointer("/spec/template/spec/containers").and_then(Value::as_array);
        let env = containers.into_iter().flatten().filter_map(|container| container["env"].as_array()).flatten();
        env.filter(|variable| variable["name"] == BUS_URL).map(|variable| variable["value"].clone()).next()
    };
    bus(&json!(found)) == bus(wanted)
}

/// Days; 0: for ever.
fn days_of(days: Option<&Days>) -> u64 {
    days.and_then(|days| days.duration().ok()).map_or(0, |duration| duration.as_secs() / 86_400)
}

/// A pod template in the making.
struct Worker<'a> {
    pipeline: &'a ChatPipeline,
    role: Role,
    config: &'a Config,
    args: Vec<String>,
    env: Vec<Value>,
    volumes: Vec<Value>,
    mounts: Vec<Value>,
    pod: Map<String, Value>,
}

impl<'a> Worker<'a> {
    fn new(pipeline: &'a ChatPipeline, role: Role, config: &'a Config) -> Self {
        let mut worker = Self {
            pipeline,
            role,
            config,
            args: vec![role.name().to_owned()],
            env: Vec::new(),
            volumes: Vec::new(),
            mounts: Vec::new(),
            pod: Map::new(),
        };
        let bus = &pipeline.spec.bus;
        let url = config.buses.get(&bus.name).map_or("", |bus| bus.url.as_str());
        let namespace = pipeline.namespace().unwrap_or_default();
        worker.env("PIPELINE", names::on_bus(&config.cluster_name, &namespace, &pipeline.name_any()));
        worker.env(BUS_URL, url);
        worker.env("HTTP_LISTEN", format!("0.0.0.0:{PORT}"));
        worker.env("LOG", &config.workers.log);
        worker.env("LOG_FORMAT", "json");
        if let Some(secret) = &bus.secret_ref {
            worker.secret("bus", "NATS_SECRET_DIR", &secret.name);
        }
        worker
    }

    fn arg(&mut self, flag: &str, value: &str) {
        self.args.extend([flag.to_owned(), value.to_owned()]);
    }

    fn env(&mut self, name: &str, value: impl std::fmt::Display) {
        let value = value.to_string();
        self.env.push(json!({"name": name, "value": value}));
    }

    fn field_env(&mut self, name: &str, path: &str) {
        self.env.push(json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}));
    }

    fn volume(&mut self, name: &str, source: Value, path: &str, read_only: bool) {
        let mut volume = source;
        volume["name"] = json!(name);
        self.volumes.push(volume);
        let mut mount = json!({"name": name, "mountPath": path});
        if read_only {
            mount["readOnly"] = json!(true);
        }
        self.mounts.push(mount);
    }

    /// Mounts a Secret, and tells the worker where.
    fn secret(&mut self, name: &str, setting: &str, secret: &str) {
        let path = format!("{SECRETS}/{name}");
        self.volume(
            name,
            json!({"secret": {"secretName": secret, "optional": true, "defaultMode": 0o440}}),
            &path,
            true,
        );
        self.env(setting, path);
    }

    fn into_deployment(self, name: &str, replicas: i32, label: Option<(&str, &str)>, resources: &Resources) -> Value {
        let Self { pipeline, role, config, args, env, volumes, mounts, mut pod } = self;
        let workers = &config.workers;
        let mut selector = names::labels(&pipeline.name_any(), role);
        selector.extend(label.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let mut pod_labels = workers.pod_labels.clone();
        pod_labels.extend(selector.clone());
        let probe = |path: &str| json!({"httpGet": {"path": path, "port": "http"}});
        let with = |mut probe: Value, more: &[(&str, u32)]| {
            more.iter().for_each(|(key, value)| probe[*key] = json!(value));
            probe
        };
        let container = json!({
            "name": role.name(),
            "image": workers.image,
            "imagePullPolicy": workers.image_pull_policy,
            "command": ["/clamor-worker"],
            "args": args,
            "env": env,
            "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
            "resources": resources_of(resources),
            "volumeMounts": mounts,
            "readinessProbe": with(probe("/readyz"), &[("periodSeconds", 2)]),
            "livenessProbe": with(probe("/livez"), &[("periodSeconds", 10), ("failureThreshold", 6)]),
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
        });
        pod.extend(
            json!({
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": GRACE_S,
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 65_532, "runAsGroup": 65_532, "fsGroup": 65_532,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [container],
                "volumes": volumes,
            })
            .as_object()
            .cloned()
            .unwrap_or_default(),
        );
        optional(&mut pod, "nodeSelector", json!(workers.node_selector));
        optional(&mut pod, "tolerations", json!(workers.tolerations));
        optional(&mut pod, "priorityClassName", json!(workers.priority_class_name));
        let secrets: Vec<Value> = workers.image_pull_secrets.iter().map(|name| json!({"name": name})).collect();
        optional(&mut pod, "imagePullSecrets", json!(secrets));
        let mut template = Map::from_iter([("labels".to_owned(), json!(pod_labels))]);
        optional(&mut template, "annotations", json!(workers.pod_annotations));
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": name,
                "namespace": pipeline.namespace(),
                "labels": selector,
                "ownerReferences": [{
                    "apiVersion": ChatPipeline::api_version(&()),
                    "kind": ChatPipeline::kind(&()),
                    "name": pipeline.name_any(),
                    "uid": pipeline.uid(),
                    "controller": true,
                }],
            },
            "spec": {
                "replicas": replicas,
                // What is not said could be paused by hand, and no new image would ever be rolled out.
                "paused": false,
                "revisionHistoryLimit": 2,
                "selector": {"matchLabels": selector},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "template": {"metadata": template, "spec": pod},
            },
        })
    }
}

/// What is empty is left out: an applied empty list would be a field of ours.
fn optional(map: &mut Map<String, Value>, key: &str, value: Value) {
    let is_empty = match &value {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    if !is_empty {
        map.insert(key.to_owned(), value);
    }
}

fn resources_of(resources: &Resources) -> Value {
    let mut map = Map::new();
    for (key, amounts) in [("requests", &resources.requests), ("limits", &resources.limits)] {
        let Some(Amounts { cpu, memory }) = amounts else { continue };
        let mut amounts = Map::new();
        for (name, amount) in [("cpu", cpu), ("memory", memory)] {
            amounts.extend(amount.as_ref().map(|amount| (name.to_owned(), json!(amount.to_string()))));
        }
        optional(&mut map, key, Value::Object(amounts));
    }
    Value::Object(map)
}
