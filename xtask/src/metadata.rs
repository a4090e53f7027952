//! What `cargo metadata` says of the workspace, as far as the tasks need it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::Command,
};

use serde_json::Value;

use crate::sh::{self, Result};

/// A crate of the workspace.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) id: String,
    /// The folder that holds its Cargo.toml.
    pub(crate) dir: PathBuf,
    /// The root files of its libraries and binaries.
    pub(crate) roots: Vec<PathBuf>,
    /// Direct dependencies of normal and build kind.
    pub(crate) dependencies: BTreeSet<String>,
    /// Direct dependencies of dev kind.
    pub(crate) dev_dependencies: BTreeSet<String>,
}

/// The workspace's crates, and where every package of the graph was unpacked.
pub(crate) struct Workspace {
    pub(crate) members: Vec<Member>,
    packages: BTreeMap<String, (String, PathBuf)>,
    /// Edges of normal and build kind, by package id.
    edges: BTreeMap<String, Vec<String>>,
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn read() -> Result<Self> {
        Self::described_by(sh::cargo().args(["metadata", "--format-version", "1", "--locked"]))
    }

    /// The answer of another `cargo metadata`.
    pub(crate) fn described_by(cargo: &mut Command) -> Result<Self> {
        let json = sh::capture(cargo)?;
        let json: Value = serde_json::from_slice(&json).map_err(|error| format!("cargo metadata: {error}"))?;
        let ids: BTreeSet<&str> = list(&json["workspace_members"]).filter_map(Value::as_str).collect();
        let mut packages = BTreeMap::new();
        let mut members = Vec::new();
        for package in list(&json["packages"]) {
            let (name, id) = (text(&package["name"]), text(&package["id"]));
            let mut dir = PathBuf::from(text(&package["manifest_path"]));
            dir.pop();
            packages.insert(id.clone(), (name.clone(), dir.clone()));
            if ids.contains(id.as_str()) {
                members.push(member(package, name, id, dir));
            }
        }
        let edges = list(&json["resolve"]["nodes"]).map(|node| (text(&node["id"]), normal_edges(node))).collect();
        Ok(Self { members, packages, edges })
    }

    /// Where the sources of a package are.
    pub(crate) fn source_dir(&self, package: &str) -> Option<PathBuf> {
        self.packages.values().find(|(name, _)| name == package).map(|(_, dir)| dir.clone())
    }

    /// All packages with the folders of their sources.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (&str, &PathBuf)> {
        self.packages.values().map(|(name, dir)| (name.as_str(), dir))
    }

    /// The names of all packages that end up in a build of `member`, without its dev-dependencies.
    pub(crate) fn closure(&self, member: &Member) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        let mut todo = vec![member.id.as_str()];
        while let Some(id) = todo.pop() {
            for next in self.edges.get(id).into_iter().flatten() {
                if seen.insert(next.as_str()) {
                    todo.push(next);
                }
            }
        }
        seen.into_iter().filter_map(|id| self.packages.get(id)).map(|(name, _)| name.as_str()).collect()
    }
}

fn member(package: &Value, name: String, id: String, dir: PathBuf) -> Member {
    let is_root = |target: &&Value| {
        list(&target["kind"]).any(|kind| matches!(kind.as_str(), Some("lib" | "bin" | "example" | "custom-build")))
    };
    let named = |dev: bool| {
        list(&package["dependencies"])
            .filter(|dependency| (dependency["kind"].as_str() == Some("dev")) == dev)
            .map(|dependency| text(&dependency["name"]))
            .collect()
    };
    Member {
        roots: list(&package["targets"]).filter(is_root).map(|target| text(&target["src_path"]).into()).collect(),
        dependencies: named(false),
        dev_dependencies: named(true),
        name,
        id,
        dir,
    }
}

fn normal_edges(node: &Value) -> Vec<String> {
    list(&node["deps"])
        .filter(|dep| list(&dep["dep_kinds"]).any(|kind| kind["kind"].as_str() != Some("dev")))
        .map(|dep| text(&dep["pkg"]))
        .collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
