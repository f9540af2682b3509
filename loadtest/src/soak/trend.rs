//! Does it grow? Robust slopes over the lives of a process, so that neither a restart nor a spike passes for a leak, and a leak does
//! not hide behind them.
//!
//! The slope is that of Theil and Sen: the median of the slopes between all pairs of points; up to 29 % of the points may be anything
//! at all. Pairs are taken within one life of a process only, some time after its start, when caches and arenas are full.

use serde::Serialize;

use super::sampler::Sample;

/// A process is left alone so long after its start before it is judged, seconds; of a short life, half.
const SETTLING: f64 = 120.0;
/// Points of one life that are paired, at most: medians of neighbours stand for more.
const POINTS: usize = 400;
/// Points closer together than this say nothing about growth, seconds; of a short life, a quarter.
const APART: f64 = 60.0;
/// A life shorter than this after settling says nothing about memory, seconds.
const TELLING: f64 = 1_200.0;
/// Descriptors may be so many more at the end of a life than at its beginning: connections come and go between two looks.
const DESCRIPTORS_MORE: f64 = 8.0;
/// A life with fewer quiet samples is not judged for descriptors.
const DESCRIPTOR_SAMPLES: usize = 20;

/// How something grew.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Slope {
    /// Units an hour.
    pub per_hour: f64,
    /// Seconds of settled life that it is made from, all lives together.
    pub seconds: f64,
    /// The longest of these lives.
    pub longest: f64,
    /// Lives.
    pub lives: usize,
}

impl Slope {
    /// Whether a life was long enough to tell a leak from noise.
    #[must_use]
    pub fn tells(&self) -> bool {
        self.longest >= TELLING
    }
}

/// The samples of each process, in order.
#[must_use]
pub fn lives(samples: &[Sample]) -> Vec<&[Sample]> {
    samples.chunk_by(|one, next| one.pid == next.pid).filter(|life| life[0].pid != 0).collect()
}

/// The slope of the memory, octets an hour.
#[must_use]
pub fn memory(samples: &[Sample]) -> Option<Slope> {
    let lives: Vec<Vec<[f64; 2]>> = lives(samples)
        .into_iter()
        .map(|life| life.iter().filter(|s| s.quiet && s.pss > 0).map(|s| [s.at, s.pss as f64]).collect())
        .collect();
    slope(&lives)
}

/// Theil and Sen's slope over several lives of points (second, value), a life's first and settling part left out. Where a life
/// is long enough to tell, only those that are count: many short ones have more pairs together, and less to say.
#[must_use]
pub fn slope(lives: &[Vec<[f64; 2]>]) -> Option<Slope> {
    let mut found: Vec<(f64, Vec<f64>)> = lives.iter().filter_map(|life| slopes(life)).collect();
    if found.iter().any(|(seconds, _)| *seconds >= TELLING) {
        found.retain(|(seconds, _)| *seconds >= TELLING);
    }
    let seconds = found.iter().map(|(seconds, _)| seconds).sum();
    let longest = found.iter().map(|(seconds, _)| *seconds).fold(0.0, f64::max);
    let lives = found.len();
    let mut all: Vec<f64> = found.into_iter().flat_map(|(_, slopes)| slopes).collect();
    Some(Slope { per_hour: median(&mut all)? * 3_600.0, seconds, longest, lives })
}

/// How long a life was settled, and the slopes between its pairs of points, a second.
fn slopes(life: &[[f64; 2]]) -> Option<(f64, Vec<f64>)> {
    let (first, last) = (life.first()?, life.last()?);
    let settled = first[0] + SETTLING.min((last[0] - first[0]) / 2.0);
    let points: Vec<[f64; 2]> = life.iter().copied().filter(|point| point[0] >= settled).collect();
    let points = thinned(&points);
    let apart = APART.min((last[0] - settled) / 4.0).max(1e-9);
    let mut slopes = Vec::new();
    for (place, one) in points.iter().enumerate() {
        let later = points[place + 1..].iter().filter(|other| other[0] - one[0] >= apart);
        slopes.extend(later.map(|other| (other[1] - one[1]) / (other[0] - one[0])));
    }
    (!slopes.is_empty()).then(|| (last[0] - settled, slopes))
}

/// At most [`POINTS`] points: each the median of its neighbours' values at the middle of their times.
fn thinned(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let group = points.len().div_ceil(POINTS).max(1);
    points
        .chunks(group)
        .filter_map(|chunk| {
            let mut values: Vec<f64> = chunk.iter().map(|point| point[1]).collect();
            let middle = f64::midpoint(chunk.first()?[0], chunk.last()?[0]);
            Some([middle, median(&mut values)?])
        })
        .collect()
}

/// The middle one, or between the two middle ones.
fn median(values: &mut [f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let even = values.len().is_multiple_of(2);
    let half = values.len() / 2;
    let (low, &mut middle, _) = values.select_nth_unstable_by(half, f64::total_cmp);
    let below = low.iter().copied().max_by(f64::total_cmp);
    Some(below.filter(|_| even).map_or(middle, |below| f64::midpoint(below, middle)))
}

/// By how much the descriptors of a life grew, those of TCP connections left out: the median of its last fifth over that of its
/// first, in quiet samples. The greatest of all lives.
#[must_use]
pub fn descriptors(samples: &[Sample]) -> Option<f64> {
    lives(samples)
        .into_iter()
        .filter_map(|life| {
            let own =
                life.iter().filter(|sample| sample.quiet && sample.descriptors > 0).filter_map(|sample| {
                    let connections = sample.metrics.get("godwit_dataplane_tcp_connections")?;
                    Some(sample.descriptors as f64 - connections)
                });
            let own: Vec<f64> = own.collect();
            if own.len() < DESCRIPTOR_SAMPLES {
                return None;
            }
            let fifth = own.len() / 5;
            let first = median(&mut own[..fifth].to_vec())?;
            let last = median(&mut own[own.len() - fifth..].to_vec())?;
            Some(last - first)
        })
        .max_by(f64::total_cmp)
}

/// Whether descriptors leak.
#[must_use]
pub fn descriptors_grow(more: f64) -> bool {
    more > DESCRIPTORS_MORE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::draw::Draw;

    const MIB: f64 = 1_048_576.0;

    /// A process with this memory each second, ±2 MiB of noise, and a spike now and then.
    fn life(
        pid: i32,
        from: u32,
        seconds: u32,
        leak_per_hour: f64,
        descriptors: fn(u32) -> usize,
    ) -> Vec<Sample> {
        let mut draw = Draw::new(1, "trend", u64::from(from));
        (0..seconds)
            .map(|second| {
                let noise = (draw.below(4_000) as f64 / 1_000.0 - 2.0) * MIB;
                let spike = if draw.below(20) == 0 { 100.0 * MIB } else { 0.0 };
                // Memory comes in at the start, whatever happens later.
                let start = 30.0 * MIB * f64::from(second.min(60)) / 60.0;
                let leak = leak_per_hour * f64::from(second) / 3_600.0;
                Sample {
                    at: f64::from(from + second),
                    pid,
                    pss: (20.0 * MIB + start + leak + noise + spike) as u64,
                    descriptors: descriptors(second),
                    quiet: true,
                    metrics: [("godwit_dataplane_tcp_connections", 5.0)].into(),
                    ..Sample::default()
                }
            })
            .collect()
    }

    #[test]
    fn a_leak_is_told_from_noise_spikes_and_restarts() {
        for leak in [0.0, 12.0, -12.0] {
            let mut samples = life(7, 0, 600, leak * MIB, |_| 40);
            samples.extend(life(0, 600, 10, 0.0, |_| 0));
            samples.extend(life(8, 610, 3_600, leak * MIB, |_| 40));
            let slope = memory(&samples).unwrap();
            assert_eq!(slope.lives, 1, "the other one is too short");
            assert!(slope.tells() && slope.longest > 3_400.0, "{slope:?}");
            let found = slope.per_hour / MIB;
            assert!((found - leak).abs() < 1.0, "{found} MiB an hour instead of {leak}");
        }
    }

    #[test]
    fn short_lives_count_where_there_is_no_long_one() {
        let mut samples = life(7, 0, 600, 0.0, |_| 40);
        samples.extend(life(8, 600, 500, 0.0, |_| 40));
        let slope = memory(&samples).unwrap();
        assert_eq!((slope.lives, slope.tells()), (2, false));
    }

    #[test]
    fn a_short_run_does_not_tell() {
        let slope = memory(&life(7, 0, 300, 0.0, |_| 40)).unwrap();
        assert!(!slope.tells(), "{slope:?}");
        assert!(memory(&[]).is_none());
    }

    #[test]
    fn descriptors_that_grow_are_found_and_others_not() {
        let grown =
            |descriptors| descriptors_grow(super::descriptors(&life(7, 0, 1_200, 0.0, descriptors)).unwrap());
        assert!(!grown(|_| 40));
        assert!(!grown(|second| 40 + second as usize % 7), "they come and go");
        assert!(grown(|second| 40 + second as usize / 60), "one a minute is lost");
    }

    #[test]
    fn medians() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&mut []), None);
    }
}
