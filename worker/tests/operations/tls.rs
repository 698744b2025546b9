//! Postgres behind TLS, under an authority of one's own.

use crate::pipeline::{LIMIT, WORKER, execute, number, says, waits_for};
use clamor_testkit::{Servers, WorkerOptions, WorkerProcess, eventually};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// An authority, as a file; and what it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(dir: &Path, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let file = dir.join(name);
        std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), file }
    }

    /// A server's certificate for this machine, and its key.
    fn sign(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// Lets the servers' PostgreSQL speak TLS with this certificate, and nothing else.
async fn speak_tls(servers: &Servers, authority: &Authority) {
    let (certificate, key) = authority.sign();
    let owner = std::fs::metadata(servers.postgres().dir()).unwrap();
    for (name, text) in [("server.crt", certificate), ("server.key", key)] {
        let path = servers.postgres().dir().join("data").join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let rules = servers.postgres().dir().join("data/pg_hba.conf");
    std::fs::write(rules, "hostssl all all 127.0.0.1/32 scram-sha-256\n").unwrap();
    execute(servers, "ALTER SYSTEM SET ssl = on").await;
    execute(servers, "SELECT pg_reload_conf()").await;
    let plain = format!("{}?sslmode=disable", servers.database_url());
    eventually("nobody gets in without TLS", LIMIT, async || match number(&plain, "SELECT 1::bigint").await {
        Err(refused) if refused.to_string().contains("no encryption") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

fn aggregate(servers: &Servers, name: &str, sslmode: &str, authority: &Authority) -> WorkerProcess {
    let url = format!("{}{sslmode}", servers.database_url());
    let options = WorkerOptions::new(WORKER, name, &["aggregate"], servers)
        .env("NATS_URL", servers.nats_url())
        .env("DATABASE_URL", url)
        .env("DATABASE_CA_FILE", authority.file.display().to_string());
    WorkerProcess::start(options).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_spoken_to_under_the_given_authority_and_no_other() {
    let servers = Servers::start().await.unwrap();
    let ours = Authority::new(servers.folder(), "ours.pem");
    let other = Authority::new(servers.folder(), "other.pem");

    // Before the server has a certificate: whoever asks for TLS does not go on without.
    let plain = aggregate(&servers, "plain", "?sslmode=verify-full", &ours);
    says(&plain, &["WARN", "sslmode", "no TLS with Postgres"]).await;

    speak_tls(&servers, &ours).await;
    // It tries again, and waits for streams only once the store is there and migrated.
    waits_for(&plain, "streams").await;

    // An authority alone means verify-full.
    for (name, sslmode) in [("untrusted", "?sslmode=verify-full"), ("untrusted-by-default", "")] {
        let untrusted = aggregate(&servers, name, sslmode, &other);
        assert_eq!(says(&untrusted, &["WARN", "DATABASE_CA_FILE", "certificate"]).await, 1);
        let (status, text) = untrusted.get("/readyz").await.unwrap();
        assert_eq!(status, 503);
        assert!(text.contains("postgres: ") && text.contains("DATABASE_CA_FILE"), "{text}");
    }
    assert!(plain.terminate_and_wait(LIMIT).await.unwrap().success());
}
