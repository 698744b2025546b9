//! What each role may do on a NATS that asks for a login: subjects that it may publish on, and subscribe to.
//!
//! JetStream's requests are messages too, and name the stream: who may not ask for a deletion cannot delete. The page
//! docs/nats.md is written from this, and a test runs a pipeline under it.
//!
//! NATS' wildcards stand for whole words between dots. A worker's pipeline is known, so its list names every stream; an
//! operator has pipelines that nobody knows yet, so its list names none.

use crate::report::AGGREGATE;
use clamor_chat::subject::Names;
use std::fmt::Write as _;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Plans, for any number of pipelines.
    Operator,
    /// Reads chats, for one pipeline.
    Ingest,
    /// Counts, for one pipeline.
    Aggregate,
}

/// All there are.
pub const ROLES: [Role; 3] = [Role::Operator, Role::Ingest, Role::Aggregate];

/// What everybody subscribes to: answers come there.
pub const SUBSCRIBE: &str = "_INBOX.>";

/// Someone who logs in.
#[derive(Debug, Clone)]
pub struct User<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its password.
    pub password: &'a str,
    /// What it may publish on.
    pub publish: Vec<String>,
}

impl Role {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Ingest => "ingest",
            Self::Aggregate => "aggregate",
        }
    }

    /// The subjects that it may publish on, where the pipeline has these names and so many shards.
    #[must_use]
    pub fn publish(self, names: &Names, shards: u16) -> Vec<String> {
        let mut subjects = vec!["$JS.API.INFO".to_owned()];
        match self {
            Self::Operator => {
                let verbs = ["CREATE", "UPDATE", "PURGE"].map(|verb| format!("$JS.API.STREAM.{verb}.*"));
                subjects.extend(verbs);
                subjects.extend(reading("*"));
                subjects.extend(["$KV.*.>", "$O.*.>", "clamor.*.*.directive"].map(str::to_owned));
            }
            Self::Ingest => {
                subjects.extend((0..shards).map(|shard| format!("$JS.API.STREAM.INFO.{}", names.stream(shard))));
                let [assignments, reports, _] = names.bucket_streams();
                subjects.extend([assignments, reports].iter().flat_map(|stream| reading(stream)));
                subjects.push(format!("$KV.{}.>", names.reports_bucket()));
                subjects.extend((0..shards).map(|shard| names.batch(shard)));
            }
            Self::Aggregate => {
                let [_, reports, sets] = names.bucket_streams();
                subjects.extend(reading(&sets));
                subjects.push(format!("$JS.API.STREAM.INFO.{reports}"));
                subjects.push(format!("$KV.{}.{AGGREGATE}.*", names.reports_bucket()));
                for shard in 0..shards {
                    let stream = names.stream(shard);
                    subjects.extend(reading(&stream));
                    subjects.push(format!("$JS.API.STREAM.PURGE.{stream}"));
                    subjects.push(names.dead(shard));
                }
            }
        }
        subjects
    }
}

/// Reading a stream, message by message and in order.
fn reading(stream: &str) -> Vec<String> {
    let api = |what: &str| format!("$JS.API.{what}.{stream}");
    let mut subjects = ["STREAM.INFO", "STREAM.MSG.GET", "DIRECT.GET", "CONSUMER.CREATE"].map(api).to_vec();
    let more = ["DIRECT.GET", "CONSUMER.CREATE", "CONSUMER.INFO", "CONSUMER.DELETE", "CONSUMER.MSG.NEXT"].map(api);
    subjects.extend(more.iter().map(|subject| format!("{subject}.>")));
    // Flow control, which a reader of a bucket answers.
    subjects.push(format!("$JS.FC.{stream}.>"));
    subjects
}

/// A block of nats-server's configuration that lets these in and nobody else.
#[must_use]
pub fn authorization(users: &[User<'_>]) -> String {
    let mut text = "authorization {\n  users: [\n".to_owned();
    for User { name, password, publish } in users {
        let subjects: Vec<String> = publish.iter().map(|subject| format!("        \"{subject}\"\n")).collect();
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "    {{\n      user: \"{name}\", password: \"{password}\"\n      permissions: {{\n        \
             subscribe: \"{SUBSCRIBE}\"\n        publish: [\n{}        ]\n      }}\n    }}\n",
            subjects.concat().replace("        \"", "          \"")
        );
    }
    text + "  ]\n}\n"
}

/// Of the example: as many as a ChatPipeline has that does not say.
const SHARDS: u16 = 8;

/// The page of documentation: the table, and a configuration for an example.
///
/// # Panics
/// Never: the example's name is a pipeline's.
#[must_use]
#[expect(clippy::expect_used, reason = "a constant")]
pub fn markdown() -> String {
    let names = Names::new("default_chat_main").expect("a pipeline's name");
    let mut page = "<!-- Generated from bus/src/permissions.rs by `make generate`. Do not edit. -->\n\
        # Permissions on NATS\n\n\
        On a NATS that asks for a login each role may publish on these subjects alone, and all subscribe to `_INBOX.>` alone. \
        The example is the pipeline `main` of the namespace `chat` in the cluster `default`, with 8 shards: right for \
        fewer as well. A test runs a pipeline under what is written here.\n\n\
        | role | what for | what it cannot |\n|---|---|---|\n\
        | `operator` | makes streams and buckets, writes assignments, sets and directives, reads reports; for all pipelines of \
        its configuration | publish chat, delete a stream |\n\
        | `ingest` | reads assignments and reports, writes reports, publishes chat | write an assignment, publish a directive, \
        make, change, purge or delete a stream, read chat |\n\
        | `aggregate` | reads chat, directives and sets, purges what is counted, writes dead letters, reports \
        what keeps it from counting | write an assignment, \
        publish a directive or chat, make or delete a stream |\n\n\
        On a cluster ingest workers and aggregators mount one Secret, `spec.bus.secretRef` of their ChatPipeline: its login \
        has what both may. It holds `user` and `password`, or `nats.creds`, and `ca.crt` where the server's certificate \
        needs it. The operator's own login is in the Secret `buses.<name>.secretName` of the chart. \
        [install.md](install.md#a-bus-that-asks-for-a-login) makes both.\n\n\
        Who subscribes to `_INBOX.>` can overhear the answers to others: pipelines of people who must not see each other's \
        chat belong in NATS accounts of their own.\n\n\
        A block of nats-server's configuration. For another pipeline write its cluster (`clusterName` of the chart), \
        namespace and name in place of `default_chat_main`, and in capitals in place of `DEFAULT_CHAT_MAIN`; each pipeline \
        has a user of its own. For more shards repeat what has a shard's number.\n\n```\n"
        .to_owned();
    let workers = [Role::Ingest, Role::Aggregate].map(|role| role.publish(&names, SHARDS)).concat();
    let mut distinct: Vec<String> = Vec::new();
    for subject in workers {
        if !distinct.contains(&subject) {
            distinct.push(subject);
        }
    }
    let operator = Role::Operator.publish(&names, SHARDS);
    page += &authorization(&[
        User { name: "clamor-operator", password: "$OPERATOR_PASSWORD", publish: operator },
        User { name: "clamor-chat-main", password: "$WORKERS_PASSWORD", publish: distinct },
    ])
    .replace("password: \"$OPERATOR_PASSWORD\"", "password: $OPERATOR_PASSWORD")
    .replace("password: \"$WORKERS_PASSWORD\"", "password: $WORKERS_PASSWORD");
    page += "```\n\n## Outside of a cluster\n\n\
        There a pipeline is called what `PIPELINE` says, `clamor` unless it is set: `clamor` and `CLAMOR` stand in place of \
        `default_chat_main` and `DEFAULT_CHAT_MAIN`. With chat that is simulated or recorded `standalone` adds a word to it \
        (`clamor_simulator`). Roles may log in apart: `clamor-worker ingest` as `ingest`, `clamor-worker aggregate` as \
        `aggregate`. `standalone` plans and counts, so it needs what `operator` and `aggregate` may together, and without \
        `--slots` what `ingest` may as well. A subject with the number 0 of a shard is needed once for each shard.\n\n\
        | role | subjects to publish on |\n|---|---|\n";
    for role in ROLES {
        let subjects: Vec<String> =
            role.publish(&names, 1).iter().map(|subject| format!("`{}`", subject.replace('|', "\\|"))).collect();
        let _ = writeln!(page, "| `{}` | {} |", role.name(), subjects.join(" "));
    }
    page
}
