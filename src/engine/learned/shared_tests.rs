use std::path::PathBuf;

use super::super::Sheet;
use super::super::{Counted, Counting, Counts, MOST_A_BEAT, SWAPS};
use super::{Found, LONGEST, PAGES, Page, TRIES, find, put, read, write};
use crate::engine::effect::Effect;
use crate::meter::calibration::ENOUGH;
use crate::meter::count::Encoding;
use crate::meter::dialect::Dialect;
use crate::meter::excess::{Taught, Told};
use crate::meter::usage::Usage;
use crate::now::Now;
use crate::policy::{self, bundle::Bundle};
use crate::quota::{Cell, Cells, Expect, Keys, StoreError};
use crate::sim::store::{SharedData, SimCells};

const POLICY: &str = "farebox: 1
bundle: {name: b, version: '1'}
identity: [{key: [authorization]}]
models: {qwen-max: {count: o200k_base}}
plans: {p: {tokens: {caps: {calls: {limit: 99 requests, per: seat, window: bucket 1m}}}}}
assign: [{otherwise: p}]
seats: {ann: {org: o, keys: ['sha256:a82937400c2cc11407f5bb2f9af56eded40d3002f15bdf996f5b70917bf8edb1']}}
";

/// A VM's part of it: what it has learned, and its view of the cells.
struct Worker {
    counts: Counts,
    cells: Box<dyn Cells>,
    bundle: Bundle,
    effects: Vec<Effect>,
}

fn of(model: &str) -> Counting<'_> {
    let dialect = Dialect::OpenAiChat;
    let count = Encoding::O200kBase;
    Counting { seat: 1, pattern: model, count, model, dialect, tools: false, calls: false, text: true }
}

fn at(mono_ms: u64) -> Now {
    Now { mono_ms, wall_ms: mono_ms }
}

impl Worker {
    fn new(cells: impl Cells + 'static) -> Self {
        let bundle = policy::compile(POLICY, "b").unwrap();
        Self { counts: Counts::default(), cells: Box::new(cells), bundle, effects: Vec::new() }
    }

    /// Calls of a provider that counts twenty more of an input than are counted here.
    fn calls(&mut self, calls: std::ops::Range<u64>, now: Now) {
        for call in calls {
            let counted = Counted { input: 100 + call * 30, output: 10, thoughts: 0 };
            self.meet(now);
            self.counts.learn(&of("qwen-max"), &counted, &Usage { input: counted.input + 20, ..Usage::default() });
        }
    }

    fn meet(&mut self, now: Now) {
        self.counts.meet(&of("qwen-max"), &self.bundle, &Keys::new("b"), now, &mut *self.cells);
    }

    fn beat(&mut self, now: Now) {
        self.counts.share(&self.bundle, &Keys::new("b"), now, &mut *self.cells, &mut self.effects).unwrap();
    }

    /// What an input of a thousand would be reported as.
    fn foretells(&mut self, now: Now) -> u64 {
        self.meet(now);
        self.counts.foretell(&of("qwen-max"), &Counted { input: 1_000, ..Counted::default() }).input
    }

    fn counted(&self, fate: &str) -> u64 {
        let of = |effect: &Effect| match effect {
            Effect::Count { metric: "calibration_shared_total", labels, by } if labels[1].1 == fate => *by,
            _ => 0,
        };
        self.effects.iter().map(of).sum()
    }
}

#[test]
fn what_two_vms_have_learned_a_third_knows() {
    let shared = SharedData::default();
    let [mut one, mut other, mut third] = [0, 1, 2].map(|vm| Worker::new(shared.cells(vm)));
    let half = u64::from(ENOUGH) / 2;
    one.calls(0..half, at(1));
    one.beat(at(2));
    other.calls(half..u64::from(ENOUGH), at(3));
    other.beat(at(4));
    assert_eq!((one.counted("shared"), other.counted("shared")), (half, half));
    assert_eq!(third.foretells(at(5)), 1_020, "it reads the page when it meets the model");
    assert_eq!(other.foretells(at(5)), 1_020, "it goes on with what came of its swap");
    // Who has read before asks again, and not with every beat.
    assert_eq!(one.foretells(at(5)), 1_000);
    one.beat(at(6));
    assert_eq!(one.foretells(at(7)), 1_000);
    one.beat(at(2 + super::super::READ_AGAIN_MS));
    assert_eq!(one.foretells(at(40_000)), 1_020);
    let operations = shared.operations();
    for now in 0..1_000 {
        third.calls(0..1, at(40_000));
        let _ = third.foretells(at(40_000 + now));
    }
    assert_eq!(shared.operations(), operations, "no call asks the store");
}

/// Before the first swap, somebody else is faster.
struct Late {
    cells: SimCells,
    rival: Option<Box<dyn FnOnce()>>,
}

impl Cells for Late {
    fn load(&mut self, key: &[u8]) -> Result<Option<Cell>, StoreError> {
        self.cells.load(key)
    }

    fn swap(&mut self, key: &[u8], expect: Expect, value: &[u8]) -> Result<bool, StoreError> {
        if let Some(rival) = self.rival.take() {
            rival();
        }
        self.cells.swap(key, expect, value)
    }
}

#[test]
fn no_call_is_lost_to_a_vm_that_was_faster() {
    let shared = SharedData::default();
    let (mut rival, half) = (Worker::new(shared.cells(1)), u64::from(ENOUGH) / 2);
    rival.calls(0..half, at(1));
    let rival = Some(Box::new(move || rival.beat(at(2))) as Box<dyn FnOnce()>);
    let mut late = Worker::new(Late { cells: shared.cells(0), rival });
    late.calls(half..u64::from(ENOUGH), at(1));
    late.beat(at(2));
    assert_eq!(Worker::new(shared.cells(2)).foretells(at(3)), 1_020, "the calls of both are there");
}

/// Somebody else is faster at every swap, so often.
struct Outrun {
    cells: SimCells,
    left: u32,
}

impl Cells for Outrun {
    fn load(&mut self, key: &[u8]) -> Result<Option<Cell>, StoreError> {
        self.cells.load(key)
    }

    fn swap(&mut self, key: &[u8], expect: Expect, value: &[u8]) -> Result<bool, StoreError> {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Ok(false)
            }
            None => self.cells.swap(key, expect, value),
        }
    }
}

#[test]
fn who_is_outrun_at_every_swap_shares_with_the_next_beat() {
    let (shared, calls) = (SharedData::default(), u64::from(ENOUGH));
    let mut outrun = Worker::new(Outrun { cells: shared.cells(0), left: SWAPS + 1 });
    outrun.calls(0..calls, at(1));
    outrun.beat(at(2));
    assert_eq!((outrun.effects.len(), Worker::new(shared.cells(1)).foretells(at(3))), (0, 1_000), "nothing is shared");
    // In the next beat it is outrun once more, and then it is not.
    outrun.beat(at(4));
    assert_eq!(outrun.counted("shared"), calls, "nothing was lost");
    assert_eq!(Worker::new(shared.cells(2)).foretells(at(5)), 1_020);
    outrun.beat(at(6));
    assert_eq!(outrun.counted("shared"), calls, "nor is it shared twice");
}

/// One model more than are shared in a beat. None of them starves, and whose turn was longest ago goes first.
#[test]
fn of_many_busy_models_those_whose_turn_was_longest_ago_go_first() {
    let names: Vec<String> = (0..=MOST_A_BEAT).map(|model| format!("m{model:02}")).collect();
    let mut busy = Worker::new(SharedData::default().cells(0));
    let call = |busy: &mut Worker| {
        for name in &names {
            let counted = Counted { input: 100, output: 10, thoughts: 0 };
            busy.counts.learn(&of(name), &counted, &Usage { input: 120, output: 12, ..Usage::default() });
        }
    };
    let shared = |busy: &mut Worker, now: u64| -> Vec<String> {
        busy.effects.clear();
        busy.beat(at(now));
        let of = |effect: &Effect| match effect {
            Effect::Count { metric: "calibration_shared_total", labels, .. } => Some(labels[0].1.clone()),
            _ => None,
        };
        busy.effects.iter().filter_map(of).collect()
    };
    call(&mut busy);
    let first = shared(&mut busy, 1_000);
    assert_eq!(first, names[..MOST_A_BEAT]);
    // All of them again: first the one that had no turn.
    call(&mut busy);
    let second = shared(&mut busy, 2_000);
    assert_eq!((second.len(), &second[0]), (MOST_A_BEAT, &names[MOST_A_BEAT]));
    let third = shared(&mut busy, 3_000);
    assert_eq!(third, names[MOST_A_BEAT - 1..MOST_A_BEAT]);
    assert!(shared(&mut busy, 4_000).is_empty());
}

#[test]
fn a_model_that_became_another_one_is_forgotten_by_all() {
    let shared = SharedData::default();
    let [mut one, mut other] = [0, 1].map(|vm| Worker::new(shared.cells(vm)));
    one.calls(0..20, at(1));
    one.beat(at(2));
    assert_eq!(other.foretells(at(3)), 1_020);
    for call in 0..6 {
        let counted = Counted { input: 100 + call, output: 10, thoughts: 0 };
        other.counts.learn(&of("qwen-max"), &counted, &Usage { input: 5_000, ..Usage::default() });
    }
    other.beat(at(4));
    assert_eq!(Worker::new(shared.cells(2)).foretells(at(5)), 1_000);
}

/// The page of a model.
fn place(pattern: &str, known: bool, cells: &mut SimCells) -> Option<Found> {
    find(&(pattern.to_owned(), "openai-chat", "o200k_base"), &|_, _| known, &Keys::new("b"), cells).unwrap()
}

#[test]
fn pages_are_bounded_and_those_of_former_models_are_taken() {
    let (mut cells, mut homeless) = (SharedData::default().cells(0), 0);
    for model in 0..2_000 {
        let name = (format!("model-{model}"), "openai-chat", "o200k_base");
        match place(&name.0, true, &mut cells) {
            Some(found) => assert!(put(&name, &found, &Sheet::default(), &mut cells).unwrap()),
            None => homeless += 1,
        }
    }
    let pages = (0..=u16::MAX).filter(|n| cells.load(&Keys::new("b").calibration(*n)).unwrap().is_some()).count();
    assert!(pages <= usize::from(PAGES) && pages + homeless == 2_000, "{pages} pages, {homeless} without");
    let late = "model-1999";
    assert!(place(late, true, &mut cells).is_none(), "there is no room, or the count of tries is wrong: {TRIES}");
    let taken = place(late, false, &mut cells).expect("the place of a model that the policy does not name any more");
    assert_eq!(taken.sheet, None);
    assert!(put(&(late.to_owned(), "openai-chat", "o200k_base"), &taken, &Sheet::default(), &mut cells).unwrap());
    assert_eq!(place(late, true, &mut cells).map(|found| found.sheet), Some(Some(Sheet::default())));
}

#[test]
fn what_cannot_be_read_is_written_over() {
    for strange in [&b"\xc1"[..], &[0x90; 5_000], b"\x94\x02\xa8qwen-max\xabopenai-chat\x90"] {
        let shared = SharedData::default();
        let mut worker = Worker::new(shared.cells(0));
        let key = place("qwen-max", true, &mut shared.cells(1)).unwrap().key;
        assert!(shared.cells(1).swap(&key, Expect::Absent, strange).unwrap());
        worker.calls(0..20, at(1));
        worker.beat(at(2));
        assert_eq!(Worker::new(shared.cells(2)).foretells(at(3)), 1_020);
    }
}

/// Twenty calls of each kind, of two callers, and what one of them had above its bound.
fn sheet() -> Sheet {
    let mut sheet = Sheet::default();
    for call in 0..20_u64 {
        for (line, more) in sheet.lines.iter_mut().flatten().zip(1..) {
            line.learn(0xfeed_0000 + call as u32 % 2, 10 + call * call * 99, 10 * more + call * call * 120);
        }
    }
    for (excess, more) in sheet.excess.iter_mut().flatten().zip(1..) {
        excess.learn(&Told { seat: 0xfeed_0000, bound: 1_000, reported: 1_000 + more, wall_ms: 7 * 3_600_000 });
    }
    sheet
}

#[test]
fn the_bytes_of_layout_2_stay_as_they_are() {
    let shared = SharedData::default();
    let name = ("qwen-max".to_owned(), "openai-chat", "o200k_base");
    let found = place(&name.0, true, &mut shared.cells(0)).unwrap();
    assert!(put(&name, &found, &sheet(), &mut shared.cells(0)).unwrap());
    let bytes = shared.peek(&found.key).unwrap().value;
    let hex: String =
        bytes.chunks(32).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n").collect();
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cells/calibration.hex");
    if std::env::var_os("FAREBOX_BLESS").is_some() {
        std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
        std::fs::write(&golden, &hex).unwrap();
    }
    let kept = std::fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(kept, hex, "the layout has changed; that needs a new `LAYOUT`");
    assert_eq!(read(&bytes).unwrap().sheet, sheet());
}

#[test]
fn the_longest_page_is_read() {
    let mut sheet = Sheet::default();
    for call in 0..24_u32 {
        for line in sheet.lines.iter_mut().flatten() {
            line.learn(u32::MAX - call, 15_999_000 + u64::from(call), 15_999_000);
        }
    }
    for call in 0..6 {
        for excess in sheet.excess.iter_mut().flatten() {
            // Each more than those before, which else would do for it.
            let (seat, reported) = (u32::MAX - call, 15_999_000 + u64::from(call));
            excess.learn(&Told { seat, bound: 1_999_000, reported, wall_ms: 7_000_000_000_000 });
        }
    }
    let [pattern, dialect, count] = [256, 32, 16].map(|length| "x".repeat(length));
    let page = Page { layout: 2, pattern, dialect, count, sheet: sheet.clone() };
    let bytes = write(&page);
    assert!(bytes.len() <= LONGEST, "{}", bytes.len());
    assert!(bytes.len() > LONGEST * 2 / 3, "{}: is it the longest?", bytes.len());
    assert_eq!(read(&bytes).map(|page| page.sheet), Some(sheet));
    let newer = Page { layout: 3, ..page };
    assert!(read(&write(&newer)).is_none(), "of another version");
}

#[test]
fn another_vocabulary_begins_anew() {
    let mut cells = SharedData::default().cells(0);
    let name = |count| ("qwen-max".to_owned(), "openai-chat", count);
    let keys = Keys::new("b");
    // The policy names the model once, and counts it in the new one.
    let known = |_: &str, count: &str| count == "cl100k_base";
    let before = find(&name("o200k_base"), &|_, _| true, &keys, &mut cells).unwrap().unwrap();
    assert!(put(&name("o200k_base"), &before, &sheet(), &mut cells).unwrap());
    let after = find(&name("cl100k_base"), &known, &keys, &mut cells).unwrap().unwrap();
    assert_eq!((after.key, after.sheet), (before.key, None), "in its place, and with nothing on it");
}

#[test]
fn what_one_vm_saw_above_its_bound_raises_those_of_another_a_beat_later() {
    let shared = SharedData::default();
    let [mut one, mut other] = [0, 1].map(|vm| Worker::new(shared.cells(vm)));
    other.meet(at(1));
    assert_eq!(one.counts.exceed(&of("qwen-max"), 230, 3_000, at(1)), Taught::Raised);
    let raise = |worker: &mut Worker, now| worker.counts.raise(&of("qwen-max"), 230, at(now));
    assert_eq!((raise(&mut one, 2), raise(&mut other, 2)), (2_770, 0));
    one.beat(at(1_000));
    other.beat(at(1_001));
    assert_eq!(raise(&mut other, 1_002), 2_770);
    // Whose vocabulary is built in, too; calls with tools, and such as are not text alone, by themselves.
    let gpt = Counting { model: "gpt-4o", pattern: "gpt-4o", ..of("") };
    assert_eq!(one.counts.exceed(&gpt, 230, 3_000, at(1)), Taught::Raised);
    for unlike in [Counting { tools: true, ..gpt }, Counting { text: false, ..gpt }] {
        assert_eq!(one.counts.raise(&unlike, 230, at(2)), 0);
    }
}
