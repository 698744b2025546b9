//! Slow readers and RECONNECT.

use std::time::Duration;

use clamor_simulator::{Config, Order, Simulator};

use crate::client::{Client, LIMIT, simulator};

async fn eventually(simulator: &Simulator, condition: impl Fn(&clamor_simulator::Ledger) -> bool) {
    let polled = async {
        while !condition(&simulator.ledger().await) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, polled).await.expect("the ledger says so in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_is_cut_off_and_others_are_not() {
    let config = Config { channels: 4, queue_limit_bytes: 256 * 1024, ..Config::default() };
    let simulator = simulator(config).await;
    let slow = Client::joined(simulator.irc_addr, 4).await;
    let mut quick = Client::joined(simulator.irc_addr, 4).await;
    let reading = tokio::spawn(async move {
        quick.drain().await;
    });
    let order = Order { rate: 20_000.0, seconds: None, wait_for_readers: false };
    simulator.handle().start_traffic(order).await.unwrap();
    eventually(&simulator, |ledger| ledger.connections.slow == 1).await;
    simulator.handle().stop_traffic().await;
    assert_eq!(simulator.ledger().await.connections.open, 1);
    drop(slow);
    simulator.stop().await;
    reading.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_is_waited_for_where_that_is_asked() {
    let simulator = simulator(Config { channels: 4, ..Config::default() }).await;
    let mut client = Client::joined(simulator.irc_addr, 4).await;
    let order = Order { rate: 1e9, seconds: Some(2e-5), wait_for_readers: true };
    simulator.handle().start_traffic(order).await.unwrap();
    while simulator.handle().progress().await.running {
        client.heard().await;
    }
    let ledger = simulator.ledger().await;
    assert_eq!((ledger.connections.slow, simulator.handle().progress().await.said), (0, 20_000));
}

#[tokio::test]
async fn reconnect_is_said_and_the_connection_closed_after_its_grace() {
    let config = Config { reconnect_grace: Duration::from_millis(50), ..Config::default() };
    let simulator = simulator(config).await;
    let mut first = Client::joined(simulator.irc_addr, 1).await;
    let mut second = Client::joined(simulator.irc_addr, 1).await;
    assert_eq!(simulator.handle().reconnect(1, None), [1]);
    first.until(":tmi.twitch.tv RECONNECT").await;
    first.drain().await;
    second.heard().await;
    eventually(&simulator, |ledger| ledger.connections.reconnected == 1).await;
    let ledger = simulator.ledger().await;
    assert_eq!((ledger.connections.opened, ledger.connections.open), (2, 1));
    assert_eq!(ledger.channel("sim_0").unwrap().listeners, 1);
}
