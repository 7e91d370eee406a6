//! Which groups of matrices can be small: what each costs in predictions at each type, and the order in
//! which they are made smaller so that every byte saved costs least.

use crate::generation::Model;
use crate::model::groups::{Group, Part};
use crate::model::quantize::{FileType, Moments, Plan};
use crate::model::weights::Weights;

use super::quality::Original;

/// What one group of matrices weighs and costs at a type, all others at Q8_0.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Cost {
    /// The matrices.
    pub group: Group,
    /// The type.
    pub kind: FileType,
    /// Bytes saved against Q8_0.
    pub saved: u64,
    /// Divergence from the original beyond that of Q8_0, nats per token. Noise can make it negative.
    pub kl: f64,
}

/// A group becomes smaller.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    group: Group,
    kind: FileType,
    /// Nats per token for each byte saved.
    price: f64,
}

/// Measures every group at Q6_K and Q4_K; embedding and head at Q6_K alone, see [`Plan::uniform`].
pub(super) fn costs(
    weights: &Weights,
    calibration: &Original,
    moments: &Moments,
    say: &mut dyn FnMut(usize, usize),
) -> anyhow::Result<Vec<Cost>> {
    let config = &weights.config;
    let mut base = Plan::uniform(config, FileType::Q8_0);
    base.moments = moments.clone();
    let mut engine = Model::planned(weights, &base, "q8_0")?.engine;
    let without = calibration.distance(&engine)?.kl;
    let groups = Group::all(config);
    let (mut costs, mut done) = (Vec::new(), 0);
    for (group, matrices) in &groups {
        for kind in kinds(group.part) {
            let mut plan = base.clone();
            plan.kinds.insert(*group, *kind);
            let bytes =
                |plan: &Plan| -> u64 { matrices.iter().map(|m| plan.bytes(&m.0, &m.1)).sum() };
            let saved = bytes(&base).saturating_sub(bytes(&plan));
            if saved > 0 {
                engine.replan(weights, &plan, *group)?;
                let kl = calibration.distance(&engine)?.kl - without;
                costs.push(Cost { group: *group, kind: *kind, saved, kl });
            }
        }
        engine.replan(weights, &base, *group)?;
        done += 1;
        say(done, groups.len());
    }
    Ok(costs)
}

fn kinds(part: Part) -> &'static [FileType] {
    match part {
        Part::Embedding | Part::Head => &[FileType::Q6K],
        _ => &[FileType::Q6K, FileType::Q4K],
    }
}

/// The steps from Q8_0 everywhere to the smallest plan, cheapest bytes first. Within a group the steps are
/// those of the lower convex hull, so a type that costs more than its neighbours' mixture is passed over.
pub(super) fn steps(costs: &[Cost]) -> Vec<Step> {
    let mut steps = Vec::new();
    for options in costs.chunk_by(|a, b| a.group == b.group) {
        let (mut saved, mut kl, mut from) = (0, 0.0, 0);
        while from < options.len() {
            let price = |o: &Cost| (o.kl.max(0.0) - kl).max(0.0) / (o.saved - saved).max(1) as f64;
            let rest = options[from..].iter().enumerate();
            let best = rest.min_by(|a, b| price(a.1).total_cmp(&price(b.1)).then(b.0.cmp(&a.0)));
            let Some((index, best)) = best else { break };
            steps.push(Step { group: best.group, kind: best.kind, price: price(best) });
            (saved, kl, from) = (best.saved, best.kl.max(kl), from + index + 1);
        }
    }
    steps.sort_by(|a, b| a.price.total_cmp(&b.price));
    steps
}

/// Q8_0 with the first steps taken.
pub(super) fn plan_after(weights: &Weights, moments: &Moments, steps: &[Step]) -> Plan {
    let mut plan = Plan::uniform(&weights.config, FileType::Q8_0);
    plan.moments = moments.clone();
    for step in steps {
        let kind = plan.kinds.entry(step.group).or_insert(step.kind);
        *kind = step.kind.max(*kind);
    }
    plan
}

/// The largest number of steps in 0…`most` that holds, if fewer steps hold whenever more do.
pub(super) fn most_that_hold(
    most: usize,
    mut holds: impl FnMut(usize) -> anyhow::Result<bool>,
) -> anyhow::Result<usize> {
    if holds(most)? {
        return Ok(most);
    }
    let (mut good, mut bad) = (0, most);
    while bad - good > 1 {
        let middle = good.midpoint(bad);
        if holds(middle)? {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheapest_bytes_come_first() {
        let cost = |layer, kind, saved, kl| {
            let group = Group { part: Part::AttentionIn, layer };
            Cost { group, kind, saved, kl }
        };
        let costs = [
            cost(0, FileType::Q6K, 10, 0.001),
            cost(0, FileType::Q4K, 20, 0.010),
            // Q6_K here costs more than half of Q4_K's savings are worth: passed over.
            cost(1, FileType::Q6K, 10, 0.009),
            cost(1, FileType::Q4K, 20, 0.012),
        ];
        let taken: Vec<_> = steps(&costs).iter().map(|s| (s.group.layer, s.kind)).collect();
        assert_eq!(taken, [(0, FileType::Q6K), (1, FileType::Q4K), (0, FileType::Q4K)]);
    }

    #[test]
    fn bisection_finds_the_border() {
        for border in 0..=20 {
            let mut asked = 0;
            let found = most_that_hold(20, |n| {
                asked += 1;
                Ok(n <= border)
            });
            assert_eq!(found.unwrap(), border);
            assert!(asked <= 6);
        }
    }
}
