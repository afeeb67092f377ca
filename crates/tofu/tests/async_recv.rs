//! Receiving as a task: nothing is missed, a dropped future loses nothing, and a shutdown wakes it.

mod support;

use std::{
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use support::*;
use tofu::{ChannelGroup, Event, Message, OpCode, RecvError, Status};

/// Wakes a thread, and counts.
struct Unparker(Thread, AtomicUsize);

impl Wake for Unparker {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.unpark();
    }
}

/// The smallest runtime there is: this thread.
fn recv(group: &mut ChannelGroup) -> Result<Event, RecvError> {
    let unparker = Arc::new(Unparker(thread::current(), AtomicUsize::new(0)));
    let waker = Waker::from(unparker);
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(group.recv_async());
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(received) => return received,
            Poll::Pending => {
                let start = std::time::Instant::now();
                thread::park_timeout(WATCHDOG);
                assert!(start.elapsed() < WATCHDOG, "the task was not woken");
            }
        }
    }
}

fn recv_message(group: &mut ChannelGroup) -> Message {
    match recv(group).expect("not shutting down") {
        Event::Message(message) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_tasks_talk() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        let (mut server, channel) = (p.server, p.at_client);
        let serving = Watched::start(move || {
            loop {
                match recv(&mut server).expect("not shutting down") {
                    Event::Message(message) => {
                        if let Ok(reply) = message.into_reply() {
                            server.post(reply).expect("posted");
                        }
                    }
                    Event::Closed { reason, .. } => return (server, reason),
                    other => panic!("{other:?}"),
                }
            }
        });
        for number in 0..500_u32 {
            let body = number.to_be_bytes();
            let asked = p.client.post(Message::request(channel).with_body(body));
            let answer = recv_message(&mut p.client);
            assert_eq!((answer.id(), answer.body()), (asked.unwrap().id, &body[..]));
            if number % 50 == 0 {
                // A thread may wait in between.
                p.client.post(Message::request(channel)).unwrap();
                message_of(&mut p.client, OpCode::Response);
            }
        }
        p.client.post(Message::bye_request(channel)).unwrap();
        assert_eq!(recv_message(&mut p.client).op_code(), OpCode::ByeResponse);
        let (server, reason) = serving.join("serving");
        assert_eq!(reason.status(), Status::CHANNEL_CLOSED);
        // The listener's file goes with its group.
        drop(server);
    });
}

#[test]
fn a_dropped_future_loses_nothing() {
    over_both(|address| {
        let engine = engine();
        let mut p = raw_pair(&engine, address);
        let unparker = Arc::new(Unparker(thread::current(), AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&unparker));
        for number in 0..100 {
            {
                let mut context = Context::from_waker(&waker);
                let mut future = pin!(p.server.recv_async());
                assert!(future.as_mut().poll(&mut context).is_pending());
                p.raw.send(&numbered(p.at_server, number, 10));
                eventually("the task is woken", || {
                    unparker.1.load(Ordering::SeqCst) > number
                });
            }
            assert_eq!(number_of(&message(&mut p.server)), number);
        }
    });
}

#[test]
fn a_notification_and_a_shutdown_wake_a_task() {
    let engine = engine();
    let mut group = engine.group().unwrap();
    let poster = group.poster();
    let (told, is_told) = mpsc::channel();
    let waiting = Watched::start(move || {
        assert!(matches!(recv(&mut group), Ok(Event::Notified(None))));
        told.send(()).expect("heard");
        assert!(recv(&mut group).is_err());
    });
    poster.notify(None);
    is_told.recv_timeout(WATCHDOG).expect("notified");
    engine.shutdown(Duration::from_secs(1));
    waiting.join("waiting");
}

/// A task that is polled where it is woken: on the engine's own thread.
struct Inline(Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>);

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(Arc::clone(&self));
        let mut task = self.0.lock().expect("no task panics");
        let is_over = task.as_mut().is_some_and(|task| {
            task.as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
        });
        if is_over {
            *task = None;
        }
    }
}

#[test]
fn a_task_that_ends_on_the_engines_own_thread_may_have_the_last_handle() {
    over_both(|address| {
        let engine = engine();
        let mut p = raw_pair(&engine, address);
        drop(engine);
        let (ended, has_ended) = mpsc::channel();
        let mut server = p.server;
        let task = async move {
            let event = server.recv_async().await;
            drop(server);
            ended
                .send((event, thread::current().name().map(str::to_owned)))
                .unwrap();
        };
        Arc::new(Inline(Mutex::new(Some(Box::pin(task))))).wake();
        p.raw.write(&frame(&Message::signal(p.at_server)));
        let (event, thread) = has_ended.recv_timeout(WATCHDOG).expect("the task ends");
        assert!(matches!(event, Ok(Event::Message(_))), "{event:?}");
        assert_eq!(thread.as_deref(), Some("tofu-keeper"));
        p.raw.read_to_end();
    });
}
