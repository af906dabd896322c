//! Screens with clusters that the recording is forwarded to.

use super::{Screen, answers};
use crate::commands::top::poll::Round;

#[test]
fn each_cluster_has_a_line_and_those_that_are_down_are_first() {
    for (name, width, height, are_up, lines) in [
        ("forward", 80, 24, &[true][..], 1),
        ("forward-down", 80, 24, &[true, false], 4),
        ("forward-more", 60, 16, &[true, false, true], 2),
    ] {
        let mut screen = Screen::new(1000, width, height);
        let rows = screen.app.visible().count();
        screen.press("G");
        let mut daemon = screen.app.daemon.clone().unwrap();
        daemon.forwards = answers::forwards(are_up);
        screen.app.receive(Ok(Round {
            daemon: Some(daemon),
            ..Round::default()
        }));
        // The last line stays in sight.
        let chosen = screen.app.visible().last().map(|(row, _)| row);
        assert_eq!(
            (screen.app.visible().count(), chosen),
            (rows - lines, Some(999))
        );
        screen.assert_is(name);
        screen.press_only('f');
        assert!(
            screen.text().contains("forward DOWN ") || are_up == [true],
            "{}",
            screen.text()
        );
    }
}

#[test]
fn the_view_of_a_device_has_the_clusters() {
    for (name, are_up) in [("device-forward", true), ("device-forward-down", false)] {
        let mut screen = Screen::new(1, 80, 24);
        let mut daemon = screen.app.daemon.clone().unwrap();
        daemon.forwards = answers::forwards(&[are_up]);
        screen.app.receive(Ok(Round {
            daemon: Some(daemon),
            ..Round::default()
        }));
        screen.assert_is(name);
    }
}
