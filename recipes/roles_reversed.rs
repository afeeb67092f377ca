//! Roles reversed: workers connect to a server, and it is the server that asks. After the hello both are equal.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    thread,
    time::Duration,
};

use tofu::{Address, ChannelGroup, Engine, Event, Message, OpCode, Options};

const PATIENCE: Duration = Duration::from_secs(5);

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Gives jobs to whoever said hello, one at a time, until all are done; it begins when the team is complete. The job
/// of a worker that goes away goes to another one.
fn direct(
    server: &mut ChannelGroup,
    team: usize,
    mut jobs: Vec<u64>,
) -> Outcome<BTreeMap<u64, u64>> {
    let wanted = jobs.len();
    let (mut idle, mut busy, mut squares) = (Vec::new(), HashMap::new(), BTreeMap::new());
    let mut has_begun = false;
    while squares.len() < wanted {
        match server.recv_timeout(PATIENCE)?.ok_or("nothing came")? {
            Event::Message(message) => {
                let worker = message.channel();
                if message.op_code() == OpCode::HelloRequest {
                    idle.push(worker);
                }
                if let Some(job) = busy.remove(&worker) {
                    match String::from_utf8_lossy(message.body()).parse() {
                        Ok(square) => {
                            squares.insert(job, square);
                            idle.push(worker);
                        }
                        Err(_) => jobs.push(job), // who answers that gets nothing more to do
                    }
                }
                if let Ok(answer) = message.reply()
                    && let Err(error) = server.post(answer)
                {
                    println!("{error}");
                }
            }
            Event::Closed {
                channel: worker,
                reason,
                ..
            } => {
                println!("worker {worker} has left: {reason}");
                idle.retain(|it| *it != worker);
                jobs.extend(busy.remove(&worker));
            }
            _ => {}
        }
        has_begun |= idle.len() == team;
        while has_begun
            && !idle.is_empty()
            && let Some(job) = jobs.pop()
            && let Some(worker) = idle.pop()
        {
            match server.post(Message::request(worker).with_body(job.to_string())) {
                Ok(_) => drop(busy.insert(worker, job)),
                Err(_) => jobs.push(job), // it has gone, and its Closed event is on its way
            }
        }
    }
    Ok(squares)
}

/// Connects, does what it is asked until the server says bye, and returns how many jobs that was. One that is lazy
/// leaves at its first job.
fn work(address: &Address, is_lazy: bool) -> Outcome<usize> {
    let mut group = Engine::new(Options::default())?.group()?;
    group.call(Message::hello_request(address), PATIENCE)?;
    let mut done = 0;
    loop {
        match group.recv_timeout(PATIENCE)?.ok_or("nothing came")? {
            Event::Message(message) if message.op_code() == OpCode::Request => {
                if is_lazy {
                    return Ok(done);
                }
                let job: u64 = String::from_utf8_lossy(message.body()).parse()?;
                let square = job.checked_mul(job).ok_or("too large a number")?;
                group.post(message.reply()?.with_body(square.to_string()))?;
                done += 1;
            }
            Event::Message(message) => drop(group.post(message.reply()?)?), // to the bye
            Event::Closed { reason, .. } if reason.is_graceful() => return Ok(done),
            Event::Closed { reason, .. } => return Err(reason.into()),
            other => println!("{other:?}"),
        }
    }
}

/// The squares of the jobs, by three workers, of whom one is lazy.
fn run(address: &Address, jobs: Vec<u64>) -> Outcome<BTreeMap<u64, u64>> {
    let mut server = Engine::new(Options::default())?.group()?;
    let welcome = server.call(Message::welcome_request(address), PATIENCE)?;
    let address = welcome.address().ok_or("no address")?;
    thread::scope(|scope| {
        let address = &address;
        let workers = [false, true, false].map(|lazy| scope.spawn(move || work(address, lazy)));
        let squares = direct(&mut server, workers.len(), jobs);
        server.close(PATIENCE); // says bye to all workers
        for worker in workers {
            let done = worker.join().map_err(|_| "a worker panicked")??;
            println!("a worker did {done} jobs");
        }
        squares
    })
}

fn main() -> Outcome<()> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    println!("{:?}", run(&address, (1..=10).collect())?);
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_jobs_are_done_though_a_worker_leaves() {
        tofu::testing::over_both(|address| {
            let jobs = (1..=200).collect();
            let squares = super::run(address, jobs).expect("all are done");
            assert!(squares.iter().all(|(job, square)| job * job == *square));
            assert_eq!(squares.len(), 200);
        });
    }
}
