//! The print shop: a server with jobs, and workers that turn pages into dots (RIPs), each in its own process.
//!
//! ```text
//! print_shop                              # all of it: the server, and its workers as child processes
//! print_shop server tcp://127.0.0.1:7099
//! print_shop worker tcp://127.0.0.1:7099 PS
//! ```
//!
//! The dialogue, with the job's id as the id of all messages but the hello:
//!
//! ```text
//! worker                                      server
//! HelloRequest   takes: PS                ->
//!                                         <-  HelloResponse
//!                                         <-  Request, more   kind: PS, pages: 2
//!                                         <-  Request, more   page 1
//!                                         <-  Request         page 2
//! Signal         progress: 1:2            ->
//! Signal         progress: 2:2            ->
//! ByeRequest     result: printed          ->
//!                                         <-  ByeResponse
//! ```

use std::{
    collections::{HashMap, VecDeque},
    env,
    error::Error,
    process::{self, Command},
    thread,
    time::Duration,
};

use tofu::{Address, ChannelGroup, ChannelNumber, Engine, Event, Message, OpCode, Options};

/// How long the server waits for a worker to do something, and a worker for its job.
const PATIENCE: Duration = Duration::from_secs(30);

const KINDS: [&str; 2] = ["PS", "PDF"];

// The text headers of the dialogue.
const TAKES: &str = "takes";
const REFUSED: &str = "refused";
const KIND: &str = "kind";
const PAGES: &str = "pages";
const PROGRESS: &str = "progress";
const RESULT: &str = "result";

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    play(&arguments)
}

fn play(arguments: &[&str]) -> Outcome<()> {
    match *arguments {
        [] => whole_shop(&Address::tcp("127.0.0.1", 0)?),
        ["server", address] => {
            let (group, _) = listen(&address.parse()?)?;
            serve(group)
        }
        ["worker", address, takes] => work(&address.parse()?, takes, None),
        ["worker", address, takes, dies_at] => {
            work(&address.parse()?, takes, Some(dies_at.parse()?))
        }
        [address] => whole_shop(&address.parse()?),
        _ => Err("server ADDRESS, or worker ADDRESS KIND [DIES_AT_PAGE]".into()),
    }
}

/// The server, and one worker after the other: the first one dies over its second page.
fn whole_shop(address: &Address) -> Outcome<()> {
    let (group, address) = listen(address)?;
    let program = env::current_exe()?;
    let workers = thread::spawn(move || {
        for worker in [&["PS", "2"][..], &["TIFF"], &["PS"], &["PDF"]] {
            let mut command = Command::new(&program);
            command.args(["worker", &address.to_string()]).args(worker);
            if let Err(error) = command.status() {
                eprintln!("shop: no worker {worker:?}: {error}");
            }
        }
    });
    let served = serve(group);
    workers.join().map_err(|_| "the workers' thread panicked")?;
    served
}

// ---- The server -----------------------------------------------------------------------------------------

struct Job {
    id: u64,
    kind: &'static str,
    pages: &'static [&'static str],
}

fn jobs() -> VecDeque<Job> {
    let job = |id, kind, pages| Job { id, kind, pages };
    VecDeque::from([
        job(101, "PS", &["soy", "bean", "curd"]),
        job(102, "PDF", &["to pay", "in time"]),
    ])
}

fn listen(address: &Address) -> Outcome<(ChannelGroup, Address)> {
    let mut group = Engine::new(Options::default())?.group()?;
    let welcome = group.call(Message::welcome_request(address), PATIENCE)?;
    let address = welcome.address().ok_or("no address")?;
    println!("server: listening on {address}");
    Ok((group, address))
}

/// Serves until all jobs are done.
fn serve(mut group: ChannelGroup) -> Outcome<()> {
    let mut shop = Shop {
        jobs: jobs(),
        waiting: Vec::new(),
        at_work: HashMap::new(),
    };
    while !(shop.jobs.is_empty() && shop.at_work.is_empty()) {
        let event = group.recv_timeout(PATIENCE)?;
        match event.ok_or("no worker does anything any more")? {
            Event::Message(message) => shop.hear(&group, &message),
            Event::Closed { channel, .. } => shop.forget(channel),
            // Pages that could not be sent come back: their job does, when the channel closes.
            _ => {}
        }
        shop.hand_out(&group);
    }
    let report = group.close(PATIENCE); // says bye to those who wait
    if !report.is_clean() {
        println!("server: {report:?}");
    }
    println!("server: done");
    Ok(())
}

struct Shop {
    jobs: VecDeque<Job>,
    /// Workers without a job, and what they take.
    waiting: Vec<(ChannelNumber, String)>,
    at_work: HashMap<ChannelNumber, Job>,
}

impl Shop {
    fn hear(&mut self, group: &ChannelGroup, message: &Message) {
        let channel = message.channel();
        match message.op_code() {
            OpCode::HelloRequest => {
                let takes = message.header(TAKES).unwrap_or("nothing");
                println!("server: hello to a worker that takes {takes}");
                if KINDS.contains(&takes) {
                    self.waiting.push((channel, takes.to_owned()));
                    answer(group, message, None);
                } else {
                    answer(group, message, Some("PS or PDF, please"));
                }
            }
            OpCode::Signal => {
                let progress = message.header(PROGRESS).unwrap_or("no progress");
                println!("server: job {} is at {progress}", message.id());
            }
            OpCode::ByeRequest => {
                // What one worker cannot print, the next cannot either: with a result, the job does not go back.
                if let Some(result) = message.header(RESULT)
                    && let Some(job) = self.at_work.remove(&channel)
                {
                    println!("server: job {} ended: {result}", job.id);
                }
                answer(group, message, None);
            }
            _ => println!("server: not expected: {message:?}"),
        }
    }

    /// The job of a worker that went away without a result is the next one's.
    fn forget(&mut self, channel: ChannelNumber) {
        self.waiting.retain(|(waiting, _)| *waiting != channel);
        if let Some(job) = self.at_work.remove(&channel) {
            println!("server: job {} goes back: its worker is gone", job.id);
            self.jobs.push_front(job);
        }
    }

    fn hand_out(&mut self, group: &ChannelGroup) {
        self.waiting.retain(|(channel, takes)| {
            let first = self.jobs.iter().position(|job| job.kind == takes);
            let Some(job) = first.and_then(|index| self.jobs.remove(index)) else {
                return true;
            };
            if let Err(error) = send(group, *channel, &job) {
                println!("server: job {} does not leave: {error}", job.id);
                // The channel's end brings the job back. It is refused if that is on its way already.
                let _ = group.post(Message::bye_signal(*channel));
            }
            self.at_work.insert(*channel, job);
            false
        });
    }
}

/// One request in several messages: the same id, and `more` on all but the last.
fn send(group: &ChannelGroup, channel: ChannelNumber, job: &Job) -> Result<(), tofu::PostError> {
    println!("server: job {}, {} pages", job.id, job.pages.len());
    let message = |more| Message::request(channel).with_id(job.id).with_more(more);
    let ticket = message(true)
        .with_header(KIND, job.kind)
        .with_header(PAGES, job.pages.len().to_string());
    let mut messages = VecDeque::from([ticket]);
    for (page, number) in job.pages.iter().zip(1..) {
        messages.push_back(message(number < job.pages.len()).with_body(page));
    }
    group.post_many(&mut messages)
}

fn answer(group: &ChannelGroup, message: &Message, refused: Option<&str>) {
    let Ok(mut answer) = message.reply() else {
        return;
    };
    if let Some(why) = refused {
        answer = answer.with_header(REFUSED, why);
    }
    if let Err(error) = group.post(answer) {
        println!("server: {error}"); // the worker has gone
    }
}

// ---- The worker -----------------------------------------------------------------------------------------

/// Does one job. With `dies_at`, the process ends at that page, as if it had crashed.
fn work(address: &Address, takes: &str, dies_at: Option<usize>) -> Outcome<()> {
    let mut group = Engine::new(Options::default())?.group()?;
    let hello = Message::hello_request(address).with_header(TAKES, takes);
    let welcome = group.call(hello, PATIENCE)?;
    let channel = welcome.channel();
    println!("worker {takes}: hello");
    if let Some(why) = welcome.header(REFUSED) {
        group.call(Message::bye_request(channel), PATIENCE)?;
        return Err(format!("worker {takes}: refused: {why}").into());
    }
    let ticket = next(&mut group)?;
    if ticket.op_code() == OpCode::ByeRequest {
        println!("worker {takes}: nothing to do, bye");
        group.post(ticket.reply()?)?;
        return Ok(());
    }
    let result = print(&mut group, &ticket, takes, dies_at);
    let told = match &result {
        Ok(()) => "printed".to_owned(),
        Err(problem) => problem.to_string(),
    };
    println!("worker {takes}: job {}: {told}, bye", ticket.id());
    let bye = Message::bye_request(channel).with_id(ticket.id());
    group.call(bye.with_header(RESULT, told), PATIENCE)?;
    println!("worker {takes}: the server has my result");
    result
}

/// Prints the pages behind a ticket, and says how far it is.
fn print(
    group: &mut ChannelGroup,
    ticket: &Message,
    takes: &str,
    dies_at: Option<usize>,
) -> Outcome<()> {
    let kind = ticket.header(KIND).ok_or("a ticket without a kind")?;
    if kind != takes {
        return Err(format!("I take {takes}, and not {kind}").into());
    }
    let pages = ticket
        .header(PAGES)
        .ok_or("a ticket without a number of pages")?;
    let pages: usize = pages.parse()?;
    for number in 1..=pages {
        let page = next(group)?;
        if page.id() != ticket.id() || page.has_more() != (number < pages) {
            return Err(format!("page {number} of {pages} is missing").into());
        }
        if dies_at == Some(number) {
            println!("worker {takes}: crashes at page {number}");
            process::exit(1);
        }
        let text = page.body_text();
        println!("worker {takes}: page {number}: {text}");
        let progress = format!("{number}:{pages}");
        let signal = Message::signal(page.channel()).with_id(page.id());
        group.post(signal.with_header(PROGRESS, progress))?;
    }
    Ok(())
}

fn next(group: &mut ChannelGroup) -> Outcome<Message> {
    loop {
        let event = group.recv_timeout(PATIENCE)?;
        match event.ok_or("the server is silent")? {
            Event::Message(message) => return Ok(message),
            Event::Closed { reason, .. } => return Err(reason.into()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        process::{Output, Stdio},
    };

    use tofu::testing::over_both;

    use super::*;

    /// A process of this test that has it in its environment plays that role, and tests nothing.
    const ROLE: &str = "PRINT_SHOP_ROLE";

    #[test]
    fn a_role_in_a_process_of_its_own() {
        if let Ok(role) = env::var(ROLE) {
            let arguments: Vec<&str> = role.split(' ').collect();
            play(&arguments).expect("played to its end");
        }
    }

    fn role(role: &str) -> Command {
        let mut command = Command::new(env::current_exe().expect("a path"));
        command
            .args(["tests::a_role_in_a_process_of_its_own", "--exact"])
            .args(["--nocapture", "-q"])
            .env(ROLE, role)
            .stdout(Stdio::piped());
        command
    }

    fn worker(address: &str, how: &str) -> Output {
        let mut worker = role(&format!("worker {address} {how}"));
        worker.output().expect("it runs")
    }

    /// What a server says while `workers` come, one after the other, and how these end.
    fn dialogue(address: &Address, workers: &[&str]) -> (Vec<String>, Vec<bool>) {
        let mut server = role(&format!("server {address}")).spawn().expect("started");
        let stdout = BufReader::new(server.stdout.take().expect("piped"));
        let lines = stdout.lines().map_while(Result::ok);
        let mut lines = lines.filter_map(|line| Some(line.strip_prefix("server: ")?.to_owned()));
        let first = lines.next().expect("the server starts");
        let address = first.strip_prefix("listening on ").expect("the address");
        let ended = workers.iter().map(|how| worker(address, how));
        let ended = ended.map(|output| output.status.success()).collect();
        let lines = lines.collect();
        assert!(server.wait().expect("it ends").success());
        (lines, ended)
    }

    #[test]
    fn all_jobs_are_printed() {
        over_both(|address| {
            let (lines, ended) = dialogue(address, &["PS", "PDF"]);
            let expected = [
                "hello to a worker that takes PS",
                "job 101, 3 pages",
                "job 101 is at 1:3",
                "job 101 is at 2:3",
                "job 101 is at 3:3",
                "job 101 ended: printed",
                "hello to a worker that takes PDF",
                "job 102, 2 pages",
                "job 102 is at 1:2",
                "job 102 is at 2:2",
                "job 102 ended: printed",
                "done",
            ];
            assert_eq!(
                (lines, ended),
                (expected.map(Into::into).into(), vec![true; 2])
            );
        });
    }

    /// How far the first worker said it was before it died, nobody can tell.
    #[test]
    fn the_job_of_a_worker_that_dies_is_the_next_ones_and_others_are_refused() {
        over_both(|address| {
            let (mut lines, ended) = dialogue(address, &["TIFF", "PS 2", "PS", "PDF"]);
            lines.retain(|line| line.starts_with("job 101") && !line.contains("is at 1"));
            let expected = [
                "job 101, 3 pages",
                "job 101 goes back: its worker is gone",
                "job 101, 3 pages",
                "job 101 is at 2:3",
                "job 101 is at 3:3",
                "job 101 ended: printed",
            ];
            let endings = vec![false, false, true, true];
            assert_eq!((lines, ended), (expected.map(Into::into).into(), endings));
        });
    }

    /// This test is the server: a worker takes PS, and hears what `then` says.
    fn with_a_worker(
        address: &Address,
        then: impl FnOnce(&mut ChannelGroup, ChannelNumber),
    ) -> bool {
        let (mut group, address) = listen(address).expect("listening");
        let mut worker = role(&format!("worker {address} PS"));
        let mut worker = worker.stderr(Stdio::null()).spawn().expect("started");
        let hello = next(&mut group).expect("a hello");
        assert_eq!(hello.header(TAKES), Some("PS"));
        answer(&group, &hello, None);
        then(&mut group, hello.channel());
        worker.wait().expect("it ends").success()
    }

    #[test]
    fn a_worker_says_bye_to_a_job_of_another_kind() {
        over_both(|address| {
            let succeeds = with_a_worker(address, |group, channel| {
                send(group, channel, &jobs()[1]).expect("posted");
                let bye = next(group).expect("a bye");
                assert_eq!((bye.op_code(), bye.id().get()), (OpCode::ByeRequest, 102));
                assert_eq!(bye.header(RESULT), Some("I take PS, and not PDF"));
                answer(group, &bye, None);
            });
            assert!(!succeeds);
        });
    }

    #[test]
    fn a_worker_for_whom_there_is_no_job_goes_home() {
        over_both(|address| {
            assert!(with_a_worker(address, |group, channel| {
                let bye = group.call(Message::bye_request(channel), PATIENCE);
                bye.expect("answered");
            }));
        });
    }
}
