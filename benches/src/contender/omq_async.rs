//! omq through its async sockets, on a runtime of the current thread.
//!
//! `Socket::new` puts the socket's driver on the caller's own runtime, so that no message changes
//! threads: for one connection in a process with one core often the better choice. PAIR sockets;
//! `omq-async` has the default options, `omq-latency` the latency profile, which is meant for round
//! trips.

use std::time::Duration;

use futures_util::FutureExt;
use omq_tokio::{
    Endpoint as Bound, Message, Options, Socket, SocketType, options::WorkloadProfile,
};
use tokio::runtime::{Builder, Runtime};

use super::{
    Client, Contender, Endpoint, Fallible, Laps,
    messenger::{Kind, body, kind_of},
    omq::url,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// With these options.
#[derive(Debug, Default)]
pub(super) struct OmqAsync {
    options: Options,
}

impl OmqAsync {
    /// For round trips.
    pub(super) fn latency() -> Self {
        Self {
            options: Options::default().workload_profile(WorkloadProfile::Latency),
        }
    }
}

impl Contender for OmqAsync {
    fn serve(&self, endpoint: &Endpoint, ready: &mut dyn FnMut(&Endpoint)) -> Fallible {
        runtime()?.block_on(async {
            let socket = Socket::new(SocketType::Pair, self.options.clone());
            match socket.bind(url(endpoint)).await? {
                Bound::Tcp { port, .. } => ready(&Endpoint::Tcp(port)),
                _ => ready(endpoint),
            }
            loop {
                let message = socket.recv().await?;
                let kind = kind_of(message.get(0).ok_or("a message of no parts")?)?;
                if kind == Kind::Request {
                    socket.send(message).await?;
                }
            }
        })
    }

    fn connect(&self, endpoint: &Endpoint) -> Fallible<Box<dyn Client>> {
        let runtime = runtime()?;
        let socket = runtime.block_on(async {
            let socket = Socket::new(SocketType::Pair, self.options.clone());
            socket.connect(url(endpoint)).await?;
            socket.wait_connected(1, CONNECT_TIMEOUT).await?;
            Fallible::Ok(socket)
        })?;
        Ok(Box::new(Peer { runtime, socket }))
    }
}

fn runtime() -> Fallible<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

struct Peer {
    runtime: Runtime,
    socket: Socket,
}

async fn post(socket: &Socket, kind: Kind, len: usize) -> Fallible {
    Ok(socket.send(Message::from_slice(body(kind, len))).await?)
}

impl Client for Peer {
    fn round_trips(&mut self, count: u64, len: usize, laps: &mut Laps) -> Fallible {
        let socket = &self.socket;
        self.runtime.block_on(async {
            laps.resume();
            for _ in 0..count {
                post(socket, Kind::Request, len).await?;
                socket.recv().await?;
                laps.lap();
            }
            Ok(())
        })
    }

    fn one_way(&mut self, count: u64, len: usize) -> Fallible {
        let socket = &self.socket;
        self.runtime.block_on(async {
            for _ in 0..count {
                post(socket, Kind::Signal, len).await?;
            }
            post(socket, Kind::Request, len).await?;
            socket.recv().await?;
            Ok(())
        })
    }

    fn window(&mut self, count: u64, len: usize, width: u64) -> Fallible {
        let socket = &self.socket;
        self.runtime.block_on(async {
            let mut posted = 0;
            for answered in 0..count {
                while posted < count && posted < answered + width {
                    posted += 1;
                    post(socket, Kind::Request, len).await?;
                }
                match socket.recv().now_or_never() {
                    Some(answer) => answer?,
                    None => socket.recv().await?,
                };
            }
            Ok(())
        })
    }
}
