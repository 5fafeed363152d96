//! A PKCS#12 trust store, read by the real `openssl`, and by Java's `keytool` where that is installed.

use std::{fs, path::Path, process::Command};

use certctl_domain::key::KeySpec;
use certctl_pki::{pem, pkcs12};

use super::{dns, key, leaf_spec, root, serial};

/// Standard output and error of a program that must succeed.
fn run(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap_or_else(|_| panic!("this test runs the program `{program}`; install it"));
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    said
}

#[test]
fn openssl_and_java_read_the_certificates_and_find_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let ca = root(KeySpec::EcdsaP256);
    let (names, number) = ([dns("api.example.test")], serial(7));
    let spec = leaf_spec("api.example.test", &names, key(KeySpec::EcdsaP384), &number);
    let leaf = ca.sign(&spec).unwrap();
    let chain = vec![leaf.der().to_vec(), ca.certificate().der().to_vec()];
    for password in ["", "a pässword", "a password"] {
        let store = pkcs12::trust_store(&chain, password).unwrap();
        fs::write(folder.path().join("store.p12"), store).unwrap();
        let given = format!("pass:{password}");
        let arguments = ["pkcs12", "-info", "-in", "store.p12", "-passin", &given];
        let said = run(folder.path(), "openssl", &arguments);
        for sign in ["MAC: sha256", "PBES2", "AES-256-CBC", "hmacWithSHA256"] {
            assert!(said.contains(sign), "{sign}: {said}");
        }
        assert!(
            !said.contains("PRIVATE KEY") && !said.contains("Shrouded"),
            "{said}"
        );
        let mut read = pem::decode_certificates(&said).unwrap();
        read.sort();
        let mut made = chain.clone();
        made.sort();
        assert_eq!(read, made);
        let refused = Command::new("openssl")
            .args([
                "pkcs12",
                "-in",
                "store.p12",
                "-nokeys",
                "-passin",
                "pass:wrong",
            ])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(!refused.status.success(), "another password opens nothing");
        // Java takes no store without a password by itself, and no letters that the locale of the test does not have.
        if password == "a password" && Command::new("keytool").arg("-help").output().is_ok() {
            let arguments = [
                "-list",
                "-keystore",
                "store.p12",
                "-storetype",
                "PKCS12",
                "-storepass",
                password,
            ];
            let listed = run(folder.path(), "keytool", &arguments);
            assert_eq!(listed.matches("trustedCertEntry").count(), 2, "{listed}");
        }
    }
    assert!(pkcs12::trust_store(&[b"no certificate".to_vec()], "").is_err());
}
