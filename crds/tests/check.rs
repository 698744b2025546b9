//! The local check as its callers see it.

use clamor_crds::{
    TrackedChannel,
    manifest::{Kind, ManifestError, Object, Reason, check},
};
use kube::ResourceExt;
use serde_json::json;

fn checked(text: &str) -> Vec<Result<Object, ManifestError>> {
    check("channels.yaml", text, |_, _| None)
}

fn refused(text: &str) -> ManifestError {
    let mut found = checked(text);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0).expect_err("a refusal")
}

fn channel(name: &str, spec: &str) -> String {
    format!("apiVersion: clamor.dev/v1alpha1\nkind: TrackedChannel\nmetadata:\n  name: {name}\nspec: {spec}\n")
}

fn tracked(object: &Object) -> &TrackedChannel {
    match object {
        Object::TrackedChannel(channel) => channel,
        other => panic!("{} is no TrackedChannel", other.kind()),
    }
}

#[test]
fn one_message_has_the_file_the_object_the_field_and_what_to_write() {
    let error = refused(&channel("forsen", "{channel: '#Forsen'}"));
    assert_eq!(error.reason, Reason::RuleViolation);
    assert_eq!(
        error.to_string(),
        "channels.yaml: document 1, TrackedChannel/forsen: spec.channel: write the login as in the channel's address \
         twitch.tv/<login>, in lower case and without # or @: 1 to 25 of a-z, 0-9 and _"
    );
}

#[test]
fn the_good_objects_of_a_file_go_on_beside_the_bad_ones() {
    let text = [
        channel("a", "{channel: a}"),
        channel("b", "{channel: B}"),
        "kind: [\n".to_owned(),
        "just text\n".to_owned(),
        channel("c", "{channel: c, redundancy: 9}"),
        channel("d", "{channel: d}"),
    ]
    .join("---\n");
    let found = checked(&text);
    let names: Vec<_> = found.iter().flatten().map(Object::name).collect();
    assert_eq!(names, ["a", "d"]);
    let errors: Vec<_> =
        found.into_iter().filter_map(Result::err).map(|error| (error.document, error.reason)).collect();
    let expected =
        [(2, Reason::RuleViolation), (3, Reason::InvalidYaml), (4, Reason::NotAnObject), (5, Reason::SchemaViolation)];
    assert_eq!(errors, expected);
}

#[test]
fn all_that_is_wrong_with_an_object_is_said_at_once() {
    let error = refused(&channel("a", "{channel: a, redundancy: 9, isolation: Alone, suspend: maybe}"));
    let mut fields: Vec<_> = error.problems.iter().map(|problem| problem.field.as_str()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["spec.isolation", "spec.redundancy", "spec.suspend"]);
    assert!(!error.to_string().contains('\n'));
}

#[test]
fn an_object_comes_with_its_defaults_and_without_its_status() {
    let text = format!("{}status: {{channelId: 7}}\n", channel("a", "{channel: a}"));
    let object = checked(&text).remove(0).unwrap();
    let channel = tracked(&object);
    assert_eq!(channel.spec.redundancy, 1);
    assert_eq!(channel.spec.emotes.providers.len(), 3);
    assert_eq!(channel.status.as_ref().and_then(|status| status.channel_id), None);
    assert_eq!(channel.name_any(), "a");
}

#[test]
fn the_default_status_reads_as_pending() {
    let object = checked(&channel("a", "{channel: a}")).remove(0).unwrap();
    let status = object.to_value()["status"].clone();
    assert_eq!(status["conditions"][0]["status"], "Unknown");
    assert_eq!(status["conditions"][0]["reason"], "Pending");
}

#[test]
fn an_immutable_field_is_compared_with_the_object_that_stands() {
    let standing = checked(&channel("a", "{channel: a}")).remove(0).unwrap().to_value();
    let over = |text: &str| {
        check("f", text, |kind, name| (kind == Kind::TrackedChannel && name == "a").then(|| standing.clone())).remove(0)
    };
    assert!(over(&channel("a", "{channel: a, suspend: true}")).is_ok());
    assert!(over(&channel("other", "{channel: b}")).is_ok());
    let error = over(&channel("a", "{channel: b}")).unwrap_err();
    assert!(error.to_string().contains("spec.channel: cannot be changed"), "{error}");
}

#[test]
fn kinds_that_are_not_clamors_are_told_apart() {
    let foreign = refused("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n");
    assert_eq!(foreign.reason, Reason::ForeignKind);
    let kind = refused("apiVersion: clamor.dev/v1alpha1\nkind: Channel\nmetadata: {name: a}\n");
    assert_eq!(kind.reason, Reason::UnknownKind);
    assert!(kind.to_string().contains("TrackedChannel"), "{kind}");
    let version = refused("apiVersion: clamor.dev/v1\nkind: Phrase\nmetadata: {name: a}\n");
    assert_eq!(version.reason, Reason::UnknownVersion);
    assert!(version.to_string().contains("write clamor.dev/v1alpha1"), "{version}");
    assert_eq!(refused("kind: Phrase\n").reason, Reason::NotAnObject);
    assert_eq!(refused("apiVersion: clamor.dev/v1alpha1\n").reason, Reason::NotAnObject);
    assert_eq!(refused("[1, 2]").reason, Reason::NotAnObject);
}

#[test]
fn metadata_is_held_to_kubernetes_rules() {
    let with = |metadata: &str| {
        refused(&format!(
            "apiVersion: clamor.dev/v1alpha1\nkind: TrackedChannel\nmetadata: {metadata}\nspec: {{channel: a}}\n"
        ))
    };
    for (metadata, message) in [
        ("{}", "metadata.name: Required value"),
        ("{generateName: a-}", "metadata.name: Required value"),
        ("{name: 7}", "metadata.name: must be of type string"),
        ("{name: my_channel}", "write for example my-channel"),
        ("{name: a, namespace: a.b}", "metadata.namespace"),
        ("{name: a, labels: {team: 7}}", "metadata.labels.team: must be of type string"),
        ("{name: a, labels: [team]}", "metadata.labels: must be of type object"),
        ("text", "metadata: must be of type object"),
    ] {
        let error = with(metadata);
        assert_eq!(error.reason, Reason::InvalidMetadata);
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn what_is_quoted_from_outside_stays_short() {
    let long = format!("\"{}\\n\"", "x".repeat(100_000));
    for text in [
        channel(&long, "{channel: a}"),
        channel("a", &format!("{{channel: a, isolation: {long}}}")),
        format!("apiVersion: clamor.dev/v1alpha1\nkind: {long}\nmetadata: {{name: a}}\n"),
        format!("apiVersion: {long}\nkind: Phrase\nmetadata: {{name: a}}\n"),
        channel("a", &format!("{{channel: a, {long}: 1}}")),
    ] {
        let message = refused(&text).to_string();
        assert!(message.len() < 2_000 && !message.contains('\n'), "{} bytes", message.len());
    }
}

#[test]
fn no_text_makes_it_panic() {
    let good = channel("a", "{channel: a, emotes: {providers: [BTTV]}, archive: {retention: 7d}}");
    for cut in 0..good.len() {
        let _ = checked(&good[..cut]);
        let _ = checked(&format!("{}{}", &good[..cut], "\u{0}"));
        let _ = checked(&format!("{}: [é{}", &good[..cut], &good[cut..]));
    }
    for value in [json!(null), json!([]), json!({ "spec": 1 }), json!({ "apiVersion": 1, "kind": {} })] {
        let _ = checked(&value.to_string());
    }
}
