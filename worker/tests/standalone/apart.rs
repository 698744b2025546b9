//! Made-up chat and real chat never meet.

use crate::laptop::{LIMIT, Laptop, MESSAGES, WORKER, channel, grows_beyond, says};
use clamor_testkit::{Servers, eventually};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Row};

#[tokio::test(flavor = "multi_thread")]
async fn where_twitch_cannot_be_reached_it_says_so_once_and_simulates_in_a_store_of_its_own() {
    let laptop = Laptop::new(&[("one.yaml", channel("one"))]);
    // Nobody listens on the port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut args: Vec<String> = Laptop::args("auto").map(str::to_owned).into();
    args.extend(["--twitch-address".to_owned(), address.clone()]);
    let process = laptop.run("auto", WORKER, args);
    let store = laptop.store(&process).await;
    grows_beyond(&store, MESSAGES, 0).await;
    let log = process.log().unwrap();
    let said = log.lines().filter(|line| line.contains("Twitch can't be reached") && line.contains(&address)).count();
    assert_eq!(said, 1, "{log}");
    assert!(
        laptop.data().join("simulator/postgres").exists() || laptop.data().join("simulator/postgres.location").exists()
    );
    assert!(!laptop.data().join("postgres").exists() && !laptop.data().join("postgres.location").exists());
    store.close().await;
    assert!(process.terminate_and_wait(LIMIT).await.unwrap().success(), "{}", process.log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn on_servers_that_are_there_already_simulated_chat_has_a_schema_and_streams_of_its_own() {
    let servers = Servers::start().await.unwrap();
    let laptop = Laptop::new(&[("one.yaml", channel("one"))]);
    let mut args: Vec<String> = Laptop::args("simulator").map(str::to_owned).into();
    args.extend(["--database-url".to_owned(), servers.database_url(), "--nats-url".to_owned(), servers.nats_url()]);
    let process = laptop.run("given", WORKER, args);
    says(&process, "SIMULATED chat, in a store of its own").await;
    let store = PgPoolOptions::new().max_connections(1).connect(&servers.database_url()).await.unwrap();
    let schemas = "SELECT table_schema::text FROM information_schema.tables WHERE table_name = 'channel_minute'";
    let schema: String = eventually("the tables are made", LIMIT, async || {
        match sqlx::query(schemas).fetch_all(&store).await.map_err(|error| error.to_string())?.as_slice() {
            [row] => Ok(row.get(0)),
            rows => Err(format!("{} schemas", rows.len())),
        }
    })
    .await;
    assert_eq!(schema, "clamor_simulator");
    let counted = format!("SELECT coalesce(sum(messages), 0)::bigint FROM {schema}.channel_minute");
    grows_beyond(&store, &counted, 0).await;
    let env = laptop.env();
    let by_env = PgPoolOptions::new().max_connections(1).connect(&env["DATABASE_URL"]).await.unwrap();
    let mine: i64 = sqlx::query(AssertSqlSafe(MESSAGES)).fetch_one(&by_env).await.unwrap().get(0);
    assert!(mine > 0, "the URL of `env` leads to the same schema");
    store.close().await;
    by_env.close().await;
    assert!(process.terminate_and_wait(LIMIT).await.unwrap().success(), "{}", process.log_tail());
}
