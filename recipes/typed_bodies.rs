//! Typed bodies: a text header says the format, serde does the rest, and what does not parse is answered with an
//! error.

use std::{error::Error, thread, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tofu::{Address, ChannelGroup, Engine, Event, Message, OpCode, Options};

const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Serialize, Deserialize)]
struct Order {
    item: String,
    count: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Receipt {
    cents: u64,
}

// What the text header says of the body. An error is text: a header could not have its line ends.
const FORMAT: &str = "content-type";
const JSON: &str = "application/json";
const POSTCARD: &str = "application/postcard";
const ERROR: &str = "text/plain; error";

type Typed<T> = Result<T, Box<dyn Error>>;

fn encode(format: &str, value: &impl Serialize) -> Typed<Vec<u8>> {
    match format {
        JSON => Ok(serde_json::to_vec(value)?),
        POSTCARD => Ok(postcard::to_allocvec(value)?),
        other => Err(format!("unknown format {other:?}").into()),
    }
}

fn decode<T: DeserializeOwned>(message: &Message) -> Typed<T> {
    match message.header(FORMAT).unwrap_or("none") {
        JSON => Ok(serde_json::from_slice(message.body())?),
        POSTCARD => Ok(postcard::from_bytes(message.body())?),
        ERROR => Err(message.body_text().into()),
        other => Err(format!("unknown format {other:?}").into()),
    }
}

/// What an order costs: the format, which is that of the order, and the body.
fn sell(request: &Message) -> Typed<(&str, Vec<u8>)> {
    let order: Order = decode(request)?;
    if order.item != "tofu" {
        return Err(format!("there is no {:?}", order.item).into());
    }
    let cents = 250 * u64::from(order.count);
    let format = request.header(FORMAT).unwrap_or(JSON);
    Ok((format, encode(format, &Receipt { cents })?))
}

fn serve(mut group: ChannelGroup) {
    while let Ok(event) = group.recv() {
        let Event::Message(message) = event else {
            continue;
        };
        let Ok(mut answer) = message.reply() else {
            continue;
        };
        if message.op_code() == OpCode::Request {
            let sold = sell(&message);
            let (format, body) = sold.unwrap_or_else(|error| (ERROR, error.to_string().into()));
            answer = answer.with_header(FORMAT, format).with_body(body);
        }
        if let Err(error) = group.post(answer) {
            eprintln!("{error}"); // the client has gone, or does not read
        }
    }
}

/// Orders in both formats, and then badly: what was received, or why nothing.
fn run(address: &Address) -> Typed<Vec<Typed<Receipt>>> {
    let engine = Engine::new(Options::default())?;
    let (mut server, mut client) = (engine.group()?, engine.group()?);
    let welcome = server.call(Message::welcome_request(address), PATIENCE)?;
    let address = welcome.address().ok_or("no address")?;
    let serving = thread::spawn(move || serve(server));
    let hello = client.call(Message::hello_request(&address), PATIENCE)?;

    let item = "tofu".to_owned();
    let lunch = Order { item, count: 3 };
    let (json, binary) = (encode(JSON, &lunch)?, encode(POSTCARD, &lunch)?);
    let orders = [
        (JSON, &json[..]),
        (POSTCARD, &binary),
        (JSON, &binary),
        (POSTCARD, &binary[..3]),
        (JSON, br#"{"item":"meat","count":1}"#),
        ("text/html", b"<p>tofu</p>"),
    ];
    let receipts = orders.map(|(format, body)| {
        let order = Message::request(hello.channel()).with_header(FORMAT, format);
        decode(&client.call(order.with_body(body), PATIENCE)?)
    });
    engine.shutdown(PATIENCE);
    serving.join().map_err(|_| "the server panicked")?;
    Ok(receipts.into())
}

fn main() -> Typed<()> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    for receipt in run(&address)? {
        match receipt {
            Ok(Receipt { cents }) => println!("to pay: {cents} cents"),
            Err(error) => println!("refused: {error}"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_are_understood_and_what_is_none_is_answered_with_an_error() {
        tofu::testing::over_both(|address| {
            let told = run(address).expect("six answers").into_iter();
            let told: Vec<_> = told
                .map(|it| it.map_err(|error| error.to_string()))
                .collect();
            assert_eq!(told[..2], [const { Ok(Receipt { cents: 750 }) }; 2]);
            let problems = [
                "line 1 column 1",
                "end",
                "no \"meat\"",
                "format \"text/html\"",
            ];
            for (told, problem) in told[2..].iter().zip(problems) {
                let told = told.as_ref().expect_err(problem);
                assert!(told.contains(problem), "{told}");
            }
        });
    }
}
