//! The API without its sockets.

use std::{sync::Arc, time::Duration};

use certctl_domain::{
    secret::Secret,
    time::{ManualClock, Timestamp},
};
use hyper::{HeaderMap, Method, StatusCode, body::Bytes, header::HeaderName};
use serde_json::{Value, json};

use super::answer;
use crate::{
    FullPath, PairPem,
    device::Device,
    reply::{Call, Reply},
    tls,
};

const LOGIN: &str = "/mgmt/shared/authn/login";
const PROFILE: &str = "/mgmt/tm/ltm/profile/client-ssl/~Common~web";
const CERTS: &str = "/mgmt/tm/sys/crypto/cert";
const KEYS: &str = "/mgmt/tm/sys/crypto/key";
const TRANSACTION: &str = "/mgmt/tm/transaction";

struct Bench {
    device: Device,
    clock: ManualClock,
    token: String,
}

impl Bench {
    fn new() -> Self {
        let clock = ManualClock::starting_at(Timestamp::from_seconds(1_800_000_000));
        let pair = tls::self_signed(Timestamp::from_seconds(1_800_000_000)).unwrap();
        let user = ("admin".to_owned(), Secret::new("right"));
        let profile = FullPath::new("Common", "web");
        let device = Device::new(Arc::new(clock.clone()), user, &profile, &pair).unwrap();
        let mut bench = Self {
            device,
            clock,
            token: String::new(),
        };
        bench.token = bench.log_in("right").1["token"]["token"]
            .as_str()
            .unwrap()
            .to_owned();
        bench
    }

    fn log_in(&self, password: &str) -> (u16, Value) {
        let body = json!({"username": "admin", "password": password, "loginProviderName": "tmos"});
        self.send("POST", LOGIN, &[], body.to_string().as_bytes())
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.send(
            method,
            path,
            &[("x-f5-auth-token", &self.token)],
            body.as_bytes(),
        )
    }

    fn in_transaction(&self, id: u64, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let headers = [
            ("x-f5-auth-token", self.token.as_str()),
            ("x-f5-rest-coordination-id", &id.to_string()),
        ];
        self.send(method, path, &headers, body.to_string().as_bytes())
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> (u16, Value) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        let call = Call {
            method: Method::from_bytes(method.as_bytes()).unwrap(),
            path: path.to_owned(),
            headers: map,
            body: Bytes::copy_from_slice(body),
        };
        match answer(&self.device, &call) {
            Reply::Text(text) => (200, json!(text)),
            Reply::Json(status, value) => (status.as_u16(), value),
        }
    }

    fn upload(&self, name: &str, text: &str) {
        let path = format!("/mgmt/shared/file-transfer/uploads/{name}");
        let range = format!("0-{}/{}", text.len() - 1, text.len());
        let headers = [
            ("x-f5-auth-token", self.token.as_str()),
            ("content-range", &range),
        ];
        assert_eq!(self.send("POST", &path, &headers, text.as_bytes()).0, 200);
    }

    fn install(&self, path: &str, name: &str) -> u16 {
        let body = json!({"command": "install", "name": format!("/Common/{name}"), "from-local-file": format!("/var/config/rest/downloads/{name}")});
        self.call("POST", path, &body).0
    }

    /// A pair under `<name>-cert` and `<name>-key`.
    fn pair(&self, name: &str) -> PairPem {
        let pair = tls::self_signed(Timestamp::from_seconds(1_800_000_000)).unwrap();
        let (cert, key) = (format!("{name}-cert"), format!("{name}-key"));
        self.upload(&cert, &pair.certificates);
        self.upload(&key, pair.key.expose());
        assert_eq!(
            (self.install(CERTS, &cert), self.install(KEYS, &key)),
            (200, 200)
        );
        pair
    }

    fn begin(&self) -> u64 {
        let (status, body) = self.call("POST", TRANSACTION, &json!({}));
        assert_eq!((status, &body["state"]), (200, &json!("STARTED")));
        body["transId"].as_u64().expect("the number is a number")
    }

    fn commit(&self, id: u64) -> (u16, Value) {
        self.call(
            "PATCH",
            &format!("{TRANSACTION}/{id}"),
            &json!({"state": "VALIDATING"}),
        )
    }

    fn profile(&self) -> Value {
        self.call("GET", PROFILE, &Value::Null).1
    }

    fn is_served(&self, pair: &PairPem) -> bool {
        let expected = tls::certified(&pair.certificates, &pair.key).unwrap();
        self.device.served().cert == expected.cert
    }
}

fn references(cert: &str, key: &str) -> Value {
    json!({"cert": format!("/Common/{cert}"), "key": format!("/Common/{key}"), "chain": "none"})
}

#[test]
fn tokens_are_for_those_who_know_the_password_and_end() {
    let bench = Bench::new();
    for password in ["wrong", ""] {
        let (status, body) = bench.log_in(password);
        assert_eq!(status, 401);
        assert_eq!(body["code"], 401);
        assert!(body["message"].is_string() && body["errorStack"].is_array());
    }
    for headers in [
        &[][..],
        &[("x-f5-auth-token", "guessed")],
        &[("authorization", "Bearer guessed")],
    ] {
        assert_eq!(bench.send("GET", PROFILE, headers, b"").0, 401);
    }
    let bearer = format!("Bearer {}", bench.token);
    assert_eq!(
        bench
            .send("GET", PROFILE, &[("authorization", &bearer)], b"")
            .0,
        200
    );
    bench.clock.advance(Duration::from_secs(1199));
    assert_eq!(bench.call("GET", PROFILE, &Value::Null).0, 200);
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(bench.call("GET", PROFILE, &Value::Null).0, 401);
}

#[test]
fn a_user_has_a_hundred_tokens_at_the_most() {
    let bench = Bench::new();
    let last = (1..100).map(|_| bench.log_in("right")).last().unwrap();
    assert_eq!(bench.log_in("right").0, 400);
    let path = format!(
        "/mgmt/shared/authz/tokens/{}",
        last.1["token"]["token"].as_str().unwrap()
    );
    assert_eq!(bench.call("DELETE", &path, &Value::Null).0, 200);
    assert_eq!(bench.log_in("right").0, 200);
}

#[test]
fn installing_needs_a_readable_file_and_a_free_name() {
    let bench = Bench::new();
    assert_eq!(bench.install(CERTS, "absent"), 404);
    bench.upload("bad", "no PEM at all");
    assert_eq!(
        (bench.install(CERTS, "bad"), bench.install(KEYS, "bad")),
        (400, 400)
    );
    bench.pair("a");
    assert_eq!(
        (bench.install(CERTS, "a-cert"), bench.install(KEYS, "a-key")),
        (409, 409)
    );
    let (status, shown) = bench.call(
        "GET",
        "/mgmt/tm/sys/file/ssl-cert/~Common~a-cert",
        &Value::Null,
    );
    assert_eq!(status, 200);
    let fingerprint = shown["fingerprint"].as_str().unwrap();
    assert!(
        fingerprint.starts_with("SHA256/") && fingerprint.len() == 7 + 95,
        "{fingerprint}"
    );
    assert_eq!(
        bench
            .call("GET", "/mgmt/tm/sys/file/ssl-cert/~Common~no", &Value::Null)
            .0,
        404
    );
}

#[test]
fn a_transaction_takes_effect_at_its_commit() {
    let bench = Bench::new();
    let (before, pair) = (bench.profile(), bench.pair("a"));
    let id = bench.begin();
    let (status, queued) =
        bench.in_transaction(id, "PATCH", PROFILE, &references("a-cert", "a-key"));
    assert_eq!((status, &queued["commandId"]), (200, &json!(1)));
    assert_eq!(bench.profile(), before);
    assert!(!bench.is_served(&pair));

    let (status, done) = bench.commit(id);
    assert_eq!((status, &done["state"]), (200, &json!("COMPLETED")));
    assert_eq!(bench.profile()["cert"], "/Common/a-cert");
    assert!(bench.is_served(&pair));
    assert_eq!(bench.commit(id).0, 400, "once is enough");
}

#[test]
fn a_transaction_that_is_refused_changes_nothing() {
    let bench = Bench::new();
    let (a, _) = (bench.pair("a"), bench.pair("b"));
    assert_eq!(
        bench
            .call("PATCH", PROFILE, &references("a-cert", "a-key"))
            .0,
        200
    );
    let before = bench.profile();
    for (cert, key, said) in [
        ("b-cert", "absent", "not found"),
        ("absent", "b-key", "not found"),
        ("b-cert", "a-key", "do not match"),
    ] {
        let id = bench.begin();
        // A good command before the bad one is not carried out either.
        bench.in_transaction(id, "PATCH", PROFILE, &references("b-cert", "b-key"));
        bench.in_transaction(id, "PATCH", PROFILE, &references(cert, key));
        let (status, refusal) = bench.commit(id);
        let message = refusal["message"].as_str().unwrap();
        assert_eq!((status, &refusal["code"]), (400, &json!(400)));
        assert!(
            message.starts_with("transaction failed:") && message.contains(said),
            "{message}"
        );
        assert_eq!(bench.profile(), before);
        assert!(bench.is_served(&a));
        let shown = bench
            .call("GET", &format!("{TRANSACTION}/{id}"), &Value::Null)
            .1;
        assert_eq!(shown["state"], "FAILED");
    }
}

#[test]
fn a_transaction_ends_after_half_a_minute() {
    let bench = Bench::new();
    bench.pair("a");
    let id = bench.begin();
    assert_eq!(
        bench
            .in_transaction(id, "PATCH", PROFILE, &references("a-cert", "a-key"))
            .0,
        200
    );
    bench.clock.advance(Duration::from_secs(30));
    assert_eq!(bench.commit(id).0, 404);
    assert_eq!(
        bench
            .in_transaction(id, "PATCH", PROFILE, &references("a-cert", "a-key"))
            .0,
        404
    );
    assert_eq!(bench.profile()["cert"], "/Common/default.crt");
}

#[test]
fn a_profile_is_patched_field_by_field_and_refuses_what_is_not_there() {
    let bench = Bench::new();
    bench.pair("a");
    assert_eq!(
        bench
            .call("PATCH", PROFILE, &json!({"sniDefault": "true"}))
            .0,
        200
    );
    let shown = bench.profile();
    assert_eq!(
        (&shown["sniDefault"], &shown["cert"]),
        (&json!("true"), &json!("/Common/default.crt"))
    );
    for bad in [
        json!({"cert": "/Common/no"}),
        json!({"chain": "/Common/no"}),
        json!({"cert": "/Common/a-cert"}),
        json!([]),
    ] {
        assert_eq!(bench.call("PATCH", PROFILE, &bad).0, 400, "{bad}");
    }
    assert_eq!(bench.profile(), shown);
    assert_eq!(
        bench
            .call("GET", &PROFILE.replace("web", "no"), &Value::Null)
            .0,
        404
    );
    let pairs =
        json!({"certKeyChain": [{"name": "x", "cert": "/Common/a-cert", "key": "/Common/a-key"}]});
    assert_eq!(
        bench.call("PATCH", PROFILE, &pairs).1["cert"],
        "/Common/a-cert"
    );
}

#[test]
fn what_is_in_use_stays() {
    let bench = Bench::new();
    bench.pair("a");
    let delete = |path: &str, name: &str| {
        bench
            .call("DELETE", &format!("{path}/~Common~{name}"), &Value::Null)
            .0
    };
    assert_eq!(
        bench
            .call("PATCH", PROFILE, &references("a-cert", "a-key"))
            .0,
        200
    );
    assert_eq!((delete(CERTS, "a-cert"), delete(KEYS, "a-key")), (400, 400));
    assert_eq!(
        (delete(CERTS, "default.crt"), delete(KEYS, "default.key")),
        (200, 200)
    );
    assert_eq!(
        (delete(CERTS, "default.crt"), delete(KEYS, "default.key")),
        (404, 404)
    );
    let names: Vec<Value> = bench.call("GET", CERTS, &Value::Null).1["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["name"].clone())
        .collect();
    assert_eq!(names, ["a-cert"]);
}

#[test]
fn uploaded_files_can_be_removed_and_nothing_else() {
    let bench = Bench::new();
    bench.upload("a", "text");
    let remove = |path: &str| {
        bench
            .call(
                "POST",
                "/mgmt/tm/util/unix-rm",
                &json!({"command": "run", "utilCmdArgs": path}),
            )
            .1
    };
    assert!(remove("/var/config/rest/downloads/a")["commandResult"].is_null());
    for path in ["/var/config/rest/downloads/a", "/etc/passwd"] {
        assert!(
            remove(path)["commandResult"]
                .as_str()
                .unwrap()
                .contains("No such file")
        );
    }
    assert_eq!(
        bench.send("GET", "/healthz", &[], b""),
        (200, json!("ok\n"))
    );
    assert_eq!(
        bench.call("GET", "/mgmt/tm/unknown", &Value::Null).0,
        StatusCode::NOT_FOUND.as_u16()
    );
}
