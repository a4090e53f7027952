//! The gateway beside HAProxy and nginx: the same reverse proxy in front of the same backend, measured by wrk in turn.
//!
//! The gateway tells the backend more than a plain HAProxy or nginx does: protocol, host, and an id of the request that the client
//! gets too. What that costs everybody, the backend included, shows beside an HAProxy that is told to say the same.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use osvm_model::{
    Backend, BackendRole, Endpoint, Generation, Listener, ListenerProtocol, Pool, RouteTable, route::Route,
};
use serde::Serialize;

use crate::{
    error::{Checks, Error},
    process, product,
    stats::median,
};

use super::write;

/// How long.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds of a measurement
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Measurements of each proxy at each number of connections; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

const CONNECTIONS: [usize; 3] = [1, 64, 512];
/// For a server to take connections.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Between two tries to connect to a server that starts: the servers measured offer no event.
const START_PROBE: Duration = Duration::from_millis(10);

/// What makes HAProxy write the fields that the gateway writes.
const SAME_FIELDS: &str = "\
  unique-id-format %{+X}o%ci%cp%Ts%rt
  unique-id-header x-request-id
  http-request set-header x-forwarded-proto http
  http-request set-header x-forwarded-host %[req.hdr(host)]
  http-response set-header x-request-id %[unique-id]
";

/// A server under test.
struct Proxy {
    name: &'static str,
    port: u16,
    child: Child,
}

/// What wrk said, and what the proxy's processes used.
#[derive(Clone, Debug, Serialize)]
struct Figures {
    proxy: &'static str,
    connections: usize,
    requests_per_second: f64,
    p50_us: f64,
    p99_us: f64,
    errors: u64,
    /// None for the backend alone.
    cpu_seconds_per_100k: f64,
}

/// Runs the whole comparison.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let dir = tempfile::Builder::new()
        .prefix("osvm-gateway-")
        .tempdir()
        .map_err(|source| Error::io("make a folder", source))?;
    let backend = nginx(dir.path(), "backend", product::free_port_pair()?, "return 200 \"hello\\n\";", "")?;
    let upstream =
        format!("upstream b {{ server 127.0.0.1:{}; keepalive 512; keepalive_requests 1000000000; }}", backend.port);
    let proxies = [
        gateway(dir.path(), backend.port)?,
        haproxy(dir.path(), "HAProxy", "", backend.port)?,
        haproxy(dir.path(), "HAProxy+fields", SAME_FIELDS, backend.port)?,
        nginx(
            dir.path(),
            "nginx",
            product::free_port_pair()?,
            "proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection \"\";",
            &upstream,
        )?,
    ];
    let mut measured = Vec::new();
    for connections in CONNECTIONS {
        // In turn, so that what the machine does besides hits all alike.
        for _ in 0..args.rounds {
            for server in [&backend].into_iter().chain(&proxies) {
                measured.push(measure(server, connections, args.seconds)?);
            }
        }
    }
    let figures = medians(&measured);
    print(&figures);
    write("gateway.json", &figures)?;
    let mut checks = Checks::default();
    let errors: u64 = measured.iter().map(|figures| figures.errors).sum();
    checks.that(errors == 0, format!("{errors} errors in all measurements"));
    checks.that(measured.iter().all(|figures| figures.requests_per_second > 0.0), "every proxy answered");
    checks.result()
}

fn measure(server: &Proxy, connections: usize, seconds: u64) -> Result<Figures, Error> {
    let before = cpu(server);
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), "--latency"])
        .arg(format!("http://127.0.0.1:{}/", server.port))
        .output()
        .map_err(|source| Error::io("run wrk", source))?;
    let used = cpu(server) - before;
    let text = String::from_utf8_lossy(&output.stdout);
    let word = |prefix: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(prefix));
        line.and_then(|rest| rest.split_whitespace().next().map(str::to_owned))
    };
    let number = |prefix: &str| word(prefix).and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0);
    let total =
        text.lines().find(|line| line.contains(" requests in ")).and_then(|line| line.split_whitespace().next());
    let total: f64 = total.and_then(|word| word.parse().ok()).unwrap_or(0.0);
    let socket_errors: u64 = text
        .lines()
        .filter(|line| line.contains("Socket errors"))
        .flat_map(|line| line.split([' ', ',']))
        .filter_map(|word| word.parse::<u64>().ok())
        .sum();
    Ok(Figures {
        proxy: server.name,
        connections,
        requests_per_second: number("Requests/sec:"),
        p50_us: word("50%").map_or(0.0, |word| micros(&word)),
        p99_us: word("99%").map_or(0.0, |word| micros(&word)),
        errors: socket_errors + number("Non-2xx or 3xx responses:") as u64,
        cpu_seconds_per_100k: if total > 0.0 { used / total * 1e5 } else { 0.0 },
    })
}

/// `1.25ms`, `830.00us`, `1.01s`
fn micros(word: &str) -> f64 {
    for (unit, factor) in [("us", 1.0), ("ms", 1e3), ("s", 1e6)] {
        if let Some(number) = word.strip_suffix(unit) {
            return number.parse::<f64>().unwrap_or(0.0) * factor;
        }
    }
    0.0
}

fn cpu(server: &Proxy) -> f64 {
    let pid = server.child.id();
    let ticks: u64 = process::children(pid).into_iter().chain([pid]).map(process::cpu_ticks).sum();
    ticks as f64 / process::TICKS_PER_SECOND
}

fn medians(measured: &[Figures]) -> Vec<Figures> {
    let mut result: Vec<Figures> = Vec::new();
    for figures in measured {
        let same = |other: &&Figures| other.proxy == figures.proxy && other.connections == figures.connections;
        if result.iter().any(|known| same(&known)) {
            continue;
        }
        let all: Vec<&Figures> = measured.iter().filter(same).collect();
        let middle = |of: fn(&Figures) -> f64| median(&mut all.iter().map(|figures| of(figures)).collect::<Vec<_>>());
        result.push(Figures {
            requests_per_second: middle(|figures| figures.requests_per_second),
            p50_us: middle(|figures| figures.p50_us),
            p99_us: middle(|figures| figures.p99_us),
            cpu_seconds_per_100k: middle(|figures| figures.cpu_seconds_per_100k),
            errors: all.iter().map(|figures| figures.errors).sum(),
            ..figures.clone()
        });
    }
    result
}

fn print(figures: &[Figures]) {
    println!(
        "{:>11}  {:<14} {:>12} {:>10} {:>10} {:>14} {:>12}",
        "connections", "proxy", "requests/s", "p50", "p99", "CPU s/100k", "of HAProxy"
    );
    for row in figures {
        let haproxy = figures.iter().find(|other| other.proxy == "HAProxy" && other.connections == row.connections);
        let ratio = haproxy.map_or(0.0, |haproxy| row.requests_per_second / haproxy.requests_per_second);
        println!(
            "{:>11}  {:<14} {:>12.0} {:>7.2} ms {:>7.2} ms {:>14.2} {:>12.2}",
            row.connections,
            row.proxy,
            row.requests_per_second,
            row.p50_us / 1e3,
            row.p99_us / 1e3,
            row.cpu_seconds_per_100k,
            ratio
        );
    }
}

fn gateway(dir: &Path, backend: u16) -> Result<Proxy, Error> {
    let port = product::free_port_pair()?;
    let endpoint = Endpoint::Tcp(SocketAddr::from(([127, 0, 0, 1], backend)));
    let pool = Pool {
        backends: vec![Backend { generation: Generation(1), endpoint, role: BackendRole::Active }],
        wait_ms: 5000,
        ..Pool::default()
    };
    let table = RouteTable {
        version: 1,
        listeners: vec![Listener {
            addr: SocketAddr::from(([127, 0, 0, 1], port)),
            protocol: ListenerProtocol::Http,
            tls: None,
            routes: vec![Route { host: None, path_prefix: None, pool: "bench".into() }],
        }],
        pools: [("bench".to_owned(), pool)].into(),
    };
    let json = serde_json::to_string(&table).map_err(|error| Error::exchange("write the routes", error))?;
    let config = save(dir, "routes.json", &json)?;
    let mut command = Command::new(product::bin()?.join("osvm"));
    command.arg("gateway").arg("--config").arg(config);
    start("osvm gateway", port, &mut command)
}

fn haproxy(dir: &Path, name: &'static str, fields: &str, backend: u16) -> Result<Proxy, Error> {
    let port = product::free_port_pair()?;
    let config = save(
        dir,
        &format!("{name}.cfg"),
        &format!(
            "global\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  \
             http-reuse always\n  option forwardfor\nfrontend f\n  bind 127.0.0.1:{port}\n{fields}  default_backend b\nbackend b\n  server s 127.0.0.1:{backend}\n"
        ),
    )?;
    let mut command = Command::new(sbin("haproxy"));
    start(name, port, command.arg("-db").arg("-f").arg(config))
}

fn nginx(dir: &Path, name: &'static str, port: u16, location: &str, http: &str) -> Result<Proxy, Error> {
    let home = dir.join(name);
    fs::create_dir_all(&home).map_err(|source| Error::io("make a folder", source))?;
    let temps = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{kind};", home.display()));
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let config = save(
        &home,
        "nginx.conf",
        &format!(
            "{user} worker_processes auto; daemon off; pid {home}/pid; error_log stderr crit;\nevents {{ worker_connections 8192; }}\n\
             http {{ access_log off; keepalive_requests 1000000000; {temps} {http}\n  server {{ listen 127.0.0.1:{port} reuseport backlog=4096; location / {{ {location} }} }} }}\n",
            home = home.display(),
            temps = temps.join(" ")
        ),
    )?;
    let mut command = Command::new(sbin("nginx"));
    start(name, port, command.arg("-p").arg(&home).arg("-e").arg("stderr").arg("-c").arg(config))
}

/// Debian keeps servers where not every user's PATH leads.
fn sbin(name: &str) -> PathBuf {
    let file = Path::new("/usr/sbin").join(name);
    if file.exists() { file } else { name.into() }
}

fn save(dir: &Path, name: &str, text: &str) -> Result<PathBuf, Error> {
    let path = dir.join(name);
    fs::write(&path, text).map_err(|source| Error::io(format!("write {}", path.display()), source))?;
    Ok(path)
}

fn start(name: &'static str, port: u16, command: &mut Command) -> Result<Proxy, Error> {
    let child = command.stdin(Stdio::null()).spawn().map_err(|source| Error::io(format!("start {name}"), source))?;
    let mut proxy = Proxy { name, port, child };
    let begin = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if let Ok(Some(status)) = proxy.child.try_wait() {
            return Err(Error::Program(format!("{name} ended with {status}")));
        }
        if begin.elapsed() > START_LIMIT {
            return Err(Error::Program(format!("{name} does not listen after {} s", START_LIMIT.as_secs())));
        }
        std::thread::sleep(START_PROBE);
    }
    Ok(proxy)
}

impl Drop for Proxy {
    fn drop(&mut self) {
        process::terminate(self.child.id());
        let begin = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begin.elapsed() < START_LIMIT {
            std::thread::sleep(START_PROBE);
        }
        // Gone already, but for one that does not listen to SIGTERM.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_units_of_wrk_are_read() {
        assert_eq!(micros("830.00us"), 830.0);
        assert_eq!(micros("1.25ms"), 1250.0);
        assert_eq!(micros("1.01s"), 1_010_000.0);
    }
}
