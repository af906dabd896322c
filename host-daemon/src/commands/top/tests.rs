//! Screens of `top` for fixed answers, compared with `host-daemon/tests/top`.
//!
//! To accept a change: `BLOCKSD_TEST_ACCEPT=1 cargo test -p blocksd top::tests`

use std::path::Path;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::{Color, Modifier};

use crate::api::from_json;
use crate::api::plot::Plot;
use crate::commands::top::app::{App, Page, Sort};
use crate::commands::top::input::Key;
use crate::commands::top::layout::Size;
use crate::commands::top::poll::{FeedKind, PageSubject, Round, Wanted};
use crate::commands::top::screen::{Theme, draw};
use crate::error::CommandError;

mod answers;
mod forwards;

/// Whether the screens are written instead of compared.
const IS_ACCEPTED: bool = option_env!("BLOCKSD_TEST_ACCEPT").is_some();

/// A terminal, and a daemon with this number of devices.
struct Screen {
    app: App,
    devices: usize,
    size: Size,
}

impl Screen {
    fn new(devices: usize, width: u16, height: u16) -> Self {
        let size = Size { width, height };
        let mut screen = Self {
            app: App::new("http://127.0.0.1:9107".to_owned(), size, answers::clock()),
            devices,
            size,
        };
        screen.answer();
        screen
    }

    /// Answers what the page wants, until it wants nothing else.
    fn answer(&mut self) {
        loop {
            let wanted = self.app.wanted();
            self.app.receive(Ok(answers::round(&wanted, self.devices)));
            if self.app.wanted() == wanted {
                return;
            }
        }
    }

    fn press(&mut self, keys: &str) {
        for key in keys.chars() {
            self.app.press(match key {
                '\n' => Key::Enter,
                '\u{1b}' => Key::Esc,
                '\u{8}' => Key::Backspace,
                key => Key::Char(key),
            });
            self.answer();
        }
    }

    fn terminal(&self, has_colours: bool) -> TestBackend {
        let backend = TestBackend::new(self.size.width, self.size.height);
        let mut terminal = Terminal::new(backend).expect("memory");
        let theme = Theme { has_colours };
        let drawn = terminal.draw(|frame| draw(frame, &self.app, theme));
        drawn.expect("memory");
        terminal.backend().clone()
    }

    /// The screen as text, without spaces at the ends of lines.
    fn text(&self) -> String {
        let terminal = self.terminal(true);
        let buffer = terminal.buffer();
        let width = usize::from(buffer.area.width);
        let rows = buffer.content.chunks(width).map(|row| {
            let row: String = row.iter().map(|cell| cell.symbol()).collect();
            row.trim_end().to_owned() + "\n"
        });
        rows.collect()
    }

    #[track_caller]
    fn assert_is(&self, name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/top");
        let path = folder.join(format!("{name}.txt"));
        let text = self.text();
        if IS_ACCEPTED {
            std::fs::write(&path, text).expect("the folder can be written");
            return;
        }
        let known = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(known == text, "{} differs:\n{text}", path.display());
    }
}

#[test]
fn many_devices_are_listed_from_the_worst_on() {
    Screen::new(1000, 100, 30).assert_is("devices-1000");
    Screen::new(10, 80, 24).assert_is("devices-10");
}

#[test]
fn a_small_terminal_has_everything_that_matters() {
    let mut screen = Screen::new(1000, 60, 16);
    screen.assert_is("small-devices");
    screen.press("\n");
    screen.assert_is("small-device");
}

#[test]
fn an_only_device_is_shown_at_once() {
    let mut screen = Screen::new(1, 80, 24);
    screen.assert_is("device");
    // It is left, and does not open again by itself.
    screen.press("\u{1b}");
    assert!(matches!(screen.app.page, Page::Devices));
    screen.answer();
    assert!(matches!(screen.app.page, Page::Devices));
}

#[test]
fn a_wide_terminal_has_fields_beside_plots() {
    let mut screen = Screen::new(10, 120, 40);
    screen.press("\n");
    screen.assert_is("device-wide");
}

#[test]
fn fields_are_plotted_by_keys() {
    let mut screen = Screen::new(1, 80, 30);
    let page = |screen: &Screen| match screen.app.wanted().subject {
        PageSubject::Device { fields, last_s, .. } => (fields.join(" "), last_s),
        PageSubject::Devices { .. } => panic!("no device"),
    };
    assert_eq!(page(&screen), ("temp rpm".to_owned(), 60));
    screen.press("p2");
    assert_eq!(page(&screen), ("rpm".to_owned(), 600));
    // `state` has no numbers; `n` takes the place of the oldest.
    screen.press("jjp3");
    assert_eq!(page(&screen), ("rpm".to_owned(), 3600));
    screen.press("jpkkkp1");
    assert_eq!(page(&screen), ("n temp".to_owned(), 60));
    screen.press("p\njjjp");
    assert_eq!(page(&screen), ("temp".to_owned(), 60));
    screen.press("kkkp");
    assert_eq!(page(&screen), (String::new(), 60));
    assert!(screen.text().contains("no plot: choose a field"));
}

#[test]
fn help_and_faults_are_pages() {
    let mut screen = Screen::new(10, 80, 24);
    screen.press("?");
    screen.assert_is("help");
    screen.press("x");
    assert!(screen.text().contains("STATE  DEVICE"));
    screen.press("f");
    screen.assert_is("faults");
    screen.press("f\nf");
    assert!(screen.text().contains("\nFAULTS\n"), "{}", screen.text());
}

#[test]
fn a_filter_is_typed_applied_and_cleared() {
    let mut screen = Screen::new(1000, 80, 24);
    screen.press("/pumpx\u{8}-00");
    let text = screen.text();
    assert!(text.contains("filter: pump-00_"), "{text}");
    // Nothing is asked for until it is applied.
    let filter = |screen: &Screen| match screen.app.wanted().subject {
        PageSubject::Devices { filter, .. } => filter,
        PageSubject::Device { .. } => panic!("a device"),
    };
    assert_eq!(filter(&screen), "");
    screen.press("\n");
    assert_eq!(filter(&screen), "pump-00");
    screen.assert_is("filter");
    screen.press("/x\u{1b}");
    assert_eq!(filter(&screen), "pump-00");
    screen.press("/zzz\n");
    assert!(
        screen
            .text()
            .contains("no device has this text in its name")
    );
    screen.press("\u{1b}");
    assert_eq!(filter(&screen), "");
}

#[test]
fn only_visible_rows_are_asked_for() {
    let mut screen = Screen::new(1000, 80, 24);
    let wanted = |screen: &Screen| match screen.app.wanted().subject {
        PageSubject::Devices {
            sort,
            offset,
            limit,
            ..
        } => (sort, offset, limit, screen.app.selected),
        PageSubject::Device { .. } => panic!("a device"),
    };
    assert_eq!(wanted(&screen), ("worst", 0, 8, 0));
    screen.press("jjjjjjj");
    assert_eq!(wanted(&screen), ("worst", 0, 8, 7));
    screen.press("j");
    assert_eq!(wanted(&screen), ("worst", 1, 8, 8));
    screen.press("G");
    assert_eq!(wanted(&screen), ("worst", 992, 8, 999));
    screen.app.press(Key::PageUp);
    screen.answer();
    assert_eq!(wanted(&screen), ("worst", 991, 8, 991));
    screen.press("s");
    assert_eq!(wanted(&screen), ("rate", 0, 8, 0));
    assert_eq!(screen.app.sort, Sort::Rate);
    screen.press("ssss");
    assert_eq!(screen.app.sort, Sort::Worst);
    screen.app.resize(Size {
        width: 80,
        height: 60,
    });
    assert_eq!(wanted(&screen).2, 36);
}

#[test]
fn a_device_stays_chosen_when_it_moves() {
    let mut screen = Screen::new(10, 80, 24);
    screen.press("jj");
    let chosen = |screen: &Screen| {
        let mut visible = screen.app.visible();
        let found = visible.find(|(row, _)| *row == screen.app.selected);
        found.map(|(_, device)| device.device.clone())
    };
    let before = chosen(&screen);
    let mut round = answers::round(&screen.app.wanted(), 10);
    round.devices.as_mut().unwrap().1.devices.rotate_right(3);
    screen.app.receive(Ok(round));
    assert_eq!((screen.app.selected, chosen(&screen)), (5, before));
    // The first row is that of the worst device until another is chosen, and again in another order.
    for mut screen in [Screen::new(10, 80, 24), screen] {
        screen.press("s");
        let mut round = answers::round(&screen.app.wanted(), 10);
        round.devices.as_mut().unwrap().1.devices.rotate_right(3);
        screen.app.receive(Ok(round));
        assert_eq!(screen.app.selected, 0);
    }
}

#[test]
fn a_lost_daemon_is_stated_and_the_figures_stay() {
    let mut screen = Screen::new(10, 80, 24);
    let lost = || CommandError::Connect {
        address: "127.0.0.1:9107".to_owned(),
        error: std::io::ErrorKind::ConnectionRefused.into(),
    };
    screen.app.receive(Err(lost()));
    screen.assert_is("lost");
    screen.answer();
    assert!(!screen.text().contains("LOST"));
    screen.press("\n");
    screen.app.receive(Err(lost()));
    assert!(screen.text().contains("LOST, trying again: cannot connect"));
    screen.answer();
    // A device that is forgotten meanwhile keeps its last figures.
    let PageSubject::Device { device, .. } = screen.app.wanted().subject else {
        panic!("no device");
    };
    screen.app.receive(Ok(Round {
        device: Some((device, None)),
        ..Round::default()
    }));
    assert!(screen.text().contains("does not know this device any more"));
}

#[test]
fn a_pause_is_stated() {
    let mut screen = Screen::new(10, 80, 24);
    screen.press(" ");
    assert!(screen.app.wanted().is_paused);
    assert!(screen.text().contains("PAUSED, space continues"));
    screen.press("\n");
    assert!(screen.text().contains("PAUSED, space continues"));
    screen.press(" ");
    assert!(!screen.app.wanted().is_paused);
}

#[test]
fn answers_of_a_page_that_was_left_are_ignored() {
    let mut screen = Screen::new(10, 80, 24);
    let of_devices = screen.app.wanted();
    screen.press("\n");
    let of_first = screen.app.wanted();
    screen.press("\u{1b}j\n");
    let before = screen.text();
    for wanted in [of_devices, of_first] {
        screen.app.receive(Ok(answers::round(&wanted, 10)));
        assert_eq!(screen.text(), before);
    }
}

#[test]
fn a_feed_of_a_device_shows_no_device_that_its_name_matches_as_a_pattern() {
    let mut screen = Screen::new(1, 80, 24);
    let Wanted { feeds, .. } = screen.app.wanted();
    let request = feeds.into_iter().find(|it| it.kind == FeedKind::Messages);
    let tail = answers::tail(&["boiler", "boiler 2"], "hi");
    screen.app.receive(Ok(Round {
        feeds: vec![(request.unwrap(), tail)],
        ..Round::default()
    }));
    let text = screen.text();
    assert_eq!(text.matches("#1: hi").count(), 1, "{text}");
}

#[test]
fn nothing_hostile_gets_into_a_cell() {
    let evil = "\u{1b}]0;x\u{7}\u{9b}2J\u{202e}\r\n\t";
    for (width, height) in [(60, 16), (120, 40), (20, 5), (1, 1)] {
        let size = Size { width, height };
        let mut screen = Screen {
            app: App::new("http://127.0.0.1:9107".to_owned(), size, answers::clock()),
            devices: 10,
            size,
        };
        let answer = |screen: &mut Screen| {
            let wanted = screen.app.wanted();
            screen.app.receive(Ok(answers::hostile(&wanted, evil)));
        };
        let check = |screen: &Screen| {
            let terminal = screen.terminal(true);
            for cell in &terminal.buffer().content {
                let is_special = cell.symbol().chars().any(crate::escape::is_special);
                assert!(!is_special, "{:?}", cell.symbol());
            }
            // The library drops special characters, so the escapes must be there.
            let text = screen.text();
            for (at, _) in text.match_indices("]0;") {
                assert!(text[..at].ends_with(r"\u{1b}"), "{text}");
            }
        };
        for key in ['j', 'f', 'f', '\n', 'p', 'f', '?'] {
            answer(&mut screen);
            check(&screen);
            screen.press_only(key);
        }
        check(&screen);
        screen.app.receive(Err(CommandError::Request {
            url: evil.to_owned(),
            reason: evil.to_owned(),
        }));
        check(&screen);
        screen.press_only('x');
        check(&screen);
    }
}

impl Screen {
    /// Presses a key, and answers nothing.
    fn press_only(&mut self, key: char) {
        self.app.press(match key {
            '\n' => Key::Enter,
            key => Key::Char(key),
        });
    }
}

#[test]
fn colours_repeat_what_words_say() {
    let screen = Screen::new(10, 80, 24);
    let coloured = screen.terminal(true);
    let plain = screen.terminal(false);
    let symbols = |terminal: &TestBackend| -> Vec<_> {
        let cells = terminal.buffer().content.iter();
        cells
            .map(|cell| (cell.symbol().to_owned(), cell.modifier))
            .collect()
    };
    assert_eq!(symbols(&coloured), symbols(&plain));
    let of_16 = |colour: Color| !matches!(colour, Color::Rgb(..) | Color::Indexed(_));
    assert!(
        coloured
            .buffer()
            .content
            .iter()
            .all(|cell| of_16(cell.fg) && of_16(cell.bg))
    );
    assert!(
        coloured
            .buffer()
            .content
            .iter()
            .any(|cell| cell.fg == Color::Red)
    );
    let is_plain = |colour: Color| colour == Color::Reset;
    assert!(
        plain
            .buffer()
            .content
            .iter()
            .all(|cell| is_plain(cell.fg) && is_plain(cell.bg))
    );
    // The chosen row has a mark besides its style.
    let chosen = plain
        .buffer()
        .content
        .iter()
        .find(|cell| cell.symbol() == ">");
    assert!(chosen.unwrap().modifier.contains(Modifier::REVERSED));
}

#[test]
fn the_end_of_a_plot_is_the_time_of_the_daemon() {
    let mut screen = Screen::new(1, 80, 30);
    let json = br#"{"time":"2026-11-28T12:00:05Z","from_ms":1795867145000,"to_ms":1795867205000,"step_ms":100,
        "history":"none","series":[{"field":"temp","points":[[1795867145000,1.0],[1795867146000,3.0]],"error":null}]}"#;
    let plot: Plot = from_json(json).unwrap();
    let Page::Device(page) = &mut screen.app.page else {
        panic!("no device");
    };
    page.plotted.truncate(1);
    page.plot = Some(plot);
    let text = screen.text();
    let dots: Vec<_> = text
        .lines()
        .filter(|line| line.contains(|it| ('\u{2801}'..='\u{28ff}').contains(&it)))
        .collect();
    // Values of the first second only are at the left.
    assert!(!dots.is_empty(), "{text}");
    for line in dots {
        let last = line
            .chars()
            .position(|it| ('\u{2801}'..='\u{28ff}').contains(&it));
        assert!(last.unwrap() < 15, "{text}");
    }
    assert!(text.contains("temp over 1 min, 1 to 3"), "{text}");
}

#[test]
fn keys_quit() {
    for key in [Key::Char('q'), Key::Interrupt] {
        let mut screen = Screen::new(10, 80, 24);
        screen.app.press(key);
        assert!(screen.app.has_quit());
    }
    let mut screen = Screen::new(10, 80, 24);
    screen.press("/q");
    assert!(!screen.app.has_quit());
    screen.app.press(Key::Interrupt);
    assert!(screen.app.has_quit());
}
