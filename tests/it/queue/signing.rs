//! Signatures of landed commits.

use super::QueueSandbox;

/// Makes a program the signer of the repository's git.
fn signer(queue: &QueueSandbox, body: &str) {
    let path = queue.sandbox.sign("signer");
    std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, mode).unwrap();
    queue.sandbox.git(&["config", "gpg.program", path.to_str().unwrap()]);
}

/// A signer that counts its calls.
const GOOD: &str = "cat >/dev/null; echo call >>\"$HOME/calls\"\n\
                    printf '\\n[GNUPG:] SIG_CREATED D\\n' >&2\n\
                    printf -- '-----BEGIN PGP SIGNATURE-----\\n\\nfake\\n-----END PGP SIGNATURE-----\\n'";

fn is_signed(queue: &QueueSandbox, commit: &str) -> bool {
    queue.sandbox.git(&["cat-file", "commit", commit]).contains("\ngpgsig")
}

#[test]
fn landed_commits_are_signed_as_the_configuration_says() {
    for (keys, config, signed) in [
        ("", "true", true),
        ("sign = \"config\"", "false", false),
        ("sign = true", "false", true),
        ("sign = false", "true", false),
    ] {
        let queue = QueueSandbox::new(keys);
        signer(&queue, GOOD);
        let names = queue.good(3);
        queue.sandbox.git(&["config", "commit.gpgSign", config]);
        queue.add(&names.iter().map(String::as_str).collect::<Vec<_>>());
        queue.sandbox.run(&["queue", "run"]).exits(0);
        assert_eq!(queue.landed(), ["b0", "b1", "b2"]);
        for commit in ["main", "main~1", "main~2"] {
            assert_eq!(is_signed(&queue, commit), signed, "{keys} {config} {commit}");
        }
        let author = queue.sandbox.git(&["log", "-1", "--format=%an <%ae> %s", "main"]);
        assert_eq!(author, "A User <user@example.com> work of b2");
        let calls = std::fs::read_to_string(queue.sandbox.sign("calls")).unwrap_or_default();
        assert_eq!(calls.lines().count(), if signed { 3 } else { 0 });
        queue.holds();
        queue.left_alone();
    }
}

#[test]
fn signer_that_fails_holds_the_landing_with_its_words() {
    let queue = QueueSandbox::new("sign = true");
    queue.good(1);
    queue.add(&["b0"]);
    signer(&queue, "echo 'no pinentry on this machine' >&2; exit 2");
    let held = queue.sandbox.run(&["queue", "run"]).exits(3);
    let reason = "landing waits: `b0` cannot be signed: the signer failed: no pinentry on this \
                  machine; repair the signer, or set `sign = false` in [queue]";
    held.says(reason);
    queue.sandbox.run(&["queue", "list"]).exits(0).says(reason);
    assert!(queue.landed().is_empty());
    assert_eq!(queue.states()["b0"], "queued");
    let runs = queue.runs();
    signer(&queue, GOOD);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(queue.landed(), ["b0"]);
    assert_eq!(queue.runs(), runs, "what was verified is not verified again");
    assert!(is_signed(&queue, "main"));
    queue.holds();
}

#[test]
fn signature_by_an_ssh_key_is_valid() {
    let queue = QueueSandbox::new("sign = true\nmerge = \"merge\"");
    let sandbox = &queue.sandbox;
    let key = sandbox.sign("key");
    let key = key.to_str().unwrap();
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f", key])
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no ssh-keygen");
        return;
    }
    let public = std::fs::read_to_string(format!("{key}.pub")).unwrap();
    let allowed = sandbox.sign("allowed");
    std::fs::write(&allowed, format!("user@example.com {public}")).unwrap();
    for (name, value) in [
        ("gpg.format", "ssh"),
        ("user.signingKey", &format!("{key}.pub")),
        ("gpg.ssh.allowedSignersFile", allowed.to_str().unwrap()),
        ("user.name", "A User"),
        ("user.email", "user@example.com"),
    ] {
        sandbox.git(&["config", name, value]);
    }
    let names = queue.good(2);
    queue.add(&names.iter().map(String::as_str).collect::<Vec<_>>());
    sandbox.run(&["queue", "run"]).exits(0);
    sandbox.git(&["verify-commit", "main", "main~1"]);
    assert_eq!(sandbox.git(&["rev-list", "--count", "--merges", "main"]), "2");
    queue.holds();
}
