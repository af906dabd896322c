//! The [`text`] of an error of the client, with what to do if it is the answer of a server that does not say it.

use std::error::Error;

/// What to do about answers of servers that do not say it: a part of the text, and the advice.
const ADVICE: [(&str, &str); 5] = [
    ("JetStream system temporarily unavailable", UNAVAILABLE),
    ("insufficient resources", FULL),
    // "no suitable peers" can name this as its cause, too.
    ("insufficient storage", FULL),
    ("no suitable peers for placement", FEW),
    ("resource limits exceeded for account", ACCOUNT_FULL),
];
const UNAVAILABLE: &str =
    "a leader is elected, or too few servers of the cluster run: wait, or start the others";
const FEW: &str = "fewer servers of the cluster run than the stream has replicas, or have room for it: start the others";
const FULL: &str = "a server has reached its limit for files (`max_file_store`), or its disk is full: free space, or limit the stream";
const ACCOUNT_FULL: &str =
    "the account has reached its limit of JetStream: raise it, or limit the stream";

/// An error and its causes, on one line, and what to do if the answer of a server lacks that.
pub(crate) fn text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    match ADVICE.into_iter().find(|(part, _)| text.contains(part)) {
        Some((_, advice)) => format!("{text}; {advice}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream;

    use super::*;

    #[test]
    fn an_answer_of_the_servers_says_what_to_do() {
        let answer = |code: u64, error: u64, text: &str| -> jetstream::Error {
            let json =
                format!("{{\"code\":{code},\"err_code\":{error},\"description\":\"{text}\"}}");
            serde_json::from_str(&json).unwrap()
        };
        let full = text(&answer(503, 10_023, "insufficient resources"));
        assert!(full.contains("`max_file_store`"), "{full}");
        let full = text(&answer(
            500,
            10_047,
            "insufficient storage resources available",
        ));
        assert!(full.contains("`max_file_store`"), "{full}");
        let away = "JetStream system temporarily unavailable";
        let away = text(&answer(503, 10_008, away));
        assert!(away.contains("start the others"), "{away}");
        let few = "no suitable peers for placement, miscellaneous issue";
        let few = text(&answer(400, 10_005, few));
        assert!(few.contains("fewer servers"), "{few}");
        let other = text(&answer(400, 10_003, "bad request"));
        assert!(other.starts_with("bad request") && !other.contains(';'));
    }
}
