//! The words that a place asks for, made to be looked for in millions of words: a small table says of
//! almost every other word that it is none of them.

/// One bit per wanted word.
pub(super) type Mask = u128;

const MOST: usize = Mask::BITS as usize;
/// Slots of the table: 4 KiB stay in the first cache, and at most one of 32 is taken.
const SLOTS: usize = 4096;

/// At most 128 different words.
pub(super) struct Wanted {
    words: Vec<u32>,
    /// Open addressing: 0 is free, else the number of a word, from 1.
    slots: Box<[u8; SLOTS]>,
}

impl Wanted {
    /// The first words of a list; repetitions do not count.
    pub(super) fn new(words: impl IntoIterator<Item = u32>) -> Wanted {
        let mut wanted = Wanted { words: Vec::new(), slots: Box::new([0; SLOTS]) };
        for word in words {
            if let Err(free) = wanted.find(word)
                && wanted.words.len() < MOST
            {
                wanted.words.push(word);
                wanted.slots[free] = wanted.words.len() as u8;
            }
        }
        wanted
    }

    /// How many words are wanted.
    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    /// Which of the wanted words are among `words`.
    pub(super) fn mask(&self, words: &[u32]) -> Mask {
        words.iter().fold(0, |mask, &word| match self.find(word) {
            Ok(index) => mask | 1 << index,
            Err(_) => mask,
        })
    }

    /// The number of a wanted word, from 0, or the slot where it would stand.
    #[inline]
    fn find(&self, word: u32) -> Result<usize, usize> {
        let mut slot = word as usize % SLOTS;
        loop {
            match self.slots[slot] {
                0 => return Err(slot),
                number if self.words[number as usize - 1] == word => {
                    return Ok(number as usize - 1);
                }
                _ => slot = (slot + 1) % SLOTS,
            }
        }
    }
}

/// What each wanted word says: the rarer it is among the files, the more.
pub(super) struct Weights {
    each: Vec<f64>,
    pub(super) total: f64,
}

impl Weights {
    /// From the words that each of the files has: idf = ln(1 + files / files with the word).
    pub(super) fn new(wanted: &Wanted, files: &[Mask]) -> Weights {
        let mut counts = vec![0u32; wanted.len()];
        for &mask in files {
            bits(mask).for_each(|bit| counts[bit] += 1);
        }
        let idf = |&count: &u32| (1.0 + files.len() as f64 / count.max(1) as f64).ln();
        let each: Vec<f64> = counts.iter().map(idf).collect();
        Weights { total: each.iter().sum(), each }
    }

    /// The weight of the words in a mask.
    pub(super) fn of(&self, mask: Mask) -> f64 {
        bits(mask).map(|bit| self.each[bit]).sum()
    }

    pub(super) fn mean(&self) -> f64 {
        self.total / self.each.len().max(1) as f64
    }
}

fn bits(mut mask: Mask) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (mask != 0).then(|| mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
        Some(bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_among_their_neighbours_in_the_table() {
        let clash = [5, 5 + SLOTS as u32, 5 + 2 * SLOTS as u32];
        let wanted = Wanted::new(clash.into_iter().chain([6, 5]));
        assert_eq!(wanted.len(), 4);
        assert_eq!(wanted.mask(&[6, 5 + 2 * SLOTS as u32, 7, 5 + 3 * SLOTS as u32]), 0b1100);
        assert_eq!(Wanted::new(0..1000).len(), MOST);
    }

    #[test]
    fn rare_words_weigh_more() {
        let weights = Weights::new(&Wanted::new([1, 2]), &[0b11, 0b01, 0b01, 0]);
        assert!(weights.of(0b10) > weights.of(0b01));
        assert!((weights.of(0b11) - weights.total).abs() < 1e-12);
    }
}
