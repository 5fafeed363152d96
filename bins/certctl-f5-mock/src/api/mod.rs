//! iControl REST: the calls of targets §3.13, and those that tell what they came to.

mod crypto;
mod login;
mod profile;

use hyper::Method;
use serde_json::Value;

use crate::{
    device::{Device, objects::Kind, transactions::Command},
    reply::{Answer, Call, Refusal, Reply},
};

/// Answers on the management port.
pub(crate) fn answer(device: &Device, call: &Call) -> Reply {
    if call.method == Method::GET && matches!(call.path.as_str(), "/" | "/healthz") {
        return Reply::Text("ok\n");
    }
    route(device, call).into()
}

fn route(device: &Device, call: &Call) -> Answer {
    let segments: Vec<&str> = call.path.trim_matches('/').split('/').collect();
    let (&Method::POST, ["mgmt", "shared", "authn", "login"]) = (&call.method, &segments[..])
    else {
        device
            .held()
            .sessions
            .check(login::token(call), device.clock.now())?;
        return authenticated(device, call, &segments);
    };
    login::log_in(device, call)
}

fn authenticated(device: &Device, call: &Call, segments: &[&str]) -> Answer {
    let ["mgmt", rest @ ..] = segments else {
        return Err(nothing(call));
    };
    match (call.method.as_str(), rest) {
        ("DELETE", ["shared", "authz", "tokens", token]) => login::log_out(device, token),
        ("POST", ["shared", "file-transfer", "uploads", name]) => {
            device
                .held()
                .uploads
                .take(name, call.header("content-range"), &call.body)
        }
        ("POST", ["tm", "util", "unix-rm"]) => crypto::remove_upload(device, call),
        (_, ["tm", "sys", "crypto", "cert", rest @ ..]) => {
            crypto::answer(device, call, Kind::Certificate, rest)
        }
        (_, ["tm", "sys", "crypto", "key", rest @ ..]) => {
            crypto::answer(device, call, Kind::Key, rest)
        }
        ("GET", ["tm", "sys", "file", "ssl-cert", path]) => crypto::show(device, path),
        (_, ["tm", "ltm", "profile", "client-ssl", rest @ ..]) => {
            profile::answer(device, call, rest)
        }
        (_, ["tm", "transaction", rest @ ..]) => transaction(device, call, rest),
        _ => Err(nothing(call)),
    }
}

fn transaction(device: &Device, call: &Call, rest: &[&str]) -> Answer {
    let now = device.clock.now();
    match (call.method.as_str(), rest) {
        ("POST", []) => {
            call.json()?;
            device.held().transactions.begin(now)
        }
        ("GET", [id]) => device.held().transactions.show(id, now),
        ("DELETE", [id]) => device.held().transactions.discard(id, now),
        ("PATCH", [id]) => {
            if call.json()?["state"] != "VALIDATING" {
                return Err(Refusal::bad("a transaction can only be set to VALIDATING"));
            }
            device.change(|held| {
                let (config, shown) = held.transactions.commit(id, &held.config, now)?;
                held.config = config;
                Ok(shown)
            })
        }
        _ => Err(nothing(call)),
    }
}

/// Carries a command out at once, or keeps it for the transaction that the call names.
fn at_once_or_later(device: &Device, call: &Call, command: Command) -> Answer {
    match call.header("x-f5-rest-coordination-id") {
        Some(id) => {
            let now = device.clock.now();
            device.held().transactions.queue(id, command, now)
        }
        None => device.change(|held| {
            let mut draft = held.config.clone();
            let shown = command.carry_out(&mut draft)?;
            held.config = draft;
            Ok(shown)
        }),
    }
}

fn nothing(call: &Call) -> Refusal {
    Refusal::not_found(format!(
        "Public URI path not registered: {} {}",
        call.method, call.path
    ))
}

fn text<'a>(body: &'a Value, field: &str) -> Result<&'a str, Refusal> {
    body[field]
        .as_str()
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Refusal::bad(format!("one or more properties must be specified: {field}")))
}

#[cfg(test)]
mod tests;
