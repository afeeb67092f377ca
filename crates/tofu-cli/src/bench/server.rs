//! The server process of the bench: `tofucat bench-server ADDR`. It serves one client, and ends with it.

use std::process;

use tofu::{Engine, Event, Message};

use super::{engine_options, traffic::answer_all};
use crate::{
    args::BenchServerArguments, error::Failure, output::Output, server_process::on_parent_gone,
};

pub(crate) fn run(arguments: &BenchServerArguments, output: &mut Output) -> Result<(), Failure> {
    on_parent_gone(|| process::exit(1));
    let what = format!("bench-server {}", arguments.address);
    let failed = |error| Failure::new(&what, error);
    let engine = Engine::new(engine_options(!arguments.no_poll)).map_err(failed)?;
    let mut group = engine.group().map_err(failed)?;
    group
        .post(Message::welcome_request(&arguments.address))
        .map_err(|error| Failure::new(&what, error.refusal()))?;
    match group.recv() {
        Ok(event @ Event::Listening { .. }) => {
            output.event(&event)?;
            output.flush()?;
        }
        Ok(Event::Returned { reason, .. }) => return Err(Failure::new(&what, reason)),
        Ok(event) => {
            return Err(Failure::new(
                &what,
                format_args!("does not listen: {event:?}"),
            ));
        }
        Err(error) => return Err(Failure::new(&what, error)),
    }
    answer_all(&mut group).map_err(|why| Failure::new(&what, why))
}
