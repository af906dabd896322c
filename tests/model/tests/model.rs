//! The protocol holds within small bounds, and every broken rule is found.

use session_model::{Mutant, Outcome, cases, explore};

#[test]
fn the_protocol_holds() {
    for (name, bounds) in cases::SHORT {
        let outcome = explore(&bounds, None, 5_000_000);
        assert!(
            matches!(outcome, Outcome::Holds { .. }),
            "{name}: {outcome}"
        );
    }
}

#[test]
fn every_broken_rule_is_found() {
    for mutant in Mutant::ALL {
        let bounds = cases::revealing(mutant);
        let outcome = explore(&bounds, Some(mutant), 5_000_000);
        assert!(
            matches!(outcome, Outcome::Violated { .. }),
            "{mutant:?}: {outcome}"
        );
    }
}
