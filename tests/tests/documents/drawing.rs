//! Draws structures of fixed layout as the documents do.

use wire::topic;
use zerocopy::{big_endian as be, little_endian as le};

use crate::document::{self, Document};

/// A field's type as the document names it.
pub trait Drawn {
    fn name() -> String;
}

macro_rules! drawn {
    ($($ty:ty = $name:literal),* $(,)?) => {
        $(impl Drawn for $ty { fn name() -> String { $name.to_owned() } })*
    };
}

drawn! {
    u8 = "u8", i8 = "i8",
    le::U16 = "u16", le::U32 = "u32", le::U64 = "u64", le::I64 = "i64", le::I16 = "i16",
    be::I16 = "i16", be::I32 = "i32", be::I64 = "i64", be::U32 = "u32",
    topic::Settings = "settings",
}

impl<const N: usize> Drawn for [u8; N] {
    fn name() -> String {
        "bytes".to_owned()
    }
}

/// Type and size of the field that the closure points at; it is never called.
pub fn drawn<T, F: Drawn>(_: impl Fn(&T) -> &F) -> (usize, String) {
    (size_of::<F>(), F::name())
}

/// Draws a structure. The pattern without `..` makes a field that is missing here an error.
macro_rules! layout {
    ($module:ident::$name:ident { $($field:ident),* $(,)? }) => {{
        let _ = |value: &$module::$name| { let $module::$name { $($field: _),* } = *value; };
        let rows = vec![$({
            let (bytes, ty) = $crate::drawing::drawn(|value: &$module::$name| &value.$field);
            let offset = std::mem::offset_of!($module::$name, $field);
            format!("{offset} | {bytes} | {ty} | {}", stringify!($field))
        }),*];
        let name = concat!(stringify!($module), "::", stringify!($name));
        $crate::drawing::Layout { name, bytes: size_of::<$module::$name>(), rows }
    }};
}

/// A structure as the document should draw it.
pub struct Layout {
    /// Module and name.
    pub name: &'static str,
    /// Its size.
    pub bytes: usize,
    /// Offset, size, type and name of each field.
    pub rows: Vec<String>,
}

/// Compares every layout with its drawing, and every drawing with its layout.
pub fn compare(document: &Document, layouts: &[Layout]) {
    for layout in layouts {
        let heading = format!("`{}`: {} bytes", layout.name, layout.bytes);
        document::assert_lines(layout.name, &document.columns(&heading, 4), &layout.rows);
    }
    for heading in document.headings("`") {
        let name = heading.split('`').nth(1).expect("a name between backticks");
        let compared = layouts.iter().filter(|layout| layout.name == name).count();
        assert_eq!(compared, 1, "`{name}` is drawn, but not compared with the code");
    }
}

pub(crate) use layout;
