//! Where things are in a state folder.

use std::path::{Path, PathBuf};

use osvm_model::{Digest, Generation, ServiceName};

/// The layout of one state folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// Names the folder; nothing is made.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Held as long as a daemon runs.
    pub fn lock(&self) -> PathBuf {
        self.root.join("daemon.lock")
    }

    /// What the gateway writes to stdout and stderr.
    pub fn gateway_log(&self) -> PathBuf {
        self.root.join("gateway.log")
    }

    /// SQLite.
    pub fn database(&self) -> PathBuf {
        self.root.join("osvm.db")
    }

    /// All sockets.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// The daemon's HTTP interface.
    pub fn daemon_socket(&self) -> PathBuf {
        self.run().join("daemon.sock")
    }

    /// The gateway's admin interface.
    pub fn gateway_socket(&self) -> PathBuf {
        self.run().join("gateway.sock")
    }

    /// The folders with the hybrid vsock sockets of all instances.
    pub fn instance_sockets(&self) -> PathBuf {
        self.run().join("i")
    }

    /// The hybrid vsock socket of one instance, by its number on this machine, in a folder of its own: an instance sees no other's.
    pub fn instance_socket(&self, id: u64) -> PathBuf {
        self.instance_sockets().join(id.to_string()).join("vsock")
    }

    /// Copies of all artifacts.
    pub fn artifacts(&self) -> PathBuf {
        self.root.join("artifacts")
    }

    /// The copy of an artifact.
    pub fn artifact(&self, digest: &Digest) -> PathBuf {
        self.artifacts().join(&digest.0)
    }

    /// Everything of one service but its artifacts.
    pub fn service(&self, name: &ServiceName) -> PathBuf {
        self.root.join("services").join(name.as_component())
    }

    /// An instance's state.
    pub fn volume(&self, name: &ServiceName, volume: u64) -> PathBuf {
        self.service(name).join("volumes").join(volume.to_string())
    }

    /// All logs of a service.
    pub fn logs(&self, name: &ServiceName) -> PathBuf {
        self.service(name).join("logs")
    }

    /// What an instance wrote to stdout and stderr.
    pub fn log(&self, name: &ServiceName, generation: Generation) -> PathBuf {
        self.logs(name).join(format!("{generation}.log"))
    }
}
