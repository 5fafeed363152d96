//! What is not the device's: `/healthz`, and the hooks of tests, in plain HTTP.

use std::time::Duration;

use certctl_domain::secret::Secret;
use hyper::{Method, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    Device, Effect, Fault, FullPath, PairPem,
    reply::{Answer, Call, Refusal, Reply},
};

/// Answers on the plain port.
pub(crate) fn answer(device: &Device, call: &Call) -> Reply {
    match (&call.method, call.path.as_str()) {
        (&Method::GET, "/" | "/healthz") => Reply::Text("ok\n"),
        (&Method::GET, "/admin/state") => Reply::Json(StatusCode::OK, device.dump()),
        (&Method::GET, "/admin/calls") => Reply::Json(StatusCode::OK, json!(device.calls())),
        (&Method::POST, "/admin/profiles") => seed(device, call).into(),
        (&Method::POST, "/admin/faults") => inject(device, call).into(),
        _ => Err(Refusal::not_found("there is no such hook")).into(),
    }
}

/// Answers behind the profile's certificate.
pub(crate) fn of_the_virtual_server(_device: &Device, call: &Call) -> Reply {
    match (&call.method, call.path.as_str()) {
        (&Method::GET, "/" | "/healthz") => Reply::Text("ok\n"),
        _ => Err(Refusal::not_found("there is nothing here")).into(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seed {
    #[serde(default = "common")]
    partition: String,
    name: String,
    certificates_pem: String,
    key_pem: String,
}

fn common() -> String {
    "Common".to_owned()
}

fn seed(device: &Device, call: &Call) -> Answer {
    let seed: Seed = read(call)?;
    let pair = PairPem {
        certificates: seed.certificates_pem,
        key: Secret::new(seed.key_pem),
    };
    let profile = FullPath::new(seed.partition, &seed.name);
    device.seed(&profile, &seed.name, &pair)
}

/// Exactly one of `status`, `delay_ms` and `lose_answer`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Injected {
    #[serde(default)]
    call: String,
    #[serde(default)]
    after: usize,
    status: Option<u16>,
    delay_ms: Option<u64>,
    #[serde(default)]
    lose_answer: bool,
}

fn inject(device: &Device, call: &Call) -> Answer {
    let fault: Injected = read(call)?;
    let effect = match (fault.status, fault.delay_ms, fault.lose_answer) {
        (Some(status), None, false) if StatusCode::from_u16(status).is_ok() => {
            Effect::Status(status)
        }
        (None, Some(delay), false) => Effect::Delay(Duration::from_millis(delay)),
        (None, None, true) => Effect::LoseAnswer,
        _ => {
            return Err(Refusal::bad(
                "exactly one of status, delay_ms and lose_answer",
            ));
        }
    };
    device.inject(Fault {
        call: fault.call,
        after: fault.after,
        effect,
    });
    Ok(Value::Null)
}

fn read<T: DeserializeOwned>(call: &Call) -> Result<T, Refusal> {
    serde_json::from_value(call.json()?).map_err(|problem| Refusal::bad(problem.to_string()))
}
