//! Revocation lists and OCSP as verifiers fetch them; what they say is tested where it is made.

use std::time::Duration;

use axum::body::Body;
use certctl_testkit::{TestDb, db_tests};
use serde_json::{Value, json};

use crate::{
    nouns::{NounApi, VIEWER_KEY},
    support::{Answer, request},
};

const CRL: &str = "/.well-known/pki/crl/iss-local";
const OCSP: &str = "/.well-known/pki/ocsp/iss-local";

async fn send(
    api: &NounApi,
    method: &str,
    path: &str,
    header: (&str, &str),
    body: &[u8],
) -> Answer {
    let request = request(method, path, "").header(header.0, header.1);
    api.send(request.body(Body::from(body.to_vec())).unwrap())
        .await
}

/// The status of an OCSP response, which is its first field.
fn response_status(answer: &Answer) -> u8 {
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("application/ocsp-response")),
        "{answer:?}"
    );
    let at = answer
        .body
        .windows(2)
        .position(|window| window == [0x0a, 0x01])
        .unwrap();
    answer.body[at + 2]
}

db_tests! {
    async fn a_list_is_served_to_anyone_and_to_caches(db: TestDb) {
        db.seed_basics().await;
        let api = NounApi::new(db).await;
        let first = send(&api, "GET", CRL, ("accept", "*/*"), b"").await;
        assert_eq!((first.status, first.header("content-type")), (200, Some("application/pkix-crl")));
        assert_eq!(first.header("cache-control"), Some("public, max-age=3600, must-revalidate"));
        assert_eq!(first.header("last-modified"), Some("Mon, 01 Jun 2026 00:00:00 GMT"));
        assert_eq!(first.header("expires"), Some("Tue, 02 Jun 2026 00:00:00 GMT"));
        let tag = first.header("etag").unwrap();
        assert!(tag.starts_with("W/\"") && tag.len() == 36, "{tag}");
        for held in [tag, &tag[2..], "*", &format!("\"other\", {tag}")] {
            let again = send(&api, "GET", CRL, ("if-none-match", held), b"").await;
            assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(tag)), "{held}");
        }
        let head = send(&api, "HEAD", CRL, ("if-none-match", "\"other\""), b"").await;
        assert_eq!((head.status, head.header("etag")), (200, Some(tag)));
        assert_eq!(head.header("content-length"), Some(&*first.body.len().to_string()));
        // Near its end it is kept for as long as it lives.
        api.db.clock().advance(Duration::from_secs(24 * 3600 - 60));
        let late = send(&api, "GET", CRL, ("accept", "*/*"), b"").await;
        assert_eq!(late.header("cache-control"), Some("public, max-age=60, must-revalidate"));

        for path in ["/.well-known/pki/crl/iss-gone", "/.well-known/pki/crl/iss-local/1-of-4", "/.well-known/pki/crl/iss-local/x"] {
            assert_eq!(send(&api, "GET", path, ("accept", "*/*"), b"").await.status, 404, "{path}");
        }
        api.db.execute("INSERT INTO issuers (id, name, type, config) VALUES ('iss-acme', 'acme', 'ACME', '{}')").await.unwrap();
        for path in ["/.well-known/pki/crl/iss-acme", "/.well-known/pki/ocsp/iss-acme/ab"] {
            let refused = send(&api, "GET", path, ("accept", "*/*"), b"").await;
            assert_eq!((refused.status, refused.json()["error"].as_str().unwrap()), (501, "Not Implemented"));
        }
    }

    async fn questions_come_in_a_path_or_in_a_body(db: TestDb) {
        db.seed_basics().await;
        let api = NounApi::new(db).await;
        let unknown = send(&api, "GET", &format!("{OCSP}/0AB"), ("accept", "*/*"), b"").await;
        assert_eq!((response_status(&unknown), unknown.header("cache-control")), (0, Some("no-store")));
        api.db.execute("INSERT INTO certificate_versions (id, certificate_id, issuer_id, serial_number, not_before, not_after, fingerprint_sha256, pem_chain) \
            SELECT 'cv', id, 'iss-local', 'ab', created_at, created_at, 'print', '' FROM managed_certificates").await.unwrap();
        let good = send(&api, "GET", &format!("{OCSP}/0AB"), ("accept", "*/*"), b"").await;
        assert_eq!((response_status(&good), good.header("cache-control")), (0, Some("public, max-age=3600")));
        assert_eq!(good.header("expires"), Some("Mon, 01 Jun 2026 01:00:00 GMT"));

        for content_type in ["application/ocsp-request", "application/ocsp-request; x=y", ""] {
            let unread = send(&api, "POST", OCSP, ("content-type", content_type), b"no request").await;
            assert_eq!(unread.status, 400, "{content_type}: {unread:?}");
        }
        assert_eq!(send(&api, "POST", OCSP, ("content-type", "application/json"), b"{}").await.status, 415);
        assert_eq!(send(&api, "POST", OCSP, ("content-type", "application/ocsp-request"), &[0x30; 64 * 1024 + 1]).await.status, 413);
        assert_eq!(send(&api, "GET", &format!("{OCSP}/nonsense"), ("accept", "*/*"), b"").await.status, 400);
        assert_eq!(send(&api, "POST", "/.well-known/pki/ocsp/iss-gone", ("accept", "*/*"), b"").await.status, 404);
        // A well-formed question about somebody else's certificate.
        let cert_id = [&[0x30, 0x14, 0x30, 0x09, 6, 5, 0x2b, 0x0e, 3, 2, 0x1a, 5, 0][..], &[4, 1, 0, 4, 1, 0, 2, 1], &[7]].concat();
        let wrapped = [0x30, 0x16].iter().chain(&cert_id).copied().collect::<Vec<_>>();
        let body = [&[0x30, 0x1c, 0x30, 0x1a, 0x30, 0x18][..], &wrapped].concat();
        let foreign = send(&api, "POST", OCSP, ("content-type", "application/ocsp-request"), &body).await;
        assert_eq!((response_status(&foreign), foreign.header("cache-control")), (6, Some("no-store")));
        for _ in 0..1000 {
            send(&api, "GET", &format!("{OCSP}/ab"), ("accept", "*/*"), b"").await;
        }
        let later = send(&api, "GET", &format!("{OCSP}/ab"), ("accept", "*/*"), b"").await;
        assert_eq!((response_status(&later), later.header("retry-after")), (3, Some("60")));
    }

    async fn administrators_see_how_lists_are_made(db: TestDb) {
        db.seed_basics().await;
        let api = NounApi::new(db).await;
        const PATH: &str = "/api/v1/admin/crl/cache";
        api.get(PATH).await.is(200, &json!({"cache_rows": [{"issuer_id": "iss-local", "cache_present": false, "is_stale": true, "recent_events": []}],
            "row_count": 1, "generated_at": crate::nouns::NOW}));
        api.services.generate_crls().await.unwrap();
        let shown = api.get(PATH).await.json();
        let row = &shown["cache_rows"][0];
        assert_eq!((&row["crl_number"], &row["revoked_count"], &row["is_stale"], &row["cache_present"]), (&json!(1), &json!(0), &json!(false), &json!(true)));
        assert_eq!(row["recent_events"][0]["succeeded"], json!(true));
        assert_eq!(api.call("GET", PATH, VIEWER_KEY, &Value::Null).await.status, 403);
    }
}
