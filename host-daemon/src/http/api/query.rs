//! The query of a request: [`Parameters`] has its names and values, and finds those that are wrong.

use std::fmt::Display;
use std::str::FromStr;

use blocksd_engine::device::DeviceState;

use crate::http::api::BadQuery;
use crate::view::{
    DeviceOrder, DevicesQuery, EntriesQuery, EntryFilter, EntryKind, LONGEST_S, PlotQuery,
};

/// Most parameters of a request.
const PARAMETERS_MAX: usize = 300;
/// Most devices of which a request gets details.
const DETAILS_MAX: usize = 200;
/// The number of these devices, if the request does not limit it.
const DETAILS: usize = 50;
/// Most entries of an answer, and their number if the request does not limit it.
pub(super) const ENTRIES: (usize, usize) = (1000, 200);
/// Most fields of a plot.
const FIELDS_MAX: usize = 8;
/// Most bytes of the entries of an answer.
const ANSWER_BYTES: usize = 512 << 10;
/// Most bytes of the entries that a follower gets at once.
const PART_BYTES: usize = 128 << 10;
/// Bounds of the columns of a plot, and their number if the request does not set it.
const COLUMNS: (u32, u32, u32) = (10, 2000, 600);
/// Seconds of a plot, if the request does not set them.
const PLOT_S: u32 = 60;
/// Seconds of a table, if the request does not set them.
const TABLE_S: u32 = 600;

/// The parameters of a request that were not taken yet.
#[derive(Debug, Default)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads a query.
    pub(super) fn new(query: Option<&str>) -> Result<Self, BadQuery> {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        let all: Vec<_> = pairs
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .take(PARAMETERS_MAX + 1)
            .collect();
        match all.len() <= PARAMETERS_MAX {
            true => Ok(Self(all)),
            false => Err(BadQuery(format!("more than {PARAMETERS_MAX} parameters"))),
        }
    }

    /// Takes all values of a parameter.
    fn all(&mut self, name: &str) -> Vec<String> {
        let (taken, rest) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|it| it.0 == name);
        self.0 = rest;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().map(|(_, value)| value).collect()
    }

    /// Takes the value of a parameter that may occur once.
    fn one(&mut self, name: &str) -> Result<Option<String>, BadQuery> {
        let mut values = self.all(name);
        match values.len() {
            0 | 1 => Ok(values.pop()),
            _ => Err(BadQuery(format!("{name} is there more than once"))),
        }
    }

    /// Takes a number, within bounds.
    fn number<T: FromStr + PartialOrd + Display>(
        &mut self,
        name: &str,
        least: T,
        most: T,
    ) -> Result<Option<T>, BadQuery> {
        let Some(text) = self.one(name)? else {
            return Ok(None);
        };
        let number = text.parse().ok().filter(|it| least <= *it && *it <= most);
        let wrong = || BadQuery(format!("{name} must be a number from {least} to {most}"));
        number.map(Some).ok_or_else(wrong)
    }

    /// Takes a parameter that is `true` or `false`.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, BadQuery> {
        match self.one(name)?.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(BadQuery(format!("{name} must be true or false"))),
        }
    }

    /// Takes the name of a device, which must be there.
    pub(super) fn device(&mut self) -> Result<String, BadQuery> {
        let missing = || BadQuery("device=NAME is needed".to_owned());
        self.one("device")?.ok_or_else(missing)
    }

    /// Checks that all parameters were taken.
    pub(super) fn end(self) -> Result<(), BadQuery> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(BadQuery(format!("unknown parameter {name:?}"))),
        }
    }

    /// The devices of a list.
    pub(super) fn devices(mut self) -> Result<DevicesQuery, BadQuery> {
        let mut states = Vec::new();
        let named = self.one("state")?.unwrap_or_default();
        for name in named.split(',').filter(|name| !name.is_empty()) {
            let known = DeviceState::ALL.into_iter().find(|it| it.as_str() == name);
            states.push(known.ok_or_else(|| {
                BadQuery(
                    "state must be live, silent, faulty or gone, or several of them".to_owned(),
                )
            })?);
        }
        let order = match self.one("sort")?.as_deref() {
            None | Some("name") => DeviceOrder::Name,
            Some("worst") => DeviceOrder::Worst,
            Some("rate") => DeviceOrder::Rate,
            Some("faults") => DeviceOrder::Faults,
            Some("last") => DeviceOrder::Last,
            Some(_) => {
                let known = "sort must be name, worst, rate, faults or last";
                return Err(BadQuery(known.to_owned()));
            }
        };
        let has_details = self.flag("detail")?;
        let most = if has_details { DETAILS_MAX } else { usize::MAX };
        let limit = self.number("limit", 0, most)?;
        let query = DevicesQuery {
            filter: self.one("filter")?.unwrap_or_default(),
            states,
            names: self.all("device").into_iter().collect(),
            order,
            offset: self.number("offset", 0, usize::MAX)?.unwrap_or_default(),
            limit: limit.or_else(|| has_details.then_some(DETAILS)),
            has_details,
        };
        self.end().map(|()| query)
    }

    /// The entries of a list, and whether they are followed.
    pub(super) fn entries(mut self, kind: EntryKind) -> Result<(EntriesQuery, bool), BadQuery> {
        let contains = self.one("contains")?.unwrap_or_default();
        let mut filter = EntryFilter::default().containing(&contains);
        for glob in self.all("device") {
            filter.devices.push(&glob);
        }
        if kind == EntryKind::Messages
            && let Some(level) = self.one("level")?
        {
            let known = "level must be trace, debug, info, warn or error";
            filter.level = Some(level.parse().map_err(|()| BadQuery(known.to_owned()))?);
        }
        let is_followed = self.flag("follow")?;
        let (most, usual) = ENTRIES;
        let query = EntriesQuery {
            kind,
            filter,
            after: self.number("after", 0, u64::MAX - 1)?,
            limit: self
                .number("limit", usize::from(!is_followed), most)?
                .unwrap_or(usual),
            max_bytes: match is_followed {
                true => PART_BYTES,
                false => ANSWER_BYTES,
            },
            has_hex: self.flag("hex")?,
        };
        self.end().map(|()| (query, is_followed))
    }

    /// A plot.
    pub(super) fn plot(mut self) -> Result<PlotQuery, BadQuery> {
        let (least, most, usual) = COLUMNS;
        let query = PlotQuery {
            device: self.device()?,
            fields: self.all("field"),
            last_s: self.number("last_s", 1, LONGEST_S)?.unwrap_or(PLOT_S),
            columns: self.number("columns", least, most)?.unwrap_or(usual),
        };
        if !(1..=FIELDS_MAX).contains(&query.fields.len()) {
            let wrong = format!("field=NAME is needed, from 1 to {FIELDS_MAX} times");
            return Err(BadQuery(wrong));
        }
        self.end().map(|()| query)
    }

    /// The device and the seconds of a table.
    pub(super) fn table(mut self) -> Result<(String, u32), BadQuery> {
        let device = self.device()?;
        let last_s = self.number("last_s", 1, LONGEST_S)?.unwrap_or(TABLE_S);
        self.end().map(|()| (device, last_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(query: &str) -> Parameters {
        Parameters::new(Some(query)).expect("few parameters")
    }

    #[test]
    fn names_and_values_are_decoded() {
        let query = "device=a%2Fb+%25&device=%C3%BC&state=silent,gone&sort=worst&offset=50&limit=7&filter=X";
        let query = parameters(query).devices().expect("a query");
        assert_eq!(query.names, ["a/b %", "ü"].map(str::to_owned).into());
        assert_eq!(query.states, [DeviceState::Silent, DeviceState::Gone]);
        assert_eq!((query.offset, query.limit), (50, Some(7)));
        let all = parameters("").devices().expect("a query");
        assert_eq!((all.limit, all.order), (None, DeviceOrder::Name));
        assert_eq!(
            parameters("detail=true").devices().expect("a query").limit,
            Some(DETAILS)
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let devices = |query| parameters(query).devices().map(drop).map_err(|it| it.0);
        let entries = |query| {
            let entries = parameters(query).entries(EntryKind::Messages);
            entries.map(drop).map_err(|it| it.0)
        };
        let plot = |query| parameters(query).plot().map(drop).map_err(|it| it.0);
        for (result, name) in [
            (devices("stat=live"), "\"stat\""),
            (devices("state=alive"), "state must be live"),
            (devices("sort=x"), "sort must be"),
            (devices("limit=-1"), "limit must be"),
            (devices("limit=1&limit=2"), "limit is there more than once"),
            (devices("detail=true&limit=201"), "from 0 to 200"),
            (devices("detail=yes"), "true or false"),
            (entries("limit=0"), "from 1 to 1000"),
            (entries("level=loud"), "level must be"),
            (entries("after=18446744073709551615"), "after must be"),
            (plot("field=a"), "device=NAME"),
            (plot("device=a"), "field=NAME"),
            (plot("device=a&field=1&last_s=3601"), "from 1 to 3600"),
            (plot("device=a&field=1&columns=9"), "from 10 to 2000"),
        ] {
            let error = result.expect_err(name);
            assert!(error.contains(name), "{error}");
        }
        assert!(entries("limit=0&follow=true").is_ok());
        let many = "device=x&".repeat(PARAMETERS_MAX + 1);
        assert!(Parameters::new(Some(&many)).is_err());
        assert!(parameters("level=warn").entries(EntryKind::Faults).is_err());
    }
}
