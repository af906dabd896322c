//! Every way to cut a wire that is worth a try.

/// Whole, byte by byte, and cut at every two places; of a long wire, near its ends and near the lengths at
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

/// The cuts of [`all`] that are at one place, and byte by byte: for tests that multiply them.
#[must_use]
pub fn few(len: usize) -> Vec<Vec<usize>> {
    let mut cuts = all(len);
    cuts.retain(|cuts| cuts.len() != 2);
    cuts
}

/// A cut behind every byte.
#[must_use]
pub fn bytes(len: usize) -> Vec<usize> {
    (1..len).collect()
}

/// The places for cuts that [`all`] has.
#[must_use]
pub fn places(len: usize) -> Vec<usize> {
    let hot = |at: &usize| len <= 50 || *at < 8 || len - at < 8 || (at + 3) % 127 < 7;
    (1..len).filter(hot).collect()
}
