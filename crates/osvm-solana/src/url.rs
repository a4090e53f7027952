//! The short names of clusters that Solana's tools share.

/// The local node.
pub const LOCAL: &str = "http://127.0.0.1:8899";
/// Solana's main network.
pub const MAINNET: &str = "https://api.mainnet-beta.solana.com";
/// The genesis hash of the main network: what makes a node one of it, whatever its URL.
pub const MAINNET_GENESIS: &str = "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d";

const DEVNET: &str = "https://api.devnet.solana.com";
const TESTNET: &str = "https://api.testnet.solana.com";

/// A URL for `localhost`, `devnet`, `testnet`, `mainnet` and their abbreviations; anything else is taken as a URL.
pub fn expand(text: &str) -> &str {
    match text {
        "l" | "local" | "localhost" | "localnet" => LOCAL,
        "d" | "devnet" => DEVNET,
        "t" | "testnet" => TESTNET,
        "m" | "mainnet" | "mainnet-beta" => MAINNET,
        url => url,
    }
}

/// Whether `url` names a host of this machine.
pub fn is_local(url: &str) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_local() {
        for local in ["http://localhost:8899", "http://127.0.0.1:1", "http://127.9.9.9", "http://[::1]:8899", LOCAL] {
            assert!(is_local(local), "{local}");
        }
        for remote in [MAINNET, "http://10.0.0.1:8899", "http://localhost.example.com", "http://0.0.0.0:1", "nonsense"]
        {
            assert!(!is_local(remote), "{remote}");
        }
    }
}
