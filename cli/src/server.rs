//! Which broker a command talks to.

use std::time::Duration;

use clap::Args;
use client::{ClientError, ConnectOptions, Connection};

/// The broker's address.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// The broker to talk to
    #[arg(
        long,
        env = "PELTON_SERVER",
        default_value = "127.0.0.1:9600",
        value_name = "HOST:PORT",
        value_parser = address
    )]
    pub server: String,
}

impl ServerArgs {
    /// Connects and says hello.
    pub fn connect(&self) -> Result<Connection, ClientError> {
        Connection::connect(&self.server, &options())
    }
}

/// How long a lost connection is tried again.
#[derive(Debug, Args)]
pub struct ReconnectArgs {
    /// How long a lost connection is tried to be made again; 0s does not try
    #[arg(
        long,
        default_value = "10s",
        value_name = "DUR",
        value_parser = humantime::parse_duration
    )]
    reconnect_for: Duration,
}

impl ReconnectArgs {
    /// How the command connects.
    pub fn options(&self) -> ConnectOptions {
        ConnectOptions { reconnect_for: self.reconnect_for, ..options() }
    }
}

/// How the commands connect.
pub fn options() -> ConnectOptions {
    ConnectOptions { client_name: String::from("pelton-cli"), ..ConnectOptions::default() }
}

/// `HOST:PORT`, with or without the scheme that load runs use.
fn address(text: &str) -> Result<String, String> {
    let text = text.strip_prefix("pelton://").unwrap_or(text);
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(text.to_owned())
        }
        _ => Err(String::from("expected HOST:PORT, as in 127.0.0.1:9600")),
    }
}
