//! The built binary as tests run it: a server on a port of its own with a data directory of its
//! own, and a small HTTP client to talk to it.

use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::{NamedTempFile, TempDir};

/// Longer than anything that a test waits for takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The binary under test.
pub fn lookback() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lookback"));
    command.env_clear().env("LOOKBACK_LOG_FILTER", "warn").stdin(Stdio::null());
    command
}

/// Runs a command to its end, which has to come.
pub fn outcome(command: &mut Command) -> Output {
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while process.try_wait().unwrap().is_none() {
        if begun.elapsed() > PATIENCE {
            process.kill().unwrap();
            panic!("{command:?} does not end: {:?}", process.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    process.wait_with_output().unwrap()
}

/// A running `lookback serve`; killed when it is dropped.
pub struct Server {
    pub address: SocketAddr,
    process: Child,
    data_dir: TempDir,
    _config: NamedTempFile,
    environment: Vec<(String, String)>,
}

/// Tests ask more often than cameras and people do.
pub const NO_RATES: &str = "[rates]\nenabled = false\n";

impl Server {
    pub fn start() -> Self {
        Self::start_with(&[], TempDir::new().unwrap())
    }

    /// Starts with further flags on a data directory that may hold something already.
    pub fn start_with(flags: &[&str], data_dir: TempDir) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), flags, data_dir)
    }

    /// The same at an address that is known beforehand; port 0 is any.
    pub fn start_at(listen: SocketAddr, flags: &[&str], data_dir: TempDir) -> Self {
        Self::try_start_at(listen, flags, data_dir)
            .unwrap_or_else(|status| panic!("the server did not start: {status}"))
    }

    /// The same where it may refuse to start; answers how it ended then.
    pub fn try_start_at(
        listen: SocketAddr,
        flags: &[&str],
        data_dir: TempDir,
    ) -> Result<Self, ExitStatus> {
        Self::try_start_in(&[], listen, flags, data_dir)
    }

    /// The same in an environment that commands beside it share, and that names a configuration.
    pub fn start_in(environment: &[(String, String)], data_dir: TempDir) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::try_start_in(environment, any, &[], data_dir)
            .unwrap_or_else(|status| panic!("the server did not start: {status}"))
    }

    fn try_start_in(
        environment: &[(String, String)],
        listen: SocketAddr,
        flags: &[&str],
        data_dir: TempDir,
    ) -> Result<Self, ExitStatus> {
        let environment = environment.to_vec();
        let config = NamedTempFile::new().unwrap();
        std::fs::write(config.path(), NO_RATES).unwrap();
        let mut command = lookback();
        command.envs(environment.clone());
        command.args(["serve", "--listen", &listen.to_string(), "--data-dir"]).arg(data_dir.path());
        if environment.is_empty() && !flags.contains(&"--config") {
            command.arg("--config").arg(config.path());
        }
        let mut process = command.args(flags).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let stdout = process.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        if line.is_empty() {
            return Err(process.wait().unwrap());
        }
        let address = line
            .trim_end()
            .strip_prefix("listening on ")
            .and_then(|url| url.split_once("://"))
            .unwrap_or_else(|| panic!("the server says {line:?}"))
            .1
            .parse()
            .unwrap();
        Ok(Self { address, process, data_dir, _config: config, environment })
    }

    pub fn data_dir(&self) -> &Path {
        self.data_dir.path()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What `lookback token` prints for this server.
    pub fn token(&self, flags: &[&str]) -> String {
        let output = self.beside(&["token"], flags);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Runs a command on this server's data directory.
    pub fn beside(&self, command: &[&str], flags: &[&str]) -> Output {
        let mut command_line = lookback();
        command_line.envs(self.environment.clone()).args(command);
        outcome(command_line.arg("--data-dir").arg(self.data_dir()).args(flags))
    }

    /// Adds a user; answers the identifier.
    pub fn add_user(&self, name: &str, password: &str, flags: &[&str]) -> String {
        let output = self.try_add_user(name, password, flags);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub fn try_add_user(&self, name: &str, password: &str, flags: &[&str]) -> Output {
        let mut adding = lookback()
            .envs(self.environment.clone())
            .args(["user", "add", name, "--data-dir"])
            .arg(self.data_dir())
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may have refused its arguments before it asks.
        let _ = writeln!(adding.stdin.take().unwrap(), "{password}");
        adding.wait_with_output().unwrap()
    }

    pub fn get(&self, path: &str, headers: Headers) -> Answer {
        self.request("GET", path, headers, b"")
    }

    pub fn post_json(&self, path: &str, headers: Headers, body: &Value) -> Answer {
        let headers = [&[("content-type", "application/json")], headers].concat();
        self.request("POST", path, &headers, body.to_string().as_bytes())
    }

    /// One request on a connection of its own.
    pub fn request(&self, method: &str, path: &str, headers: Headers, body: &[u8]) -> Answer {
        request(self.address, method, path, headers, body)
    }

    /// Sends a signal by its name, as in `kill -TERM`.
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(status.unwrap().success());
    }

    /// Waits until the process has ended; its data directory stays.
    pub fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "the server does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills the process without warning; answers its data directory for the next one.
    pub fn kill(mut self) -> TempDir {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::mem::replace(&mut self.data_dir, TempDir::new().unwrap())
    }

    /// Kills the process without warning and starts another on the same address and directory, on
    /// which `between` may look in between.
    pub fn kill_and_restart(&mut self, between: impl FnOnce(&Path)) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let data_dir = std::mem::replace(&mut self.data_dir, TempDir::new().unwrap());
        between(data_dir.path());
        *self = Self::start_at(self.address, &[], data_dir);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Names and values.
pub type Headers<'a> = &'a [(&'a str, &'a str)];

/// One request to whatever listens at `address`, on a connection of its own.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: Headers,
    body: &[u8],
) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head += &format!("host: {address}\r\n");
    }
    if method != "GET" && method != "HEAD" {
        head += &format!("content-length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    // A server that has refused the request need not read all of it.
    let _ = stream.write_all(body);
    Answer::read(&mut BufReader::new(stream), method == "HEAD")
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads an answer to its end: by its length, its chunks, or the end of the connection.
    pub fn read(stream: &mut impl BufRead, head_only: bool) -> Self {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or_else(|| panic!("no status in {line:?}"));
        let mut headers = Vec::new();
        loop {
            line.clear();
            stream.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Self { status, headers, body: Vec::new() };
        if head_only || matches!(status, 204 | 304) {
            return answer;
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                line.clear();
                stream.read_line(&mut line).unwrap();
                let len = usize::from_str_radix(line.trim_end(), 16).unwrap();
                let mut chunk = vec![0; len + 2];
                stream.read_exact(&mut chunk).unwrap();
                if len == 0 {
                    break;
                }
                answer.body.extend_from_slice(&chunk[..len]);
            }
        } else if let Some(len) = answer.header("content-length").map(|len| len.parse().unwrap()) {
            answer.body = vec![0; len];
            stream.read_exact(&mut answer.body).unwrap();
        } else {
            stream.read_to_end(&mut answer.body).unwrap();
        }
        answer
    }

    /// The first header of that name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {self:?}"))
    }
}
