//! Applications: what they hear, when they are back for more, and how they end.

use std::{
    fmt, mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tofu::{
    ChannelGroup, Event, RecvError,
    simulation::{self, Closing},
};

use super::World;
use crate::{Application, Group, ledger::Scene, trace::told};

/// The longest that an application with nothing to do keeps away.
const AWAY_MAX: Duration = Duration::from_millis(200);

pub(super) struct GroupState {
    pub(super) host: usize,
    pub(super) channels: Option<ChannelGroup>,
    pub(super) closing: Option<Closing>,
    pub(super) application: Box<dyn Application>,
    pub(super) receiving: Receiving,
    /// When it is back for more, unless something calls it.
    pub(super) back_at: Option<Duration>,
    pub(super) away: Duration,
    pub(super) lag: Duration,
    pub(super) alarm: Option<Duration>,
    pub(super) woken: Arc<Flag>,
    pub(super) events: Vec<Event>,
    pub(super) is_told_to_finish: bool,
}

impl fmt::Debug for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupState")
            .field("host", &self.host)
            .field("receiving", &self.receiving)
            .field("alarm", &self.alarm)
            .finish_non_exhaustive()
    }
}

/// How an application receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receiving {
    /// One event after the other, like a thread that is back soon.
    OneByOne,
    /// Many at once.
    Many,
    /// As a task that is woken.
    AsTask,
}

#[derive(Debug, Default)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    pub(super) fn is_up(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Nobody: the application of a process that crashed.
pub(super) struct Nobody;

impl Application for Nobody {
    fn hear(&mut self, _: Event, _: &mut Group<'_>) {}
}

impl World {
    pub(super) fn turn(&mut self, index: usize) {
        let now = self.shared.now();
        let group = &mut self.groups[index];
        group.woken.0.store(false, Ordering::Relaxed);
        if group.closing.is_some() {
            return self.go_on_closing(index);
        }
        if group.alarm.is_some_and(|alarm| alarm <= now) {
            group.alarm = None;
            self.with_application(index, |application, group| application.wake(group));
        }
        let batch = self.shared.random.pick(&[1, 1, 2, 8, 100]);
        let mut heard = 0;
        let (mut is_over, mut is_idle) = (false, false);
        while heard < batch && self.groups[index].channels.is_some() && self.shared.broken.is_none()
        {
            match self.receive(index, batch) {
                Ok(0) => {
                    is_idle = true;
                    break;
                }
                Ok(count) => heard += count,
                Err(RecvError) => {
                    is_over = true;
                    break;
                }
            }
        }
        if is_over {
            self.is_shut_down(index);
        } else if is_idle {
            self.shared.ledger.found_nothing(index);
            self.with_application(index, |application, group| application.idle(group));
        }
        self.comes_back(index, heard);
    }

    /// When the application is back.
    pub(super) fn comes_back(&mut self, index: usize, heard: usize) {
        let now = self.shared.now();
        let lag_max = self.lag_max(self.faults.application_lag_max);
        let lag = self.shared.random.duration(lag_max);
        let group = &mut self.groups[index];
        if group.channels.is_none() && group.closing.is_none() {
            group.back_at = None;
            return;
        }
        group.lag = lag;
        if heard > 0 {
            group.away = lag.max(Duration::from_micros(10));
        } else if group.closing.is_none() && group.receiving == Receiving::AsTask {
            // It has said that it is to be woken.
            group.back_at = None;
            return;
        } else {
            group.away = (group.away * 2).clamp(Duration::from_micros(10), AWAY_MAX);
        }
        group.back_at = Some(now + group.away);
    }

    /// Receives some events, and tells the application. Returns how many.
    fn receive(&mut self, index: usize, max: usize) -> Result<usize, RecvError> {
        let host = self.groups[index].host;
        let driven = self.drives(host);
        let group = &mut self.groups[index];
        let Some(channels) = &mut group.channels else {
            return Ok(0);
        };
        match group.receiving {
            Receiving::OneByOne => {
                let event = channels.try_recv()?;
                self.has_driven(driven);
                let Some(event) = event else {
                    return Ok(0);
                };
                self.hear(index, event);
                Ok(1)
            }
            Receiving::AsTask => {
                let waker = Waker::from(Arc::clone(&group.woken));
                let polled = channels.poll_recv(&mut Context::from_waker(&waker));
                self.has_driven(driven);
                match polled {
                    Poll::Pending => Ok(0),
                    Poll::Ready(event) => {
                        self.hear(index, event?);
                        Ok(1)
                    }
                }
            }
            Receiving::Many => {
                let mut events = mem::take(&mut group.events);
                let count = simulation::try_recv_many(channels, &mut events, max)?;
                self.has_driven(driven);
                for event in &mut events {
                    // What it has read goes back to the driver, but for what the application takes.
                    let event = mem::replace(event, Event::PoolEmpty);
                    self.hear(index, event);
                }
                events.clear();
                self.groups[index].events = events;
                Ok(count)
            }
        }
    }

    fn hear(&mut self, index: usize, event: Event) {
        let host = self.groups[index].host;
        self.shared
            .note(|| format!("host {host} group {index} hears {}", told(&event)));
        let state = self.shared.network.state();
        let scene = Scene {
            host,
            opened: self.hosts[host].opened,
            limits: &self.hosts[host].limits,
            network: &state,
        };
        let checked = self.shared.ledger.heard(index, &event, scene);
        drop(state);
        self.shared.hold(checked);
        if let Event::Message(message) = &event
            && message.op_code() == tofu::OpCode::HelloRequest
        {
            self.hosts[host].opened += 1;
        }
        if self.groups[index].channels.is_some() {
            self.with_application(index, |application, group| application.hear(event, group));
        }
    }

    pub(super) fn with_application(
        &mut self,
        index: usize,
        what: impl FnOnce(&mut dyn Application, &mut Group<'_>),
    ) {
        let group = &mut self.groups[index];
        let host = &mut self.hosts[group.host];
        let (Some(channels), Some(engine)) = (&group.channels, &host.engine) else {
            return;
        };
        let mut wish = None;
        let mut view = Group {
            channels,
            engine,
            limits: &host.limits,
            shared: &mut self.shared,
            host: group.host,
            index,
            opened: &mut host.opened,
            alarm: &mut group.alarm,
            wish: &mut wish,
        };
        what(&mut *group.application, &mut view);
        if let Some(wish) = wish {
            self.grant(index, wish);
        }
    }
}
