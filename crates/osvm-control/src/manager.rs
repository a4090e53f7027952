//! All services of a daemon: what each request does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use osvm_model::{
    EventKind, InstanceState, InstanceStatus, RevisionNumber, RolloutPolicy, ServiceName, ServiceSpec, ServiceStatus,
    api::{Progress, SwapRequest},
    service::HealthCheck,
};
use osvm_runtime::choose;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    artifacts,
    context::Context,
    events::Note,
    failure::Failure,
    service::{self, Handle},
    store::{Revision, Service, StoreError},
};

/// Lines of progress that wait for a slow client; a rollout has fewer.
const PROGRESS: usize = 64;

/// All services.
pub(crate) struct Manager {
    pub(crate) ctx: Arc<Context>,
    /// Held while a service is declared or removed.
    services: Mutex<BTreeMap<ServiceName, Handle>>,
    /// Cancelled when the daemon ends.
    pub(crate) end: CancellationToken,
}

impl Manager {
    /// Starts a task for each service in the store.
    pub(crate) fn open(ctx: Context) -> Result<Self, StoreError> {
        let ctx = Arc::new(ctx);
        let names = ctx.store.services()?.into_iter().map(|service| service.name);
        let services = names.map(|name| (name.clone(), service::spawn(Arc::clone(&ctx), name))).collect();
        Ok(Self { ctx, services: Mutex::new(services), end: CancellationToken::new() })
    }

    /// Declares a service and starts it.
    pub(crate) async fn declare(&self, spec: ServiceSpec) -> Result<ServiceStatus, Failure> {
        validate(&spec)?;
        let name = spec.name.clone();
        let mut services = self.services.lock().await;
        let handle = match services.get(&name) {
            Some(handle) => {
                self.redeclare(handle, spec).await?;
                handle.clone()
            }
            None => {
                choose(spec.isolation)?;
                let addrs = spec.ports.iter().map(|port| port.listen).collect();
                self.ctx.gateway.reserve(&name, addrs).await?;
                let digest = artifacts::keep(&self.ctx, &spec.artifact).await?;
                self.ctx.store.add_service(&spec, &digest, self.left_volume(&name))?;
                let message = format!("declared: {} ({})", spec.artifact.display(), digest.short());
                self.ctx.events.note(Note::new(EventKind::Service, message).service(&name).revision(RevisionNumber(1)));
                let handle = service::spawn_new(Arc::clone(&self.ctx), name.clone());
                services.insert(name.clone(), handle.clone());
                handle
            }
        };
        drop(services);
        handle.start().await?;
        self.status(&name)
    }

    /// The declaration of a service that there is already.
    async fn redeclare(&self, handle: &Handle, spec: ServiceSpec) -> Result<(), Failure> {
        handle.not_busy()?;
        let name = &spec.name;
        let (service, revision) = self.service(name)?;
        let same = revision.spec == spec;
        if service.wanted {
            return match same {
                true => Ok(()),
                false => Err(Failure::conflict(
                    format!("{name} runs already, declared otherwise"),
                    format!(
                        "replace its program: osvm swap {name} --artifact PATH; or stop it first: osvm stop {name}"
                    ),
                )),
            };
        }
        choose(spec.isolation)?;
        let digest = artifacts::keep(&self.ctx, &spec.artifact).await?;
        if same && digest == revision.digest {
            return Ok(());
        }
        let number = self.ctx.store.add_revision(&spec, &digest)?;
        self.ctx.store.set_serving(name, number, service.volume, Some(service.revision))?;
        self.ctx.store.prune_revisions(name)?;
        let message = format!("declared anew: {} ({})", spec.artifact.display(), digest.short());
        self.ctx.events.note(Note::new(EventKind::Service, message).service(name).revision(number));
        Ok(())
    }

    /// A state of that name which a lost database left behind: the one that was written to last.
    fn left_volume(&self, name: &ServiceName) -> Option<u64> {
        let folder = std::fs::read_dir(self.ctx.paths.service(name).join("volumes")).ok()?;
        let volumes = folder.flatten().filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse::<u64>().ok()?;
            let files = std::fs::read_dir(entry.path()).ok()?;
            let written = files.flatten().filter_map(|file| file.metadata().ok()?.modified().ok()).max();
            Some((written.unwrap_or(SystemTime::UNIX_EPOCH), number))
        });
        volumes.max().map(|(_, number)| number)
    }

    pub(crate) async fn start(&self, name: &ServiceName) -> Result<ServiceStatus, Failure> {
        self.handle(name).await?.start().await?;
        self.status(name)
    }

    pub(crate) async fn stop(&self, name: &ServiceName) -> Result<ServiceStatus, Failure> {
        self.handle(name).await?.stop().await?;
        self.status(name)
    }

    pub(crate) async fn restart(&self, name: &ServiceName) -> Result<ServiceStatus, Failure> {
        self.handle(name).await?.restart().await?;
        self.status(name)
    }

    pub(crate) async fn remove(&self, name: &ServiceName) -> Result<(), Failure> {
        let mut services = self.services.lock().await;
        let handle = services.get(name).cloned().ok_or_else(|| Failure::unknown_service(name))?;
        handle.remove().await?;
        services.remove(name);
        Ok(())
    }

    /// Waits until the service takes traffic, or its instance failed.
    pub(crate) async fn ready(&self, name: &ServiceName, limit: Duration) -> Result<ServiceStatus, Failure> {
        let mut condition = self.handle(name).await?.condition();
        let settled = condition.wait_for(|now| now.ready || now.failure.is_some() || !now.wanted);
        let logs = format!("osvm logs {name}");
        let now = match tokio::time::timeout(limit, settled).await {
            Ok(Ok(now)) => now.clone(),
            Ok(Err(_)) => return Err(Failure::gone(name)),
            Err(_) => {
                return Err(Failure::failed(format!("{name} is not ready after {} ms", limit.as_millis()), logs));
            }
        };
        match (now.ready, now.failure) {
            (true, _) => self.status(name),
            (false, Some(why)) => Err(Failure::failed(format!("{name} is not ready: {why}"), logs)),
            (false, None) => Err(Failure::conflict(format!("{name} is stopped"), format!("osvm start {name}"))),
        }
    }

    /// Begins to replace the instance by a new revision. What follows comes over the channel.
    pub(crate) async fn swap(
        &self,
        name: &ServiceName,
        request: SwapRequest,
    ) -> Result<mpsc::Receiver<Progress>, Failure> {
        let handle = self.handle(name).await?;
        let permit = handle.permit()?;
        let (_, from) = self.service(name)?;
        let spec = ServiceSpec { artifact: request.artifact.unwrap_or(from.spec.artifact), ..from.spec };
        let policy = RolloutPolicy {
            health_timeout_ms: request.health_timeout_ms.unwrap_or(spec.rollout.health_timeout_ms),
            drain_timeout_ms: request.drain_timeout_ms.unwrap_or(spec.rollout.drain_timeout_ms),
            watch_ms: request.watch_ms.unwrap_or(spec.rollout.watch_ms),
        };
        let digest = artifacts::keep(&self.ctx, &spec.artifact).await?;
        let number = self.ctx.store.add_revision(&spec, &digest)?;
        let to = Revision { number, spec, digest, failed: false };
        let (progress, lines) = mpsc::channel(PROGRESS);
        handle.swap(to, policy, progress, permit).await?;
        Ok(lines)
    }

    /// Begins to go back to the revision that served before.
    pub(crate) async fn rollback(&self, name: &ServiceName) -> Result<mpsc::Receiver<Progress>, Failure> {
        let handle = self.handle(name).await?;
        let permit = handle.permit()?;
        let (service, _) = self.service(name)?;
        let nothing = || {
            Failure::conflict(
                format!("{name} has no earlier revision to go back to"),
                format!("osvm events {name} shows what became of each"),
            )
        };
        let number = service.previous.ok_or_else(nothing)?;
        let to = self.ctx.store.revision(name, number)?.ok_or_else(nothing)?;
        let policy = to.spec.rollout.clone();
        let (progress, lines) = mpsc::channel(PROGRESS);
        handle.swap(to, policy, progress, permit).await?;
        Ok(lines)
    }

    /// Stops all services and the gateway. The services stay declared and are not wanted any more: the next daemon starts none.
    pub(crate) async fn down(&self) -> Result<(), Failure> {
        let services = self.services.lock().await;
        let stops = services.values().map(|handle| handle.stop());
        let failed = futures_util::future::join_all(stops).await.into_iter().find_map(Result::err);
        self.ctx.gateway.stop().await;
        self.ctx.store.sync().await?;
        self.ctx.events.note(Note::new(EventKind::Daemon, "all services, the gateway and the daemon are stopped"));
        failed.map_or(Ok(()), Err)
    }

    /// All services.
    pub(crate) fn statuses(&self) -> Result<Vec<ServiceStatus>, Failure> {
        let services = self.ctx.store.services()?;
        services.iter().map(|service| self.status(&service.name)).collect()
    }

    /// One service.
    pub(crate) fn status(&self, name: &ServiceName) -> Result<ServiceStatus, Failure> {
        let (service, revision) = self.service(name)?;
        let mut instances = self.instances(Some(name))?;
        let serves = |instance: &InstanceStatus| {
            instance.revision == service.revision && instance.state != InstanceState::Draining
        };
        instances.sort_by_key(|instance| !serves(instance));
        let rollout = self.ctx.store.last_rollout(name)?.map(|record| record.status);
        Ok(ServiceStatus {
            name: service.name,
            wanted: service.wanted,
            revision: service.revision,
            digest: revision.digest,
            spec: revision.spec,
            instances,
            rollout,
        })
    }

    /// All instances that should be alive, with what their processes use.
    pub(crate) fn instances(&self, name: Option<&ServiceName>) -> Result<Vec<InstanceStatus>, Failure> {
        let records = self.ctx.store.live_instances(name)?;
        Ok(records
            .into_iter()
            .map(|record| {
                let mut status = record.status();
                let used = status.pid.and_then(|pid| osvm_runtime::stats(record.level, pid));
                status.used = used.unwrap_or_default();
                status
            })
            .collect())
    }

    pub(crate) fn service(&self, name: &ServiceName) -> Result<(Service, Revision), Failure> {
        let unknown = || Failure::unknown_service(name);
        let service = self.ctx.store.service(name)?.ok_or_else(unknown)?;
        let revision = self.ctx.store.revision(name, service.revision)?.ok_or_else(unknown)?;
        Ok((service, revision))
    }

    async fn handle(&self, name: &ServiceName) -> Result<Handle, Failure> {
        self.services.lock().await.get(name).cloned().ok_or_else(|| Failure::unknown_service(name))
    }
}

/// Whether the declaration makes sense by itself.
fn validate(spec: &ServiceSpec) -> Result<(), Failure> {
    let mut names = BTreeSet::new();
    let mut addrs = BTreeSet::new();
    for port in &spec.ports {
        let named = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if port.name.is_empty() || !port.name.chars().all(named) {
            return Err(Failure::bad(format!("port name {:?} is not made of a-z, 0-9 and '-'", port.name)));
        }
        if !names.insert(&port.name) {
            return Err(Failure::bad(format!("two ports are named {}", port.name)));
        }
        if port.listen.port() == 0 || !addrs.insert(port.listen) {
            return Err(Failure::bad(format!("port {} cannot listen on {}", port.name, port.listen)));
        }
    }
    let (HealthCheck::Connect { port } | HealthCheck::Http { port, .. } | HealthCheck::Solana { port }) = &spec.health;
    if !names.contains(port) {
        return Err(Failure::bad(format!("the health check names port {port:?}, which the service has not")));
    }
    if let HealthCheck::Http { path, .. } = &spec.health
        && !path.starts_with('/')
    {
        return Err(Failure::bad(format!("the health check's path {path:?} does not start with /")));
    }
    Ok(())
}
