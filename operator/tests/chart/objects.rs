//! What the chart renders, in each of its modes.

use crate::helm::{CHART, helm, template};
use clamor_crds::definition;
use clamor_operator::config::Config;
use clamor_testkit::TestFolder;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The chart's modes: what a user sets, by name.
pub(crate) const MODES: [(&str, &[&str]); 6] = [
    ("all namespaces", &[]),
    ("some namespaces", &["--set", "watchNamespaces={one,two}"]),
    ("several buses", &BUSES),
    ("without definitions", &["--set", "crds.enabled=false"]),
    ("rights by somebody else", &["--set", "rbac.create=false,rbac.aggregate=false,serviceAccount.create=false"]),
    ("everything set", &EVERYTHING),
];

const BUSES: [&str; 2] = [
    "--set-json",
    r#"buses={"default": {"url": "tls://a:4222,tls://b:4222", "secretName": "nats-a", "credsKey": "my.creds", "caKey": "ca.crt"},
    "second": {"url": "nats://c:4222", "secretName": "nats-c", "user": "operator", "passwordKey": "password"},
    "third": {"url": "nats://d:4222"}}"#,
];

// A label of the operator's own that is set by mistake stays as it is.
const EVERYTHING: [&str; 8] = [
    "--set-json",
    r#"workers={"podLabels": {"team": "chat"}, "podAnnotations": {"note": "x"}, "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "chat", "operator": "Exists"}], "priorityClassName": "high"}"#,
    "--set-json",
    r#"operator={"replicas": 2, "podLabels": {"team": "chat", "app.kubernetes.io/component": "other"},
    "podAnnotations": {"note": "x"}, "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "chat", "operator": "Exists"}], "priorityClassName": "system-cluster-critical",
    "affinity": {"nodeAffinity": {}}}"#,
    "--set-json",
    r#"image={"repository": "registry.example:5000/clamor", "tag": "1", "pullSecrets": ["pull"]}"#,
    "--set-json",
    r#"serviceAccount={"name": "somebody", "annotations": {"note": "x"}}"#,
];

/// The objects of a rendered chart.
pub(crate) struct Objects(Vec<Value>);

impl Objects {
    pub(crate) fn render(namespace: &str, values: &[&str]) -> Self {
        Self::parse(&template(namespace, values).unwrap())
    }

    fn parse(text: &str) -> Self {
        let documents = text.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap());
        Self(documents.filter(|document: &Value| !document.is_null()).collect())
    }

    pub(crate) fn of(&self, kind: &str) -> impl Iterator<Item = &Value> + use<'_> {
        let kind = kind.to_owned();
        self.0.iter().filter(move |object| object["kind"] == kind.as_str())
    }

    pub(crate) fn one(&self, kind: &str) -> &Value {
        let found: Vec<_> = self.of(kind).collect();
        assert_eq!(found.len(), 1, "{kind}: {found:#?}");
        found[0]
    }

    /// `namespace/name` of each object of a kind.
    pub(crate) fn names(&self, kind: &str) -> BTreeSet<String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = |object: &Value| {
            format!("{}/{}", text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]))
        };
        self.of(kind).map(name).collect()
    }

    /// The operator's configuration, as text.
    pub(crate) fn config_text(&self) -> &str {
        self.one("ConfigMap")["data"]["operator.yaml"].as_str().unwrap()
    }

    fn config(&self) -> Config {
        let folder = TestFolder::new().unwrap();
        let path = folder.path().join("operator.yaml");
        fs::write(&path, self.config_text()).unwrap();
        Config::read(&path).unwrap()
    }

    fn container(&self) -> &Value {
        &self.one("Deployment")["spec"]["template"]["spec"]["containers"][0]
    }

    /// The value of an environment variable of the operator.
    pub(crate) fn env(&self, name: &str) -> Option<&str> {
        let found = self.container()["env"].as_array()?.iter().find(|entry| entry["name"] == name)?;
        found["value"].as_str()
    }
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn the_chart_passes_helms_own_check_in_every_mode() {
    for (mode, values) in MODES {
        let output = helm(&[&["lint", "--strict", CHART], values].concat()).unwrap();
        assert!(output.status.success(), "{mode}: {output:?}");
    }
}

#[test]
fn the_chart_and_its_image_have_the_programs_version() {
    let chart: Value =
        serde_saphyr::from_str(&fs::read_to_string(Path::new(CHART).join("Chart.yaml")).unwrap()).unwrap();
    assert_eq!(
        (&chart["version"], &chart["appVersion"]),
        (&env!("CARGO_PKG_VERSION").into(), &env!("CARGO_PKG_VERSION").into())
    );
    let image = format!("localhost/clamor:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(Objects::render("chat", &[]).container()["image"], image.as_str());
    let digest = format!("sha256:{}", "0".repeat(64));
    let by_digest = Objects::render("chat", &["--set", &format!("image.digest={digest}")]);
    assert_eq!(by_digest.container()["image"], format!("localhost/clamor@{digest}").as_str());
    assert_eq!(by_digest.config().workers.image, format!("localhost/clamor@{digest}"));
}

#[test]
fn the_operator_is_told_in_its_own_words_what_the_values_say() {
    let config = Objects::render("chat", &[]).config();
    let least: Config = serde_saphyr::from_str("{workers: {image: x}, buses: {}}").unwrap();
    let shared = |config: &Config| {
        let (workers, twitch) = (config.workers.clone(), config.twitch.clone());
        (config.cluster_name.clone(), workers.image_pull_policy, workers.spill, workers.log, format!("{twitch:?}"))
    };
    assert_eq!(shared(&config), shared(&least), "the chart's defaults and the program's");
    assert_eq!(config.buses.keys().collect::<Vec<_>>(), ["default"]);

    let config = Objects::render("chat", &BUSES).config();
    let file = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let told = |name: &str| {
        let bus = &config.buses[name];
        (file(&bus.creds_file), bus.user.clone(), file(&bus.password_file), file(&bus.ca_file))
    };
    let path = |path: &str| Some(format!("/var/run/secrets/clamor/{path}"));
    assert_eq!(told("default"), (path("default/nats.creds"), None, None, path("default/ca.crt")));
    assert_eq!(told("second"), (None, Some("operator".to_owned()), path("second/password"), None));
    assert_eq!(told("third"), (None, None, None, None));

    let set = Objects::render("chat", &EVERYTHING);
    let workers = set.config().workers;
    assert_eq!(
        (workers.image.as_str(), &workers.image_pull_secrets[..]),
        ("registry.example:5000/clamor:1", &["pull".to_owned()][..])
    );
    assert_eq!((workers.priority_class_name.as_str(), workers.tolerations.len()), ("high", 1));
    let deployment = &set.one("Deployment")["spec"];
    assert_eq!(deployment["replicas"], 2);
    let labels = &deployment["template"]["metadata"]["labels"];
    assert_eq!((&labels["team"], &labels["app.kubernetes.io/component"]), (&"chat".into(), &"operator".into()));
}

#[test]
fn the_secrets_of_the_buses_are_where_the_operator_looks() {
    let set = Objects::render("chat", &BUSES);
    let pod = &set.one("Deployment")["spec"]["template"]["spec"];
    let mount = pod["containers"][0]["volumeMounts"].as_array().unwrap().iter().find(|mount| mount["name"] == "buses");
    assert_eq!(mount.unwrap()["mountPath"], "/var/run/secrets/clamor");
    let volume = pod["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == "buses").unwrap();
    let mut files = BTreeSet::new();
    for source in volume["projected"]["sources"].as_array().unwrap() {
        assert_eq!(source["secret"]["optional"], true, "one that is missing must not keep the operator from starting");
        for item in source["secret"]["items"].as_array().unwrap() {
            files.insert(format!("{} {} {}", source["secret"]["name"], item["key"], item["path"]).replace('"', ""));
        }
    }
    let wanted =
        ["nats-a ca.crt default/ca.crt", "nats-a my.creds default/nats.creds", "nats-c password second/password"];
    assert_eq!(files, names(&wanted));
    let without = Objects::render("chat", &[]);
    assert_eq!(without.one("Deployment")["spec"]["template"]["spec"]["volumes"].as_array().unwrap().len(), 1);
}

#[test]
fn rights_are_the_clusters_or_those_of_the_watched_namespaces() {
    let all = Objects::render("chat", &[]);
    assert_eq!(all.names("ClusterRole"), names(&["/clamor-admin", "/clamor-edit", "/clamor-operator", "/clamor-view"]));
    assert_eq!(all.names("ClusterRoleBinding"), names(&["/clamor-operator"]));
    assert_eq!(all.names("Role"), names(&["chat/clamor-operator-leader"]));
    assert_eq!(all.env("WATCH_NAMESPACES"), None);

    let some = Objects::render("chat", &["--set", "watchNamespaces={chat,two}"]);
    assert_eq!(some.names("ClusterRole"), names(&["/clamor-admin", "/clamor-edit", "/clamor-view"]));
    assert_eq!(some.names("ClusterRoleBinding"), BTreeSet::new());
    let roles = names(&["chat/clamor-operator", "chat/clamor-operator-leader", "two/clamor-operator"]);
    assert_eq!((some.names("Role"), some.names("RoleBinding")), (roles.clone(), roles));
    assert_eq!(some.env("WATCH_NAMESPACES"), Some("chat,two"));
    assert_eq!(some.env("LEASE_NAME"), Some("clamor-operator"));

    let none =
        Objects::render("chat", &["--set", "rbac.create=false,rbac.aggregate=false,serviceAccount.create=false"]);
    for kind in ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "ServiceAccount"] {
        assert_eq!(none.names(kind), BTreeSet::new());
    }
    assert_eq!(none.one("Deployment")["spec"]["template"]["spec"]["serviceAccountName"], "default");
}

#[test]
fn the_definitions_are_the_crates_and_stay_when_the_release_goes() {
    let all = Objects::render("chat", &[]);
    for definition in definition::all() {
        let name = definition.metadata.name.as_deref().unwrap();
        let found = all.of("CustomResourceDefinition").find(|found| found["metadata"]["name"] == name).unwrap();
        assert_eq!(found["spec"], serde_json::to_value(&definition.spec).unwrap(), "{name}");
        assert_eq!(found["metadata"]["annotations"]["helm.sh/resource-policy"], "keep", "{name}");
    }
    assert_eq!(all.of("CustomResourceDefinition").count(), definition::all().len());
    let without = Objects::render("chat", &["--set", "crds.enabled=false"]);
    assert_eq!(without.of("CustomResourceDefinition").count(), 0);
    assert_eq!(without.0.len() + definition::all().len(), all.0.len());
}

#[test]
fn another_configuration_makes_another_pod_and_the_same_does_not() {
    let template = |values: &[&str]| Objects::render("chat", values).one("Deployment")["spec"]["template"].clone();
    assert_eq!(template(&[]), template(&["--set", "rbac.aggregate=false"]));
    assert_ne!(template(&[]), template(&["--set", "twitch.joinRate=21"]));
}

#[test]
fn two_releases_of_one_cluster_have_no_name_in_common() {
    let render = |release: &str| {
        let output = helm(&["template", release, CHART, "--set", "crds.enabled=false"]).unwrap();
        let objects = Objects::parse(&String::from_utf8(output.stdout).unwrap());
        let kinds: BTreeSet<_> = objects.0.iter().map(|object| object["kind"].as_str().unwrap()).collect();
        let named =
            |kind: &&str| objects.names(kind).into_iter().map(|name| format!("{kind} {name}")).collect::<Vec<_>>();
        kinds.iter().flat_map(named).collect()
    };
    let (one, other): (BTreeSet<String>, BTreeSet<String>) = (render("clamor"), render("second"));
    assert!(one.len() > 5 && one.is_disjoint(&other), "{one:?} {other:?}");
}
