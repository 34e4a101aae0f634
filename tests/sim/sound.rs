//! Quotas in seconds, of which no request says how many it will take.

use farebox::policy;
use farebox::report::wire::{AccountReport, QuotaReport, SyncHead, VERSION, encode_sync};
use farebox::sim::call::Call;
use farebox::sim::world::{At, Seen, World};
use farebox::upstream::ask::Api;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::run::START_MS;

const SECOND: u64 = 1_000_000;

/// A plan with ten seconds, of which so many are used.
fn world(used: u64, limit: &str) -> World {
    let hash: String = Sha256::digest("k").iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!(
        "farebox: 1\nbundle: {{name: sound, version: 1}}\nidentity: [{{key: [authorization]}}]\n\
         models: {{m: {{count: o200k_base, credits: {{input: 0, output: 0, second: 1}}}}}}\n\
         plans: {{p: {{tokens: {{caps: {{sound: {{limit: {limit}, per: seat, window: lifetime}}}}}}}}}}\n\
         seats: {{s: {{org: o, keys: [\"sha256:{hash}\"]}}}}\nassign: [{{otherwise: p}}]\ncollector: {{cluster: c}}\n"
    );
    let bundle = policy::compile(&text, "sound.yaml").unwrap_or_else(|faults| panic!("{faults:?}\n{text}"));
    let unit = bundle.plans[0].quotas[0].unit.name().to_owned();
    let world = World::new(bundle, 1, 1, START_MS, 1).unwrap();
    let report = QuotaReport {
        quota: "p/sound".to_owned(),
        unit,
        limit: 10 * SECOND,
        window: 1,
        ends: u64::MAX,
        used: used * SECOND,
        ..QuotaReport::default()
    };
    let account = AccountReport { subject: "seat/s".to_owned(), quotas: vec![report] };
    let elsewhere = SyncHead {
        farebox: VERSION,
        bundle: "sound".to_owned(),
        epoch: 99,
        accounts: vec![account],
        ..SyncHead::default()
    };
    assert_eq!(world.ledger().sync(&encode_sync(&elsewhere, &[] as &[Vec<u8>]), START_MS).0, 200);
    world
}

fn ask(world: &World, path: &str, body: &Value) -> Seen {
    let mut call = Call::new(Api::OpenAiChat, "k", body);
    call.headers.iter_mut().filter(|(name, _)| name == b":path").for_each(|(_, of)| *of = path.as_bytes().to_vec());
    let stream = world.open(At { process: 0, vm: 0 }, call).unwrap();
    assert!(world.run(30_000), "the stream hangs");
    world.seen(stream).unwrap()
}

/// Who refused it, if anybody did.
fn by(seen: &Seen) -> Option<&str> {
    seen.notes.get("denied_by").map(String::as_str)
}

#[test]
fn what_is_used_up_refuses_what_takes_of_it_and_nothing_else() {
    let speech = json!({"model": "m", "text": "hello"});
    let music = json!({"model": "m", "prompt": "hello", "lyrics": "hello"});
    let image = json!({"model": "m", "prompt": "hello"});
    let chat = json!({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]});
    for limit in ["10 seconds", "10 credits"] {
        for (used, refused) in [(9, None), (10, Some("sound")), (12, Some("sound"))] {
            // A second is a credit, and what is spoken takes one.
            let refuses = |path: &str, body: &Value| by(&ask(&world(used, limit), path, body)).map(str::to_owned);
            assert_eq!(refuses("/v1/t2a_v2", &speech).as_deref(), refused, "{used} of {limit}");
            assert_eq!(refuses("/v1/music_generation?x=1", &music).as_deref(), refused, "{used} of {limit}");
            assert_eq!(refuses("/v1/image_generation", &image), None, "{used} of {limit}");
            assert_eq!(refuses("/v1/chat/completions", &chat), None, "{used} of {limit}");
        }
    }
}
