//! Connecting, migrating, and refusing what does not fit.

use crate::support::{TestStore, number};
use clamor_testkit::{Needs, Servers};
use clamor_worker::store::{Class, Store, StoreConfig, StoreError};
use std::io::Write;

#[tokio::test]
async fn an_absent_database_is_one_clear_error_without_the_password() {
    let error = Store::connect(&StoreConfig::new("postgres://u:secret@127.0.0.1:1/d")).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("DATABASE_URL") && text.contains("127.0.0.1:1/d") && !text.contains("secret"), "{text}");
    assert_eq!((error.reason(), error.class()), ("Unreachable", Class::Retry));
}

#[tokio::test]
async fn a_refused_password_names_the_settings_and_a_password_file_wins() {
    let servers = Servers::start_only(Needs::Postgres).await.unwrap();
    let url = servers.database_url();
    let (user, rest) = url.split_once('@').unwrap();
    let password = user.rsplit_once(':').unwrap().1;
    let wrong = format!("postgres://clamor:wrong@{rest}");
    let error = Store::connect(&StoreConfig::new(&wrong)).await.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.reason(), "LoginRefused");
    assert!(
        text.contains("DATABASE_URL") && text.contains("DATABASE_PASSWORD_FILE") && !text.contains("wrong"),
        "{text}"
    );
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{password}").unwrap();
    let mut config = StoreConfig::new(wrong);
    config.password_file = Some(file.path().to_owned());
    Store::connect(&config).await.unwrap();
    let absent = Store::connect(&StoreConfig::new(servers.postgres().url_of("nowhere"))).await.unwrap_err();
    assert!(absent.to_string().contains("nowhere"), "{absent}");
}

#[tokio::test]
async fn several_processes_migrate_at_once_and_again() {
    let test = TestStore::new().await;
    let mut config = test.config.clone();
    config.schema = "another".into();
    let stores = [Store::connect(&config).await.unwrap(), Store::connect(&config).await.unwrap()];
    let (one, two) = tokio::join!(stores[0].migrate(), stores[1].migrate());
    one.unwrap();
    two.unwrap();
    stores[0].migrate().await.unwrap();
    stores[1].check_version().await.unwrap();
    // Each in its own schema.
    stores[0].init_shards(4).await.unwrap();
    assert_eq!(number(&stores[0], "SELECT shards::bigint FROM store_meta").await, 4);
    assert_eq!(test.number("SELECT shards::bigint FROM store_meta").await, 2);
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_refused_untouched() {
    let test = TestStore::new().await;
    test.execute(
        "INSERT INTO _sqlx_migrations SELECT 9000, 'from the future', now(), true, checksum, 0 FROM _sqlx_migrations LIMIT 1",
    )
    .await;
    let error = test.store.migrate().await.unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 9000, .. }), "{error}");
    assert_eq!(error.class(), Class::Stop);
    assert!(test.store.check_version().await.is_err());
    assert_eq!(test.number("SELECT max(version) FROM _sqlx_migrations").await, 9000);
}

#[tokio::test]
async fn a_store_without_tables_is_not_migrated() {
    let servers = Servers::start_only(Needs::Postgres).await.unwrap();
    let store = Store::connect(&StoreConfig::new(servers.database_url())).await.unwrap();
    assert!(matches!(store.check_version().await, Err(StoreError::NotMigrated { found: 0, .. })));
}

#[tokio::test]
async fn another_number_of_shards_is_refused() {
    let test = TestStore::new().await;
    test.store.init_shards(2).await.unwrap();
    let error = test.store.init_shards(4).await.unwrap_err();
    assert!(matches!(error, StoreError::Shards { found: 2, wanted: 4 }), "{error}");
}

#[tokio::test]
async fn every_table_view_and_column_says_what_it_is() {
    let test = TestStore::new().await;
    test.store.maintain_partitions(crate::support::NOON).await.unwrap();
    let silent = test
        .text(
            "SELECT coalesce(string_agg(c.relname || coalesce('.' || a.attname, ''), ', '), '') FROM pg_class c
             JOIN pg_namespace n ON n.oid = c.relnamespace
             LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             WHERE n.nspname = 'clamor' AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
             AND c.relname <> '_sqlx_migrations'
             AND (obj_description(c.oid, 'pg_class') IS NULL OR col_description(c.oid, a.attnum) IS NULL)",
        )
        .await;
    assert_eq!(silent, "");
}
