//! Places at which tests split the bytes of a wire sample: [`all`] and [`few`].

/// No cut, a cut after every byte, and every pair of cuts; for a long sample, only near its ends and near the lengths at
/// which headers and groups grow.
#[must_use]
pub fn all(len: usize) -> Vec<Vec<usize>> {
    let places = places(len);
    let mut cuts = vec![vec![], bytes(len)];
    for (index, &first) in places.iter().enumerate() {
        cuts.push(vec![first]);
        cuts.extend(
            places[index + 1..]
                .iter()
                .map(|&second| vec![first, second]),
        );
    }
    cuts
}

/// The cuts of [`all`] at one place, and after every byte: for tests that multiply them.
#[must_use]
pub fn few(len: usize) -> Vec<Vec<usize>> {
    let mut cuts = all(len);
    cuts.retain(|cuts| cuts.len() != 2);
    cuts
}

/// A cut after every byte.
#[must_use]
pub fn bytes(len: usize) -> Vec<usize> {
    (1..len).collect()
}

/// The places of the cuts in [`all`].
#[must_use]
pub fn places(len: usize) -> Vec<usize> {
    let hot = |at: &usize| len <= 50 || *at < 8 || len - at < 8 || (at + 3) % 127 < 7;
    (1..len).filter(hot).collect()
}
