//! One proxy after the other on the same port, under clients that never stop connecting.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::program::{check, free_address, start, until};

const CLIENTS_PER_ADDRESS: usize = 3;
/// Between two requests of a client; without it the test would measure ports that wait to be used again.
const PAUSE: Duration = Duration::from_micros(200);
const REQUESTS_PER_PHASE: usize = 300;
const REQUESTS_MIN: usize = 5000;

/// A proxy that answers.
struct Running {
    directory: TempDir,
    child: Child,
}

impl Running {
    fn start(addresses: &[SocketAddr]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listen: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let socket = directory.path().join("proxy.sock");
        let child = start(
            directory.path(),
            &format!("listen = {listen:?}\ncheck_socket = {socket:?}\n"),
        );
        until(|| (check(directory.path()).0 == Some(0)).then_some(()));
        Self { directory, child }
    }

    fn stop(mut self) {
        let started = Instant::now();
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = until(|| self.child.try_wait().unwrap());
        assert!(status.success(), "{status}");
        // One whose filter the kernel does not heed goes on for five.
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
        drop(self.directory);
    }
}

/// Ends the clients also when the test fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[derive(Default)]
struct Clients {
    stop: AtomicBool,
    n_answered: AtomicUsize,
}

impl Clients {
    fn run(&self, address: SocketAddr) -> Result<(), String> {
        while !self.stop.load(Relaxed) {
            request(address).map_err(|error| format!("{address}: {error}"))?;
            self.n_answered.fetch_add(1, Relaxed);
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Until so many more requests were answered, or none are made any more.
    fn wait_for(&self, n_more: usize) {
        let enough = self.n_answered.load(Relaxed) + n_more;
        until(|| (self.n_answered.load(Relaxed) >= enough).then_some(()));
    }
}

fn request(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200") {
        Ok(())
    } else {
        Err(std::io::Error::other(format!("answered {answer:?}")))
    }
}

/// The same port on both loopbacks, or on the one that the machine has.
fn addresses() -> Vec<SocketAddr> {
    let first = free_address();
    let second = SocketAddr::new("::1".parse().unwrap(), first.port());
    let has_second = TcpListener::bind(second).is_ok();
    if !has_second {
        eprintln!("SKIPPED: [::1] is not here or not free");
    }
    [Some(first), has_second.then_some(second)]
        .into_iter()
        .flatten()
        .collect()
}

#[test]
fn no_connection_is_refused_or_reset_while_one_proxy_takes_over_from_another() {
    let addresses = addresses();
    let clients = Clients::default();
    let mut running = Running::start(&addresses);
    std::thread::scope(|scope| {
        let stop = StopAtEnd(&clients.stop);
        let threads: Vec<_> = (0..CLIENTS_PER_ADDRESS)
            .flat_map(|_| &addresses)
            .map(|address| scope.spawn(|| clients.run(*address)))
            .collect();
        for round in 0..8 {
            clients.wait_for(REQUESTS_PER_PHASE);
            let other = Running::start(&addresses);
            clients.wait_for(REQUESTS_PER_PHASE);
            // A roll-out stops the older one, a roll-back the newer.
            let (stopped, stays) = if round % 3 == 2 {
                (other, running)
            } else {
                (running, other)
            };
            stopped.stop();
            running = stays;
        }
        until(|| (clients.n_answered.load(Relaxed) >= REQUESTS_MIN).then_some(()));
        drop(stop);
        for thread in threads {
            assert_eq!(
                thread.join().unwrap(),
                Ok(()),
                "after {} answers",
                clients.n_answered.load(Relaxed)
            );
        }
        running.stop();
    });
}
