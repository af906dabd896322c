//! Versions of servers: [`is_before`].

/// Whether a version, such as `2.9.10`, is an earlier one. One that cannot be read is.
pub(super) fn is_before(version: &str, (major, minor): (u64, u64)) -> bool {
    let mut parts = version.split('.').map(str::parse::<u64>);
    match (parts.next(), parts.next()) {
        (Some(Ok(its_major)), Some(Ok(its_minor))) => (its_major, its_minor) < (major, minor),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_numbers() {
        for before in ["2.9.10", "2.10.29", "1.4.0", "2", "", "beta"] {
            assert!(is_before(before, (2, 11)), "{before}");
        }
        for later in ["2.11.0", "2.15.1", "2.12.0-beta.1", "3.0.0"] {
            assert!(!is_before(later, (2, 11)), "{later}");
        }
    }
}
