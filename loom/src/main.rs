//! The mesh between shards, its own sources, in every order that the memory model allows: no
//! wake-up is lost, no byte is read before it is there or written while it may be read. Then each
//! order that the sources ask for is taken away in turn, and some model must notice.

#[path = "../../broker/src/mesh/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the models use a part of it")]
mod mesh;
mod models;
mod words;

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    for (name, model) in models::ALL {
        let begin = Instant::now();
        model();
        println!("{name}: every order is fine, {:.1} s", begin.elapsed().as_secs_f64());
    }
    let sites = words::sites();
    // What is told of the models that fail is of no interest.
    std::panic::set_hook(Box::new(|_| {}));
    let mut unnoticed = 0;
    for site in &sites {
        words::relax(Some(*site));
        let noticed = models::ALL.into_iter().find(|(_, model)| catch_unwind(model).is_err());
        let what = format!("{}:{} without the order of its {}", site.file, site.line, site.what);
        match noticed {
            Some((name, _)) => println!("{what}: noticed by \"{name}\""),
            None => {
                println!("{what}: NOT NOTICED");
                unnoticed += 1;
            }
        }
    }
    words::relax(None);
    println!("{} orders taken away, {unnoticed} not noticed", sites.len());
    if unnoticed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
