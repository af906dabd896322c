//! The files of the page: [`file`]. They are part of the program, and have no data of the daemon.

/// A file of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageFile {
    /// Its type of content.
    pub(super) kind: &'static str,
    pub(super) content: &'static str,
}

/// What the page may load, and who may show it: nothing but its own files, and nobody in a frame.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

/// Embeds files of the folder `page`, each with its type.
macro_rules! files {
    ($($name:literal: $kind:expr,)*) => {
        /// The files below `/page/`.
        const FILES: &[(&str, PageFile)] = &[$((
            $name,
            PageFile { kind: $kind, content: include_str!(concat!("../../page/", $name)) },
        ),)*];
    };
}

files! {
    "api.js": SCRIPT,
    "device.js": SCRIPT,
    "devices.js": SCRIPT,
    "dom.js": SCRIPT,
    "fields.js": SCRIPT,
    "format.js": SCRIPT,
    "forwards.js": SCRIPT,
    "header.js": SCRIPT,
    "health.js": SCRIPT,
    "help.js": SCRIPT,
    "icon.svg": IMAGE,
    "index.html": HTML,
    "line.js": SCRIPT,
    "login.js": SCRIPT,
    "main.js": SCRIPT,
    "multiples.js": SCRIPT,
    "plot.js": SCRIPT,
    "plots.js": SCRIPT,
    "route.js": SCRIPT,
    "shapes.js": SCRIPT,
    "style.css": STYLE,
    "table.js": SCRIPT,
    "tail.js": SCRIPT,
    "uPlot.LICENSE": TEXT,
    "uPlot.iife.min.js": SCRIPT,
    "uPlot.min.css": STYLE,
    "uPlot.sha256": TEXT,
}

/// The file of a path.
pub(super) fn file(path: &str) -> Option<PageFile> {
    let name = match path {
        "/" => "index.html",
        "/page/index.html" => return None,
        _ => path.strip_prefix("/page/")?,
    };
    let found = FILES.iter().find(|(known, _)| *known == name);
    found.map(|(_, file)| *file)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served_and_no_other() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let names = fs::read_dir(folder).expect("the folder");
        let names: BTreeSet<_> = names
            .map(|file| {
                file.expect("a file")
                    .file_name()
                    .into_string()
                    .expect("a name")
            })
            .filter(|name| name != "README.md")
            .collect();
        let served: BTreeSet<_> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(served, names);
        for name in &served {
            let path = format!("/page/{name}");
            assert_eq!(file(&path).is_some(), name != "index.html", "{name}");
        }
        assert!(file("/").is_some_and(|index| index.kind == HTML));
        for path in [
            "",
            "/page/",
            "/page/../page/main.js",
            "/index.html",
            "//",
            "/page//main.js",
        ] {
            assert_eq!(file(path), None, "{path}");
        }
    }

    #[test]
    fn the_page_has_nothing_inline() {
        let index = file("/").expect("the page").content;
        for inline in [
            "<style",
            " style=",
            "javascript:",
            " onclick",
            " onload",
            "http://",
            "https://",
        ] {
            assert!(!index.contains(inline), "{inline}");
        }
        for script in index.split("<script").skip(1) {
            let (head, rest) = script.split_once('>').expect("the end of a tag");
            assert!(
                head.contains("src=") && rest.starts_with("</script>"),
                "{script}"
            );
        }
    }
}
