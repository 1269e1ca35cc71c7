//! A Redis or Valkey server of a test's own.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Connection, RedisResult, Value};

/// The first server program on the path.
pub fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    ["redis-server", "valkey-server"].iter().find_map(|name| {
        std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
    })
}

/// A server on a free port of the loopback interface, which saves nothing unless it is told to, and ends
/// with this handle.
pub struct Server {
    child: Child,
    port: u16,
    folder: PathBuf,
    options: Vec<String>,
}

impl Server {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// A server with options such as `["--requirepass", "secret"]`.
    pub fn with(options: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);

        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        // Somebody else may take the free port meanwhile: then the next one.
        for _ in 0..10 {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("async-lru-tier-{}-{number}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&folder).unwrap();
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let child = spawn(port, &folder, &options);
            let mut server = Self { child, port, folder, options: options.clone() };
            if server.answers() {
                return server;
            }
        }
        panic!("the server does not start");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A Unix socket on which it listens too.
    pub fn socket(&self) -> PathBuf {
        socket(&self.folder)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it anew on the same port, after `kill`. It loads what it was told to save.
    pub fn restart(&mut self) {
        self.child = spawn(self.port, &self.folder, &self.options);
        assert!(self.answers(), "the server does not start anew");
    }

    /// Waits until it answers; false if it ends instead. Asks through its socket: on its port may be somebody
    /// else's server, for which this one will end.
    fn answers(&mut self) -> bool {
        let start = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if answer(&self.socket()).is_ok_and(|answer| !answer.starts_with(b"-LOADING")) {
                return true;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "the server does not answer");
            thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// Has it do nothing until `cont`, while its connections stay open.
    pub fn stop(&self) {
        self.signal("-STOP");
    }

    pub fn cont(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// A connection for an administrator, to a server without password.
    pub fn admin(&self) -> Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    /// Has it do a command, such as `"CLIENT KILL TYPE pubsub"`.
    pub fn command(&self, command: &str) -> Value {
        self.try_command(command).unwrap()
    }

    pub fn try_command(&self, command: &str) -> RedisResult<Value> {
        let mut words = command.split(' ');
        let mut asked = redis::cmd(words.next().unwrap());
        for word in words {
            asked.arg(word);
        }
        asked.query(&mut self.admin())
    }

    /// The only name in the server that `pattern` fits.
    pub fn name(&self, pattern: &str) -> String {
        let names: Vec<String> = redis::cmd("KEYS").arg(pattern).query(&mut self.admin()).unwrap();
        assert_eq!(names.len(), 1, "{names:?}");
        names.into_iter().next().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Also one that has ended or is stopped.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn spawn(port: u16, folder: &Path, options: &[String]) -> Child {
    Command::new(program().expect("no server program"))
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--port", &port.to_string(), "--dir", folder.to_str().unwrap()])
        .args(["--unixsocket", socket(folder).to_str().unwrap()])
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("socket")
}

/// The first bytes of what a server says.
fn answer(socket: &Path) -> std::io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = vec![0; 16];
    let length = stream.read(&mut answer)?;
    answer.truncate(length);
    if answer.is_empty() { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(answer) }
}
