//! Swaps, and each row of the table of failures in ARCHITECTURE.md, with real processes under load.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{net::SocketAddr, path::Path, sync::atomic::Ordering, time::Duration};

use osvm_model::{
    InstanceState, Phase, RolloutOutcome, RolloutStatus, ServiceName, ServiceSpec, ServiceStatus,
    api::{Progress, SwapRequest},
};
use osvm_testkit::harness::{Load, PATIENCE, World, alive, http, kill};

struct Scene {
    world: World,
    spec: ServiceSpec,
    name: ServiceName,
    addr: SocketAddr,
    load: Option<Load>,
}

impl Scene {
    /// A service that runs and is under load.
    async fn new(old: Option<&str>, handover: bool) -> Self {
        let world = World::start(Path::new(env!("CARGO_BIN_EXE_osvm-fixture"))).unwrap();
        let spec = world.spec("counter", &world.artifact(old).unwrap(), handover).unwrap();
        world.client.declare(&spec).await.unwrap();
        world.client.ready(&spec.name, PATIENCE).await.unwrap();
        let (name, addr) = (spec.name.clone(), spec.ports[0].listen);
        let load = Some(Load::start(addr));
        Self { world, spec, name, addr, load }
    }

    async fn status(&self) -> ServiceStatus {
        self.world.client.service(&self.name).await.unwrap()
    }

    async fn swap(&self, new: Option<&str>) -> RolloutStatus {
        let artifact = Some(self.world.artifact(new).unwrap());
        let request = SwapRequest { artifact, ..SwapRequest::default() };
        end(self.world.client.swap(&self.name, &request).await.unwrap()).await
    }

    /// Ends the load. Nothing that was acknowledged is missing.
    async fn settle(&mut self) -> Vec<String> {
        let load = self.load.take().unwrap();
        let acknowledged = std::sync::Arc::clone(&load.acknowledged);
        let (done, failures) = load.stop().await;
        assert!(done > 0);
        let (status, count) = http(self.addr, "GET", "/count").await.unwrap();
        assert_eq!(status, 200);
        let acknowledged = acknowledged.load(Ordering::Relaxed);
        assert!(count.parse::<u64>().unwrap() >= acknowledged, "{count} is less than {acknowledged}");
        failures
    }

    /// One instance serves, and nothing is left of any other.
    async fn only(&self, revision: u64) {
        let status = self.status().await;
        assert_eq!(status.revision.0, revision);
        assert_eq!(status.instances.len(), 1, "{:?}", status.instances);
        assert_eq!(status.instances[0].revision.0, revision, "{status:?}");
        let volumes = std::fs::read_dir(self.world.home().join("services/counter/volumes")).unwrap().count();
        assert_eq!(volumes, 1, "the state of the other instance is gone");
    }
}

async fn end(mut lines: osvm_control::client::Lines<Progress>) -> RolloutStatus {
    let mut phases = Vec::new();
    loop {
        let line = tokio::time::timeout(PATIENCE, lines.next()).await.expect("the rollout hangs");
        match line.expect("the stream ends with the outcome").unwrap() {
            Progress::Began(_) => {}
            Progress::Phase(report) => phases.push(report),
            Progress::Ended(status) => {
                assert_eq!(status.phases, phases);
                return *status;
            }
            Progress::Refused(body) => panic!("{}", body.error),
        }
    }
}

#[tokio::test]
async fn swaps_under_load_lose_no_request_and_no_count() {
    let mut scene = Scene::new(None, true).await;
    for revision in 2..=6 {
        let before = scene.status().await.instances[0].pid.unwrap();
        let rollout = scene.swap(None).await;
        assert_eq!(rollout.outcome, RolloutOutcome::Done, "{:?}", rollout.error);
        let phases: Vec<Phase> = rollout.phases.iter().map(|report| report.phase).collect();
        use Phase::*;
        assert_eq!(phases, [Start, Check, HandOver, Shift, Drain, Watch, Retire]);
        assert_eq!(rollout.failed_requests, Some(0));
        assert!(!alive(before));
        scene.only(revision).await;
    }
    // And back, by the kept copy of the artifact.
    std::fs::write(&scene.spec.artifact, "overwritten").unwrap();
    let rollout = end(scene.world.client.rollback(&scene.name).await.unwrap()).await;
    assert_eq!(rollout.outcome, RolloutOutcome::Done, "{:?}", rollout.error);
    scene.only(5).await;
    let metrics = scene.world.client.text("/metrics").await.unwrap();
    for phase in ["start", "check", "hand over", "shift", "drain", "watch", "retire"] {
        let sample = format!("osvm_rollout_phase_seconds_count{{service=\"counter\",phase=\"{phase}\"}} 6");
        assert!(metrics.contains(&sample), "{sample} is not in {metrics}");
    }
    assert_eq!(scene.settle().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_service_without_state_is_swapped_and_swapped_back() {
    let mut scene = Scene::new(None, false).await;
    let rollout = scene.swap(None).await;
    assert_eq!(rollout.outcome, RolloutOutcome::Done, "{:?}", rollout.error);
    scene.only(2).await;
    let failures = scene.load.take().unwrap().stop().await.1;
    assert_eq!(failures, Vec::<String>::new());
}

#[tokio::test]
async fn what_is_broken_before_the_token_leaves_the_old_one_serving_without_a_failed_request() {
    for (how, why) in
        [("exit", "told to misbehave"), ("unhealthy", "503"), ("garbage", "garbage"), ("die-on-token", "exit status 8")]
    {
        let mut scene = Scene::new(None, true).await;
        let before = scene.status().await.instances[0].clone();
        let rollout = scene.swap(Some(how)).await;
        assert_eq!(rollout.outcome, RolloutOutcome::Kept, "{how}: {:?}", rollout.error);
        let error = rollout.error.unwrap();
        assert!(error.contains(why), "{how}: {error}");
        assert!(!rollout.phases.last().unwrap().ok);
        scene.only(1).await;
        let after = scene.status().await;
        assert_eq!((after.instances[0].pid, after.instances[0].state), (before.pid, InstanceState::Ready), "{how}");
        assert_eq!(scene.settle().await, Vec::<String>::new(), "{how}");
        // It can be swapped again.
        assert_eq!(scene.swap(None).await.outcome, RolloutOutcome::Done, "{how}");
    }
}

#[tokio::test]
async fn what_breaks_in_the_watch_window_goes_back_with_all_that_was_acknowledged() {
    for (how, why) in [("die-after-token", "exit status 7"), ("unhealthy-after-token", "503")] {
        let mut scene = Scene::new(None, true).await;
        let before = scene.status().await.instances[0].clone();
        let rollout = scene.swap(Some(how)).await;
        assert_eq!(rollout.outcome, RolloutOutcome::RolledBack, "{how}: {:?}", rollout.error);
        let error = rollout.error.unwrap();
        assert!(error.contains(why), "{how}: {error}");
        scene.only(1).await;
        let after = scene.status().await;
        assert_eq!((after.instances[0].pid, after.instances[0].state), (before.pid, InstanceState::Ready), "{how}");
        // An addition that was under way when the new one was killed cannot be sent again: it is no Solana transaction. A process that
        // dies closes its sockets one after another, so the next addition may have reached one of them too.
        let failures = scene.settle().await;
        assert!(failures.len() <= 2, "{how}: {failures:?}");
        assert_eq!(scene.swap(None).await.outcome, RolloutOutcome::Done, "{how}");
    }
}

#[tokio::test]
async fn an_old_one_that_refuses_goes_on_and_one_that_dies_is_started_again() {
    let mut scene = Scene::new(Some("refuse"), true).await;
    let rollout = scene.swap(None).await;
    assert_eq!(rollout.outcome, RolloutOutcome::Kept, "{:?}", rollout.error);
    assert!(rollout.error.unwrap().contains("told to misbehave"));
    scene.only(1).await;
    assert_eq!(scene.settle().await, Vec::<String>::new());

    let mut scene = Scene::new(Some("die-in-hand-over"), true).await;
    let rollout = scene.swap(None).await;
    assert_eq!(rollout.outcome, RolloutOutcome::Kept, "{:?}", rollout.error);
    assert!(rollout.error.unwrap().contains("exit status 9"));
    scene.world.client.ready(&scene.name, PATIENCE).await.unwrap();
    scene.settle().await;
    scene.only(1).await;
}

#[tokio::test]
async fn when_the_old_one_ends_after_the_token_the_new_one_goes_on_alone() {
    let mut scene = Scene::new(Some("die-after-hand-over"), true).await;
    let rollout = scene.swap(None).await;
    assert_eq!(rollout.outcome, RolloutOutcome::Done, "{:?}", rollout.error);
    assert_eq!(scene.settle().await, Vec::<String>::new());
    scene.only(2).await;
}

/// An old one that does not follow any more could not go on with what the new one acknowledges.
#[tokio::test]
async fn an_old_one_that_stops_to_follow_is_ended_and_the_new_one_goes_on() {
    let mut scene = Scene::new(Some("stop-following"), true).await;
    let rollout = scene.swap(None).await;
    assert_eq!(rollout.outcome, RolloutOutcome::Done, "{:?}", rollout.error);
    assert_eq!(scene.settle().await, Vec::<String>::new());
    scene.only(2).await;
}

#[tokio::test]
async fn a_new_one_that_dies_as_it_loses_its_follower_leaves_nothing_that_the_old_one_does_not_have() {
    for _ in 0..3 {
        let mut scene = Scene::new(Some("stop-following"), true).await;
        let rollout = scene.swap(Some("die-alone")).await;
        scene.world.client.ready(&scene.name, PATIENCE).await.unwrap();
        // What was under way when the new one ended cannot be sent again.
        assert!(scene.settle().await.len() <= 1);
        // Mostly the death is noticed first. If not, the old one was given up before, and the new one is started again on its state.
        scene.only(if rollout.outcome == RolloutOutcome::RolledBack { 1 } else { 2 }).await;
    }
}

/// The new leader is told that its follower ends, and the old one that its standby does.
#[tokio::test]
async fn a_leader_is_told_when_it_goes_on_alone_so_that_no_write_waits() {
    for (new, revision) in [(None, 2), (Some("unhealthy"), 1)] {
        let mut scene = Scene::new(None, true).await;
        scene.swap(new).await;
        scene.only(revision).await;
        let log = scene.world.home().join(format!("services/counter/logs/{revision}.log"));
        assert!(std::fs::read_to_string(log).unwrap().contains("goes on alone, as it was told"), "{new:?}");
        assert_eq!(scene.settle().await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_old_one_that_ends_with_the_token_is_started_again_on_the_state_that_it_handed_over() {
    let mut scene = Scene::new(Some("die-with-token"), true).await;
    let rollout = scene.swap(None).await;
    assert_eq!(rollout.outcome, RolloutOutcome::Kept, "{:?}", rollout.error);
    assert!(rollout.error.unwrap().contains("exit status 6"));
    scene.world.client.ready(&scene.name, PATIENCE).await.unwrap();
    scene.settle().await;
    scene.only(1).await;
}

#[tokio::test]
async fn a_daemon_that_dies_in_an_undo_leaves_a_state_with_all_that_was_acknowledged() {
    let mut scene = Scene::new(Some("hang-on-lead"), true).await;
    let artifact = Some(scene.world.artifact(Some("die-after-token")).unwrap());
    let mut lines =
        scene.world.client.swap(&scene.name, &SwapRequest { artifact, ..SwapRequest::default() }).await.unwrap();
    // The new one has ended, and the old one does not answer that it leads.
    loop {
        if let Progress::Phase(report) = lines.next().await.unwrap().unwrap()
            && !report.ok
        {
            break;
        }
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    scene.world.kill_daemon().unwrap();
    scene.world.start_daemon().unwrap();
    scene.world.client.ready(&scene.name, PATIENCE).await.unwrap();
    scene.settle().await;
    scene.only(2).await;
}

#[tokio::test]
async fn a_hand_over_whose_answer_is_lost_is_found_out_by_asking() {
    let mut scene = Scene::new(Some("lose-answer"), true).await;
    let rollout = scene.swap(None).await;
    assert_eq!(rollout.outcome, RolloutOutcome::Done, "{:?}", rollout.error);
    assert_eq!(scene.settle().await, Vec::<String>::new());
    scene.only(2).await;
}

#[tokio::test]
async fn a_second_swap_is_refused_and_a_stop_hurries_the_first() {
    let scene = Scene::new(None, true).await;
    let slow = SwapRequest { watch_ms: Some(60_000), ..SwapRequest::default() };
    let mut first = scene.world.client.swap(&scene.name, &slow).await.unwrap();
    let second = scene.world.client.swap(&scene.name, &slow).await.unwrap_err();
    assert!(second.to_string().contains("under way"), "{second}");
    while !matches!(first.next().await.unwrap().unwrap(), Progress::Began(Phase::Watch)) {}
    let stopped = tokio::time::timeout(PATIENCE, scene.world.client.stop(&scene.name)).await.unwrap().unwrap();
    assert!(!stopped.wanted && stopped.instances.is_empty());
    assert_eq!(stopped.revision.0, 2);
    let refused = match scene.world.client.swap(&scene.name, &slow).await.unwrap().next().await.unwrap().unwrap() {
        Progress::Refused(body) => body,
        other => panic!("{other:?}"),
    };
    assert!(refused.error.contains("stopped") && refused.help.unwrap().contains("osvm start"));
    scene.world.client.start(&scene.name).await.unwrap();
    scene.world.client.ready(&scene.name, PATIENCE).await.unwrap();
    assert_eq!(http(scene.addr, "GET", "/count").await.unwrap().0, 200);
}

#[tokio::test]
async fn a_gateway_that_dies_in_a_rollout_gets_the_whole_table_and_the_rollout_goes_on() {
    let scene = Scene::new(None, true).await;
    let request = SwapRequest { watch_ms: Some(1500), ..SwapRequest::default() };
    let mut lines = scene.world.client.swap(&scene.name, &request).await.unwrap();
    while !matches!(lines.next().await.unwrap().unwrap(), Progress::Began(Phase::Watch)) {}
    kill(scene.world.client.daemon().await.unwrap().gateway_pid.unwrap());
    let outcome = loop {
        if let Progress::Ended(status) = lines.next().await.unwrap().unwrap() {
            break status.outcome;
        }
    };
    assert_eq!(outcome, RolloutOutcome::Done);
    scene.only(2).await;
    assert_eq!(http(scene.addr, "POST", "/add").await.unwrap().0, 200);
}

/// The daemon is killed at each phase. The next one finishes the rollout if the new instance leads, else undoes it.
#[tokio::test]
async fn a_daemon_that_dies_in_a_rollout_leaves_it_to_the_next_one() {
    for (phase, revision) in [(Phase::Start, 1), (Phase::Watch, 2)] {
        let mut scene = Scene::new(None, true).await;
        let new = if phase == Phase::Start { Some("unhealthy") } else { None };
        let artifact = Some(scene.world.artifact(new).unwrap());
        let request = SwapRequest { artifact, watch_ms: Some(60_000), ..SwapRequest::default() };
        let mut lines = scene.world.client.swap(&scene.name, &request).await.unwrap();
        while !matches!(lines.next().await.unwrap().unwrap(), Progress::Began(begun) if begun == phase) {}
        tokio::time::sleep(Duration::from_millis(100)).await;
        scene.world.kill_daemon().unwrap();
        scene.world.start_daemon().unwrap();
        scene.world.client.ready(&scene.name, PATIENCE).await.unwrap();
        let rollout = scene.status().await.rollout.unwrap();
        let outcome = if revision == 1 { RolloutOutcome::Kept } else { RolloutOutcome::Done };
        assert_eq!(rollout.outcome, outcome, "{phase:?}: {:?}", rollout.error);
        scene.only(revision).await;
        scene.settle().await;
    }
}
