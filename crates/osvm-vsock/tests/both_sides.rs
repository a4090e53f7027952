//! Host and guest side against each other over a real unix socket.
#![allow(clippy::unwrap_used)]

use osvm_vsock::{Error, Guest, connect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn each_port_gets_its_own_connections() {
    let folder = tempfile::tempdir().unwrap();
    let uds = folder.path().join("v.sock");
    let guest = Guest::bind(&uds).await.unwrap();
    let mut rpc = guest.listen(8899).unwrap();
    let mut ws = guest.listen(8900).unwrap();
    assert!(matches!(guest.listen(8899), Err(Error::PortTaken(8899))));

    let mut to_ws = connect(&uds, 8900).await.unwrap();
    let mut to_rpc = connect(&uds, 8899).await.unwrap();
    to_ws.write_all(b"ws").await.unwrap();
    to_rpc.write_all(b"rpc").await.unwrap();
    to_ws.shutdown().await.unwrap();
    to_rpc.shutdown().await.unwrap();

    let mut text = String::new();
    rpc.accept().await.unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "rpc");
    text.clear();
    ws.accept().await.unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "ws");
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let uds = folder.path().join("v.sock");
    let guest = Guest::bind(&uds).await.unwrap();
    assert!(matches!(connect(&uds, 1).await, Err(Error::Refused(1))));
    drop(guest.listen(1).unwrap());
    assert!(matches!(connect(&uds, 1).await, Err(Error::Refused(1))));
}

#[tokio::test]
async fn a_socket_left_by_a_dead_process_is_replaced_and_a_living_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let uds = folder.path().join("v.sock");
    drop(std::os::unix::net::UnixListener::bind(&uds).unwrap());
    let guest = Guest::bind(&uds).await.unwrap();
    assert!(matches!(Guest::bind(&uds).await, Err(Error::Listen { .. })));
    drop(guest);
    assert!(!uds.exists());
}

#[tokio::test]
async fn a_path_that_the_kernel_would_cut_is_named() {
    let long = std::path::Path::new("/").join("x".repeat(120));
    assert!(matches!(Guest::bind(&long).await, Err(Error::PathTooLong { .. })));
    assert!(matches!(connect(&long, 1).await, Err(Error::PathTooLong { .. })));
}
