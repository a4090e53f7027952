use std::fs;

use osvm_model::{
    Digest, EventKind, IsolationLevel, IsolationRequest, Phase, PhaseReport, RevisionNumber, RolloutOutcome,
    RolloutPolicy, ServiceSpec, service::HealthCheck,
};

use super::*;

fn spec(name: &str) -> ServiceSpec {
    ServiceSpec {
        name: name.parse().unwrap(),
        artifact: "/bin/true".into(),
        args: vec![],
        env: Default::default(),
        isolation: IsolationRequest::Auto,
        read: vec![],
        memory: None,
        ports: vec![],
        health: HealthCheck::Connect { port: "rpc".to_owned() },
        handover: true,
        rollout: RolloutPolicy::default(),
    }
}

fn event(message: &str) -> NewEvent {
    NewEvent {
        kind: EventKind::Daemon,
        service: None,
        revision: None,
        generation: None,
        rollout: None,
        message: message.to_owned(),
        fields: Default::default(),
    }
}

#[tokio::test]
async fn what_was_committed_is_there_for_the_next_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("osvm.db");
    let spec = spec("mcp/files");
    let store = Store::open(&path).unwrap();
    store.add_service(&spec, &Digest("aa".to_owned()), None).unwrap();
    let new = NewInstance {
        service: spec.name.clone(),
        revision: RevisionNumber(1),
        level: IsolationLevel::None,
        volume: None,
        restarts: 0,
    };
    let first = store.add_instance(&new).unwrap();
    let second = store.add_instance(&NewInstance { volume: Some(first.volume), ..new }).unwrap();
    store.set_process(second.id, 42, 99).unwrap();
    store.set_state(first.id, osvm_model::InstanceState::Failed, Some("exit status 1")).unwrap();
    let ends = |record: &InstanceRecord| (record.revision, record.generation);
    let id = store
        .add_rollout(&NewRollout { service: spec.name.clone(), from: ends(&first), to: ends(&second), previous: None })
        .unwrap();
    store.begin_phase(id, Phase::HandOver).unwrap();
    let report = PhaseReport { phase: Phase::Start, detail: "x".to_owned(), duration_us: 5, ok: true };
    store.end_phase(id, &report).unwrap();
    store.set_meta("epoch", &7u64).unwrap();
    store.sync().await.unwrap();
    drop(store);

    let store = Store::open(&path).unwrap();
    let service = store.service(&spec.name).unwrap().unwrap();
    assert_eq!((service.wanted, service.generation.0, service.revision.0), (true, 2, 1));
    assert_eq!(store.revision(&spec.name, RevisionNumber(1)).unwrap().unwrap().spec, spec);
    let live = store.live_instances(Some(&spec.name)).unwrap();
    assert_eq!(live.len(), 1);
    assert_eq!((live[0].process, live[0].volume), (Some((42, 99)), first.id));
    let rollout = store.last_rollout(&spec.name).unwrap().unwrap();
    assert_eq!((rollout.phase, rollout.status.outcome), (Phase::HandOver, RolloutOutcome::Running));
    assert_eq!(rollout.status.phases, [report]);
    assert_eq!(store.meta::<u64>("epoch").unwrap(), Some(7));
}

#[test]
fn a_damaged_file_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("osvm.db");
    fs::write(&path, vec![7; 8192]).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    assert!(error.help().unwrap().contains("osvm.db.damaged"));

    fs::remove_file(&path).unwrap();
    let store = Store::open(&path).unwrap();
    for number in 0..200 {
        store.add_event(&event(&format!("event {number}"))).unwrap();
    }
    drop(store);
    let mut bytes = fs::read(&path).unwrap();
    let length = bytes.len();
    bytes[4096..length].fill(0x5a);
    fs::write(&path, bytes).unwrap();
    assert!(matches!(Store::open(&path).unwrap_err(), StoreError::Damaged { .. }));
}

#[test]
fn a_file_of_a_later_version_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("osvm.db");
    drop(Store::open(&path).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 999).unwrap();
    assert!(matches!(Store::open(&path).unwrap_err(), StoreError::Newer { found: 999, .. }));
}

#[test]
fn events_are_bounded_and_paged() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("osvm.db")).unwrap();
    for number in 0..1100 {
        store.add_event(&event(&number.to_string())).unwrap();
    }
    let first = store.events(&EventFilter::default()).unwrap();
    assert_eq!(first.len() as u64, events::EVENTS_AT_ONCE);
    let after = store.before_last_events(&EventFilter::default(), 2).unwrap();
    let last = store.events(&EventFilter { after, service: None }).unwrap();
    assert_eq!(last.iter().map(|event| event.message.as_str()).collect::<Vec<_>>(), ["1098", "1099"]);
    assert_eq!(store.last_event_id().unwrap(), 1100);
}
