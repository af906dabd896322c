//! What comes with the daemon: manual pages, completions, and a service of systemd.

use tests::process::run;

/// All commands, as `blocksd --help` names them.
fn commands() -> Vec<String> {
    let help = run(&["--help"], b"").stdout_text();
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    // What a long line goes on with stands further to the right.
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names.map(String::from).collect()
}

/// Options of `serve`, as its help names them.
fn options() -> Vec<String> {
    let help = run(&["serve", "--help"], b"").stdout_text();
    let lines = help.lines().map(str::trim_start);
    let lines = lines.filter_map(|line| line.strip_prefix("--"));
    let names = lines.filter_map(|line| line.split_whitespace().next());
    names.map(String::from).collect()
}

#[test]
fn completions_of_every_shell_name_every_command_and_option() {
    let (commands, options) = (commands(), options());
    assert!(commands.contains(&"serve".to_owned()), "{commands:?}");
    assert!(options.contains(&"max-block".to_owned()), "{options:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = run(&["completions", shell], b"");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let text = ended.stdout_text();
        for word in commands.iter().chain(&options) {
            assert!(text.contains(word), "{shell}: {word} is missing");
        }
    }
    run(&["completions", "csh"], b"").assert_refused(2, "csh");
}

#[test]
fn the_manual_names_every_command_and_each_has_a_page() {
    let page = |args: &[&str]| {
        let ended = run(args, b"");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        // In roff, a hyphen that is to be one is quoted.
        ended.stdout_text().replace('\\', "")
    };
    let program = page(&["man"]);
    assert!(program.contains(".TH blocksd 1"), "{program}");
    for command in commands().iter().filter(|command| *command != "help") {
        assert!(
            program.contains(&format!("blocksd-{command}(1)")),
            "{command}: {program}"
        );
        let text = page(&["man", command]);
        assert!(text.contains(&format!(".TH blocksd-{command} 1")), "{text}");
    }
    let serve = page(&["man", "serve"]);
    for option in options() {
        assert!(serve.contains(&format!("--{option}")), "{option}: {serve}");
    }
    run(&["man", "bogus"], b"").assert_refused(2, "there is no command `bogus`");
}
