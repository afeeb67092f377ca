//! `decode`: the frames of the original tofu, and bytes that go wrong.

use std::{fmt::Write, fs};

use serde_json::Value;
use tofu::{Header, OpCode, Origin, Status};

use crate::tool::{command, keys, run, tofucat};

/// Frames captured from the original tofu.
fn vectors() -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("vectors.json")).unwrap();
    file["vectors"].as_array().unwrap().clone()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// A header in which something is changed, as hexadecimal digits.
fn odd(change: impl FnOnce(&mut Header)) -> String {
    let mut header = Header {
        channel: 5.into(),
        id: 9.into(),
        ..Header::new(OpCode::Request)
    };
    change(&mut header);
    hex(&header.to_bytes())
}

#[test]
fn the_originals_frames_are_read() {
    for vector in vectors() {
        let frame = vector["frame_hex"].as_str().unwrap();
        let done = tofucat(["decode", "--json", "--hex", frame]);
        done.expect_success();
        let objects = done.objects();
        assert_eq!(objects.len(), 1);
        let decoded = &objects[0];
        assert_eq!(decoded["event"], "frame");
        assert_eq!(decoded["offset"], 0);
        assert_eq!(decoded["frame_len"], frame.len() / 2);
        assert_eq!(decoded["channel"], vector["channel_number"]);
        for key in ["op_code", "origin", "more"] {
            assert_eq!(decoded[key], vector[key], "{key} of {}", vector["name"]);
        }
        assert_eq!(decoded["status"], "success");
        assert_eq!(
            decoded["message_id"].to_string(),
            vector["message_id"].as_str().unwrap()
        );
        assert_eq!(decoded["notes"], Value::from(Vec::<Value>::new()));
        let body = unhex(vector["body_hex"].as_str().unwrap());
        assert_eq!(decoded["body"].as_str().unwrap().as_bytes(), body);
        assert_eq!(decoded["body_len"], body.len());
        let headers_len = vector["text_headers_hex"].as_str().unwrap().len() / 2;
        assert_eq!(decoded["headers_len"], headers_len);
        assert_eq!(
            keys(decoded),
            [
                "body",
                "body_len",
                "channel",
                "event",
                "frame_len",
                "headers",
                "headers_len",
                "internal",
                "message_id",
                "more",
                "notes",
                "offset",
                "op_code",
                "origin",
                "status",
            ]
        );
    }
}

#[test]
fn a_frame_is_shown_field_by_field() {
    let vectors = vectors();
    let frame = vectors[0]["frame_hex"].as_str().unwrap();
    let done = tofucat(["decode", "--hex", frame]);
    done.expect_success();
    assert_eq!(
        done.text(),
        "\
frame 1 at byte 0: HelloRequest, 63 bytes
       0  fad4              channel number  64212
       2  03                op code         3 HelloRequest
                            origin          application
                            more            no
       3  00                status          0 success
       4  0000000000000001  message id      1
      12  002d              text headers    45 bytes
      14  0002              body            2 bytes
      16                    text header     \"~connect_to\": \"tcp|127.0.0.1|17101\"
                            text header     \"user\": \"alice\"
      61                    body            \"HI\"
"
    );
}

#[test]
fn frames_follow_each_other() {
    let frames: Vec<Value> = vectors();
    let bytes: Vec<u8> = frames
        .iter()
        .flat_map(|vector| unhex(vector["frame_hex"].as_str().unwrap()))
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("frames");
    fs::write(&file, &bytes).unwrap();
    let from_file = tofucat(["decode", "--json", "--file", file.to_str().unwrap()]);
    from_file.expect_success();
    let mut offset = 0;
    let objects = from_file.objects();
    assert_eq!(objects.len(), frames.len());
    for (object, vector) in objects.iter().zip(&frames) {
        assert_eq!(object["offset"], offset);
        assert_eq!(object["op_code"], vector["op_code"]);
        offset += object["frame_len"].as_u64().unwrap();
    }
    let from_stdin = run(&mut command(["decode", "--json", "-"]), &bytes);
    from_stdin.expect_success();
    assert_eq!(from_stdin.text(), from_file.text());
    let text = run(&mut command(["decode", "-"]), &bytes);
    assert!(
        text.text().contains("\nframe 10 at byte "),
        "{}",
        text.text()
    );
}

#[test]
fn a_frame_larger_than_any_buffer_is_read() {
    let header = Header {
        text_headers_len: u16::MAX,
        body_len: u16::MAX,
        ..Header::new(OpCode::Signal)
    };
    let mut bytes = header.to_bytes().to_vec();
    bytes.resize(header.frame_len(), b'x');
    let done = run(&mut command(["decode", "--json", "-"]), &bytes.repeat(3));
    done.expect_success();
    let objects = done.objects();
    assert_eq!(objects.len(), 3);
    assert_eq!(objects[2]["offset"], 2 * header.frame_len());
    assert_eq!(objects[2]["body"].as_str().unwrap().len(), 65_535);
}

#[test]
fn an_op_code_that_is_not_assigned_is_found_where_it_stands() {
    let good = odd(|_| ());
    for code in 10..=15 {
        let bad = format!("{good}0005{code:02x}0000000000000000090000000000");
        let done = tofucat(["decode", "--hex", &bad]);
        done.expect_error(
            "decode",
            &format!("at byte 18: frame 2: op code {code} is not assigned"),
        );
        assert!(
            done.text()
                .starts_with("frame 1 at byte 0: Request, 16 bytes\n")
        );
        assert!(!done.text().contains("frame 2"));
    }
}

#[test]
fn a_truncated_frame_says_how_much_is_missing() {
    let vectors = vectors();
    let whole = vectors[0]["frame_hex"].as_str().unwrap();
    let len = whole.len() / 2;
    for have in 1..len {
        let bytes = format!("{whole}{}", &whole[..2 * have]);
        let done = tofucat(["decode", "--hex", &bytes]);
        let at = len + have;
        let missing = if have < 16 { 16 - have } else { len - have };
        done.expect_error("decode", &format!("at byte {at}: frame 2 ends "));
        assert!(
            done.stderr.ends_with(&format!(": {missing} are missing\n")),
            "{}",
            done.stderr
        );
        // Of a header that is whole, the fields are shown.
        assert_eq!(
            done.text().contains("frame 2 at byte 63: HelloRequest"),
            have >= 16
        );
    }
}

#[test]
fn what_is_odd_is_noted_and_no_error() {
    for (bytes, note) in [
        (
            odd(|header| header.origin = Origin::Engine),
            "origin engine",
        ),
        (
            odd(|header| header.op_code = OpCode::ByeSignal),
            "ByeSignal never travels",
        ),
        (
            odd(|header| header.op_code = OpCode::WelcomeRequest),
            "WelcomeRequest never travels",
        ),
        (
            odd(|header| header.status = Status::from_code(200)),
            "status is not 0",
        ),
        (
            odd(|header| {
                header.op_code = OpCode::Response;
                header.id = 0.into();
            }),
            "Response has message id 0",
        ),
        (
            odd(|header| {
                header.op_code = OpCode::ByeRequest;
                header.more = true;
            }),
            "more is not allowed on ByeRequest",
        ),
        (
            odd(|header| header.op_code = OpCode::HelloRequest),
            "no text header ~connect_to",
        ),
        (
            odd(|header| header.channel = 0.into()),
            "no channel has the number 0",
        ),
        (
            format!("{}c0{}", &odd(|_| ())[..4], &odd(|_| ())[6..]),
            "internal bits",
        ),
    ] {
        let done = tofucat(["decode", "--hex", &bytes]);
        done.expect_success();
        let line = done.text().lines().last().unwrap();
        assert!(
            line.starts_with("    note: ") && line.contains(note),
            "{note}: {}",
            done.text()
        );
        let done = tofucat(["decode", "--json", "--hex", &bytes]);
        done.expect_success();
        let notes = &done.objects()[0]["notes"];
        assert!(
            notes[0].as_str().is_some_and(|text| text.contains(note)),
            "{note}: {notes}"
        );
    }
}

#[test]
fn odd_text_headers_are_noted() {
    for (text, note) in [
        (&b"a:b"[..], "does not end with CR LF"),
        (b"\xff:b\r\n", "not UTF-8"),
        (b"ab\r\n", "\"ab\" has no colon"),
        (b":x\r\na:b\r\n", "has no name"),
    ] {
        let header = Header {
            channel: 5.into(),
            text_headers_len: u16::try_from(text.len()).unwrap(),
            ..Header::new(OpCode::Signal)
        };
        let bytes = format!("{}{}", hex(&header.to_bytes()), hex(text));
        let done = tofucat(["decode", "--hex", &bytes]);
        done.expect_success();
        assert!(done.text().contains(note), "{note}: {}", done.text());
    }
}

#[test]
fn wrong_usage_is_told() {
    for arguments in [
        ["decode"].as_slice(),
        &["decode", "--hex", "xy"],
        &["decode", "--hex", "fad"],
        &["decode", "--hex", "fa", "-"],
        &["decode", "file"],
    ] {
        tofucat(arguments).expect_code(2);
    }
    tofucat(["decode", "--file", "/nowhere/at/all"])
        .expect_error("/nowhere/at/all", "No such file");
    tofucat(["decode", "--hex", ""]).expect_success();
}
