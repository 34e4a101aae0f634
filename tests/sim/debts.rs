//! Windows that are passed one after the other: over all of them no more is charged than they have, and what is printed once.

use farebox::policy;
use farebox::sim::network::Weather;
use farebox::sim::world::World;
use farebox::upstream::vocabulary::Draw;

use super::run::{Figures, START_MS};
use super::{check, plan};

/// One process, in which calls run and windows end, until all is quiet.
fn run(seed: u64, figures: &mut Figures) -> Result<(), String> {
    let bundle = policy::compile(&plan::passed(seed), "debts.yaml")
        .map_err(|faults| faults.iter().map(|fault| format!("{fault}\n")).collect::<String>())?;
    let draw = &mut Draw::new(seed, 4);
    let world = World::new(bundle, 1, 1 + draw.below(3) as usize, START_MS, seed).map_err(|error| error.to_string())?;
    world.set_weather(Weather { latency_ms: draw.below(300), ..Weather::default() });
    for _ in 0..150 {
        let places = world.places();
        world.open(places[draw.below(places.len() as u64) as usize], plan::call(draw));
        for _ in 0..draw.below(50) {
            let ready = world.ready();
            if ready.is_empty() {
                world.tick(1 + draw.below(200));
            } else {
                let (at, stream) = ready[draw.below(ready.len() as u64) as usize];
                world.step(at, stream);
            }
        }
        // What was used of a window is told before it is long over.
        (0..3).for_each(|_| world.tick(1_000));
        let ms = [100, 5_000, 60_000, 600_000][draw.below(4) as usize];
        world.tick(1 + draw.below(ms));
    }
    if !world.run(60_000) {
        return Err(format!("{} streams never end", world.streams()));
    }
    (0..60).for_each(|_| world.tick(1_000));
    check::all(&world, &[], false, figures)
}

#[test]
fn what_a_window_was_passed_by_the_next_ones_pay() {
    let mut figures = Figures::default();
    let failed: Vec<String> =
        (0..60).filter_map(|seed| run(seed, &mut figures).err().map(|why| format!("seed {seed}: {why}"))).collect();
    println!("{figures}, of them {} after one that was", figures.owed);
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(figures.passed > 20 && figures.owed > 20, "{figures}, {}", figures.owed);
}
