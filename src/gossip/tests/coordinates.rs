//! The estimate of round trips, against a mesh of five continents.

use super::world::{SECOND, World, id};

/// jnb, lhr, ord, sin, fra; milliseconds.
const RTT_MS: [[f64; 5]; 5] = [
    [0.0, 160.0, 225.0, 300.0, 165.0],
    [160.0, 0.0, 90.0, 165.0, 14.0],
    [225.0, 90.0, 0.0, 215.0, 100.0],
    [300.0, 165.0, 215.0, 0.0, 160.0],
    [165.0, 14.0, 100.0, 160.0, 0.0],
];

#[test]
fn the_median_error_of_the_estimate_is_below_a_tenth() {
    let mut world = World::new(5, 21);
    world.rtt_ms = Box::new(|a, b| RTT_MS[a][b]);
    world.jitter = 0.05;
    world.start_all();
    world.run_for(600 * SECOND);
    let mut errors = Vec::new();
    for observer in 0..5 {
        for (a, b) in (0..5).flat_map(|a| (0..a).map(move |b| (a, b))) {
            let estimate = world.gossip(observer).estimate_rtt(id(a), id(b)).unwrap();
            // Jitter only adds; its mean belongs to the round trip.
            let truth = RTT_MS[a][b] * 1.025;
            errors.push((estimate.as_secs_f64() * 1e3 - truth).abs() / truth);
        }
    }
    errors.sort_by(f64::total_cmp);
    let (median, worst) = (errors[errors.len() / 2], errors[errors.len() - 1]);
    println!("estimates: median error {:.1} %, worst {:.1} %", median * 100.0, worst * 100.0);
    assert!(median < 0.10, "{errors:?}");
}
