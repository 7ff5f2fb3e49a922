//! Receipts: checked, changed in every part, completed after the deadline.

use super::*;

/// A finished `nesa receipt verify`.
pub(crate) struct Verified(pub(crate) std::process::Output);

impl Verified {
    pub(crate) fn expect_success(self) -> Value {
        assert!(self.0.status.success(), "{}", show(&self.0));
        serde_json::from_slice(&self.0.stdout).expect("JSON")
    }

    pub(crate) fn expect_failure(self) -> Value {
        assert_eq!(self.0.status.code(), Some(1), "{}", show(&self.0));
        let json: Value = serde_json::from_slice(&self.0.stdout).expect("JSON");
        assert_eq!(json["valid"], false);
        for name in ["failed", "got", "expected"] {
            assert!(json[name].is_string(), "{json}");
        }
        json
    }
}

pub(crate) fn verify(network: &Network, file: &Path) -> Verified {
    let root = network.field("trust_root");
    Verified(network.nesa(["receipt", "verify", path(file), "--trust-root", root, "--json"]))
}

pub(crate) fn receipts(network: &Network, answer: &Value) {
    let payment = Path::new(answer["receipt"].as_str().expect("a path"));
    let opened = Path::new(answer["opened_receipt"].as_str().expect("a path"));
    let report = verify(network, payment).expect_success();
    assert!(report["does_not_show"].to_string().contains("the answer was right"));
    verify(network, opened).expect_success();

    let text = std::fs::read_to_string(payment).expect("readable");
    assert!(!text.contains(TEXT), "a payment receipt holds no prompt");
    let changed = network.root.join("changed.json");
    let digits: Vec<usize> = text
        .match_indices(|c: char| c.is_ascii_hexdigit())
        .map(|(at, _)| at)
        .filter(|at| text[..*at].rfind('"').is_some_and(|q| text[q..*at].len() > 40))
        .collect();
    for step in 1..=6 {
        let at = digits[digits.len() * step / 7];
        let mut bytes = text.clone().into_bytes();
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        std::fs::write(&changed, bytes).expect("written");
        verify(network, &changed).expect_failure();
    }

    let text = std::fs::read_to_string(opened).expect("readable");
    std::fs::write(&changed, text.replace("ninth of May", "tenth of May")).expect("written");
    let failure = verify(network, &changed).expect_failure();
    assert!(
        failure["failed"].as_str().is_some_and(|what| what.contains("commitment")),
        "{failure}"
    );
}

/// The receipt was written when both nodes had been paid, before the deadline; after it, the rest of
/// the escrow is accounted for.
pub(crate) fn the_rest_returns(network: &Network, answer: &Value) {
    let file = Path::new(answer["receipt"].as_str().expect("a path"));
    let early = verify(network, file).expect_success();
    assert!(early["summary"]["returned"].is_null(), "{early}");
    assert!(early["does_not_show"].to_string().contains("returned"));
    let dir = network.dir();
    let arguments = ["receipt", "complete", path(file), "--dir", path(&dir), "--json"];
    let done = support::wait_for("the deadline", || {
        let output = network.nesa(arguments);
        output.status.success().then(|| serde_json::from_slice::<Value>(&output.stdout).unwrap())
    });
    let late = verify(network, file).expect_success();
    assert_eq!(late["summary"]["returned"], done["settlement"]["returned"]);
    assert_eq!(late["summary"]["held"], "0");
    assert_eq!(late["summary"]["paid"], early["summary"]["paid"]);
}
