//! What wasmtime makes of `wit/`. Nothing here is written by hand.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "every-role",
    with: {
        "plugpost:plugin/events.event": super::imports::EventHandle,
        "plugpost:plugin/requests.inbound": super::imports::InboundHandle,
        "plugpost:plugin/requests.outgoing": super::imports::OutgoingHandle,
    },
});
