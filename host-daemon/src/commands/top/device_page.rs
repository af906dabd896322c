//! The state of the view of one device: [`DevicePage`].

use crate::api::device::{DeviceView, FieldView};
use crate::api::plot::Plot;
use crate::commands::top::input::Key;
use crate::commands::top::layout::Size;
use crate::commands::top::poll::{FeedKind, PageSubject};

/// Fields that are plotted at the same time.
pub(super) const PLOTS_MAX: usize = 2;
/// Columns of a plot that the daemon accepts.
const COLUMNS_MAX: usize = 2000;

/// The view of a device.
#[derive(Debug)]
pub(super) struct DevicePage {
    /// Its name.
    pub(super) name: String,
    /// The device, once it is known.
    pub(super) view: Option<DeviceView>,
    /// The daemon does not know it any more.
    pub(super) is_unknown: bool,
    /// The chosen row of the fields.
    pub(super) selected: usize,
    /// The fields that are plotted.
    pub(super) plotted: Vec<String>,
    /// The length of the plots, in seconds.
    pub(super) last_s: u32,
    /// The values of these fields.
    pub(super) plot: Option<Plot>,
    /// Whether faults are shown in place of messages.
    pub(super) shows_faults: bool,
    /// Its newest messages and faults, as lines.
    pub(super) messages: Vec<String>,
    pub(super) faults: Vec<String>,
    /// The user has chosen the fields that are plotted.
    is_chosen: bool,
}

impl DevicePage {
    /// The view of this device, of which nothing is known yet.
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            view: None,
            is_unknown: false,
            selected: 0,
            plotted: Vec::new(),
            last_s: 60,
            plot: None,
            shows_faults: false,
            messages: Vec::new(),
            faults: Vec::new(),
            is_chosen: false,
        }
    }

    /// What it shows in a terminal of this size.
    pub(super) fn subject(&self, size: Size) -> PageSubject {
        PageSubject::Device {
            device: self.name.clone(),
            fields: self.plotted.clone(),
            last_s: self.last_s,
            // A cell of a plot has two columns of dots.
            columns: (usize::from(size.width) * 2).clamp(10, COLUMNS_MAX),
        }
    }

    /// The fields, as far as they are known.
    pub(super) fn fields(&self) -> &[FieldView] {
        self.view.as_ref().map_or(&[], |view| &view.fields)
    }

    /// The plotted fields that are shown if there is room for so many: those that the user has chosen last.
    pub(super) fn shown_plots(&self, most: usize) -> &[String] {
        let count = self.plotted.len();
        let shown = match self.is_chosen {
            true => self.plotted.get(count.saturating_sub(most)..),
            false => self.plotted.get(..count.min(most)),
        };
        shown.unwrap_or_default()
    }

    /// Takes what the daemon knows of the device. The first fields with numbers are plotted until the user chooses others.
    pub(super) fn set_view(&mut self, view: Option<DeviceView>) {
        self.is_unknown = view.is_none();
        if view.is_some() {
            self.view = view;
        }
        if !self.is_chosen {
            let numeric = self.fields().iter().filter(|field| field.numeric);
            let names = numeric.map(|field| field.field.clone());
            self.plotted = names.take(PLOTS_MAX).collect();
        }
        self.select(self.selected);
    }

    /// Takes messages or faults.
    pub(super) fn set_lines(&mut self, kind: FeedKind, lines: Vec<String>) {
        match kind {
            FeedKind::Messages => self.messages = lines,
            FeedKind::Faults => self.faults = lines,
        }
    }

    /// Reacts to a key.
    pub(super) fn press(&mut self, key: Key) {
        match key {
            Key::Up | Key::Char('k') => self.select(self.selected.saturating_sub(1)),
            Key::Down | Key::Char('j') => self.select(self.selected + 1),
            Key::PageUp => self.select(self.selected.saturating_sub(10)),
            Key::PageDown => self.select(self.selected + 10),
            Key::Home | Key::Char('g') => self.select(0),
            Key::End | Key::Char('G') => self.select(usize::MAX),
            Key::Enter | Key::Char('p') => self.toggle(),
            Key::Char('1') => self.last_s = 60,
            Key::Char('2') => self.last_s = 600,
            Key::Char('3') => self.last_s = 3600,
            Key::Char('f') => self.shows_faults = !self.shows_faults,
            _ => {}
        }
    }

    fn select(&mut self, row: usize) {
        self.selected = row.min(self.fields().len().saturating_sub(1));
    }

    /// Plots the chosen field, in place of the oldest one if there are enough; or plots it no more.
    fn toggle(&mut self) {
        let Some(field) = self.fields().get(self.selected) else {
            return;
        };
        let (name, is_numeric) = (field.field.clone(), field.numeric);
        let count = self.plotted.len();
        self.plotted.retain(|it| *it != name);
        if self.plotted.len() == count && is_numeric {
            if count == PLOTS_MAX {
                self.plotted.remove(0);
            }
            self.plotted.push(name);
        }
        self.is_chosen = true;
    }
}
