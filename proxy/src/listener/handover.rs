//! A listener that another proxy takes over from without one connection lost.
//!
//! Closing a listener resets what waits in its queue, and while the kernel spreads connections over all who share the
//! port, something always does. So one that stops first finds out at which place among them somebody else answers, has
//! the kernel send all new connections there, accepts what was queued before, and only then closes. Whoever shares the
//! port needs no part in it: it may be older or newer.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use distribution::Incoming;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::steering::{Place, steer_to};

/// A living proxy answers in a millisecond.
const ANSWER_DEADLINE: Duration = Duration::from_secs(1);
/// Without a connection for this long nothing is on its way to us any more: a handshake on loopback takes microseconds.
const SETTLED_AFTER: Duration = Duration::from_millis(200);
/// Where nobody takes over, clients are better off refused at once; this only empties the queue.
const QUEUE_EMPTIED_AFTER: Duration = Duration::from_millis(20);
const QUEUE_EMPTIED_MAX: Duration = Duration::from_millis(100);
/// Where somebody does, should the kernel not heed the filter.
const HANDOVER_MAX: Duration = Duration::from_secs(5);
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(10);

/// What a living proxy answers to, whatever it has.
const PROBE: &[u8] = b"GET /v2/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// The listener.
pub(super) struct Handover {
    listener: TcpListener,
    shared: bool,
    phase: Phase,
}

enum Phase {
    Serving,
    Asking(Place, Probe),
    /// Accepts what is queued, until nothing came for a while.
    Settling {
        pause: Duration,
        by: Instant,
    },
    Over,
}

/// A connection of our own to the port, to see who gets it.
struct Probe {
    from: SocketAddr,
    /// Ends when somebody else answered it, or has it and does not.
    answered: BoxFuture<'static, ()>,
}

impl Handover {
    /// `shared` listeners are handed over.
    pub(super) fn new(listener: TcpListener, shared: bool) -> Self {
        Self {
            listener,
            shared,
            phase: Phase::Serving,
        }
    }

    fn begin(&self) -> Phase {
        if self.shared {
            self.ask(Place(0))
        } else {
            Phase::settling(QUEUE_EMPTIED_AFTER, QUEUE_EMPTIED_MAX)
        }
    }

    /// Asks who is at a place.
    fn ask(&self, place: Place) -> Phase {
        match steer_to(place, &self.listener).and_then(|()| Probe::start(self.listener.local_addr()?)) {
            Ok(probe) => Phase::Asking(place, probe),
            Err(error) => {
                tracing::warn!(%error, "listener closes without a handover");
                Phase::settling(QUEUE_EMPTIED_AFTER, QUEUE_EMPTIED_MAX)
            }
        }
    }

    /// The probe came back to us: somebody else is at the next place, or nobody is anywhere.
    fn met_ourselves(&self, place: Place) -> Phase {
        if place == Place(0) {
            self.ask(Place(1))
        } else {
            Phase::settling(QUEUE_EMPTIED_AFTER, QUEUE_EMPTIED_MAX)
        }
    }
}

impl Phase {
    fn settling(pause: Duration, limit: Duration) -> Self {
        let by = Instant::now() + limit;
        Self::Settling { pause, by }
    }
}

impl Probe {
    fn start(to: SocketAddr) -> io::Result<Self> {
        let socket = if to.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }?;
        socket.bind(SocketAddr::new(to.ip(), 0))?;
        let from = socket.local_addr()?;
        let asking = async move {
            let mut stream = socket.connect(to).await?;
            stream.write_all(PROBE).await?;
            stream.read_u8().await
        };
        let answered = timeout(ANSWER_DEADLINE, asking).map(|outcome| match outcome {
            Ok(Ok(_byte)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "nobody answers on the shared port"),
            Err(_elapsed) => tracing::warn!("who takes over does not answer yet"),
        });
        Ok(Self {
            from,
            answered: answered.boxed(),
        })
    }
}

impl Incoming for Handover {
    async fn accept(&mut self) -> io::Result<TcpStream> {
        self.listener.accept().await.map(|(stream, _client)| stream)
    }

    async fn accept_last(&mut self) -> Option<TcpStream> {
        loop {
            let next = match &mut self.phase {
                Phase::Serving => self.begin(),
                Phase::Asking(place, probe) => {
                    let place = *place;
                    tokio::select! {
                        accepted = self.listener.accept() => match accepted {
                            Ok((_ours, from)) if from == probe.from => self.met_ourselves(place),
                            Ok((stream, _client)) => return Some(stream),
                            Err(error) => {
                                pause_after(&error).await;
                                continue;
                            }
                        },
                        () = &mut probe.answered => {
                            tracing::info!("another proxy takes over");
                            Phase::settling(SETTLED_AFTER, HANDOVER_MAX)
                        }
                    }
                }
                Phase::Settling { pause, by } => {
                    let until = (Instant::now() + *pause).min(*by);
                    match timeout_at(until, self.listener.accept()).await {
                        Ok(Ok((stream, _client))) => return Some(stream),
                        Ok(Err(error)) => {
                            pause_after(&error).await;
                            continue;
                        }
                        Err(_elapsed) => Phase::Over,
                    }
                }
                Phase::Over => return None,
            };
            self.phase = next;
        }
    }
}

/// Out of descriptors, or a connection that was gone before it was accepted: asking again at once would only burn the
/// processor.
async fn pause_after(error: &io::Error) {
    tracing::debug!(%error, "accept failed");
    sleep(ACCEPT_RETRY_DELAY).await;
}
