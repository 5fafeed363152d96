//! `dns-01`: RFC 8555 §8.4, and what resolvers do.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use certctl_domain::acme::{ChallengeType, Identifier, Problem, ProblemType};
use hickory_proto::{op::ResponseCode, rr::RecordType};
use ring::digest;

use super::{
    KEY_AUTHORIZATION, SHORT, assert_refused, config,
    dns_server::{By, DnsServer, Reply, alias_record, text_record},
    prove, prove_for,
};

const OWNER: &str = "_acme-challenge.www.example.com";

/// What the record has to hold.
fn digest() -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(
        &digest::SHA256,
        KEY_AUTHORIZATION.as_bytes(),
    ))
}

async fn look(dns: &DnsServer) -> Result<(), Problem> {
    prove(&config(dns), ChallengeType::Dns01).await
}

#[tokio::test]
async fn the_digest_proves_control() {
    let dns = DnsServer::start().await;
    dns.set_texts(OWNER, &[&digest()]);
    look(&dns).await.unwrap();
    assert_eq!(dns.ways(OWNER, RecordType::TXT), [By::Udp]);
    assert_eq!(dns.questions(), 1);
}

#[tokio::test]
async fn a_wildcard_is_proved_below_its_star() {
    let dns = DnsServer::start().await;
    dns.set_texts("_acme-challenge.example.com", &[&digest()]);
    let star = Identifier::dns("*.example.com").unwrap();
    prove_for(&config(&dns), ChallengeType::Dns01, star)
        .await
        .unwrap();
}

#[tokio::test]
async fn one_record_of_many_is_enough() {
    let dns = DnsServer::start().await;
    let digest = digest();
    let other = "x".repeat(43);
    for texts in [
        vec![digest.as_str(), &other],
        vec![&other, &digest],
        vec!["v=spf1 -all", "", &other, &digest, &digest],
    ] {
        dns.set_texts(OWNER, &texts);
        look(&dns).await.unwrap();
    }
}

#[tokio::test]
async fn the_strings_of_a_record_belong_together() {
    let dns = DnsServer::start().await;
    let digest = digest();
    let (start, end) = digest.split_at(20);
    dns.set(OWNER, RecordType::TXT, vec![text_record(&[start, end])]);
    look(&dns).await.unwrap();
    // Two records are not two strings.
    dns.set_texts(OWNER, &[start, end]);
    assert_refused(
        &look(&dns).await,
        ProblemType::IncorrectResponse,
        "none of the TXT records",
    );
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_fetched_by_tcp() {
    let dns = DnsServer::start().await;
    let mut texts: Vec<String> = (0..300).map(|at| format!("{at:0>60}")).collect();
    texts.push(digest());
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    dns.set_texts(OWNER, &texts);
    look(&dns).await.unwrap();
    assert_eq!(dns.ways(OWNER, RecordType::TXT), [By::Udp, By::Tcp]);
}

#[tokio::test]
async fn an_alias_leads_to_the_record() {
    let dns = DnsServer::start().await;
    let records = vec![
        (OWNER.to_owned(), alias_record("validation.example.net")),
        (
            "validation.example.net".to_owned(),
            text_record(&[&digest()]),
        ),
    ];
    dns.script(OWNER, RecordType::TXT, vec![Reply::Records(records)]);
    look(&dns).await.unwrap();
}

#[tokio::test]
async fn a_record_of_another_name_proves_nothing() {
    let dns = DnsServer::start().await;
    let records = vec![("other.example".to_owned(), text_record(&[&digest()]))];
    dns.script(OWNER, RecordType::TXT, vec![Reply::Records(records)]);
    assert_refused(&look(&dns).await, ProblemType::Dns, "no TXT record at");
}

#[tokio::test]
async fn another_digest_is_an_incorrect_response() {
    let dns = DnsServer::start().await;
    let digest = digest();
    for wrong in [
        digest.to_lowercase(),
        format!("{digest}="),
        format!(" {digest}"),
        format!("\"{digest}\""),
        digest[..42].to_owned(),
        KEY_AUTHORIZATION.to_owned(),
        String::new(),
    ] {
        dns.set_texts(OWNER, &[&wrong]);
        assert_refused(
            &look(&dns).await,
            ProblemType::IncorrectResponse,
            "none of the TXT records",
        );
    }
}

#[tokio::test]
async fn no_record_is_a_problem_of_dns() {
    let dns = DnsServer::start().await;
    assert_refused(&look(&dns).await, ProblemType::Dns, OWNER);
    dns.set_texts(OWNER, &[]);
    assert_refused(&look(&dns).await, ProblemType::Dns, "no TXT record at");
    for (code, part) in [
        (ResponseCode::ServFail, "Server Failure"),
        (ResponseCode::Refused, "Refused"),
        (ResponseCode::FormErr, "Form"),
    ] {
        dns.script(OWNER, RecordType::TXT, vec![Reply::Code(code)]);
        assert_refused(&look(&dns).await, ProblemType::Dns, part);
    }
}

#[tokio::test]
async fn a_lost_datagram_is_sent_again_and_then_by_tcp() {
    let dns = DnsServer::start().await;
    let mut config = config(&dns);
    // Twice this passes; the third attempt has it, too, to be answered on a busy machine.
    config.limits.query = 10 * SHORT;
    let right = || Reply::Records(vec![(OWNER.to_owned(), text_record(&[&digest()]))]);
    dns.script(
        OWNER,
        RecordType::TXT,
        vec![Reply::Silence, Reply::Silence, right()],
    );
    prove(&config, ChallengeType::Dns01).await.unwrap();
    assert_eq!(
        dns.ways(OWNER, RecordType::TXT),
        [By::Udp, By::Udp, By::Tcp]
    );
}

#[tokio::test]
async fn a_resolver_that_says_nothing_is_given_up() {
    let dns = DnsServer::start().await;
    dns.script(OWNER, RecordType::TXT, vec![Reply::Silence]);
    let mut short = config(&dns);
    short.limits.query = SHORT;
    let result = prove(&short, ChallengeType::Dns01).await;
    assert_refused(&result, ProblemType::Dns, "the resolver did not answer");
    assert_eq!(
        dns.ways(OWNER, RecordType::TXT),
        [By::Udp, By::Udp, By::Tcp]
    );

    let mut whole = config(&dns);
    whole.limits.total = SHORT;
    let result = prove(&whole, ChallengeType::Dns01).await;
    assert_refused(&result, ProblemType::Dns, "took too long");
}

#[tokio::test]
async fn nobody_at_the_resolvers_address_is_a_problem_of_dns() {
    let mut config = {
        let dns = DnsServer::start().await;
        config(&dns)
    };
    config.limits.query = 10 * SHORT;
    let result = prove(&config, ChallengeType::Dns01).await;
    assert_refused(&result, ProblemType::Dns, "the resolver did not answer");
}

#[tokio::test]
async fn answers_to_other_questions_are_not_heard() {
    let dns = DnsServer::start().await;
    let records = vec![(OWNER.to_owned(), text_record(&[&digest()]))];
    dns.script(OWNER, RecordType::TXT, vec![Reply::AfterStrangers(records)]);
    look(&dns).await.unwrap();
}

#[tokio::test]
async fn an_address_is_not_proved_by_dns() {
    let dns = DnsServer::start().await;
    let ip = Identifier::ip("192.0.2.1").unwrap();
    let result = prove_for(&config(&dns), ChallengeType::Dns01, ip).await;
    assert_refused(
        &result,
        ProblemType::Connection,
        "cannot be proved in this way",
    );
    assert_eq!(dns.questions(), 0);
}
