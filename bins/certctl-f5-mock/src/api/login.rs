//! Tokens.

use serde_json::{Value, json};

use super::text;
use crate::{
    device::{Device, sessions::TOKEN_LIFE},
    reply::{Answer, Call, Refusal},
};

/// The token of a call: the device's own header, or a bearer.
pub(super) fn token(call: &Call) -> Option<&str> {
    call.header("x-f5-auth-token")
        .or_else(|| call.header("authorization")?.strip_prefix("Bearer "))
}

pub(super) fn log_in(device: &Device, call: &Call) -> Answer {
    let body = call.json()?;
    let refused = |_| Refusal::unauthorised("Authentication failed.");
    let (user, password) = (
        text(&body, "username").map_err(refused)?,
        text(&body, "password").map_err(refused)?,
    );
    let provider = body["loginProviderName"].as_str().unwrap_or("tmos");
    if user != device.user || password != device.password.expose() || provider != "tmos" {
        return Err(Refusal::unauthorised("Authentication failed."));
    }
    let token = device.held().sessions.open(device.clock.now())?;
    Ok(json!({
        "username": user,
        "loginProviderName": "tmos",
        "token": {
            "kind": "shared:authz:tokens:authtokenitemstate",
            "token": token.expose(),
            "name": token.expose(),
            "userName": user,
            "authProviderName": "tmos",
            "timeout": TOKEN_LIFE.as_secs(),
            "partition": "[All]",
        },
    }))
}

pub(super) fn log_out(device: &Device, token: &str) -> Answer {
    if device.held().sessions.close(token) {
        Ok(Value::Null)
    } else {
        Err(Refusal::not_found("the token does not exist"))
    }
}
