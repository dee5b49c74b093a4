//! A store at its limit takes nothing more in, says so, and goes on delivering.

use std::collections::BTreeSet;

use crate::support::engine::Engine;
use crate::support::hub::{Hub, to};
use crate::support::receiver::{Gate, Receiver, Reply};

#[test]
fn a_full_store_answers_503_and_delivers_what_it_has_accepted() {
    let gate = Gate::closed();
    let receiver = {
        let gate = gate.clone();
        Receiver::start(move |_| {
            gate.pass();
            Reply::status(200)
        })
    };
    let hub = Hub::with("", "[store]\nbytes_max = 1048576");
    hub.route("out", to(&receiver.url("/")));
    let engine = Engine::start(&hub);

    let body = vec![b'x'; 50_000];
    let mut accepted = BTreeSet::new();
    let refused = loop {
        let answer = engine.post("/in/erp/order.created", &[], &body);
        if answer.status != 202 {
            break answer;
        }
        accepted.extend(answer.event_ids());
        assert!(accepted.len() < 100, "a store of 1 MiB has taken 5 MB");
    };
    let detail = refused.problem(503);
    assert!(detail.contains("store.bytes_max"), "{detail}");
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert!(accepted.len() > 10, "only {} events fit", accepted.len());
    assert_eq!(engine.get("/healthz").status, 200);

    gate.open();
    engine.drained();
    let arrived: BTreeSet<_> =
        receiver.first(accepted.len()).iter().map(|it| it.webhook_id().to_owned()).collect();
    assert_eq!(arrived, accepted);
    // Refused is refused: nothing of it was kept.
    assert_eq!(engine.deliveries("limit=500").len(), accepted.len());
}
