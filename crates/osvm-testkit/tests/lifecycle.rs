//! Services come up, stay up and go down: with real processes, a real gateway and a daemon that is killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{net::TcpListener, path::Path, time::Duration};

use osvm_control::client::{ClientError, EventQuery};
use osvm_model::{InstanceState, IsolationLevel, IsolationRequest, ServiceSpec, ServiceStatus};
use osvm_testkit::harness::{PATIENCE, World, alive, http, kill};

fn world() -> World {
    World::start(Path::new(env!("CARGO_BIN_EXE_osvm-fixture"))).unwrap()
}

async fn up(world: &World, spec: &ServiceSpec) -> ServiceStatus {
    world.client.declare(spec).await.unwrap();
    world.client.ready(&spec.name, PATIENCE).await.unwrap()
}

fn pid(status: &ServiceStatus) -> u32 {
    status.instances[0].pid.unwrap()
}

async fn events(world: &World) -> String {
    let events = world.client.events(&EventQuery::default()).await.unwrap();
    events.iter().map(|event| format!("{}\n", event.message)).collect()
}

async fn until(what: &str, mut seen: impl AsyncFnMut() -> bool) {
    let looked = tokio::time::timeout(PATIENCE, async {
        while !seen().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    looked.await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

#[tokio::test]
async fn a_service_starts_stops_starts_on_its_state_and_goes() {
    let world = world();
    let spec = world.spec("demo/counter", &world.artifact(None).unwrap(), true).unwrap();
    let addr = spec.ports[0].listen;
    let status = up(&world, &spec).await;
    assert_eq!((status.revision.0, status.instances[0].state), (1, InstanceState::Ready));
    // `auto`: in a jail, with root's power and osvm-jail beside the fixture.
    let level = if rustix::process::geteuid().is_root() { IsolationLevel::Process } else { status.instances[0].level };
    assert_eq!(status.instances[0].level, level);
    assert_eq!(http(addr, "POST", "/add").await.unwrap(), (200, "1".to_owned()));

    // The same again changes nothing.
    assert_eq!(pid(&up(&world, &spec).await), pid(&status));
    // Something else under that name is refused while it runs.
    let other = ServiceSpec { args: vec!["--help".to_owned()], ..spec.clone() };
    let refused = world.client.declare(&other).await.unwrap_err();
    assert!(refused.to_string().contains("declared otherwise") && refused.help().is_some(), "{refused}");

    world.client.stop(&spec.name).await.unwrap();
    assert!(!alive(pid(&status)));
    assert!(http(addr, "GET", "/count").await.is_err(), "nobody listens for a stopped service");
    world.client.start(&spec.name).await.unwrap();
    let status = world.client.ready(&spec.name, PATIENCE).await.unwrap();
    assert_eq!(http(addr, "POST", "/add").await.unwrap().1, "2");
    let before = pid(&status);
    world.client.restart(&spec.name).await.unwrap();
    let status = world.client.ready(&spec.name, PATIENCE).await.unwrap();
    assert_ne!(pid(&status), before);
    assert_eq!(http(addr, "POST", "/add").await.unwrap().1, "3");

    let mut log = world.client.logs(&spec.name, 10, false).await.unwrap();
    assert_eq!(log.next().await.unwrap().unwrap().line, "serves as Leader with 2");
    let metrics = world.client.text("/metrics").await.unwrap();
    assert!(metrics.contains("osvm_service_revision{service=\"demo/counter\"} 1"), "{metrics}");
    assert!(world.client.text("/openapi.json").await.unwrap().contains("3.1.0"));

    world.client.remove(&spec.name).await.unwrap();
    assert!(!world.home().join("services/demo~counter").exists());
    assert_eq!(std::fs::read_dir(world.home().join("artifacts")).unwrap().count(), 0);
    let gone = world.client.service(&spec.name).await.unwrap_err();
    assert!(gone.to_string().contains("no service"), "{gone}");
    world.client.down().await.unwrap();
    assert!(matches!(world.client.daemon().await, Err(ClientError::NotRunning { .. })));
}

#[tokio::test]
async fn down_ends_every_process_and_the_next_daemon_starts_none() {
    let mut world = world();
    let spec = world.spec("counter", &world.artifact(None).unwrap(), true).unwrap();
    let status = up(&world, &spec).await;
    let gateway = world.client.daemon().await.unwrap().gateway_pid.unwrap();
    world.client.down().await.unwrap();
    assert!(!alive(pid(&status)) && !alive(gateway));
    world.start_daemon().unwrap();
    assert!(!world.client.service(&spec.name).await.unwrap().wanted);
    assert!(world.client.instances().await.unwrap().instances.is_empty());
}

#[tokio::test]
async fn an_instance_that_is_killed_is_started_again_on_its_state() {
    let world = world();
    let spec = world.spec("counter", &world.artifact(None).unwrap(), true).unwrap();
    let addr = spec.ports[0].listen;
    let first = up(&world, &spec).await;
    http(addr, "POST", "/add").await.unwrap();
    kill(pid(&first));
    // The request waits at the gateway until the next instance is there, or is the last one that a jail answers whose end comes.
    assert_eq!(http(addr, "GET", "/count").await.unwrap(), (200, "1".to_owned()));
    until("another process serves", async || {
        let list = world.client.instances().await.unwrap();
        list.instances.first().is_some_and(|instance| instance.restarts == 1 && instance.pid.is_some())
    })
    .await;
    assert_eq!(http(addr, "GET", "/count").await.unwrap(), (200, "1".to_owned()));
    let second = world.client.ready(&spec.name, PATIENCE).await.unwrap();
    assert_eq!(second.instances[0].restarts, 1);
    let told = events(&world).await;
    assert!(told.contains("ended by itself: signal 9 (killed)"), "{told}");
}

#[tokio::test]
async fn an_instance_that_cannot_run_says_why_and_is_tried_again_with_longer_pauses() {
    let world = world();
    let spec = world.spec("counter", &world.artifact(Some("exit")).unwrap(), true).unwrap();
    world.client.declare(&spec).await.unwrap();
    let failed = world.client.ready(&spec.name, PATIENCE).await.unwrap_err();
    assert!(failed.to_string().contains("exit status 1: error: told to misbehave"), "{failed}");
    let starts = || async { events(&world).await.matches("started as process").count() };
    until("it was tried four times", || async { starts().await >= 4 }).await;
    let all = world.client.events(&EventQuery::default()).await.unwrap();
    let times: Vec<u64> =
        all.iter().filter(|event| event.message.contains("started as process")).map(|event| event.unix_ms).collect();
    assert!(times[3] - times[2] >= 190 && times[2] - times[1] >= 95, "{times:?}");
    world.client.stop(&spec.name).await.unwrap();
    assert!(world.client.instances().await.unwrap().instances.is_empty());
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_what_to_do() {
    let world = world();
    let good = world.spec("counter", &world.artifact(None).unwrap(), true).unwrap();
    let refused = |spec: ServiceSpec| {
        let client = world.client.clone();
        async move { client.declare(&spec).await.unwrap_err() }
    };
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut taken = good.clone();
    taken.ports[0].listen = holder.local_addr().unwrap();
    let error = refused(taken).await;
    assert!(error.to_string().contains("in use") && error.help().unwrap().contains("--port"), "{error}");

    let jail = ServiceSpec { isolation: IsolationRequest::Level(IsolationLevel::Microvm), ..good.clone() };
    let error = refused(jail).await;
    assert_eq!(error.exit(), 3);
    assert!(error.help().unwrap().contains("--isolation process"));

    let text = world.home().join("osvm.db");
    std::fs::set_permissions(&text, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let error = refused(ServiceSpec { artifact: text, ..good.clone() }).await;
    assert!(error.to_string().contains("neither an ELF file nor a script"), "{error}");
    let error = refused(ServiceSpec { artifact: "osvm-fixture".into(), ..good.clone() }).await;
    assert_eq!(error.exit(), 2, "{error}");
    assert!(world.client.services().await.unwrap().services.is_empty(), "nothing of what was refused is kept");

    up(&world, &good).await;
    let mut second = world.spec("other", &good.artifact, true).unwrap();
    second.ports[0].listen = good.ports[0].listen;
    let error = refused(second).await;
    assert!(error.to_string().contains("taken by service counter"), "{error}");
}

#[tokio::test]
async fn a_second_daemon_is_refused() {
    let mut world = world();
    let first = world.client.daemon().await.unwrap();
    let error = world.start_daemon().unwrap_err();
    assert!(error.to_string().contains("another osvm daemon"), "{error}");
    assert_eq!(world.client.daemon().await.unwrap().pid, first.pid);
    kill(first.pid);
}

#[tokio::test]
async fn instance_and_gateway_outlive_the_daemon_and_are_adopted() {
    let mut world = world();
    let spec = world.spec("counter", &world.artifact(None).unwrap(), true).unwrap();
    let addr = spec.ports[0].listen;
    let before = up(&world, &spec).await;
    let gateway = world.client.daemon().await.unwrap().gateway_pid.unwrap();
    world.kill_daemon().unwrap();
    assert_eq!(http(addr, "POST", "/add").await.unwrap().1, "1");
    world.start_daemon().unwrap();
    let after = world.client.ready(&spec.name, PATIENCE).await.unwrap();
    assert_eq!((pid(&after), after.instances[0].generation), (pid(&before), before.instances[0].generation));
    assert_eq!(world.client.daemon().await.unwrap().gateway_pid, Some(gateway));
    assert_eq!(http(addr, "POST", "/add").await.unwrap().1, "2");

    // Adopted means watched: a death is noticed.
    kill(pid(&after));
    until("another instance is ready", || async {
        let ready = world.client.ready(&spec.name, PATIENCE).await;
        ready.is_ok_and(|status| pid(&status) != pid(&after))
    })
    .await;
    assert_eq!(http(addr, "GET", "/count").await.unwrap().1, "2");
    // So is the gateway's, and it comes back on the same port.
    kill(gateway);
    until("the gateway is another one", || async {
        world.client.daemon().await.unwrap().gateway_pid.is_some_and(|pid| pid != gateway)
    })
    .await;
    assert_eq!(http(addr, "POST", "/add").await.unwrap().1, "3");

    // What died while no daemon ran is started again.
    let status = world.client.ready(&spec.name, PATIENCE).await.unwrap();
    world.kill_daemon().unwrap();
    kill(pid(&status));
    until("the instance is gone", || async { !alive(pid(&status)) }).await;
    world.start_daemon().unwrap();
    assert_eq!(http(addr, "GET", "/count").await.unwrap().1, "3");
}

#[tokio::test]
async fn a_killed_gateway_is_back_within_a_second_and_no_connection_is_refused() {
    let world = world();
    let spec = world.spec("counter", &world.artifact(None).unwrap(), true).unwrap();
    let addr = spec.ports[0].listen;
    up(&world, &spec).await;
    for _ in 0..5 {
        let gateway = world.client.daemon().await.unwrap().gateway_pid.unwrap();
        kill(gateway);
        until("the gateway is gone", || async { !alive(gateway) }).await;
        let began = std::time::Instant::now();
        // The daemon holds the listening socket: the connection waits in the kernel for the next gateway.
        assert_eq!(http(addr, "GET", "/count").await.unwrap().0, 200);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
}
