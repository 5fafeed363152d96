//! What we make, read by the real `openssl` program, and what it makes, read by us.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use certctl_domain::{key::KeySpec, name::SubjectAltName, profile::ExtendedKeyUsage};
use certctl_pki::{
    Error,
    cert::{CaSigner, CertificateSpec, ParsedCertificate, PathLength},
    csr::{Csr, CsrBuilder},
    key::PrivateKey,
};

use super::{DAY, START, copy_of, dns, key, leaf_spec, root, serial};

/// Runs openssl in a folder and gives what it printed; anything but success is a failed test.
pub(crate) fn openssl(folder: &Path, arguments: &[&str]) -> String {
    let output = try_openssl(folder, arguments);
    assert!(
        output.status.success(),
        "openssl {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    // Some commands report on one stream, some on the other.
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

pub(crate) fn try_openssl(folder: &Path, arguments: &[&str]) -> Output {
    Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("this test runs the program `openssl`; install the package openssl")
}

fn names() -> Vec<SubjectAltName> {
    [
        "api.example.com",
        "*.example.com",
        "192.0.2.7",
        "2001:db8::1",
        "ops@example.com",
        "spiffe://example.com/api",
    ]
    .iter()
    .map(|name| SubjectAltName::parse(name).unwrap())
    .collect()
}

const AT: &str = "1790003600";

#[test]
fn keys_requests_and_certificates_of_every_kind_satisfy_openssl() {
    for spec in KeySpec::ALL {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let ca = root(*spec);
        let key = key(*spec);
        let sans = names();
        let request = CsrBuilder::new("api.example.com")
            .sans(sans.clone())
            .must_staple(true)
            .sign_pem(key)
            .unwrap();
        let serial = serial(7);
        let urls = ["http://crl.example.com/ca.crl".to_owned()];
        let ocsp = ["http://ocsp.example.com".to_owned()];
        let leaf = ca
            .sign(&CertificateSpec {
                must_staple: true,
                crl_urls: &urls,
                ocsp_urls: &ocsp,
                ..leaf_spec("api.example.com", &sans, key, &serial)
            })
            .unwrap();
        fs::write(folder.join("key.pem"), key.to_pem().expose()).unwrap();
        fs::write(folder.join("req.pem"), request).unwrap();
        fs::write(folder.join("ca.pem"), ca.certificate().to_pem()).unwrap();
        fs::write(folder.join("leaf.pem"), leaf.to_pem()).unwrap();

        // Ed25519 keys cannot be checked by OpenSSL 3.0, only read.
        let check: &[&str] = if *spec == KeySpec::Ed25519 {
            &["pkey", "-in", "key.pem", "-noout"]
        } else {
            &["pkey", "-in", "key.pem", "-check", "-noout"]
        };
        openssl(folder, check);
        assert!(openssl(folder, &["req", "-in", "req.pem", "-verify", "-noout"]).contains("OK"));
        let verify = ["verify", "-x509_strict", "-CAfile", "ca.pem", "-attime", AT];
        for purpose in ["sslserver", "sslclient"] {
            let purpose = [
                "-purpose",
                purpose,
                "-verify_hostname",
                "api.example.com",
                "leaf.pem",
            ];
            let said = openssl(folder, &[&verify[..], &purpose].concat());
            assert!(said.contains("leaf.pem: OK"), "{spec}: {said}");
        }
        assert_eq!(
            openssl(folder, &["x509", "-in", "leaf.pem", "-noout", "-pubkey"]),
            openssl(folder, &["pkey", "-in", "key.pem", "-pubout"])
        );
        assert_text(
            *spec,
            &openssl(folder, &["x509", "-in", "leaf.pem", "-noout", "-text"]),
        );
    }
}

/// What `openssl x509 -text` must show of the leaf above.
fn assert_text(spec: KeySpec, text: &str) {
    let has = |needle: &str| assert!(text.contains(needle), "{spec}: no {needle:?} in\n{text}");
    has("Version: 3");
    has("CN = api.example.com");
    has(
        "DNS:api.example.com, DNS:*.example.com, IP Address:192.0.2.7, IP Address:2001:DB8:0:0:0:0:0:1",
    );
    has("email:ops@example.com, URI:spiffe://example.com/api");
    has("TLS Web Server Authentication, TLS Web Client Authentication");
    has("TLS Feature: \n                status_request");
    has("URI:http://crl.example.com/ca.crl");
    has("OCSP - URI:http://ocsp.example.com");
    has("X509v3 Basic Constraints: critical\n                CA:FALSE");
    has("X509v3 Subject Key Identifier");
    has("X509v3 Authority Key Identifier");
    has(
        if spec.algorithm() == certctl_domain::key::KeyAlgorithm::Rsa {
            "X509v3 Key Usage: critical\n                Digital Signature, Key Encipherment\n"
        } else {
            "X509v3 Key Usage: critical\n                Digital Signature\n"
        },
    );
}

#[test]
fn a_chain_through_an_intermediate_satisfies_openssl() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let top = root(KeySpec::EcdsaP384);
    let middle_serial = serial(2);
    let middle = top
        .sign(&CertificateSpec {
            common_name: "Test Issuing CA",
            sans: &[],
            not_after: START + 1000 * DAY,
            ekus: &[],
            ca: Some(PathLength::AtMost(0)),
            ..leaf_spec("", &[], key(KeySpec::Rsa2048), &middle_serial)
        })
        .unwrap();
    let middle = ParsedCertificate::from_der(middle.der()).unwrap();
    assert_eq!(middle.path_length(), Some(0));
    middle.verify_signed_by(top.certificate()).unwrap();
    let issuing = CaSigner::new(middle, copy_of(KeySpec::Rsa2048)).unwrap();
    let sans = [dns("deep.example.com")];
    let leaf_serial = serial(3);
    let leaf = issuing
        .sign(&leaf_spec(
            "deep.example.com",
            &sans,
            key(KeySpec::EcdsaP256),
            &leaf_serial,
        ))
        .unwrap();
    fs::write(folder.join("ca.pem"), top.certificate().to_pem()).unwrap();
    fs::write(folder.join("mid.pem"), issuing.certificate().to_pem()).unwrap();
    fs::write(folder.join("leaf.pem"), leaf.to_pem()).unwrap();
    let verify = ["verify", "-x509_strict", "-CAfile", "ca.pem", "-attime", AT];
    openssl(
        folder,
        &[&verify[..], &["-untrusted", "mid.pem", "leaf.pem"]].concat(),
    );
    // Without the intermediate it must not verify, or the test above says nothing.
    assert!(
        !try_openssl(folder, &[&verify[..], &["leaf.pem"]].concat())
            .status
            .success()
    );
}

#[test]
fn an_empty_subject_satisfies_openssl_and_keeps_its_names() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let ca = root(KeySpec::EcdsaP256);
    let long = format!("{}.example.com", "a".repeat(60));
    let sans = [dns(&long)];
    let serial = serial(4);
    let leaf = ca
        .sign(&leaf_spec(&long, &sans, key(KeySpec::EcdsaP256), &serial))
        .unwrap();
    fs::write(folder.join("ca.pem"), ca.certificate().to_pem()).unwrap();
    fs::write(folder.join("leaf.pem"), leaf.to_pem()).unwrap();
    openssl(
        folder,
        &[
            "verify",
            "-x509_strict",
            "-CAfile",
            "ca.pem",
            "-attime",
            AT,
            "-verify_hostname",
            &long,
            "leaf.pem",
        ],
    );
    let text = openssl(folder, &["x509", "-in", "leaf.pem", "-noout", "-text"]);
    assert!(
        text.contains("X509v3 Subject Alternative Name: critical"),
        "{text}"
    );
    assert_eq!(
        ParsedCertificate::from_der(leaf.der())
            .unwrap()
            .common_name(),
        None
    );
}

#[test]
fn keys_that_openssl_writes_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (spec, options) in [
        (
            KeySpec::EcdsaP256,
            &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"][..],
        ),
        (
            KeySpec::EcdsaP384,
            &["EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
        ),
        (
            KeySpec::Rsa2048,
            &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        ),
        (
            KeySpec::Rsa3072,
            &["RSA", "-pkeyopt", "rsa_keygen_bits:3072"],
        ),
        (KeySpec::Ed25519, &["ED25519"]),
    ] {
        openssl(
            folder,
            &[&["genpkey", "-out", "p8.pem", "-algorithm"], options].concat(),
        );
        // Ed25519 has no form older than PKCS#8.
        let form = if spec == KeySpec::Ed25519 {
            "-text"
        } else {
            "-traditional"
        };
        openssl(folder, &["pkey", "-in", "p8.pem", form, "-out", "old.pem"]);
        let spki = openssl(folder, &["pkey", "-in", "p8.pem", "-pubout"]);
        let spki = certctl_pki::pem::decode_all(&spki).unwrap().remove(0).der;
        for file in ["p8.pem", "old.pem"] {
            let text = fs::read_to_string(folder.join(file)).unwrap();
            let key = PrivateKey::from_pem(&text).unwrap();
            assert_eq!((key.spec(), key.spki_der()), (spec, &spki[..]), "{file}");
        }
    }
    openssl(
        folder,
        &["ecparam", "-name", "secp256k1", "-genkey", "-out", "k1.pem"],
    );
    let text = fs::read_to_string(folder.join("k1.pem")).unwrap();
    assert!(matches!(
        PrivateKey::from_pem(&text),
        Err(Error::UnsupportedKey { .. })
    ));
    openssl(
        folder,
        &[
            "genpkey",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:1024",
            "-out",
            "small.pem",
        ],
    );
    let text = fs::read_to_string(folder.join("small.pem")).unwrap();
    assert!(matches!(
        PrivateKey::from_pem(&text),
        Err(Error::UnsupportedKey { .. })
    ));
}

#[test]
fn requests_that_openssl_writes_are_read_or_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let request = |key: &[&str], rest: &[&str]| {
        openssl(
            folder,
            &[
                &["req", "-new", "-nodes", "-keyout", "k.pem", "-out", "r.pem"],
                key,
                rest,
            ]
            .concat(),
        );
        Csr::parse_pem(&fs::read_to_string(folder.join("r.pem")).unwrap())
    };
    let p256 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let csr = request(
        &p256,
        &[
            "-subj",
            "/C=DE/O=Example/CN=api.example.com",
            "-addext",
            "subjectAltName=DNS:API.example.com,IP:192.0.2.7,email:ops@example.com,URI:spiffe://example.com/api",
            "-addext",
            "tlsfeature=status_request",
        ],
    )
    .unwrap();
    assert_eq!(csr.common_name(), Some("api.example.com"));
    assert_eq!(csr.sans().len(), 4);
    assert_eq!(csr.sans()[0], dns("api.example.com"));
    assert!(csr.must_staple());

    for digest in ["-sha384", "-sha512"] {
        request(
            &["-newkey", "rsa:2048", digest],
            &["-subj", "/CN=a.example"],
        )
        .unwrap();
    }
    let weak = request(&["-newkey", "rsa:1024"], &["-subj", "/CN=a.example"]);
    assert!(matches!(weak, Err(Error::WeakKey { .. })), "{weak:?}");
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"];
    let unsupported = request(&curve, &["-subj", "/CN=a.example"]);
    assert!(
        matches!(unsupported, Err(Error::UnsupportedKey { .. })),
        "{unsupported:?}"
    );
    let sha1 = request(
        &["-newkey", "rsa:2048", "-sha1"],
        &["-subj", "/CN=a.example"],
    );
    assert!(
        matches!(sha1, Err(Error::UnsupportedSignature { .. })),
        "{sha1:?}"
    );
    let deceptive = request(&p256, &["-utf8", "-subj", "/CN=p\u{430}ypal.com"]);
    assert!(
        matches!(deceptive, Err(Error::DeceptiveName { .. })),
        "{deceptive:?}"
    );
    for odd in [
        "DNS:192.0.2.7",
        "DNS:a b",
        "otherName:1.2.3.4;UTF8:x",
        "RID:1.2.3.4",
    ] {
        let names = format!("subjectAltName={odd}");
        let refused = request(&p256, &["-subj", "/CN=a.example", "-addext", &names]);
        assert!(
            matches!(refused, Err(Error::BadName { .. })),
            "{odd}: {refused:?}"
        );
    }
}

#[test]
fn certificates_that_openssl_writes_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    openssl(
        folder,
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-521",
            "-nodes",
            "-keyout",
            "k.pem",
            "-out",
            "c.pem",
            "-days",
            "36500",
            "-subj",
            "/O=Example, Inc./CN=Old Root",
            "-set_serial",
            "0x0a1b",
        ],
    );
    let text = fs::read_to_string(folder.join("c.pem")).unwrap();
    let certificate = ParsedCertificate::from_pem(&text).unwrap();
    assert_eq!(certificate.serial().as_str(), "a1b");
    assert_eq!(certificate.common_name(), Some("Old Root"));
    assert_eq!(certificate.subject(), r"CN=Old Root,O=Example\, Inc.");
    assert!(certificate.is_ca());
    assert_eq!(certificate.key_algorithm(), None);
    assert!(certificate.not_after() > START + 30_000 * DAY);
    let shown = openssl(
        folder,
        &["x509", "-in", "c.pem", "-noout", "-fingerprint", "-sha256"],
    );
    let shown = shown
        .trim()
        .rsplit('=')
        .next()
        .unwrap()
        .replace(':', "")
        .to_lowercase();
    assert_eq!(certificate.fingerprint_sha256(), shown);
    assert!(matches!(
        certificate.verify_signed_by(&certificate),
        Err(Error::UnsupportedSignature { .. } | Error::UnsupportedKey { .. })
    ));
}

#[test]
fn every_extended_key_usage_is_what_openssl_calls_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let ca = root(KeySpec::EcdsaP256);
    let sans = [SubjectAltName::Email("ops@example.com".to_owned())];
    let serial = serial(5);
    let leaf = ca
        .sign(&CertificateSpec {
            ekus: ExtendedKeyUsage::ALL,
            ..leaf_spec("ops@example.com", &sans, key(KeySpec::EcdsaP256), &serial)
        })
        .unwrap();
    fs::write(folder.join("leaf.pem"), leaf.to_pem()).unwrap();
    let text = openssl(folder, &["x509", "-in", "leaf.pem", "-noout", "-text"]);
    assert!(
        text.contains(
            "TLS Web Server Authentication, TLS Web Client Authentication, Code Signing, E-mail Protection, Time Stamping"
        ),
        "{text}"
    );
    assert!(
        text.contains("Digital Signature, Non Repudiation\n"),
        "{text}"
    );
}
