//! Streams that are accepted and refused, and with which words.

use async_nats::jetstream::stream::{Source, SubjectTransform};

use super::*;

fn wish() -> Wish {
    Wish {
        stream: "blocksd".to_owned(),
        subjects: Subjects::new("main"),
        durable: true,
        create: false,
    }
}

#[test]
fn a_stream_that_the_command_makes_is_accepted() {
    assert!(check(&wish().config(), &wish(), false).is_ok());
    let weak = Wish {
        durable: false,
        ..wish()
    };
    assert!(check(&weak.config(), &weak, false).is_ok());
    let refused = check(&weak.config(), &wish(), false)
        .unwrap_err()
        .to_string();
    assert_eq!(
        refused,
        "the stream is not durable: it has less than three replicas; change it with `nats stream edit blocksd --replicas 3`, or \
         accept that (`durable=false`)"
    );
}

#[test]
fn a_single_server_is_not_asked_for_replicas() {
    let single = "one server cannot have 3 replicas; use a cluster of 3 servers, or accept";
    let missing = wish().missing(true).to_string();
    assert!(missing.contains(single), "{missing}");
    let mut config = wish().config();
    (config.num_replicas, config.storage) = (1, StorageType::Memory);
    let refused = check(&config, &wish(), true).unwrap_err().to_string();
    assert!(refused.contains(single), "{refused}");
    config.sealed = true;
    let refused = check(&config, &wish(), true).unwrap_err().to_string();
    assert!(refused.contains(" --replicas 1 "), "{refused}");
    let weak = Wish {
        durable: false,
        ..wish()
    };
    let missing = weak.missing(true).to_string();
    assert!(missing.contains(" --replicas 1 "), "{missing}");
    let missing = wish().missing(false).to_string();
    assert!(missing.contains(" --replicas 3 "), "{missing}");
}

#[test]
fn a_stream_of_other_subjects_is_refused_with_what_to_do() {
    let mut config = wish().config();
    config.subjects = vec!["orders.*".to_owned()];
    let refused = check(&config, &wish(), false).unwrap_err().to_string();
    assert!(
        refused.ends_with(
            "or change its subjects (`nats stream edit blocksd --subjects 'orders.*,blocksd.main.>'`)"
        ),
        "{refused}"
    );
}

#[test]
fn subjects_that_overlap_with_a_new_one_are_joined_with_it() {
    for (before, after) in [
        ("orders.*", "orders.*,blocksd.main.>"),
        ("blocksd.main", "blocksd.main,blocksd.main.>"),
        ("", "blocksd.main.>"),
        (
            "blocksd.main.dev.>,orders.*,blocksd.main.events.>",
            "orders.*,blocksd.main.>",
        ),
        ("blocksd.main.*,blocksd.*.x", "blocksd.*.>"),
        // Other sites keep their subjects.
        ("blocksd.*.dev.>,blocksd.other.>", "blocksd.*.>"),
        ("blocksd.other.>,blocksd.*.dev.*", "blocksd.*.>"),
        ("*.main.dev.a,b.*.dev.>", "*.*.>"),
        ("*.*.*", "*.*.>"),
    ] {
        assert_eq!(with(before, "blocksd.main.>"), after, "{before}");
    }
    let mut config = wish().config();
    config.subjects = ["dev", "events"]
        .map(|it| format!("blocksd.main.{it}.>"))
        .into();
    let refused = check(&config, &wish(), false).unwrap_err().to_string();
    assert!(
        refused.ends_with("(`nats stream edit blocksd --subjects 'blocksd.main.>'`)"),
        "{refused}"
    );
}

#[test]
fn wildcards_take_what_they_cover() {
    for subject in [
        "blocksd.main.>",
        "blocksd.>",
        ">",
        "*.main.>",
        "blocksd.*.>",
    ] {
        assert!(covers(subject, "blocksd.main.>"), "{subject}");
    }
    for subject in [
        "blocksd.main.dev.>",
        "blocksd.main",
        "blocksd.other.>",
        "blocksd.main.*",
    ] {
        assert!(!covers(subject, "blocksd.main.>"), "{subject}");
    }
}

#[test]
fn all_reasons_are_given_with_one_command() {
    let mut config = wish().config();
    (config.discard, config.max_bytes) = (DiscardPolicy::New, 1);
    let refused = check(&config, &wish(), false).unwrap_err().to_string();
    let command = "`nats stream edit blocksd --discard old --max-bytes=67108864`";
    assert!(
        refused.contains("refuses messages") && refused.ends_with(command),
        "{refused}"
    );
    config.retention = RetentionPolicy::Interest;
    config.subject_delete_marker_ttl = Some(Duration::from_secs(60));
    let refused = check(&config, &wish(), false).unwrap_err().to_string();
    assert!(
        refused.contains("edit blocksd --retention limits --discard old")
            && refused.ends_with(" --subject-del-markers-ttl=0s`"),
        "{refused}"
    );
    config.sources = Some(vec![Source::default()]);
    let refused = check(&config, &wish(), false).unwrap_err().to_string();
    assert!(
        refused.ends_with("in the editor of `nats stream edit blocksd --interactive`"),
        "{refused}"
    );
    // Nothing changes this one.
    config.retention = RetentionPolicy::WorkQueue;
    let refused = check(&config, &wish(), false).unwrap_err().to_string();
    assert!(
        refused.contains(
            "remove it with its messages (`nats stream rm blocksd`), and make another one with `nats stream add blocksd"
        ),
        "{refused}"
    );
}

#[test]
fn what_loses_messages_is_refused() {
    let with = |change: fn(&mut Config)| {
        let mut config = wish().config();
        change(&mut config);
        check(&config, &wish(), false).is_err()
    };
    assert!(with(|it| it.storage = StorageType::Memory));
    assert!(with(|it| it.persist_mode = Some(PersistenceMode::Async)));
    assert!(with(|it| it.retention = RetentionPolicy::Interest));
    assert!(with(|it| it.discard = DiscardPolicy::New));
    assert!(with(|it| it.no_ack = true));
    assert!(with(|it| it.sealed = true));
    assert!(with(|it| it.subjects = vec!["other.>".to_owned()]));
    assert!(!with(|it| it.num_replicas = 5));
    assert!(with(|it| it.max_messages_per_subject = 1));
    assert!(!with(|it| it.max_messages_per_subject = -1));
    assert!(with(|it| it.max_bytes = 1 << 20));
    assert!(!with(|it| it.max_bytes = 64 << 20));
    assert!(with(|it| it.max_messages = 1));
    assert!(!with(|it| it.max_messages = 10_000));
    assert!(with(|it| it.max_age = Duration::from_secs(599)));
    assert!(!with(|it| it.max_age = AGE_MIN));
    assert!(with(|it| it.sources = Some(vec![Source::default()])));
    assert!(!with(|it| it.sources = Some(Vec::new())));
    assert!(with(|it| it.subject_transform = Some(SubjectTransform {
        source: ">".to_owned(),
        destination: "a.>".to_owned(),
    })));
    assert!(with(
        |it| it.subject_delete_marker_ttl = Some(Duration::from_secs(60))
    ));
    assert!(with(|it| it.allow_message_counter = true));
    // These change neither what is stored nor its order.
    assert!(!with(|it| it.first_sequence = Some(1_000)));
    assert!(!with(|it| it.allow_rollup = true));
    assert!(!with(|it| it.deny_delete = true));
    assert!(!with(|it| it.allow_message_ttl = true));
}
