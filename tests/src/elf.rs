//! ELF files with defmt format strings, as the linker of a firmware writes them: [`elf`].

use object::write::{Object, Symbol, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
};
use serde_json::json;

/// The build id in all of these files; a firmware sends it first.
pub const BUILD: &[u8] =
    b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14";

/// An ELF file with these format strings, each with its tag, such as `info`. Their numbers count from 1.
///
/// # Panics
/// If the file cannot be written.
pub fn elf(formats: &[(&str, &str)]) -> Vec<u8> {
    let mut file = Object::new(BinaryFormat::Elf, Architecture::Arm, Endianness::Little);
    let section = |file: &mut Object<'_>, name: &str, data: &[u8]| {
        let id = file.add_section(Vec::new(), name.into(), SectionKind::ReadOnlyData);
        file.append_section_data(id, data, 4);
        id
    };
    section(&mut file, ".note.gnu.build-id", BUILD);
    let defmt = section(&mut file, ".defmt", &vec![0; formats.len() + 64]);
    let mut symbol = |name: String, value: u64, size: u64| {
        file.add_symbol(Symbol {
            name: name.into(),
            value,
            size,
            kind: SymbolKind::Data,
            scope: SymbolScope::Linkage,
            weak: false,
            section: SymbolSection::Section(defmt),
            flags: SymbolFlags::None,
        });
    };
    symbol("_defmt_version_ = 4".to_owned(), 0, 0);
    symbol("_defmt_encoding_ = rzcobs".to_owned(), 0, 0);
    for (number, (tag, text)) in (1..).zip(formats) {
        let name = json!({
            "package": "p",
            "tag": format!("defmt_{tag}"),
            "data": text,
            "disambiguator": "0",
            "crate_name": "c",
        });
        let size = if *tag == "bitflags_value" { 16 } else { 1 };
        symbol(name.to_string(), number, size);
    }
    file.write().expect("an ELF file")
}
