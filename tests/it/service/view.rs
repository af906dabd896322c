//! The live view: the paths of the API, and their parameters.

use std::collections::BTreeSet;
use std::io::Write;
use std::thread;

use blocksd_tests::process::{Server, wait_until};
use blocksd_tests::viewer::Viewer;
use serde_json::Value;
use tempfile::TempDir;

use crate::engine::admission::from;

/// A daemon of lines of JSON, with the API.
pub(super) fn start(more: &[&str]) -> (Server, Viewer) {
    let args = [
        "--http",
        "127.0.0.1:0",
        "--output",
        "none",
        "--listen",
        "127.0.0.1:0,framing=lines,decode=json",
    ];
    let server = Server::start(&[&args[..], more].concat());
    let viewer = Viewer::of(&server);
    (server, viewer)
}

/// The members of an object.
pub(super) fn keys(value: &Value) -> BTreeSet<&str> {
    let object = value.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}

/// The numbers of these entries in their connection.
pub(super) fn seqs(answer: &Value) -> Vec<u64> {
    let entries = answer["entries"].as_array().expect("entries");
    let seqs = entries.iter().map(|it| it["seq"].as_u64());
    seqs.map(|it| it.expect("a number")).collect()
}

/// Waits until the daemon has received this many messages of all devices.
#[track_caller]
pub(super) fn wait_for_messages(viewer: &Viewer, count: u64) {
    wait_until("the messages are received", || {
        let devices = viewer.get("devices");
        let devices = devices["devices"].as_array().expect("devices").clone();
        let messages = devices.iter().filter_map(|it| it["messages"].as_u64());
        messages.sum::<u64>() == count
    });
}

/// Waits for this many entries of a path.
#[track_caller]
pub(super) fn wait_for_entries(viewer: &Viewer, path: &str, count: usize) -> Value {
    let mut answer = Value::Null;
    wait_until(path, || {
        answer = viewer.get(path);
        answer["entries"].as_array().expect("entries").len() == count
    });
    answer
}

#[test]
fn every_path_has_the_members_of_its_document() {
    let folder = TempDir::new().unwrap();
    let (server, viewer) = start(&["--record", folder.path().to_str().unwrap()]);
    let mut device = server.connect();
    device.write_all(b"{\"temp\":1,\"n\":0}\n").unwrap();
    wait_for_messages(&viewer, 1);
    let plain = &viewer.get("devices")["devices"][0];
    assert!(["latest", "values", "spark"].map(|it| plain.get(it).is_none()) == [true; 3]);
    // Only messages that come from now on are copied.
    assert_eq!(
        viewer.get("devices?detail=true")["devices"][0]["latest"],
        Value::Null
    );
    assert_eq!(seqs(&viewer.get("tail")), [0_u64; 0]);
    viewer.get("device?device=127.0.0.1");
    device
        .write_all(b"{\"temp\":21.5,\"b\":\"x\",\"c\":true,\"d\":null}\nno json\n")
        .unwrap();
    let mut detail = Value::Null;
    wait_until("the newest message is known", || {
        detail = viewer.get("devices?detail=true");
        detail["devices"][0]["latest"]["seq"] == 2
    });
    let device_members = "bytes connections connections_total device faults first_seen gap_messages gaps interval_us \
         last_close last_seen latest messages messages_per_s reconnects spark state";
    let latest = &detail["devices"][0]["latest"];
    assert_eq!(
        keys(&detail["devices"][0]),
        device_members.split_whitespace().collect()
    );
    assert_eq!(keys(latest), "len seq text time".split(' ').collect());
    assert_eq!(
        (&latest["text"], &latest["len"]),
        (&"no json".into(), &7.into())
    );
    assert_eq!(detail["devices"][0]["spark"].as_array().unwrap().len(), 60);
    let members =
        "bytes_per_s devices faults gone_dropped history matched messages_per_s states time total";
    assert_eq!(keys(&detail), members.split(' ').collect());
    assert_eq!(
        keys(&detail["states"]),
        "faulty gone live silent".split(' ').collect()
    );

    let tail = wait_for_entries(&viewer, "tail?hex=true", 2);
    assert_eq!(
        keys(&tail),
        "entries lost next not_shown time".split(' ').collect()
    );
    let [first, second] = &tail["entries"].as_array().unwrap()[..] else {
        panic!("{tail}");
    };
    let members = "conn device event hex id len seq time value";
    assert_eq!(keys(first), members.split(' ').collect());
    assert_eq!(
        (&first["value"]["temp"], &first["value"]["d"]),
        (&21.5.into(), &Value::Null)
    );
    assert_eq!(
        (&second["text"], &second["hex"]),
        (&"no json".into(), &"6e6f206a736f6e".into())
    );
    assert_eq!(tail["next"], second["id"]);

    let fault = &wait_for_entries(&viewer, "faults", 1)["entries"][0];
    assert_eq!(
        (&fault["fault"], &fault["seq"]),
        (&"undecodable".into(), &2.into())
    );
    wait_until("the kinds of faults are listed", || {
        let faults = &viewer.get("devices")["faults"];
        faults[0]["fault"] == "undecodable"
            && faults[0]["device"] == "127.0.0.1"
            && faults[0]["count"] == 1
    });
    let open = &wait_for_entries(&viewer, "events", 1)["entries"][0];
    assert_eq!(open["event"], "open");

    let shown = viewer.get("device?device=127.0.0.1");
    let members = "conn device encoding fields fields_more history peer session since time";
    assert_eq!(keys(&shown), members.split(' ').collect());
    assert_eq!(
        (&shown["encoding"], &shown["conn"]),
        (&"json".into(), &1.into())
    );
    assert_eq!(
        (&shown["peer"], &shown["session"]),
        (&open["peer"], &Value::Null)
    );
    let members = "count field last max min numeric plotted";
    assert_eq!(keys(&shown["fields"][0]), members.split(' ').collect());

    let plot = viewer.get("plot?device=127.0.0.1&field=temp&last_s=60&columns=600");
    let members = "from_ms history series step_ms time to_ms";
    assert_eq!(keys(&plot), members.split(' ').collect());
    assert_eq!(
        plot["to_ms"].as_i64().unwrap() - plot["from_ms"].as_i64().unwrap(),
        60_000
    );
    assert_eq!(
        keys(&plot["series"][0]),
        "error field points".split(' ').collect()
    );

    let daemon = viewer.get("daemon");
    assert_eq!(
        keys(&daemon),
        "forwards host recording started time version view"
            .split(' ')
            .collect()
    );
    let members = "directory free_bytes room_s state sync_ms";
    assert_eq!(keys(&daemon["recording"]), members.split(' ').collect());
    assert_eq!(
        keys(&daemon["view"]),
        "memory_bytes memory_max_bytes not_shown"
            .split(' ')
            .collect()
    );
    let kept = |name: &str| daemon["view"][name].as_u64().unwrap();
    assert!(0 < kept("memory_bytes") && kept("memory_bytes") < kept("memory_max_bytes"));
    server.stop();
}

#[test]
fn a_cursor_gives_each_message_once_and_says_what_is_missing() {
    const SENT: u64 = 60_000;
    let (server, viewer) = start(&[]);
    let mut device = server.connect();
    device.write_all(b"{}\n").unwrap();
    wait_for_messages(&viewer, 1);
    let first = viewer.get("tail?limit=1");
    let before = first["not_shown"].as_u64().unwrap();
    let flood = thread::spawn(move || {
        for start in (1..=SENT).step_by(100) {
            let lines = (start..start + 100)
                .map(|n| format!("{{\"n\":{n},\"pad\":\"{}\"}}\n", "x".repeat(60)));
            device
                .write_all(lines.collect::<String>().as_bytes())
                .unwrap();
        }
        device
    });
    let (mut next, mut lost) = (first["next"].as_u64().unwrap(), 0);
    let mut shown = Vec::new();
    let mut last = next;
    wait_until("each message is shown, lost or not shown", || {
        let tail = viewer.get(&format!("tail?limit=1000&after={next}"));
        for entry in tail["entries"].as_array().unwrap() {
            let id = entry["id"].as_u64().unwrap();
            assert!(last < id, "{last} {id}");
            last = id;
            shown.push(entry["value"]["n"].as_u64().unwrap());
        }
        next = tail["next"].as_u64().unwrap();
        lost += tail["lost"].as_u64().unwrap();
        let not_shown = tail["not_shown"].as_u64().unwrap() - before;
        let all = shown.len() as u64 + lost + not_shown;
        assert!(all <= SENT, "{} {lost} {not_shown}", shown.len());
        all == SENT
    });
    assert!(shown.is_sorted_by(|one, other| one < other));
    assert!(
        !shown.is_empty() && shown.len() < SENT as usize,
        "{}",
        shown.len()
    );
    drop(flood.join().unwrap());
    // A cursor of an earlier start of the daemon: how many are lost is unknown.
    let other = viewer.get("tail?after=12&limit=1");
    assert_eq!(
        (&other["lost"], other["entries"].as_array().unwrap().len()),
        (&Value::Null, 1)
    );
    server.stop();
}

#[test]
fn entries_are_selected_by_device_text_and_number() {
    let (server, viewer) = start(&[]);
    let mut devices = ["127.0.0.1", "127.0.0.2", "127.0.1.1"].map(|host| from(host, &server));
    viewer.get("tail");
    for (number, device) in devices.iter_mut().enumerate() {
        let text = ["Alpha", "beta", "ALPHABET"][number];
        for _ in 0..3 {
            device
                .write_all(format!("{{\"t\":\"{text}\"}}\n").as_bytes())
                .unwrap();
        }
    }
    wait_for_entries(&viewer, "tail", 9);
    for (query, count) in [
        ("device=127.0.0.1", 3),
        ("device=127.0.0.*", 6),
        ("device=127.0.?.1", 6),
        ("device=127.0.0.2&device=127.0.1.1", 6),
        ("device=nobody", 0),
        ("contains=alpha", 6),
        ("contains=%22t%22%3a%22beta", 3),
        // The name of a device is no part of the content.
        ("contains=127.0", 0),
        ("contains=alphabet&device=127.0.0.*", 0),
        ("limit=2", 2),
        ("level=trace", 0),
    ] {
        let tail = viewer.get(&format!("tail?{query}"));
        assert_eq!(tail["entries"].as_array().unwrap().len(), count, "{query}");
    }
    let newest = viewer.get("tail?limit=2");
    let ids = |tail: &Value| {
        tail["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["id"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    let end = newest["next"].as_u64().unwrap();
    assert_eq!(ids(&newest), [end - 1, end]);
    let after = viewer.get(&format!("tail?after={}&limit=2", end - 5));
    assert_eq!(
        (ids(&after), after["next"].as_u64()),
        (vec![end - 4, end - 3], Some(end - 3))
    );
    server.stop();
}

#[test]
fn a_flood_displaces_no_fault_and_no_event_and_undecodable_messages_need_no_viewer() {
    let (server, viewer) = start(&[]);
    let mut quiet = from("127.0.0.2", &server);
    quiet.write_all(b"no json\n{}\n").unwrap();
    // Nobody has asked for messages yet.
    let faults = wait_for_entries(&viewer, "faults", 1);
    assert_eq!(faults["entries"][0]["device"], "127.0.0.2");
    assert_eq!(
        faults["entries"][0]["reason"].as_str().map(str::is_empty),
        Some(false)
    );
    let mut device = server.connect();
    wait_for_entries(&viewer, "events", 2);
    viewer.get("tail");
    let line = format!("{{\"pad\":\"{}\"}}\n", "x".repeat(200)).repeat(100);
    for _ in 0..800 {
        device.write_all(line.as_bytes()).unwrap();
    }
    wait_for_messages(&viewer, 80_002);
    let tail = viewer.get("tail?device=127.0.0.2");
    assert_eq!(seqs(&tail), [0_u64; 0], "not watched when it sent");
    assert_eq!(seqs(&viewer.get("faults?device=127.0.0.2")), [0]);
    assert_eq!(
        viewer.get("faults?contains=UNDECODABLE")["entries"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        viewer.get("faults?contains=nothing")["entries"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
    let events = viewer.get("events");
    let opened = events["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| it["event"] == "open");
    assert_eq!(opened.count(), 2, "{events}");
    drop(device);
    wait_until("the close is an event", || {
        let events = viewer.get("events?contains=%22close%22");
        events["entries"].as_array().unwrap().len() == 1
    });
    server.stop();
}

#[test]
fn a_thousand_devices_are_selected_sorted_and_paged() {
    let (server, viewer) = start(&[]);
    let host = |number: usize| format!("127.0.{}.{}", 1 + number / 200, 1 + number % 200);
    let mut open = Vec::new();
    for number in 0..1000 {
        let mut device = from(&host(number), &server);
        let count = if number == 7 { 400 } else { 1 };
        device.write_all("{}\n".repeat(count).as_bytes()).unwrap();
        match number {
            3 => device.write_all(b"no json\n").unwrap(),
            5 => device.write_all(b"no json\nno json\n").unwrap(),
            _ => {}
        }
        if number < 10 {
            open.push(device);
        }
    }
    wait_until("all but ten are gone", || {
        let report = viewer.get("devices?limit=0");
        let states = &report["states"];
        report["total"] == 1000
            && states["gone"] == 990
            && states["faulty"] == 2
            && report["faults"][0]["count"] == 3
    });
    let names = |query: &str| -> Vec<String> {
        let report = viewer.get(&format!("devices?{query}"));
        let devices = report["devices"].as_array().unwrap();
        let names = devices
            .iter()
            .map(|it| it["device"].as_str().unwrap().to_owned());
        names.collect()
    };
    let all = names("");
    assert!(all.len() == 1000 && all.is_sorted());
    assert_eq!(names("state=faulty"), [host(3), host(5)]);
    assert_eq!(names("state=faulty,live").len(), 10);
    assert_eq!(names("filter=0.3.").len(), 200);
    assert_eq!(
        viewer.get("devices?filter=0.3.&limit=5&state=gone")["matched"],
        200
    );
    let two = format!("device={}&device={}&device=nobody", host(1), host(999));
    assert_eq!(names(&two), [host(1), host(999)]);
    let worst = names("sort=worst&limit=4");
    assert_eq!(worst[..2], [host(5), host(3)]);
    assert_eq!(worst[2..], {
        let mut gone: Vec<_> = (10..1000).map(host).collect();
        gone.sort_unstable();
        gone[..2].to_vec()
    });
    assert_eq!(names("sort=faults&limit=2"), [host(5), host(3)]);
    wait_until("its rate is the greatest", || {
        open[7].write_all("{}\n".repeat(50).as_bytes()).unwrap();
        names("sort=rate&limit=1") == [host(7)]
    });
    open[2].write_all(b"{}\n").unwrap();
    wait_until("it was seen last", || {
        names("sort=last&limit=1") == [host(2)]
    });
    let mut paged = Vec::new();
    for page in 0..21 {
        paged.extend(names(&format!("detail=true&offset={}", page * 50)));
    }
    assert_eq!(paged, all);
    assert_eq!(names("detail=true&limit=200&offset=900").len(), 100);
    assert_eq!(names("offset=5000"), [""; 0]);
    server.stop();
}
