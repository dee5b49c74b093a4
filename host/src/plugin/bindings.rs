//! What wasmtime makes of `wit/`. Nothing here is written by hand.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "every-role",
    with: {
        "plugpost:plugin/events.event": super::imports::EventHandle,
        "plugpost:plugin/requests.inbound": super::imports::InboundHandle,
        "plugpost:plugin/requests.outgoing": super::imports::OutgoingHandle,
        "plugpost:plugin/subscriptions.subscription": super::desk::SubscriptionHandle,
        "plugpost:plugin/subscriptions.draft": super::desk::DraftHandle,
        "plugpost:plugin/subscriptions.caller": super::desk::CallerHandle,
    },
    imports: {
        "plugpost:plugin/requests.[method]inbound.fields": trappable,
        "plugpost:plugin/subscriptions": trappable,
    },
});
