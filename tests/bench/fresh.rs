//! How long it takes from `cp new.wasm plugins/` to the first delivery through it,
//! with a plugin that was never compiled before.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::{self, Hub, PLATFORM, TOKEN};
use crate::receiver::Receiver;

const ROUNDS: u8 = 15;

/// One time a round. The route is written right after the plugin.
pub(crate) fn measure(receiver: &Receiver) -> Vec<Duration> {
    let hub = Hub::new(&[]);
    let plugin = hub.path().join("plugins").join(PLATFORM).with_extension("wasm");
    fs::remove_file(&plugin).expect("the hub has it");
    let bytes = fs::read(engine::plugin(PLATFORM)).expect("the plugins are built: make plugins");
    let route = hub.path().join("routes/fresh.toml");
    fs::create_dir_all(hub.path().join("routes")).expect("a folder");
    let text = engine::route("all", receiver.ports[0]);
    // The engine sees folders that were there when it started sooner than new ones.
    let (_process, address) = hub.start();
    let mut took = Vec::new();
    for round in 0..ROUNDS {
        // What is in force has settled, and nothing is delivered.
        thread::sleep(Duration::from_millis(600));
        send(address);
        thread::sleep(Duration::from_millis(100));
        let before = receiver.count();
        // A custom section at its end: to the engine, a plugin it has never seen.
        let new = [bytes.as_slice(), &[0, 3, 1, b'r', round]].concat();
        let begun = Instant::now();
        fs::write(&plugin, new).expect("a file");
        fs::write(&route, &text).expect("a file");
        while receiver.count() == before {
            assert!(begun.elapsed() < Duration::from_secs(60), "nothing is delivered");
            send(address);
        }
        took.push(begun.elapsed());
        fs::remove_file(&route).expect("it is there");
        fs::remove_file(&plugin).expect("it is there");
    }
    took
}

/// One event, and a moment for its delivery.
fn send(address: SocketAddr) {
    let body = "{\"company_id\":0}";
    let mut stream = TcpStream::connect(address).expect("the engine listens");
    let request = format!(
        "POST /in/all/store/company/created HTTP/1.1\r\nhost: engine\r\nconnection: close\r\n\
         authorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    thread::sleep(Duration::from_millis(2));
}
