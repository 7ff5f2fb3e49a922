//! Whole networks under the deterministic runtime: real transactions flow while validators crash,
//! links break and a validator lies. No fork, no unit of money lost, same seed → same history.

mod agent;
mod disputes;
mod world;

use commonware_glue::simulate::{
    action::{Action, Crash, Schedule},
    plan::{PlanBuilder, PlanResult},
};
use commonware_p2p::simulated::Link;
use commonware_utils::probability;
use std::time::Duration;
use world::{MoneyConserved, World};

fn good() -> Link {
    Link {
        latency: Duration::from_millis(20),
        jitter: Duration::from_millis(5),
        success_rate: probability!(1.0),
    }
}

fn dead() -> Link {
    Link { success_rate: probability!(0.0), ..good() }
}

fn plan(world: &World, blocks: u64) -> PlanBuilder<World> {
    // NESA_LOG=debug shows what the validators say; a second call changes nothing.
    if let Ok(filter) = std::env::var("NESA_LOG") {
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    }
    PlanBuilder::new(world.clone())
        .link(good())
        .required_finalizations(blocks)
        .timeout(Duration::from_secs(120))
        .property(MoneyConserved(world.clone()))
}

fn run(plan: PlanBuilder<World>) -> Vec<PlanResult<World>> {
    plan.run().unwrap()
}

#[test]
fn same_seed_same_history_and_queries_are_served_and_settled() {
    let world = World::new(false);
    let first = run(plan(&world, 40).seed(3));
    let tally = world.tally();
    assert!(tally.transfers > 0 && tally.queries > 0, "{tally:?}");
    assert!(tally.commits > 0 && tally.claims > 0 && tally.settled > 0, "{tally:?}");

    let again = run(plan(&World::new(false), 40).seed(3));
    assert_eq!(first[0].state, again[0].state, "the audit hash of one seed");
    let other = run(plan(&World::new(false), 8).seed(4));
    assert_ne!(first[0].state, other[0].state, "another seed is another history");
}

#[test]
fn validators_crash_and_resume() {
    let world = World::new(false);
    let results = run(plan(&world, 30).seeds(10..13).crash(Crash::Random {
        frequency: Duration::from_secs(3),
        downtime: Duration::from_secs(2),
        count: 1,
    }));
    assert!(results.iter().map(|result| result.crashes).sum::<u64>() >= 3);
    assert!(world.tally().transfers > 0);
}

#[test]
fn a_partition_without_quorum_heals() {
    let world = World::new(false);
    let keys = world.validators();
    let mut schedule = Schedule::new();
    for (from, to) in [(0, 2), (0, 3), (1, 2), (1, 3), (2, 0), (3, 0), (2, 1), (3, 1)] {
        schedule = schedule.at(
            Duration::from_secs(3),
            Action::UpdateLink { from: keys[from].clone(), to: keys[to].clone(), link: dead() },
        );
    }
    schedule = schedule.at(Duration::from_secs(10), Action::Heal(good()));
    let results = run(plan(&world, 25).seeds(20..22).crash(Crash::Schedule(schedule)));
    assert!(results.iter().all(|result| result.scheduled_actions == 9));
    assert!(world.tally().transfers > 0);
}

#[test]
fn a_twin_cannot_fork_the_chain() {
    let world = World::new(true);
    let results = run(plan(&world, 20).seeds(30..32));
    assert_eq!(results.len(), 2);
    assert!(world.tally().transfers > 0);
}
