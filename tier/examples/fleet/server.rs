//! A Redis or Valkey server of the program's own.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server on the loopback interface, which saves nothing and ends with this handle.
pub(crate) struct Server {
    program: PathBuf,
    port: u16,
    process: Process,
}

/// A child, which ends with this handle.
pub(crate) struct Process(pub(crate) Child);

impl Server {
    /// Starts `redis-server` or `valkey-server`, if there is one on the path.
    pub(crate) fn start() -> Result<Option<Self>, Box<dyn Error>> {
        let Some(program) = program() else { return Ok(None) };
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let process = start(&program, port)?;
        Ok(Some(Self { program, port, process }))
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Ends it at once, as a crash does.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.process.end()
    }

    /// Starts it anew at the same address, without what it had.
    pub(crate) fn restart(&mut self) -> Result<(), Box<dyn Error>> {
        self.process = start(&self.program, self.port)?;
        Ok(())
    }
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    ["redis-server", "valkey-server"].iter().find_map(|name| {
        std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
    })
}

/// Starts a server, and waits until it answers.
fn start(program: &Path, port: u16) -> Result<Process, Box<dyn Error>> {
    let mut command = Command::new(program);
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.args(["--port", &port.to_string(), "--dir"]).arg(std::env::temp_dir());
    let mut process = Process(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);
    let deadline = Instant::now() + Duration::from_secs(10);
    while process.0.try_wait()?.is_none() && Instant::now() < deadline {
        if ping(port).is_ok() {
            return Ok(process);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err(format!("{} does not start", program.display()).into())
}

fn ping(port: u16) -> io::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"PING\r\n")?;
    stream.read_exact(&mut [0; b"+PONG\r\n".len()])
}

impl Process {
    fn end(&mut self) -> io::Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.end();
    }
}
