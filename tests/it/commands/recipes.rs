//! Runs the recipes in `docs/recipes.md`: each block of a section, with the addresses of a test, on a recording.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use blocksd_tests::code_blocks::{code_blocks, replace};
use blocksd_tests::exported::DecodableFile;
use blocksd_tests::process::{Ended, Process, finish, wait_until};
use blocksd_tests::recording::BEGIN;
use blocksd_tests::skip::skipped;
use blocksd_tests::workplace::Workplace;
use serde_json::{Value, json};

/// The longest time that a datagram takes.
const DATAGRAM_WAIT: Duration = Duration::from_secs(30);

/// A folder with the recording of the recipes, and the programs that they need. Reports that the test `name` is skipped if one
/// of the programs is missing.
fn start_kitchen(name: &str, programs: &[&str]) -> Option<Workplace> {
    let kitchen = Workplace::new(name, programs)?;
    let recording = kitchen.path().join("telemetry");
    fs::create_dir(&recording).unwrap();
    let mut file = DecodableFile::begin();
    file.open("10.0.0.7", 1);
    file.add("10.0.0.7", "json", r#"{"temp":21.5,"pos":{"lat":50.1}}"#);
    file.add("10.0.0.8", "json", r#"{"temp":-2,"pos":{"lat":48}}"#);
    file.add("10.0.0.7", "json", r#"{"temp":22.5,"pos":{"lat":50.2}}"#);
    file.add("10.0.0.8", "json", r#"{"other":1}"#);
    file.add("10.0.0.8", "json", "[1]");
    file.seal(&recording);
    Some(kitchen)
}

/// Block `number` of the section with this heading, without `--follow`.
#[track_caller]
pub(crate) fn recipe(heading: &str, number: usize) -> String {
    let blocks = code_blocks("docs/recipes.md");
    let mut section = blocks.into_iter().filter(|it| it.section == heading);
    let block = section.nth(number);
    let block = block.unwrap_or_else(|| panic!("{heading} has no block {number}"));
    block.code.replace(" --follow", "")
}

/// Python with a package; `None` if it is missing.
pub(crate) fn python_with(
    kitchen: &Workplace,
    name: &str,
    package: &str,
    script: &str,
) -> Option<Ended> {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python");
    if !packages.join(package).is_dir() {
        let reason = format_args!("Python's package {package} is missing; `tests/run` installs it");
        skipped(name, reason);
        return None;
    }
    let mut command = kitchen.command("python3", &["-c", script]);
    command.env("PYTHONPATH", packages.canonicalize().unwrap());
    Some(finish(command, b""))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn pandas_reads_the_fields() {
    let name = "pandas_reads_the_fields";
    let kitchen = start_kitchen(name, &[]).unwrap();
    kitchen.run("sh", &recipe("pandas", 0));
    let Some(ended) = python_with(&kitchen, name, "pandas", &recipe("pandas", 1)) else {
        return;
    };
    assert_eq!(
        ended.stdout_text(),
        "{\"10.0.0.7\":22.0,\"10.0.0.8\":-2.0}\n",
        "{ended:?}"
    );
}

#[test]
fn duckdb_queries_a_parquet_file() {
    let name = "duckdb_queries_a_parquet_file";
    let kitchen = start_kitchen(name, &[]).unwrap();
    kitchen.run("sh", &recipe("DuckDB", 0));
    let query = recipe("DuckDB", 1);
    let script =
        format!("import duckdb, json\nprint(json.dumps(duckdb.sql('''{query}''').fetchall()))");
    let Some(ended) = python_with(&kitchen, name, "duckdb", &script) else {
        return;
    };
    let rows: Value = serde_json::from_slice(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
    assert_eq!(
        rows,
        json!([["10.0.0.7", 2, 22.0, 50.2], ["10.0.0.8", 1, -2.0, 48.0]])
    );
}

#[test]
fn mosquitto_passes_the_messages_on() {
    let name = "mosquitto_passes_the_messages_on";
    let Some(kitchen) = start_kitchen(name, &["mosquitto", "mosquitto_sub", "mosquitto_pub", "jq"])
    else {
        return;
    };
    let port = free_port().to_string();
    let config =
        format!("listener {port} 127.0.0.1\nallow_anonymous true\nqueue_qos0_messages true\n");
    fs::write(kitchen.path().join("mosquitto.conf"), config).unwrap();
    let broker = Process::start(kitchen.command("mosquitto", &["-c", "mosquitto.conf"]));
    wait_until("the broker listens", || {
        TcpStream::connect(("127.0.0.1", port.parse().unwrap())).is_ok()
    });
    // The broker keeps the messages for a client that has subscribed before.
    let subscribe = format!("mosquitto_sub -h 127.0.0.1 -p {port} -t telemetry -q 1 -i kitchen -c");
    kitchen.run("sh", &format!("{subscribe} -E"));
    kitchen.run("sh", &replace(&recipe("MQTT", 0), "1883", &port));
    let ended = kitchen.run("sh", &format!("{subscribe} -C 4"));
    let text = ended.stdout_text();
    let messages = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let messages: Vec<Value> = messages.collect();
    let first = json!({"time": "2026-01-01T00:00:00.000000000Z", "device": "10.0.0.7", "temp": 21.5, "pos": {"lat": 50.1}});
    assert_eq!((messages.len(), &messages[0]), (4, &first));
    drop(broker);
}

/// The lines of the line protocol for the recording.
fn line_protocol() -> String {
    let line = |device: u8, temp: &str, number: u64| {
        let time = BEGIN + number * 10_000_000;
        format!("telemetry,device=10.0.0.{device} temp={temp} {time}\n")
    };
    [line(7, "21.5", 0), line(8, "-2", 1), line(7, "22.5", 2)].concat()
}

#[test]
fn influxdb_stores_the_values_at_their_times() {
    let name = "influxdb_stores_the_values_at_their_times";
    let Some(kitchen) = start_kitchen(name, &["jq"]) else {
        return;
    };
    let ended = kitchen.run("sh", &recipe("InfluxDB", 0));
    assert_eq!(ended.stdout_text(), line_protocol());
    let Some(kitchen) = start_kitchen(name, &["influxd", "jq", "curl"]) else {
        return;
    };
    let (http, rpc) = (free_port(), free_port());
    let folder = kitchen.path().display();
    let config = format!(
        "reporting-disabled = true\nbind-address = \"127.0.0.1:{rpc}\"\n[meta]\ndir = \"{folder}/meta\"\n[data]\n\
         dir = \"{folder}/data\"\nwal-dir = \"{folder}/wal\"\n[http]\nbind-address = \"127.0.0.1:{http}\"\n"
    );
    fs::write(kitchen.path().join("influxdb.conf"), config).unwrap();
    let server = Process::start(kitchen.command("influxd", &["-config", "influxdb.conf"]));
    wait_until("the server listens", || {
        TcpStream::connect(("127.0.0.1", http)).is_ok()
    });
    request(http, "POST", "q=CREATE%20DATABASE%20telemetry");
    kitchen.run("sh", &replace(&recipe("InfluxDB", 1), "8086", http));
    let found = request(
        http,
        "GET",
        "db=telemetry&epoch=ns&q=SELECT%20device,temp%20FROM%20telemetry",
    );
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(
        found["results"][0]["series"][0]["values"],
        json!([
            [BEGIN, "10.0.0.7", 21.5],
            [BEGIN + 10_000_000, "10.0.0.8", -2],
            [BEGIN + 20_000_000, "10.0.0.7", 22.5]
        ])
    );
    drop(server);
}

/// The answer of InfluxDB to a query.
fn request(port: u16, method: &str, query: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let head = format!("{method} /query?{query} HTTP/1.0\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(" 200 "), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn prometheus_accepts_the_metrics_and_the_configuration() {
    let name = "prometheus_accepts_the_metrics_and_the_configuration";
    let Some(kitchen) = start_kitchen(name, &["promtool", "jq"]) else {
        return;
    };
    fs::write(
        kitchen.path().join("prometheus.yml"),
        recipe("Prometheus", 0),
    )
    .unwrap();
    kitchen.run("sh", "promtool check config prometheus.yml");
    // The messages of the test are older than a minute.
    let last = replace(
        &recipe("Prometheus", 1),
        "--from -1m",
        "--from 2026-01-01T00:00:00Z",
    );
    let page = kitchen.run("sh", &last).stdout_text();
    assert_eq!(
        page,
        "# HELP telemetry_temp_celsius Last temperature.\n# TYPE telemetry_temp_celsius gauge\n\
         telemetry_temp_celsius{device=\"10.0.0.7\"} 22.5\ntelemetry_temp_celsius{device=\"10.0.0.8\"} -2\n"
    );
    let checked = finish(
        kitchen.command("promtool", &["check", "metrics"]),
        page.as_bytes(),
    );
    assert_eq!(
        (checked.code, &*checked.stderr),
        (Some(0), ""),
        "{checked:?}"
    );
}

/// Runs a recipe that sends datagrams to `port`. Returns what arrives, up to `len` bytes.
fn datagrams(
    kitchen: &Workplace,
    shell: &str,
    recipe: &str,
    port: &str,
    len: usize,
) -> Vec<String> {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(DATAGRAM_WAIT)).unwrap();
    let address = receiver.local_addr().unwrap().port();
    kitchen.run(shell, &replace(recipe, port, address));
    let mut found: Vec<String> = Vec::new();
    while found.iter().map(String::len).sum::<usize>() < len {
        let mut datagram = [0; 1 << 16];
        let (len, _) = receiver.recv_from(&mut datagram).expect("a datagram");
        found.push(String::from_utf8(datagram[..len].to_vec()).unwrap());
    }
    found
}

#[test]
fn teleplot_gets_values_with_milliseconds() {
    let name = "teleplot_gets_values_with_milliseconds";
    let Some(kitchen) = start_kitchen(name, &["jq", "socat"]) else {
        return;
    };
    let want = "temp_10.0.0.7:1767225600000:21.5\ntemp_10.0.0.8:1767225600010:-2\ntemp_10.0.0.7:1767225600020:22.5\n";
    let found = datagrams(&kitchen, "sh", &recipe("Teleplot", 0), "47269", want.len());
    assert_eq!(found.concat(), want);
}

#[test]
fn plotjuggler_gets_an_object_in_each_datagram() {
    let name = "plotjuggler_gets_an_object_in_each_datagram";
    let Some(kitchen) = start_kitchen(name, &["jq", "bash"]) else {
        return;
    };
    let want = [
        r#"{"10.0.0.7":{"temp":21.5,"pos":{"lat":50.1}}}"#,
        r#"{"10.0.0.8":{"temp":-2,"pos":{"lat":48}}}"#,
        r#"{"10.0.0.7":{"temp":22.5,"pos":{"lat":50.2}}}"#,
        r#"{"10.0.0.8":{"other":1}}"#,
    ];
    let recipe = recipe("PlotJuggler", 0);
    let found = datagrams(&kitchen, "bash", &recipe, "9870", want.concat().len());
    assert_eq!(found, want);
}

#[test]
fn telegraf_and_vector_call_blocksd_with_options_that_it_has() {
    for heading in ["Telegraf", "Vector"] {
        let config: toml::Table = recipe(heading, 0).parse().unwrap();
        let command = match heading {
            "Telegraf" => &config["inputs"]["execd"][0]["command"],
            _ => &config["sources"]["blocksd"]["command"],
        };
        let words = command.as_array().unwrap().iter();
        let words: Vec<_> = words.map(|word| word.as_str().unwrap()).collect();
        let kitchen = start_kitchen(heading, &[]).unwrap();
        let words = words.into_iter().filter(|word| *word != "--follow");
        let words: Vec<_> = words.skip(1).collect();
        let ended = finish(kitchen.command("blocksd", &words), b"");
        assert_eq!(ended.code, Some(0), "{heading}: {ended:?}");
        let first = match heading {
            "Telegraf" => "time,device,conn,seq,temp,pos.lat\n",
            _ => "{\"event\":\"open\"",
        };
        assert!(ended.stdout_text().starts_with(first), "{ended:?}");
    }
}
