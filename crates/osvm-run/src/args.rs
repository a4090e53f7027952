//! The command line of `osvm run`.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use osvm_jail::{HostPort, Inbound, Mount};
use osvm_model::{IsolationRequest, parse_duration, parse_size};

/// Runs one program, isolated from the host, and gives back its output and exit code.
///
/// The program sees its own file, its libraries, what --mount declares, and a /tmp of its own. No network, no environment, no other process.
#[derive(Debug, Parser)]
#[command(name = "osvm run", version, max_term_width = 100)]
pub(crate) struct Args {
    /// auto (process, printed), process, microvm or unikernel; a level that this host cannot give is refused
    #[arg(long, value_name = "LEVEL", default_value = "auto")]
    pub(crate) isolation: IsolationRequest,
    /// At level microvm: the image whose files are the guest's root (osvm microvm image build)
    #[arg(long, value_name = "NAME")]
    pub(crate) image: Option<String>,
    /// At level microvm: refuses to start where no hardware isolates the guest
    #[arg(long)]
    pub(crate) require_hardware: bool,
    /// The most memory it may use, /tmp included: bytes, or with K, M, G
    #[arg(long, value_name = "SIZE", default_value = "512M", value_parser = parse_size)]
    pub(crate) memory: u64,
    /// How many CPUs' time it may use, 0.5 for half of one; without it there is no limit
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<f64>,
    /// How many processes and threads it may have
    #[arg(long, value_name = "N", default_value_t = osvm_jail::DEFAULT_PIDS)]
    pub(crate) pids: u32,
    /// Ends it after this long: 500ms, 30s, 5m
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Shows it a file or folder of the host, to be written unless :ro is added; may be repeated
    #[arg(long, value_name = "SRC:DST[:ro]", value_parser = mount)]
    pub(crate) mount: Vec<Mount>,
    /// Sets a variable of its environment; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// Lets it reach this destination, a name or an address, through a proxy (set in its HTTP_PROXY and kin); may be repeated
    #[arg(long, value_name = "HOST:PORT", value_parser = destination)]
    pub(crate) allow: Vec<HostPort>,
    /// Joins a unix socket, made for the run, to the TCP port on which it listens; with its own network this is the only way in
    #[arg(long, value_name = "SOCKET:PORT", value_parser = publication)]
    pub(crate) publish: Option<Inbound>,
    /// Gives it nothing to write to: no /tmp, no writable mount
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Gives it a /proc of its own processes
    #[arg(long)]
    pub(crate) proc: bool,
    /// Its working directory, as it sees it
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) cwd: PathBuf,
    /// text: its output as it comes; json: all in one document at the end, with what it used
    #[arg(long, value_enum, env = "OSVM_OUTPUT", default_value = "text")]
    pub(crate) output: Format,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    pub(crate) command: Vec<String>,
}

/// How the result is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

fn mount(text: &str) -> Result<Mount, String> {
    let (rest, writable) = match text.strip_suffix(":ro") {
        Some(rest) => (rest, false),
        None => (text.strip_suffix(":rw").unwrap_or(text), true),
    };
    let (source, target) = rest.split_once(':').ok_or("a mount is SRC:DST or SRC:DST:ro")?;
    if source.is_empty() || target.contains(':') {
        return Err("a mount is SRC:DST or SRC:DST:ro".to_owned());
    }
    let source = std::path::absolute(source).map_err(|error| error.to_string())?;
    Ok(Mount { source, target: PathBuf::from(target), writable, owned: true })
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a variable is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn destination(text: &str) -> Result<HostPort, String> {
    HostPort::parse(text).map_err(|error| format!("{} (as in api.mainnet-beta.solana.com:443)", error.why))
}

fn publication(text: &str) -> Result<Inbound, String> {
    let (socket, port) = text.rsplit_once(':').ok_or("a publication is SOCKET:PORT, as in ./web.sock:8080")?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or("a port is a number from 1 to 65535")?;
    if socket.is_empty() {
        return Err("a publication is SOCKET:PORT, as in ./web.sock:8080".to_owned());
    }
    let socket = std::path::absolute(socket).map_err(|error| error.to_string())?;
    Ok(Inbound { socket, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_writable_only_without_ro() {
        assert!(!mount("/a:/b:ro").unwrap().writable);
        assert!(mount("/a:/b").unwrap().writable);
        assert!(mount("/a").is_err());
        assert!(mount("/a:/b:rx").is_err());
    }

    #[test]
    fn an_address_of_ip_version_6_stands_in_brackets() {
        assert_eq!(destination("[::1]:80"), Ok(HostPort { host: "::1".to_owned(), port: 80 }));
        assert!(destination("::1:80").is_err());
        assert!(destination("example.com").is_err());
        assert!(destination("169.254.169.254:80").is_ok());
        assert!(destination("0.0.0.0:80").is_err());
    }

    #[test]
    fn a_publication_is_a_socket_and_a_port() {
        let published = publication("/run/a:b.sock:8080").unwrap();
        assert_eq!((published.socket, published.port), (PathBuf::from("/run/a:b.sock"), 8080));
        assert!(publication("web.sock:80").unwrap().socket.is_absolute());
        for text in ["/run/x.sock", "/run/x.sock:", "/run/x.sock:0", ":80", "/run/x.sock:65536"] {
            assert!(publication(text).is_err(), "{text}");
        }
    }
}
