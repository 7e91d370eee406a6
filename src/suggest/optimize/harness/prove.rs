// Runs two versions of a function on the same generated inputs, compares what they do, and times them in turn. The two
// modules, the type `Inputs` and the constants are written behind it for each function. Prints one JSON object.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Instant;

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
    fn count(&mut self, size: usize) -> usize {
        if size > 40 { size } else { self.below(size + 1) }
    }
    fn int(&mut self, size: usize, signed: bool) -> i64 {
        let pick = self.below(20);
        if pick < 3 && !INTS.is_empty() {
            let near = INTS[self.below(INTS.len())] + self.below(3) as i64 - 1;
            return if signed { near } else { near.abs() };
        }
        let value = self.below(size + 2) as i64;
        if signed && pick > 14 { -value } else { value }
    }
}

trait Make: Clone + std::fmt::Debug {
    fn make(rng: &mut Rng, size: usize) -> Self;
}

macro_rules! numbers {
    ($signed:expr, $($number:ty),*) => { $(impl Make for $number {
        fn make(rng: &mut Rng, size: usize) -> Self { rng.int(size.min(100), $signed) as $number }
    })* };
}
numbers!(true, i8, i16, i32, i64, i128, isize);
numbers!(false, u8, u16, u32, u64, u128, usize);

impl Make for f64 {
    fn make(rng: &mut Rng, size: usize) -> Self {
        rng.int(size, true) as f64 / [1.0, 2.0, 3.0][rng.below(3)]
    }
}
impl Make for f32 {
    fn make(rng: &mut Rng, size: usize) -> Self {
        f64::make(rng, size) as f32
    }
}
impl Make for bool {
    fn make(rng: &mut Rng, _: usize) -> Self {
        rng.below(2) == 0
    }
}
impl Make for char {
    fn make(rng: &mut Rng, _: usize) -> Self {
        ['a', 'b', 'c', 'Z', '0', '9', ' ', '_', 'ß', '☃'][rng.below(10)]
    }
}
impl Make for String {
    fn make(rng: &mut Rng, size: usize) -> Self {
        if rng.below(6) == 0 && !STRINGS.is_empty() {
            return STRINGS[rng.below(STRINGS.len())].to_string();
        }
        (0..rng.count(size)).map(|_| char::make(rng, 0)).collect()
    }
}
impl Make for &'static str {
    fn make(rng: &mut Rng, size: usize) -> Self {
        String::make(rng, size).leak()
    }
}
impl<T: Make> Make for Vec<T> {
    fn make(rng: &mut Rng, size: usize) -> Self {
        (0..rng.count(size)).map(|_| T::make(rng, size.min(12))).collect()
    }
}
impl<T: Make> Make for VecDeque<T> {
    fn make(rng: &mut Rng, size: usize) -> Self {
        Vec::make(rng, size).into()
    }
}
impl<T: Make> Make for Option<T> {
    fn make(rng: &mut Rng, size: usize) -> Self {
        (rng.below(4) > 0).then(|| T::make(rng, size))
    }
}
impl<A: Make, B: Make> Make for (A, B) {
    fn make(rng: &mut Rng, size: usize) -> Self {
        (A::make(rng, size), B::make(rng, size))
    }
}
impl<K: Make + Ord, V: Make> Make for BTreeMap<K, V> {
    fn make(rng: &mut Rng, size: usize) -> Self {
        Vec::make(rng, size).into_iter().collect()
    }
}
impl<K: Make + Ord> Make for BTreeSet<K> {
    fn make(rng: &mut Rng, size: usize) -> Self {
        Vec::make(rng, size).into_iter().collect()
    }
}
impl<K: Make + Eq + std::hash::Hash, V: Make> Make for HashMap<K, V> {
    fn make(rng: &mut Rng, size: usize) -> Self {
        Vec::make(rng, size).into_iter().collect()
    }
}
impl<K: Make + Eq + std::hash::Hash> Make for HashSet<K> {
    fn make(rng: &mut Rng, size: usize) -> Self {
        Vec::make(rng, size).into_iter().collect()
    }
}

fn did(run: fn(&mut Inputs) -> String, inputs: &Inputs) -> String {
    let mut own = inputs.clone();
    let run = std::panic::AssertUnwindSafe(|| run(&mut own));
    match std::panic::catch_unwind(run) {
        Ok(result) => format!("{result} with {own:?}"),
        Err(_) => "panic".to_string(),
    }
}

fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars().take(400) {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if (c as u32) < 32 => quoted.push_str(&format!("\\u{:04x}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

fn time(spin: fn(&mut Inputs), inputs: &Inputs, rounds: usize) -> f64 {
    let mut own: Vec<Inputs> = (0..rounds).map(|_| inputs.clone()).collect();
    let start = Instant::now();
    own.iter_mut().for_each(spin);
    start.elapsed().as_secs_f64()
}

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let mut rng = Rng(SEED);
    let (mut seen, mut worked) = (0, 0);
    let start = Instant::now();
    while seen < INPUTS && start.elapsed().as_secs_f64() < SECONDS {
        let size = [0, 1, 2, 3, 5, 8, 13, 30][rng.below(8)];
        let inputs = Inputs::make(&mut rng, size);
        let (was, now) = (did(before::run, &inputs), did(after::run, &inputs));
        if was != now {
            let (input, was, now) = (quote(&format!("{inputs:?}")), quote(&was), quote(&now));
            print!("{{\"inputs\":{seen},\"different\":{{\"input\":{input},\"before\":{was},\"after\":{now}}}}}");
            return;
        }
        seen += 1;
        worked += usize::from(was != "panic");
    }
    if worked * 2 < INPUTS {
        print!("{{\"inputs\":{seen},\"why\":\"only {worked} of {INPUTS} inputs were found on which it works\"}}");
        return;
    }
    if PAIRS == 0 {
        print!("{{\"inputs\":{seen}}}");
        return;
    }
    let mut size = 16;
    let mut inputs = Inputs::make(&mut rng, size);
    let fits = |inputs: &Inputs| did(before::run, inputs) != "panic" && did(after::run, inputs) != "panic";
    while size < 200_000 && fits(&inputs) && time(before::spin, &inputs, 1) < 0.002 {
        size *= 2;
        let next = Inputs::make(&mut rng, size);
        if !fits(&next) {
            break;
        }
        inputs = next;
    }
    if !fits(&inputs) {
        print!("{{\"inputs\":{seen},\"unmeasured\":\"it fails on the input that is measured\"}}");
        return;
    }
    let took = time(before::spin, &inputs, 1).max(1e-8);
    let rounds = ((0.004 / took) as usize).clamp(1, 20_000);
    let mut pairs = Vec::new();
    for index in 0..2 * PAIRS {
        let mut pair = [0.0; 2];
        for which in if index % 2 == 0 { [0, 1] } else { [1, 0] } {
            pair[which] = time([before::spin, after::spin][which], &inputs, rounds);
        }
        pairs.push(format!("[{},{}]", pair[0], pair[1]));
    }
    print!("{{\"inputs\":{seen},\"pairs\":[{}]}}", pairs.join(","));
}

