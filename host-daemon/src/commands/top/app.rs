//! The state of `top`, which keys and answers change: [`App`].

use serde_json::Value;

use crate::api::daemon::{DaemonReport, ForwardReport};
use crate::api::devices::{DeviceReport, DevicesReport};
use crate::api::tail::Tail;
use crate::commands::entry_text::EntryText;
use crate::commands::top::device_page::DevicePage;
use crate::commands::top::forwards;
use crate::commands::top::input::Key;
use crate::commands::top::layout::{Size, list_sizes};
use crate::commands::top::poll::{FeedKind, FeedRequest, PageSubject, Polled, Round, Wanted};
use crate::escape::printable;
use crate::output::Clock;

/// The most devices that the daemon shows with details in one answer.
const ROWS_MAX: usize = 200;
/// Characters of a filter.
const FILTER_MAX: usize = 64;

/// What the user sees, and what is known of the daemon.
pub(super) struct App {
    /// The address of the daemon.
    pub(super) url: String,
    /// The page.
    pub(super) page: Page,
    /// Whether the help covers the page.
    pub(super) is_help: bool,
    /// Whether the figures stay as they are.
    pub(super) is_paused: bool,
    /// Devices whose name contains this text are listed.
    pub(super) filter: String,
    /// The filter that is being typed.
    pub(super) typed: Option<String>,
    /// The order of the devices.
    pub(super) sort: Sort,
    /// The number of the first visible row.
    pub(super) offset: usize,
    /// The number of the chosen row.
    pub(super) selected: usize,
    /// The devices, and the number of the first one in the answer.
    pub(super) devices: Option<(usize, DevicesReport)>,
    /// The daemon itself.
    pub(super) daemon: Option<DaemonReport>,
    /// The newest messages and faults of all devices, as lines.
    pub(super) messages: Vec<String>,
    pub(super) faults: Vec<String>,
    /// Why the daemon does not answer.
    pub(super) lost: Option<String>,
    pub(super) text: EntryText,
    size: Size,
    /// The name of the device in the row that the user has chosen: it stays chosen when it moves.
    selected_name: Option<String>,
    /// No key was pressed yet, so the view of an only device may open by itself.
    is_untouched: bool,
    has_quit: bool,
}

/// A page.
#[derive(Debug)]
pub(super) enum Page {
    /// The table of devices.
    Devices,
    /// Faults by kind, and the newest ones.
    Faults,
    /// One device.
    Device(Box<DevicePage>),
}

/// An order of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Worst,
    Name,
    Rate,
    Faults,
    Last,
}

impl Sort {
    /// Its name in a request.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Worst => "worst",
            Self::Name => "name",
            Self::Rate => "rate",
            Self::Faults => "faults",
            Self::Last => "last",
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Worst => Self::Rate,
            Self::Rate => Self::Faults,
            Self::Faults => Self::Last,
            Self::Last => Self::Name,
            Self::Name => Self::Worst,
        }
    }
}

impl App {
    /// The first screen of a terminal of this size.
    pub(super) fn new(url: String, size: Size, clock: Clock) -> Self {
        Self {
            url,
            page: Page::Devices,
            is_help: false,
            is_paused: false,
            filter: String::new(),
            typed: None,
            sort: Sort::Worst,
            offset: 0,
            selected: 0,
            devices: None,
            daemon: None,
            messages: Vec::new(),
            faults: Vec::new(),
            lost: None,
            text: EntryText::new(clock, false),
            size,
            selected_name: None,
            is_untouched: true,
            has_quit: false,
        }
    }

    /// Whether the user has ended it.
    pub(super) const fn has_quit(&self) -> bool {
        self.has_quit
    }

    /// Takes the size of the terminal.
    pub(super) fn resize(&mut self, size: Size) {
        self.size = size;
        self.keep_selected_visible();
    }

    /// What the page shows.
    pub(super) fn wanted(&self) -> Wanted {
        let sizes = list_sizes(self.size, self.forward_lines());
        let feed = |kind, device, limit| FeedRequest {
            kind,
            device,
            limit,
        };
        let (subject, feeds) = match &self.page {
            Page::Device(page) => {
                let device = Some(page.name.clone());
                let rows = usize::from(self.size.height).clamp(1, ROWS_MAX);
                (
                    page.subject(self.size),
                    vec![
                        feed(FeedKind::Messages, device.clone(), rows),
                        feed(FeedKind::Faults, device, rows),
                    ],
                )
            }
            page => {
                let subject = PageSubject::Devices {
                    filter: self.filter.clone(),
                    sort: self.sort.as_str(),
                    offset: self.offset,
                    limit: sizes.rows.clamp(1, ROWS_MAX),
                };
                let rows = usize::from(self.size.height).clamp(1, ROWS_MAX);
                let feed = match page {
                    Page::Faults => feed(FeedKind::Faults, None, rows),
                    _ => feed(FeedKind::Messages, None, sizes.messages.max(1)),
                };
                (subject, vec![feed])
            }
        };
        Wanted {
            subject,
            feeds,
            is_paused: self.is_paused,
        }
    }

    /// Takes a round of answers.
    pub(super) fn receive(&mut self, polled: Polled) {
        match polled {
            Ok(round) => {
                self.lost = None;
                self.take(round);
            }
            Err(error) => self.lost = Some(printable(error)),
        }
    }

    /// Reacts to a key.
    pub(super) fn press(&mut self, key: Key) {
        self.is_untouched = false;
        if key == Key::Interrupt {
            self.has_quit = true;
        } else if self.typed.is_some() {
            self.type_filter(key);
        } else if self.is_help {
            // Any key closes the help.
            self.is_help = false;
        } else {
            match key {
                Key::Char('q') => self.has_quit = true,
                Key::Char('?') => self.is_help = true,
                Key::Char(' ') => self.is_paused = !self.is_paused,
                key => self.press_on_page(key),
            }
        }
    }

    /// The clusters that the recording is forwarded to.
    pub(super) fn forwards(&self) -> &[ForwardReport] {
        self.daemon.as_ref().map_or(&[], |it| &it.forwards)
    }

    /// The lines of the clusters.
    fn forward_lines(&self) -> usize {
        forwards::count(self.forwards(), self.size.width)
    }

    /// The visible devices, each with the number of its row.
    pub(super) fn visible(&self) -> impl Iterator<Item = (usize, &DeviceReport)> {
        let rows = list_sizes(self.size, self.forward_lines()).rows;
        let (first, devices) = match &self.devices {
            Some((first, report)) => (*first, &*report.devices),
            None => (0, &[][..]),
        };
        let visible = self.offset..self.offset + rows;
        let numbered = devices
            .iter()
            .enumerate()
            .map(move |(at, it)| (first + at, it));
        numbered.filter(move |(row, _)| visible.contains(row))
    }

    /// Number of devices that the filter selects.
    pub(super) fn matched(&self) -> usize {
        let matched = self.devices.as_ref().map_or(0, |(_, it)| it.matched);
        usize::try_from(matched).unwrap_or(usize::MAX)
    }

    fn press_on_page(&mut self, key: Key) {
        match (&mut self.page, key) {
            (Page::Device(_) | Page::Faults, Key::Esc | Key::Backspace | Key::Char('h'))
            | (Page::Faults, Key::Char('f')) => self.page = Page::Devices,
            (Page::Device(page), key) => page.press(key),
            (Page::Faults, _) => {}
            (Page::Devices, key) => self.press_on_devices(key),
        }
    }

    fn press_on_devices(&mut self, key: Key) {
        let rows = list_sizes(self.size, self.forward_lines()).rows;
        let last = self.matched().saturating_sub(1);
        let selected = match key {
            Key::Char('/') => {
                self.typed = Some(self.filter.clone());
                return;
            }
            Key::Char('s') => {
                self.sort = self.sort.next();
                self.select_first_row();
                return;
            }
            Key::Char('f') => {
                self.page = Page::Faults;
                return;
            }
            Key::Esc => {
                self.set_filter(String::new());
                return;
            }
            Key::Enter => {
                let chosen = self.visible().find(|(row, _)| *row == self.selected);
                if let Some((_, device)) = chosen {
                    self.page = Page::Device(Box::new(DevicePage::new(&device.device)));
                }
                return;
            }
            Key::Up | Key::Char('k') => self.selected.saturating_sub(1),
            Key::Down | Key::Char('j') => self.selected + 1,
            Key::PageUp => self.selected.saturating_sub(rows),
            Key::PageDown => self.selected + rows,
            Key::Home | Key::Char('g') => 0,
            Key::End | Key::Char('G') => last,
            _ => return,
        };
        self.selected = selected.min(last);
        self.keep_selected_visible();
        self.name_selected();
    }

    fn type_filter(&mut self, key: Key) {
        let Some(typed) = &mut self.typed else {
            return;
        };
        match key {
            Key::Enter => {
                let filter = std::mem::take(typed);
                self.typed = None;
                self.set_filter(filter);
            }
            Key::Esc => self.typed = None,
            Key::Backspace => drop(typed.pop()),
            Key::Char(character) if typed.chars().count() < FILTER_MAX => typed.push(character),
            _ => {}
        }
    }

    fn set_filter(&mut self, filter: String) {
        self.filter = filter;
        self.select_first_row();
    }

    /// Chooses the first row, whichever device is in it.
    fn select_first_row(&mut self) {
        (self.selected, self.offset, self.selected_name) = (0, 0, None);
    }

    fn take(&mut self, round: Round) {
        if let Some(devices) = round.devices {
            self.devices = Some(devices);
            self.follow_selected();
        }
        if round.daemon.is_some() {
            self.daemon = round.daemon;
            self.keep_selected_visible();
        }
        for (request, tail) in &round.feeds {
            let lines = self.lines(request, tail);
            match (&mut self.page, request.kind, &request.device) {
                (Page::Device(page), kind, Some(device)) if page.name == *device => {
                    page.set_lines(kind, lines);
                }
                (_, FeedKind::Messages, None) => self.messages = lines,
                (_, FeedKind::Faults, None) => self.faults = lines,
                // Of a page that was left.
                _ => {}
            }
        }
        if let Page::Device(page) = &mut self.page {
            if let Some((name, view)) = round.device
                && page.name == name
            {
                page.set_view(view);
            }
            if let Some((name, plot)) = round.plot
                && page.name == name
            {
                page.plot = Some(plot);
            }
        }
        if let Some((_, report)) = &self.devices
            && let ([only], 1, true) = (&*report.devices, report.total, self.is_untouched)
        {
            self.page = Page::Device(Box::new(DevicePage::new(&only.device)));
            self.is_untouched = false;
        }
    }

    /// The entries as lines. The name of a device may be a pattern that matches others, too.
    fn lines(&mut self, request: &FeedRequest, tail: &Tail) -> Vec<String> {
        let device = request.device.as_deref();
        let is_of = |name: Option<&Value>| {
            device.is_none_or(|device| name.and_then(Value::as_str) == Some(device))
        };
        let entries = tail.entries.iter().filter(|it| is_of(it.get("device")));
        entries.map(|entry| self.text.line(entry)).collect()
    }

    /// The chosen device may have moved to another row.
    fn follow_selected(&mut self) {
        let moved = self.selected_name.as_ref().and_then(|name| {
            let mut visible = self.visible();
            visible.find(|(_, it)| it.device == *name)
        });
        if let Some((row, _)) = moved {
            self.selected = row;
        }
        let last = self.matched().saturating_sub(1);
        self.selected = self.selected.min(last);
        self.offset = self.offset.min(last);
        self.keep_selected_visible();
        if self.selected_name.is_some() {
            self.name_selected();
        }
    }

    fn name_selected(&mut self) {
        let chosen = self.visible().find(|(row, _)| *row == self.selected);
        let name = chosen.map(|(_, device)| device.device.clone());
        self.selected_name = name;
    }

    fn keep_selected_visible(&mut self) {
        let rows = list_sizes(self.size, self.forward_lines()).rows;
        // A very small terminal has no rows.
        let least = (self.selected + 1).saturating_sub(rows.max(1));
        self.offset = self.offset.clamp(least, self.selected);
    }
}
