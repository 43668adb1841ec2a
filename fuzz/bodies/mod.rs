//! What the fuzz targets do with their input. The tests run the same with inputs of their own.

pub mod batch;
pub mod frame;
pub mod queue_records;
pub mod recovery;
pub mod session;
pub mod small_files;
