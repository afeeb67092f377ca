//! A process full of hostile peers. Each has its moment once in 5 s (churners: twice a second); flooders
//! write whenever their socket lets them.

use std::{
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Registry, Token, net::TcpStream};
use socket2::{Domain, SockRef, Socket, Type};
use tofu::{Address, ChannelNumber, Message};
use tofu_trials::{Fallible, app::tell, random::Random};

use crate::{kind::Kind, server::LARGE};

/// Each peer has a moment in so much time, churners ten.
pub(crate) const PERIOD: Duration = Duration::from_secs(5);
const CHURNS: usize = 10;
/// What a flooder writes at once, and how often before others have their turn.
const FLOOD_LEN: usize = 64 * 1024;
const FLOOD_WRITES: usize = 4;
/// Bytes of a slow frame that come at once.
pub(crate) const HEAD_START: usize = 1_000;

struct Peer {
    kind: Kind,
    stream: Option<TcpStream>,
    /// Bytes of the script written so far.
    written: usize,
    /// The end that the peer was at: it was thrown out.
    wants_more: bool,
}

/// What the kinds say.
struct Scripts {
    hello: Vec<u8>,
    announcement: Vec<u8>,
    large: Vec<u8>,
    bomb: Vec<u8>,
    flood: Vec<u8>,
    tls: Vec<u8>,
}

impl Scripts {
    fn new(address: &Address) -> Self {
        let frame = |message: &Message| {
            let mut bytes = message.binary_header().to_bytes().to_vec();
            bytes.extend(message.payload());
            bytes
        };
        let channel = ChannelNumber::new(1);
        let hello = frame(&Message::hello_request(address).with_id(1));
        let mut announcement = frame(&Message::request(channel).with_id(2));
        announcement[12..].fill(0xFF);
        let large = frame(&Message::request(channel).with_id(3).with_header(LARGE, "1"));
        let mut bomb = frame(&Message::request(channel).with_id(4));
        bomb[12..14].copy_from_slice(&65_535_u16.to_be_bytes());
        bomb.extend(b"a:b\r\n".iter().cycle().take(65_535));
        let signal = frame(&Message::signal(channel).with_id(5).with_body([1; 1_008]));
        let mut tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
        tls.extend([0x5A; 500]);
        let flood = signal.repeat(FLOOD_LEN / signal.len());
        Self {
            hello,
            announcement,
            large,
            bomb,
            flood,
            tls,
        }
    }
}

/// Connects and torments. Those whose moments are within `tick_ms` act at the same time.
pub(crate) fn run(address: &str, nth: usize, tick_ms: u64, orders: &[String]) -> Fallible {
    let interval = Duration::from_millis(tick_ms);
    let ticks = usize::try_from(PERIOD.as_millis() / interval.as_millis())?;
    let address: Address = address.parse()?;
    let target = SocketAddr::new("127.0.0.1".parse()?, address.port());
    let scripts = Scripts::new(&address);
    let mut peers = Vec::new();
    for order in orders {
        let (kind, count) = order.split_once('=').ok_or("kind=count")?;
        let kind: Kind = kind.parse()?;
        peers.extend((0..count.parse::<usize>()?).map(|_| Peer {
            kind,
            stream: None,
            written: 0,
            wants_more: false,
        }));
    }
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(4_096);
    let mut random = Random::new(nth as u64 + 1);
    let mut next_tick = Instant::now();
    let mut tick = 0;
    loop {
        let floods = peers.iter().any(|peer| peer.wants_more);
        let wait = next_tick.saturating_duration_since(Instant::now());
        poll.poll(
            &mut events,
            Some(if floods { Duration::ZERO } else { wait }),
        )?;
        for event in &events {
            let peer = &mut peers[event.token().0];
            if event.is_readable() && peer.kind != Kind::Deaf {
                peer.drain();
            }
            if event.is_writable() {
                peer.wants_more = peer.kind == Kind::Flooder;
            }
        }
        for peer in peers.iter_mut().filter(|peer| peer.wants_more) {
            peer.flood(&scripts);
        }
        if Instant::now() >= next_tick {
            next_tick += interval;
            for (at, peer) in peers.iter_mut().enumerate() {
                let ticks = match peer.kind {
                    Kind::Churner => ticks / CHURNS,
                    _ => ticks,
                };
                if at % ticks == tick % ticks {
                    peer.moment(at, nth, target, poll.registry(), &scripts, &mut random);
                }
            }
            tick += 1;
            // All have connected, had a second moment, and what that caused is over.
            if tick == 3 * ticks {
                tell("ready")?;
            }
        }
    }
}

impl Peer {
    /// What it does once in a while.
    fn moment(
        &mut self,
        at: usize,
        nth: usize,
        target: SocketAddr,
        registry: &Registry,
        scripts: &Scripts,
        random: &mut Random,
    ) {
        if self.kind == Kind::Churner {
            self.stream = None;
        }
        if self.stream.is_none() {
            self.written = 0;
            self.wants_more = false;
            // It tries again at its next moment.
            self.stream = connect(at, nth, target, registry).ok();
        }
        match self.kind {
            Kind::SlowHello => {
                let byte = scripts.hello.get(self.written).copied();
                self.write(&[byte.unwrap_or(0)]);
            }
            Kind::Churner => {
                let half = scripts.hello.len() / 2;
                self.write(&scripts.hello[..half]);
            }
            Kind::Garbage => {
                let noise: Vec<u8> = (0..200).map(|_| random.number().to_be_bytes()[3]).collect();
                self.write(&noise);
            }
            Kind::Knocker if self.written == 0 && at.is_multiple_of(2) => {
                self.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n");
            }
            Kind::Knocker if self.written == 0 => self.write(&scripts.tls),
            Kind::SlowFrame | Kind::Announcer if self.written == 0 => {
                let mut bytes = [&scripts.hello[..], &scripts.announcement].concat();
                if self.kind == Kind::SlowFrame {
                    bytes.resize(bytes.len() + HEAD_START, b'x');
                }
                self.write(&bytes);
            }
            Kind::SlowFrame => self.write(b"x"),
            Kind::Knocker | Kind::Announcer | Kind::Flooder if self.written > 0 => {}
            Kind::Deaf | Kind::Bomber if self.written > 0 => {
                let (script, times) = match self.kind {
                    // At first as many as the kernels' buffers hold answers to.
                    Kind::Deaf if self.written <= scripts.hello.len() => (&scripts.large, 45),
                    Kind::Deaf => (&scripts.large, 2),
                    _ => (&scripts.bomb, 1),
                };
                for _ in 0..times {
                    self.write(script);
                }
            }
            _ => {
                self.write(&scripts.hello);
                self.wants_more = self.kind == Kind::Flooder;
            }
        }
    }

    /// What does not fit into the socket spoils the stream: then the peer begins anew.
    fn write(&mut self, bytes: &[u8]) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        match stream.write(bytes) {
            Ok(count) if count == bytes.len() => self.written += count,
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::NotConnected
                ) => {}
            Ok(_) | Err(_) => self.stream = None,
        }
    }

    /// Writes whole frames, and remembers where it was within them.
    fn flood(&mut self, scripts: &Scripts) {
        let hello = scripts.hello.len();
        for _ in 0..FLOOD_WRITES {
            let Some(stream) = self.stream.as_mut().filter(|_| self.written >= hello) else {
                self.wants_more = false;
                return;
            };
            let at = (self.written - hello) % scripts.flood.len();
            match stream.write(&scripts.flood[at..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.wants_more = false;
                    return;
                }
                Err(_) => {
                    self.stream = None;
                    self.wants_more = false;
                    return;
                }
            }
        }
    }

    /// Reads what is there and forgets it; the end of the stream is the peer's end.
    fn drain(&mut self) {
        let mut buffer = [0; 16 * 1024];
        while let Some(stream) = &mut self.stream {
            match stream.read(&mut buffer) {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Ok(0) | Err(_) => self.stream = None,
            }
        }
    }
}

fn connect(
    at: usize,
    nth: usize,
    target: SocketAddr,
    registry: &Registry,
) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // Several addresses, each with ports of its own.
    let last = u8::try_from(2 + 4 * nth + at % 4).unwrap_or(2);
    socket.bind(&SocketAddr::from(([127, 0, 0, last], 0)).into())?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(4_096)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
        Ok(()) | Err(_) => {}
    }
    SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
    let mut stream = TcpStream::from_std(socket.into());
    registry.register(
        &mut stream,
        Token(at),
        Interest::READABLE | Interest::WRITABLE,
    )?;
    Ok(stream)
}
