//! What is drawn by chance, and from where: `SLIPWAY_SEED`, and how often: `SLIPWAY_INSTANTS`.

/// A number that the caller of the tests gave.
pub fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

/// Where numbers are drawn from, unless the caller says it.
pub fn seed() -> u64 {
    number("SLIPWAY_SEED").unwrap_or(20_261_126)
}

/// Numbers by chance, the same in every run with the same seed.
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    /// One of them.
    pub fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }
}
