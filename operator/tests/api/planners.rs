//! A pipeline that is deleted and made again at once has two planners for a while: the first one's last words must not be
//! said to the workers of the second one.

use crate::world::LIMIT;
use clamor_bus::{Bus, BusConfig, StreamLimits};
use clamor_planner::control::{self, ControlOptions, View};
use clamor_planner::desired::{Desired, DesiredChannel};
use clamor_process::health::Health;
use clamor_testkit::{Needs, Servers};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

const SLOT: &str = "main-ingest-0";
const LOGINS: [&str; 2] = ["sim_1", "sim_2"];

struct Planner {
    may_write: Arc<AtomicBool>,
    leaving: CancellationToken,
    wishes: watch::Sender<Arc<Desired>>,
    view: watch::Receiver<Arc<View>>,
    running: AbortOnDropHandle<()>,
}

impl Planner {
    fn start(bus: &Bus, may_write: bool) -> Self {
        let channel =
            |login: &str| DesiredChannel { name: login.to_owned(), redundancy: 1, ..DesiredChannel::default() };
        let channels = LOGINS.iter().map(|login| ((*login).to_owned(), channel(login))).collect();
        let (wishes, desired) = watch::channel(Arc::new(Desired { channels, ..Desired::default() }));
        let limits = StreamLimits { max_age: Duration::from_secs(86_400), max_bytes: 1 << 24 };
        let slots = BTreeSet::from([SLOT.to_owned()]);
        let (options, view) = ControlOptions::fixed(bus.clone(), 2, limits, slots, false, desired);
        let (may_write, leaving) = (Arc::new(AtomicBool::new(may_write)), CancellationToken::new());
        let may = Arc::clone(&may_write);
        let options = ControlOptions {
            take_over: true,
            may_write: Some(Arc::new(move || may.load(Ordering::Acquire))),
            leaving: leaving.clone(),
            ..options
        };
        let running = tokio::spawn(control::run(options, Health::default(), CancellationToken::new()));
        Self { may_write, leaving, wishes, view, running: AbortOnDropHandle::new(running) }
    }

    async fn plans(&mut self) {
        let planned = self.view.wait_for(|view| view.in_force.is_some());
        tokio::time::timeout(LIMIT, planned).await.unwrap().unwrap();
    }

    /// Its pipeline is deleted, and it gets to act on that.
    async fn leaves(self) {
        self.leaving.cancel();
        self.wishes.send_replace(Arc::default());
        self.may_write.store(true, Ordering::Release);
        tokio::time::timeout(LIMIT, self.running).await.unwrap().unwrap();
    }
}

async fn told(bus: &Bus) -> Vec<String> {
    let kept = bus.assignment(SLOT).await.unwrap().assignment.unwrap();
    kept.channels.into_iter().map(|channel| channel.login).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_planner_of_a_deleted_pipeline_gives_way_to_that_of_the_next_one() {
    let servers = Servers::start_with(Needs::Nats, |_, _| {}).await.unwrap();
    let bus = Bus::connect(&BusConfig::open(servers.nats_url(), "test_n_main", "test")).await.unwrap();
    let mut first = Planner::start(&bus, true);
    first.plans().await;
    first.may_write.store(false, Ordering::Release);
    let slow = Planner::start(&bus, false);
    let mut next = Planner::start(&bus, true);
    next.plans().await;
    // One remembers what was there before, the other one sees for the first time what is there.
    first.leaves().await;
    assert_eq!(told(&bus).await, LOGINS);
    slow.leaves().await;
    assert_eq!(told(&bus).await, LOGINS);
    // Where nobody follows, the slots are emptied.
    next.leaving.cancel();
    next.wishes.send_replace(Arc::default());
    let emptied = next.view.wait_for(|view| view.assigned[SLOT].channels.is_empty());
    drop(tokio::time::timeout(LIMIT, emptied).await.unwrap().unwrap());
    assert!(told(&bus).await.is_empty());
}
