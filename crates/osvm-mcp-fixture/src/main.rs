//! The MCP server that the official conformance suite asks for: its tools, resources and prompts, by name.
//!
//! Over stdin and stdout (what `osvm mcp` starts in a jail), or with `--listen ADDR:PORT` over HTTP, which is `rmcp` alone: a fault that
//! shows through the gateway and not there is the gateway's. Nothing here ships.
#![forbid(unsafe_code)]

mod content;
mod handler;
mod inputs;

use std::{env, error::Error, process::ExitCode, sync::Arc};

use rmcp::{
    ServiceExt,
    transport::{
        stdio,
        streamable_http_server::{
            StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
        },
    },
};

use handler::Fixture;

fn main() -> ExitCode {
    let done = tokio::runtime::Builder::new_current_thread().enable_all().build().map(|rt| rt.block_on(run()));
    match done {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    match &words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            Fixture::new().serve(stdio()).await?.waiting().await?;
            Ok(())
        }
        ["--listen", at] => listen(at).await,
        _ => Err("usage: osvm-mcp-fixture [--listen ADDR:PORT]".into()),
    }
}

async fn listen(at: &str) -> Result<(), Box<dyn Error>> {
    let fixture = Fixture::new();
    let service = StreamableHttpService::new(
        move || Ok(fixture.clone()),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default(),
    );
    let listener = tokio::net::TcpListener::bind(at).await?;
    eprintln!("serving http://{}/mcp", listener.local_addr()?);
    axum::serve(listener, axum::Router::new().nest_service("/mcp", service)).await?;
    Ok(())
}
