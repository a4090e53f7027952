//! The service: a counter. `POST /add` adds one and answers with the count; `GET /count` reads it; `GET /health`.
//!
//! It speaks the hand-over contract of [`osvm_model::handover`] with a line protocol of its own on the replication port: the leader
//! sends `SET n` (first the whole state, which is one number) and at last `TOKEN`; the standby answers each line with `OK`. The file
//! `handed-over` says that the token left.

use std::{fs, path::PathBuf, process, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderName, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use osvm_model::handover::{
    ALONE_AFTER, CONTROL_PORT, ENV_ROLE, ENV_SOLE, ENV_STATE, ENV_VSOCK, HandedOver, NOT_PROCESSED, NodeStatus,
    PATH_ALONE, PATH_HAND_OVER, PATH_LEAD, PATH_STATUS, REPLICATION_PORT, Refusal, Role,
};
use osvm_vsock::{Guest, Incoming};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, ReadHalf, WriteHalf},
    net::UnixStream,
    sync::{Mutex, Notify, watch},
    time::{Instant, timeout_at},
};

/// The service's own port.
pub const PORT: u32 = 8000;
/// What is waited for of the other side; after that it counts as lost.
const ACK_TIMEOUT: Duration = Duration::from_secs(2);
/// What "a moment" is below.
const SOON: Duration = Duration::from_millis(100);

/// Ways to go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Misbehaviour {
    /// Ends at once.
    Exit,
    /// Runs, and `/health` says 503.
    Unhealthy,
    /// Answers every control request with something that is not JSON.
    Garbage,
    /// Ends when the token comes, before it says so.
    DieOnToken,
    /// Ends a moment after it began to lead by the token.
    DieAfterToken,
    /// Leads by the token, and is unhealthy from then on.
    UnhealthyAfterToken,
    /// As the old one: refuses to hand over.
    Refuse,
    /// As the old one: ends when told to hand over, before the token went.
    DieInHandOver,
    /// As the old one: the token goes, but the caller hears nothing.
    LoseAnswer,
    /// As the old one: ends a moment after it handed over.
    DieAfterHandOver,
    /// As the old one: the token does not arrive, for it ends with it.
    DieWithToken,
    /// As the old one: stops to follow a moment after it handed over, and lives on.
    StopFollowing,
    /// As the old one: hangs when it is told to lead again.
    HangOnLead,
    /// As the new one: ends as soon as it is alone, or nearly.
    DieAlone,
}

struct Peer {
    lines: Lines<BufReader<ReadHalf<UnixStream>>>,
    writer: WriteHalf<UnixStream>,
}

struct Counter {
    role: Role,
    count: u64,
    /// The standby, while this one leads.
    peer: Option<Peer>,
    by_token: bool,
    in_sync: bool,
}

struct Service {
    misbehaviour: Option<Misbehaviour>,
    file: PathBuf,
    counter: Mutex<Counter>,
    /// This one lost the lead to the peer that it has a stream to, or got it.
    turned: Notify,
    /// Nothing is acknowledged before, for a standby was lost.
    held: watch::Sender<Option<Instant>>,
}

/// Serves until SIGTERM.
pub fn run(misbehaviour: Option<Misbehaviour>) -> std::io::Result<()> {
    if misbehaviour == Some(Misbehaviour::Exit) {
        return Err(std::io::Error::other("told to misbehave"));
    }
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(serve(misbehaviour))
}

async fn serve(misbehaviour: Option<Misbehaviour>) -> std::io::Result<()> {
    let variable = |name: &str| std::env::var(name).map_err(|_| std::io::Error::other(format!("{name} is not set")));
    let file = PathBuf::from(variable(ENV_STATE)?).join("count");
    let count = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let role = if variable(ENV_ROLE)? == "standby" { Role::Standby } else { Role::Leader };
    let marker = file.with_file_name("handed-over");
    if role == Role::Leader && std::env::var(ENV_SOLE).is_ok_and(|sole| sole == "true") {
        drop(fs::remove_file(&marker));
    }
    if role == Role::Leader && marker.exists() {
        return Err(std::io::Error::other("the state was handed over"));
    }
    let guest = Guest::bind(variable(ENV_VSOCK)?.as_ref()).await.map_err(std::io::Error::other)?;
    let port = |number| guest.listen(number).map_err(std::io::Error::other);
    let service = Arc::new(Service {
        misbehaviour,
        file,
        counter: Mutex::new(Counter { role, count, peer: None, by_token: false, in_sync: false }),
        turned: Notify::new(),
        held: watch::Sender::new(None),
    });
    println!("serves as {role:?} with {count}");
    let own = Router::new()
        .route("/health", get(health))
        .route("/count", get(count_now))
        .route("/add", post(add))
        .with_state(Arc::clone(&service));
    let control = Router::new()
        .route(PATH_STATUS, get(status))
        .route(PATH_HAND_OVER, post(hand_over))
        .route(PATH_LEAD, post(lead))
        .route(PATH_ALONE, post(alone))
        .with_state(Arc::clone(&service));
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        served = axum::serve(Port(port(PORT)?), own) => served,
        served = axum::serve(Port(port(CONTROL_PORT)?), control) => served,
        () = replicate(Arc::clone(&service), port(REPLICATION_PORT)?) => Ok(()),
        _ = term.recv() => Ok(()),
    }
}

struct Port(Incoming);

impl axum::serve::Listener for Port {
    type Io = UnixStream;
    type Addr = ();

    async fn accept(&mut self) -> (UnixStream, ()) {
        match self.0.accept().await {
            Some(stream) => (stream, ()),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<()> {
        Ok(())
    }
}

// ---- the service's own interface ----

async fn health(State(service): State<Arc<Service>>) -> StatusCode {
    let counter = service.counter.lock().await;
    let ill = match service.misbehaviour {
        Some(Misbehaviour::Unhealthy) => true,
        Some(Misbehaviour::UnhealthyAfterToken) => counter.by_token,
        _ => false,
    };
    if ill { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
}

async fn count_now(State(service): State<Arc<Service>>) -> Response {
    let counter = service.counter.lock().await;
    match counter.role {
        Role::Leader => counter.count.to_string().into_response(),
        Role::Standby => not_processed(),
    }
}

async fn add(State(service): State<Arc<Service>>) -> Response {
    let mut counter = service.counter.lock().await;
    if counter.role == Role::Standby {
        return not_processed();
    }
    let count = counter.count + 1;
    service.write(count);
    counter.count = count;
    let followed = counter.peer.is_some();
    if !counter.tell(&format!("SET {count}")).await && followed {
        if service.misbehaviour == Some(Misbehaviour::DieAlone) {
            soon_exit(SOON / 5);
        }
        service.held.send_replace(Some(Instant::now() + ALONE_AFTER));
    }
    drop(counter);
    service.may_answer().await;
    count.to_string().into_response()
}

fn not_processed() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(HeaderName::from_static(NOT_PROCESSED), "1")]).into_response()
}

// ---- the contract ----

async fn status(State(service): State<Arc<Service>>) -> Response {
    if service.misbehaviour == Some(Misbehaviour::Garbage) {
        return "this is not JSON".into_response();
    }
    let counter = service.counter.lock().await;
    Json(counter.status()).into_response()
}

async fn hand_over(State(service): State<Arc<Service>>) -> Response {
    let refuse = |error: &str| (StatusCode::CONFLICT, Json(Refusal { error: error.to_owned() })).into_response();
    match service.misbehaviour {
        Some(Misbehaviour::Refuse) => return refuse("told to misbehave"),
        Some(Misbehaviour::DieInHandOver) => process::exit(9),
        _ => {}
    }
    let mut counter = service.counter.lock().await;
    if counter.role != Role::Leader || counter.peer.is_none() {
        return refuse("there is no standby");
    }
    // From here on this one does not lead, whatever comes.
    counter.role = Role::Standby;
    service.mark(true);
    if service.misbehaviour == Some(Misbehaviour::DieWithToken) {
        process::exit(6);
    }
    if !counter.tell("TOKEN").await {
        drop(counter);
        std::future::pending::<()>().await;
        return refuse("the standby is gone");
    }
    counter.in_sync = true;
    let answer = HandedOver { slot: counter.count, accounts: 1, pending: 0, pause_us: 0 };
    drop(counter);
    service.turned.notify_one();
    match service.misbehaviour {
        Some(Misbehaviour::LoseAnswer) => std::future::pending().await,
        Some(Misbehaviour::DieAfterHandOver) => soon_exit(SOON),
        _ => {}
    }
    Json(answer).into_response()
}

async fn lead(State(service): State<Arc<Service>>) -> Response {
    if service.misbehaviour == Some(Misbehaviour::HangOnLead) {
        std::future::pending::<()>().await;
    }
    let mut counter = service.counter.lock().await;
    service.mark(false);
    counter.role = Role::Leader;
    counter.peer = None;
    counter.in_sync = false;
    Json(counter.status()).into_response()
}

async fn alone(State(service): State<Arc<Service>>) -> Response {
    let mut counter = service.counter.lock().await;
    if counter.role != Role::Leader {
        let error = "does not lead".to_owned();
        return (StatusCode::CONFLICT, Json(Refusal { error })).into_response();
    }
    println!("goes on alone, as it was told");
    counter.peer = None;
    counter.in_sync = false;
    service.held.send_replace(None);
    Json(counter.status()).into_response()
}

fn soon_exit(pause: Duration) {
    tokio::spawn(async move {
        tokio::time::sleep(pause).await;
        process::exit(7);
    });
}

// ---- replication ----

/// One stream at a time; a new one replaces the last.
async fn replicate(service: Arc<Service>, mut incoming: Incoming) {
    let mut running: Option<tokio::task::JoinHandle<()>> = None;
    while let Some(stream) = incoming.accept().await {
        if let Some(running) = running.take() {
            running.abort();
        }
        running = Some(tokio::spawn(one_stream(Arc::clone(&service), stream)));
    }
}

async fn one_stream(service: Arc<Service>, stream: UnixStream) {
    let (reader, writer) = tokio::io::split(stream);
    let mut peer = Peer { lines: BufReader::new(reader).lines(), writer };
    loop {
        let role = service.counter.lock().await.role;
        match role {
            Role::Leader => {
                let mut counter = service.counter.lock().await;
                counter.peer = Some(peer);
                let whole = format!("SET {}", counter.count);
                counter.in_sync = counter.tell(&whole).await;
                drop(counter);
                service.turned.notified().await;
                match service.counter.lock().await.peer.take() {
                    Some(_) if service.misbehaviour == Some(Misbehaviour::StopFollowing) => {
                        tokio::time::sleep(SOON).await;
                        service.counter.lock().await.in_sync = false;
                        return;
                    }
                    Some(turned) => peer = turned,
                    None => return,
                }
            }
            Role::Standby => {
                if !follow(&service, &mut peer).await {
                    service.counter.lock().await.in_sync = false;
                    return;
                }
            }
        }
    }
}

/// Takes what the leader sends. True once the token came.
async fn follow(service: &Service, peer: &mut Peer) -> bool {
    loop {
        let Ok(Some(line)) = peer.lines.next_line().await else { return false };
        let mut counter = service.counter.lock().await;
        let token = line == "TOKEN";
        if token {
            if service.misbehaviour == Some(Misbehaviour::DieOnToken) {
                process::exit(8);
            }
            service.mark(false);
            counter.role = Role::Leader;
            counter.by_token = true;
        } else if let Some(count) = line.strip_prefix("SET ").and_then(|count| count.parse().ok()) {
            service.write(count);
            counter.count = count;
            counter.in_sync = true;
        }
        if peer.writer.write_all(b"OK\n").await.is_err() {
            return token;
        }
        if token {
            if service.misbehaviour == Some(Misbehaviour::DieAfterToken) {
                soon_exit(SOON);
            }
            return true;
        }
    }
}

impl Service {
    /// Waits until a count may be acknowledged.
    async fn may_answer(&self) {
        let mut held = self.held.subscribe();
        loop {
            let until = *held.borrow_and_update();
            match until {
                Some(until) if Instant::now() < until => drop(timeout_at(until, held.changed()).await),
                _ => return,
            }
        }
    }

    /// Notes that the token left, or that this one leads.
    fn mark(&self, handed_over: bool) {
        let marker = self.file.with_file_name("handed-over");
        let done = if handed_over { fs::write(&marker, "") } else { fs::remove_file(&marker) };
        if let Err(error) = done
            && error.kind() != std::io::ErrorKind::NotFound
        {
            eprintln!("error: cannot change {}: {error}", marker.display());
            process::exit(1);
        }
    }

    /// In the file before it is told to anybody.
    fn write(&self, count: u64) {
        let partial = self.file.with_extension("new");
        let written = fs::write(&partial, count.to_string()).and_then(|()| fs::rename(&partial, &self.file));
        if let Err(error) = written {
            eprintln!("error: cannot write {}: {error}", self.file.display());
            process::exit(1);
        }
    }
}

impl Counter {
    /// Sends a line to the standby and waits for its answer. A standby that does not answer is lost.
    async fn tell(&mut self, line: &str) -> bool {
        let Some(peer) = &mut self.peer else { return false };
        let exchange = async {
            peer.writer.write_all(format!("{line}\n").as_bytes()).await.ok()?;
            peer.lines.next_line().await.ok()?
        };
        let heard = matches!(tokio::time::timeout(ACK_TIMEOUT, exchange).await, Ok(Some(_)));
        if !heard {
            self.peer = None;
            self.in_sync = false;
        }
        heard
    }

    fn status(&self) -> NodeStatus {
        NodeStatus {
            role: self.role,
            version: "fixture".to_owned(),
            genesis_hash: "fixture".to_owned(),
            slot: self.count,
            accounts: 1,
            pending: 0,
            applied: self.count,
            in_sync: self.in_sync,
        }
    }
}
