//! ELF files with defmt format strings, as the linker of a firmware writes them: [`elf`].

use object::write::{Object, Symbol, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
};
use serde_json::json;

/// The build id of [`elf`], as a note; a firmware sends it first.
pub const BUILD: &[u8] =
    b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14";

/// An image that a linker has made.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// Format strings, each with its tag, such as `info`. Their numbers count from 1.
    pub formats: &'a [(&'a str, &'a str)],
    /// How frames are encoded: `raw` or `rzcobs`.
    pub encoding: &'a str,
    /// The note with the build id.
    pub build: Option<&'a [u8]>,
}

/// The ELF file of an image with these format strings, with [`BUILD`], whose frames are not encoded.
pub fn elf(formats: &[(&str, &str)]) -> Vec<u8> {
    let image = Image {
        formats,
        encoding: "raw",
        build: Some(BUILD),
    };
    image.elf()
}

/// A note with another build id, of 20 equal bytes.
pub fn note(byte: u8) -> Vec<u8> {
    [&BUILD[..16], &[byte; 20]].concat()
}

/// A frame as defmt encodes it by default, with the zero that ends it.
pub fn rzcobs(frame: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    let mut write = |bytes: &[u8]| encoded.extend_from_slice(bytes);
    let mut encoder = defmt::Encoder::new();
    encoder.start_frame(&mut write);
    encoder.write(frame, &mut write);
    encoder.end_frame(&mut write);
    // A zero before the first frame ends one that was being sent before.
    assert_eq!(encoded.remove(0), 0);
    encoded
}

impl Image<'_> {
    /// Its ELF file.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn elf(&self) -> Vec<u8> {
        let mut file = Object::new(BinaryFormat::Elf, Architecture::Arm, Endianness::Little);
        let section = |file: &mut Object<'_>, name: &str, kind, data: &[u8]| {
            let id = file.add_section(Vec::new(), name.into(), kind);
            file.append_section_data(id, data, 4);
            id
        };
        if let Some(build) = self.build {
            section(&mut file, ".note.gnu.build-id", SectionKind::Note, build);
        }
        let data = vec![0; self.formats.len() + 64];
        let defmt = section(&mut file, ".defmt", SectionKind::ReadOnlyData, &data);
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
        symbol(format!("_defmt_encoding_ = {}", self.encoding), 0, 0);
        for (number, (tag, text)) in (1..).zip(self.formats) {
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
}
