//! `osvm rpc local --isolation unikernel`: the real daemon, gateway and node, the node in a VM. Needs root and `/dev/kvm`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

mod in_a_vm {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        thread,
        time::{Duration, Instant},
    };

    use serde_json::{Value, json};

    use crate::common::{World, is_alive, sibling, two_free_ports};

    /// For what comes about by itself.
    const PATIENCE: Duration = Duration::from_secs(20);
    const LOOK: Duration = Duration::from_millis(20);
    const SOMEBODY: &str = "4Nd1mYvF5JdYvbG3fUuCTpPMUGkHPDFzXXJPLcEoKUP2";

    fn node() -> (World, String) {
        for program in ["osvm-localnet", "osvm-jail", "osvm-unikernel"] {
            sibling(program);
        }
        let world = World::new();
        let port = two_free_ports().to_string();
        let ready = world.json(&["rpc", "local", "--detach", "--isolation", "unikernel", "--port", &port]);
        assert_eq!(ready["isolation"], "unikernel");
        let url = ready["rpc_url"].as_str().unwrap().to_owned();
        (world, url)
    }

    fn call(url: &str, method: &str, params: Value) -> Result<Value, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = osvm_solana::Client::from_url(url).unwrap();
        runtime.block_on(client.call(method, params)).map_err(|error| error.to_string())
    }

    fn balance(url: &str) -> u64 {
        call(url, "getBalance", json!([SOMEBODY, {"commitment": "processed"}])).unwrap()["value"].as_u64().unwrap()
    }

    fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "{what} did not come about");
            thread::sleep(LOOK);
        }
    }

    #[test]
    fn a_node_in_a_vm_is_swapped_under_requests_without_losing_one_and_keeps_its_state() {
        let (world, url) = node();
        assert_eq!(call(&url, "getHealth", json!([])), Ok(Value::from("ok")));
        call(&url, "requestAirdrop", json!([SOMEBODY, 1_000_000])).unwrap();
        until("the airdrop", || balance(&url) == 1_000_000);

        let done = AtomicBool::new(false);
        let (asked, given) = thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut asked = 0;
                while !done.load(Ordering::Relaxed) {
                    assert!(call(&url, "getSlot", json!([])).is_ok(), "request {asked} was lost");
                    asked += 1;
                }
                asked
            });
            let writer = scope.spawn(|| {
                let mut given = 0;
                while !done.load(Ordering::Relaxed) {
                    given += 1;
                    call(&url, "requestAirdrop", json!([SOMEBODY, 1_000_000 + given])).expect("an airdrop was lost");
                }
                given
            });
            let swapped = world.osvm(&["swap", "rpc-local", "--watch", "300ms"]);
            done.store(true, Ordering::Relaxed);
            let counts = (reader.join().unwrap(), writer.join().unwrap());
            assert!(swapped.code == 0 && swapped.out.contains("0 requests failed"), "{}{}", swapped.out, swapped.err);
            counts
        });
        assert!(asked > 10 && given > 10, "{asked} reads and {given} writes are no load");
        let sum = 1_000_000 + (1..=given).map(|n| 1_000_000 + n).sum::<u64>();
        until("every airdrop", || balance(&url) == sum);

        world.ok(&["stop", "rpc-local"]);
        world.ok(&["start", "rpc-local"]);
        assert_eq!(balance(&url), sum, "the state was lost");
        let ps = world.json(&["ps"]);
        assert_eq!(ps["instances"][0]["level"], "unikernel");
        let pid = ps["instances"][0]["pid"].as_u64().unwrap();
        let stats = world.json(&["stats", "rpc-local"]);
        assert!(stats["instances"][0]["memory_bytes"].as_u64().unwrap() > 1 << 20, "{stats}");
        assert_eq!(world.json(&["down"])["instances_stopped"], 1);
        until("the end of the VM", || !is_alive(pid));
    }

    #[test]
    fn a_vm_that_is_killed_is_started_again_on_its_state() {
        let (world, url) = node();
        call(&url, "requestAirdrop", json!([SOMEBODY, 5_000_000])).unwrap();
        until("the airdrop", || balance(&url) == 5_000_000);
        // What the node has brought to the disk survives; a block is brought there as it is sealed.
        thread::sleep(Duration::from_secs(1));
        let pid = world.json(&["ps"])["instances"][0]["pid"].as_u64().unwrap();
        crate::common::signal(pid, rustix::process::Signal::KILL);
        until("another VM", || {
            let ps = world.json(&["ps"]);
            let instance = &ps["instances"][0];
            instance["state"] == "ready" && instance["pid"].as_u64() != Some(pid)
        });
        until("its state", || {
            call(&url, "getBalance", json!([SOMEBODY])).is_ok_and(|balance| balance["value"] == 5_000_000)
        });
    }
}
