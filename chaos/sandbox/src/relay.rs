//! A wire with faults, laid between a cache and its source registry: slow, silent, cut or corrupt, and it counts.
//!
//! It works on bytes, so the registry behind it is a real one, and it can misbehave in the middle of any answer.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::Instant;

/// Small enough for an even flow at the rates tests use.
const CHUNK_BYTES: usize = 16 * 1024;

/// How soon a closed relay notices.
const POLL: Duration = Duration::from_millis(100);

/// What the wire does to answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// Connections open, and then nothing moves in either direction.
    Silence,
    /// Connections are closed at once.
    Reset,
    /// Each connection is closed after this many bytes of answers.
    CutAfter(u64),
    /// Each connection goes silent after this many bytes of answers.
    SilenceAfter(u64),
    /// In each connection, the byte of answers at this offset has one bit flipped.
    FlipBitAt(u64),
}

/// A relay to one address. Dropping it closes every connection.
#[derive(Debug)]
pub struct Relay {
    authority: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: String,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    fault: Fault,
    bytes_per_second: Option<u64>,
    /// When the wire, shared by all connections, is free for the next chunk.
    free_at: Instant,
    started: Instant,
    /// When each arrived, since the start, and its first line.
    requests: Vec<(Duration, String)>,
    answer_bytes: u64,
    closed: bool,
}

impl Relay {
    /// Starts a relay to `target` (`127.0.0.1:5000`).
    ///
    /// # Errors
    /// If there is no port to listen on.
    pub fn start(target: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("bind a relay")?;
        let authority = listener.local_addr().context("read the relay's address")?;
        let state = State {
            fault: Fault::None,
            bytes_per_second: None,
            free_at: Instant::now(),
            started: Instant::now(),
            requests: Vec::new(),
            answer_bytes: 0,
            closed: false,
        };
        let shared = Arc::new(Shared {
            target: target.to_owned(),
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Ok(Self { authority, shared })
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.authority)
    }

    /// Misbehaves from now on, open connections included.
    pub fn set_fault(&self, fault: Fault) {
        self.shared.lock().fault = fault;
        self.shared.changed.notify_all();
    }

    /// Limits all answers together; `None` lifts the limit.
    pub fn set_rate(&self, bytes_per_second: Option<u64>) {
        self.shared.lock().bytes_per_second = bytes_per_second;
    }

    /// The request lines seen so far that contain `part`.
    pub fn requests(&self, part: &str) -> Vec<String> {
        self.timed_requests(part).into_iter().map(|(_, line)| line).collect()
    }

    /// The same, each with its time since the relay started.
    pub fn timed_requests(&self, part: &str) -> Vec<(Duration, String)> {
        let state = self.shared.lock();
        let wanted = state.requests.iter().filter(|(_, line)| line.contains(part));
        wanted.cloned().collect()
    }

    /// Bytes of answers passed on so far, headers included.
    pub fn answer_bytes(&self) -> u64 {
        self.shared.lock().answer_bytes
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        // Wakes the accepting thread; if it is gone already, all the better.
        let _ = TcpStream::connect(self.authority);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no thread panics while it holds the relay's state")
    }

    /// Waits as long as the fault is silence; false once the connection must end.
    fn may_pass(&self, passed: u64) -> bool {
        let mut state = self.lock();
        loop {
            match state.fault {
                _ if state.closed => return false,
                Fault::Reset => return false,
                Fault::CutAfter(limit) if passed >= limit => return false,
                Fault::Silence => {}
                Fault::SilenceAfter(limit) if passed >= limit => {}
                _ => return true,
            }
            state = self
                .changed
                .wait(state)
                .expect("no thread panics while it holds the relay's state");
        }
    }

    /// Counts bytes of an answer, and says how long they take on the wire.
    fn account(&self, bytes: u64) -> Duration {
        let mut state = self.lock();
        state.answer_bytes += bytes;
        let Some(rate) = state.bytes_per_second else {
            return Duration::ZERO;
        };
        let now = Instant::now();
        state.free_at = state.free_at.max(now) + Duration::from_nanos(bytes * 1_000_000_000 / rate.max(1));
        state.free_at - now
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((client, _)) = listener.accept() {
        if shared.lock().closed {
            return;
        }
        let shared = Arc::clone(shared);
        // A connection that fails is what tests of faults want to see; there is nobody to tell.
        thread::spawn(move || relay(&client, &shared).ok());
    }
}

fn relay(client: &TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    if !shared.may_pass(0) {
        return client.shutdown(Shutdown::Both);
    }
    let server = TcpStream::connect(&shared.target)?;
    for stream in [client, &server] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(POLL))?;
    }
    let (requests, sink) = (client.try_clone()?, server.try_clone()?);
    let requesting = Arc::clone(shared);
    let upward = thread::spawn(move || pass_requests(&requests, &sink, &requesting).ok());
    let result = pass_answers(&server, client, shared);
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
    let _ = upward.join();
    result
}

fn pass_requests(mut from: &TcpStream, mut to: &TcpStream, shared: &Shared) -> io::Result<()> {
    let mut head = Vec::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let n = match read_some(&mut from, &mut buffer, shared)? {
            0 => return to.shutdown(Shutdown::Write),
            n => n,
        };
        head.extend_from_slice(&buffer[..n]);
        // A cache only reads, so every request ends with its headers.
        while let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            let line = String::from_utf8_lossy(&head)
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned();
            let mut state = shared.lock();
            let at = state.started.elapsed();
            state.requests.push((at, line));
            head.drain(..end + 4);
        }
        if !shared.may_pass(0) {
            return Ok(());
        }
        to.write_all(&buffer[..n])?;
    }
}

fn pass_answers(mut from: &TcpStream, mut to: &TcpStream, shared: &Shared) -> io::Result<()> {
    let mut passed: u64 = 0;
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let n = match read_some(&mut from, &mut buffer, shared)? {
            0 => return Ok(()),
            n => n,
        };
        if !shared.may_pass(passed) {
            return Ok(());
        }
        if let Fault::FlipBitAt(offset) = shared.lock().fault
            && let Some(byte) = offset
                .checked_sub(passed)
                .and_then(|at| buffer[..n].get_mut(usize::try_from(at).ok()?))
        {
            *byte ^= 1;
        }
        thread::sleep(shared.account(n as u64));
        to.write_all(&buffer[..n])?;
        passed += n as u64;
    }
}

/// Reads, and ends when the relay is closed.
fn read_some(from: &mut &TcpStream, buffer: &mut [u8], shared: &Shared) -> io::Result<usize> {
    loop {
        match from.read(buffer) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                if shared.lock().closed {
                    return Ok(0);
                }
            }
            result => return result,
        }
    }
}
