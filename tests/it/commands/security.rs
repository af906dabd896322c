//! Runs the commands of `docs/security.md` in an empty directory, with free ports in place of those of the page.

use blocksd_tests::code_blocks::{code_blocks, replace};
use blocksd_tests::process::{finish, run, wait_until};
use blocksd_tests::reserved_port::ReservedPort;
use blocksd_tests::skip::skipped;
use blocksd_tests::workplace::Workplace;

/// The section with the commands.
const SECTION: &str = "From nothing to a fleet with mutual TLS in ten commands";

#[test]
fn the_ten_commands_of_the_page_lead_to_a_fleet_with_mutual_tls() {
    let name = "the_ten_commands_of_the_page_lead_to_a_fleet_with_mutual_tls";
    let place = Workplace::new(name, &[]).unwrap();
    let [port, http] = [(); 2].map(|()| ReservedPort::take());
    let blocks = code_blocks("docs/security.md").into_iter();
    let blocks = blocks.filter(|block| block.section == SECTION);
    let mut commands = blocks.map(|block| {
        assert_eq!(block.language, "sh", "{block:?}");
        let code = block.code.trim_end().to_owned();
        let code = code.replace("1060", &port.address().port().to_string());
        code.replace("9107", &http.address().port().to_string())
    });
    let commands: [String; 10] = std::array::from_fn(|_| commands.next().expect("ten commands"));
    let [
        init,
        server,
        boiler,
        pump,
        copy,
        serve,
        send,
        devices,
        renew,
        revoke,
    ] = &commands;
    for command in [init, server, boiler, pump, copy] {
        place.run("sh", command);
    }
    for command in [renew, revoke] {
        assert!(command.starts_with("blocksd ca "), "{command}");
    }
    if !run(&["send", "--help"], b"")
        .stdout_text()
        .contains("--tls-ca")
    {
        for command in [renew, revoke] {
            place.run("sh", command);
        }
        return skipped(name, "`blocksd send` has no TLS");
    }
    let daemon = place.start(serve);
    daemon.wait_for_error("listening on ");
    // A command that is refused with TLS 1.3 may not notice.
    let send_as = |device: &str, value: &str| {
        let command = replace(&replace(send, "boiler-17", device), "temp=21.5", value);
        finish(place.command("sh", &["-c", &command]), b"")
    };
    let shows = |value: &str| wait_until(value, || daemon.printed_text().contains(value));
    place.run("sh", send);
    shows("temp=21.5");
    let listed = place.run("sh", devices).stdout_text();
    assert!(listed.contains(" boiler-17 "), "{listed}");
    send_as("pump-3", "bar=3.5");
    shows("bar=3.5");
    let open = replace(&replace(send, "boiler-17", "pump-3"), " temp=21.5", "");
    let mut open = place.start(&open);
    open.write_part(b"bar=4.5\n");
    shows("bar=4.5");
    place.run("sh", renew);
    send_as("boiler-17", "temp=22.5");
    shows("temp=22.5");
    place.run("sh", revoke);
    daemon.signal("HUP");
    daemon.wait_for_error("the files were read again");
    shows("closed (revoked)");
    send_as("pump-3", "bar=5.5");
    send_as("boiler-17", "temp=23.5");
    shows("temp=23.5");
    daemon.signal("INT");
    let ended = daemon.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.stdout_text().contains("bar=5.5"), "{ended:?}");
    let raw = place
        .run("sh", "blocksd read telemetry --output raw")
        .stdout_text();
    assert!(
        raw.contains("bar=3.5") && raw.contains("temp=23.5") && !raw.contains("bar=5.5"),
        "{raw}"
    );
}
