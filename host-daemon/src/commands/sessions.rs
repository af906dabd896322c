//! `blocksd sessions`: lists the sessions of recordings. Start with [`sessions_command`].

use std::io::Write;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::commands::content::{list_once, report_empty};
use crate::commands::read::report_unreadable;
use crate::commands::table::{name, time, write_table};
use crate::error::CommandError;
use crate::escape::json::write_json;
use crate::recorded::journal::{AuditedSession, SessionAudit};
use blocksd_engine::stdio;

/// Lists sessions as a table, or as one JSON object per line.
///
/// # Errors
/// [`CommandError::Recording`]; [`CommandError::NotWhole`] if a file cannot be read.
pub fn sessions_command(paths: &[PathBuf], as_json: bool) -> Result<(), CommandError> {
    let mut out = stdio::stdout();
    report_empty(paths)?;
    let is_single = matches!(paths, [path] if !path.is_dir());
    let (mut audit, mut unread) = (SessionAudit::default(), 0);
    for listed in list_once(paths)? {
        match audit.file(&listed, paths.contains(&listed.path)) {
            Ok(()) => {}
            Err(error) if is_single => return Err(error.into()),
            Err(error) => {
                report_unreadable(error);
                unread += 1;
            }
        }
    }
    let sessions = audit.finish();
    let written = match as_json {
        true => sessions.iter().try_for_each(|session| {
            write_json(&mut out, &object(session)).and_then(|()| writeln!(out))
        }),
        false => {
            let names = [
                "DEVICE", "SESSION", "FIRST", "NEXT", "MESSAGES", "MISSING", "GAPS", "LAST",
            ];
            let rows = sessions.iter().map(row);
            write_table(&mut out, names, rows, 2..6)
        }
    };
    written.map_err(CommandError::stdout)?;
    match unread {
        0 => Ok(()),
        unread => Err(CommandError::NotWhole { lost: 0, unread }),
    }
}

fn row(session: &AuditedSession) -> [String; 8] {
    let none = || "-".to_owned();
    let gaps = session.gaps().filter(|(_, gaps, _)| *gaps != 0);
    let gaps: Vec<_> = gaps
        .map(|(cause, _, numbers)| format!("{numbers} {}", cause.as_str()))
        .collect();
    [
        name(&session.device),
        format!("{:016x}", session.session),
        session.first.map_or_else(none, |first| first.to_string()),
        session.next.to_string(),
        session.messages().to_string(),
        session.missing().to_string(),
        match gaps.as_slice() {
            [] => none(),
            gaps => gaps.join(", "),
        },
        session.last_time_ns.map_or_else(none, time),
    ]
}

fn object(session: &AuditedSession) -> Value {
    let gaps = session.gaps().filter(|(_, gaps, _)| *gaps != 0);
    let gaps: Map<_, _> = gaps
        .map(|(cause, gaps, messages)| {
            let gaps = json!({ "gaps": gaps, "messages": messages });
            (cause.as_str().to_owned(), gaps)
        })
        .collect();
    json!({
        "device": session.device,
        "session": format!("{:016x}", session.session),
        "first": session.first,
        "next": session.next,
        "messages": session.messages(),
        "missing": session.missing(),
        "twice": session.twice(),
        "gaps": gaps,
        "last": session.last_time_ns.map(time),
    })
}
