//! Checks the published packages: metadata, licence files, README files and compiler versions.

use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// Categories of crates.io; `cargo publish` refuses others, and only after an upload.
const CATEGORIES: [&str; 14] = [
    "asynchronous",
    "command-line-utilities",
    "concurrency",
    "data-structures",
    "embedded",
    "encoding",
    "filesystem",
    "hardware-support",
    "network-programming",
    "no-std",
    "no-std::no-alloc",
    "parser-implementations",
    "parsing",
    "science",
];

/// A registry shows the README alone, so its links must not lead to files of the repository.
#[test]
fn the_readme_of_a_package_renders_on_a_registry_page() {
    for package in published() {
        let readme = package.file("README.md");
        let targets = readme.split("](").skip(1);
        for target in targets.filter_map(|it| it.split(')').next()) {
            assert!(
                target.starts_with("https://") || target.starts_with('#'),
                "{}: the link {target} leads outside the package",
                package.name
            );
        }
        for (index, block) in readme.split("```").enumerate() {
            let is_rust = index % 2 == 1 && block.starts_with("rust");
            assert!(
                !is_rust || !block.contains("\n# "),
                "{}: rustdoc hides the lines that begin with `# `, but a registry shows them: {block}",
                package.name
            );
        }
    }
}

#[test]
fn every_package_has_the_metadata_that_a_registry_shows() {
    let packages = published();
    assert!(
        packages.len() >= 4,
        "found only {} packages",
        packages.len()
    );
    for package in packages {
        let (name, manifest) = (&package.name, &package.manifest);
        let text = |key: &str| {
            let value = manifest[key].as_str();
            value.unwrap_or_else(|| panic!("{name} has no {key}"))
        };
        assert!(
            (40..200).contains(&text("description").len()),
            "{name}: description"
        );
        assert_eq!(text("documentation"), format!("https://docs.rs/{name}"));
        assert_eq!(text("readme"), "README.md");
        assert_eq!(manifest["license"]["workspace"].as_bool(), Some(true));
        let words = |key: &str| {
            let words = manifest[key].as_array().unwrap().iter();
            let words: Vec<_> = words.map(|word| word.as_str().unwrap()).collect();
            assert!((1..=5).contains(&words.len()), "{name} has {words:?}");
            words
        };
        for keyword in words("keywords") {
            let is_valid = keyword.len() <= 20
                && keyword.starts_with(|it: char| it.is_ascii_alphanumeric())
                && keyword
                    .chars()
                    .all(|it| it.is_ascii_alphanumeric() || "-_+".contains(it));
            assert!(is_valid, "{name}: a registry refuses the keyword {keyword}");
        }
        for category in words("categories") {
            assert!(
                CATEGORIES.contains(&category),
                "{name}: crates.io may not know the category {category}: see https://crates.io/category_slugs"
            );
        }
        let docs = manifest["metadata"]["docs"]["rs"]["all-features"].as_bool();
        assert_eq!(docs, Some(true), "{name}: all features on docs.rs");
    }
}

/// The files are copies, because some systems do not support symbolic links.
#[test]
fn every_package_carries_the_licences() {
    for file in ["LICENSE-MIT", "LICENSE-APACHE"] {
        let licence = fs::read_to_string(root().join(file)).unwrap();
        for package in published() {
            let path = package.folder.join(file);
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            assert!(kind.is_file(), "{} is not a file", path.display());
            assert_eq!(package.file(file), licence, "{} differs", path.display());
        }
    }
}

#[test]
fn the_documents_state_the_minimum_compiler_of_the_manifests() {
    let releasing = fs::read_to_string(root().join("docs/releasing.md")).unwrap();
    let workspace = manifest(&root())["workspace"]["package"]["rust-version"].clone();
    for package in published() {
        let name = &package.name;
        let version = match &package.manifest["rust-version"] {
            Value::String(version) => version,
            _ => workspace.as_str().unwrap(),
        };
        let readme = package.file("README.md").replace('\n', " ");
        let stated = readme.split("minimum supported Rust version is ").nth(1);
        let stated =
            stated.unwrap_or_else(|| panic!("{name}: its README does not state a version"));
        assert!(
            stated.starts_with(&format!("{version}.")),
            "{name}: {stated}"
        );
        let row = format!("| `{name}` | {version} |");
        assert!(releasing.contains(&row), "docs/releasing.md lacks {row}");
    }
}

#[test]
fn packages_depend_on_each_other_by_the_version_of_the_workspace() {
    let workspace = &manifest(&root())["workspace"];
    let version = &workspace["package"]["version"];
    for package in published() {
        assert_eq!(
            &workspace["dependencies"][&*package.name]["version"], version,
            "{}",
            package.name
        );
        assert_eq!(
            package.manifest["version"]["workspace"].as_bool(),
            Some(true)
        );
    }
}

/// A package of the workspace that is published.
struct Package {
    name: String,
    folder: PathBuf,
    /// The table `package` of its manifest.
    manifest: Value,
}

impl Package {
    fn file(&self, name: &str) -> String {
        let path = self.folder.join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

fn published() -> Vec<Package> {
    let workspace = manifest(&root());
    let members = workspace["workspace"]["members"].as_array().unwrap();
    let packages = members.iter().map(|member| {
        let folder = root().join(member.as_str().unwrap());
        let mut manifest = manifest(&folder);
        let manifest = manifest.remove("package").unwrap();
        Package {
            name: manifest["name"].as_str().unwrap().to_owned(),
            folder,
            manifest,
        }
    });
    let is_published = |package: &Package| {
        let publish = package.manifest.get("publish");
        publish.and_then(Value::as_bool).unwrap_or(true)
    };
    packages.filter(is_published).collect()
}

fn manifest(folder: &Path) -> Table {
    let text = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    toml::from_str(&text).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
