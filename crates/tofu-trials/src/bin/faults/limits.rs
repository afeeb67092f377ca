//! A server with few descriptors, and more connections than those.

use std::{
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use tofu::{Address, Engine, Event, Header, OpCode, Options};
use tofu_trials::{
    Fallible,
    app::{eventually, listen, tell},
    child::Companion,
    procfs::usage,
};

const DESCRIPTORS: &str = "64";
const CONNECTIONS: usize = 200;
/// Linux tells processor time in hundredths of a second.
const TICK_MS: u64 = 10;
const WATCHED: Duration = Duration::from_secs(3);

/// Counts hellos, and tells its counters once in a while.
pub(crate) fn server() -> Fallible {
    let engine = Engine::new(Options::default())?;
    let mut group = engine.group()?;
    let address = listen(&mut group, &Address::tcp("127.0.0.1", 0)?)?;
    tell(format_args!("listening {address}"))?;
    let counting = engine.clone();
    thread::spawn(move || {
        for _ in std::io::stdin().lines() {
            let metrics = counting.metrics();
            let told = format!("{} {}", metrics.out_of_descriptors, metrics.accepted);
            if tell(told).is_err() {
                return;
            }
        }
    });
    loop {
        if let Event::Message(message) = group.recv()?
            && message.op_code() == OpCode::HelloRequest
        {
            // It may be gone.
            let _ = group.post(message.into_reply()?);
        }
    }
}

pub(crate) fn out_of_descriptors() -> Fallible<String> {
    use std::io::{Read, Write};
    let script = format!("ulimit -n {DESCRIPTORS} && exec \"$0\" \"$@\"");
    let mut server = Companion::start(&["sh", "-c", &script], &["--part", "descriptors"])?;
    let address: Address = server.hear_word("listening")?.parse()?;
    let counters = |server: &mut Companion| -> Fallible<(u64, u64)> {
        server.tell("how many?")?;
        let line = server.hear()?;
        let (pauses, accepted) = line.split_once(' ').ok_or("two counters")?;
        Ok((pauses.parse()?, accepted.parse()?))
    };
    let hello = tofu::Message::hello_request(&address).with_id(1);
    let hello = [&hello.binary_header().to_bytes()[..], hello.payload()].concat();
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(("127.0.0.1", address.port()))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(&hello)?;
        clients.push(stream);
    }
    eventually("the listener pauses", || Ok(counters(&mut server)?.0 > 0))?;
    let (pauses_before, accepted_before) = counters(&mut server)?;
    let (cpu_before, started) = (usage(server.id())?.cpu_ticks, Instant::now());
    thread::sleep(WATCHED);
    let (pauses, accepted) = counters(&mut server)?;
    let cpu_ms = (usage(server.id())?.cpu_ticks - cpu_before) * TICK_MS;
    let seconds = started.elapsed().as_secs_f64();
    let retries = pauses - pauses_before;
    let is_full = accepted == accepted_before && accepted < CONNECTIONS as u64;
    if !is_full || retries == 0 || retries > 100 || cpu_ms > 300 {
        return Err(format!(
            "{accepted_before}, then {accepted} accepted, {retries} retries and {cpu_ms} ms of processor in {seconds:.1} s"
        )
        .into());
    }
    // Room again, a few at a time: everyone is served in the end.
    let mut greeted = 0;
    for mut client in clients {
        let mut head = [0; Header::LEN];
        client.read_exact(&mut head)?;
        match Header::from_bytes(&head)?.op_code {
            OpCode::HelloResponse => greeted += 1,
            other => return Err(format!("not due: {other:?}").into()),
        }
    }
    Ok(format!(
        "{CONNECTIONS} connections to a server with {DESCRIPTORS} descriptors: {accepted} accepted, then \
         {retries} retries and {cpu_ms} ms of processor time in {seconds:.1} s; as others went, all {greeted} were \
         greeted"
    ))
}
