//! The commands that make many runs, against targets within the generator: what is measured means
//! nothing here, but everything happens.

use clap::Parser;
use pelton_loadgen::report::{Run, Set};
use pelton_loadgen::run::{
    Ab, BenchArgs, Curve, EXIT_ERROR, EXIT_OK, EXIT_REGRESSION, EXIT_SLO, EXIT_USAGE, Max,
    ServeFlags, bench, schemas,
};
use pelton_loadgen::statistics::Verdict;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Loads that short measure nothing worth knowing; but on a busy machine, too, something is
/// answered within them.
const SHORT: &str = "-q --duration 500ms --warmup 10ms --pin none";

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    bench: BenchArgs,
}

fn code_of(line: &str) -> u8 {
    let args = Line::try_parse_from(line.split_whitespace()).expect("valid flags");
    bench(&args.bench, &ServeFlags { names: Vec::new(), check: |_| Ok(()) })
}

/// Runs a command; gives its exit code and result.
fn run<T: DeserializeOwned>(command: &str, flags: &str) -> (u8, T) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut short = SHORT.to_owned();
    for (name, whole) in [("--duration", "--duration 500ms"), ("--warmup", "--warmup 10ms")] {
        if flags.contains(name) {
            short = short.replace(whole, "");
        }
    }
    let json = file.path().display();
    let code = code_of(&format!("bench {command} {short} --json {json} {flags}"));
    let json = std::fs::read(file.path()).expect("written");
    fits_its_schema(&json);
    (code, serde_json::from_slice(&json).expect("the whole result"))
}

#[test]
fn arms_run_in_turn_and_are_weighed() {
    let flags = "--target null --a rate=200k --b rate=1k --repeat 3 --order-seed 4 \
                 --fail-on records_per_s<-30%,e2e_p99_ns>5%";
    let (code, ab): (_, Ab) = run("ab", flags);
    assert_eq!((ab.runs_a.len(), ab.runs_b.len(), ab.interrupted), (3, 3, false));
    assert_eq!((ab.order.len(), &ab.order[..4]), (6, order_of_four(&ab.order)));
    let rate = ab.figures.iter().find(|row| row.name == "records_per_s").expect("measured");
    // Offered rates, so that no machine is slow enough to blur them: what it stalls is made up for.
    // Three runs are too few for a permutation test to tell them apart.
    assert!(rate.ratio_ppm < Some(700_000), "{rate:?}");
    assert_eq!(rate.p_ppm.map(|p| p >= 100_000), Some(true), "{rate:?}");
    assert_eq!((rate.verdict, code), (Verdict::Inconclusive, EXIT_OK));
    assert_eq!((ab.gates[0].measured, ab.gates[1].measured), (true, false));

    let flags = "--target null --a rate=200k --b rate=1k --repeat 6 --fail-on records_per_s<-30%";
    let (code, ab): (_, Ab) = run("ab", flags);
    let rate = ab.figures.iter().find(|row| row.name == "records_per_s").expect("measured");
    assert_eq!((rate.verdict, code), (Verdict::Worse, EXIT_REGRESSION), "{rate:?}");
}

/// ABBA or BAAB.
fn order_of_four(order: &str) -> &'static str {
    if order.starts_with('a') { "abba" } else { "baab" }
}

#[test]
fn wrong_arms_are_refused_before_anything_runs() {
    for flags in ["--b batc=1rec", "--b batch=0rec", "--a batch", "--b producers=0"] {
        assert_eq!(code_of(&format!("bench ab -q --target null {flags}")), EXIT_USAGE, "{flags}");
    }
}

#[test]
fn a_rate_is_searched_and_held() {
    // Nothing keeps up with 10^9 records per second, and everybody with a few.
    let flags = "--target null --slo max<10s --batch 100rec --from 2000 --probe 50ms";
    let (code, max): (_, Max) = run("max", flags);
    let capacity = max.capacity_records_per_s;
    assert_eq!((max.probes.len(), max.slo.as_str()), (max.runs.len(), "max<10s"));
    let last = max.probes.last().expect("at least one");
    // A machine that is too busy for a few holds nothing; but then that is told.
    assert_eq!(code == EXIT_OK, capacity >= Some(1), "{code}: {:#?}", max.probes);
    match capacity {
        Some(held) => {
            assert!(last.hold && last.passed && last.offered_records_per_s == held, "{last:#?}");
            assert!(max.fails_at_records_per_s > capacity, "{:#?}", max.probes);
            assert!(max.limited_by.is_some());
        }
        None => assert!(code == EXIT_SLO && !last.passed, "{code}: {:#?}", max.probes),
    }

    let flags = "--target null --slo max<1ns --from 4 --probe 20ms";
    let (code, max): (_, Max) = run("max", flags);
    assert_eq!((code, max.capacity_records_per_s), (EXIT_SLO, None), "{:#?}", max.probes);
}

#[test]
fn a_curve_has_a_point_for_each_rate() {
    let (code, curve): (_, Curve) = run("curve", "--target null --rates 20k,poisson:10k,5k");
    let rates: Vec<_> = curve.runs.iter().map(|run| run.options.rate_records_per_s).collect();
    assert_eq!((code, rates), (EXIT_OK, [5_000, 10_000, 20_000].map(Some).to_vec()));
    let (_, curve): (_, Curve) = run("curve", "--target null --batch 100rec");
    assert_eq!((curve.runs.len(), curve.closed_loop_records_per_s.is_some()), (11, true));
}

#[test]
fn warming_up_lasts_until_the_load_is_steady() {
    let (code, run): (_, Run) = run("run", "--target null --rate 5k --warmup auto");
    let [warm_up, whole] = &run.phases[..] else { panic!("two phases: {:#?}", run.phases) };
    assert_eq!((code, warm_up.from_ns, warm_up.to_ns), (EXIT_OK, 0, whole.from_ns));
    assert!(run.options.warmup_auto && run.options.warmup_ns == warm_up.to_ns);
    // Two seconds of it at least; a busy machine may never be steady, but then that is told.
    match warm_up.steady_after_ns {
        Some(since_ns) => assert!(since_ns + 2_000_000_000 <= warm_up.to_ns, "{warm_up:?}"),
        // It may have worse to tell, and be named after that.
        None => {
            let is_told = |reason: &String| reason.starts_with("unsteady: ");
            assert!(run.validity.reasons.iter().any(is_told), "{:?}", run.validity);
        }
    }
    assert_eq!(whole.response_ns, run.latency_ns.response);
    assert!(whole.response_ns.as_ref().is_some_and(|summary| summary.count > 0));
}

#[test]
fn steps_have_their_own_figures() {
    let flags = "--target null --rate steps:4k,1k --batch 1rec --duration 400ms";
    let (code, run): (_, Run) = run("run", flags);
    let [_, whole, one, two] = &run.phases[..] else { panic!("two steps: {:#?}", run.phases) };
    assert_eq!((code, one.from_ns, one.to_ns), (EXIT_OK, whole.from_ns, two.from_ns));
    assert_eq!((two.to_ns, two.offered_records_per_s), (whole.to_ns, Some(1_000)));
    let counts = [one, two].map(|step| step.response_ns.as_ref().expect("answered").count);
    // 200 ms each.
    assert!(counts[0].abs_diff(800) <= 1 && counts[1].abs_diff(200) <= 1, "{counts:?}");
    assert_eq!(run.latency_ns.response.expect("answered").count, counts[0] + counts[1]);
}

/// Whether a result is what its schema says; each result of these tests is asked.
fn fits_its_schema(json: &[u8]) {
    let result: Value = serde_json::from_slice(json).expect("JSON");
    let name = result["schema"].as_str().expect("it names its schema");
    let schemas = schemas();
    let (_, schema) = schemas.iter().find(|(known, _)| *known == name).expect("published");
    let validator = jsonschema::validator_for(schema).expect("a schema");
    let errors: Vec<String> = validator
        .iter_errors(&result)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{name}: {errors:#?}");
    // A schema that takes everything proves nothing.
    let mut broken = result.clone();
    broken.as_object_mut().expect("an object").remove("schema");
    assert!(!validator.is_valid(&broken));
}

#[test]
fn pages_and_exports_are_written_and_schemas_are_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let json = path("run.json");
    let line = format!("bench run {SHORT} --target echo --rate 20k --batch 10rec --json {json}");
    assert_eq!(code_of(&line), EXIT_OK);
    fits_its_schema(&std::fs::read(&json).expect("written"));
    assert_eq!(code_of(&format!("bench report {json}")), EXIT_OK);
    let page = std::fs::read_to_string(path("run.html")).expect("beside the result");
    assert!(page.len() < 400 << 10 && page.matches("<svg").count() >= 4, "{}", page.len());
    let exports = format!(
        "bench report {json} --csv {} --hgrm {} --hlog {}",
        path("run.csv"),
        path("run.hgrm"),
        path("run.hlog")
    );
    assert_eq!(code_of(&exports), EXIT_OK);
    let text = |name: &str| std::fs::read_to_string(path(name)).expect("written");
    assert_eq!(text("run.csv").lines().count(), 2);
    assert!(text("run.hgrm").contains("#[Mean") && text("run.hlog").contains("Tag=response"));
    assert_eq!(code_of(&format!("bench report {}", path("gone.json"))), EXIT_ERROR);
    assert_eq!(code_of("bench schema ab"), EXIT_OK);
}

#[test]
fn a_sweep_goes_on_where_it_ended() {
    let (code, mut set): (_, Set) =
        run("sweep", "--target null --without-floor --vary inflight=1,2 --repeat 2");
    assert_eq!((code, set.cells.len()), (EXIT_OK, 4));
    // As if a signal had ended it before the last two runs.
    let sweep = set.sweep.as_mut().expect("a sweep");
    sweep.attempts.truncate(2);
    sweep.interrupted = true;
    set.cells.truncate(2);
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().display();
    std::fs::write(file.path(), serde_json::to_string(&set).expect("JSON")).expect("written");
    let again = |plan: &str| {
        code_of(&format!(
            "bench sweep {SHORT} --target null --without-floor {plan} --resume {path}"
        ))
    };
    assert_eq!(again("--vary inflight=1,3 --repeat 2"), EXIT_USAGE, "another grid");
    assert_eq!(again("--vary inflight=1,2 --repeat 3"), EXIT_USAGE, "other repeats");
    assert_eq!(again("--vary inflight=1,2 --repeat 2"), EXIT_OK);
    let whole: Set =
        serde_json::from_slice(&std::fs::read(file.path()).expect("written")).expect("a set");
    let sweep = whole.sweep.as_ref().expect("a sweep");
    assert_eq!((whole.cells.len(), sweep.attempts.len(), sweep.interrupted), (4, 4, false));
    assert_eq!(whole.cells[1].started_utc, set.cells[1].started_utc, "nothing is made twice");
    for cell in 0..2 {
        assert_eq!(whole.runs_of(cell).count(), 2, "each cell once a round");
    }
}

#[test]
fn objectives_decide_the_exit_code() {
    let line = format!("bench run {SHORT} --target null --rate 10k --slo");
    assert_eq!(code_of(&format!("{line} p50<5s,errors=0")), EXIT_OK);
    assert_eq!(code_of(&format!("{line} p50<1ns")), EXIT_SLO);
    assert_eq!(code_of(&format!("{line} e2e.p50<1s")), EXIT_SLO, "what is not measured is missed");
    assert_eq!(code_of(&format!("bench ping {SHORT} --target echo")), EXIT_OK);
}
