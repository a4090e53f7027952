//! Builds the whole route table from what each service wants.

use std::{collections::BTreeMap, path::PathBuf};

use osvm_model::{
    Backend, BackendRole, Endpoint, Generation, Listener, Pool, PortSpec, RouteTable, ServiceName, defaults,
    route::Route,
};

/// The instances of a service that the gateway should know, and what for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceRoutes {
    pub(crate) ports: Vec<PortSpec>,
    pub(crate) backends: Vec<(Generation, PathBuf, BackendRole)>,
    /// New requests wait.
    pub(crate) hold: bool,
}

/// The name of a port's pool.
pub(crate) fn pool_name(service: &ServiceName, port: &PortSpec) -> String {
    format!("{service}/{}", port.name)
}

/// The table of all services.
pub(crate) fn build(version: u64, services: &BTreeMap<ServiceName, ServiceRoutes>) -> RouteTable {
    let mut table = RouteTable { version, ..RouteTable::default() };
    for (service, routes) in services {
        for port in &routes.ports {
            let pool = pool_name(service, port);
            let backend = |(generation, uds, role): &(Generation, PathBuf, BackendRole)| Backend {
                generation: *generation,
                endpoint: Endpoint::Vsock { uds: uds.clone(), port: port.port },
                role: *role,
            };
            table.listeners.push(Listener {
                addr: port.listen,
                protocol: port.protocol,
                tls: port.tls.clone(),
                routes: vec![Route { host: None, path_prefix: None, pool: pool.clone() }],
            });
            table.pools.insert(
                pool,
                Pool {
                    backends: routes.backends.iter().map(backend).collect(),
                    hold: routes.hold,
                    replay: port.replay,
                    wait_ms: defaults::GATEWAY_WAIT.as_millis() as u64,
                },
            );
        }
    }
    table
}
