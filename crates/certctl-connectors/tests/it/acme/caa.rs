//! CAA: the way up the names (RFC 8659 §3), and what the verdict comes to for whoever asked.

use certctl_connectors::acme::Caa;
use certctl_domain::{
    acme::{ChallengeType, Problem, ProblemType},
    ports::challenge::{CaaChecker as _, CaaRequest},
};
use hickory_proto::{
    op::ResponseCode,
    rr::{RecordType, rdata::CAA},
};

use super::{
    SHORT, assert_refused, config,
    dns_server::{DnsServer, Reply, alias_record, text_record},
};

async fn check(dns: &DnsServer, name: &str, wildcard: bool) -> Result<(), Problem> {
    let request = CaaRequest {
        name: name.to_owned(),
        wildcard,
        account_uri: "https://ca.example/acme/account/1".to_owned(),
        method: ChallengeType::Http01,
    };
    Caa::new(&config(dns), &["ca.example".to_owned()])
        .check(&request)
        .await
}

fn asked(dns: &DnsServer, names: &[&str]) -> Vec<usize> {
    names
        .iter()
        .map(|name| dns.asked(name, RecordType::CAA))
        .collect()
}

#[tokio::test]
async fn names_without_records_are_free() {
    let dns = DnsServer::start().await;
    check(&dns, "a.b.example", false).await.unwrap();
    assert_eq!(
        asked(&dns, &["a.b.example", "b.example", "example"]),
        [1; 3]
    );
    assert_eq!(dns.questions(), 3);
}

#[tokio::test]
async fn the_nearest_records_count_and_no_others() {
    let dns = DnsServer::start().await;
    dns.set_caa("example", &[(0, "issue", "stranger.example")]);
    assert_refused(
        &check(&dns, "a.b.example", false).await,
        ProblemType::Caa,
        "CAA records of example do not allow",
    );
    dns.set_caa("b.example", &[(0, "issue", "ca.example")]);
    check(&dns, "a.b.example", false).await.unwrap();
    dns.set_caa("a.b.example", &[(0, "issue", ";")]);
    assert_refused(
        &check(&dns, "a.b.example", false).await,
        ProblemType::Caa,
        "CAA records of a.b.example do not allow",
    );
    check(&dns, "c.b.example", false).await.unwrap();
}

#[tokio::test]
async fn records_that_restrict_nothing_end_the_way_as_well() {
    let dns = DnsServer::start().await;
    dns.set_caa("example", &[(0, "issue", ";")]);
    dns.set_caa("b.example", &[(0, "iodef", "mailto:a@b.example")]);
    check(&dns, "a.b.example", false).await.unwrap();
    assert_eq!(asked(&dns, &["b.example", "example"]), [1, 0]);
}

#[tokio::test]
async fn a_wildcard_is_asked_for_by_its_own_property() {
    let dns = DnsServer::start().await;
    dns.set_caa(
        "b.example",
        &[(0, "issue", "ca.example"), (0, "issuewild", ";")],
    );
    check(&dns, "b.example", false).await.unwrap();
    assert_refused(
        &check(&dns, "b.example", true).await,
        ProblemType::Caa,
        "do not allow this server to issue",
    );
}

#[tokio::test]
async fn accounts_and_methods_are_said_to_be_why() {
    let dns = DnsServer::start().await;
    let value = "ca.example; validationmethods=dns-01";
    dns.set_caa("b.example", &[(0, "issue", value)]);
    assert_refused(
        &check(&dns, "b.example", false).await,
        ProblemType::Caa,
        "not to this account by this challenge",
    );
    let value =
        "ca.example; validationmethods=http-01; accounturi=https://ca.example/acme/account/1";
    dns.set_caa("b.example", &[(0, "issue", value)]);
    check(&dns, "b.example", false).await.unwrap();
}

#[tokio::test]
async fn an_alias_has_the_records_of_its_target() {
    let dns = DnsServer::start().await;
    let mut record = CAA::new_issue(false, None, Vec::new());
    record.value = b"stranger.example".to_vec();
    let records = vec![
        ("a.example".to_owned(), alias_record("b.example.net")),
        (
            "b.example.net".to_owned(),
            hickory_proto::rr::RData::CAA(record),
        ),
    ];
    dns.script("a.example", RecordType::CAA, vec![Reply::Records(records)]);
    assert!(check(&dns, "a.example", false).await.is_err());
    // An alias without records: the parents of the name are asked, not those of its target (RFC 8659 §3).
    let records = vec![("a.example".to_owned(), alias_record("b.example.net"))];
    dns.script("a.example", RecordType::CAA, vec![Reply::Records(records)]);
    dns.set_caa("example.net", &[(0, "issue", ";")]);
    check(&dns, "a.example", false).await.unwrap();
    assert_eq!(asked(&dns, &["example", "example.net"]), [1, 0]);
}

#[tokio::test]
async fn records_that_cannot_be_read_are_no_permission() {
    let dns = DnsServer::start().await;
    for code in [ResponseCode::ServFail, ResponseCode::Refused] {
        dns.script("b.example", RecordType::CAA, vec![Reply::Code(code)]);
        assert_refused(
            &check(&dns, "a.b.example", false).await,
            ProblemType::Dns,
            "cannot be looked up",
        );
    }
    let mut config = config(&dns);
    config.limits.total = SHORT;
    dns.script("b.example", RecordType::CAA, vec![Reply::Silence]);
    let request = CaaRequest {
        name: "b.example".to_owned(),
        wildcard: false,
        account_uri: String::new(),
        method: ChallengeType::Dns01,
    };
    let result = Caa::new(&config, &[]).check(&request).await;
    assert_refused(&result, ProblemType::Dns, "took too long");
}

#[tokio::test]
async fn a_record_of_another_type_is_none() {
    let dns = DnsServer::start().await;
    let text = text_record(&["0 issue \";\""]);
    dns.set("b.example", RecordType::CAA, vec![text]);
    check(&dns, "b.example", false).await.unwrap();
}
