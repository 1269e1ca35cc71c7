//! The instances of the service, and the store that they share.

use std::error::Error;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use async_lru_tier::{MemoryStore, RedisStore};
use tokio::net::TcpListener;

use crate::database::Database;
use crate::server::{Process, Server};
use crate::service::{Users, serve};

/// The argument that makes this program an instance; the addresses of the store and of the database follow.
pub(crate) const INSTANCE: &str = "--instance";

/// The store of all instances.
pub(crate) enum Shared {
    Server(Server),
    /// For want of a server; then the instances are tasks of one process.
    Memory(MemoryStore),
}

impl Shared {
    pub(crate) fn start() -> Result<Self, Box<dyn Error>> {
        Ok(Server::start()?.map_or_else(|| Self::Memory(MemoryStore::new()), Self::Server))
    }

    /// Ends the store, as a crash does.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        match self {
            Self::Server(server) => server.kill(),
            Self::Memory(store) => {
                store.faults().take_down();
                Ok(())
            }
        }
    }

    /// Starts it anew, without what it had.
    pub(crate) fn restart(&mut self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Server(server) => server.restart(),
            Self::Memory(store) => {
                store.faults().restart_losing_data();
                store.faults().bring_up();
                Ok(())
            }
        }
    }

    /// Starts an instance.
    pub(crate) async fn instance(&self, database: &str) -> Result<Instance, Box<dyn Error>> {
        match self {
            Self::Server(server) => Instance::spawn(&server.url(), database),
            Self::Memory(store) => {
                let users = Users::new(store.clone(), Database::new(database)?);
                users.linked().await;
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
                let address = listener.local_addr()?;
                tokio::spawn(serve(users, listener));
                Ok(Instance { address, _process: None })
            }
        }
    }
}

/// A running instance; a process ends with this handle.
pub(crate) struct Instance {
    pub(crate) address: SocketAddr,
    _process: Option<Process>,
}

impl Instance {
    fn spawn(store: &str, database: &str) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([INSTANCE, store, database]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process(command.spawn()?);
        let output = process.0.stdout.take().ok_or("an instance has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().parse().map_err(|_| "an instance does not start")?;
        Ok(Self { address, _process: Some(process) })
    }
}

/// Is an instance, until the input ends: then its parent is gone.
pub(crate) async fn be_instance(store: &str, database: &str) -> Result<(), Box<dyn Error>> {
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
    let users = Users::new(RedisStore::open(store)?, Database::new(database)?);
    users.linked().await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    Ok(serve(users, listener).await?)
}
