//! Redis and Valkey as a store.

mod error;
mod link;
mod message;
mod replies;
mod scripts;
mod session;

use std::fmt;
use std::sync::Arc;

use ::redis::aio::MultiplexedConnection;
use ::redis::io::tcp::TcpSettings;
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, IntoConnectionInfo, ProtocolVersion, RedisError,
};

use self::link::{Link, Receiver, RedisEvents};
use self::replies::Replies;
use self::session::{Names, RedisSession};
use crate::store::{BoxFuture, Connected, ErrorKind, Instance, Space, Store, StoreError};

/// A Redis or Valkey server as a store that instances share.
///
/// Needs a single server that can be written, of version 6 or later; no cluster. Each connection is one
/// TCP (or Unix) connection, for calls and messages alike.
///
/// All names in the server begin with the space and the first 16 digits of the server's `run_id`, such as
/// `users:3:0123456789abcdef:`, and all channels too. So a server that comes back with what it saved, or
/// a replica that took its place, is a cold store and never a resurrected value. Entries have a time to live;
/// two short entries for each space and run of the server, its generation and the number of its messages,
/// have none: if the server evicts them, all entries are gone, or all instances connect anew.
///
/// A value of more than 16 MiB is not kept: a server closes a connection rather than to have much more wait
/// for it. For the same reason no more than 8 MiB are asked for at once.
///
/// Times are in milliseconds. A value's time is rounded down, and one without any is not kept; a lease is
/// rounded up, and holds for a millisecond at least.
///
/// # Examples
///
/// ```
/// use async_lru_tier::RedisStore;
///
/// # fn main() -> Result<(), async_lru_tier::StoreError> {
/// let store = RedisStore::open("redis://user:password@127.0.0.1:6379/0")?;
/// # let _ = store;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisStore {
    client: Client,
}

impl RedisStore {
    /// A store at `url`, to which nothing connects yet.
    ///
    /// Such as `redis://user:password@host:6379/0`, `unix:///path/to/socket?db=0`, or with the features
    /// `tls` and `smol-tls` also `rediss://host:6379/0`. With the last, and if the application has chosen no
    /// other, this chooses `ring` as the default provider of cryptography of the crate `rustls`.
    ///
    /// A server with `requirepass` and no users of its own takes `redis://:password@host`. What has a meaning
    /// in an address is to be percent-encoded in names and passwords: `p@ss/1` is `p%40ss%2F1`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Address`] if `url` is none of these.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let invalid = |error: RedisError| {
            // Not the details, which are parts of the address: there may be a password among them.
            let shown =
                if error.detail().is_none() { error.to_string() } else { error.category().into() };
            StoreError::new(ErrorKind::Address, shown)
        };
        let info = url.into_connection_info().map_err(invalid)?;
        #[cfg(any(feature = "tls", feature = "smol-tls"))]
        provide_cryptography(info.addr());
        let settings = info
            .redis_settings()
            .clone()
            // Messages and replies come on one connection, in one order, only in this one.
            .set_protocol(ProtocolVersion::RESP3)
            .set_lib_name(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        let info = info
            .set_redis_settings(settings)
            .set_tcp_settings(TcpSettings::default().set_nodelay(true));
        Ok(Self { client: Client::open(info).map_err(invalid)? })
    }

    async fn connect(&self, space: &Space, instance: Instance) -> Result<Connected, StoreError> {
        let failed = |error: RedisError| error::of_connect(&error);
        let link = Link::new(instance);
        // Before anything can fail: who drops them, on the way out too, ends the link.
        let events = RedisEvents(Arc::clone(&link));
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_push_sender(Receiver(Arc::clone(&link)));
        let client = &self.client;
        let mut connection =
            client.get_multiplexed_async_connection_with_config(&config).await.map_err(failed)?;
        // The connection's task has the only one left, so that its end is that of the receiver.
        drop(config);

        let server = Server::ask(&mut connection).await?;
        let names = server.names(space, client.get_connection_info().redis_settings().db())?;
        // Before anything is read: what is removed from now on is told.
        connection.subscribe(names.channel.as_str()).await.map_err(failed)?;
        let session = RedisSession {
            connection,
            names,
            instance,
            link: Arc::clone(&link),
            replies: Replies::new(),
        };
        if !link.start(session.last_number().await?) {
            return Err(error::lost("a message is missing"));
        }
        Ok(Connected { session: Arc::new(session), events: Box::new(events) })
    }
}

/// Sees to it that there is cryptography for this address: without, to connect would panic.
#[cfg(any(feature = "tls", feature = "smol-tls"))]
fn provide_cryptography(address: &::redis::ConnectionAddr) {
    let encrypted = matches!(address, ::redis::ConnectionAddr::TcpTls { .. });
    if encrypted && rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another may be faster, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

impl Store for RedisStore {
    fn connect<'a>(
        &'a self,
        space: &'a Space,
        instance: Instance,
    ) -> BoxFuture<'a, Result<Connected, StoreError>> {
        Box::pin(self.connect(space, instance))
    }
}

/// Shows nothing of the address, which may have a password in it.
impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").finish_non_exhaustive()
    }
}

/// What a server says of itself.
struct Server(String);

impl Server {
    async fn ask(connection: &mut MultiplexedConnection) -> Result<Self, StoreError> {
        let mut said = String::new();
        // One section at a time: version 6 knows no more.
        for section in ["server", "replication"] {
            let mut info = Cmd::new();
            info.arg("INFO").arg(section);
            let section: String =
                info.query_async(connection).await.map_err(|error| error::of_connect(&error))?;
            said.push_str(&section);
        }
        Ok(Self(said))
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    }

    /// The names of `space` in this run of this server, if it can be written.
    fn names(&self, space: &Space, database: i64) -> Result<Names, StoreError> {
        if self.field("role") != Some("master") {
            return Err(StoreError::new(ErrorKind::ReadOnly, "the server is a replica"));
        }
        if self.field("redis_mode") == Some("cluster") {
            return Err(StoreError::new(ErrorKind::Other, "the server is part of a cluster"));
        }
        let run = self.field("run_id").and_then(|run| run.get(..16));
        let run = run.filter(|run| run.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let run = run.ok_or_else(|| {
            StoreError::new(ErrorKind::Other, "the server does not tell its run_id")
        })?;
        let prefix = format!("{}:{run}", space.as_str());
        Ok(Names {
            generation: format!("{prefix}:gen"),
            number: format!("{prefix}:seq"),
            entries: format!("{prefix}:"),
            // Channels, other than names, are the same in all databases of a server.
            channel: format!("{prefix}:msg:{database}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(said: &str) -> Result<Names, ErrorKind> {
        let space = Space::new("users", 3);
        Server(said.replace('\n', "\r\n")).names(&space, 5).map_err(|error| error.kind())
    }

    #[test]
    fn names_begin_with_the_space_and_the_run_of_the_server() {
        let run = "0123456789abcdef0123456789abcdef01234567";
        let names = names(&format!("redis_mode:standalone\nrun_id:{run}\nrole:master\n"));
        let names = names.unwrap();
        assert_eq!(names.generation, "users:3:0123456789abcdef:gen");
        assert_eq!(names.number, "users:3:0123456789abcdef:seq");
        assert_eq!(names.entries, "users:3:0123456789abcdef:");
        assert_eq!(names.channel, "users:3:0123456789abcdef:msg:5");
    }

    #[test]
    fn a_server_that_cannot_be_used_is_told() {
        let run = "run_id:0123456789abcdef\n";
        for (said, expected) in [
            (format!("{run}role:slave\n"), ErrorKind::ReadOnly),
            (run.to_owned(), ErrorKind::ReadOnly),
            (format!("{run}redis_mode:cluster\nrole:master\n"), ErrorKind::Other),
            ("role:master\n".to_owned(), ErrorKind::Other),
            ("role:master\nrun_id:0123\n".to_owned(), ErrorKind::Other),
            ("role:master\nrun_id:0123456789abcdeg\n".to_owned(), ErrorKind::Other),
        ] {
            assert_eq!(names(&said).err(), Some(expected), "{said}");
        }
    }

    #[test]
    fn what_is_no_address_is_told_without_showing_it() {
        for url in [
            "",
            "nonsense",
            "http://user:secret@host",
            "redis://user:secret@host/x",
            "redis://user:secret@host:port",
            "redis://host?protocol=secret",
            "redis://user:secret/@host",
        ] {
            let error = RedisStore::open(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Address);
            assert!(error.to_string().contains("address"), "{error}");
            let shown = format!("{error} {error:?} {:?}", std::error::Error::source(&error));
            assert!(!shown.contains("secret"), "{shown}");
        }
        #[cfg(not(any(feature = "tls", feature = "smol-tls")))]
        {
            let error = RedisStore::open("rediss://user:secret@host").unwrap_err();
            let shown = format!("{error:?}");
            assert!(shown.contains("TLS") && !shown.contains("secret"), "{shown}");
        }
        for url in ["redis://user:secret@host:6379/1", "unix:///run/redis.sock?db=1"] {
            let store = RedisStore::open(url).unwrap();
            assert!(!format!("{store:?}").contains("secret"));
        }
    }
}
