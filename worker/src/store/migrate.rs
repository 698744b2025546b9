//! Migrations: numbered files, embedded, run in the pipeline's schema under a lock.
//!
//! Invariants: a store of a newer version is refused before anything is written; expand first, contract a version later.

use super::connect::Store;
use super::error::{StoreError, Trying};
use crate::aggregate::delta::{Group, SLICES};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions, Connection, Executor, SqlSafeStr, query, query_scalar};

/// All migrations, oldest first. A file that has been released never changes.
const MIGRATIONS: [(i64, &str, &str); 10] = [
    (1, "dictionaries", include_str!("../../migrations/0001_dictionaries.sql")),
    (2, "counters", include_str!("../../migrations/0002_counters.sql")),
    (3, "shards", include_str!("../../migrations/0003_shards.sql")),
    (4, "events and coverage", include_str!("../../migrations/0004_events_and_coverage.sql")),
    (5, "totals", include_str!("../../migrations/0005_totals.sql")),
    (6, "import", include_str!("../../migrations/0006_import.sql")),
    (7, "uncovered lines", include_str!("../../migrations/0007_uncovered_lines.sql")),
    (8, "heard for ever", include_str!("../../migrations/0008_heard_for_ever.sql")),
    (9, "import lanes", include_str!("../../migrations/0009_import_lanes.sql")),
    (10, "display names", include_str!("../../migrations/0010_display_names.sql")),
];

fn newest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.0).max().unwrap_or(0)
}

impl Store {
    /// Brings the schema to this program's version. Several may do so at once.
    ///
    /// # Errors
    /// [`StoreError::Newer`] with nothing touched; a failed migration, which leaves the version before it.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        // A connection of its own: the lock belongs to its session, and goes with it whatever happens.
        let mut connection = self.inner.options.connect().await.trying("connect for migrations")?;
        refuse_newer(version(&mut connection).await?)?;
        connection.execute("SET statement_timeout = 0").await.trying("prepare migrations")?;
        let mut migrator = Migrator::with_migrations(migrations());
        if !schema_exists(&mut connection, &self.inner.schema).await? {
            migrator.create_schema(self.inner.schema.clone());
        }
        let run = Box::pin(migrator.run_direct(None, &mut connection, false)).await;
        let closed = connection.close().await;
        run.map_err(|error| StoreError::Migrate(error.to_string()))?;
        closed.trying("end the migrations' connection")
    }

    /// Whether the store has exactly this program's version: for processes that do not migrate.
    ///
    /// # Errors
    /// [`StoreError::Newer`], [`StoreError::NotMigrated`].
    pub async fn check_version(&self) -> Result<(), StoreError> {
        let mut connection = self.acquire().await?;
        let found = version(&mut connection).await?;
        refuse_newer(found)?;
        if found < newest() {
            return Err(StoreError::NotMigrated { found, needed: newest() });
        }
        Ok(())
    }

    /// Records the number of shards, and makes their rows.
    ///
    /// # Errors
    /// [`StoreError::Shards`] where the store was made for another number.
    pub async fn init_shards(&self, shards: u16) -> Result<(), StoreError> {
        let wanted = shards;
        let shards = i16::try_from(shards).unwrap_or(i16::MAX);
        let mut connection = self.acquire().await?;
        let mut transaction = connection.begin().await.trying("begin")?;
        query("INSERT INTO store_meta (shards) VALUES ($1) ON CONFLICT DO NOTHING")
            .bind(shards)
            .execute(&mut *transaction)
            .await
            .trying("record the number of shards")?;
        let found: i16 = query_scalar("SELECT shards FROM store_meta")
            .fetch_one(&mut *transaction)
            .await
            .trying("read the number of shards")?;
        if found != shards {
            return Err(StoreError::Shards { found: found.cast_unsigned(), wanted });
        }
        let groups = [Group::Fast, Group::RollUp].into_iter().chain((0..SLICES).map(Group::Slow));
        let groups: Vec<i16> = groups.map(Group::number).collect();
        query("INSERT INTO shard (shard) SELECT generate_series(0, $1 - 1) ON CONFLICT DO NOTHING")
            .bind(i32::from(shards))
            .execute(&mut *transaction)
            .await
            .trying("make the shards' rows")?;
        query(
            "INSERT INTO shard_group (shard, grp, epoch) \
             SELECT s.shard, g, s.epoch FROM shard s CROSS JOIN unnest($1::smallint[]) AS g ON CONFLICT DO NOTHING",
        )
        .bind(groups)
        .execute(&mut *transaction)
        .await
        .trying("make the groups' rows")?;
        transaction.commit().await.trying("commit the shards' rows")
    }
}

fn migrations() -> Vec<Migration> {
    let migration = |&(version, name, sql): &(i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    MIGRATIONS.iter().map(migration).collect()
}

/// The last migration that ran; 0: none.
async fn version(connection: &mut PgConnection) -> Result<i64, StoreError> {
    let is_there: bool = query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await
        .trying("look for migrations")?;
    if !is_there {
        return Ok(0);
    }
    query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations")
        .fetch_one(connection)
        .await
        .trying("read the store's version")
}

fn refuse_newer(found: i64) -> Result<(), StoreError> {
    if found > newest() { Err(StoreError::Newer { found, known: newest() }) } else { Ok(()) }
}

async fn schema_exists(connection: &mut PgConnection, schema: &str) -> Result<bool, StoreError> {
    query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)")
        .bind(schema)
        .fetch_one(connection)
        .await
        .trying("look for the schema")
}
